"""Candidate revisions with the answer that the hint states, ranked by the model.

The model writes one candidate with a bias towards the answer (copy_bias.py). Others put the answer into the sentence of the
refused reply (answer_sentences.py) or into the words of the question (question_sentences.py). The model, told the answer,
scores all of them in one pass. Candidates that add claims, repeat a refused answer or show the wording of the request are
left out. The answer alone ("Oslo.") is always a candidate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from spear_core.inference import answer_sentences as sentences
from spear_core.inference import question_sentences, sentence_parts
from spear_core.inference.copy_bias import CopyBias
from spear_core.inference.generate import ReplySettings
from spear_core.inference.generation import generate
from spear_core.inference.hint_words import plain_words
from spear_core.inference.hints import Hint, HintKind, capitalised, read_hint
from spear_core.inference.letter_case import (
    DESCRIBING,
    asks_for_name,
    case_variants,
    one_capital_each,
    with_capitals,
    within_sentence,
    without_yes_or_no,
)
from spear_core.inference.own_names import asks_own_name, own_name
from spear_core.inference.pronoun_subjects import with_subject
from spear_core.inference.typed_words import is_about_exact_letters, with_names_of
from spear_core.models.causal_model import CausalModel
from spear_core.models.prompts import decode_reply, encode_no_thought, encode_prompt, encode_text, padding_token_id
from spear_core.models.thoughts import answer_of
from spear_core.training.judge import normalised
from spear_core.training.scoring import score
from spear_core.training.traces import Encoder, Messages

TOLD = "Question: {question}\nFact: The answer is {answer}.\nAnswer the question with the fact."
# Openings that repeat the request.
SCAFFOLDING = (
    "The answer",
    "Answer",
    "The correct",
    "The right",
    "Fact",
    "The fact",
    "Question",
    "The question",
    "The original",
    "Based on",
)
_NAMES_REQUEST = r"\b(?:answer|fact|question|response|information)\b"
_SHOWS_REQUEST = re.compile(
    rf"^(?:the |my |your )?(?:\w+ )?{_NAMES_REQUEST}.{{0,30}}? (?:is|was)\b"
    r"|^.{0,40}\b(?:to|of) (?:the|this|your) question\b",
    re.I,
)
_ASKS_FOR_SUCH = re.compile(_NAMES_REQUEST, re.I)  # "the answer to the riddle"
HEADS_SCORED = 3  # places in the refused reply's sentence at which the answer is most likely
ADDED_WORD = 0.15  # nats per token: penalty for a word that neither question nor answer has
MIN_GAIN = 2.0  # nats: by which a capital must be likelier where the question gives no sentence for it
SURPRISE = -7.0  # nats: a sentence with a token less likely than this is unnatural
ASKED_GAIN = 0.4  # nats per token: for a sentence in the words of the question
SUBJECT_COST = 0.3  # nats per token: penalty for "Oslo is the capital" compared with "The capital is Oslo"
GOOD = -0.6  # nats per token: above it the model writes no candidate of its own
DOUBTFUL = -3.0  # nats per token: below it the replacement in a long reply makes no sense
NO_CHARACTER = "\ufffd"  # what invalid bytes decode to
LONGEST_BARE = 6  # words of an answer that is said without its statement
LONGEST_PART = 9  # words of an answer that may be a part of another sentence
LONGEST_REASON = 24  # of a reason ("because ..."), which may be a clause
EXTRA_TOKENS = 40  # tokens that the written sentence may have besides the answer


@dataclass(frozen=True)
class Candidate:
    """A candidate. `source`: replaced | reply | question | hint | written | bare. `score`: nats per token, higher is better."""

    text: str
    source: str
    score: float


@dataclass(frozen=True)
class Asked:
    """What is revised: the conversation up to the question, and the refused replies, oldest first."""

    prompt: Messages
    refused: Sequence[str]

    @property
    def question(self) -> str:
        """The text of the last message of the prompt."""
        return self.prompt[-1]["content"]

    def told(self, answer: str) -> Messages:
        """The messages of a prompt in which the question is asked together with the answer."""
        text = TOLD.replace("{question}", self.question).replace("{answer}", answer)
        return [*self.prompt[:-1], {"role": "user", "content": text}]


def stated_revisions(
    model: CausalModel,
    encoder: Encoder,
    asked: Asked,
    hint: Hint,
    *,
    is_unwanted: Callable[[], bool] = lambda: False,
) -> list[Candidate]:
    """Candidate revisions with `hint.answer`.

    Args:
        model: scores them, and writes one.
        encoder: of the model.
        asked: what is revised.
        hint: states the answer.
        is_unwanted: called between the passes; True ends the work with the candidates found so far.

    Returns:
        The best first; empty where all are refused answers.
    """
    reply = asked.refused[-1]
    said = hint.statement or hint.answer
    if is_objection := (meant := sentences.without_objection(asked.question, said, reply)) != said:
        hint = read_hint(meant, asked.question)
        if hint.kind is not HintKind.STATES:
            return []
    name = own_name(hint.answer) if asks_own_name(asked.question) else ""
    question = with_names_of(reply, asked.question)
    given = sentence_parts.who_does(asked.question, hint.answer)
    answer = name or within_sentence(_told(question, _as_written(model, encoder, asked, given)), asked.question)
    affirmed = question_sentences.affirmed(asked.question, answer) if is_objection else []
    begins = "yes" if affirmed else sentences.yes_or_no(asked.question, hint.statement or hint.answer)
    found: dict[str, str] = {}
    # nothing is built around a clause: "Your name is You are Bo."
    is_part = not sentence_parts.is_clause(name or sentences.to_you(given))
    if is_part and (replaced := sentences.in_place_of(hint.rejected, answer, reply)) is not None:
        (changed,) = _scored(model, encoder, asked, answer, {sentences.sentence_with(answer, replaced): "replaced"})
        if len(replaced.split()) > sentences.LONG_REPLY_WORDS and changed.score > DOUBTFUL and not begins:
            return [Candidate(replaced, "replaced", changed.score)]  # of a long reply only the wrong answer is replaced
        found[changed.text] = "replaced"
    is_reason = sentences.gives_reason(asked.question, answer)
    if (is_part or is_reason) and len(answer.split()) <= (LONGEST_REASON if is_reason else LONGEST_PART):
        asked_in = question_sentences.from_question(question, answer)
        found |= {text: "question" for text in asked_in if text not in found}
        for head in _best_heads(model, encoder, asked, answer):
            said = sentences.said_to_you(head, asked.question)
            text = sentences.sentence(sentence_parts.joined(said, answer))
            # "Your mum is" ends too early where "Your mum is from Graz." is known
            if text in found or not any(question_sentences.is_begun_by(known, said) for known in asked_in):
                found.setdefault(text, "reply")
        if (other := sentences.with_other_subject(reply, answer, asked.question)) is not None:
            found.setdefault(other, "reply")
    found |= dict.fromkeys(affirmed, "question")
    if hint.statement:
        found.setdefault(sentences.sentence(_told(question, hint.statement)), "hint")
    if not hint.statement or len(answer.split()) <= LONGEST_BARE:
        found.setdefault(sentences.bare(answer), "bare")

    def fit(texts: dict[str, str]) -> dict[str, str]:
        return {
            text: source
            for text, source in texts.items()
            if _is_fit(text, answer, hint.rejected, asked)
            and (not begins or plain_words(text)[:1] == [begins])  # "Yes, Pluto is a dwarf planet." says the opposite
            and not (is_objection and plain_words(text)[:1] == ["no"])
        }

    candidates = _scored(model, encoder, asked, answer, fit(found))
    # what a small model writes itself of a reason is bent to fit: "The sky blue is because ..."
    if likely := [c for c in candidates if is_reason and c.source == "question" and c.score > DOUBTFUL]:
        return likely + [c for c in candidates if c not in likely]
    if not is_part and not is_reason and candidates:
        return candidates  # a clause is a sentence: "The dress code is there's no dress code."
    if not is_unwanted() and (not candidates or candidates[0].score < GOOD):
        own = sentences.said_to_you(_written(model, encoder, asked, answer, is_unwanted), asked.question)
        written = sentences.sentence(own)
        if written not in found and sentences.has_verb(written):
            candidates += _scored(model, encoder, asked, answer, fit({written: "written"}))
    return sorted(candidates, key=lambda c: c.score, reverse=True)


def _told(question: str, stated: str) -> str:
    """What a person stated, as it is said to them in answer to the question."""
    return with_subject(question, sentences.with_comma(question, sentences.to_you(stated)))


@torch.inference_mode()
def _as_written(model: CausalModel, encoder: Encoder, asked: Asked, answer: str) -> str:
    """The answer with the capitals of names: those that the question asks for, and others where the model finds them likely.

    A colour or a job has none: "Your favourite colour is teal.". In a description, each word is decided by itself: "Paul and
    his wife Sabine".
    """
    if is_about_exact_letters(asked.question):
        return answer
    typed, *others = case_variants(answer, asked.question)
    if not others or sentence_parts.is_clause(sentences.to_you(without_yes_or_no(answer))):
        return with_capitals(answer, [])
    is_small, describes = typed == typed.lower(), {*plain_words(answer)} & DESCRIBING
    if is_small and not describes and asks_for_name(asked.question):
        return others[0]
    variants = [typed, *(one_capital_each(typed, others[0]) if is_small and describes else others)]
    texts = [_around_answer(asked.question, variant) for variant in variants] if is_small else []
    is_known = bool(texts) and all(texts)
    prompt, said = (asked.told(typed), texts) if is_known else (asked.prompt, [f"It is {v}." for v in variants])
    examples = [encoder.plain(prompt, text) for text in said]
    scores = score(model, examples, padding_token_id(encoder.tokenizer), every_token=True)
    logps = scores.logps.sum(-1)  # padding counts 0
    if not is_small:
        return variants[int(logps.argmax())]
    least = float(logps[0]) + (0.0 if is_known else MIN_GAIN)
    return with_capitals(typed, [v for v, logp in zip(variants[1:], logps[1:].tolist(), strict=True) if logp > least])


def _around_answer(question: str, answer: str) -> str:
    """A sentence in the words of the question in which the answer is not at the beginning; empty where there is none."""
    found = question_sentences.from_question(question, answer)
    return next((text for text in found if not text.lower().startswith(answer.lower())), "")


@torch.inference_mode()
def _best_heads(model: CausalModel, encoder: Encoder, asked: Asked, answer: str) -> list[str]:
    """Beginnings of the refused reply after which the model, told the answer, finds it most likely."""
    tokenizer = encoder.tokenizer
    heads = sentences.endings(asked.refused[-1], asked.question)
    if len(heads) <= HEADS_SCORED:
        return heads
    whole, first = encode_text(tokenizer, heads[-1]), encode_text(tokenizer, " " + answer)
    begun = encode_no_thought(tokenizer)
    room = encoder.context_tokens - len(whole) - len(begun)
    prompt = [*encode_prompt(tokenizer, list(asked.told(answer)), max_tokens=room), *begun]
    ids = torch.tensor([[*prompt, *whole]], device=next(model.parameters()).device)
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(whole) + 1).logits[0]  # (1 + n, V)
    ready = logits.float().log_softmax(-1)[
        :, first[0]
    ]  # (1 + n,): log-probability of the answer's first token after so many tokens
    places = {head: len(tokens) for head in heads if whole[: len(tokens := encode_text(tokenizer, head))] == tokens}
    return sorted(places, key=lambda head: float(ready[places[head]]), reverse=True)[:HEADS_SCORED]


def _written(model: CausalModel, encoder: Encoder, asked: Asked, answer: str, is_unwanted: Callable[[], bool]) -> str:
    """The model's own sentence. It does not begin with the answer: another candidate does."""
    tokenizer = encoder.tokenizer
    bias = CopyBias(tokenizer, answer, [*SCAFFOLDING, answer, capitalised(answer)])
    longest = EXTRA_TOKENS + len(encode_text(tokenizer, answer))
    settings = ReplySettings(encoder.context_tokens, longest, hook=bias, skips_thought=True)
    request = settings.request(tokenizer, asked.told(answer))
    (made,) = generate(model, [replace(request, is_unwanted=is_unwanted)])
    return answer_of(decode_reply(tokenizer, [*settings.begun_ids(tokenizer), *made.tokens])).strip()


