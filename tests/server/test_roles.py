"""Every route times every role: what nobody, a guest and an owner get. A route that is not in the table fails."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from starlette.routing import Mount

from tests.server.running import Running

IN, NO, OUT = "let in", "forbidden", "not logged in"  # not 401 or 403; 403; 401
ALL = (IN, IN, IN)
USERS = (OUT, IN, IN)
OWNERS = (OUT, NO, IN)
ROLES = (None, "cora", "anna")  # nobody, a guest, an owner
# (method, path): what nobody, a guest and an owner get
TABLE: dict[tuple[str, str], tuple[str, str, str]] = {
    ("GET", "/login"): ALL,
    ("POST", "/login"): (OUT, OUT, OUT),  # without a password
    ("GET", "/logout"): ALL,
    ("POST", "/logout"): ALL,
    ("GET", "/healthz"): ALL,
    ("GET", "/federation/card"): ALL,
    ("GET", "/federation/update"): (OUT, OUT, OUT),  # a peer's signature counts here, nobody's login
    ("POST", "/federation/update"): (OUT, OUT, OUT),
    ("POST", "/federation/knock"): (OUT, OUT, OUT),
    ("GET", "/metrics"): OWNERS,
    ("GET", "/v1/models"): USERS,
    ("GET", "/v1/models/{name:path}"): USERS,
    ("POST", "/v1/chat/completions"): USERS,
    ("POST", "/v1/completions"): USERS,
    ("POST", "/v1/responses"): USERS,
    ("GET", "/v1/responses/{response_id}"): USERS,
    ("POST", "/v1/feedback"): USERS,
    ("GET", "/v1/conversations"): USERS,
    ("GET", "/v1/conversations/{conversation_id}/export"): USERS,
    ("GET", "/v1/learning"): USERS,
    ("POST", "/v1/learning"): OWNERS,
    ("GET", "/v1/adapters"): USERS,
    ("POST", "/v1/adapters/rollback"): OWNERS,
    ("POST", "/v1/adapters/{version}/restore"): OWNERS,
    ("POST", "/v1/adapters/{version}/pin"): OWNERS,
    ("GET", "/v1/adapters/{version}/zip"): OWNERS,
    ("GET", "/v1/adapters/{version}/gguf"): OWNERS,
    ("GET", "/v1/learned"): USERS,
    ("GET", "/v1/learned/others"): OWNERS,
    ("DELETE", "/v1/learned/{message_id}"): USERS,
    ("GET", "/v1/data/export"): OWNERS,
    ("POST", "/v1/data/import"): OWNERS,
    ("POST", "/v1/data/backup"): OWNERS,
    ("GET", "/v1/data/backups"): OWNERS,
    ("DELETE", "/v1/data/backups"): OWNERS,
    ("POST", "/v1/data/restore"): OWNERS,
    ("DELETE", "/v1/data"): OWNERS,
    **{(method, "/v1/{path:path}"): USERS for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")},
}
# Bodies that pass the first look but change nothing; where none is given, an empty object
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/learning"): {"paused": False},
    ("POST", "/v1/adapters/{version}/pin"): {"pinned": True},
    ("POST", "/v1/data/restore"): {"file": "none.tar"},
}
OF_GRADIO = 60  # at least so many routes are the page's own


def routes(of: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in of:
        if hasattr(route, "original_router"):
            yield from routes(route.original_router.routes, prefix)
        elif not isinstance(route, Mount):
            for method in sorted(getattr(route, "methods", None) or {"GET"}):
                if method != "HEAD" or route.methods == {"HEAD"} or "path:path" in route.path:
                    yield method, prefix + route.path


def own_routes(server: Running) -> set[tuple[str, str]]:
    return set(routes(server.app.routes))


def asked(server: Running, name: str | None, method: str, path: str) -> str:
    address = re.sub(r"\{(\w+)(:path)?\}", lambda m: "1" if m[1] == "version" else "none", path)
    body = BODIES.get((method, path), {})
    client = server.as_user(name)
    data = {"content": b""} if path.endswith("/import") else {"json": body} if method not in ("GET", "HEAD") else {}
    answer = client.request(method, address, headers={"Accept": "application/json"}, **data)  # type: ignore[arg-type]
    assert answer.status_code < 500, f"{name} {method} {path}: {answer.status_code} {answer.text[:300]}"
    return {401: OUT, 403: NO}.get(answer.status_code, IN)


def test_every_route_is_in_the_table(server: Running) -> None:
    found = {route for route in own_routes(server) if route[0] != "HEAD" or route[1].startswith("/v1/{")}
    assert found == set(TABLE)


@pytest.mark.parametrize(("method", "path"), sorted(TABLE))
def test_each_role_gets_what_the_table_says(server: Running, method: str, path: str) -> None:
    if (method, path) == ("DELETE", "/v1/data"):  # without the words that it takes
        assert server.as_user("anna").request(method, path, json={}).status_code == 400
    assert tuple(asked(server, name, method, path) for name in ROLES) == TABLE[method, path]


def test_every_route_of_the_page_itself_is_behind_the_login(server: Running) -> None:
    (mount,) = [route for route in server.app.routes if isinstance(route, Mount)]
    of_page = [(m, p) for m, p in routes(mount.app.routes) if p not in ("/login", "/login/", "/logout", "/favicon.ico")]
    assert len(of_page) >= OF_GRADIO
    nobody = server.as_user(None)
    for method, path in of_page:
        address = re.sub(r"\{[^}]+\}", "none", path)
        assert nobody.request(method, address, headers={"Accept": "*/*"}).status_code == 401, (method, path)
        with_wrong_key = {"Authorization": "Bearer spear-wrong"}
        assert nobody.request(method, address, headers=with_wrong_key).status_code == 401, (method, path)


def test_what_an_owner_does_on_the_page_a_guest_cannot(server: Running) -> None:
    """The buttons' own events, sent without the buttons."""
    visitor = Visitor(server, "cora")
    version, paused = server.app_services.learning.status().adapter_version, server.app_services.learning.paused
    names = {"roll_back", "restore", "toggle_pause", "pin"}
    tried = [event for event in visitor.events if event["api_name"].rstrip("_123456789") in names]
    assert len(tried) >= len(names)
    for event in tried:
        visitor.fire(event, {"version": 1, "pinned": True})
    assert server.app_services.learning.paused == paused
    assert server.app_services.learning.status().adapter_version == version


