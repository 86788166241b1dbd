#!/usr/bin/env bash
# Flower: FedAdam turns a float32 model into a float64 one, of twice the size.
#
# Expected: the arrays of a round keep the dtype that the clients sent, as with FedAvg, FedYogi and FedAdagrad.
# Found: FedAdam's step size, corrected for the round, is a NumPy float64, and NumPy 2 gives a float32 array times such a
#   number as float64 (a Python number would not). From the first round on the server hands out, keeps and reports
#   twice the bytes. Clients that copy into a float32 model do not notice; the traffic to them does.
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
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
from flwr.supercore.task_identity import TaskIdentity

logging.getLogger("flwr").setLevel(logging.ERROR)
TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # as Flower's runtime does before a server app starts
print("flwr", version("flwr"), "numpy", np.__version__)


class Clients(Grid):
    """Two clients in this process that add one to what they get, in float32; they note what they were sent."""

    def __init__(self):
        self.sent = []

    def get_node_ids(self):
        return [1, 2]

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            array = message.content["arrays"]["weight"]
            self.sent.append((array.dtype, array.numpy().nbytes))
            record = ArrayRecord({"weight": Array(array.numpy().astype("float32") + 1)})
            content = RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": 1})})
            replies.append(Message(content=content, reply_to=message))
        return replies

    set_run = run = create_message = push_messages = pull_messages = None


found = {}
for strategy in (FedAvg, FedAvgM, FedAdagrad, FedYogi, FedAdam):
    clients = Clients()
    initial = ArrayRecord({"weight": Array(np.zeros(1000, dtype="float32"))})
    result = strategy(fraction_evaluate=0.0).start(grid=clients, initial_arrays=initial, num_rounds=3)
    found[strategy.__name__] = result.arrays["weight"].dtype
    print(f"{strategy.__name__}: sent to the clients {clients.sent[::2]}, result {found[strategy.__name__]}")
as_found = found.pop("FedAdam") == "float64" and set(found.values()) == {"float32"}
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
