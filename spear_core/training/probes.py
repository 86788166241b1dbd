"""Questions that training never sees, and what an adapter answers to them. No decision, no training.

Answers run freely, as a person would get them. Under greedy decoding an answer is unchanged exactly as long as each of its
tokens is still the most probable one, which one pass over all of them shows; only answers that changed are decoded, from
the first other token on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from spear_core.inference.generation import Request, generate
from spear_core.inference.scope import Covers
from spear_core.models.prompts import decode_reply, end_token_ids
from spear_core.training.material import Anchors
from spear_core.training.neighbours import gives
from spear_core.training.packing import batches_by_prompt
from spear_core.training.scoring import predict, score_rows
from spear_core.training.traces import Encoded

COMPARED_TOKENS = 8  # of an answer, by which it counts as changed
READ_TOKENS = 24  # of a changed answer, that are decoded to be read
TIE_KL = 2e-3  # nats; nearer to the base than this, another most probable token is a tie that rounding decides
LOOP_SHARE = 0.2  # fewer distinct words than this share of a long reply: it goes round in circles


class ProbeKind(StrEnum):
    """Kinds of questions that are asked again besides those that a model's starter questions name."""

    NEIGHBOUR = "neighbour"
    RECENT = "recent"  # replies of past chats without an objection
    EARLIER = "earlier"  # corrections of earlier rounds
    GENERAL = "general"  # starter questions whose kind is not named


OF_PEOPLE = frozenset({ProbeKind.NEIGHBOUR, ProbeKind.RECENT, ProbeKind.EARLIER})  # they come from somebody's chat


@dataclass(frozen=True)
class Probe:
    """A question that training never sees, with the answer that is expected to stay.

    Attributes:
        example: question and answer as token ids.
        kind: one of `ProbeKind`, or a kind of starter question.
        question: in words, for people.
        telling: of a neighbour, the words by which the answer taught to its correction is recognised.
        is_covered: whether the adapter is to answer it at all; what its scope leaves out the untouched model answers.
    """

    example: Encoded
    kind: str = ProbeKind.GENERAL
    question: str = ""
    telling: frozenset[str] = frozenset()
    is_covered: bool = True

    @property
    def is_starter(self) -> bool:
        """Whether it is one of the model's starter questions."""
        return self.kind not in OF_PEOPLE


class Probes:
    """Probes over the anchors' cache of what the base model says."""

    def __init__(self, probes: Sequence[Probe], anchors: Anchors | None = None) -> None:
        self.all = list(probes)
        self.anchors = (anchors or Anchors([])).with_examples([p.example for p in self.all])

    @classmethod
    def plain(cls, examples: Sequence[Encoded]) -> Probes:
        return cls([Probe(e) for e in examples])

    def marked(self, covers: Covers) -> Probes:
        """The same probes, each with whether its question is one that the adapter is to answer."""
        covered = covers([p.question for p in self.all])
        return self.with_probes([replace(p, is_covered=is_) for p, is_ in zip(self.all, covered, strict=True)])

    def with_probes(self, probes: Sequence[Probe]) -> Probes:
        """Other probes over the same cache."""
        return Probes(probes, self.anchors)

    def without(self, prompts: Collection[tuple[int, ...]]) -> Probes:
        """The same less those that ask what was corrected."""
        return self.with_probes([p for p in self.all if p.example.prompt_ids not in prompts])


@dataclass(frozen=True)
class ProbedAnswer:
    """What an adapter answers to one probe, as far as it was looked at."""

    changed: bool  # other than the base model's within its first COMPARED_TOKENS tokens
    text: str  # the answer, or of one that goes another way its beginning
    leaks: bool = False  # it gives an answer that was taught to another question


@dataclass(frozen=True)
class Reading:
    """What an adapter makes of one probe, by teacher forcing along the base model's answer.

    Attributes:
        kl: KL(base || adapter) in nats, summed over the answer's tokens.
        others: tokens whose greedy choice is another than the base's.
        begins: its own answer up to the first such token; None where there is none.
        text: its own answer, decoded up to READ_TOKENS tokens; the base's where that is unchanged.
    """

    kl: float
    others: int
    begins: tuple[int, ...] | None
    text: str


@dataclass(frozen=True)
class StarterReadings:
    """Of the starter probes that an adapter answers. They are the same from round to round, and so is what it says.

    They are read in batches of their own, because a row's last bits depend on what it is packed with.
    """

    examples: tuple[Encoded, ...]
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Measures:
    """What the gate compares. Log-probabilities are means per token, in nats."""

    win_logp: float
    rejected_p: float  # probability of all the tokens together that made a losing answer wrong, mean over the answers
    learned: tuple[bool, ...]  # newly confirmed wins whose greedy re-ask gives the confirmed answer
    held: tuple[bool, ...]  # older confirmed wins, likewise
    older_nll: float
    probe_kl: float  # KL(base || adapter) on the starter probes
    worst_probe_kl: float  # the same on the tenth of the probes that moved most: damage in a corner shows here
    probe_changed: float  # share of starter probes' tokens where the greedy choice is another than the base's
    finite: bool
    answers: tuple[ProbedAnswer, ...] = ()  # to all probes, in their order
    starters: StarterReadings | None = None


def mean(values: Sequence[float]) -> float:
    """The mean, 0.0 of nothing."""
    return sum(values) / len(values) if values else 0.0


