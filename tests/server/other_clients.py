"""LiteLLM and langchain-openai in front of a running app: a script for an environment that has them. Prints JSON.

Run by test_other_clients.py; the environment: python -m venv E; E/bin/pip install litellm==1.110.0 langchain-openai==1.7.4
"""

from __future__ import annotations

import json
import sys
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


def _refusal(call: Any) -> str:
    try:
        call()
    except Exception as error:
        return str(error)
    return ""


if __name__ == "__main__":
    clients = {"litellm": by_litellm, "langchain": by_langchain}
    print(json.dumps(clients[sys.argv[1]](sys.argv[2], sys.argv[3])))
