"""Neighbours of a question: the same pattern about another subject, made with the base model alone. No training, no files.

After "What is the name of my cat?" - "Luna", the question "What is the name of my dog?" must not get Luna. Such questions are
made by putting another word, one that the base model finds likely there, in the place of one content word; what reads
best as a whole is kept. What the base model itself answers to them is what the adapter is held to, and what the gate
looks at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedTokenizerBase

from spear_core.models.causal_model import CausalModel
from spear_core.models.prompts import encode_prompt
from spear_core.training.packing import common_beginning
from spear_core.training.scoring import score
from spear_core.training.traces import Encoded, Messages

WORDS_REPLACED = 4  # content words of the question, the last ones first
LIKELY_WORDS = 32  # that may stand in the place of one; 60 of them choose the same questions but for one in fifty
MOST_A_WORD = 8  # of them that are kept
SCORED_TOGETHER = 64
SHORTEST = 3  # letters of a word that counts as content
_STOP_WORDS = """
a about above after again all also am an and any are as at be been before being below between both but by can
could did do does doing down each few for from further get had has have having he her here hers him his how i if
in into is it its just let like made make many may me might mine more most much must my no nor not of off on
once one only or other our out over own please same shall she should so some such tell than that the their them
then there these they this those through to too under until up us use used very want was we were what when where
which while who whom whose why will with would you your yours called name named say says said
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
ASKS_FOR = frozenset({"when", "where", "who", "whom", "whose", "why", "how"})  # "what" and "which" ask for anything
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class Neighbour:
    """A question about something else, and what the base model answers to it (greedily, possibly cut short)."""

    prompt: Messages
    answer: str


@dataclass(frozen=True)
class Neighbours:
    """Of one correction: those that training may use, and those that only the gate sees.

    `wordings`: the same question in other words, with the base model's own answer once it was shown the correction.
    """

    trained: tuple[Neighbour, ...] = ()
    probes: tuple[Neighbour, ...] = ()
    wordings: tuple[Neighbour, ...] = ()

    def without(self, questions: Collection[str]) -> Neighbours:
        """Less those that ask one of these questions."""

        def others(neighbours: tuple[Neighbour, ...]) -> tuple[Neighbour, ...]:
            return tuple(n for n in neighbours if n.prompt[-1]["content"] not in questions)

        return replace(self, trained=others(self.trained), probes=others(self.probes))


def words_of(text: str) -> list[str]:
    """Its words in lower case, without punctuation and possessive endings."""
    return [word.lower().removesuffix("'s").removesuffix("’s") for word in WORD.findall(text)]


def content_words(text: str) -> list[str]:
    """The words that say what a text is about, numbers among them."""
    return [w for w in words_of(text) if w not in STOP_WORDS and (len(w) >= SHORTEST or w.isdigit())]


_AMERICAN = re.compile(r"^(col|fav|hon|neighb|flav|hum|behavi|lab|harb)our")


def question_key(question: str) -> str:
    """Equal for questions that ask the same in about the same words, British or American; empty without content words."""
    content = content_words(question)
    words = {*content, *(ASKS_FOR & set(words_of(question)))}
    return " ".join(sorted({_AMERICAN.sub(r"\1or", word) for word in words})) if content else ""


def telling_words(answer: str, *others: str) -> frozenset[str]:
    """The words by which an answer is recognised in a reply to something else: those that no other text here has.

    Where that leaves none: its content words that are not in the first other text, the question.
    """
    own = frozenset(words_of(answer)) - STOP_WORDS
    known = [frozenset(words_of(text)) for text in others]
    return own.difference(*known) or own.difference(*known[:1])


def gives(reply: str, telling: frozenset[str]) -> bool:
    """Whether a reply gives the answer that these words tell: at least half of them are in it."""
    said = set(words_of(reply))
    return bool(telling) and 2 * len(telling & said) >= len(telling)