def _is_fit(text: str, answer: str, rejected: str, asked: Asked) -> bool:
    """Whether it contains the answer, not what the hint rejects, repeats no refused answer and shows no request."""
    plain, wanted = " ".join(plain_words(text)), " ".join(plain_words(answer))
    wrong = " ".join(plain_words(rejected))
    parts = filter(
        None, (" ".join(plain_words(part)) for part in answer.split(", "))
    )  # "three kids, two girls" has them
    told = text.replace(answer, "") if _ASKS_FOR_SUCH.search(answer) else text
    shows_request = told.startswith(SCAFFOLDING) or _SHOWS_REQUEST.match(told)
    return (
        (all(f" {part} " in f" {plain} " for part in parts) if wanted else answer in text)
        and not (wrong and f" {wrong} " in f" {plain} " and f" {wrong} " not in f" {wanted} ")
        and normalised(text) not in {normalised(old) for old in asked.refused}
        and (_ASKS_FOR_SUCH.search(asked.question) is not None or not shows_request)
        and "\n" not in text
        and NO_CHARACTER not in text
    )


@torch.inference_mode()
def _scored(model: CausalModel, encoder: Encoder, asked: Asked, answer: str, fit: dict[str, str]) -> list[Candidate]:
    texts = list(fit)
    if not texts:
        return []
    examples = [encoder.plain(asked.told(answer), text) for text in texts]
    scores = score(model, examples, padding_token_id(encoder.tokenizer), every_token=True)
    candidates = []
    asks_why = sentences.gives_reason(asked.question, answer)
    has_other_subject = any(fit[text] == "question" and not text.lower().startswith(answer.lower()) for text in texts)
    for text, example, logps in zip(texts, examples, scores.logps, strict=True):
        own = logps[: len(example.completion_ids)]
        added = sentences.added_words(text, asked.question, answer)
        cost = ADDED_WORD * len(added) * (fit[text] not in ("replaced", "hint"))
        is_asked = fit[text] == "question"
        judged = own[1:] if is_asked and len(own) > 1 else own  # "You", where the model would begin in another way
        is_sure = fit[text] in ("bare", "hint") or is_asked and not asks_why
        if not is_sure and float(judged.min()) < SURPRISE:
            cost -= DOUBTFUL
        elif fit[text] not in ("replaced", "hint") and len(added) > sentences.MOST_ADDED_WORDS:
            continue
        if is_asked:
            is_inverse = has_other_subject and text.lower().startswith(answer.lower())
            cost += SUBJECT_COST if is_inverse else -ASKED_GAIN
        candidates.append(Candidate(text, fit[text], float(own.mean()) - cost))
    return sorted(candidates, key=lambda c: c.score, reverse=True)
