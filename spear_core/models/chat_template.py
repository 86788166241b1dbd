"""What a tokenizer and its chat template do: control tokens, the end of a turn, thinking. Found by rendering a probe.

No message is encoded here (prompts.py).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from spear_core.errors import ConfigError
from spear_core.models.thoughts import CLOSE, NO_THOUGHT, OPEN, answer_of, pieces

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
SLOT = re.compile(r"QxSlot(\d+)xQ")  # stands for a message's text while the template is rendered
SWITCHED_OFF = "{%- set enable_thinking = false -%}"  # put before a template: the name that templates ask for
_PLAIN_NAME = {"user": "User: ", "assistant": "Assistant: "}


@dataclass(frozen=True)
class Layout:
    """What one tokenizer and its chat template do.

    Attributes:
        template: the chat template this was made from; a tokenizer's can be replaced.
        controls: ids that no message's text may become: control tokens, and ids that cannot be embedded.
        unusable: those that cannot be embedded; not even the template may write them.
        control_text: matches, without consuming, wherever a control token's text begins.
        turn_end: the token after an assistant's message.
        before_reply: the template's last words before a reply.
        strips: roles whose text the template trims.
        thinks: whether the model writes thoughts.
        empty_thought: what the template writes between the prompt and an answer without a thought.
        thought_ids: the ids of the two tags, where they are tokens.
    """

    template: object
    controls: frozenset[int]
    unusable: frozenset[int]
    control_text: re.Pattern[str]
    turn_end: int | None
    before_reply: str
    strips: frozenset[str]
    thinks: bool
    empty_thought: str
    thought_ids: frozenset[int]

    @property
    def opened_thought(self) -> str:
        """The beginning of a thought that the prompt ends with, such as "<think>\\n"; empty where it has none."""
        at = self.before_reply.rfind(OPEN)
        return self.before_reply[at:] if at >= 0 and CLOSE not in self.before_reply[at:] else ""

    @property
    def has_thought(self) -> bool:
        """Whether the prompt ends with a whole thought: thinking is switched off."""
        return self.thinks and CLOSE in self.before_reply

    def emitted(self, text: str) -> list[tuple[bool, str]]:
        """A reply as the model writes it after the prompt: `thoughts.pieces`, the tags as this template has them."""
        if not self.thinks:
            return [(True, text)]
        if not text:
            return [(False, self.empty_thought)]
        if self.has_thought:
            return [(True, answer_of(text))]
        if not text.lstrip().startswith(OPEN):
            return [(False, self.empty_thought), (True, text)]
        if opened := self.opened_thought:
            inside = OPEN + text.lstrip()[len(OPEN) :].removeprefix(opened[len(OPEN) :])
            (_, head), *rest = pieces(inside)
            return [(False, head[len(OPEN) :]), *rest]
        return pieces(text)


_LAYOUTS: WeakKeyDictionary[PreTrainedTokenizerBase, Layout] = WeakKeyDictionary()
_EMBEDDED: WeakKeyDictionary[PreTrainedTokenizerBase, int] = WeakKeyDictionary()


def layout_of(tokenizer: PreTrainedTokenizerBase) -> Layout:
    """The layout, found once for a tokenizer and its template."""
    layout = _LAYOUTS.get(tokenizer)
    if layout is None or layout.template != tokenizer.chat_template:
        layout = _LAYOUTS[tokenizer] = _probe(tokenizer)
    return layout


def limit_ids(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Never encode anything into an id of `rows` or above: the model has no embedding for it."""
    _EMBEDDED[tokenizer] = rows
    _LAYOUTS.pop(tokenizer, None)


