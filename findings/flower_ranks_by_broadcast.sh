#!/usr/bin/env bash
# Flower: the adapter of a client with LoRA rank 1 is averaged with adapters of a higher rank, as if each rank were the same.
#
# Expected: the strategies check that replies are alike before they average them (the same keys, a weight in each), so
#   clients whose LoRA ranks differ are refused, as they are with ranks 4 and 2, or left out of the round.
# Found: shapes are not compared. With rank 1 NumPy stretches A (1 x n) and B (n x 1) to the others' rank: the client's one
#   direction is added to every one of theirs. The round succeeds and reports nothing; the product BA is not the
#   average of the clients' products, nor that of their factors filled up with zeros. If the client with rank 1 answers
#   first, the same two replies end the run with a ValueError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq flwr==1.41.0 numpy==2.4.6
FLWR_HOME="$folder" FLWR_TELEMETRY_ENABLED=0 env/bin/python - <<'PY' 2>&1
import logging
import sys
from importlib.metadata import version

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

logging.getLogger("flwr").setLevel(logging.ERROR)
TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # as Flower's runtime does before a server app starts
print("flwr", version("flwr"))
rng = np.random.default_rng(0)


def adapter(rank):
    return {"A": rng.normal(size=(rank, 6)).astype("float32"), "B": rng.normal(size=(6, rank)).astype("float32")}


class Clients(Grid):
    """Clients in this process: node 1 returns the first adapter, node 2 the second, and so on."""

    def __init__(self, adapters):
        self.adapters = adapters

    def get_node_ids(self):
        return list(range(1, len(self.adapters) + 1))

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in sorted(messages, key=lambda m: m.metadata.dst_node_id):
            arrays = self.adapters[message.metadata.dst_node_id - 1]
            record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
            content = RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": 1})})
            replies.append(Message(content=content, reply_to=message))
        return replies

    set_run = run = create_message = push_messages = pull_messages = None


def averaged(*adapters):
    """The adapter after one round of FedAvg, or the error that it ends with."""
    initial = ArrayRecord({name: Array(array) for name, array in adapters[0].items()})
    try:
        result = FedAvg(fraction_evaluate=0.0).start(grid=Clients(adapters), initial_arrays=initial, num_rounds=1)
    except ValueError as error:
        return f"ValueError: {error}"
    return {name: array.numpy() for name, array in result.arrays.items()}


def filled_up(arrays, rank):
    missing = rank - len(arrays["A"])
    return {"A": np.pad(arrays["A"], ((0, missing), (0, 0))), "B": np.pad(arrays["B"], ((0, 0), (0, missing)))}


four, two, one = adapter(4), adapter(2), adapter(1)
print("ranks 4 and 2:", averaged(four, two))
print("ranks 1 and 4:", averaged(one, four))
made = averaged(four, one)
print("ranks 4 and 1:", {name: array.shape for name, array in made.items()})
of_products = (four["B"] @ four["A"] + one["B"] @ one["A"]) / 2
padded = averaged(four, filled_up(one, 4))
product = made["B"] @ made["A"]
for name, other in {"the average of the products": of_products, "the product of averages, filled up with zeros": padded["B"] @ padded["A"]}.items():
    print(f"its product BA differs from {name} by {np.linalg.norm(product - other) / np.linalg.norm(other):.0%}")
stretched = np.allclose(made["A"], (four["A"] + np.repeat(one["A"], 4, axis=0)) / 2, atol=1e-6)
print("each row of A holds half of the single row of the client with rank 1:", stretched)
as_found = stretched and "ValueError" in averaged(four, two) and "ValueError" in averaged(one, four)
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
