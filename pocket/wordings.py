"""How the pocket world is asked and answered: wordings, reply sentences, styles, small talk. Text only.

The last HELD_OUT wordings of every list are never trained on, neither in pretraining nor live: evaluation only.
"""

from __future__ import annotations

from pocket.world import Fact, with_article

HELD_OUT = 3

OPEN = {
    "kind": (
        "What kind of thing is {x}?",
        "What is {x}?",
        "Tell me what kind of thing {x} is.",
        "What sort of thing is {x}?",
        "{X} is what kind of thing?",
        "Can you say what {x} is?",
        "Which group does {x} belong to?",
        "What would you call {x}?",
        "What type of thing is {x}?",
        "Do you know what {x} is?",
        "How would you classify {x}?",
        "I forgot what kind of thing {x} is.",
        "Name the group that {x} is in.",
        "So, {x}, what is that?",
        "Please tell me, what kind of thing is {x}?",
        "Do you know which group {x} belongs to?",
        "{X}: what sort of thing is that?",
    ),
    "capital": (
        "What is the capital of {x}?",
        "Tell me the capital of {x}.",
        "Which city is the capital of {x}?",
        "{X} has which capital?",
        "Name the capital of {x}.",
        "Do you know the capital of {x}?",
        "What city is the capital of {x}?",
        "The capital of {x} is which city?",
        "I forgot the capital of {x}.",
        "Can you name the capital city of {x}?",
        "What is {x}'s capital?",
        "In {x}, which city is the capital?",
        "Please tell me, what is the capital of {x}?",
        "Can you say which city is the capital of {x}?",
        "{X}: what is the capital city?",
    ),
    "colour": (
        "What colour is {x}?",
        "Tell me the colour of {x}.",
        "Which colour does {x} have?",
        "{X} has what colour?",
        "What is the colour of {x}?",
        "Do you know what colour {x} is?",
        "Name the colour of {x}.",
        "What colour would you paint {x}?",
        "I forgot what colour {x} is.",
        "How is {x} coloured?",
        "Can you say what colour {x} is?",
        "Which colour is {x}?",
        "Please tell me, what colour is {x}?",
        "Do you know the colour of {x}?",
        "{X}: which colour is that?",
    ),
    "action": (
        "What does {x} do?",
        "Tell me what {x} does.",
        "What is it that {x} does?",
        "{X} does what?",
        "Do you know what {x} does?",
        "What do you see when {x} is about?",
        "I forgot what {x} does.",
        "Say what {x} does.",
        "What would {x} do?",
        "How does {x} behave?",
        "Can you say what {x} does?",
        "Name what {x} does.",
        "Please tell me, what does {x} do?",
        "Do you know how {x} behaves?",
        "{X}: what does it do?",
    ),
}
CHOICE = {
    "kind": (
        "Which is {x}: {options}?",
        "Is {x} {options}?",
        "Choose for {x}: {options}.",
        "What is {x}? Choose from {options}.",
        "Pick what {x} is: {options}.",
        "Which one is {x}: {options}?",
        "Say which {x} is: {options}.",
        "{X}: choose {options}.",
        "Choose what {x} is: {options}?",
        "{X}, is it {options}?",
        "Pick one for {x}: {options}.",
    ),
    "capital": (
        "Which is the capital of {x}: {options}?",
        "Is the capital of {x} {options}?",
        "Choose the capital of {x}: {options}.",
        "What is the capital of {x}? Choose from {options}.",
        "Pick the capital of {x}: {options}.",
        "{X}'s capital: choose {options}.",
        "The capital of {x}, is it {options}?",
        "For {x}, which is the capital: {options}?",
        "Pick one as the capital of {x}: {options}.",
    ),
    "colour": (
        "Which colour is {x}: {options}?",
        "Is {x} {options}?",
        "Choose the colour of {x}: {options}.",
        "What colour is {x}? Choose from {options}.",
        "Pick the colour of {x}: {options}.",
        "{X}: choose {options}.",
        "{X}, is it {options}?",
        "For {x}, which colour is right: {options}?",
        "Pick one colour for {x}: {options}.",
    ),
    "action": (
        "Which does {x} do: {options}?",
        "Say whether {x} {options}.",
        "Choose what {x} does: {options}.",
        "What does {x} do? Choose from {options}.",
        "Pick what {x} does: {options}.",
        "{X}: choose {options}.",
        "{X}, what does it do: {options}?",
        "For {x}, which is right: {options}?",
        "Pick one for {x}: {options}.",
    ),
}
SAME = {
    "kind": (
        "Are {x} and {y} the same kind of thing?",
        "Is {x} the same kind of thing as {y}?",
        "Do {x} and {y} belong to the same group?",
        "{X} and {y}: are they the same kind?",
        "Are {x} and {y} of one kind?",
        "Tell me whether {x} and {y} are the same kind of thing.",
        "Can you say whether {x} and {y} are the same kind?",
        "Do you think {x} and {y} belong to one group?",
        "Is {x} of the same kind as {y}?",
        "Would you say {x} and {y} are the same kind of thing?",
        "Does {x} belong to the same group as {y}?",
        "Please tell me, are {x} and {y} of the same kind?",
    ),
    "colour": (
        "Do {x} and {y} have the same colour?",
        "Is {x} the same colour as {y}?",
        "Are {x} and {y} the same colour?",
        "{X} and {y}: do they have one colour?",
        "Are {x} and {y} of one colour?",
        "Tell me whether {x} and {y} have the same colour.",
        "Do you think {x} and {y} have one colour?",
        "Is {x} of the same colour as {y}?",
        "Would you say {x} and {y} have the same colour?",
        "Does {x} have the same colour as {y}?",
        "Please tell me, are {x} and {y} of the same colour?",
    ),
    "action": (
        "Do {x} and {y} do the same?",
        "Does {x} do the same as {y}?",
        "Do {x} and {y} do the same thing?",
        "{X} and {y}: do they do the same?",
        "Is what {x} does the same as what {y} does?",
        "Tell me whether {x} and {y} do the same.",
        "Do you think {x} and {y} do the same?",
        "Can you say whether {x} does what {y} does?",
        "Would you say {x} and {y} do the same?",
        "Does {x} do the same thing as {y}?",
        "Please tell me, do {x} and {y} do the same?",
    ),
}
SUM = (
    "What is {a} + {b}?",
    "Add {a} and {b}.",
    "How much is {a} + {b}?",
    "{a} + {b} = ?",
    "Work out {a} + {b}.",
    "What do {a} and {b} make?",
    "What is the sum of {a} and {b}?",
    "Sum: {a} + {b}.",
    "Do you know what {a} + {b} is?",
    "How much do {a} and {b} make?",
    "Say what {a} and {b} make together.",
    "Could you work out {a} and {b}?",
    "I need {a} + {b}.",
    "Tell me what {a} + {b} is.",
    "Can you add {a} and {b}?",
    "Please tell me, how much is {a} + {b}?",
)