@torch.no_grad()
def measure(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    wins: Sequence[Encoded],
    loses: Sequence[Encoded],
    older: Sequence[Encoded],
    probes: Probes,
    pad_id: int,
    micro_batch: int,
    priority: Callable[[], None] = lambda: None,
    known: StarterReadings | None = None,
) -> Measures:
    """Everything the gate needs to know of one adapter. `priority` is called before each forward.

    `known` is what the same adapter was found to make of starter probes earlier; used where they are the same ones.
    """
    masked = [e for e in loses if any(e.mask)]
    rows = score_rows(model, [*wins, *masked, *older], pad_id, micro_batch, priority)
    of_wins, of_loses = rows[: len(wins)], rows[len(wins) : len(wins) + len(masked)]
    of_older = rows[len(wins) + len(masked) :]
    finite = all(bool(torch.isfinite(p).all()) for n, p in model.named_parameters() if "lora_" in n)

    def read(asked: Sequence[Encoded]) -> tuple[Reading, ...]:
        return _read(model, tokenizer, asked, probes.anchors, pad_id, micro_batch, priority, decode=finite)

    starters = [probe for probe in probes.all if probe.is_starter]
    covered = tuple(probe.example for probe in starters if probe.is_covered)
    if known is None or known.examples != covered:
        known = StarterReadings(covered, read(covered))
    others = read([probe.example for probe in probes.all if probe.is_covered and not probe.is_starter])
    of_starters, of_others = iter(known.readings), iter(others)
    # what is not covered the untouched model answers: nothing moved there
    readings = [
        next(of_starters if probe.is_starter else of_others) if probe.is_covered else None for probe in probes.all
    ]
    tokens = sum(len(probe.example.completion_ids) for probe in starters)
    each = [r.kl / len(e.completion_ids) for r, e in zip(known.readings, covered, strict=True)]
    each += [0.0] * (len(starters) - len(covered))
    return Measures(
        win_logp=mean([row.mean_logp for row in of_wins]),
        rejected_p=mean([math.exp(row.masked_logp) for row in of_loses]),
        learned=tuple(row.learned for row, e in zip(of_wins, wins, strict=True) if e.confirmed),
        held=tuple(row.learned for row in of_older),
        older_nll=mean([-row.mean_logp for row in of_older]),
        probe_kl=sum(r.kl for r in known.readings) / max(tokens, 1),
        worst_probe_kl=mean(sorted(each, reverse=True)[: -(-len(each) // 10)]),
        probe_changed=sum(r.others for r in known.readings) / max(tokens, 1),
        finite=finite,
        answers=tuple(_answer(tokenizer, p, r) for p, r in zip(probes.all, readings, strict=True)) if finite else (),
        starters=known,
    )


def _read(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Encoded],
    anchors: Anchors,
    pad_id: int,
    micro_batch: int,
    priority: Callable[[], None],
    *,
    decode: bool,
) -> tuple[Reading, ...]:
    """One adapter's readings of these. Answers that changed are decoded from where they begin to differ."""
    kl, others = [0.0] * len(asked), [0] * len(asked)
    begins: dict[int, list[int]] = {}
    for places in batches_by_prompt(asked, micro_batch):
        priority()
        examples = [asked[i] for i in places]
        predictions = predict(model, examples, pad_id, every_token=True)
        values, same = predictions.kl_from(anchors.base(model, examples, pad_id))
        choices = predictions.packed.unflatten(predictions.choices(), predictions.shape).tolist()
        differ = predictions.packed.unflatten(~same & (values > TIE_KL), predictions.shape).tolist()
        of_probe = predictions.packed.unflatten(values, predictions.shape).sum(-1).tolist()
        for i, e, total, other, now in zip(places, examples, of_probe, differ, choices, strict=True):
            kl[i], others[i] = total, sum(other)
            if any(other):
                first = other.index(True)
                begins[i] = [*e.completion_ids[:first], now[first]]
    now = _decoded(model, tokenizer, asked, begins, micro_batch, priority) if decode else begins
    texts = [decode_reply(tokenizer, now.get(i, e.completion_ids)).strip() for i, e in enumerate(asked)]
    starts = [tuple(begins[i]) if i in begins else None for i in range(len(asked))]
    return tuple(Reading(*of_one) for of_one in zip(kl, others, starts, texts, strict=True))


def _decoded(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Encoded],
    begins: Mapping[int, Sequence[int]],
    batch_size: int,
    priority: Callable[[], None],
) -> dict[int, list[int]]:
    """The answers that begin so, gone on with up to READ_TOKENS tokens."""
    end_ids = frozenset(end_token_ids(tokenizer))
    going_on = [i for i, begun in begins.items() if begun[-1] not in end_ids and len(begun) < READ_TOKENS]
    requests = [Request([*asked[i].prompt_ids, *begins[i]], READ_TOKENS - len(begins[i]), end_ids) for i in going_on]
    rest = generate(model, requests, batch_size=batch_size, priority=priority)
    more = {i: continuation.tokens for i, continuation in zip(going_on, rest, strict=True)}
    return {i: [*begun, *more.get(i, ())] for i, begun in begins.items()}


def _answer(tokenizer: PreTrainedTokenizerBase, probe: Probe, reading: Reading | None) -> ProbedAnswer:
    """`reading` is None where the untouched model answers."""
    was = decode_reply(tokenizer, probe.example.completion_ids).strip()
    if reading is None:
        return ProbedAnswer(False, was)
    changed = reading.begins is not None and len(reading.begins) <= COMPARED_TOKENS
    leaks = gives(reading.text, probe.telling) and not gives(was, probe.telling)
    return ProbedAnswer(changed, reading.text, leaks)


def is_degenerate(reply: str) -> bool:
    """Empty, or a loop: a long reply with hardly any distinct words."""
    words = reply.split()
    return not words or (len(words) >= 20 and len(set(words)) / len(words) < LOOP_SHARE)
