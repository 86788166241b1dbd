"""The default model in a browser, from a fresh data folder: one personal fact, taught, proved and kept over a restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from services.models.built_in import SMOLLM2, smollm2_weights
from tests.browser.driver import App, Visitor, says
from tests.browser.story import PERSONAL, teach_personal

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(smollm2_weights() is None, reason="SmolLM2 is not installed"),
]


@pytest.fixture(scope="module")
def real_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp("real") / "data", model=SMOLLM2)
    app.start()
    yield app
    app.stop(seconds=120)


def test_a_taught_fact_is_known_in_other_words_and_after_a_restart_and_nothing_else_changed(
    browser: Browser, real_app: App
) -> None:
    context = browser.new_context()
    try:
        visitor = Visitor(context.new_page(), real_app.url)
        visitor.open()
        before = visitor.ask(PERSONAL.unrelated)
        visitor.new_conversation()
        neighbour = visitor.ask(PERSONAL.neighbour)
        visitor.new_conversation()
        assert not says(visitor.ask(PERSONAL.question), PERSONAL.answer), "no model can know this"
        teach_personal(visitor, PERSONAL)
        visitor.better()
        phase = visitor.wait_for_phase("live", "not_kept", "failed")
        assert phase == "live", visitor.card.inner_text()

        visitor.new_conversation()
        assert says(visitor.ask(PERSONAL.question), PERSONAL.answer)
        visitor.new_conversation()
        assert says(visitor.ask(PERSONAL.other_wording), PERSONAL.answer)
        visitor.new_conversation()
        assert visitor.ask(PERSONAL.unrelated) == before
        visitor.new_conversation()
        assert visitor.ask(PERSONAL.neighbour) == neighbour

        real_app.stop(seconds=120)
        real_app.start()
        visitor.open()
        expect(visitor.said).to_have_text([PERSONAL.neighbour])  # the conversation shown last is there again
        visitor.new_conversation()
        assert says(visitor.ask(PERSONAL.question), PERSONAL.answer)
    finally:
        context.close()
