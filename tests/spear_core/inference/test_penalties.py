"""The penalties by hand."""

from __future__ import annotations

import torch

from spear_core.inference.penalties import penalty_hook


def test_each_time_a_token_was_said_lowers_it_by_frequency_and_once_by_presence() -> None:
    hook = penalty_hook(0.5, 0.25)
    assert hook is not None
    before = torch.tensor([1.0, 2.0, 3.0, 4.0])
    # token 1 was said twice: 2 - 2 * .5 - .25 = .75; token 3 once: 4 - .5 - .25 = 3.25
    assert hook([1, 3, 1], before).tolist() == [1.0, 0.75, 3.0, 3.25]
    assert before.tolist() == [1.0, 2.0, 3.0, 4.0], "the engine's own tensor is not changed"
    assert hook([], before).tolist() == before.tolist()


def test_no_penalty_is_no_hook() -> None:
    assert penalty_hook(0.0, 0.0) is None
