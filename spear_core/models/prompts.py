"""From chat messages to token ids and back to where a reply ends. No model, no sampling.

What a person types is data. A chat template writes its control tokens as text ("<|im_end|>"), and a tokenizer reads
that text back as control tokens wherever it stands, also inside a message: typing it would end the turn. Here only the
template's own text may become a control token; in a message the same characters stay characters.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from weakref import WeakKeyDictionary

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from spear_core.errors import ConfigError, PromptTooLong
from spear_core.models.settings import ModelSettings

log = logging.getLogger(__name__)

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
ROLES = ("system", "user", "assistant")
MIN_PROMPT_TOKENS = 16
MAX_CHARACTERS_A_TOKEN = 32  # text beyond this many is dropped unread: it cannot fit, and reading it takes time
MIN_LAST_MESSAGE_TOKENS = 8  # the system prompt is shortened before less than this is left of the question
_SLOT = re.compile(r"QxSlot(\d+)xQ")  # stands for a message's text while the template is rendered
_PLAIN_NAME = {"user": "User: ", "assistant": "Assistant: "}


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, max_tokens: int) -> list[int]:
    """Token ids of a conversation that ends with the user, ready for the reply.

    With a chat template, exactly what `apply_chat_template` gives, unless a message contains a control token's text.
    Then template and messages are encoded apart, so that such text stays text. Without a template:
    "User: ...\\nAssistant:", after BOS if the tokenizer has one. A template that refuses a system message (Gemma's)
    gets it at the head of the first user message.

    Too long a conversation loses its oldest turns (a user message and its replies), not the system prompt. If the last
    message alone is too long, its end is kept; a system prompt that leaves it fewer than 8 tokens is left out.

    Returns:
        At most `max_tokens` ids.

    Raises:
        PromptTooLong: if `max_tokens` is below 16, or the template alone takes them all.
        ConfigError: if the model's chat template cannot render the conversation.
        ValueError: for an unknown role, or if the last message is not the user's.
    """
    if max_tokens < MIN_PROMPT_TOKENS:
        raise PromptTooLong(f"only {max_tokens} tokens are left for the prompt; allow shorter replies")
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a prompt ends with a message of the user")
    clean = [{"role": m["role"], "content": _clean(m["content"])} for m in messages]
    if unknown := {m["role"] for m in clean} - set(ROLES):
        raise ValueError(f"unknown roles {sorted(unknown)}; use {', '.join(ROLES)}")
    system, turns = _turns(clean)
    limit = max_tokens * MAX_CHARACTERS_A_TOKEN
    turns[-1][-1]["content"] = turns[-1][-1]["content"][-limit:]
    while len(turns) > 1 and sum(len(m["content"]) for turn in turns for m in turn) > limit:
        del turns[0]
    ids = _encode_chat(tokenizer, [*system, *(m for turn in turns for m in turn)])
    if len(ids) <= max_tokens:
        return ids
    fewest, most = 1, len(turns) - 1  # the number of turns to drop lies between these
    fitting: list[int] | None = None
    while fewest <= most:
        drop = (fewest + most) // 2
        ids = _encode_chat(tokenizer, [*system, *(m for turn in turns[drop:] for m in turn)])
        if len(ids) <= max_tokens:
            fitting, most = ids, drop - 1
        else:
            fewest = drop + 1
    return fitting if fitting is not None else _encode_end(tokenizer, system, turns[-1][-1], max_tokens)


def encode_completion(tokenizer: PreTrainedTokenizerBase, text: str, *, ended: bool = True) -> list[int]:
    """Token ids of a reply as the model would have written it after `encode_prompt`, its end token included.

    The end is the token that the chat template puts after an assistant's message ("<|im_end|>", "<end_of_turn>"), or
    EOS where it puts none. Without a template the reply is set off from "Assistant:" by a space. With `ended` False the
    reply goes on, and no end token follows.
    """
    layout = _layout(tokenizer)
    text = _clean(text)
    if tokenizer.chat_template is None and text and not text[0].isspace():
        text = " " + text
    ids = _encode_data(tokenizer, layout, text, layout.before_reply)
    end = end_token_ids(tokenizer)
    return [*ids, *end[:1]] if ended else ids


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a bare text, as data: no template, no BOS, no end token, and no control token inside."""
    return _encode_data(tokenizer, _layout(tokenizer), _clean(text), "")


def end_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end a reply, the chat template's own first, then EOS; what `generate(eos_token_id=...)` takes.

    Empty only if the tokenizer has neither.
    """
    found = (_layout(tokenizer).turn_end, tokenizer.eos_token_id)
    return list(dict.fromkeys(token for token in found if token is not None))


def padding_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills up a batch; it is masked everywhere, so that any id will do where the tokenizer names none."""
    found = (tokenizer.pad_token_id, *end_token_ids(tokenizer), 0)
    return int(next(token for token in found if token is not None))


def control_token_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that no message's text may ever become.

    All special tokens and whatever else among the added tokens the chat template writes. The token for unknown
    characters is not among them: an unknown character is rightly encoded by it.
    """
    return _layout(tokenizer).controls


def template_token_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """All ids that the template itself writes around a user's message: control tokens, role names, line ends.

    What may be left out of a question must not be among them.
    """
    frame = _encode_chat(tokenizer, [{"role": "user", "content": ""}])
    return control_token_ids(tokenizer) | frozenset(frame)


def revision_messages(
    prompt: Sequence[Message], attempts: Sequence[tuple[str, str | None]], settings: ModelSettings
) -> list[Message]:
    """The conversation that asks for a better answer: the prompt, then each attempt and what was said about it.

    For sampling a revision only. The hint never goes to a training context: traces are built on `prompt` alone
    (arXiv 2605.07977: both sides use the original prompt).

    Args:
        prompt: messages up to and including the user's question.
        attempts: (reply, hint) in the order they were given; a hint of None or spaces is no hint.
        settings: the model's own wording of the request.
    """
    messages = [dict(message) for message in prompt]
    for reply, hint in attempts:
        hint = (hint or "").strip()
        # replace, not format: braces in a hint are the person's
        request = settings.revise_with_hint.replace("{hint}", hint) if hint else settings.revise_without_hint
        messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": request}]
    return messages


@dataclass(frozen=True)
class _Layout:
    """What one tokenizer and its chat template do, found by rendering a probe conversation."""

    template: object  # the chat template this was made from; a tokenizer's can be replaced
    controls: frozenset[int]
    control_text: re.Pattern[str]  # matches, without consuming, wherever a control token's text begins
    turn_end: int | None
    before_reply: str  # the template's last words before a reply
    strips: frozenset[str]  # roles whose text the template trims


_LAYOUTS: WeakKeyDictionary[PreTrainedTokenizerBase, _Layout] = WeakKeyDictionary()


def _layout(tokenizer: PreTrainedTokenizerBase) -> _Layout:
    layout = _LAYOUTS.get(tokenizer)
    if layout is None or layout.template != tokenizer.chat_template:
        layout = _LAYOUTS[tokenizer] = _probe(tokenizer)
    return layout


def _probe(tokenizer: PreTrainedTokenizerBase) -> _Layout:
    added = {i: token for i, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    probe = [{"role": "user", "content": f" {_slot(0)} "}, {"role": "assistant", "content": f" {_slot(1)} "}]
    closed = _render(tokenizer, probe, reply_follows=False)
    opened = _render(tokenizer, [{"role": "user", "content": _slot(0)}], reply_follows=True)
    written: set[int] = set()  # what the template itself writes
    for text in (closed, opened):
        written.update(_ids(tokenizer, _SLOT.sub("", text)))
    named = set(tokenizer.all_special_ids)
    controls = {i for i, token in added.items() if token.special or i in named or i in written}
    # "<unk>" as text is neutralised like the others, but its id stands for unknown characters
    texts = {added[i].content for i in controls}
    others = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    if tokenizer.unk_token_id not in others:
        controls.discard(tokenizer.unk_token_id)
    longest_first = "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
    turn_end = None
    if tokenizer.chat_template is not None:
        after = closed.rpartition(_slot(1))[2]
        turn_end = next((i for i in _ids(tokenizer, after) if i in controls), None)
    return _Layout(
        template=tokenizer.chat_template,
        controls=frozenset(controls),
        control_text=re.compile(f"(?={longest_first})" if longest_first else "(?!)"),
        turn_end=turn_end,
        before_reply=opened.rpartition(_slot(0))[2],
        strips=frozenset(
            role
            for slot, roles in ((0, ("system", "user")), (1, ("assistant",)))
            for role in roles
            if f" {_slot(slot)}" not in closed or f"{_slot(slot)} " not in closed
        ),
    )


def _slot(index: int) -> str:
    return f"QxSlot{index}xQ"


def _clean(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates, which no tokenizer accepts, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) if text else []


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, reply_follows: bool) -> str:
    """The conversation as text, control tokens written out.

    Raises:
        ConfigError: if the template refuses even the folded conversation.
    """
    if tokenizer.chat_template is None:
        lines = [_PLAIN_NAME.get(m["role"], "") + m["content"] + "\n" for m in messages]
        return (tokenizer.bos_token or "") + "".join(lines) + ("Assistant:" if reply_follows else "")
    refusal: Exception | None = None
    for attempt in (list(messages), _fold(messages)):
        try:
            text = str(tokenizer.apply_chat_template(attempt, tokenize=False, add_generation_prompt=reply_follows))
        except TemplateError as e:
            refusal = e
            continue
        if all(m["content"].strip() in text for m in attempt if m["role"] == "system"):
            return text
        refusal = None  # it dropped the system message in silence; the folded conversation has none
    reason = " ".join(str(refusal).split())[:160]
    raise ConfigError(f"the model's chat template refuses this conversation ({reason}); use another model") from refusal


def _fold(messages: Sequence[Message]) -> list[Message]:
    """The same conversation for strict templates: no system message, roles that alternate, the user first."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    folded: list[Message] = []
    for message in messages:
        if message["role"] == "system" or (message["role"] == "assistant" and not folded):
            continue
        if folded and folded[-1]["role"] == message["role"]:
            folded[-1]["content"] += "\n\n" + message["content"]
        else:
            folded.append(dict(message))
    if folded and system:
        folded[0]["content"] = "\n\n".join([*system, folded[0]["content"]])
    return folded


def _encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    layout = _layout(tokenizer)
    if not any(layout.control_text.search(m["content"]) for m in messages):
        ids = _ids(tokenizer, _render(tokenizer, messages, reply_follows=True))
        # a normaliser can turn other characters into a control token's: only the template's own may be there
        own = [i for part in _parts(tokenizer, messages)[::2] for i in _ids(tokenizer, part) if i in layout.controls]
        if [i for i in ids if i in layout.controls] == own:
            return ids
    return [i for piece, _ in _pieces(tokenizer, messages) for i in piece]


def _parts(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[str]:
    """What the template writes around the messages: text, index of a message, text, index, ..., text."""
    slots = [{"role": m["role"], "content": _slot(i)} for i, m in enumerate(messages)]
    return _SLOT.split(_render(tokenizer, slots, reply_follows=True))


def _pieces(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[tuple[list[int], int | None]]:
    """The prompt in pieces: (ids, index of the message they come from, or None for the template's own)."""
    layout = _layout(tokenizer)
    pieces: list[tuple[list[int], int | None]] = []
    before = ""
    for position, part in enumerate(_parts(tokenizer, messages)):
        if position % 2 == 0:
            pieces.append((_encode_after(tokenizer, before, part) if position else _ids(tokenizer, part), None))
            before = part
        else:
            message = messages[int(part)]
            text = message["content"].strip() if message["role"] in layout.strips else message["content"]
            pieces.append((_encode_data(tokenizer, layout, text, before), int(part)))
            before = ""
    return pieces


def _encode_data(tokenizer: PreTrainedTokenizerBase, layout: _Layout, text: str, before: str) -> list[int]:
    """A person's text, in which no control token may arise: cut inside each place where one's text begins.

    `before` is the template's text in front of it, which decides whether a SentencePiece tokenizer puts a space there.
    """
    cuts = [0, *(match.start() + 1 for match in layout.control_text.finditer(text)), len(text)]
    ids: list[int] = []
    for start, end in pairwise(cuts):
        ids += _encode_cut(tokenizer, layout, text[start:end], before if start == 0 else "\n")
    return ids


def _encode_cut(tokenizer: PreTrainedTokenizerBase, layout: _Layout, text: str, before: str) -> list[int]:
    ids = _encode_after(tokenizer, before, text)
    if layout.controls.isdisjoint(ids):
        return ids
    # a normaliser made a control token out of other characters: halve the text until it is broken
    if len(text) > 1:
        middle = len(text) // 2
        first = _encode_cut(tokenizer, layout, text[:middle], before)
        return first + _encode_cut(tokenizer, layout, text[middle:], "\n")
    return [i for i in ids if i not in layout.controls]  # a control token of one character: it cannot be said


def _encode_after(tokenizer: PreTrainedTokenizerBase, before: str, text: str) -> list[int]:
    """Ids of `text` as they are when it follows `before`, without those of `before`.

    Encoded on its own, a SentencePiece tokenizer would put a space in front. Where the two would share a token, a
    neutral text goes first instead.
    """
    if not text:
        return []
    for anchor in (before, "\n", "."):
        head = _ids(tokenizer, anchor)
        both = _ids(tokenizer, anchor + text) if head else []
        if len(both) > len(head) and both[: len(head)] == head:
            return both[len(head) :]
    return _ids(tokenizer, text)


def _turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The leading system messages, and the rest in turns that each begin with a user message."""
    head = next(i for i, m in enumerate(messages) if m["role"] != "system")
    turns: list[list[Message]] = []
    for message in messages[head:]:
        if not turns or (message["role"] == "user" and any(m["role"] == "user" for m in turns[-1])):
            turns.append([])
        turns[-1].append(message)
    return list(messages[:head]), turns


def _encode_end(
    tokenizer: PreTrainedTokenizerBase, system: Sequence[Message], last: Message, max_tokens: int
) -> list[int]:
    """The system prompt and as much of the end of the last message as fits."""
    for kept in ([*system, last], [last]):
        pieces = _pieces(tokenizer, kept)
        question = len(kept) - 1
        said = next((ids for ids, slot in pieces if slot == question), [])
        room = max_tokens - sum(len(ids) for ids, slot in pieces if slot != question)
        wanted = min(MIN_LAST_MESSAGE_TOKENS, len(said)) if len(kept) > 1 else 1
        if room >= max(wanted, 1):
            end = _whole_characters(tokenizer, said[-room:])
            return [i for ids, slot in pieces for i in (end if slot == question else ids)]
        if len(kept) > 1:
            log.warning("the system prompt leaves no room for the question; it is left out of this prompt")
    raise PromptTooLong(f"{max_tokens} tokens do not hold the chat template and a question; allow shorter replies")


def _whole_characters(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Without the rest of a character whose first bytes were cut off."""
    for start in range(min(4, len(ids))):
        if not str(tokenizer.decode(ids[start : start + 8])).startswith("\ufffd"):
            return ids[start:]
    return ids
