"""Settings of the federation with peers. Frozen and checked once; no network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from federation.aggregation_plan import MergeSettings, Method
from federation.identity import PublicKey
from federation.join_requests import MAX_NAME_CHARACTERS
from federation.peers import parse_address
from spear_core.errors import ConfigError

_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, None: 1.0}
SHORTEST_SYNC_SECONDS, LONGEST_SYNC_SECONDS = 5.0, 7 * 86_400.0


@dataclass(frozen=True)
class FederationSettings:
    """Raises FederationError for a wrong address or merge setting, ConfigError for anything else that is not allowed.

    `method`, `scale`, `clip`, `trim` and `max_wins` are those of `federation.aggregation_plan.MergeSettings`.
    """

    peers: Annotated[
        tuple[str, ...],
        'peers to push to and pull from, such as `"http://host:7860#key"`; the page adds more; what it removes stays removed',
    ] = ()
    sync_every: Annotated[str, "how often to push and pull, 5s to 7d"] = "10m"
    name: Annotated[str, "what peers see beside this instance's key while it waits for their approval"] = ""
    address: Annotated[str, "where peers can reach this instance, without the key"] = ""
    method: Annotated[Method, "`fedavg`, `exact`, `median` or `trimmed_mean`"] = "fedavg"
    scale: Annotated[float, "factor on the averaged difference from the first adapter; above 1 it overshoots"] = 1.0
    clip: Annotated[
        float | None,
        "differences longer than this many times the median peer's are shortened to it",
    ] = None
    trim: Annotated[
        float, "share of the peers that `trimmed_mean` drops at each end, of three or more at least one; 0 drops none"
    ] = 0.3
    max_wins: Annotated[int, "a peer's count of right answers counts up to here"] = 50
    share_questions: Annotated[
        bool,
        "send peers the questions that the adapter was taught, never the answers, so that their merged adapters answer these "
        "and leave the rest to the untouched model; every app of a circle needs it for that",
    ] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "peers", tuple(self.peers))  # a list, where it comes from a file
        for text in self.peers:
            parse_address(text)
        if len(self.name) > MAX_NAME_CHARACTERS or not self.name.isprintable():
            raise ConfigError(f"federation.name must be one line of at most {MAX_NAME_CHARACTERS} characters")
        if self.address:
            parse_address(f"{self.address}#{PublicKey(bytes(32)).text}")
        _ = self.merge, self.sync_seconds

    @property
    def merge(self) -> MergeSettings:
        return MergeSettings(self.method, self.max_wins, self.clip, self.scale, self.trim)

    @property
    def sync_seconds(self) -> float:
        """Seconds between two syncs."""
        match = _INTERVAL.fullmatch(self.sync_every.strip())
        seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
        if not SHORTEST_SYNC_SECONDS <= seconds <= LONGEST_SYNC_SECONDS:
            raise ConfigError(
                f"sync_every = {self.sync_every!r} is not allowed; write a time from 5s to 7d, such as 30s, 10m or 2h"
            )
        return seconds
