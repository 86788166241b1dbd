"""Values that no component of the page can have sent: one sentence comes back, and no traceback is logged."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from tests.server.page_client import Client
from tests.server.running import Running
from ui.errors import UNREADABLE

FORGED: dict[str, list[Any]] = {
    "radio": ["forged", 7, [], {"value": "forged"}, [["Slow"]]],
    "dropdown": ["forged", 10**9, ["forged"], {"value": "forged"}],
    "slider": [1e9, -1, "forged", [], {"value": 1}],
    "number": [-1, "forged", [], {"value": 1}],
}


@pytest.mark.parametrize("kind", sorted(FORGED))
def test_a_forged_value_is_refused_in_one_sentence(
    server: Running, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    with closing(server.logged_in("cora")) as http:
        client = Client("cora", http)
        found = [(event, place) for event in client.events for place in client.takes(event, kind)]
        assert found
        for event, place in found:
            for value in FORGED[kind]:
                data = [value if i == place else None for i in range(len(event["inputs"]))]
                answer = client.fire(event, data, None)
                assert UNREADABLE in answer or "Only an owner" in answer, (event["api_name"], value, answer)
                assert "list of choices" not in answer, "what the choices are is not said either"
    assert "Traceback" not in capfd.readouterr().err + caplog.text


@pytest.mark.slow
def test_an_event_with_inputs_missing_is_refused(server: Running, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(server.logged_in("cora")) as http:
        client = Client("cora", http)
        for event in client.events:
            if any(client.components[i] != "state" for i in event["inputs"]):
                assert UNREADABLE in client.fire(event, [], None), event["api_name"]
    assert "Traceback" not in capfd.readouterr().err


def test_an_event_that_only_the_browser_answers_is_refused(server: Running, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(server.logged_in("cora")) as http:
        client = Client("cora", http)
        of_browser = [e for e in http.get("/config").json()["dependencies"] if not e["backend_fn"]]
        assert of_browser
        for event in [*of_browser, {"id": True}, {"id": 1.0}, {"id": "1"}, {"id": -1}, {"id": 10**9}]:
            assert UNREADABLE in client.fire(event, [], None), event["id"]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("path", ["/monitoring", "/monitoring/summary", "/monitoring/x"])
def test_gradios_own_figures_about_the_page_are_shown_to_nobody(server: Running, path: str) -> None:
    for name in ("cora", "anna"):
        assert server.as_user(name).get(path).status_code == 403
