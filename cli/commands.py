"""The command line beside the app: `app.py users` (who may log in) and `app.py data` (export, import, backup...).

Besides app.py, this is the only module that prints.
"""

from __future__ import annotations

import argparse
import getpass
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from feedback_store import Store
from feedback_store.transfer import STATUSES, Wanted
from services.accounts import users_file as accounts
from services.accounts.renewal import renew
from services.data import backups
from services.data.backup_contents import backup_views, erase_from_backups
from services.data.feedback_files import FORMATS, export_lines, write_export
from services.data.feedback_import import import_file
from services.data.trl_rows import moment
from services.settings import Settings
from spear_core.errors import ConfigError, SpearError

SettingsFrom = Callable[[dict[str, object]], Settings]
AUTH_FILE_HELP = "the file of users (default: auth_file of spear.toml)"


def users(argv: list[str], settings_from: SettingsFrom) -> None:
    """`app.py users ...`. Raises SpearError with one sentence."""
    parser = argparse.ArgumentParser(prog="app.py users", description="Who may log in.", allow_abbrev=False)
    _common(parser).add_argument("--auth-file", type=Path, help=AUTH_FILE_HELP)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser("add", help="add a user, or change password and role; asks for the password")
    add.add_argument("name")
    add.add_argument("--role", choices=accounts.ROLES, help="default: as before; of a new user guest")
    for name, does in (
        ("remove", "remove a user"),
        ("key", "make an API key and print it"),
        ("revoke-keys", "end all API keys of a user"),
    ):
        commands.add_parser(name, help=does).add_argument("name")
    commands.add_parser("list", help="list users and roles")
    renew = commands.add_parser(
        "renew", help="after others may have read this machine's files: end all sessions, make a new peer key"
    )
    renew.add_argument("--data-folder", type=Path, help="default: as the app itself")
    asked = parser.parse_args(argv)
    if asked.command == "renew":
        _renew(asked, settings_from)
        return
    file = _auth_file(asked, settings_from)
    match asked.command:
        case "add":
            role = accounts.add_user(file, asked.name, asked.role, _password(asked.name))
            print(f"{asked.name} may log in as {role}; start the app with --auth-file {file}")
        case "remove":
            accounts.remove_user(file, asked.name)
            print(f"{asked.name} can no longer log in; their conversations stay.")
        case "key":
            print(accounts.make_key(file, asked.name))
        case "revoke-keys":
            print(f"{accounts.remove_keys(file, asked.name)} API key(s) of {asked.name} ended.")
        case "list":
            for account in accounts.read_accounts(file).accounts.values():
                again = f"\tid {account.user_id}" if account.user_id != account.name else ""
                print(f"{account.name}\t{account.role}\t{len(account.keys)} API key(s){again}")


def _renew(asked: argparse.Namespace, settings_from: SettingsFrom) -> None:
    settings = settings_from({k: v for k in ("config", "data_folder") if (v := getattr(asked, k)) is not None})
    file = asked.auth_file or settings.auth_file
    key = renew(settings.data_folder)
    print(f"This instance's new key is {key}: your peers must approve it; the old one is no longer valid.")
    if file:
        users = ", ".join(accounts.read_accounts(file).accounts)
        print(f"All sessions have ended. Change the passwords too, with `app.py users add NAME`: {users}.")


