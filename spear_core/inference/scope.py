"""Which questions an adapter answers: those near to what it was taught. The untouched model answers the others.

After SERAC (Mitchell et al., arXiv 2206.06520): an edit has a scope, and outside of it the model should be as it was.
Nothing is trained here. A question's features are the mean over its tokens of the hidden states that enter a lower
layer of the base model, centred and whitened by everyday reference questions; two questions are compared by cosine. Raw
states are no use: their common direction outweighs what tells questions apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from spear_core.models.prompts import encode_prompt
from spear_core.training.traces import Encoded
from spear_core.training.trunk import Trunk, TrunkCache

LAYER_SHARE = 0.27  # of the decoder layers lie below the one whose input is compared (layer 8 of 30)
RIDGE = 0.1  # added to the covariance, in units of its mean eigenvalue
MAX_TOKENS = 512  # of a long message, that are looked at
CACHE_BYTES = 8 * 2**20


class QuestionFeatures:
    """Features of questions for one base model, which is never changed.

    Args:
        backbone: the decoder of the base model, without an adapter.
        tokenizer: the model's.
        layers: how many decoder layers it has.
        reference: everyday questions, a hundred or more, that tell which directions are common to all.

    Raises:
        ValueError: for a backbone whose layers cannot be cut in two, or without reference questions.
    """

    def __init__(self, backbone: Any, tokenizer: Any, layers: int, reference: Sequence[str]) -> None:
        if not reference:
            raise ValueError("there are no reference questions")
        self._tokenizer = tokenizer
        self._trunk = Trunk(backbone, max(1, round(LAYER_SHARE * layers)), TrunkCache(CACHE_BYTES))
        first, second = (self._ids(text) for text in ("a", "b"))
        self._before = _common(first, second)
        self._after = _common(first[::-1], second[::-1])
        states = [self._states(question) for question in reference]
        self._mean, self._whiten = whitening(torch.cat(states))

    def __call__(self, questions: Sequence[str]) -> Tensor:
        """(N, H) of unit length."""
        means = [self._states(question).mean(0) for question in questions]
        return normalize((torch.stack(means) - self._mean) @ self._whiten, dim=-1)

    def forget(self) -> None:
        """Drop the kept states of every question."""
        self._trunk.cache.drop()

    def _states(self, question: str) -> Tensor:
        """Hidden states of the question's own tokens, without the template's around them: (tokens, H), float32."""
        ids = self._ids(question)
        states = self._trunk.states(Encoded(tuple(ids), (), ())).float()
        own = states[self._before : len(ids) - self._after]
        return own if len(own) else states[-1:]

    def _ids(self, question: str) -> list[int]:
        return encode_prompt(self._tokenizer, [{"role": "user", "content": question}], max_tokens=MAX_TOKENS)


class Scope:
    """The taught questions of one adapter."""

    def __init__(self, features: QuestionFeatures, taught: Sequence[str], similarity: float) -> None:
        self._features = features
        self._similarity = similarity
        self._taught = features(taught) if taught else None

    def nearest(self, question: str) -> float:
        """Cosine similarity, -1 to 1, to the nearest taught question; -1 where nothing was taught."""
        if self._taught is None:
            return -1.0
        return float((self._features([question]) @ self._taught.T).max())

    def covers(self, question: str) -> bool:
        """Whether the adapter is to answer this question."""
        return self.nearest(question) >= self._similarity


def whitening(states: Tensor) -> tuple[Tensor, Tensor]:
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
