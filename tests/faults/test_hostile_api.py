"""The HTTP API under hostile bodies, addresses, ids and JSON. Nothing is answered by the model here."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from hypothesis import example, given
from hypothesis import strategies as st

from tests.faults.hostile_requests import AttackedApp, share_of_cases
from tests.faults.hostile_words import BOMBS, NUMBERS, PATHS, SHORT, VALUES, WORDS, in_path, to_text

ABSENT = object()
SURFACE, RAW = "API: bodies and ids", "API: JSON bombs"
POSTS = (
    "/v1/chat/completions", "/v1/feedback", "/v1/learning", "/v1/adapters/rollback", "/v1/adapters/1/pin",
    "/v1/data/restore", "/v1/data/import?format=events", "/v1/data/import?format=kto", "/v1/nothing",
)  # fmt: skip
UNANSWERED = {"role": "assistant", "content": "x"}  # has the last word, so that the model has none


def fields(**wanted: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object of which a field or two may be missing or anything at all, with fields that nobody asked for."""
    wrong = st.tuples(st.sampled_from([*wanted, *wanted, "", "__class__"]), VALUES | st.just(ABSENT))

    def spoilt(said: dict[str, Any], errors: list[tuple[str, Any]]) -> dict[str, Any]:
        return {k: v for k, v in {**said, **dict(errors)}.items() if v is not ABSENT}

    return st.builds(spoilt, st.fixed_dictionaries(wanted), st.lists(wrong, max_size=2))


MESSAGES = st.lists(
    fields(role=st.sampled_from(["user", "assistant", "system", "developer", "tool"]), content=WORDS), max_size=3
)
CHAT = fields(
    model=st.just("pocket-model") | SHORT,
    messages=MESSAGES.map(lambda said: [*said, UNANSWERED]),
    stream=st.booleans(),
    n=NUMBERS,
    stream_options=VALUES,
).filter(lambda said: "messages" in said)
SAID = (
    st.fixed_dictionaries({"vote": st.sampled_from(["up", "down", "none"])})
    | st.fixed_dictionaries({"verdict": st.sampled_from(["better", "still_wrong"])})
    | st.fixed_dictionaries({"edit": WORDS})
    | fields(vote=SHORT, hint=st.none(), edit=WORDS, verdict=SHORT)
)


BEN = st.integers(0, 4).map(lambda n: f"BEN-{n}")  # ids, see AttackedApp.named
CORA = st.integers(0, 29).map(lambda n: f"CORA-{n}")
FORGED = BEN | BEN.map(lambda i: f"chatcmpl-{i}") | SHORT
ANYBODY = st.sampled_from(["cora", "anna"])
GUEST = st.just("cora")  # an owner may forget anybody's
NO_BODY = st.just("")
QUERY = st.dictionaries(
    st.sampled_from(["format", "since", "until", "status", "limit", "x"]), SHORT | NUMBERS.map(str), max_size=3
).map(lambda said: urlencode(said, errors="replace"))
NAME = PATHS.map(in_path)


def at(*addresses: str) -> st.SearchStrategy[str]:
    return st.sampled_from(addresses)


REQUESTS = st.one_of(  # method, address, body, whose key
    st.tuples(at("POST"), at("/v1/chat/completions"), CHAT.map(to_text), ANYBODY),
    st.tuples(
        at("POST"),
        at("/v1/feedback"),
        st.builds(lambda i, said: to_text({**said, "message_id": i}), FORGED | CORA, SAID),
        ANYBODY,
    ),
    st.tuples(at("DELETE"), FORGED.map(lambda i: f"/v1/learned/{in_path(i)}"), NO_BODY, GUEST),
    st.tuples(at("POST"), NUMBERS.map(lambda v: f"/v1/adapters/{v}/pin"), at('{"pinned": true}'), ANYBODY),
    st.tuples(at("POST"), at("/v1/learning"), fields(paused=SHORT).map(to_text), ANYBODY),
    st.tuples(at("POST"), at("/v1/data/restore"), fields(file=PATHS).map(to_text), ANYBODY),
    st.tuples(at("DELETE"), at("/v1/data"), fields(confirm=SHORT).map(to_text), ANYBODY),
    st.tuples(at("GET"), QUERY.map(lambda q: f"/v1/data/export?{q}"), NO_BODY, ANYBODY),
    st.tuples(at("GET"), QUERY.map(lambda q: f"/v1/learned?{q}"), NO_BODY, ANYBODY),
    st.tuples(at("GET"), QUERY.map(lambda q: f"/v1/learned/others?{q}"), NO_BODY, ANYBODY),
    st.tuples(at("GET"), NAME.map(lambda p: f"/v1/models/{p}"), NO_BODY, ANYBODY),
    st.tuples(at("GET", "PUT", "PATCH", "HEAD"), NAME.map(lambda p: f"/v1/{p}"), NO_BODY, ANYBODY),
)


@share_of_cases(0.20)
@given(asked=REQUESTS)
@example(
    asked=("POST", "/v1/feedback", '{"vote": "up", "message_id": "\\ud800</s>"}', "cora")
)  # no answer could quote it
@example(asked=("POST", f"/v1/adapters/{10**30}/pin", '{"pinned": true}', "anna"))
@example(asked=("GET", "/v1/data/export?since=0001-01-01T00:00:00%2B14:00", "", "anna"))
def test_no_request_shows_an_error_of_the_program_or_another_users_words_or_changes_them(
    world: AttackedApp, asked: tuple[str, str, str, str]
) -> None:
    method, address, said, name = asked
    address, body = world.named(address), world.named(said).encode()
    before = world.victims_words()
    with world.watch.case(SURFACE) as counted:
        status, headers, content = world.ask(SURFACE, name, method, address, body)
        if status >= 400 and method != "HEAD":
            assert b'"message":' in content or headers.get("content-type", "").startswith("text/html"), content[:300]
        if world.victims_words() != before:
            counted.leaks += 1
            raise AssertionError(f"{method} {address} {body[:200]!r} changed what ben said")


@share_of_cases(0.12)
@given(address=st.sampled_from(POSTS), body=BOMBS, name=st.sampled_from(["cora", "anna"]))
def test_a_json_bomb_is_refused_with_one_sentence(world: AttackedApp, address: str, body: bytes, name: str) -> None:
    with world.watch.case(RAW):
        status, _, content = world.ask(RAW, name, "POST", address, body)
        assert status < 400 or b'"message":' in content


def test_an_id_of_anothers_message_looks_like_one_that_does_not_exist(world: AttackedApp) -> None:
    """Whatever is asked about ben's messages, cora hears what she hears about a message that never was."""
    nowhere = "0" * 32
    with world.watch.case(SURFACE):
        for said in ({"vote": "up"}, {"vote": "none"}, {"verdict": "better"}, {"edit": "x"}, {"hint": "x"}):
            for message_id in world.of_victim:
                answers = [
                    world.ask(SURFACE, "cora", "POST", "/v1/feedback", to_text({**said, "message_id": i}).encode())
                    for i in (message_id, nowhere)
                ]
                statuses = {status for status, _, _ in answers}
                contents = {content.replace(message_id.encode(), nowhere.encode()) for _, _, content in answers}
                assert statuses == {404} and len(contents) == 1, contents
