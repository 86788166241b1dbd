"""Corrections made by talking: when a reply is the revision, and what the person's answer to "Learn this?" makes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from feedback_store import StoreError, UnknownRecord, UserStore
from feedback_store.transfer import Wanted
from services.app import AppServices
from services.chat.correction_reading import CorrectionReading
from services.models.built_in import SMOLLM2, model_folder, smollm2_weights
from services.views import MessageView
from spear_core.errors import SpearError
from spear_core.inference.correction_classifier import (
    FILE,
    STATES,
    CorrectionClassifier,
    FollowUpStates,
    Least,
    load_correction_classifier,
)
from spear_core.inference.corrections import FollowUp, cue, is_correction
from spear_core.models.loading import load_model
from spear_core.training.traces import Encoder
from tests.services.conftest import OpenBench
from tests.services.harness import ask
from tests.spear_core.inference.refused_questions import HELD_OUT, TUNED

QUESTION = "What is the capital of Norway?"
NO = "no, it's Oslo"


@pytest.fixture
def talk(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> AppServices:
    """The app as it is with a language model: the hint is read, and a sentence that states it is made."""
    settings = dataclasses.replace(app.engine.loaded.settings, revise_by_request_only=False)
    loaded = dataclasses.replace(app.engine.loaded, settings=settings)
    monkeypatch.setattr(app.engine, "model", dataclasses.replace(app.engine.model, loaded=loaded))
    return app


def pending(app: AppServices) -> list[tuple[str, str, str, str]]:
    """(side, question, completion, source) of what waits to be learned."""
    found = app.engine.store.traces(status="pending")
    return sorted((t.side, t.prompt[-1]["content"], t.completion, t.source) for t in found)


def shown(app: AppServices, message: MessageView) -> MessageView:
    return next(m for m in app.chat.messages(message.conversation_id) if m.id == message.id)


def test_the_reply_to_a_correction_is_the_revision_and_nothing_trains_without_a_yes(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    reply = ask(talk, NO, first.conversation_id)
    assert (reply.kind, reply.corrects, reply.hint) == ("message", first.id, NO)
    assert "Oslo" in reply.text and reply.text != first.text
    assert reply.can_be_learned and reply == dataclasses.replace(shown(talk, reply), versions=reply.versions)
    assert pending(talk) == [] and talk.learning.run_pending() == 0
    assert talk.engine.store.vote(first.id) == 0


@pytest.mark.parametrize("least", [float("-inf"), float("inf")])
def test_where_the_model_has_a_classifier_that_decides_and_not_the_words(talk: AppServices, least: float) -> None:
    engine = talk.engine
    states = FollowUpStates(engine.shared_models.base.base_model, engine.loaded.tokenizer, 1)
    nothing = torch.zeros(STATES * engine.shared_models.base.config.hidden_size), torch.zeros(3)
    engine.corrections = CorrectionReading()
    engine.corrections._of = engine.base, CorrectionClassifier(states, *nothing, Least(least, least, least))
    first = ask(talk, QUESTION)
    reply = ask(talk, "thats nonsense, the capital city there is Oslo", first.conversation_id)
    assert (reply.corrects == first.id) is (least < 0)
    again = ask(talk, NO, talk.chat.new_conversation().id)
    assert again.corrects is None, "there is nothing before it to be corrected"
    other = ask(talk, QUESTION)
    assert (ask(talk, NO, other.conversation_id).corrects == other.id) is (least < 0)
    third = ask(talk, QUESTION)
    assert ask(talk, "really?", third.conversation_id).corrects is None, "a question is none whatever the odds"


def test_a_classifier_that_cannot_be_used_leaves_the_words_to_decide(
    talk: AppServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(b"no weights")
    monkeypatch.setattr(
        talk.engine,
        "model",
        dataclasses.replace(talk.engine.model, loaded=dataclasses.replace(talk.engine.loaded, name=str(tmp_path))),
    )
    talk.engine.corrections = CorrectionReading()
    first = ask(talk, QUESTION)
    assert ask(talk, NO, first.conversation_id).corrects == first.id
    assert "told by their words alone" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(smollm2_weights() is None, reason="SmolLM2 is not installed")
def test_the_shipped_classifier_sees_corrections_that_the_words_do_not_show(tmp_path: Path) -> None:
    folder = model_folder(SMOLLM2, tmp_path / "data")
    loaded = load_model(folder)
    classifier = load_correction_classifier(Path(folder) / FILE, loaded.model.base_model, loaded.tokenizer)
    asked = "How should I prune my roses?", "Cut all the stems to the ground in June."
    for message, is_one in (
        ("thats bad advice, cut them back by a third in late winter", True),
        ("nope, late winter, just above a bud facing outwards", True),
        ("thanks, I'll do that at the weekend", False),
        ("no, I meant the ones in pots", False),
        ("mine have black spots on the leaves", False),
    ):
        follow_up = FollowUp(*asked, message)
        assert classifier.is_correction(follow_up, cue(follow_up)) is is_one, message


def test_yes_makes_the_traces_of_a_confirmed_revision(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    reply = ask(talk, NO, first.conversation_id)
    talk.feedback.better(reply.id)
    assert pending(talk) == [("lose", QUESTION, first.text, "confirmed"), ("win", QUESTION, reply.text, "confirmed")]
    assert all(
        len(t.prompt) == 1 for t in talk.engine.store.traces()
    )  # no hint in them, and nothing else that was said
    after = shown(talk, reply)
    assert after.verdict == "better" and not after.can_be_learned
    assert not shown(talk, first).can_be_hinted and not shown(talk, first).can_be_written


def test_no_stores_nothing_for_training_and_is_remembered(open_app: OpenBench) -> None:
    app = open_app()
    first = ask(app, QUESTION)
    reply = ask(app, NO, first.conversation_id)
    assert shown(app, reply).can_be_learned
    app.feedback.decline(reply.id)
    assert app.engine.store.traces() == []
    again = open_app()
    assert not shown(again, reply).can_be_learned and shown(again, reply).verdict == "declined"


@pytest.mark.slow
def test_the_question_asks_again_after_a_restart_and_a_yes_still_counts(open_app: OpenBench) -> None:
    app = open_app()
    first = ask(app, QUESTION)
    reply = ask(app, NO, first.conversation_id)
    app = open_app()
    assert shown(app, reply).can_be_learned and shown(app, reply).corrects == first.id
    app.feedback.like(reply.id)  # a thumbs-up says the same
    assert [side for side, *_ in pending(app)] == ["lose", "win"]


@pytest.mark.slow
def test_a_yes_is_learned_and_forgotten_like_any_correction(open_app: OpenBench) -> None:
    app = open_app()
    first = ask(app, QUESTION)
    reply = ask(app, NO, first.conversation_id)
    app.feedback.better(reply.id)
    assert app.learning.run_pending() == 1
    assert "Oslo" in ask(app, QUESTION).text
    (learned,) = app.learning.learned()
    assert (learned.message_id, learned.right, learned.status) == (first.id, reply.text, "learned")
    app.learning.forget([learned.message_id])
    assert app.engine.store.traces() == [] and app.learning.status().adapter_version == 0
    assert shown(app, reply).verdict is None and shown(app, reply).can_be_learned


def test_a_yes_taken_back_withdraws_what_was_not_trained(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    reply = ask(talk, NO, first.conversation_id)
    talk.feedback.better(reply.id)
    talk.feedback.clear_vote(reply.id)
    assert pending(talk) == [] and talk.engine.store.vote(first.id) == 0
    assert shown(talk, reply).can_be_learned
    talk.feedback.better(reply.id)
    talk.feedback.decline(reply.id)
    assert pending(talk) == []


def test_a_thumbs_down_on_a_correction_is_about_the_question_that_was_corrected(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    wrong = ask(talk, "no, it's Osaka", first.conversation_id)
    talk.feedback.dislike(wrong.id)
    assert pending(talk) == [("lose", QUESTION, first.text, "no_hint")]
    assert shown(talk, wrong).can_be_hinted and shown(talk, wrong).can_be_written
    assert not shown(talk, first).can_be_hinted, "the buttons are below the last try"
    revision = list(talk.chat.revise(wrong.id, "it's Oslo"))[-1]
    assert revision.revises == first.id and "Oslo" in revision.text and "Osaka" not in revision.text
    talk.feedback.better(revision.id)
    assert pending(talk) == [("lose", QUESTION, first.text, "confirmed"), ("win", QUESTION, revision.text, "confirmed")]


def test_a_thumbs_down_on_a_correction_can_be_taken_back(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    wrong = ask(talk, "no, it's Osaka", first.conversation_id)
    talk.feedback.dislike(wrong.id)
    talk.feedback.clear_vote(wrong.id)
    assert pending(talk) == [] and talk.engine.store.vote(first.id) == 0
    assert shown(talk, wrong).can_be_learned
    right = ask(talk, "no, sorry, it's Oslo", first.conversation_id)
    talk.feedback.better(right.id)
    talk.feedback.clear_vote(wrong.id)  # the other answer stays confirmed
    assert [side for side, *_ in pending(talk)] == ["lose", "win"] and shown(talk, right).verdict == "better"


def test_the_right_answer_written_under_a_correction_is_learned_for_the_corrected_question(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    wrong = ask(talk, "no, it's Osaka", first.conversation_id)
    edited = talk.feedback.edit(wrong.id, "It is Oslo.")
    assert edited.revises == first.id
    assert pending(talk) == [("lose", QUESTION, first.text, "edited"), ("win", QUESTION, "It is Oslo.", "edited")]


@pytest.mark.slow
def test_a_second_correction_is_about_the_same_question_and_replaces_the_first(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    wrong = ask(talk, "no, it's Osaka", first.conversation_id)
    talk.feedback.better(wrong.id)
    right = ask(talk, "no, sorry, it's Oslo", first.conversation_id)
    assert right.corrects == first.id and "Oslo" in right.text
    talk.feedback.better(right.id)
    assert pending(talk) == [("lose", QUESTION, first.text, "confirmed"), ("win", QUESTION, right.text, "confirmed")]
    assert shown(talk, wrong).verdict == "still_wrong"


def test_only_the_newest_correction_of_a_reply_asks_to_be_learned(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    wrong = ask(talk, "no, it's Osaka", first.conversation_id)
    right = ask(talk, "no, sorry, it's Oslo", first.conversation_id)
    assert [shown(talk, m).can_be_learned for m in (wrong, right)] == [False, True]


def read(app: AppServices, question: str, conversation_id: str) -> list[str]:
    """What the model reads of a new question."""
    return [m["content"] for m in app.chat.prompt_of(ask(app, question, conversation_id).id)]


def test_what_is_asked_next_is_read_with_the_corrected_reply(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    wrong = ask(talk, "no, it's Osaka", first.conversation_id)
    talk.feedback.better(wrong.id)
    right = ask(talk, "no, sorry, it's Oslo", first.conversation_id)
    talk.feedback.better(right.id)
    assert shown(talk, wrong).verdict == "still_wrong"
    owl = read(talk, "What is an owl?", first.conversation_id)
    assert owl[:2] == [QUESTION, right.text] and "no, sorry, it's Oslo" not in owl


@pytest.mark.parametrize("newer", ["edit", "better", "like"])
@pytest.mark.parametrize("agreed", [True, False])
def test_another_answer_confirmed_later_replaces_the_correction(talk: AppServices, newer: str, agreed: bool) -> None:
    first = ask(talk, QUESTION)
    wrong = ask(talk, "no, it's Osaka", first.conversation_id)
    if agreed:
        talk.feedback.better(wrong.id)
    if newer == "edit":
        right = talk.feedback.edit(first.id, "It is Oslo.").text
    elif newer == "better":
        revision = list(talk.chat.revise(first.id, NO))[-1]
        talk.feedback.better(revision.id)
        right = revision.text
    else:
        talk.feedback.like(first.id)
        right = first.text
    assert shown(talk, wrong).verdict == "still_wrong" and not shown(talk, wrong).can_be_learned
    assert read(talk, "What is an owl?", first.conversation_id)[:2] == [QUESTION, right]


def test_what_is_no_correction_is_read_as_it_was_said(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    reply = ask(talk, NO, first.conversation_id)
    talk.feedback.decline(reply.id)
    said = [QUESTION, first.text, NO, reply.text, "What is an owl?"]
    assert read(talk, "What is an owl?", first.conversation_id) == said


def test_a_correction_is_read_on_the_branch_that_is_shown(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    again = (list(talk.chat.regenerate(first.id))[-1] for _ in range(9))
    other = next(reply for reply in again if "Oslo" not in reply.text)  # they are drawn
    ask(talk, "What is an owl?", first.conversation_id)
    talk.chat.choose(first.id)
    assert ask(talk, NO, first.conversation_id).corrects == first.id
    talk.chat.choose(other.id)
    last = talk.chat.messages(first.conversation_id)[-1]
    reply = ask(talk, NO, first.conversation_id)  # here the last reply is about owls
    assert reply.corrects in (None, last.id)
    question = next(m for m in talk.chat.messages(first.conversation_id) if m.text == "What is an owl?")
    changed = list(talk.chat.resend(question.id, NO))[-1]
    assert changed.corrects == other.id


def test_answering_again_gives_the_usual_reply(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    reply = ask(talk, NO, first.conversation_id)
    again = list(talk.chat.regenerate(reply.id))[-1]
    assert again.corrects is None and not again.can_be_learned


@pytest.mark.parametrize("text", ["thanks!", "What is an owl?", "no, thanks", "that's wrong"])
def test_what_is_no_correction_or_states_no_answer_gets_the_usual_reply(talk: AppServices, text: str) -> None:
    reply = ask(talk, text, ask(talk, QUESTION).conversation_id)
    assert reply.text and reply.corrects is None and not reply.can_be_learned
    with pytest.raises(SpearError, match="Only a reply to a correction"):
        talk.feedback.decline(reply.id)


def test_the_persons_own_words_and_an_opening_message_are_not_corrected(talk: AppServices) -> None:
    assert ask(talk, NO).corrects is None
    first = ask(talk, QUESTION)
    talk.feedback.edit(first.id, "The capital of Norway is Osaka.")
    assert ask(talk, NO, first.conversation_id).corrects is None


def test_a_refused_revision_counts_among_what_was_refused(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    revision = list(talk.chat.revise(first.id, "no, it's Osaka"))[-1]
    reply = ask(talk, NO, first.conversation_id)
    assert reply.corrects == first.id and "Oslo" in reply.text
    talk.feedback.better(reply.id)
    assert shown(talk, revision).verdict == "still_wrong"
    assert [side for side, *_ in pending(talk)] == ["lose", "win"]


def test_where_the_chat_must_not_be_learned_from_nobody_is_asked(talk: AppServices) -> None:
    first = ask(talk, QUESTION, learn=False)
    reply = ask(talk, NO, first.conversation_id)
    assert reply.corrects == first.id and not reply.can_be_learned
    talk.chat.set_learn(first.conversation_id, True)
    assert shown(talk, reply).can_be_learned


@pytest.mark.slow
def test_whoever_chose_so_is_not_asked(talk: AppServices) -> None:
    first = ask(talk, QUESTION)
    talk.feedback.preferences.set_learns_corrections(True)
    reply = ask(talk, NO, first.conversation_id)
    assert reply.verdict == "better" and not reply.can_be_learned
    assert [side for side, *_ in pending(talk)] == ["lose", "win"]


def test_the_choice_is_each_users_own(talk: AppServices) -> None:
    store = talk.engine.store
    ann, ben = UserStore(store, "ann"), UserStore(store, "ben")
    ann.set_preference("x", True)
    assert (ann.preference("x"), ben.preference("x"), store.preference("x")) == (True, None, None)


def test_a_corrected_reply_is_no_anchor(talk: AppServices) -> None:
    store = talk.engine.store
    kept, first = ask(talk, "What is an owl?"), ask(talk, QUESTION)
    assert {r.id for _, r in store.unobjected_replies(10, 1)} == {kept.id, first.id}
    reply = ask(talk, NO, first.conversation_id)
    talk.feedback.better(reply.id)
    talk.feedback.clear_vote(reply.id)
    assert {r.id for _, r in store.unobjected_replies(10, 1)} == {kept.id}


def test_an_exported_conversation_keeps_its_corrections(open_app: OpenBench) -> None:
    app = open_app()
    first = ask(app, QUESTION)
    reply = ask(app, NO, first.conversation_id)
    records = list(app.engine.store.exported_records(Wanted()))
    app = open_app(fresh=True)
    assert app.engine.store.add_records(records) == 1
    assert shown(app, reply).corrects == first.id and shown(app, reply).can_be_learned
    with pytest.raises(StoreError, match="corrects_id"):
        stranger = ask(app, "What is an owl?")
        foreign = [{**r, "id": f"{r['id']}2"} for r in records if r["type"] == "conversation"]
        message = next(r for r in records if r["type"] == "message" and r["role"] == "user")
        foreign.append({**message, "id": "x", "conversation_id": foreign[0]["id"], "corrects_id": stranger.id})
        app.engine.store.add_records(foreign)
    with pytest.raises(UnknownRecord):
        app.engine.store.message("x")


def test_a_correction_stopped_before_its_end_is_not_learned(open_app: OpenBench) -> None:
    app = open_app()
    first = ask(app, QUESTION)
    views = []
    for view in app.chat.reply(first.conversation_id, NO):
        views.append(view)
        app.chat.stop(first.conversation_id)
    if views[-1].ending == "ended":
        pytest.skip("the reply was over before it could be stopped")
    assert not views[-1].can_be_learned
    if views[-1].corrects:
        with pytest.raises(SpearError, match="cut off"):
            app.feedback.better(views[-1].id)


REFUSALS = (
    "I'm unable to provide that.",
    "As an AI, I don't have access to personal information. Can I help you otherwise?",
)


def refused(app: AppServices, question: str, reply: str) -> str:
    """A conversation in which the model gave no answer; the id of that reply."""
    conversation = app.chat.new_conversation()
    asked = app.engine.store.add_message(conversation.id, "user", question)
    return app.engine.store.add_message(conversation.id, "assistant", reply, parent_id=asked.id).id


@pytest.mark.slow
@pytest.mark.parametrize("reply", REFUSALS)
@pytest.mark.parametrize("said", ["No, it is called Luna", "My cat is called Luna."])
def test_the_answer_that_the_model_refused_to_give_is_a_correction(talk: AppServices, reply: str, said: str) -> None:
    first = refused(talk, "What's my cat called?", reply)
    conversation = talk.engine.store.message(first).conversation_id
    revision = ask(talk, said, conversation)
    assert revision.corrects == first and revision.can_be_learned and "Luna" in revision.text


@pytest.mark.slow
@pytest.mark.parametrize("reply", REFUSALS)
@pytest.mark.parametrize(
    "said", ["My cat is ill.", "no, you can", "No, thanks", "My dog is called Rex", "Tell me a joke"]
)
def test_what_else_is_said_after_a_refusal_gets_the_usual_reply(talk: AppServices, reply: str, said: str) -> None:
    conversation = talk.engine.store.message(refused(talk, "What's my cat called?", reply)).conversation_id
    assert ask(talk, said, conversation).corrects is None


@pytest.mark.slow
@pytest.mark.skipif(smollm2_weights() is None, reason="SmolLM2 is not installed")
def test_the_default_model_takes_nothing_else_for_a_correction_after_a_refusal(tmp_path: Path) -> None:
    loaded = load_model(model_folder(SMOLLM2, tmp_path))
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    cases = [*TUNED, *HELD_OUT]
    found = [case for case in cases if is_correction(loaded.model, encoder, FollowUp(*case[:3]))]
    assert [case for case in found if not case[3]] == []
    assert len(found) >= 0.95 * sum(case[3] for case in cases)