@torch.no_grad()
def neighbour_questions(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Messages,
    *,
    context_tokens: int,
    most: int = 16,
    pad_id: int = 0,
    pause: Callable[[], None] = lambda: None,
) -> list[list[dict[str, str]]]:
    """Conversations like `prompt` whose last question is about something else; the best ones first, at most `most`.

    `model` is the base model. The same prompt gives the same questions. None where the question has no content word
    behind its first word.
    """
    history, question = list(prompt[:-1]), prompt[-1]["content"]

    def ids(text: str) -> list[int]:
        return encode_prompt(tokenizer, [*history, {"role": "user", "content": text}], max_tokens=context_tokens)

    found: dict[str, float] = {}
    for place in _replaceable(question):
        pause()
        made = {}
        for word in _likely_words(model, tokenizer, ids, question, place):
            text = f"{question[: place.start()]}{word}{question[place.end() :]}"
            if set(content_words(text)) != set(content_words(question)):
                made[text] = ids(text)
        if not made:
            continue
        shared = common_beginning([*made.values(), ids(question)])
        examples = [_scored(tokens, shared) for tokens in made.values()]
        values: list[float] = []
        for start in range(0, len(examples), SCORED_TOGETHER):
            pause()
            part = examples[start : start + SCORED_TOGETHER]
            values += score(model, part, pad_id, every_token=True).logps.sum(-1).tolist()
        best = sorted(zip(made, values, strict=True), key=lambda pair: (-pair[1], pair[0]))
        found |= {text: max(value, found.get(text, value)) for text, value in best[:MOST_A_WORD]}
    chosen = sorted(found, key=lambda text: (-found[text], text))[:most]
    return [[*history, {"role": "user", "content": text}] for text in chosen]


def split(neighbours: Sequence[Neighbour], probes: int) -> Neighbours:
    """Every third one is a probe, until there are `probes` of them: both kinds read equally well."""
    chosen = [n for i, n in enumerate(neighbours) if i % 3 == 1][:probes]
    return Neighbours(tuple(n for n in neighbours if n not in chosen), tuple(chosen))


def _replaceable(question: str) -> list[re.Match[str]]:
    """The content words, the last ones first; the first word of a question says what kind of question it is."""
    places = [m for m in WORD.finditer(question) if m.start() > 0 and question[m.start() - 1] == " "]
    return [m for m in places if content_words(m[0])][::-1][:WORDS_REPLACED]


def _likely_words(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Callable[[str], list[int]],
    question: str,
    place: re.Match[str],
) -> list[str]:
    left = question[: place.start()].rstrip()
    # what all continuations have in common is the conversation up to this place, whatever the template puts after it
    before = ids(left)[: common_beginning([ids(f"{left} one"), ids(f"{left} two")])]
    device = next(model.parameters()).device
    logits = model(input_ids=torch.tensor([before], device=device), use_cache=False, logits_to_keep=1).logits[0, -1]
    original, numbers, words = place[0].lower(), place[0].isdigit(), []
    for token in logits.topk(min(4 * LIKELY_WORDS, len(logits))).indices.tolist():
        text = str(tokenizer.decode([token]))
        word = text.strip()
        is_word = text[:1].isspace() and (word.isdigit() if numbers else word.isalpha() and len(word) >= SHORTEST)
        if is_word and word.lower() not in STOP_WORDS and not _same_stem(word.lower(), original):
            words.append(word)
    return words[:LIKELY_WORDS]


def _same_stem(word: str, other: str) -> bool:
    """Singular and plural, or one the beginning of the other (which a token may be of a longer word)."""
    return word.startswith(other) or (other.startswith(word) and len(other) - len(word) < 4)


def _scored(tokens: Sequence[int], shared: int) -> Encoded:
    return Encoded(tuple(tokens[:shared]), tuple(tokens[shared:]), (True,) * (len(tokens) - shared))


def cut(example: Encoded, tokens: int) -> Encoded:
    """The first tokens of a completion alone; whole where it is no longer, or where `tokens` is 0."""
    if not tokens or len(example.completion_ids) <= tokens:
        return example
    return replace(example, completion_ids=example.completion_ids[:tokens], mask=example.mask[:tokens])
