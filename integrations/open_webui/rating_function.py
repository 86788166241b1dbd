"""
title: SPEAR ratings
description: Sends the ratings of replies to SPEAR, whose model learns from them.
requirements: httpx
"""

# An event function of Open WebUI (0.12 and later: Admin Panel -> Functions -> import this file, switch it on, set its
# valves). Open WebUI tells it of every rating; it finds the reply in the chat that was stored with the rating, and sends
# vote and comment to /v1/feedback. Nothing is kept here, so it does not matter when either of the two was restarted.
# A file for Open WebUI: it imports nothing of SPEAR's. README.md says how to set it up.

import logging
from typing import Any

import httpx
from pydantic import BaseModel, Field

log = logging.getLogger(__name__)
RATED = ("feedback.created", "feedback.updated")


class Event:
    """What Open WebUI looks for in this file."""

    class Valves(BaseModel):
        """What an administrator sets."""

        url: str = Field(default="http://127.0.0.1:7860", description="Where SPEAR runs.")
        key: str = Field(default="none", description="The API key of the connection through which the chats go.")
        models: str = Field(default="", description="Ids of SPEAR's models, with commas; empty: every rated model.")

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._sent: dict[str, dict[str, Any]] = {}  # rating's id -> what was sent last, so that nothing is said twice

    async def event(self, event: dict[str, Any]) -> None:
        """Called by Open WebUI for everything that happens there."""
        if event.get("event") not in RATED:
            return
        from open_webui.models.feedbacks import Feedbacks

        rating = await Feedbacks.get_feedback_by_id(id=event["subject"]["id"])
        if rating is not None:
            await self.send(rating.id, rating.model_dump())

    async def send(self, rating_id: str, rating: dict[str, Any]) -> None:
        """Send what the rating says, unless it was sent already. What SPEAR refuses is logged in its own words."""
        said = feedback_of(rating, self.valves.models)
        if said is None or self._sent.get(rating_id) == said:
            return
        headers = {"Authorization": f"Bearer {self.valves.key}"}
        try:
            async with httpx.AsyncClient(base_url=self.valves.url, headers=headers, timeout=120) as client:
                answer = await client.post("/v1/feedback", json=said)
        except httpx.HTTPError as error:
            log.warning("SPEAR at %s could not be told of a rating: %s", self.valves.url, error)
            return
        if answer.status_code != 200:
            log.warning("SPEAR did not take a rating (%s): %s", answer.status_code, answer.text[:300])
            return
        self._sent[rating_id] = said


def feedback_of(rating: dict[str, Any], models: str = "") -> dict[str, Any] | None:
    """The body for /v1/feedback; None for a rating that is of another model, or says nothing.

    A thumbs-down with a comment is a hint, a thumbs-up on a reply that was edited there is an edit, all else a vote.
    """
    data = rating.get("data") or {}
    wanted = [name.strip() for name in models.split(",") if name.strip()]
    if wanted and data.get("model_id") not in wanted:
        return None
    messages, shown = history_of(rating)
    vote = {"1": "up", "-1": "down"}.get(str(data.get("rating")))
    if not messages or vote is None:
        return None
    comment = str(data.get("comment") or "").strip()
    if vote == "down" and comment:
        return {"messages": messages, "hint": comment}
    if vote == "up" and shown.strip() not in ("", messages[-1]["content"].strip()):
        return {"messages": messages, "edit": shown}
    return {"messages": messages, "vote": vote}


def history_of(rating: dict[str, Any]) -> tuple[list[dict[str, str]], str]:
    """The chat up to the rated reply as the model said it, from the copy of it that Open WebUI stores with a rating, and
    that reply as it is shown. Empty where it is not in the copy.
    """
    chat = ((rating.get("snapshot") or {}).get("chat") or {}).get("chat") or {}
    stored = (chat.get("history") or {}).get("messages") or {}
    found: list[dict[str, str]] = []
    place = (rating.get("meta") or {}).get("message_id")
    shown = str((stored.get(place) or {}).get("content") or "")
    while place in stored and len(found) <= len(stored):
        message = stored[place]
        if message.get("role") in ("user", "assistant"):
            said = message.get("originalContent") or message.get("content") or ""
            found.append({"role": message["role"], "content": str(said)})
        place = message.get("parentId")
    return (found[::-1], shown) if found and found[0]["role"] == "assistant" else ([], "")