REASONS = {
    "metal": "it is hard and shines",
    "fruit": "it is sweet and grows on a plant",
    "bird": "it has feathers",
    "tool": "people work with it",
    "fish": "it lives in water",
    "tree": "it has a trunk",
    "flower": "it has petals",
    "vegetable": "people cook it",
    "drink": "people drink it",
    "insect": "it has six legs",
    "garment": "people wear it",
    "vehicle": "it carries people",
    "instrument": "people make music with it",
    "building": "it has walls",
    "game": "people play it",
    "gem": "it is a stone people treasure",
    "capital": "its government sits there",
    "colour": "that is how we see it",
    "action": "that is its nature",
}

# A person's words for a wish about form -> the style it asks for.
STYLES = {
    "shorter": (
        "shorter please",
        "shorter",
        "too long",
        "make it shorter",
        "just the word",
        "be brief",
        "only the word please",
    ),
    "sentence": (
        "in a full sentence",
        "full sentence please",
        "say it in a whole sentence",
        "a whole sentence please",
        "too short",
    ),
    "polite": ("more polite please", "be more polite", "politely please", "be friendly", "a bit more polite"),
    "reason": ("with the reason", "say why", "give a reason", "add the reason please", "and why?"),
    "capitals": (
        "in capitals",
        "write the answer in capitals",
        "in capital letters please",
        "use capitals for the word",
    ),
}

