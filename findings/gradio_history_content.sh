#!/usr/bin/env bash
# Gradio 6: a chat function gets its history in another form than it gave it.
#
# Expected: with messages as {"role": ..., "content": "text"}, the next call of the chat function sees the same.
# Found: what the function reads back has `content` as a list of parts, [{"type": "text", "text": ...}], for plain text
#   too, and further keys. history[-1]["content"] + "..." or a chat template that expects text fails at the second turn
#   only: the history of the first is empty.
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
given = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
chatbot = gr.Chatbot()
read = chatbot.preprocess(chatbot.postprocess(given))  # to the page and back, as between two calls of a function
for was, now in zip(given, read):
    print("   given", was, " read back", now)
as_found = [message["content"] for message in read] == [[{"text": m["content"], "type": "text"}] for m in given]
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
