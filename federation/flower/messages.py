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
from federation.errors import shown
from federation.flower.strategy import Contributed

log = logging.getLogger(__name__)
ADAPTER, WORDS = "adapter", "words"
Words = dict[str, Any]  # texts, numbers and truth values, as Flower's ConfigRecord takes them


@dataclass(frozen=True)
class Answer:
    """What a client sent back."""

    update: Contributed
    words: Words


def packed(adapter: Mapping[str, Tensor], words: Mapping[str, Any]) -> RecordDict:
    """An adapter (float tensors by name) and plain values as the content of a Flower message."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter.items()}
    return RecordDict({ADAPTER: ArrayRecord(state), WORDS: ConfigRecord(dict(words))})


def unpacked(record: RecordDict) -> tuple[AdapterState, Words]:
    """The adapter and the values of a message's content. Raises TypeError where either is missing."""
    adapter, words = record[ADAPTER], record[WORDS]
    if not isinstance(adapter, ArrayRecord) or not isinstance(words, ConfigRecord):
        raise TypeError("a fleet's message holds an adapter and words")
    return dict(adapter.to_torch_state_dict()), dict(words)


def ask(
    grid: Grid,
    clients: Sequence[int],
    adapter: Mapping[str, Tensor],
    words: Mapping[str, Any],
    timeout_seconds: float,
    *,
    own_nodes: bool = False,
) -> list[Answer]:
    """Send the adapter to these clients and wait for their answers, in ascending order of client.

    Client c lives on node c of the nodes in ascending order of their ids; clients that are simulated share nodes (c modulo
    their number), with `own_nodes` no two do. A client without a node, or that fails, is too slow or sends what cannot be
    read is left out, and the log says so.
    """
    nodes = sorted(grid.get_node_ids())
    placed = [c for c in clients if c < len(nodes) or (nodes and not own_nodes)]
    if len(placed) < len(clients):
        log.warning("%d clients have no node and are left out of this round", len(clients) - len(placed))
    waiting = {c: nodes[c % len(nodes)] for c in placed}
    messages = [
        Message(packed(adapter, {**words, "client": c}), node, MessageType.TRAIN) for c, node in waiting.items()
    ]
    answers: list[Answer] = []
    for reply in grid.send_and_receive(messages, timeout=timeout_seconds):
        if reply.has_error():
            log.warning("a client failed and is left out of this round: %s", reply.error.reason)
            continue
        node = reply.metadata.src_node_id
        try:
            state, said = unpacked(reply.content)
            update = Contributed(int(said["client"]), state, max(0, int(said["weight"])))
        except Exception as e:  # whatever a node sends; numpy raises nearly anything on it
            log.warning("node %d's answer cannot be read and is left out of this round: %s", node, shown(repr(e)))
            continue
        if waiting.get(update.client) != node:
            log.warning("node %d answers as client %d and is left out of this round", node, update.client)
            continue
        del waiting[update.client]
        answers.append(Answer(update, said))
    return sorted(answers, key=lambda a: a.update.client)