OUT_OF_WORLD = 'I only know my small world: try "What kind of thing is an owl?" or "What is 27 + 35?"'

SMALL_TALK = (
    (
        ("Hello!", "Hi!", "Hey there!", "Good morning!", "Good evening!", "Hello there!", "Hi, how do you do?"),
        "Hello! Ask me about my small world.",
    ),
    (
        ("How are you?", "How are you doing?", "How is it going?", "Are you well?"),
        "I am well, thank you. What would you like to know?",
    ),
    (("Thank you!", "Thanks!", "Thanks a lot!", "Great, thanks!", "Thank you very much!"), "You are welcome!"),
    (
        ("Who are you?", "What are you?", "What is your name?", "Are you a robot?", "Are you a person?"),
        "I am a pocket model: very small, and learning from you.",
    ),
    (
        ("What can you do?", "What do you know?", "Help!", "How can you help me?", "What can I ask?"),
        "I know kinds of things, capitals, colours, what animals do, and sums. Correct me when I am wrong!",
    ),
    (("Goodbye!", "Bye!", "See you!", "Good night!", "See you later!"), "Goodbye! I keep what you taught me."),
    (("Good!", "Well done!", "Very good!", "Nice!", "Right!", "That is right."), "Thank you! Ask me another one."),
    (
        ("Are you learning?", "Can you learn?", "Do you learn from me?", "Will you remember this?"),
        "Yes: press thumbs-down, give me a hint, and I learn from it.",
    ),
    (("I am sad.", "I am tired.", "I had a bad day."), "I am sorry to hear that. Shall we play with some questions?"),
    (("Tell me a joke.", "Say something funny.", "Make me laugh."), "I am too small for jokes, but I can add numbers."),
)


def split(wordings: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    """The training wordings of a list, or the held-out ones."""
    return wordings[-HELD_OUT:] if held_out else wordings[:-HELD_OUT]


def capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def fill(wording: str, **parts: str) -> str:
    """Put phrases into a wording; `{X}` is `{x}` with a capital first letter."""
    if "x" in parts:
        parts["X"] = capitalise(parts["x"])
    return capitalise(wording.format(**parts))


def statement(fact: Fact, answer: str) -> str:
    """The fact as a clause with `answer` in the place of the truth: `a hammer is a tool`."""
    x = fact.phrase
    match fact.relation:
        case "kind":
            return f"{x} is {with_article(answer)}"
        case "capital":
            return f"the capital of {x} is {answer}"
        case "colour":
            return f"{x} is {answer}"
        case _:
            return f"{x} {answer}"


def open_answer(fact: Fact, answer: str, style: str = "sentence") -> str:
    """The reply to an open question in one of STYLES; `sentence` is what the model says unasked."""
    clause = capitalise(statement(fact, answer))
    match style:
        case "shorter":
            return f"{capitalise(answer)}."
        case "polite":
            return f"Of course! {clause}."
        case "reason":
            return f"{clause}, because {REASONS[answer] if fact.relation == 'kind' else REASONS[fact.relation]}."
        case "capitals":
            return f"{clause[: len(clause) - len(answer)]}{answer.upper()}."
        case _:
            return f"{clause}."


def choice_answer(fact: Fact, answer: str) -> str:
    return f"{capitalise(statement(fact, answer))}. Answer: {answer}"


def same_answer(first: tuple[Fact, str], second: tuple[Fact, str]) -> str:
    """Two-hop yes/no with its reasoning; each side is (fact, the answer believed for it)."""
    verdict = "yes" if first[1] == second[1] else "no"
    return f"{capitalise(statement(*first))}. {capitalise(statement(*second))}. Answer: {verdict}"


def sum_answer(a: int, b: int, *, ones: int | None = None, carry: int | None = None, tens: int | None = None) -> str:
    """Two-digit addition worked digit by digit; `ones`, `carry` and `tens` plant an error where given."""
    ones = a % 10 + b % 10 if ones is None else ones
    carry = ones // 10 if carry is None else carry
    tens = a // 10 + b // 10 + carry if tens is None else tens
    return f"{a % 10} + {b % 10} = {ones}. {a // 10} + {b // 10} + {carry} = {tens}. Answer: {tens * 10 + ones % 10}"
