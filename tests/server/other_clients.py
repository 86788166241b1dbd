"""Clients of other projects in front of a running app: a script for an environment that has them. Prints JSON.

Run by test_other_clients.py; the environment: python -m venv E; E/bin/pip install litellm==1.110.0 langchain-openai==1.7.4
llm==0.36 openai. What is not in the environment ends with status 77.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

QUESTION = "What can you do?"


def by_litellm(url: str, key: str) -> dict[str, Any]:
    import litellm

    usual: dict[str, Any] = {
        "model": "openai/pocket-model",
        "api_base": f"{url}/v1",
        "api_key": key,
        "messages": [{"role": "user", "content": QUESTION}],
    }
    whole = litellm.completion(**usual)
    cut = litellm.completion(**usual, max_tokens=3, temperature=0, stop=["xyz"], seed=1, frequency_penalty=0.0)
    pieces = list(litellm.completion(**usual, stream=True))
    several = litellm.batch_completion(
        model=usual["model"], messages=[usual["messages"]] * 2, api_base=usual["api_base"], api_key=key
    )
    return {
        "whole": whole.choices[0].message.content,
        "cut": cut.choices[0].message.content,
        "cut_tokens": cut.usage.completion_tokens,
        "streamed": "".join(p.choices[0].delta.content or "" for p in pieces),
        "batch": [answer.choices[0].message.content for answer in several],
        "refused": _refusal(lambda: litellm.completion(**usual, response_format={"type": "json_object"})),
    }


def by_langchain(url: str, key: str) -> dict[str, Any]:
    from langchain_openai import ChatOpenAI

    usual: dict[str, Any] = {"model": "pocket-model", "base_url": f"{url}/v1", "api_key": key, "max_retries": 0}
    chat = ChatOpenAI(**usual)
    cut = ChatOpenAI(**usual, max_tokens=3, temperature=0, seed=1).invoke(QUESTION)
    return {
        "whole": chat.invoke(QUESTION).content,
        "cut": cut.content,
        "cut_tokens": cut.usage_metadata["output_tokens"],
        "streamed": "".join(str(piece.content) for piece in chat.stream(QUESTION)),
        "batch": [answer.content for answer in chat.batch([QUESTION, QUESTION])],
        "refused": _refusal(lambda: chat.invoke(QUESTION, response_format={"type": "json_object"})),
    }


def by_openai(url: str, key: str) -> dict[str, Any]:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    usual: dict[str, Any] = {"model": "pocket-model", "messages": [{"role": "user", "content": QUESTION}]}

    def whole(_: int = 0) -> str:
        return str(client.chat.completions.create(**usual).choices[0].message.content)

    cut = client.chat.completions.create(**usual, max_completion_tokens=3, temperature=0, seed=1)
    assert client.models.retrieve("pocket-model").id == "pocket-model"
    response = client.responses.create(model="pocket-model", input=QUESTION)
    assert response.output_text == whole()
    with ThreadPoolExecutor(2) as pool:
        batch = list(pool.map(whole, range(2)))
    return {
        "whole": whole(),
        "cut": cut.choices[0].message.content,
        "cut_tokens": cut.usage.completion_tokens if cut.usage else None,
        "streamed": "".join(
            piece.choices[0].delta.content or "" for piece in client.chat.completions.create(**usual, stream=True)
        ),
        "batch": batch,
        "refused": _refusal(lambda: client.chat.completions.create(**usual, response_format={"type": "json_object"})),
    }


def by_llm(url: str, key: str) -> dict[str, Any]:
    """The program `llm`, with the app among its models by a file, as its documentation shows it."""
    import llm  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        model = {"model_id": "spear", "model_name": "pocket-model", "api_base": f"{url}/v1", "api_key_name": "spear"}
        Path(folder, "extra-openai-models.yaml").write_text(json.dumps([model]))
        Path(folder, "keys.json").write_text(json.dumps({"spear": key}))

        def run(*flags: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "llm", "-m", "spear", "--no-log", *flags, QUESTION]
            environment = {**os.environ, "LLM_USER_PATH": folder}
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)

        def said(*flags: str) -> str:
            done = run(*flags)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        return {
            "whole": said("--no-stream"),
            "cut": said("--no-stream", "-o", "max_tokens", "3", "-o", "temperature", "0", "-o", "seed", "1"),
            "cut_tokens": None,  # it shows none
            "streamed": said(),
            "batch": [said("--no-stream") for _ in range(2)],
            "refused": run("--no-stream", "-o", "json_object", "1").stderr,
        }


def _refusal(call: Any) -> str:
    try:
        call()
    except Exception as error:
        return str(error)
    return ""


if __name__ == "__main__":
    clients = {"litellm": by_litellm, "langchain": by_langchain, "openai": by_openai, "llm": by_llm}
    try:
        print(json.dumps(clients[sys.argv[1]](sys.argv[2], sys.argv[3])))
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(77)
