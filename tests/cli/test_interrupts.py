"""An interrupt during a start ends it, also where something swallows it."""

from __future__ import annotations

import signal

import pytest

from cli.interrupts import remembered_interrupts


def test_a_swallowed_interrupt_is_raised_again_and_the_handler_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), remembered_interrupts() as raise_again:
        raise_again()
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            swallowed = True
        assert swallowed
        raise_again()
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interrupt_nothing_is_raised() -> None:
    with remembered_interrupts() as raise_again:
        raise_again()