def test_an_owner_may_cancel_the_loading_of_a_model_and_a_guest_not(server: Running) -> None:
    cancelled = server.app_services.models._cancelled
    for name, may in (("cora", False), ("anna", True)):
        cancelled.clear()
        visitor = Visitor(server, name)
        keeps = [event for event in visitor.events if event["api_name"].startswith("keep") and not event["inputs"]]
        assert len(keeps) == 1
        visitor.fire(keeps[0], {})
        assert cancelled.is_set() is may
    cancelled.clear()


@pytest.mark.slow
def test_an_event_of_the_page_reaches_nothing_of_another_user(server: Running) -> None:
    """Every event, every input filled with the id of another's conversation, as a forger would."""
    secret = "zanzibar-lighthouse"
    ben = server.access.session(server.access.accounts.user("ben"))  # type: ignore[union-attr,arg-type]
    conversation = ben.chat.new_conversation(learn=False)
    *_, reply = ben.chat.reply(conversation.id, f"My secret is {secret}, what is an owl?")
    ben.feedback.edit(reply.id, f"It is {secret}.")
    ben.chat.rename(conversation.id, f"About {secret}")
    before = [(m.text, m.vote, m.verdict) for m in ben.chat.messages(conversation.id)]
    own, forger = Visitor(server, "ben"), Visitor(server, "cora")
    show = next(event for event in own.events if event["api_name"] == "settle")
    assert secret in own.fire(show, {}, conversation.id), "the same event shows it to its owner"
    for event in forger.events:
        data = {"id": reply.id, "value": f"better:{reply.id}", "index": 1, "liked": True, "text": "x", "title": "x"}
        assert secret not in forger.fire(event, data, conversation.id), event["api_name"]
    assert [(m.text, m.vote, m.verdict) for m in ben.chat.messages(conversation.id)] == before
    assert ben.chat.conversation(conversation.id).title == f"About {secret}"


class Visitor:
    """A browser with a session, that sends whatever event it likes."""

    def __init__(self, server: Running, name: str) -> None:
        self.client = server.logged_in(name)
        self.session = f"session-of-{name}"
        config = self.client.get("/config").json()
        self.events = [event for event in config["dependencies"] if event["backend_fn"]]

    def fire(self, event: dict[str, Any], event_data: dict[str, Any], value: Any = None) -> str:
        """All that came back."""
        data = [value for _ in event["inputs"]]
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session, "event_data": event_data}
        joined = self.client.post("/gradio_api/queue/join", json=body)
        assert joined.status_code == 200, joined.text
        said = []
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                said.append(line)
                if any(end in line for end in ("process_completed", "unexpected_error", "close_stream")):
                    break
        return "\n".join(said)