def can_switch_thinking(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template asks if the model is to think, and does something about it."""
    if not layout_of(tokenizer).thinks:
        return False
    asked = [{"role": "user", "content": slot(0)}]
    return len({render(t, asked, reply_follows=True) for t in (tokenizer, with_thinking(tokenizer, False))}) > 1 or (
        is_switched_off(tokenizer)
    )


def is_switched_off(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `with_thinking` told the template that the model is not to think."""
    return isinstance(tokenizer.chat_template, str) and tokenizer.chat_template.startswith(SWITCHED_OFF)


def with_thinking(tokenizer: PreTrainedTokenizerBase, thinks: bool) -> PreTrainedTokenizerBase:
    """The tokenizer whose template lets the model think, or not; a copy where that is another one."""
    if thinks is not is_switched_off(tokenizer) or not isinstance(tokenizer.chat_template, str):
        return tokenizer
    other = copy.deepcopy(tokenizer)
    template = tokenizer.chat_template
    other.chat_template = template.removeprefix(SWITCHED_OFF) if thinks else SWITCHED_OFF + template
    if rows := _EMBEDDED.get(tokenizer):
        limit_ids(other, rows)
    return other


def slot(index: int) -> str:
    """What stands for a text while the template is rendered; no person types it by chance."""
    return f"QxSlot{index}xQ"


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a template's text: control tokens are read as such, and nothing is put around it."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) if text else []


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, reply_follows: bool) -> str:
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


def _probe(tokenizer: PreTrainedTokenizerBase) -> Layout:
    added = {i: token for i, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    rows = _EMBEDDED.get(tokenizer, len(tokenizer))
    probe = [{"role": "user", "content": f" {slot(0)} "}, {"role": "assistant", "content": f" {slot(1)} "}]
    closed = render(tokenizer, probe, reply_follows=False)
    opened = render(tokenizer, [{"role": "user", "content": slot(0)}], reply_follows=True)
    written: set[int] = set()  # what the template itself writes
    for text in (closed, opened):
        written.update(ids_of(tokenizer, SLOT.sub("", text)))
    named = set(tokenizer.all_special_ids)
    thought_ids = frozenset(i for i, token in added.items() if token.content in (OPEN, CLOSE))
    controls = {
        i for i, token in added.items() if token.special or i in named or i in written or i in thought_ids or i >= rows
    }
    # "<unk>" as text is neutralised like the others, but its id stands for unknown characters
    texts = {added[i].content for i in controls}
    others = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    if tokenizer.unk_token_id not in others:
        controls.discard(tokenizer.unk_token_id)
    unusable = frozenset(range(rows, len(tokenizer)))
    longest_first = "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
    turn_end = None
    if tokenizer.chat_template is not None:
        after = closed.rpartition(slot(1))[2]
        turn_end = next((i for i in ids_of(tokenizer, after) if i in controls and i not in unusable), None)
    before_reply = opened.rpartition(slot(0))[2]
    return Layout(
        template=tokenizer.chat_template,
        controls=frozenset(controls | unusable),
        unusable=unusable,
        control_text=re.compile(f"(?={longest_first})" if longest_first else "(?!)"),
        turn_end=turn_end,
        before_reply=before_reply,
        strips=frozenset(
            role
            for index, roles in ((0, ("system", "user")), (1, ("assistant",)))
            for role in roles
            if f" {slot(index)}" not in closed or f"{slot(index)} " not in closed
        ),
        thinks=bool(thought_ids) or CLOSE in str(tokenizer.chat_template),
        empty_thought=_empty_thought(tokenizer, before_reply),
        thought_ids=thought_ids,
    )


def _empty_thought(tokenizer: PreTrainedTokenizerBase, before_reply: str) -> str:
    """What stands between the prompt and an answer without a thought; empty where nothing does."""
    at = before_reply.rfind(OPEN)
    if at >= 0:  # the prompt begins the thought itself, or has all of it
        begun = before_reply[at:]
        return "" if CLOSE in begun else NO_THOUGHT[len(OPEN) :].removeprefix(begun[len(OPEN) :])
    closed = render(
        tokenizer,
        [{"role": "user", "content": slot(0)}, {"role": "assistant", "content": slot(1)}],
        reply_follows=False,
    )
    between = closed.rpartition(slot(1))[0].rpartition(slot(0))[2].removeprefix(before_reply)
    return between if between.lstrip().startswith(OPEN) else ""
