"""One row of a preference data set as examples to learn from. No files, no database.

The shapes are TRL's, https://huggingface.co/docs/trl/dataset_formats: preference rows (`chosen`, `rejected`) and unpaired
preference rows (`completion`, `label`), standard (texts) or conversational (messages), with a `prompt` or, for whole
conversations, without one. A row with several assistant turns gives one example a turn: the turn in which `chosen` and
`rejected` part is a pair, each later one stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from feedback_store.records import SOURCES, Role, Source
from feedback_store.transfer import Example
from services.chat.client_histories import History, Said, read_history
from services.settings import MAX_MESSAGE_CHARACTERS
from spear_core.errors import SpearError
from spear_core.training.judge import normalised

Row = dict[str, Any]
MAX_TURNS = 200  # of an answer of several turns: each later one is an example with all turns before it
ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class RowRefused(SpearError):
    """A row that cannot be learned from, and why."""


def moment(text: str) -> str:
    """A date or time as the store writes times; one without a zone is UTC. Raises SpearError."""
    try:
        said = datetime.fromisoformat(text)
        said = said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter where the year 1 of another zone is no year of UTC
        raise SpearError(f"{text[:80]!r} is not a date or time; write 2026-03-04 or 2026-03-04T05:06:07.") from None
    return said.isoformat(timespec="microseconds")


def preference(row: Row) -> list[Example]:
    """Raises RowRefused, or SpearError for a prompt that does not end with a question."""
    chosen, rejected = _answer(row, "chosen"), _answer(row, "rejected")
    _refuse_cut(row, "chosen")
    prompt = _prompt(row, "chosen", "rejected")
    if prompt is not None:
        prompt, chosen = _split(prompt, chosen, "chosen")
        prompt, rejected = _split(prompt, rejected, "rejected")
    shared = _shared(chosen, rejected)
    before = [*(prompt or []), *chosen[:shared]]
    chosen, rejected = chosen[shared:], rejected[shared:]
    if not chosen and not rejected:
        raise RowRefused("chosen and rejected are the same answer")
    if not chosen or not rejected:
        raise RowRefused("chosen and rejected must each have an answer of their own to the same question")
    if chosen[0].role != "assistant" or rejected[0].role != "assistant":
        raise RowRefused("chosen and rejected must part in an answer of the assistant")
    _check_turns(chosen, "chosen")
    _check_turns(rejected, "rejected")
    if normalised(chosen[0].text) == normalised(rejected[0].text):
        raise RowRefused("chosen and rejected are the same answer")
    about = _about(row, "edited", 1.0)
    return [
        about(_example(before, chosen[0].text, rejected[0].text)),
        *(about(_example([*before, *turns], text, None)) for turns, text in _later_answers(chosen)),
        *(about(_example([*before, *turns], None, text)) for turns, text in _later_answers(rejected)),
    ]


def unpaired(row: Row) -> list[Example]:
    """Raises RowRefused, or SpearError for a prompt that does not end with a question."""
    said = _answer(row, "completion")
    if "label" not in row:
        raise RowRefused("'label' is missing")
    label = row["label"]
    if not isinstance(label, bool | int | float) or label not in (0, 1):
        raise RowRefused("label must be true or false, or 1 or 0")
    if label:
        _refuse_cut(row, "completion")
    prompt = _prompt(row, "completion")
    if prompt is None:
        prompt, said = said[:-1], said[-1:]
    else:
        prompt, said = _split(prompt, said, "completion")
    if not said or said[0].role != "assistant":
        raise RowRefused("completion must be an answer of the assistant")
    _check_turns(said, "completion")
    about = _about(row, "liked", 1.0) if label else _about(row, "no_hint", 0.5)
    answers = [([], said[0].text), *_later_answers(said)]
    return [
        about(_example([*prompt, *turns], text if label else None, None if label else text)) for turns, text in answers
    ]


# -- texts and messages ------------------------------------------------------------------------------------------------


def _answer(row: Row, name: str) -> list[Said]:
    """A text as one message of the assistant, or a list of messages as it stands."""
    if name not in row:
        raise RowRefused(f"{name!r} is missing")
    if isinstance(row[name], str):
        return [Said("assistant", row[name])]
    said = _messages(row[name], name)
    if not said:
        raise RowRefused(f"{name} is empty")
    return said


def _refuse_cut(row: Row, name: str) -> None:
    """A right answer that did not end by itself would teach the model to end there: OpenAI's `finish_reason` says so,
    in the row or in the answer's last message."""
    said = row[name][-1] if isinstance(row[name], list) else {}
    reason = said.get("finish_reason", row.get("finish_reason"))
    if reason not in (None, "stop", "ended"):
        raise RowRefused(f"{name} was cut off (finish_reason {str(reason)[:40]!r}), and a cut answer is never learned as right")


def _prompt(row: Row, *answers: str) -> list[Said] | None:
    """None where the row has none, which whole conversations can do without."""
    if row.get("tools"):
        raise RowRefused("tools cannot be learned")
    prompt = row.get("prompt")
    if prompt is None:
        if any(isinstance(row[name], str) for name in answers):
            raise RowRefused("'prompt' is missing; only whole conversations can do without one")
        return None
    return [Said("user", prompt)] if isinstance(prompt, str) else _messages(prompt, "prompt")


