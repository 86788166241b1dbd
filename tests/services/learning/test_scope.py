"""The adapter answers what is near to what it was taught; the untouched model answers the rest."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import services.learning.scope as scope_module
from feedback_store import FROM_MEMORY, RoundFigures, UserStore
from services.app import AppServices
from services.chat.sampling import Sampling
from services.learning.scope import Chosen
from spear_core.inference.scope import Taught
from tests.services.conftest import OpenBench
from tests.services.harness import ask, correct, other_wordings, wrong_task

FAR = "Add 41 and 17."


def lose_everything(app: AppServices) -> None:
    """Let an adapter serve under the present version that answers as the base model does."""
    models = app.engine.shared_models
    models.publish(models.initial, models.serving.version)


@pytest.mark.slow
def test_questions_far_from_every_correction_are_answered_by_the_untouched_model(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8)
    before = ask(app, FAR)
    task = wrong_task(app)
    correct(app, task)
    app.learning.run_pending()
    taught, far = ask(app, task.question), ask(app, FAR)
    assert taught.adapter_version == 1 and task.verdict(taught.text)
    assert (far.adapter_version, far.text) == (0, before.text)
    without, by_both = app.comparison.answers(FAR, [0, 1])
    assert without.text == by_both.text == before.text, "the comparison shows what a chat would"


@pytest.mark.slow
def test_an_adapter_that_is_always_on_answers_everything(open_app: OpenBench) -> None:
    app = open_app()
    correct(app, wrong_task(app))
    app.learning.run_pending()
    assert ask(app, FAR).adapter_version == 1


@pytest.mark.slow
def test_what_was_undone_is_out_of_scope(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8)
    first, second = wrong_task(app), wrong_task(app, skip=1)
    for task in (first, second):
        correct(app, task)
        app.learning.run_pending()
    assert ask(app, second.question).adapter_version == 2
    app.learning.roll_back()
    assert ask(app, first.question).adapter_version == 1
    scope = app.engine.scope
    assert scope.serving(app.engine, [{"role": "user", "content": FAR}]).version == 0


@pytest.mark.slow
def test_what_peers_taught_has_no_known_scope(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8)
    correct(app, wrong_task(app))
    app.learning.run_pending()
    state = app.learning.lineage.state
    assert state is not None
    with app.learning.between_rounds():
        app.learning.lineage.adopt(state, RoundFigures())  # as after a merge: no round made it
    assert ask(app, FAR).adapter_version == 2


@pytest.mark.slow
def test_a_confirmed_answer_is_given_at_once_and_from_the_weights_once_it_is_learned(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8, scope_gain=-100.0, memory=True)
    task = wrong_task(app)
    _, revision = correct(app, task)
    at_once = ask(app, task.question)
    assert (at_once.text, at_once.adapter_version, at_once.complete) == (revision.text, FROM_MEMORY, True)
    app.learning.run_pending()
    learned = ask(app, task.question)
    assert learned.adapter_version == 1 and task.verdict(learned.text)


@pytest.mark.slow
def test_what_was_taught_is_said_as_it_was_checked_however_replies_are_drawn(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8)
    task = wrong_task(app)
    correct(app, task)
    app.learning.run_pending()
    conversation = app.chat.new_conversation(learn=False).id
    app.chat.set_sampling(conversation, Sampling(temperature=2.0, repetition_penalty=2.0, no_repeat_ngram=1))
    plain = ask(app, task.question)
    assert plain.adapter_version == 1 and task.verdict(plain.text)
    for question in (task.question, task.question):
        drawn = list(app.chat.reply(conversation, question))[-1]
        assert (drawn.adapter_version, drawn.text) == (1, plain.text)
    *_, other = app.chat.reply(app.chat.new_conversation(learn=False).id, FAR, drawn={"stop": ("e",)})
    assert other.adapter_version == 0 and "e" not in other.text
    *_, short = app.chat.reply(conversation, task.question, drawn={"max_new_tokens": 1})
    assert plain.text.startswith(short.text) and short.ending == "length"


@pytest.mark.slow
def test_versions_are_compared_by_what_a_chat_would_say(open_app: OpenBench, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app(scope="near", scope_similarity=0.8)
    settings = dataclasses.replace(
        app.engine.loaded.settings, sampling={"temperature": 1.0, "repetition_penalty": 2.0, "no_repeat_ngram": 1}
    )
    loaded = dataclasses.replace(app.engine.loaded, settings=settings)
    monkeypatch.setattr(app.engine, "model", dataclasses.replace(app.engine.model, loaded=loaded))
    task = wrong_task(app)
    correct(app, task)
    app.learning.run_pending()
    before, after = app.comparison.answers(task.question, [0, 1])
    assert task.verdict(after.text) and not task.verdict(before.text)
    assert app.comparison.answers(task.question, [1])[0] == after, "the most likely token, whatever the temperature"
    said = app.comparison.answers("Are iron and copper the same kind of thing?", [0])[0].text
    assert said.startswith("Iron is a building.") and said.count("building") == 1, "a penalty counts as in a chat"


@pytest.mark.slow
def test_an_answer_from_memory_is_as_long_as_was_asked_for(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8, scope_gain=-100.0, memory=True)
    task = wrong_task(app)
    _, revision = correct(app, task)
    word = revision.text.split()[2]
    for drawn, ending in (({"max_new_tokens": 2}, "length"), ({"stop": (word,)}, "stopped"), ({}, "ended")):
        conversation = app.chat.new_conversation()
        *_, reply = app.chat.reply(conversation.id, task.question, drawn=drawn)
        assert (reply.adapter_version, reply.ending) == (FROM_MEMORY, ending)
        assert revision.text.startswith(reply.text) and (reply.text == revision.text) == (ending == "ended")
        assert reply.text and word not in (reply.text if ending == "stopped" else "")


def test_what_waits_to_be_learned_answers_only_the_user_who_confirmed_it(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8, scope_gain=-100.0, memory=True)
    task = wrong_task(app)
    _, revision = correct(app, task)
    store = app.engine.store
    own, foreign = app.chat.new_conversation().id, store.create_conversation(user="ben").id
    asked = [{"role": "user", "content": task.question}]
    assert app.engine.scope.choose(app.engine, asked, own).answer == revision.text
    assert app.engine.scope.choose(app.engine, asked, foreign).taught is None
    assert app.engine.scope.choose(app.engine, asked).taught is None


def test_a_user_with_a_store_of_their_own_is_answered_within_the_scope(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8, scope_gain=-100.0, memory=True)
    task = wrong_task(app)
    _, revision = correct(app, task)
    engine = app.engine
    mine = dataclasses.replace(engine, store=UserStore(engine.store, ""))
    own = engine.store.create_conversation().id
    assert engine.scope.choose(mine, [{"role": "user", "content": task.question}], own).answer == revision.text


def test_a_taken_back_confirmation_answers_no_more(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8, scope_gain=-100.0, memory=True)
    task = wrong_task(app)
    before = ask(app, task.question)
    reply, _ = correct(app, task)
    app.learning.forget([reply.id])
    assert ask(app, task.question).text == before.text


def test_a_confirmed_answer_that_the_gate_refused_is_given_from_memory_until_it_is_forgotten(
    open_app: OpenBench,
) -> None:
    app = open_app(scope="near", scope_similarity=0.8, scope_gain=-100.0, memory=True, learning_rate=1e-6, max_steps=1)
    task = wrong_task(app)
    before = ask(app, task.question)
    reply, revision = correct(app, task)
    app.learning.run_pending()
    assert app.learning.status().phase == "not_kept" and app.learning.status().adapter_version == 0
    again = ask(app, task.question)
    assert (again.text, again.adapter_version) == (revision.text, FROM_MEMORY)
    (note,) = {m.note for m in app.chat.messages(reply.conversation_id)} - {""}
    assert "In your own chats its answer is given from memory." in note
    app.learning.forget([reply.id])
    assert ask(app, task.question).text == before.text


@pytest.mark.slow
def test_an_answer_that_later_rounds_cost_the_adapter_is_given_from_memory(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.45, scope_gain=-100.0, memory=True)
    task = wrong_task(app)
    _, revision = correct(app, task)
    app.learning.run_pending()
    assert ask(app, task.question).adapter_version == 1
    lose_everything(app)
    for question in (task.question, other_wordings(task)[0].question):
        again = ask(app, question)
        assert (again.text, again.adapter_version) == (revision.text, FROM_MEMORY)
    system = app.chat.new_conversation()
    app.chat.set_system_prompt(system.id, "Answer with one word.")
    assert ask(app, task.question, system.id).adapter_version == 1, "nothing was confirmed under these instructions"


@pytest.mark.slow
@pytest.mark.parametrize("taken_back", ["vote", "chat", "contradicted"])
def test_what_no_longer_stands_is_not_remembered_once_the_adapter_has_lost_it(
    open_app: OpenBench, taken_back: str
) -> None:
    app = open_app(scope="near", scope_similarity=0.45, scope_gain=-100.0, memory=True)
    task = wrong_task(app)
    reply, revision = correct(app, task)
    app.learning.run_pending()
    lose_everything(app)
    scope, asked = app.engine.scope, [{"role": "user", "content": task.question}]
    chosen = scope.choose(app.engine, asked)
    assert scope.remembered(app.engine, chosen).answer == revision.text
    if taken_back == "vote":
        app.feedback.clear_vote(reply.id)
    elif taken_back == "chat":
        app.chat.delete(reply.conversation_id)
    else:
        again = f"So {task.question[0].lower()}{task.question[1:]}"
        app.feedback.edit(ask(app, again).id, "It is a fish.")
    assert scope.remembered(app.engine, chosen) == chosen


@pytest.mark.slow
def test_praise_of_a_taught_answer_leaves_its_question_taught(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.45, scope_gain=-100.0, memory=True)
    task = wrong_task(app)
    _, revision = correct(app, task)
    app.learning.run_pending()
    app.feedback.like(ask(app, task.question).id)
    app.learning.run_pending()
    other = [{"role": "user", "content": other_wordings(task)[0].question}]
    assert app.engine.scope.choose(app.engine, other).prompt[-1]["content"] == task.question
    lose_everything(app)
    again = ask(app, task.question)
    assert (again.text, again.adapter_version) == (revision.text, FROM_MEMORY)


@pytest.mark.slow
def test_other_wordings_are_asked_in_the_taught_words(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.45, scope_gain=-100.0, memory=True)
    task = wrong_task(app)
    correct(app, task)
    app.learning.run_pending()
    chosen = app.engine.scope.choose(app.engine, [{"role": "user", "content": other_wordings(task)[0].question}])
    assert chosen.prompt == [{"role": "user", "content": task.question}] and chosen.serving.version == 1
    assert ask(app, other_wordings(task)[0].question).text == ask(app, task.question).text


@pytest.mark.slow
def test_a_question_known_to_be_another_is_told_apart(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.45, scope_gain=-100.0, memory=True)
    task, other = wrong_task(app), wrong_task(app, skip=1)
    correct(app, task)
    app.learning.run_pending()
    (win,) = app.engine.store.traces(status="trained", side="win")
    asked = [{"role": "user", "content": other.question}]
    assert app.engine.scope.choose(app.engine, asked).taught is not None
    app.engine.scope.keep_apart(app.engine, win, [other.question])
    app.engine.scope.forget()
    assert app.engine.scope.choose(app.engine, asked).taught is None
    assert {"apart": other.question} in app.engine.store.kept_neighbours([win.id])[win.id]


@pytest.mark.slow
def test_a_question_that_is_surely_the_same_is_no_neighbour(open_app: OpenBench, monkeypatch: Any) -> None:
    app = open_app(scope="near", scope_similarity=0.45, scope_gain=-100.0, memory=True)
    monkeypatch.setattr(scope_module, "SubjectTest", lambda *_: _Sure())
    task, other = wrong_task(app), wrong_task(app, skip=1)
    correct(app, task)
    app.learning.run_pending()
    (win,) = app.engine.store.traces(status="trained", side="win")
    scope, store = app.engine.scope, app.engine.store
    kept = scope._kept_for(app.engine)
    kept.of_model = dataclasses.replace(kept.of_model, sure=0.0)
    store.keep_neighbours(win.id, [{"question": other.question, "answer": "?"}, {"wording": "x", "answer": "y"}])
    assert scope.keep_apart(app.engine, win, [other.question]) == {other.question}
    assert store.kept_neighbours([win.id])[win.id] == [{"wording": "x", "answer": "y"}]


@pytest.mark.slow
def test_a_taught_starter_question_is_no_probe_of_later_rounds(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.99, memory=True)
    starter = app.engine.loaded.settings.probe_prompts[0]
    reply = ask(app, starter)
    app.feedback.edit(reply.id, "That is a kind of bird.")
    app.learning.run_pending()
    first = app.engine.store.last_round(app.engine.base)
    assert first is not None and first.status == "promoted"
    correct(app, wrong_task(app))
    app.learning.run_pending()
    second = app.engine.store.last_round(app.engine.base)
    assert second is not None and second.status == "promoted", second
    assert second.figures.gate and second.figures.gate.changed is not None and second.figures.after
    assert starter not in [answer.question for answer in second.figures.gate.changed]
    assert second.figures.after.probe_kl == 0.0, "no probe that the adapter answers"


def test_what_was_taught_earlier_in_the_conversation_is_not_told_to_the_untouched_model(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.99, scope_gain=-100.0, memory=True)
    reply = ask(app, FAR)
    app.feedback.edit(reply.id, "It is 58.")
    greeting = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello."}]
    taught = [{"role": "user", "content": FAR}, {"role": "assistant", "content": "It is 58."}]
    system = {"role": "system", "content": "Be brief."}

    def asked(question: str) -> list[dict[str, str]]:
        prompt = [system, *greeting, *taught, {"role": "user", "content": question}]
        return list(app.engine.scope.choose(app.engine, prompt, reply.conversation_id).prompt)

    another = "Where does an owl sleep?"
    in_other_words = [{"role": "user", "content": "What do 41 and 17 make?"}, taught[1]]
    prompt = [*in_other_words, {"role": "user", "content": another}]
    assert app.engine.scope.choose(app.engine, prompt, reply.conversation_id).prompt == prompt[-1:]
    assert asked(another) == [system, *greeting, {"role": "user", "content": another}]
    assert asked("Why is it that?")[3:5] == taught, "it leans on what was said before"


@pytest.mark.parametrize("memory", [True, False])
def test_a_question_that_stands_alone_is_taught_and_asked_alone(open_app: OpenBench, memory: bool) -> None:
    app = open_app(scope="near", scope_similarity=0.99, scope_gain=-100.0, memory=memory)
    first = ask(app, "Where does an owl sleep?")
    app.feedback.edit(ask(app, FAR, first.conversation_id).id, "It is 58.")
    app.feedback.edit(ask(app, "Why is it that?", first.conversation_id).id, "Because of 41.")
    far, leaning = (t.prompt for t in app.engine.store.queued_wins(app.engine.base, 2))
    before = [{"role": "user", "content": "Where does an owl sleep?"}, {"role": "assistant", "content": first.text}]
    alone = [{"role": "user", "content": FAR}]
    assert far == (alone if memory else [*before, *alone])
    assert [m["role"] for m in leaning] == ["user", "assistant"] * 2 + ["user"], "it leans on all that was said"


@pytest.mark.parametrize("work", ["read", "compare", "covering"])
def test_a_reply_does_not_wait_for_a_job_that_stands_still_among_questions(open_app: OpenBench, work: str) -> None:
    app = open_app(scope="near", scope_similarity=-1.0, scope_gain=-100.0, memory=True)
    engine, scope = app.engine, app.engine.scope
    scope.prepare(engine)
    asked, other = ({"role": "user", "content": text} for text in (FAR, "Where is the key?"))
    app.feedback.edit(ask(app, FAR).id, "It is 58.")
    (win,) = engine.store.queued_wins(engine.base, 1)
    scope.forget()
    jobs: dict[str, Callable[[], object]] = {
        "read": lambda: scope.read(engine, [FAR]),
        "compare": lambda: scope.compare(engine, [asked], ["Add 2 and 3."]),
        "covering": lambda: scope.covering(engine, [win])(["Add 2 and 3."]),
    }
    job = threading.Thread(target=jobs[work])
    chosen: list[Chosen] = []
    reply = threading.Thread(target=lambda: chosen.append(scope.choose(engine, [other], "")))
    stands, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        if threading.current_thread() is job:
            stands.set()
            go_on.wait()

    engine.shared_models.pause_before_layers(pause)
    job.start()
    try:
        assert stands.wait(60), "the job computes"
        reply.start()
        reply.join(60)
        assert chosen and chosen[0].serving.version == 0
        assert job.is_alive()
    finally:
        go_on.set()
        job.join()


def test_before_anything_is_taught_a_reply_waits_for_no_features(open_app: OpenBench) -> None:
    app = open_app(scope="near", memory=True)
    reply = ask(app, FAR)
    assert app.engine.scope._kept.of_model.base != app.engine.base, "nothing was made to compare questions with"
    app.feedback.edit(reply.id, "It is 58.")
    assert ask(app, FAR).text == "It is 58."


def test_what_is_forgotten_while_a_question_is_read_is_not_kept(open_app: OpenBench) -> None:
    app = open_app(scope="near", memory=True)
    engine, scope = app.engine, app.engine.scope
    scope.prepare(engine)
    before = scope._kept_for(engine)
    engine.shared_models.pause_before_layers(scope.forget)
    scope.read(engine, [FAR])
    after = scope._kept_for(engine)
    assert FAR in before.vectors and not after.vectors
    assert after.of_model.features is not None and not len(after.of_model.features._trunk.cache)


class _Sure:
    def read(self, asked: Any) -> None:
        pass

    def scores(self, question: str, taught: Sequence[Taught]) -> list[float]:
        return [1.0 for _ in taught]

    def forget(self) -> None:
        pass


def test_the_newest_answer_to_a_question_counts_learned_or_not(open_app: OpenBench) -> None:
    app = open_app(scope="near", memory=True)
    app.feedback.edit(ask(app, FAR).id, "It is 58.")
    (older,) = app.engine.store.queued_wins(app.engine.base, 1)
    newer = dataclasses.replace(older, completion="58.", status="trained", seq=older.seq + 1)
    for wins in ([older, newer], [newer, older]):
        (taught,) = scope_module._taught(app.engine.store, wins)
        assert taught.answer == "58." and not taught.is_waiting


def test_peers_questions_that_together_answer_many_starters_are_left_out(
    open_app: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app(scope="near", scope_similarity=0.9, scope_gain=-100.0)
    starters = list(app.engine.loaded.settings.probe_prompts)
    most = max(scope_module.MOST_STARTERS, int(scope_module.STARTERS_TOGETHER * len(starters)))
    assert len(starters) > most
    left_out = app.engine.scope.too_broad(app.engine, [*starters, "Where does my neighbour park?"])
    kept = [s for s in starters if s not in left_out]
    assert 0 < len(kept) <= most and "Where does my neighbour park?" not in left_out
