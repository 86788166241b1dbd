"""A second front end: chats, corrects, and waits until the model itself answers better. Needs only the API.

python docs/second_front_end.py http://127.0.0.1:7860 KEY "What is the capital of Norway?" "no, Oslo"
"""

import sys
import time

import httpx
from openai import OpenAI


def main(url: str, key: str, question: str, hint: str) -> None:
    chat = OpenAI(base_url=f"{url}/v1", api_key=key)
    http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120)
    model = chat.models.list().data[0].id

    def ask() -> str:
        """Print the reply as it streams; returns its message id."""
        for chunk in chat.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], stream=True
        ):
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        print(f"   [adapter v{chunk.adapter_version}]")
        return chunk.message_id

    def say(message_id: str, **said: str) -> dict:
        answer = http.post("/v1/feedback", json={"message_id": message_id, **said})
        answer.raise_for_status()
        return answer.json()

    revision = say(ask(), hint=hint)["revision"]
    print("Revised:", revision["text"])
    status = say(revision["message_id"], verdict="better")["learning"]
    while status["pending_wins"] or status["phase"] in ("queued", "training", "checking"):
        time.sleep(0.5)
        status = http.get("/v1/learning").json()
    print(status["headline"])
    ask()


if __name__ == "__main__":
    main(*sys.argv[1:5])
