"""A conversation that goes on: its earlier replies are not computed again, and nothing is kept of one that is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services import backups
from services.workbench import Workbench
from spear_core.prefix_cache import Prefix
from tests.services.bench_desk import ask, correct, wrong_task


def kept(bench: Workbench) -> dict[str, Prefix]:
    """Conversation -> what is kept of it, under the model that serves."""
    return dict(bench.engine.batching.prefixes._of_model.get(bench.engine.twins.serving.model, {}))


def tokens_computed(bench: Workbench) -> tuple[list[int], Any]:
    """Tokens a row of every forward of the model that serves from now on, and the hook to be removed."""
    seen: list[int] = []
    embeddings = bench.engine.twins.serving.model.get_input_embeddings()
    return seen, embeddings.register_forward_hook(lambda _, args, out: seen.append(args[0].shape[1]))


def test_a_second_question_costs_its_own_tokens_only(bench: Workbench) -> None:
    question = "What is an owl?"
    ask(bench, question)  # a model is tried out once, with a forward of its own
    seen, hook = tokens_computed(bench)
    first = ask(bench, "What is a violin? Is it an animal, an instrument, a tool or a fruit?")
    long = seen[0]
    seen.clear()
    ask(bench, question)
    short = seen[0]
    seen.clear()
    ask(bench, question, first.conversation_id)
    hook.remove()
    assert seen[0] <= short + 2 < long  # the end of the reply before it, and what the template puts between


def test_a_revision_and_a_new_adapter_answer_as_they_would_without_it(bench: Workbench) -> None:
    before = ask(bench, "Hello!")
    task = wrong_task(bench)
    correct(bench, task, before.conversation_id)
    assert list(kept(bench)) and bench.learning.run_pending() == 1
    assert before.conversation_id not in kept(bench)  # what an adapter computed is not for the next one
    assert task.verdict(ask(bench, task.question, before.conversation_id).text)
    assert before.conversation_id in kept(bench)


def test_what_was_computed_of_a_deleted_conversation_is_gone(bench: Workbench) -> None:
    mine, other = ask(bench, "What is an owl?"), ask(bench, "What is an owl?")
    assert {mine.conversation_id, other.conversation_id} <= kept(bench).keys()
    bench.chat.delete(mine.conversation_id)
    assert mine.conversation_id not in kept(bench) and other.conversation_id in kept(bench)


def test_when_everything_is_erased_nothing_computed_is_left(bench: Workbench) -> None:
    ask(bench, "What is an owl?")
    assert kept(bench)
    folder: Path = bench.engine.data_folder
    backups.erase(bench.engine.store, folder, bench.learning.exchange)
    assert not kept(bench)
