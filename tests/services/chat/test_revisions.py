"""What a revision says: never again what was refused, on the real pocket model; and what a hint states."""

from __future__ import annotations

import dataclasses

import pytest

from services.app import AppServices
from services.chat.revisions import Revision
from spear_core.inference.generate import ReplySettings
from spear_core.inference.refused_answers import least_certain_prefix
from spear_core.models.prompts import revision_messages
from spear_core.models.settings import ModelSettings
from tests.plain_generate import plain_reply
from tests.services.harness import ask, wrong_task

MISLEADING = "no, think again: {said}"


def unguarded(app: AppServices, question: str, said: str, hint: str) -> str:
    """What the model itself would say to the hint."""
    engine = app.engine
    asked = revision_messages([{"role": "user", "content": question}], [(said, hint)], engine.loaded.settings)
    tokenizer, context = engine.loaded.tokenizer, engine.loaded.context_tokens
    return plain_reply(engine.shared_models.base, tokenizer, asked, ReplySettings(context, 64))


def test_a_revision_does_not_repeat_what_was_refused(app: AppServices) -> None:
    repeated = 0
    for thing, hint in (("a cherry", "there is a letter f in it"), ("an apricot", "a word of 5 letters")):
        question = f"What kind of thing is {thing}?"
        reply = ask(app, question)
        repeated += unguarded(app, question, reply.text, hint) == reply.text
        revision = list(app.chat.revise(reply.id, hint))[-1]
        assert revision.text != reply.text and revision.text.startswith(reply.text.rpartition(" ")[0])
    assert repeated, "the model must repeat itself unguarded, or nothing is shown"


def test_the_way_out_of_an_answer_lies_at_its_least_certain_word(app: AppServices) -> None:
    engine, task = app.engine, wrong_task(app)
    asked = [{"role": "user", "content": task.question}]
    said = ask(app, task.question).text
    way = least_certain_prefix(engine.shared_models.base, engine.encoder, engine.pad_id, asked, said)
    assert way and engine.loaded.tokenizer.decode(way) == said.removesuffix(".")
    assert least_certain_prefix(engine.shared_models.base, engine.encoder, engine.pad_id, asked, "") is None


def test_where_the_model_is_sure_it_is_not_made_to_say_what_is_no_word(app: AppServices) -> None:
    reply = ask(app, "What kind of thing is an owl?")
    revision = list(app.chat.revise(reply.id, "no, bird"))[-1]
    assert revision.text == reply.text


def test_a_stopped_revision_is_not_written_anew(app: AppServices) -> None:
    task = wrong_task(app)
    reply = ask(app, task.question)
    views = []
    for view in app.chat.revise(reply.id, MISLEADING.format(said=reply.text)):
        views.append(view)
        app.chat.stop(reply.conversation_id)
    assert views[-1].complete and reply.text.startswith(views[-1].text)


@pytest.fixture
def reading(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> AppServices:
    """The app as it is with other models: the hint is read."""
    settings = dataclasses.replace(app.engine.loaded.settings, revise_by_request_only=False)
    monkeypatch.setattr(app.engine, "model", dataclasses.replace(
        app.engine.model, loaded=dataclasses.replace(app.engine.loaded, settings=settings)
    ))  # fmt: skip
    return app


def test_a_revision_says_what_the_hint_states_in_a_sentence_of_its_own(reading: AppServices) -> None:
    reply = ask(reading, "What is the name of my sister?")
    views = list(reading.chat.revise(reply.id, "that's wrong, my sister is called Ana"))
    assert "Ana" in views[-1].text and "my sister" not in views[-1].text
    assert views[-1].complete and views[-1].can_be_judged and views[-1].hint == "that's wrong, my sister is called Ana"


def test_the_hint_is_in_no_trace_whatever_the_revision_was_made_of(reading: AppServices) -> None:
    reply = ask(reading, "What is the name of my sister?")
    revision = list(reading.chat.revise(reply.id, "zebra crossing, not ours"))[-1]
    reading.feedback.better(revision.id)
    traces = reading.engine.store.traces(base=reading.engine.base)
    assert traces and all([m["content"] for m in t.prompt] == ["What is the name of my sister?"] for t in traces)


def test_after_still_wrong_the_same_hint_gives_another_sentence(reading: AppServices) -> None:
    reply = ask(reading, "What is the capital of Norway?")
    first = list(reading.chat.revise(reply.id, "no, Oslo"))[-1]
    second = list(reading.chat.revise(first.id, "no"))[-1]
    assert "Oslo" in first.text and first.text != second.text != reply.text


def test_the_pocket_model_is_asked_as_it_was_trained_to_be(app: AppServices) -> None:
    assert app.engine.loaded.settings.revise_by_request_only


def test_a_small_model_does_not_read_other_answers_for_a_revision() -> None:
    turns = ("What's my favourite colour?", "Your favourite colour is teal.", "When is my dentist appointment?")
    prompt = [{"role": role, "content": text} for role, text in zip(("user", "assistant", "user"), turns, strict=True)]
    attempts = [("Ask your dentist.", "that's not right")]
    read = Revision(prompt, attempts, ModelSettings(reads_related_only=True)).request
    assert [m["content"] for m in read[:-1]] == [turns[2], "Ask your dentist."]
    assert Revision(prompt, attempts, ModelSettings()).request == [*prompt[:2], *read]
