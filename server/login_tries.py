"""Limits on login tries. A try is counted before the password is hashed, so that parallel guesses gain nothing. Kept in
memory only.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping

from federation.addresses import network_of

FREE_TRIES = 5  # for one name, from one address or from one known browser; after these one at a time
FREE_TRIES_A_NAME = 50  # for one name, from all strangers together
FREE_TRIES_AN_ADDRESS = 30  # from one address, for all names together
WAIT_SECONDS = 30.0  # before each further one
MOST_REMEMBERED = 4096


class LoginTries:
    """Counts failed login tries by name, address or browser. For one thread: the server's event loop."""

    def __init__(self) -> None:
        # -> (how many, when last, how many are free)
        self._tries: OrderedDict[str, tuple[int, float, int]] = OrderedDict()

    def begin(self, limits: Mapping[str, int]) -> bool:
        """Count one try, unless it has to wait.

        Args:
            limits: free tries by what the try is counted under, see `counted_under`.

        Returns:
            Whether the password may be looked at.
        """
        now = time.monotonic()
        for name, free in limits.items():
            count, at, _ = self._tries.get(name, (0, 0.0, free))
            if count >= free and now - at < WAIT_SECONDS:
                return False
        for name, free in limits.items():
            self._tries[name] = (self._tries.pop(name, (0, 0.0, free))[0] + 1, now, free)
        while len(self._tries) > MOST_REMEMBERED:
            self._tries.pop(self._least_guessed())
        return True

    def _least_guessed(self) -> str:
        """The oldest count that holds nobody back: a flood of other names must not set free who has to wait."""
        return next((name for name, (count, _, free) in self._tries.items() if count < free), next(iter(self._tries)))

    def was_right(self, limits: Mapping[str, int]) -> None:
        for name in limits:
            self._tries.pop(name, None)


def counted_under(name: str, address: str, browser: str) -> dict[str, int]:
    """The keys under which a try is counted, each with the number of free tries.

    Args:
        name: what was typed as the user's name.
        address: of the visitor.
        browser: the cookie of a browser in which this user logged in before; empty for an unknown browser.
    """
    name = name[:64]
    if browser:
        return {f"browser {browser}": FREE_TRIES}
    address = network_of(address)
    return {
        f"address {address} {name}": FREE_TRIES,
        f"address {address}": FREE_TRIES_AN_ADDRESS,
        f"name {name}": FREE_TRIES_A_NAME,
    }