def _messages(said: Any, name: str) -> list[Said]:
    """Neighbours of the assistant's become one message; other roles are handled by the history."""
    if not isinstance(said, Sequence) or isinstance(said, str | bytes):
        raise RowRefused(f"{name} must be a text or a list of messages")
    if not all(isinstance(message, dict) for message in said):
        raise RowRefused(f"{name} must be a text or a list of messages with role and content")
    messages: list[Said] = []
    for role, alike in groupby([Said(_role(message), _text(message)) for message in said], lambda s: s.role):
        messages += [Said(role, "\n\n".join(s.text for s in alike))] if role == "assistant" else alike
    return messages


def _role(message: Row) -> Role:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise RowRefused(f"a message's role is system, developer, user or assistant, not {str(role)[:80]!r}")
    return ROLES[role]


def _text(message: Row) -> str:
    if message.get("tool_calls"):
        raise RowRefused("a message that calls a tool cannot be learned")
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise RowRefused("a message's content must be a text or a list of parts")
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = str(part.get("type") if isinstance(part, dict) else type(part).__name__)[:80]
            raise RowRefused(f"only parts of type text can be learned, not {kind!r}")
        texts.append(part["text"])
    return "\n".join(texts)


def _shared(chosen: Sequence[Said], rejected: Sequence[Said]) -> int:
    """How many messages the two begin with alike."""
    for index, (one, other) in enumerate(zip(chosen, rejected, strict=False)):
        if one != other:
            return index
    return min(len(chosen), len(rejected))


def _split(prompt: list[Said], answer: list[Said], name: str) -> tuple[list[Said], list[Said]]:
    """The prompt, and what of a whole conversation follows it; an answer that stands alone is left as it is."""
    if not answer or answer[0].role == "assistant":
        return prompt, answer
    if answer[: len(prompt)] == prompt:
        return prompt, answer[len(prompt) :]
    if len(prompt) == 1:  # the bare question, and the conversation with a system message before it
        first = next((i for i, said in enumerate(answer) if said.role == "user"), None)
        if first is not None and answer[first] == prompt[0]:
            return answer[: first + 1], answer[first + 1 :]
    raise RowRefused(f"{name} is a conversation that does not begin with the prompt")


def _check_turns(said: Sequence[Said], name: str) -> None:
    """Answers that the page would take, with questions between them. Raises RowRefused."""
    if said[-1].role != "assistant":
        raise RowRefused(f"{name} must end with an answer of the assistant")
    if len(said) > MAX_TURNS:
        raise RowRefused(f"{name} has {len(said)} messages; {MAX_TURNS} are allowed")
    for message in said:
        if message.role == "system":
            raise RowRefused(f"a system message belongs into the prompt, not into {name}")
        if not message.text.strip():
            raise RowRefused(f"{name} is empty" if message.role == "assistant" else f"a question in {name} is empty")
        _check_length(message.text, name)


def _check_length(text: str, name: str) -> None:
    if len(text) > MAX_MESSAGE_CHARACTERS:
        raise RowRefused(f"{name} has {len(text):,} characters; {MAX_MESSAGE_CHARACTERS:,} are allowed")


def _later_answers(said: Sequence[Said]) -> list[tuple[list[Said], str]]:
    """Every answer after the first, with the messages of `said` before it."""
    return [(list(said[:i]), m.text) for i, m in enumerate(said) if i and m.role == "assistant"]


# -- examples ----------------------------------------------------------------------------------------------------------


def _example(said: Sequence[Said], right: str | None, wrong: str | None) -> Example:
    history = _history(said)
    if not history.question.strip():
        raise RowRefused("the question is empty")
    _check_length(history.question, "the question")
    return Example(history.system, history.turns, history.question, right, wrong, "edited", 1.0)


def _history(said: Sequence[Said]) -> History:
    """As it stands where question follows answer follows question, as in an export; anything else is put in order."""
    system = said[0].text if said and said[0].role == "system" else ""
    turns = list(said[bool(system) :])
    if len(turns) % 2 and [s.role for s in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        texts = [s.text for s in turns]
        return History(system, tuple(zip(texts[:-1:2], texts[1::2], strict=True)), texts[-1])
    return read_history(said)


def _about(row: Row, source: Source, confidence: float) -> Callable[[Example], Example]:
    """Puts into an example what the row's `spear` says about it, or what its shape says."""
    about = row.get("spear")
    if about is None:
        about = {}
    if not isinstance(about, dict):
        raise RowRefused("spear must be an object")
    given: dict[str, Any] = {
        "source": _source(about.get("source", source)),
        "confidence": _confidence(about.get("confidence", confidence)),
        "is_withdrawn": about.get("status") == "withdrawn",
    }
    if (at := about.get("created_at_utc")) is not None:
        if not isinstance(at, str):
            raise RowRefused("spear.created_at_utc must be a text")
        given |= {"created_at_utc": moment(at), "is_dated": True}
    return lambda example: replace(example, **given)


def _source(source: Any) -> Source:
    for known in SOURCES:
        if source == known:
            return known
    raise RowRefused(f"unknown source {str(source)[:80]!r}; there are: {', '.join(SOURCES)}")


def _confidence(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise RowRefused(f"confidence {str(value)[:80]} is not in (0, 1]")
    return float(value)
