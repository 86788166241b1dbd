"""Whether a message corrects the reply before it, by cues in its words and the model's judgement.

"no, it's Oslo" does; "no, thanks", "it's raining here" and "I'd rather learn Italian" do not. Precision matters more than
recall: a missed correction can still be made with thumbs-down, but a question taken for a correction gets a wrong reply.

The cues give a strong sign, a weak sign or none. A weak one ("the unicorn", "swedish krona") counts where the question makes
the message more likely: log pi(message | question) - log pi(message | a greeting), in nats per token, the pointwise mutual
information.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from spear_core.inference import correction_words as words_of
from spear_core.inference.answer_sentences import last_question
from spear_core.inference.fact_questions import read_question
from spear_core.inference.hint_words import (
    KINDS_OF_THING,
    OBJECTIONS,
    SMALL_STEMS,
    SMALL_WORDS,
    known_word,
    plain_words,
    stem,
)
from spear_core.inference.hints import Hint, HintKind, read_hint
from spear_core.inference.objecting_statements import states_otherwise
from spear_core.inference.refusal_words import NO_ANSWERS
from spear_core.inference.refusals import Fit, asks_back, fit, is_exact, refuses
from spear_core.models.causal_model import CausalModel
from spear_core.models.prompts import padding_token_id
from spear_core.training.scoring import score_rows
from spear_core.training.traces import Encoder, Messages

MIN_INFORMATION = 1.5  # nats per token above which a weak sign counts
MOST_WORDS = 25  # longest message that is taken for a correction
MOST_WORDS_READ = 40  # the same where a classifier reads it
MOST_PHRASE_WORDS = 4  # of a phrase without a verb that may be an answer
MOST_SURPRISED_WORDS = 3  # after "no way"
GREETING = "Hello."
_SENTENCE = re.compile(r"[^.!;,]+[.!;,]\s+(?=\w)")


class Sign(IntEnum):
    """How strongly a message looks like a correction."""

    NONE = 0
    WEAK = 1  # may be an answer to the question
    STRONG = 2


@dataclass(frozen=True)
class FollowUp:
    """A message with the question and the reply before it."""

    question: str
    reply: str
    message: str


def may_state(follow_up: FollowUp) -> bool:
    """Whether a message can be a correction at all: short, no question, and it states something."""
    message = " ".join(follow_up.message.split())
    words = plain_words(message)
    if not words or len(words) > MOST_WORDS_READ or message.endswith("?"):
        return False
    return read_hint(message, follow_up.question).kind is HintKind.STATES


def cue(follow_up: FollowUp) -> Sign:
    """The sign by the words alone."""
    message = " ".join(follow_up.message.split())
    typed = plain_words(message)
    refused = refuses(
        follow_up.reply
    )  # its last sentence may offer something else: "Can I help you with anything else?"
    words = words_of.after_interjection([known_word(word) for word in typed])
    objection = words_of.begins_with(words, words_of.OBJECTIONS)
    is_asked = asks_back(follow_up.reply, objection) and not refused
    if not typed or len(typed) > MOST_WORDS or message.endswith("?"):
        return Sign.NONE
    if is_asked:  # it may answer that, but not where it says what the person had asked for
        hint = read_hint(message, follow_up.question)
        return Sign.STRONG if _tells_of_the_person(follow_up, message, hint, False) else Sign.NONE
    explicit = words_of.begins_with(words, words_of.EXPLICIT_OBJECTIONS)
    if (words_of.begins_with(words, words_of.NOT_A_CORRECTION) and not explicit) or "?" in message:
        return Sign.NONE
    hint = read_hint(message, follow_up.question)
    if hint.kind in (HintKind.ASKS, HintKind.POINTS):
        return Sign.NONE
    if follow_up.reply.rstrip().endswith("?") and {*plain_words(hint.answer)} <= NO_ANSWERS and not refused:
        return Sign.NONE  # "no, nothing"
    if hint.kind is HintKind.OBJECTS:
        if len(words) == 1 and words[0] in words_of.BARE_NO or words_of.begins_with(words, words_of.SURPRISE):
            return Sign.NONE  # an answer to an offer, or surprise
        return Sign.STRONG if objection or _wrong_kind(words) else Sign.NONE
    if refused:
        return _after_refusal(follow_up, message, words, hint, objection)
    if _tells_of_the_person(follow_up, message, hint, objection):
        return Sign.STRONG
    if {*words} & words_of.OPINIONS or (
        words_of.begins_with(words, words_of.PERSONAL) and not explicit | bool(hint.statement)
    ):
        return Sign.NONE
    if words_of.begins_with(words, words_of.SURPRISE) and len(plain_words(hint.answer)) > MOST_SURPRISED_WORDS:
        return Sign.NONE
    sign = _of_answer(follow_up, words, hint.answer, hint.rejected, bool(hint.statement), objection, hint.announced)
    return sign if sign is not Sign.WEAK or _may_be_answered(follow_up, hint.answer) else Sign.NONE


def _after_refusal(follow_up: FollowUp, message: str, words: list[str], hint: Hint, objection: bool) -> Sign:
    """The sign of a message that states something after a reply that gave no answer (refusals.py)."""
    known = {stem(w) for w in plain_words(follow_up.reply)}
    if not {stem(w) for w in plain_words(hint.answer)} - known:
        return Sign.NONE  # it adds nothing to the reply
    if {stem(w) for w in plain_words(hint.rejected)} & known:
        return Sign.STRONG
    statement = _without_opening(message)
    found = fit(follow_up.question, follow_up.reply, statement, hint, objection)
    if found is Fit.PERHAPS and words_of.begins_with(words, words_of.PERSONAL):
        return Sign.NONE
    if found is Fit.PERHAPS and _is_certain(follow_up, statement, hint) and _is_personal(follow_up.question):
        return Sign.STRONG
    return {Fit.NONE: Sign.NONE, Fit.PERHAPS: Sign.WEAK, Fit.STATES: Sign.STRONG}[found]


def _tells_of_the_person(follow_up: FollowUp, message: str, hint: Hint, objection: bool) -> bool:
    """Whether a message answers a question about the person in another way than the reply did, as only they can.

    "My dog is called Bruno." after "Your dog is called Max." needs no "no". A message that holds all that the reply said
    adds to it.
    """
    if not _is_personal(follow_up.question):
        return False
    statement = _without_opening(message)
    found = fit(follow_up.question, follow_up.reply, statement, hint, objection)
    if found is Fit.NONE or found is Fit.PERHAPS and not _is_certain(follow_up, statement, hint):
        return False
    small = SMALL_STEMS | {stem(w) for w in plain_words(follow_up.question)}
    said = {stem(w) for w in plain_words(message)} - small
    replied = {stem(w) for w in plain_words(follow_up.reply)} - small
    return bool(said - replied) and not replied <= said


def _is_personal(question: str) -> bool:
    asked = read_question(question)
    return asked is not None and asked.is_personal


def _is_certain(follow_up: FollowUp, statement: str, hint: Hint) -> bool:
    """Whether it is a name or a number after "it's" ("It's Dr. Meier."), or the time or number that was asked for."""
    is_named = plain_words(statement)[0] in words_of.IT_IS and re.match(r"[A-Z0-9]", hint.answer) is not None
    return is_named or is_exact(follow_up.question, hint.answer)


def _without_opening(message: str) -> str:
    """The message without a sentence before it that says no more than that something is wrong: "That has changed."."""
    opening = _SENTENCE.match(message)
    is_empty = opening is not None and tuple(plain_words(opening[0])) in OBJECTIONS
    return message[opening.end() :] if opening and is_empty else message


def _may_be_answered(follow_up: FollowUp, answer: str) -> bool:
    """Whether the question has one answer, the reply gave one, and the message could be another."""
    question, reply = plain_words(last_question(follow_up.question)), plain_words(follow_up.reply)
    if not words_of.asks_for_a_fact(question) or words_of.begins_with(reply, words_of.HEDGES):
        return False
    return plain_words(answer)[0] not in words_of.PREPOSITIONS or bool({*question} & {"where", "when", "which"})


def _wrong_kind(words: list[str]) -> bool:
    """Whether it is of the form "wrong city" or "you got the year wrong"."""
    said = {*words} - SMALL_WORDS
    return bool(said & {"wrong", "incorrect", "mistaken"}) and said <= KINDS_OF_THING | words_of.ABOUT_THE_REPLY


def _of_answer(
    follow_up: FollowUp, words: list[str], answer: str, rejected: str, statement: bool, objection: bool, announced: bool
) -> Sign:
    """The sign of a message that states something, as another answer to the same question."""
    said = {stem(w) for w in plain_words(answer)} - SMALL_STEMS
    known = {stem(w) for w in plain_words(follow_up.reply)}
    asked = {stem(w) for w in plain_words(follow_up.question)} - SMALL_STEMS
    if not said - known or (said <= asked and not objection):
        return Sign.NONE  # it adds nothing to the reply
    if rejected and {stem(w) for w in plain_words(rejected)} & known:
        return Sign.STRONG
    content = {stem(w) for w in words if w not in SMALL_WORDS}
    is_about = bool(content & asked) or bool(content & (known - SMALL_STEMS))
    if words_of.begins_with(words, words_of.EXPLICIT_OBJECTIONS):
        return Sign.STRONG
    if objection:
        question = plain_words(last_question(follow_up.question))
        is_certain = words_of.asks_for_a_fact(question) or read_question(follow_up.question) is not None
        if is_certain and (words_of.is_flat(words) or is_about):
            return Sign.STRONG
        body = words_of.after_objection(words)
        return Sign.STRONG if states_otherwise(follow_up.question, follow_up.reply, body, answer) else Sign.WEAK
    if statement:
        return Sign.WEAK
    if not words_of.is_about_others(words):
        return Sign.NONE
    if announced and len(plain_words(answer)) <= MOST_PHRASE_WORDS:
        return Sign.WEAK
    if is_about:
        return Sign.WEAK
    return Sign.WEAK if len(words) <= MOST_PHRASE_WORDS and not {*words} & words_of.REACTIONS else Sign.NONE


def information(model: CausalModel, encoder: Encoder, follow_up: FollowUp) -> float:
    """The pointwise mutual information of question and message in nats per token, by one pass of the model."""
    answer = read_hint(follow_up.message, follow_up.question).answer or follow_up.message
    asked: list[Messages] = [[{"role": "user", "content": text}] for text in (follow_up.question, GREETING)]
    rows = score_rows(model, [encoder.plain(m, answer) for m in asked], padding_token_id(encoder.tokenizer), 2)
    return rows[0].mean_logp - rows[1].mean_logp


def is_correction(model: CausalModel, encoder: Encoder, follow_up: FollowUp, least: float = MIN_INFORMATION) -> bool:
    """Whether the message is a correction: a strong sign, or a weak one with at least `least` nats per token."""
    sign = cue(follow_up)
    return sign is Sign.STRONG or (sign is Sign.WEAK and information(model, encoder, follow_up) >= least)
