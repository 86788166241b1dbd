"""Questions that training never sees, and what an adapter answers to them. No decision, no training.

Answers run freely, as a person would get them. Under greedy decoding an answer is unchanged exactly as long as each of its
tokens is still the most probable one, which one pass over all of them shows; only answers that changed are decoded, from
the first other token on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
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
    """Kinds of probes besides those that a model's starter questions name."""

    NEIGHBOUR = "neighbour"
    RECENT = "recent"  # replies of past chats without an objection
    GENERAL = "general"  # starter questions whose kind is not named


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
        return self.kind not in (ProbeKind.NEIGHBOUR, ProbeKind.RECENT)


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
) -> Measures:
    """Everything the gate needs to know of one adapter. `priority` is called before each forward."""
    masked = [e for e in loses if any(e.mask)]
    rows = score_rows(model, [*wins, *masked, *older], pad_id, micro_batch, priority)
    of_wins, of_loses = rows[: len(wins)], rows[len(wins) : len(wins) + len(masked)]
    of_older = rows[len(wins) + len(masked) :]
    kl, changed = 0.0, 0
    starters = [probe for probe in probes.all if probe.is_starter]
    tokens = sum(len(probe.example.completion_ids) for probe in starters)
    each = [0.0 for probe in starters if not probe.is_covered]  # the untouched model answers these: nothing moved
    starts: dict[int, list[int]] = {}  # probe -> its answer's tokens up to the first that is another than the base's
    covered = [i for i, probe in enumerate(probes.all) if probe.is_covered]
    for places in batches_by_prompt([probes.all[i].example for i in covered], micro_batch):
        priority()
        part = [covered[place] for place in places]
        examples = [probes.all[i].example for i in part]
        predictions = predict(model, examples, pad_id, every_token=True)
        values, same = predictions.kl_from(probes.anchors.base(model, examples, pad_id))
        choices = predictions.packed.unflatten(predictions.choices(), predictions.shape).tolist()
        differ = predictions.packed.unflatten(~same & (values > TIE_KL), predictions.shape).tolist()
        of_probe = predictions.packed.unflatten(values, predictions.shape).sum(-1).tolist()
        for i, e, total, others, now in zip(part, examples, of_probe, differ, choices, strict=True):
            if any(others):
                first = others.index(True)
                starts[i] = [*e.completion_ids[:first], now[first]]
            if probes.all[i].is_starter:
                each.append(total / len(e.completion_ids))
                kl, changed = kl + total, changed + sum(others)
    finite = all(bool(torch.isfinite(p).all()) for n, p in model.named_parameters() if "lora_" in n)
    return Measures(
        win_logp=mean([row.mean_logp for row in of_wins]),
        rejected_p=mean([math.exp(row.masked_logp) for row in of_loses]),
        learned=tuple(row.learned for row, e in zip(of_wins, wins, strict=True) if e.confirmed),
        held=tuple(row.learned for row in of_older),
        older_nll=mean([-row.mean_logp for row in of_older]),
        probe_kl=kl / max(tokens, 1),
        worst_probe_kl=mean(sorted(each, reverse=True)[: -(-len(each) // 10)]),
        probe_changed=changed / max(tokens, 1),
        finite=finite,
        answers=_answers(model, tokenizer, probes, starts, micro_batch, priority) if finite else (),
    )


def _answers(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    probes: Probes,
    starts: dict[int, list[int]],
    batch_size: int,
    priority: Callable[[], None],
) -> tuple[ProbedAnswer, ...]:
    """The answers to all probes; those that begin as `starts` says are decoded from there."""
    end_ids = frozenset(end_token_ids(tokenizer))
    now = dict(starts)
    going_on = [i for i, begun in now.items() if begun[-1] not in end_ids and len(begun) < READ_TOKENS]
    requests = [
        Request([*probes.all[i].example.prompt_ids, *now[i]], READ_TOKENS - len(now[i]), end_ids) for i in going_on
    ]
    rest = generate(model, requests, batch_size=batch_size, priority=priority)
    for i, more in zip(going_on, rest, strict=True):
        now[i] = [*now[i], *more.tokens]
    answers = []
    for i, probe in enumerate(probes.all):
        was = decode_reply(tokenizer, probe.example.completion_ids).strip()
        text = decode_reply(tokenizer, now[i]).strip() if i in now else was
        changed = i in starts and len(starts[i]) <= COMPARED_TOKENS
        answers.append(ProbedAnswer(changed, text, gives(text, probe.telling) and not gives(was, probe.telling)))
    return tuple(answers)


def is_degenerate(reply: str) -> bool:
    """Empty, or a loop: a long reply with hardly any distinct words."""
    words = reply.split()
    return not words or (len(words) >= 20 and len(set(words)) / len(words) < LOOP_SHARE)
