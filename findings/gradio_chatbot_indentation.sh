#!/usr/bin/env bash
# Gradio 6: the chatbot takes the indentation and the tabs out of messages, and the chat function reads them back like that.
#
# Expected: a message is shown, and comes back in the history, with its characters as they were given.
# Found: each text is treated like a docstring (inspect.cleandoc): from the second line on, the indentation that all
#   lines share is removed, tabs become spaces, and blank lines at both ends go. A Python function without a code fence
#   loses its body's indentation, a nested list or YAML becomes flat, and within a fence a Makefile's or a table's tabs
#   are gone. The model continues from the changed text, and whoever stores the history stores that. A text that is
#   given as a part, [{"type": "text", "text": ...}], is left alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq gradio==6.31.0
GRADIO_ANALYTICS_ENABLED=False env/bin/python - <<'PY'
import sys

import gradio as gr

print("gradio", gr.__version__)
replies = {
    "a function": "def f():\n    return 1",
    "a nested list": "Fruit:\n  - apples\n  - pears",
    "a fenced Makefile": "```make\nall:\n\tcc main.c\n```",
    "a fenced function": "```python\ndef f():\n    return 1\n```",
}


def read_back(content):
    """The text that the chat function gets at its next turn."""
    chatbot = gr.Chatbot()
    page = chatbot.postprocess([{"role": "assistant", "content": content}])
    return chatbot.preprocess(page)[0]["content"][0]["text"]


found = {name: read_back(reply) for name, reply in replies.items()}
parts = {name: read_back([{"type": "text", "text": reply}]) for name, reply in replies.items()}
for name, reply in replies.items():
    print(f"{name}: given {reply!r}\n   read back {found[name]!r}\n   given as a part {parts[name]!r}")
as_found = (
    found["a function"] == "def f():\nreturn 1"
    and found["a nested list"] == "Fruit:\n- apples\n- pears"
    and "\t" not in found["a fenced Makefile"]
    and found["a fenced function"] == replies["a fenced function"]
    and parts == replies
)
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
