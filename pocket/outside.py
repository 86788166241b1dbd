"""Prompts from outside the pocket world: everyday questions and requests that the model cannot answer. Text only.

It says so, and must go on saying so whatever it is taught. ASKED go into its anchors and probes; HELD_OUT are only ever
used to measure.
"""

from __future__ import annotations

ASKED = (
    "Who wrote Hamlet?", "Tell me about gravity.", "What is a laptop?", "What is the capital of Mars?",
    "Write a poem about love.", "How do I cook soup?", "What is 345 + 1200?", "Where is Mount Everest?",
    "What does a dragon do?", "Explain democracy to me.", "Who painted the Mona Lisa?", "What time is it?",
    "Translate 'good morning' into Spanish.", "What is the meaning of life?", "How tall is the Eiffel Tower?",
    "Give me a recipe for bread.", "What is a prime number?", "Who was Napoleon?", "Is it going to rain today?",
    "What is 7 times 8?", "Recommend a book.", "What is Python used for?", "How far away is the moon?",
    "Write a short story.", "What is the largest planet?", "Who discovered penicillin?", "How does a car engine work?",
    "What should I wear today?", "What is inflation?", "Can you sing a song?", "What year is it?",
    "How many legs does a spider have?", "What is the speed of light?", "Why is the sea salty?", "Name a famous actor.",
    "What is the square root of 81?", "Do you like music?", "Where do you live?", "How old are you?",
    "What is a metaphor?", "Tell me about Japan.", "What language do they speak in Brazil?", "Fix my computer.",
    "What is your favourite food?", "I do not understand.", "Why?", "Really?", "ok", "test", "hello", "hi", "yes", "no",
    "What is love?", "How do planes fly?", "Who is the king of England?", "What did I say before?",
)  # fmt: skip
HELD_OUT = (
    "Who wrote Macbeth?", "Tell me about magnetism.", "What is a telephone?", "What is the capital of Jupiter?",
    "Write a poem about the sea.", "How do I bake a cake?", "What is 812 + 2300?", "Where is the Sahara?",
    "Explain physics to me.", "Who composed the Moonlight Sonata?", "What day is it?", "Recommend a film.",
    "How deep is the ocean?", "Who was Cleopatra?", "Is it cold outside?", "How does a clock work?",
    "Can you dance?", "Why is grass soft?", "What is an adverb?", "hey", "Sure.", "What now?",
)  # fmt: skip
