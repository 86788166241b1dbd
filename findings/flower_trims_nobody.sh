#!/usr/bin/env bash
# Flower: the trimmed mean leaves a wild client in where there are fewer than five, and says nothing.
#
# Expected: FedTrimmedAvg, whose `beta` is the "fraction to cut off of both tails", 0.2 unless set, cuts off at least the
#   largest and the smallest value, for that is what it is chosen for; or it refuses too few clients.
# Found: beta times the number of clients is rounded down. With the default and up to four clients nothing is cut off:
#   the result is the plain mean, in which one wild client moves every weight as far as it likes. From five on it is cut
#   off; of two wild ones on the same side one stays in until there are ten clients. The strategy runs from two clients
#   on.
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
from flwr.serverapp.strategy import FedMedian, FedTrimmedAvg
from flwr.supercore.task_identity import TaskIdentity

logging.getLogger("flwr").setLevel(logging.ERROR)
TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # as Flower's runtime does before a server app starts
print("flwr", version("flwr"))


class Clients(Grid):
    """Clients in this process, one for each value that a weight is sent with."""

    def __init__(self, values):
        self.values = values

    def get_node_ids(self):
        return list(range(1, len(self.values) + 1))

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            weight = np.full(4, self.values[message.metadata.dst_node_id - 1], dtype="float32")
            content = {"arrays": ArrayRecord({"w": Array(weight)}), "metrics": MetricRecord({"num-examples": 1})}
            replies.append(Message(content=RecordDict(content), reply_to=message))
        return replies

    set_run = run = create_message = push_messages = pull_messages = None


def weight_after_a_round(strategy, values):
    strategy.fraction_evaluate = 0.0
    start = ArrayRecord({"w": Array(np.ones(4, dtype="float32"))})
    result = strategy.start(grid=Clients(values), initial_arrays=start, num_rounds=1)
    return float(result.arrays["w"].numpy()[0])


found = {}
for clients in (3, 4, 5, 9, 10):
    for wild in (1, 2) if clients >= 9 else (1,):
        values = [1.0] * (clients - wild) + [1000.0] * wild
        found[clients, wild] = trimmed = weight_after_a_round(FedTrimmedAvg(), values)
        median = weight_after_a_round(FedMedian(), values)
        print(f"{clients} clients, {wild} of them at 1000, the others at 1: trimmed mean {trimmed:.1f}, median {median:.1f}")
as_found = (
    abs(found[3, 1] - 334) < 1
    and abs(found[4, 1] - 250.75) < 1
    and found[5, 1] == found[9, 1] == found[10, 1] == found[10, 2] == 1
    and found[9, 2] > 100
)
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
