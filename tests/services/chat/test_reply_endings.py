"""How a reply ended: stored, shown, continued; and a reply that was cut off never teaches the model where to end."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest

from feedback_store import Message, NewTrace, Store
from feedback_store.transfer import Wanted
from services.app import AppServices
from services.chat.sampling import Sampling, usual_sampling
from services.data.trl_rows import RowRefused, preference, unpaired
from services.learning import labels
from services.views import MessageView
from spear_core.errors import SpearError
from tests.blocked_decoder import HeldReplies
from tests.services.harness import ask

OWL, ROSE = "What kind of thing is an owl?", "What kind of thing is a rose?"
FEW = 3  # tokens: fewer than any whole answer of the pocket model


def ask_cut(app: AppServices, text: str, most: int = FEW) -> MessageView:
    conversation = app.chat.new_conversation()
    app.chat.set_sampling(conversation.id, Sampling(max_new_tokens=most))
    return list(app.chat.reply(conversation.id, text))[-1]


def lengthen(app: AppServices, reply: MessageView) -> None:
    app.chat.set_sampling(reply.conversation_id, Sampling())


def wins(app: AppServices) -> list[str]:
    return [t.completion for t in app.engine.store.traces(base=app.engine.base, side="win") if t.status != "withdrawn"]


def test_a_whole_reply_has_ended_and_cannot_be_continued(app: AppServices) -> None:
    reply = ask(app, OWL)
    assert reply.ending == "ended" and not app.chat.messages(reply.conversation_id)[-1].can_go_on
    with pytest.raises(SpearError, match="Only a reply that was cut off can be continued"):
        list(app.chat.go_on(reply.id))


def test_a_reply_cut_at_its_longest_is_continued_in_the_same_message_to_what_it_would_have_been(
    app: AppServices,
) -> None:
    whole = ask(app, OWL)
    cut = ask_cut(app, OWL)
    assert cut.ending == "length" and whole.text.startswith(cut.text) and cut.text != whole.text
    assert app.chat.messages(cut.conversation_id)[-1].can_go_on
    again = list(app.chat.go_on(cut.id))[-1]
    assert (again.id, again.ending) == (cut.id, "length"), "three tokens more"
    assert len(again.text) > len(cut.text) and whole.text.startswith(again.text)
    lengthen(app, cut)
    views = list(app.chat.go_on(cut.id))
    assert all(view.text.startswith(again.text) for view in views), "it grows, and nothing is taken back"
    assert (views[-1].text, views[-1].ending, views[-1].complete) == (whole.text, "ended", True)
    assert [m.text for m in app.chat.messages(cut.conversation_id)] == [OWL, whole.text]


def test_only_the_last_reply_of_a_conversation_is_continued(app: AppServices) -> None:
    cut = ask_cut(app, OWL)
    ask(app, ROSE, cut.conversation_id)
    assert not app.chat.messages(cut.conversation_id)[1].can_go_on
    with pytest.raises(SpearError, match="Only the last reply"):
        list(app.chat.go_on(cut.id))


@pytest.mark.parametrize(("is_reader_lost", "ending"), [(False, "stopped"), (True, "lost")])
def test_who_stopped_a_reply_is_remembered(app: AppServices, is_reader_lost: bool, ending: str) -> None:
    conversation = app.chat.new_conversation()
    with HeldReplies(app.engine.batching, app.engine.loaded.tokenizer) as held:
        views = app.chat.reply(conversation.id, OWL)
        waiting = app.chat._replies
        reader = threading.Thread(target=lambda: list(views))
        reader.start()
        held.until(1)
        assert waiting.of(conversation.id)
        app.chat.stop(conversation.id, is_reader_lost=is_reader_lost)
    reader.join()
    reply = app.chat.messages(conversation.id)[-1]
    assert (reply.ending, reply.complete) == (ending, True)
    whole = list(app.chat.go_on(reply.id))[-1]
    assert whole.ending == "ended" and whole.text == ask(app, OWL).text


def test_a_reader_who_is_lost_ends_only_the_reply_that_was_read(app: AppServices) -> None:
    earlier = ask(app, OWL)
    with HeldReplies(app.engine.batching, app.engine.loaded.tokenizer) as held:
        views = app.chat.reply(earlier.conversation_id, ROSE)
        reader = threading.Thread(target=lambda: list(views))
        reader.start()
        held.until(1)
        app.chat.stop(earlier.conversation_id, earlier.id, is_reader_lost=True)
    reader.join()
    reply = app.chat.messages(earlier.conversation_id)[-1]
    assert reply.ending == "ended" and reply.text


def test_what_was_being_written_when_the_process_ended_is_lost(app: AppServices) -> None:
    store = app.engine.store
    question = store.add_message(store.create_conversation().id, "user", OWL)
    reply = store.add_message(question.conversation_id, "assistant", "An", parent_id=question.id, complete=False)
    assert store.end_unfinished_replies() == 1
    assert store.message(reply.id).ending == "lost" and store.message(reply.id).is_cut


def test_a_thumbs_up_on_a_cut_reply_teaches_nothing_until_the_reply_is_whole(app: AppServices) -> None:
    cut, other = ask_cut(app, OWL), ask_cut(app, ROSE)
    app.feedback.like(cut.id)
    app.feedback.like(other.id)
    assert wins(app) == [] and not app.learning.run_pending(), "replies would stop there from now on"
    assert app.chat.messages(cut.conversation_id)[-1].vote == 1, "the vote itself is kept"
    lengthen(app, cut)
    whole = list(app.chat.go_on(cut.id))[-1]
    assert wins(app) == [whole.text], "the vote counts now, of the reply that was continued"


@pytest.mark.slow
def test_a_confirmed_revision_that_was_cut_is_no_win_until_it_is_whole(app: AppServices) -> None:
    first = ask(app, OWL)
    (revision,) = [list(app.chat.revise(first.id, "a bird"))[-1]]
    store = app.engine.store
    store.update_message(revision.id, text="An owl", ending="length")
    app.feedback.better(revision.id)
    assert wins(app) == []
    (rejected,) = [t for t in store.traces(base=app.engine.base, side="lose") if t.status == "pending"]
    assert (rejected.completion, rejected.confidence) == (first.text, 0.5), "as of a reply that was never put right"
    whole = list(app.chat.go_on(revision.id))[-1]
    assert whole.ending == "ended" and whole.text.startswith("An owl") and wins(app) == [whole.text]


def test_the_judge_leaves_a_cut_revision_alone(app: AppServices) -> None:
    first = ask(app, OWL)
    revision = list(app.chat.revise(first.id, "a bird"))[-1]
    ask(app, ROSE, first.conversation_id)  # the person has moved on
    assert [r.id for _, r, _ in app.self_play._unjudged()] == [revision.id]
    app.engine.store.update_message(revision.id, ending="stopped")
    assert app.self_play._unjudged() == []


@pytest.mark.parametrize("ending", ["length", "stopped", "lost"])
def test_no_label_is_made_of_a_cut_reply(ending: str) -> None:
    cut = Message("m", "c", 1, "assistant", "message", "An owl is", "q", None, None, None, 0, True, "", ending)
    prompt = [{"role": "user", "content": OWL}]
    assert labels.liked("base", prompt, cut) == []
    sides = [trace.side for trace in labels.replaced("base", prompt, cut, cut, "confirmed")]
    assert sides == ["lose"]


def test_an_answer_that_was_cut_elsewhere_is_not_imported_as_a_right_one() -> None:
    said = [{"role": "assistant", "content": "An owl is", "finish_reason": "length"}]
    with pytest.raises(RowRefused, match="chosen was cut off .* never learned as right"):
        preference({"prompt": OWL, "chosen": said, "rejected": "a fish"})
    with pytest.raises(RowRefused, match="completion was cut off"):
        unpaired({"prompt": OWL, "completion": "An owl is", "label": True, "finish_reason": "length"})
    assert unpaired({"prompt": OWL, "completion": "An owl is", "label": False, "finish_reason": "length"})
    assert preference({"prompt": OWL, "chosen": "A bird.", "rejected": said})
    whole = [{"role": "assistant", "content": "A bird.", "finish_reason": "stop"}]
    assert preference({"prompt": OWL, "chosen": whole, "rejected": "a fish"})


def test_an_imported_conversation_brings_no_win_of_a_cut_reply(app: AppServices, tmp_path: Path) -> None:
    store = app.engine.store
    cut = ask_cut(app, OWL)
    prompt = [{"role": "user", "content": OWL}]
    new = NewTrace("win", cut.conversation_id, cut.id, cut.id, prompt, cut.text, 1.0, "liked", app.engine.base)
    store.add_traces([new])  # as an earlier version made it
    records = [dict(record) for record in store.exported_records(Wanted())]
    assert [r["ending"] for r in records if r["type"] == "message" and r["role"] == "assistant"] == ["length"]
    with Store(tmp_path / "elsewhere.sqlite3") as elsewhere:
        assert elsewhere.add_records(records) == 1
        assert elsewhere.message(cut.id).is_cut
        assert [t.status for t in elsewhere.traces()] == ["withdrawn"]


def test_the_usual_sampling_is_the_models_own_or_greedy_without_long_repetitions(app: AppServices) -> None:
    loaded = app.engine.loaded
    assert usual_sampling(loaded) == Sampling(), "the pocket model's spear.json says so"
    plain = dataclasses.replace(loaded, settings=dataclasses.replace(loaded.settings, sampling=None))
    assert usual_sampling(plain) == Sampling(no_repeat_ngram=12)
    said = plain.model.generation_config
    kept = (said.do_sample, said.temperature, said.top_p, said.repetition_penalty)
    try:
        said.do_sample, said.temperature, said.top_p, said.repetition_penalty = True, 0.7, 0.8, 1.05
        assert usual_sampling(plain) == Sampling(0.7, 0.8, repetition_penalty=1.05)
        said.temperature = 5.0
        assert usual_sampling(plain).temperature == 0.0, "out of range: left out"
    finally:
        said.do_sample, said.temperature, said.top_p, said.repetition_penalty = kept


def test_how_fast_a_reply_was_written_is_kept_with_it(app: AppServices) -> None:
    reply = ask(app, "What is an owl?")
    stored = app.engine.store.message(reply.id)
    tokens = app.engine.loaded.tokenizer(reply.text, add_special_tokens=False)["input_ids"]
    assert stored.tokens == reply.tokens == len(tokens) > 1
    assert stored.seconds is not None and stored.seconds > 0
