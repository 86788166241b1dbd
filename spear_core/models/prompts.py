"""From chat messages to token ids, and from a reply's ids to its text. No model, no sampling.

What a person types is data. A chat template writes its control tokens as text ("<|im_end|>"), and a tokenizer reads
that text back as control tokens wherever it stands, also inside a message: typing it would end the turn. Here only the
template's own text may become a control token; in a message the same characters stay characters. The one exception is
what the model itself wrote: the tags around its thought (thoughts.py) at the beginning of a reply stay tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from spear_core.errors import PromptTooLong
from spear_core.models.chat_template import SLOT, Layout, Message, ids_of, layout_of, render, slot
from spear_core.models.encoding import clean, encode_after, encode_data, encode_emitted, usable, whole_characters
from spear_core.models.settings import ModelSettings
from spear_core.models.thoughts import NO_THOUGHT, pieces, without_empty_thought

log = logging.getLogger(__name__)

ROLES = ("system", "user", "assistant")
MIN_PROMPT_TOKENS = 16
MAX_CHARACTERS_A_TOKEN = 32  # text beyond this many is dropped unread: it cannot fit, and reading it takes time
MIN_LAST_MESSAGE_TOKENS = 8  # the system prompt is shortened before less than this is left of the question


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
    cleaned = [{"role": m["role"], "content": clean(m["content"])} for m in messages]
    if unknown := {m["role"] for m in cleaned} - set(ROLES):
        raise ValueError(f"unknown roles {sorted(unknown)}; use {', '.join(ROLES)}")
    system, turns = _turns(cleaned)
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

    Of a thinking model a reply may begin with its thought, whose tags are encoded as tokens; one without a thought gets
    the empty one that the template writes. Where thinking is switched off, only the answer is encoded.
    """
    layout = layout_of(tokenizer)
    text = clean(text)
    if tokenizer.chat_template is None and text and not text[0].isspace():
        text = " " + text
    ids = encode_emitted(tokenizer, layout, layout.emitted(text))
    end = end_token_ids(tokenizer)
    return [*ids, *end[:1]] if ended else ids


def encode_no_thought(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What goes behind a prompt so that the model answers without thinking; nothing where it does not think anyway."""
    layout = layout_of(tokenizer)
    if not layout.thinks or layout.has_thought:
        return []
    return encode_emitted(tokenizer, layout, [(False, layout.empty_thought or NO_THOUGHT)])


def decode_reply(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a reply or of its beginning: `encode_completion` gives the ids back where the text is whole.

    Control tokens are left out, but for the tags around a thought. A thought that the prompt began is shown with its tag.
    """
    layout = layout_of(tokenizer)
    hidden = layout.thought_ids & frozenset(tokenizer.all_special_ids)
    if hidden.isdisjoint(ids):
        text = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    else:  # tags that the tokenizer counts among the special tokens would be dropped
        shown: list[str] = []
        start = 0
        for at in [i for i, token in enumerate(ids) if token in hidden]:
            shown += [str(tokenizer.decode(list(ids[start:at]), skip_special_tokens=True))]
            shown += [str(tokenizer.decode([ids[at]]))]
            start = at + 1
        text = "".join([*shown, str(tokenizer.decode(list(ids[start:]), skip_special_tokens=True))])
    text = layout.opened_thought + text if ids else text
    return without_empty_thought(text) if layout.empty_thought else text


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a bare text, as data: no template, no BOS, no end token, and no control token inside."""
    return encode_data(tokenizer, layout_of(tokenizer), clean(text), "")


def end_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end a reply, the chat template's own first, then EOS; what `generate(eos_token_id=...)` takes.

    Empty only if the tokenizer has neither.
    """
    layout = layout_of(tokenizer)
    found = (layout.turn_end, tokenizer.eos_token_id)
    return list(dict.fromkeys(token for token in found if token is not None and token not in layout.unusable))


def padding_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills up a batch; it is masked everywhere, so that any id will do where the tokenizer names none."""
    unusable = layout_of(tokenizer).unusable
    found = (tokenizer.pad_token_id, *end_token_ids(tokenizer), 0)
    return int(next(token for token in found if token is not None and token not in unusable))


def control_token_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that no message's text may ever become.

    All special tokens, whatever else among the added tokens the chat template writes, the tags around a thought, and ids
    for which the model has no embedding. The token for unknown characters is not among them: an unknown character is
    rightly encoded by it.
    """
    return layout_of(tokenizer).controls


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


def _slotted(layout: Layout, messages: Sequence[Message]) -> tuple[list[Message], list[tuple[int, str]]]:
    """The messages with slots for their texts, and (index of its message, text) for each slot.

    The tags of a thought stay in their place, so that the template does with it what it does.
    """
    texts: list[tuple[int, str]] = []
    slots: list[Message] = []
    for i, message in enumerate(messages):
        content = message["content"]
        parts = pieces(content) if layout.thinks and message["role"] == "assistant" else [(True, content)]
        told = ""
        for is_words, part in parts:
            told += slot(len(texts)) if is_words else part
            texts += [(i, part)] if is_words else []
        slots.append({"role": message["role"], "content": told})
    return slots, texts


def _encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    layout = layout_of(tokenizer)
    slots, texts = _slotted(layout, messages)
    parts = SLOT.split(render(tokenizer, slots, reply_follows=True))  # text, slot, text, slot, ..., text
    if not any(layout.control_text.search(text) for _, text in texts):
        ids = ids_of(tokenizer, render(tokenizer, messages, reply_follows=True))
        # a normaliser can turn other characters into a control token's: only the template's own may be there
        own = [i for part in parts[::2] for i in ids_of(tokenizer, part) if i in layout.controls]
        if [i for i in ids if i in layout.controls] == own:
            return usable(layout, ids)
    return [i for piece, _ in _pieces(tokenizer, messages) for i in piece]


def _pieces(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[tuple[list[int], int | None]]:
    """The prompt in pieces: (ids, index of the message they come from, or None for the template's own)."""
    layout = layout_of(tokenizer)
    slots, texts = _slotted(layout, messages)
    encoded: list[tuple[list[int], int | None]] = []
    before = ""
    for position, part in enumerate(SLOT.split(render(tokenizer, slots, reply_follows=True))):
        if position % 2 == 0:
            ids = encode_after(tokenizer, before, part) if position else ids_of(tokenizer, part)
            encoded.append((usable(layout, ids), None))
            before = part
        else:
            index, text = texts[int(part)]
            text = text.strip() if messages[index]["role"] in layout.strips else text
            encoded.append((encode_data(tokenizer, layout, text, before), index))
            before = ""
    return encoded


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
            end = whole_characters(tokenizer, said[-room:])
            return [i for ids, slot in pieces for i in (end if slot == question else ids)]
        if len(kept) > 1:
            log.warning("the system prompt leaves no room for the question; it is left out of this prompt")
    raise PromptTooLong(f"{max_tokens} tokens do not hold the chat template and a question; allow shorter replies")
