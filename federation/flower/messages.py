"""Adapters and words in Flower messages, and one round of asking clients. The only module that fleet servers need of flwr."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from federation.aggregate import AdapterState

log = logging.getLogger(__name__)
ADAPTER, WORDS = "adapter", "words"
Words = dict[str, Any]  # texts, numbers and truth values, as Flower's ConfigRecord takes them


@dataclass(frozen=True)
class Answer:
    """What a client sent back."""

    client: int
    adapter: AdapterState
    words: Words


def packed(adapter: Mapping[str, Tensor], words: Mapping[str, Any]) -> RecordDict:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter.items()}
    return RecordDict({ADAPTER: ArrayRecord(state), WORDS: ConfigRecord(dict(words))})


def unpacked(record: RecordDict) -> tuple[AdapterState, Words]:
    adapter, words = record[ADAPTER], record[WORDS]
    if not isinstance(adapter, ArrayRecord) or not isinstance(words, ConfigRecord):
        raise TypeError("a fleet's message holds an adapter and words")
    return dict(adapter.to_torch_state_dict()), dict(words)


def ask(
    grid: Grid, clients: Sequence[int], adapter: Mapping[str, Tensor], words: Mapping[str, Any], timeout_seconds: float
) -> list[Answer]:
    """Send the adapter to these clients and wait for their answers, in ascending order of client.

    Client c lives on node c (modulo the number of nodes) of the nodes in ascending order of their ids. A client that
    fails or is too slow is left out, and the log says so.
    """
    nodes = sorted(grid.get_node_ids())
    messages = [
        Message(packed(adapter, {**words, "client": c}), nodes[c % len(nodes)], MessageType.TRAIN) for c in clients
    ]
    answers: list[Answer] = []
    for reply in grid.send_and_receive(messages, timeout=timeout_seconds):
        if reply.has_error():
            log.warning("a client failed and is left out of this round: %s", reply.error.reason)
            continue
        state, said = unpacked(reply.content)
        answers.append(Answer(int(said["client"]), state, said))
    return sorted(answers, key=lambda a: a.client)
