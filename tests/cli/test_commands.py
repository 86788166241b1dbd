"""`app.py users` and `app.py data`, as they are typed."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from cli import commands
from federation.flower.start import read_start
from federation.identity import open_identity
from feedback_store import Store, StoreUnavailable
from feedback_store.transfer import Wanted
from services.accounts.login_sessions import LoginSessions
from services.accounts.users_file import Accounts, User, add_user, read_accounts, remove_user
from services.data.backups import DATABASE, back_up, in_use
from tests.feedback_store.harness import StoreHarness
from tests.tiny_models import tiny_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPEAR_DATA", raising=False)
    with Store(tmp_path / "data" / DATABASE) as store:
        StoreHarness(store).talk("Capital of Norway?").add("win", "lose")
    return tmp_path / "data"


def users_with(*names: str) -> None:
    """Add users to the file that spear.toml names."""
    for name in names:
        add_user(Path("users.json"), name, "guest", "a long password")
    if names:
        Path("spear.toml").write_text('auth_file = "users.json"\n')


def owners(folder: Path) -> set[str]:
    with Store(folder / DATABASE) as store:
        return store.conversation_owners()


def run(*arguments: str, typed: str = "", monkeypatch: pytest.MonkeyPatch | None = None) -> int:
    if monkeypatch:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
    return app.main(list(arguments))


def test_a_user_is_added_changed_given_a_key_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "users.json"
    flag = ["--auth-file", str(file)]
    assert (
        run("users", *flag, "add", "anna", "--role", "owner", typed="a long password\n", monkeypatch=monkeypatch) == 0
    )
    capsys.readouterr()
    assert run("users", *flag, "key", "anna") == 0
    key = capsys.readouterr().out.strip()
    accounts = Accounts(file)
    found = accounts.by_key(key)
    assert found == accounts.by_password("anna", "a long password") and found is not None and found.is_owner
    assert key not in file.read_text() and "a long password" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert run("users", *flag, "list") == 0 and "anna\towner\t1 API key" in capsys.readouterr().out
    assert run("users", *flag, "add", "anna", typed="a longer password\n", monkeypatch=monkeypatch) == 0
    assert run("users", *flag, "list") == 0 and "anna\towner\t1 API key" in capsys.readouterr().out, "as before"
    assert run("users", *flag, "revoke-keys", "anna") == 0 and accounts.by_key(key) is None
    assert run("users", *flag, "remove", "anna") == 0 and accounts.user("anna") is None


@pytest.mark.parametrize(
    ("arguments", "typed", "sentence"),
    [
        (["users", "--auth-file", "u.json", "add", "a b"], "a long password\n", "'a b' is not a user name"),
        (["users", "--auth-file", "u.json", "add", "anna"], "short\n", "A password has 8 to 1024 characters"),
        (["users", "--auth-file", "u.json", "remove", "anna"], "", "There is no user 'anna'"),
        (["users", "--auth-file", "none.json", "list"], "", "make it with `python app.py users add`"),
        (["users", "list"], "", "Which file of users?"),
        (["--auth-file", "none.json", "--port", "0"], "", "make it with `python app.py users add`"),
        (["data", "--data-folder", "nothing", "export", "-"], "", "There is nothing in nothing yet"),
        (["data", "export", "-", "--since", "yesterday"], "", "'yesterday' is not a date or time"),
        (["data", "restore", "none.tar"], "", "The file none.tar cannot be read as a backup"),
        (["data", "erase"], "no\n", "Nothing was erased"),
        (["data", "erase"], "", "Nothing was erased: there is nobody to answer; give --yes."),
        (["users", "--auth-file", "u.json", "add", "anna"], "", "Nothing was changed: no password was given."),
        (["data", "export", "."], "", "The file . is there already; an export never overwrites."),
        (
            ["data", "export", "nowhere/taught.jsonl"],
            "",
            "The file nowhere/taught.jsonl cannot be written (No such file or directory).",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_a_code(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    typed: str,
    sentence: str,
) -> None:
    assert run(*arguments, typed=typed, monkeypatch=monkeypatch) == app.FAILED_TO_START
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said


def test_a_password_that_is_not_typed_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-D at the prompt."""

    def end_of_file(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", end_of_file)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert run("users", "--auth-file", str(tmp_path / "u.json"), "add", "anna") == app.FAILED_TO_START
    assert capsys.readouterr().err == "Nothing was changed: no password was given.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["data", "export", "-", "--format", "events"], ["data", "backups"], ["--print-config"], ["--help"]]
)
def test_output_that_nobody_reads_any_more_ends_the_program_quietly(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with Store(folder / DATABASE) as store:
        back_up(store, folder)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert run(*arguments) == app.READER_GONE == 128 + signal.SIGPIPE
        out.write("nor does this raise an error")
    assert capsys.readouterr().err == ""


def test_a_full_disk_under_the_output_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert run("data", "export", "-") == app.FAILED_TO_START
    said = capsys.readouterr().err
    assert said == "There is no space left for the output; what was written is not complete.\n"


def test_an_export_that_fails_leaves_no_file_and_can_be_repeated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().iterdir())

    def interrupted(store: Store, format_: str, wanted: Wanted) -> Iterator[str]:
        yield "{}\n"
        raise StoreUnavailable("the database cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(commands, "export_lines", interrupted)
        assert run("data", "export", "taught.jsonl") == app.FAILED_TO_START
    assert sorted(Path().iterdir()) == before
    assert run("data", "export", "taught.jsonl") == 0 and "Norway" in Path("taught.jsonl").read_text()
    assert Path("taught.jsonl").stat().st_mode & 0o077 == 0
    assert sorted(Path().iterdir()) == sorted([*before, Path("taught.jsonl")])


@pytest.mark.parametrize("has_links", [True, False])
def test_an_export_does_not_overwrite_a_file_that_appears_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], has_links: bool
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr("os.link", refused)
    assert run("data", "export", "first.jsonl") == 0 and "Norway" in Path("first.jsonl").read_text()

    def slow(store: Store, format_: str, wanted: Wanted) -> Iterator[str]:
        Path("taught.jsonl").write_text("of somebody else")
        yield "{}\n"

    monkeypatch.setattr(commands, "export_lines", slow)
    assert run("data", "export", "taught.jsonl") == app.FAILED_TO_START
    assert capsys.readouterr().err == "The file taught.jsonl is there already; an export never overwrites.\n"
    assert Path("taught.jsonl").read_text() == "of somebody else"


