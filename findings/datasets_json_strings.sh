#!/usr/bin/env bash
# datasets: strings of a JSON-lines file do not stay strings.
#
# Expected: a value that is a JSON string is a string in the data set, whatever it looks like.
# Found: where all strings of a column are dates they become datetimes; and where one row of a column holds something
#   else than a string (a number, or the list of parts of a multimodal message), the strings of the other rows are read
#   as JSON: "007" becomes 7, "true" becomes True, "null" becomes None. Nothing is said about it. A user's message "42"
#   reaches the chat template as a number, and an answer "2024-01-05" is trained as "2024-01-05 00:00:00".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq datasets==5.2.0
HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import datetime
import json
import sys

import datasets

datasets.disable_progress_bars()


def read(name, rows):
    with open(f"{name}.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    found = list(datasets.load_dataset("json", data_files=f"{name}.jsonl", split="train"))
    print(f"{name}:")
    for row, now in zip(rows, found):
        print("   in the file", row, " read as", now)
    return found


print("datasets", datasets.__version__)
dates = read("dates", [{"question": "When?", "answer": "2024-01-05"}, {"question": "And then?", "answer": "2024-02-06"}])
mixed = read("mixed", [{"answer": "007"}, {"answer": "true"}, {"answer": "null"}, {"answer": 3}])
text = {"messages": [{"role": "user", "content": "42"}]}
parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is that?"}]}]}
chat = read("chat", [text, parts])
as_found = (
    dates[0]["answer"] == datetime.datetime(2024, 1, 5)
    and [row["answer"] for row in mixed] == [7, True, None, 3]
    and chat[0]["messages"][0]["content"] == 42
)
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
