"""Everyday questions whose own answers hold a model in place before anybody has chatted with it. Text only.

A model folder may bring its own lists (`anchor_prompts`, `anchor_revisions`, `probe_prompts` in spear.json); these are for all others.
"""

from __future__ import annotations

ANCHOR_PROMPTS = (
    "What is the capital of France?", "Name three fruits.", "What is 7 times 8?", "Write one sentence about the sea.",
    "How do I boil an egg?", "What does a dentist do?", "Translate 'good morning' into Spanish.", "Who wrote Hamlet?",
    "Give me a word that rhymes with 'light'.", "What colour is the sky?", "Explain rain in one sentence.", "What is a noun?",
    "List the days of the week.", "How many legs does a spider have?", "What is the largest planet?", "Say hello politely.",
    "Summarise: The cat sat on the mat and slept all day.", "What is the opposite of hot?", "Suggest a name for a dog.",
    "What do bees make?", "How many minutes are in an hour?", "What is water made of?", "Write a short thank-you note.",
    "Is a whale a fish?", "What is 15 + 27?", "Name a country in Africa.", "What is a metaphor?", "How do plants get energy?",
    "Give an example of a prime number.", "What should I pack for a rainy day?", "Who painted the Mona Lisa?", "What is Python used for?",
)  # fmt: skip
PROBE_PROMPTS = (
    "What is the capital of Italy?", "Name three vegetables.", "What is 9 times 6?", "Write one sentence about the moon.",
    "How do I make tea?", "What does a baker do?", "Translate 'thank you' into French.", "Who discovered gravity?",
    "What colour is grass?", "List the months of spring.", "How many wheels does a bicycle have?", "What is the opposite of big?",
    "What do cows drink?", "How many seconds are in a minute?", "Name a country in Asia.", "What is an adjective?",
)  # fmt: skip
HINTS = (
    "shorter, please", "more detail", "are you sure?", "simpler words", "that is not right", "be more polite",
    "give an example", "as a list",
)  # fmt: skip
# each prompt with one of the hints: how a model follows hints is held in place too
ANCHOR_REVISIONS = tuple((prompt, HINTS[i % len(HINTS)]) for i, prompt in enumerate(ANCHOR_PROMPTS[::2]))
