"""Which questions an adapter answers: those near to what it was taught. The untouched model answers the others.

After SERAC (Mitchell et al., arXiv 2206.06520): an edit has a scope, and outside of it the model should be as it was.
Nothing is trained here. A question's features are the mean over its tokens of the hidden states that enter a lower
layer of the base model, centred and whitened by everyday reference questions; two questions are compared by cosine. Raw
states are no use: their common direction outweighs what tells questions apart.

Similarity alone does not tell a question from its neighbours: "What is my dog called?" is nearer to "What is my cat
called?" than most other wordings are. So a near question must also ask for the same thing. Where the base model has a scope
classifier (scope_classifier.py), that decides. Elsewhere the base model itself does: after the taught question and its
answer it must find the asked question's content words likelier than without them. A sentence about a cat makes "called"
likelier, and not "dog". (Question likelihood ranks passages in Sachan et al., arXiv 2204.07496.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase

from spear_core.inference.pointing_back import leans_on_history
from spear_core.models.causal_model import CausalModel
from spear_core.models.prompts import encode_prompt, encode_text
from spear_core.training.neighbours import WORD, content_words
from spear_core.training.traces import Encoded, Messages
from spear_core.training.trunk import Trunk, TrunkCache

LAYER_SHARE = 0.27  # of the decoder layers lie below the one whose input is compared (layer 8 of 30)
RIDGE = 0.1  # added to the covariance, in units of its mean eigenvalue
MAX_TOKENS = 512  # of a long message, that are looked at
LONGEST = 1_000  # characters of a question that are compared word by word
CACHE_BYTES = 8 * 2**20
RIVAL_MARGIN = (
    1.0  # by which a question must be nearer to one known to be another: that may be a near synonym after all
)
SAME_QUESTION = 0.999  # cosine from which on two questions are one, up to rounding
CANDIDATES = 5  # of the taught questions that are near, the most similar, of which one must be about the same thing
TELLING_WORDS = 3  # of an answer, from which on it is told by its words: "Yes." answers many questions
LEAD = "In other words: "  # stands before the question, with and without the taught one


class QuestionFeatures:
    """Features of questions for one base model, which is never changed.

    Args:
        backbone: the decoder of the base model, without an adapter.
        tokenizer: the model's.
        layers: how many decoder layers it has.
        reference: everyday questions, a hundred or more, that tell which directions are common to all.
        whitening: what was found for the same model and reference questions before; computed where it is None.

    Raises:
        ValueError: for a backbone whose layers cannot be cut in two, or without reference questions.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        layers: int,
        reference: Sequence[str],
        whitening: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        if not reference:
            raise ValueError("there are no reference questions")
        self._tokenizer = tokenizer
        self._trunk = Trunk(backbone, max(1, round(LAYER_SHARE * layers)), TrunkCache(CACHE_BYTES))
        first, second = (self._ids(text) for text in ("a", "b"))
        self._before = _common(first, second)
        self._after = _common(first[::-1], second[::-1])
        if whitening is None:
            whitening = whiten(torch.cat([self._states(question) for question in reference]))
        self.whitening = whitening

    def __call__(self, questions: Sequence[str]) -> Tensor:
        """(N, H) of unit length."""
        means = [self._states(question).mean(0) for question in questions]
        mean, map_ = self.whitening
        return normalize((torch.stack(means) - mean) @ map_, dim=-1)

    def forget(self) -> None:
        """Drop the kept states of every question."""
        self._trunk.cache = TrunkCache(CACHE_BYTES)

    def _states(self, question: str) -> Tensor:
        """Hidden states of the question's own tokens, without the template's around them: (tokens, H), float32."""
        ids = self._ids(question)
        states = self._trunk.states(Encoded(tuple(ids), (), ())).float()
        own = states[self._before : len(ids) - self._after]
        return own if len(own) else states[-1:]

    def _ids(self, question: str) -> list[int]:
        return encode_prompt(self._tokenizer, [{"role": "user", "content": question}], max_tokens=MAX_TOKENS)


