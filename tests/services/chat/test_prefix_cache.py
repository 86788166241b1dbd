"""A conversation that goes on: its earlier replies are not computed again, and nothing is kept of one that is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.app import AppServices
from services.data import backups
from spear_core.inference.prefix_cache import Prefix
from tests.services.harness import ask, correct, wrong_task


def kept(app: AppServices) -> dict[str, Prefix]:
    """Conversation -> what is kept of it, under the model that serves."""
    return dict(app.engine.batching.prefixes._of_model.get(app.engine.shared_models.serving.model, {}))


def tokens_computed(app: AppServices) -> tuple[list[int], Any]:
    """Tokens a row of every forward of the model that serves from now on, and the hook to be removed."""
    seen: list[int] = []
    embeddings = app.engine.shared_models.serving.model.get_input_embeddings()
    return seen, embeddings.register_forward_hook(lambda _, args, out: seen.append(args[0].shape[1]))


def test_a_second_question_costs_its_own_tokens_only(app: AppServices) -> None:
    question = "What is an owl?"
    ask(app, question)  # a model is tried out once, with a forward of its own
    seen, hook = tokens_computed(app)
    first = ask(app, "What is a violin? Is it an animal, an instrument, a tool or a fruit?")
    long = seen[0]
    seen.clear()
    ask(app, question)
    short = seen[0]
    seen.clear()
    ask(app, question, first.conversation_id)
    hook.remove()
    assert seen[0] <= short + 2 < long  # the end of the reply before it, and what the template puts between


@pytest.mark.slow
def test_a_revision_and_a_new_adapter_answer_as_they_would_without_it(app: AppServices) -> None:
    before = ask(app, "Hello!")
    task = wrong_task(app)
    correct(app, task, before.conversation_id)
    assert list(kept(app)) and app.learning.run_pending() == 1
    assert before.conversation_id not in kept(app)  # what an adapter computed is not for the next one
    assert task.verdict(ask(app, task.question, before.conversation_id).text)
    assert before.conversation_id in kept(app)


def test_what_was_computed_of_a_deleted_conversation_is_gone(app: AppServices) -> None:
    mine, other = ask(app, "What is an owl?"), ask(app, "What is an owl?")
    assert {mine.conversation_id, other.conversation_id} <= kept(app).keys()
    app.chat.delete(mine.conversation_id)
    assert mine.conversation_id not in kept(app) and other.conversation_id in kept(app)


def test_when_everything_is_erased_nothing_computed_is_left(app: AppServices) -> None:
    ask(app, "What is an owl?")
    assert kept(app)
    folder: Path = app.engine.data_folder
    backups.erase(app.engine.store, folder, app.learning.exchange)
    assert not kept(app)
