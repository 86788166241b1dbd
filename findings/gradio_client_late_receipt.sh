#!/usr/bin/env bash
# Gradio's JavaScript client: what a generator yielded first changes before it is read.
#
# Expected: a generator yields gr.update(value="", label="Writing") and then gr.skip(). Whoever reads the client's events
#   sees these two, in this order, however the network times them.
# Found: if the stream of results overtakes the answer to the request that began them (two connections; a busy page or
#   server is enough), the client applies the second value, which comes as a difference, to the object of the first, which
#   nobody has read yet. Both events then hold nothing. On a page an update that only the first yield makes, such as emptying
#   a box or showing a Stop button, is lost without a word.
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server"; fi; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq gradio==6.31.0
npm install --silent --no-fund --no-audit --ignore-scripts @gradio/client@2.7.0 >/dev/null
cat >app.py <<'PY'
import socket
import time

import gradio as gr


def speak():
    yield gr.update(value="", label="Writing")
    yield gr.skip()


def rest():
    time.sleep(8)


with gr.Blocks() as page:
    gr.Button().click(speak, None, gr.Textbox("a question"), api_name="speak")
    gr.Button().click(rest, api_name="rest")
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
page.launch(server_name="127.0.0.1", server_port=port, quiet=True, prevent_thread_lock=True)
with open("url.txt", "w") as file:
    file.write(page.local_url)
time.sleep(120)
PY
GRADIO_ANALYTICS_ENABLED=False env/bin/python app.py &
server=$!
for _ in $(seq 300); do [ -s url.txt ] && break; sleep 0.2; done
cat >read.mjs <<'JS'
import { readFileSync } from "node:fs";
import { Client } from "@gradio/client";

const direct = globalThis.fetch;
let late = 0;
globalThis.fetch = async (url, options) => {
    const answer = await direct(url, options);
    if (String(url).includes("/queue/join")) await new Promise((done) => setTimeout(done, late));
    return answer;
};
const client = await Client.connect(readFileSync("url.txt", "utf8"));
const read = async () => {
    const seen = [];
    for await (const event of client.submit("/speak")) {
        if (event.type === "data") seen.push(JSON.stringify(event.data[0]));
        if (event.type === "status" && event.stage === "complete") break;
    }
    return seen;
};
const inTime = await read();
client.submit("/rest"); // keeps the stream of results open, which all requests of a session share
await new Promise((done) => setTimeout(done, 1000));
late = 1500;
const overtaken = await read();
console.log("receipt in time:", inTime.join(" then "));
console.log("receipt overtaken:", overtaken.join(" then "));
const asFound = JSON.parse(inTime[0]).label === "Writing" && !("label" in JSON.parse(overtaken[0]));
console.log(asFound ? "as found" : "THE BEHAVIOUR HAS CHANGED");
process.exit(asFound ? 0 : 1);
JS
echo "gradio 6.31.0, @gradio/client 2.7.0, node $(node --version)"
node read.mjs