def data(argv: list[str], settings_from: SettingsFrom) -> None:
    """`app.py data ...`. Raises SpearError or StoreError with one sentence."""
    parser = argparse.ArgumentParser(prog="app.py data", description="What was said and learned.", allow_abbrev=False)
    _common(parser).add_argument("--data-folder", type=Path, help="default: as the app itself")
    parser.add_argument("--auth-file", type=Path, help=AUTH_FILE_HELP)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    export = commands.add_parser("export", help="write what was taught as JSON lines; the app may run")
    export.add_argument("--since", help="a date or time (UTC)")
    export.add_argument("--until", help="a date or time (UTC), itself not included")
    export.add_argument("--status", action="append", choices=STATUSES, help="may be repeated; default: not withdrawn")
    import_ = commands.add_parser("import", help="read JSON lines, a JSON array or Parquet; a running app learns them")
    import_.add_argument("--model", help="the base model that is to learn them (default: as the app itself)")
    import_.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be read, and say which")
    for command in (export, import_):
        command.add_argument("file", type=Path, help="- for the standard streams")
        command.add_argument("--format", choices=FORMATS, default="preference", help="default: %(default)s")
        command.add_argument("--user", help="name or id: only what this user said; or whose the imported is")
    for name, does in (
        ("backup", "write everything into one file; the app may run"),
        ("restore", "put everything back from such a file"),
    ):
        commands.add_parser(name, help=does).add_argument("file", type=Path)
    commands.add_parser("backups", help="list the backups in the data folder, and what they hold that was erased since")
    commands.add_parser(
        "erase-from-backups", help="make a new backup, and delete those that hold what was erased since"
    )
    assign = commands.add_parser("assign", help="assign conversations from before there were users to one of them")
    assign.add_argument("name", help="name or id of a user in the file of users")
    assign.add_argument("--from", dest="former", metavar="USER", help="assign all conversations of this user instead")
    first = commands.add_parser(
        "first-adapter", help="write the adapter that all apps of a model begin with, for a fleet"
    )
    first.add_argument("file", type=Path)
    starter = commands.add_parser(
        "starter", help="write a model's own answers into its folder, for quicker first starts"
    )
    for command in (first, starter):
        command.add_argument("--model", help="the base model (default: as the app itself)")
    erase = commands.add_parser("erase", help="delete everything that was said and learned, backups in it included")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    asked = parser.parse_args(argv)
    given = {
        k: v for k in ("config", "data_folder", "auth_file", "model") if (v := getattr(asked, k, None)) is not None
    }
    {
        "export": _export,
        "import": _import,
        "backup": _back_up,
        "restore": _restore,
        "backups": _list_backups,
        "erase-from-backups": _erase_from_backups,
        "assign": _assign,
        "erase": _erase,
        "first-adapter": _first_adapter,
        "starter": _starter,
    }[asked.command](asked, settings_from(given))


