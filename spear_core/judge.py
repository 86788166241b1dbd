"""The judge of unconfirmed revisions: what the hint says about an answer, by the model itself. No gold label, no second model.

A(y) = mean over tokens of log pi(y | x, y0, h) - log pi(y | x): the pointwise information that the hint carries about y.
A revision y1 is accepted over y0 when A(y1) - A(y0) >= tau and y1 is a clean answer that differs from y0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spear_core.gate import is_degenerate
from spear_core.loading import ModelSettings
from spear_core.prompts import revision_messages
from spear_core.scoring import score_rows
from spear_core.traces import Encoded, Encoder, Messages

JUDGED_CONFIDENCE = 0.5  # nothing self-verified ever outweighs a human word


@dataclass(frozen=True)
class Case:
    """A first reply, the hint on it, and the revision that nobody judged."""

    prompt: Messages
    first: str
    hint: str
    revision: str


@dataclass(frozen=True)
class Judgement:
    """`gain` is A(revision) - A(first) in nats per token; `confidence` is 0 where it is not accepted."""

    gain: float
    accepted: bool
    confidence: float


def gains(
    model: Any, encoder: Encoder, settings: ModelSettings, cases: Sequence[Case], pad_id: int, micro_batch: int = 64
) -> list[float]:
    """A(revision) - A(first) of every case, all candidates in one batch (in parts of `micro_batch` rows)."""
    rows: list[Encoded] = []
    for case in cases:
        hinted = revision_messages(list(case.prompt), [(case.first, case.hint)], settings)
        for said in (case.revision, case.first):
            rows += [encoder.plain(hinted, said), encoder.plain(case.prompt, said)]
    logps = [row.mean_logp for row in score_rows(model, rows, pad_id, micro_batch)]
    return [(logps[i] - logps[i + 1]) - (logps[i + 2] - logps[i + 3]) for i in range(0, len(logps), 4)]


def normalised(text: str) -> str:
    """Without case, spacing and final punctuation: what two answers must differ in to be two answers."""
    return " ".join(text.lower().split()).rstrip(".!? ")


def is_clean(case: Case, settings: ModelSettings) -> bool:
    """Not empty, not a loop, no echo of the revision prompt, and another answer than the first."""
    echo = settings.revise_without_hint.splitlines()[0].lower()
    said = case.revision.lower()
    return not is_degenerate(case.revision) and echo not in said and normalised(said) != normalised(case.first)


def judge(case: Case, gain: float, settings: ModelSettings, tau: float, tau_full: float) -> Judgement:
    """Accept at tau; confidence = 0.5 * clip(gain / tau_full, 0, 1)."""
    if gain < tau or not is_clean(case, settings):
        return Judgement(gain, False, 0.0)
    return Judgement(gain, True, JUDGED_CONFIDENCE * min(max(gain / tau_full, 0.0), 1.0))


def calibrate(
    scored: Sequence[tuple[float, bool]], precision: float = 0.98, full: float = 0.5
) -> tuple[float, float] | None:
    """(tau, tau_full) from (gain, was it right) pairs: the lowest tau whose acceptances reach the precision.

    tau_full is the `full` quantile of the accepted right gains: half of them get the full confidence. None where no
    threshold reaches the precision.
    """
    ordered = sorted(scored, key=lambda pair: -pair[0])
    best, right = 0, 0
    for count, (_, is_right) in enumerate(ordered, start=1):
        right += is_right
        last_of_its_gain = count == len(ordered) or ordered[count][0] != ordered[count - 1][0]
        if last_of_its_gain and right / count >= precision:
            best = count
    if not best:
        return None
    tau = ordered[best - 1][0]
    accepted_right = sorted(gain for gain, is_right in ordered[:best] if is_right)
    return tau, max(accepted_right[int(full * (len(accepted_right) - 1))], tau, 1e-6)