def test_renewing_ends_all_sessions_and_gives_the_instance_another_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = ["--auth-file", "users.json"]
    run("users", *flag, "add", "anna", typed="a long password\n", monkeypatch=monkeypatch)
    key = open_identity(folder / "federation" / "key.pem").public
    accounts = Accounts(Path("users.json"))
    with Store(folder / DATABASE) as store:
        session = LoginSessions(store, accounts).begin(User("anna", "guest"))
    with in_use(folder):
        assert run("users", *flag, "renew") == app.FAILED_TO_START, "not under a running app"
    assert open_identity(folder / "federation" / "key.pem").public == key
    capsys.readouterr()
    assert run("users", *flag, "renew") == 0
    said = capsys.readouterr().out
    new = open_identity(folder / "federation" / "key.pem").public
    assert new != key and new.text in said and "Change the passwords too" in said and "anna" in said
    with Store(folder / DATABASE) as store:
        assert LoginSessions(store, accounts).user_of(session) is None
    assert accounts.by_password("anna", "a long password") is not None
    assert (folder / "federation" / "key.pem").stat().st_mode & 0o077 == 0
    assert run("users", "renew") == 0, "without logins: the key alone"


def test_export_backup_erase_and_restore(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with in_use(folder):  # as while the app runs
        assert run("data", "export", "taught.jsonl") == 0
        assert run("data", "backup", "all.tar") == 0
        assert run("data", "erase", "--yes") == app.FAILED_TO_START, "not under a running app"
    assert "The app is running" in capsys.readouterr().err
    line = json.loads(Path("taught.jsonl").read_text())
    assert line["chosen"][0]["content"] == "Paris" and line["prompt"][0]["content"] == "Capital of Norway?"
    assert run("data", "export", "taught.jsonl") == app.FAILED_TO_START, "an export never overwrites"
    assert run("data", "erase", "--yes") == 0
    capsys.readouterr()
    assert run("data", "export", "-") == 0 and capsys.readouterr().out == ""
    assert run("data", "restore", "all.tar") == 0
    capsys.readouterr()
    assert run("data", "export", "-") == 0 and json.loads(capsys.readouterr().out) == line


def test_what_was_said_before_there_were_users_is_given_to_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users_with("anna", "ben")
    assert run("data", "assign", "anna") == 0
    assert capsys.readouterr().out == "1 conversation(s) now belong to anna.\n"
    assert run("data", "export", "-", "--user", "anna") == 0 and "Norway" in capsys.readouterr().out
    assert run("data", "export", "-", "--user", "ben") == 0 and capsys.readouterr().out == ""


def test_conversations_are_given_only_to_a_user_who_exists(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users_with("anna", "ben")
    remove_user(Path("users.json"), "ben")
    for name in ("ana", "ben", ""):
        assert run("data", "assign", name) == app.FAILED_TO_START
        assert capsys.readouterr().err == f"There is no user {name!r}; there are: anna\n"
    Path("spear.toml").unlink()
    assert run("data", "assign", "anna") == app.FAILED_TO_START
    assert "Which file of users?" in capsys.readouterr().err
    assert owners(folder) == {""}, "nothing was changed"
    assert run("data", "--auth-file", "users.json", "assign", "anna") == 0
    assert owners(folder) == {"anna"}


def test_an_assignment_to_the_wrong_user_is_corrected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one to a name without an account, which earlier versions allowed, and to a second account of a name."""
    users_with("anna", "ben")
    with Store(folder / DATABASE) as store:
        store.assign_conversations("ana")
    assert run("data", "assign", "ben", "--from", "nobody") == app.FAILED_TO_START
    assert capsys.readouterr().err == "There is no user 'nobody'; users with conversations: ana.\n"
    assert run("data", "assign", "ben", "--from", "ana") == 0 and owners(folder) == {"ben"}
    remove_user(Path("users.json"), "anna")
    users_with("anna")
    second = read_accounts(Path("users.json")).accounts["anna"].user_id
    assert second != "anna"
    assert run("data", "assign", "anna", "--from", "ben") == 0 and owners(folder) == {second}
    assert run("data", "assign", second, "--from", "anna") == 0 and owners(folder) == {second}, "by id or name"
    capsys.readouterr()
    assert run("data", "export", "-", "--user", "anna") == 0 and "Norway" in capsys.readouterr().out


def test_only_what_somebody_said_who_exists_or_existed_is_exported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(folder / DATABASE) as store:
        store.assign_conversations("removed")
    assert run("data", "export", "-", "--user", "removed") == 0 and "Norway" in capsys.readouterr().out
    for users in ((), ("anna",)):
        users_with(*users)
        assert run("data", "export", "taught.jsonl", "--user", "nobody") == app.FAILED_TO_START
        assert capsys.readouterr().err == "There is no user 'nobody'; users with conversations: removed.\n"
    assert not Path("taught.jsonl").exists()
    assert run("data", "export", "-", "--user", "anna") == 0 and capsys.readouterr().out == "", "a user without chats"


def test_an_import_is_learned_by_the_model_of_the_settings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("more.jsonl").write_text('{"prompt": "Capital of Peru?", "chosen": "Lima", "rejected": "Rome"}\n')
    users_with("anna")
    assert run("data", "import", "more.jsonl", "--user", "ana", "--model", "pocket") == app.FAILED_TO_START
    assert "There is no user 'ana'" in capsys.readouterr().err
    assert run("data", "import", "more.jsonl", "--user", "anna", "--model", "pocket") == 0
    assert "1 imported" in capsys.readouterr().out
    with Store(folder / DATABASE) as store:
        new = [trace for trace in store.traces() if trace.completion == "Lima"]
        assert store.count_pending(new[0].base) == (1, 1)
    assert owners(folder) == {"", "anna"}


def test_a_fleet_can_begin_with_what_the_app_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "start.safetensors"
    assert run("data", "first-adapter", str(file), "--model", "pocket") == 0
    start = read_start(file)
    assert start.alpha == 16 and len(start.base) == 16
    assert run("data", "first-adapter", str(file), "--model", "pocket") == 2
    assert "exists; nothing was written" in capsys.readouterr().err


def test_a_model_gets_its_own_answers_written_into_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_folder("llama3", tmp_path / "model")
    assert run("data", "starter", "--model", str(model)) == 0
    assert f"answers are in {model}" in capsys.readouterr().out
    assert len(json.loads((model / "starter.json").read_text())["answers"]) > 40
    assert run("data", "starter", "--model", "some/name") == 2