def _common(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--config", type=Path, help="settings file (default: spear.toml here, if there is one)")
    return parser


def _auth_file(asked: argparse.Namespace, settings_from: SettingsFrom) -> Path:
    if asked.auth_file:
        return Path(asked.auth_file)
    return _named(settings_from({"config": asked.config} if asked.config else {}).auth_file)


def _named(auth_file: Path | None) -> Path:
    if auth_file is None:
        raise ConfigError("which file of users? name it with --auth-file, or as auth_file in spear.toml")
    return auth_file


def _owner_id(store: Store, settings: Settings, name_or_id: str) -> str:
    """The id of somebody who owns conversations, a removed user too, or has an account. Raises SpearError for others."""
    owners = store.conversation_owners()
    if name_or_id in owners:
        return name_or_id
    if settings.auth_file and (account := accounts.read_accounts(settings.auth_file).find(name_or_id)):
        return account.user_id
    known = ", ".join(sorted(filter(None, owners))) or "none yet"
    raise SpearError(f"There is no user {name_or_id!r}; users with conversations: {known}.")


def _password(name: str) -> str:
    """Typed twice, or a line of standard input where nobody is at the keyboard."""
    try:
        if not sys.stdin.isatty():
            if line := sys.stdin.readline():
                return line.rstrip("\n")
            raise EOFError
        password = getpass.getpass(f"Password for {name}: ")
        repeated = getpass.getpass("Once more: ")
    except EOFError as e:
        raise SpearError("Nothing was changed: no password was given.") from e
    if repeated != password:
        raise SpearError("The two passwords differ; nothing was changed.")
    return password


def _store(settings: Settings) -> Store:
    file = settings.data_folder / backups.DATABASE
    if not file.is_file():
        raise SpearError(f"There is nothing in {settings.data_folder} yet; name the right folder with --data-folder.")
    return Store(file)


def _export(asked: argparse.Namespace, settings: Settings) -> None:
    given: dict[str, object] = {key: moment(said) for key in ("since", "until") if (said := getattr(asked, key))}
    given |= {"statuses": tuple(asked.status)} if asked.status else {}
    with _store(settings) as store:
        if asked.user is not None:
            given["user"] = _owner_id(store, settings, asked.user)
        lines = export_lines(store, asked.format, Wanted(**given))  # type: ignore[arg-type]
        if str(asked.file) == "-":
            sys.stdout.writelines(lines)
        else:
            write_export(asked.file, lines)


def _import(asked: argparse.Namespace, settings: Settings) -> None:
    from services.app import prepare_data_folder
    from services.models.built_in import model_folder
    from spear_core.models.loading import load_model

    user = None if asked.user is None else accounts.find_account(_named(settings.auth_file), asked.user).user_id
    try:
        content = sys.stdin.buffer.read() if str(asked.file) == "-" else asked.file.read_bytes()
    except OSError as e:
        raise SpearError(f"{asked.file} cannot be read ({e.strerror}).") from e
    with backups.in_use(settings.data_folder):
        prepare_data_folder(settings.data_folder)
        base = ""
        if asked.format != "events":
            base = load_model(model_folder(settings.model, settings.data_folder)).fingerprint
        with Store(settings.data_folder / backups.DATABASE) as store:
            done = import_file(store, asked.format, content, base, user, skip_bad=asked.skip_bad)
    for skipped in done.skipped:
        print(f"{skipped.place} skipped: {skipped.reason}", file=sys.stderr)
    print(f"{done.added} imported{f', {len(done.skipped)} skipped' if done.skipped else ''}.")


def _back_up(asked: argparse.Namespace, settings: Settings) -> None:
    with _store(settings) as store:
        print(backups.back_up(store, settings.data_folder, asked.file))


def _restore(asked: argparse.Namespace, settings: Settings) -> None:
    with (
        backups.in_use(settings.data_folder, alone=True),
        Store(settings.data_folder / backups.DATABASE) as store,
    ):
        before = backups.restore(store, settings.data_folder, asked.file, lambda change: change())
    print(f"Restored. What was there before is in {before}.")


def _list_backups(asked: argparse.Namespace, settings: Settings) -> None:
    with _store(settings) as store:
        for view in backup_views(store, settings.data_folder):
            erased = f"{view.erased_conversations} conversation(s), {view.erased_feedback} feedback record(s)"
            holds = f"holds what was erased since: {erased}" if view.holds_erased else "holds nothing that was erased"
            holds = holds if view.is_readable else "damaged; may hold what was erased"
            print(f"{view.file}\t{view.made_at_utc}\t{view.bytes} bytes\t{holds}")


def _erase_from_backups(asked: argparse.Namespace, settings: Settings) -> None:
    with _store(settings) as store:
        deleted = erase_from_backups(store, settings.data_folder)
    print(f"A new backup was made; {', '.join(deleted)} deleted." if deleted else "No backup holds what was erased.")


def _assign(asked: argparse.Namespace, settings: Settings) -> None:
    account = accounts.find_account(_named(settings.auth_file), asked.name)
    with _store(settings) as store:
        former = "" if asked.former is None else _owner_id(store, settings, asked.former)
        print(f"{store.assign_conversations(account.user_id, former)} conversation(s) now belong to {account.name}.")


def _erase(asked: argparse.Namespace, settings: Settings) -> None:
    question = f"Erase everything that was said and learned in {settings.data_folder}? Type yes: "
    try:
        if not asked.yes and input(question).strip().lower() != "yes":
            raise SpearError("Nothing was erased.")
    except EOFError as e:
        raise SpearError("Nothing was erased: there is nobody to answer; give --yes.") from e
    with backups.in_use(settings.data_folder, alone=True), _store(settings) as store:
        backups.erase(store, settings.data_folder, lambda change: change())
    print("Erased.")


def _first_adapter(asked: argparse.Namespace, settings: Settings) -> None:
    from services.models.switching import write_first_adapter

    write_first_adapter(settings, asked.file)
    print(f"Every app with this model begins with {asked.file}; federation/flower/README.md says how a fleet uses it.")


def _starter(asked: argparse.Namespace, settings: Settings) -> None:
    from services.app import open_services
    from services.learning.starter_answers import ship_starter_answers
    from services.models.built_in import asset_folder

    folder = asset_folder(settings.model) or Path(settings.model)
    if not folder.is_dir():
        raise SpearError(f"{folder} is not a folder on this machine; the answers are written into the model's folder.")
    with tempfile.TemporaryDirectory() as scratch:
        session = open_services(replace(settings, data_folder=Path(scratch)), start_jobs=False)
        try:
            count = ship_starter_answers(session.engine, folder)
        except OSError as e:
            raise SpearError(f"{folder} cannot be written ({e.strerror}).") from e
        finally:
            session.close()
    print(f"{count} answers are in {folder}.")