@dataclass(frozen=True)
class Taught:
    """A question and its confirmed answer.

    Attributes:
        question: as it is compared with others (`asked_in`).
        answer: the confirmed one; "" where only the question is known.
        completion: as it was trained, that is with the thought of a thinking model; "" likewise.
        trace_id: of the right answer; "" likewise.
        prompt: the messages that it was taught with; None where they must not take the place of other wordings.
        apart: questions that look like this one and are known to ask for something else.
        is_waiting: whether no adapter has learned it yet.
    """

    question: str
    answer: str
    prompt: Messages | None = None
    apart: tuple[str, ...] = ()
    is_waiting: bool = False
    completion: str = ""
    trace_id: str = ""


class SubjectTest:
    """Whether a question is about what was taught, by the base model's own expectation of its words."""

    def __init__(self, model: CausalModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self._tokenizer = model, tokenizer
        empty, other = (self._prompt(text) for text in ("a", "b"))
        self._after = _common(empty[::-1], other[::-1])

    def read(self, asked: Mapping[str, Sequence[Taught]]) -> None:
        """Nothing is kept."""

    def scores(self, question: str, taught: Sequence[Taught]) -> list[float]:
        """The gain of each."""
        return [self.gain(question, t) for t in taught]

    def forget(self) -> None:
        """Nothing is kept."""

    def gain(self, question: str, taught: Taught) -> float:
        """Mean rise of a content word's log-probability in nats; infinite for a question without such words.

        Of a long message the beginning is read.
        """
        question = question[:LONGEST]
        words = [m for m in WORD.finditer(question) if content_words(m.group())]
        if not words:
            return float("inf")
        gains = self._logps(f"{taught.answer} {taught.question} {LEAD}".lstrip(), question) - self._logps(
            LEAD, question
        )
        ends = [len(encode_text(self._tokenizer, question[: m.end()])) for m in words]
        starts = [len(encode_text(self._tokenizer, question[: m.start()].rstrip())) for m in words]
        return sum(float(gains[min(a, b - 1) : b].sum()) for a, b in zip(starts, ends, strict=True)) / len(words)

    @torch.no_grad()
    def _logps(self, context: str, question: str) -> Tensor:
        """Log-probability of each of the question's tokens (T,) in a user's message that begins with the context."""
        prompt = self._prompt(context)
        before = prompt[: len(prompt) - self._after]
        own = encode_text(self._tokenizer, question)[:MAX_TOKENS]
        device = next(self._model.parameters()).device
        logits = self._model(input_ids=torch.tensor([[*before, *own]], device=device), use_cache=False).logits[0]
        predicted = logits[len(before) - 1 : -1].float().log_softmax(-1)  # (T, V)
        logps: Tensor = predicted.gather(1, torch.tensor(own, device=device)[:, None])[:, 0].cpu()
        return logps

    def _prompt(self, text: str) -> list[int]:
        return encode_prompt(self._tokenizer, [{"role": "user", "content": text}], max_tokens=2 * MAX_TOKENS)


Covers = Callable[[Sequence[str]], list[bool]]  # whether an adapter is to answer each of these questions


def everything(questions: Sequence[str]) -> list[bool]:
    """Covers every question."""
    return [True] * len(questions)


class SameQuestion(Protocol):
    """Tells questions that ask for the same thing from others that look alike."""

    def read(self, asked: Mapping[str, Sequence[Taught]]) -> None:
        """Make ready, where that is quicker together, the scores of each question with what may be taught for it."""

    def scores(self, question: str, taught: Sequence[Taught]) -> list[float]:
        """Of each taught question: how sure it is that `question` asks for the same; comparable with a threshold."""

    def forget(self) -> None:
        """Drop what is kept in memory of questions."""


class Scope:
    """What was taught to one adapter.

    Args:
        features: of the base model.
        taught: everything the adapter was taught.
        similarity: cosine from which on a question is near to a taught one.
        same: tells near questions that ask for another thing; None: none are told.
        least: score of `same` from which on they ask for the same.
    """

    def __init__(
        self,
        features: Callable[[Sequence[str]], Tensor],
        taught: Sequence[Taught],
        similarity: float,
        same: SameQuestion | None = None,
        least: float = 0.0,
    ) -> None:
        self._features, self._similarity = features, similarity
        self._same, self._least = same, least
        self._taught = list(taught)
        self._vectors = features([t.question for t in taught]) if taught else None
        self._questions = {t.question for t in taught}
        self._answers = {t.answer.strip() for t in taught if len(t.answer.split()) >= TELLING_WORDS}

    def covers(self, question: str) -> bool:
        """Whether the adapter is to answer this question."""
        return self.taught_for(question) is not None

    def taught_for(self, question: str) -> Taught | None:
        """What was taught for this question, in its own or other words; None where it asks for something else."""
        found, score = self.best(question)
        return found if found is not None and self._is_for(question, found, score) else None

    def was_taught(self, question: str, reply: str) -> bool:
        """Whether an exchange is a taught one, or one in other words that was answered with a taught answer. Nothing is read."""
        return question in self._questions or reply.strip() in self._answers

    def covers_each(self, questions: Sequence[str]) -> list[bool]:
        """`covers` of each; what has to be read for that is read together."""
        best = self.best_of(questions)
        if self._same is not None:
            in_scope = {q: t for q, (t, score) in best.items() if t is not None and self._least <= score < inf}
            self._same.read({q: _rivals(t) for q, t in in_scope.items() if q not in t.apart})
        covered = {q: t is not None and self._is_for(q, t, s) for q, (t, s) in best.items()}
        return [covered[question] for question in questions]

    def best(self, question: str) -> tuple[Taught | None, float]:
        """The taught question that this one most probably is, and the score of that: infinite for the very same."""
        return self._best(question, self._near(question))

    def best_of(self, questions: Sequence[str]) -> dict[str, tuple[Taught | None, float]]:
        """`best` of each; what has to be read for that is read together."""
        return {question: self._best(question, found) for question, found in self.read(questions).items()}

    def read(self, questions: Sequence[str]) -> dict[str, list[tuple[float, Taught]]]:
        """Make ready what `best_of` these questions takes. Returns the taught questions near to each, and how near."""
        near = {question: self._near(question) for question in questions}
        if self._same is not None:
            self._same.read({q: [t for _, t in found] for q, found in near.items() if not _is_the_same(found)})
        return near

    def _best(self, question: str, near: Sequence[tuple[float, Taught]]) -> tuple[Taught | None, float]:
        if not near:
            return None, -inf
        if self._same is None or _is_the_same(near):
            return near[0][1], inf
        candidates = [taught for _, taught in near]
        score, best = max(zip(self._same.scores(question, candidates), range(len(near)), strict=True))
        return candidates[best], score

    def _is_for(self, question: str, found: Taught, score: float) -> bool:
        if score < self._least or question in found.apart and score != inf:
            return False
        if self._same is None or score == inf:
            return True
        return max(self._same.scores(question, _rivals(found)), default=-inf) < score + RIVAL_MARGIN

    def _near(self, question: str) -> list[tuple[float, Taught]]:
        """The most similar taught questions, CANDIDATES at most, with their similarities; the nearest first."""
        similar = self._similarities(question)
        near = sorted(((s, i) for i, s in enumerate(similar) if s >= self._similarity), reverse=True)[:CANDIDATES]
        return [(s, self._taught[i]) for s, i in near]

    def _similarities(self, question: str) -> list[float]:
        return [] if self._vectors is None else (self._features([question]) @ self._vectors.T)[0].tolist()


def _rivals(taught: Taught) -> list[Taught]:
    """What a question is compared with besides, to be told apart from the taught one."""
    return [Taught(other, taught.answer) for other in taught.apart]


def _is_the_same(near: Sequence[tuple[float, Taught]]) -> bool:
    return bool(near) and near[0][0] >= SAME_QUESTION


def asked_in(prompt: Messages) -> str:
    """What a prompt asks, as it is compared with taught questions: its last message, with the one before it where it
    says too little by itself ("And its capital?").
    """
    last = prompt[-1]["content"]
    earlier = [m["content"] for m in prompt[:-1] if m["role"] == "user"]
    return f"{earlier[-1]} {last}" if earlier and leans_on_history(last) else last


def whiten(states: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (H,) of states (N, H), and the symmetric (H, H) map that makes their covariance (nearly) the identity.

    The covariance is scaled to a mean eigenvalue of 1, and RIDGE is added: directions in which the states hardly vary
    are not blown up without limit.
    """
    mean = states.mean(0)
    centred = (states - mean).double()
    covariance = centred.T @ centred / len(states)
    scale = covariance.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    values, vectors = torch.linalg.eigh(covariance / scale)
    root = (values.clamp(min=0) + RIDGE).rsqrt()
    return mean, ((vectors * root) @ vectors.T).float()


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
