"""Guesses at passwords: counted before they are looked at, by the visitor's true address, and at nobody else's cost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from feedback_store import Store
from server import login, login_tries
from server.login_tries import FREE_TRIES, FREE_TRIES_A_NAME, FREE_TRIES_AN_ADDRESS, LoginTries, counted_under
from services.accounts.known_browsers import MOST_OF_ONE_USER, KnownBrowsers
from services.accounts.users_file import User, add_user, remove_user
from services.settings import Settings
from spear_core.errors import ConfigError
from tests.server.running import PASSWORD, Running, running


@pytest.fixture
def hugo(server: Running) -> Iterator[str]:
    """A user of this test's own, so that no other test's guesses count."""
    add_user(server.file, "hugo", "guest", PASSWORD)
    yield "hugo"
    remove_user(server.file, "hugo")


@pytest.fixture
def behind(server: Running) -> Iterator[Running]:
    """The same app behind a proxy at 127.0.0.1, which is named in the settings; its counts begin at nothing."""
    with running(server.app_services, server.access.accounts, trusted_proxies=("127.0.0.1",)) as started:
        yield started


@pytest.fixture
def direct(server: Running) -> Iterator[Running]:
    """The same app with no proxy named; its counts begin at nothing."""
    with running(server.app_services, server.access.accounts) as started:
        yield started


def guess(
    server: Running, name: str, password: str, address: str = "", cookies: dict[str, str] | None = None
) -> httpx.Response:
    headers = {"X-Forwarded-For": address} if address else {}
    said = {"name": name, "password": password}
    return httpx.post(f"{server.url}/login", data=said, headers=headers, cookies=cookies, timeout=60)


def test_guesses_in_parallel_are_counted_before_any_of_them_is_looked_at(
    direct: Running, hugo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = direct.access.accounts
    assert accounts is not None
    looked_at, go_on = [], threading.Event()

    def slowly(name: str, password: str) -> None:
        looked_at.append(password)
        go_on.wait(30)

    monkeypatch.setattr(accounts, "by_password", slowly)
    with ThreadPoolExecutor(15) as pool:
        asked = [pool.submit(guess, direct, hugo, f"guess number {i}") for i in range(15)]
        done = [future for future in asked if future.result is not None]
        while sum(future.done() for future in asked) < 15 - FREE_TRIES:
            pass
        go_on.set()
        statuses = sorted(future.result().status_code for future in done)
    assert statuses == [401] * FREE_TRIES + [429] * (15 - FREE_TRIES) and len(looked_at) == FREE_TRIES


def test_a_flood_of_logins_is_turned_away_and_the_app_answers(
    direct: Running, hugo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts, go_on = direct.access.accounts, threading.Event()
    assert accounts is not None
    monkeypatch.setattr(accounts, "by_password", lambda name, password: go_on.wait(30) and None)
    monkeypatch.setattr(login, "MOST_WAITING", 3)
    count = login.AT_ONCE + 3 + 5
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(guess, direct, f"somebody-{i}", "a guess") for i in range(count)]
        while sum(future.done() for future in asked) < 5:
            assert httpx.get(f"{direct.url}/healthz").status_code == 200
        go_on.set()
        statuses = sorted(future.result().status_code for future in asked)
    assert statuses == [401] * (count - 5) + [503] * 5


@pytest.mark.slow
def test_a_forwarded_address_counts_only_where_the_proxy_is_named(direct: Running, behind: Running, hugo: str) -> None:
    """Whoever sends another address with every guess is still one guesser."""
    made_up = [guess(direct, hugo, "a wrong guess", f"192.0.2.{i}").status_code for i in range(FREE_TRIES + 1)]
    assert made_up == [401] * FREE_TRIES + [429]
    told = [guess(behind, hugo, "a wrong guess", f"192.0.2.{i}").status_code for i in range(FREE_TRIES + 1)]
    assert told == [401] * (FREE_TRIES + 1), "of a named proxy each address is another visitor"
    appended = [
        guess(behind, hugo, "a wrong guess", f"198.51.100.{i}, 203.0.113.9").status_code for i in range(FREE_TRIES + 1)
    ]
    assert appended == [401] * FREE_TRIES + [429], "what stands before the proxy's own entry is not believed"


def test_a_cookie_is_for_https_only_where_a_named_proxy_says_that_it_came_so(direct: Running, behind: Running) -> None:
    for server, secure in ((direct, False), (behind, True)):
        said = {"name": "ben", "password": PASSWORD}
        answer = httpx.post(f"{server.url}/login", data=said, headers={"X-Forwarded-Proto": "https"})
        cookies = answer.headers.get_list("set-cookie")
        assert len(cookies) == 2
        for cookie in cookies:
            assert ("Secure" in cookie) is secure and "HttpOnly" in cookie and "SameSite=lax" in cookie


@pytest.mark.slow
def test_a_strangers_guesses_do_not_lock_a_known_browser_out(behind: Running, hugo: str) -> None:
    first = guess(behind, hugo, PASSWORD, "192.0.2.1")
    known = {behind.access.browser_cookie: first.cookies[behind.access.browser_cookie]}
    for i in range(FREE_TRIES_A_NAME):
        guess_of_a_stranger = guess(behind, hugo, f"guess {i}", f"198.51.100.{i // FREE_TRIES}")
        assert guess_of_a_stranger.status_code == 401
    assert guess(behind, hugo, PASSWORD, "203.0.113.5").status_code == 429, "by now a stranger has to wait everywhere"
    assert guess(behind, hugo, PASSWORD, "198.51.100.0", known).status_code == 303, "the known browser does not"
    assert guess(behind, hugo, PASSWORD, "203.0.113.5", {behind.access.browser_cookie: "made up"}).status_code == 429
    assert guess(behind, "cora", PASSWORD, "203.0.113.5", known).status_code == 303, "nor do others"


def test_a_known_browser_gets_no_more_guesses_than_anybody(behind: Running, hugo: str) -> None:
    known = {
        behind.access.browser_cookie: guess(behind, hugo, PASSWORD, "192.0.2.1").cookies[behind.access.browser_cookie]
    }
    statuses = [guess(behind, hugo, "wrong", f"192.0.2.{i}", known).status_code for i in range(FREE_TRIES + 1)]
    assert statuses == [401] * FREE_TRIES + [429]
    assert guess(behind, "cora", "wrong", "192.0.2.99", known).status_code == 401, "it is known as hugo's only"


def test_what_a_browser_is_known_by_opens_nothing(behind: Running) -> None:
    known = guess(behind, "ben", PASSWORD, "192.0.2.1").cookies[behind.access.browser_cookie]
    for cookies in ({behind.access.browser_cookie: known}, {behind.access.cookie: known}):
        assert httpx.get(f"{behind.url}/v1/models", cookies=cookies).status_code == 401


def test_after_half_a_minute_one_more_guess_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(login_tries.time, "monotonic", lambda: now[0])
    tries, limits = LoginTries(), counted_under("anna", "192.0.2.1", "")
    assert [tries.begin(limits) for _ in range(FREE_TRIES + 1)] == [True] * FREE_TRIES + [False]
    now[0] += login_tries.WAIT_SECONDS
    assert tries.begin(limits) and not tries.begin(limits)
    tries.was_right(limits)
    assert tries.begin(limits), "a right password ends the count"


def test_tries_for_many_names_set_nobody_free_and_are_few_from_one_address() -> None:
    tries, anna = LoginTries(), counted_under("anna", "192.0.2.1", "")
    for _ in range(FREE_TRIES):
        assert tries.begin(anna)
    of_one = [tries.begin(counted_under(f"name {i}", "192.0.2.1", "")) for i in range(FREE_TRIES_AN_ADDRESS)]
    assert of_one.count(True) == FREE_TRIES_AN_ADDRESS - FREE_TRIES
    neighbours = [
        tries.begin(counted_under(f"name {i}", f"2001:db8::{i}", "")) for i in range(FREE_TRIES_AN_ADDRESS + 1)
    ]
    assert neighbours == [True] * FREE_TRIES_AN_ADDRESS + [False], "one network of IPv6 is one address"
    for i in range(login_tries.MOST_REMEMBERED):
        tries.begin(counted_under(f"name {i}", f"198.51.{i // 256}.{i % 256}", ""))
    assert len(tries._tries) <= login_tries.MOST_REMEMBERED
    assert not tries.begin(anna), "whoever has to wait is remembered longest"


def test_known_browsers_outlive_a_restart_and_are_few(tmp_path: Path) -> None:
    anna = User("anna", "owner")
    with Store(tmp_path / "store.sqlite3") as store:
        tokens = [KnownBrowsers(store).remember("", anna)]
        browsers = KnownBrowsers(store)
        assert browsers.knows(tokens[0], "anna") and not browsers.knows(tokens[0], "ben")
        assert browsers.remember(tokens[0], anna) == tokens[0], "the same browser keeps its cookie"
        tokens += [browsers.remember("", anna) for _ in range(MOST_OF_ONE_USER)]
        for now in (browsers, KnownBrowsers(store)):
            assert not now.knows(tokens[0], "anna") and now.knows(tokens[-1], "anna")
            assert not now.knows("", None)
        assert len(store.known_browsers()) == MOST_OF_ONE_USER


@pytest.mark.parametrize("proxy", ["nginx", "10.0.0.0/33", "", "*"])
def test_a_proxy_that_is_no_address_is_refused_in_one_sentence(proxy: str) -> None:
    with pytest.raises(ConfigError, match="is no address or network"):
        Settings("model", Path("data"), trusted_proxies=("127.0.0.1", proxy))
