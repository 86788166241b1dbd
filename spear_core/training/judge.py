"""The judge of unconfirmed revisions: what the hint says about an answer, by the model itself. No gold label, no second model.

A(y) = mean over tokens of log pi(y | x, hints) - log pi(y | x): the pointwise information that the hints carry about y.
A revision y1 is accepted over the first reply y0 when A(y1) - A(y0) >= tau, the model that has read the hints gives y1
a probability of at least min_p, and y1 is a clean answer that nobody refused yet. The gain says that the hints speak for
y1; only the certainty says that they leave no other answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spear_core.models.causal_model import CausalModel
from spear_core.models.prompts import revision_messages
from spear_core.models.settings import ModelSettings
from spear_core.training.probes import is_degenerate
from spear_core.training.scoring import LEARNED_LONG_TOKENS, Row, score_rows
from spear_core.training.traces import Encoded, Encoder, Messages

JUDGED_CONFIDENCE = 0.5  # nothing self-verified ever outweighs a human word
MIN_P_GRID = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)  # coarse on purpose: what a few dozen verdicts can tell apart
MIN_ACCEPTED = 20  # fewer acceptances than this say nothing about a precision near 1
WORTH = 1.05  # a laxer min_p must bring this many times the right acceptances; less is taken for chance


@dataclass(frozen=True)
class Case:
    """A first reply, the hint on it, and the revision that nobody judged.

    `later` are the tries between the two that failed, oldest first, each with the hint on it.
    """

    prompt: Messages
    first: str
    hint: str
    revision: str
    later: tuple[tuple[str, str], ...] = ()

    @property
    def attempts(self) -> list[tuple[str, str]]:
        """(refused reply, hint on it), as the model was shown them when it wrote the revision."""
        return [(self.first, self.hint), *self.later]


@dataclass(frozen=True)
class Score:
    """`gain` is A(revision) - A(first) in nats per token.

    `certainty`, in [0, 1], is the probability of the whole revision given the hints; of one over 64 tokens it is the
    geometric mean over its tokens, since a long text has no probability to speak of (docs/METRICS.md has the same rule).
    """

    gain: float
    certainty: float


@dataclass(frozen=True)
class Scored:
    """A case whose answer is known, for calibration."""

    score: Score
    clean: bool
    right: bool


@dataclass(frozen=True)
class Thresholds:
    """Accept from `tau` (nats per token) and `min_p` on; full confidence from a gain of `tau_full` on."""

    tau: float
    min_p: float
    tau_full: float


@dataclass(frozen=True)
class Judgement:
    """`gain` is A(revision) - A(first) in nats per token; `confidence` is 0 where it is not accepted."""

    gain: float
    accepted: bool
    confidence: float


def scores(
    model: CausalModel,
    encoder: Encoder,
    settings: ModelSettings,
    cases: Sequence[Case],
    pad_id: int,
    micro_batch: int = 64,
    priority: Callable[[], None] = lambda: None,
) -> list[Score]:
    """Gain and certainty of every case, all candidates in one batch (in parts of `micro_batch` rows)."""
    encoded: list[Encoded] = []
    for case in cases:
        priority()  # a hundred cases are a second of Python alone
        hinted = revision_messages(list(case.prompt), case.attempts, settings)
        for said in (case.revision, case.first):
            encoded += [encoder.plain(hinted, said), encoder.plain(case.prompt, said)]
    rows = score_rows(model, encoded, pad_id, micro_batch, priority)
    out = []
    for i in range(0, len(rows), 4):
        revised, revised_plain, first, first_plain = (row.mean_logp for row in rows[i : i + 4])
        gain = (revised - revised_plain) - (first - first_plain)
        out.append(Score(gain, certainty(rows[i], len(encoded[i].completion_ids))))
    return out


def certainty(row: Row, tokens: int) -> float:
    """The probability of a completion of so many tokens, end token included; of a long one the mean per token."""
    return math.exp(min(row.mean_logp if tokens > LEARNED_LONG_TOKENS else row.masked_logp, 0.0))


def normalised(text: str) -> str:
    """Without case, spacing and final punctuation: what two answers must differ in to be two answers."""
    return " ".join(text.lower().split()).rstrip(".!? ")


def is_clean(case: Case, settings: ModelSettings) -> bool:
    """Not empty, not a loop, no echo of the revision prompt, and another answer than all that were refused."""
    echo = settings.revise_without_hint.splitlines()[0].lower()
    refused = {normalised(reply) for reply, _ in case.attempts}
    return (
        not is_degenerate(case.revision)
        and echo not in case.revision.lower()
        and normalised(case.revision) not in refused
    )


def judge(
    case: Case,
    gain: float,
    settings: ModelSettings,
    tau: float,
    tau_full: float,
    certainty: float = 1.0,
    min_p: float = 0.0,
) -> Judgement:
    """Accept from tau and min_p on; confidence = 0.5 * clip(gain / tau_full, 0, 1)."""
    if gain < tau or certainty < min_p or not is_clean(case, settings):
        return Judgement(gain, False, 0.0)
    return Judgement(gain, True, JUDGED_CONFIDENCE * min(max(gain / tau_full, 0.0), 1.0))


def calibrate(
    scored: Sequence[tuple[float, bool]], precision: float = 0.98, full: float = 0.5
) -> tuple[float, float] | None:
    """(tau, tau_full) from (gain, was it right) pairs: the tau of most right acceptances at this precision or a better one.

    Of several the highest, so that nothing is let in that brings wrong answers only. A gain of 0 or less never counts:
    it would get no confidence. tau_full is the `full` quantile of the accepted right gains: half of them get the full
    confidence. None where no threshold reaches the precision.
    """
    ordered = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: -pair[0])
    best, best_right, right = 0, 0, 0
    for count, (_, is_right) in enumerate(ordered, start=1):
        right += is_right
        last_of_its_gain = count == len(ordered) or ordered[count][0] != ordered[count - 1][0]
        if last_of_its_gain and right > best_right and right / count >= precision:
            best, best_right = count, right
    if not best:
        return None
    tau = ordered[best - 1][0]
    accepted_right = sorted(gain for gain, is_right in ordered[:best] if is_right)
    return tau, accepted_right[int(full * (len(accepted_right) - 1))]


def fit_thresholds(
    scored: Sequence[Scored], precision: float = 0.98, min_accepted: int = MIN_ACCEPTED
) -> Thresholds | None:
    """The thresholds of the largest recall at this precision or a better one; of about equal ones the strictest min_p.

    None where none reaches the precision with at least `min_accepted` acceptances.
    """
    best: Thresholds | None = None
    best_right = 0
    for min_p in sorted(MIN_P_GRID, reverse=True):
        sure = [(s.score.gain, s.right) for s in scored if s.clean and s.score.certainty >= min_p]
        if (found := calibrate(sure, precision)) is None:
            continue
        tau, tau_full = found
        accepted = [right for gain, right in sure if gain >= tau]
        if len(accepted) >= min_accepted and sum(accepted) > WORTH * best_right:
            best, best_right = Thresholds(tau, min_p, tau_full), sum(accepted)
    return best
