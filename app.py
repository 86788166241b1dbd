"""Entry point of the chat: reads settings, builds the services and the page, and serves them."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.settings import Settings

COMMANDS = ("users", "data", "mcp")
FAILED_TO_START = 2
INTERRUPTED = 130
READER_GONE = 141  # what a shell reports of a program that SIGPIPE ended


def make_parser() -> argparse.ArgumentParser:
    """Only flags that were given are in the result: what is left out comes from the file or the defaults."""
    from cli.settings_docs import add_flags

    parser = argparse.ArgumentParser(
        description="A chat whose model learns from the person using it.",
        epilog="Also: `app.py users --help` (who may log in), `app.py data --help` (export, import, backup, restore, "
        "erase), `app.py mcp --help` (tools for other assistants). docs/SETTINGS.md explains every setting.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", type=Path, help="settings file (default: spear.toml here, if there is one)")
    parser.add_argument("--print-config", action="store_true", help="print the settings in force as a file, and end")
    add_flags(parser)
    return parser


def settings_from(given: dict[str, Any]) -> Settings:
    """Flags over SPEAR_DATA over the file over the defaults. Raises ConfigError with one sentence."""
    from services.settings_file import DEFAULTS, FILE_NAME, read_settings

    file = given.pop("config", None) or (Path(FILE_NAME) if Path(FILE_NAME).is_file() else None)
    if data_folder := os.environ.get("SPEAR_DATA"):  # compose files set variables that are empty
        given.setdefault("data_folder", Path(data_folder))
    if "trusted_proxies" in given:
        given["trusted_proxies"] = tuple(given["trusted_proxies"])
    given["federation"] = {key: given.pop(key) for key in ("peers", "sync_every") if key in given}
    return read_settings(file, given, DEFAULTS)


def prepare_environment() -> None:
    """Before the libraries are imported, which read this once: no telemetry, and nothing that a user cannot act on.

    The Hub is asked only for a model that is not on this machine, and for a download that was asked for on the page.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    warnings.filterwarnings("ignore", category=FutureWarning)  # of one library to another


def announce(settings: Settings) -> None:
    """What a start with the default model has to say before it is ready: one line, or nothing."""
    from services.models.built_in import AUTO, MISSING, POCKET, default_model, is_prepared

    if settings.model == AUTO and default_model() == POCKET:
        print(f"{MISSING}; starting the small pocket model instead.", file=sys.stderr, flush=True)
    elif not is_prepared(settings.model, settings.data_folder):
        print("Preparing SmolLM2 for its first start. This happens once.", file=sys.stderr, flush=True)


def serve_until_signal(settings: Settings) -> None:
    """Raises SpearError or StoreError, each with one sentence, where it cannot start."""
    from cli.interrupts import remembered_interrupts
    from services.data.backups import serving
    from services.data.private_files import temporary_files

    # first: a folder in use, or a busy port, should not cost the loading of a model
    with (
        serving(settings.data_folder),
        temporary_files(settings.data_folder),
        remembered_interrupts() as stop_if_interrupted,
    ):
        from ui.serve import bind, serve

        listener = bind(settings.host, settings.port)
        from server.current_user import Access
        from services.accounts.users_file import Accounts
        from services.app import keep_what_is_loaded, open_services
        from ui.page import build_page
        from ui.visitor import Visitor

        accounts = Accounts(settings.auth_file) if settings.auth_file else None
        announce(settings)
        app_services = open_services(settings)
        access = Access(app_services, accounts)
        try:
            page = build_page(Visitor(access))
            keep_what_is_loaded()
            stop_if_interrupted()
            ready = f"SPEAR chat with {app_services.model.name} is ready"
            serve(
                page,
                access,
                listener,
                lambda url: print(f"{ready}: {url}", flush=True),
                insecure=settings.insecure,
                trusted_proxies=settings.trusted_proxies,
            )
        finally:
            access.close()
            app_services.close()


def run(argv: list[str]) -> None:
    """Raises SpearError or StoreError, each with one sentence."""
    os.umask(0o077)  # what is written is for this user's eyes only
    prepare_environment()
    if argv and argv[0] in COMMANDS:
        if argv[0] == "mcp":  # asks the running app over HTTP: nothing that computes is imported
            from cli.mcp_server import mcp as command
        else:
            from cli import commands

            command = getattr(commands, argv[0])
        command(argv[1:], settings_from)
        return
    given = vars(make_parser().parse_args(argv))
    print_config = given.pop("print_config", False)
    settings = settings_from(given)
    if print_config:
        from services.settings_file import as_toml

        print(as_toml(settings), end="")
        return
    logging.basicConfig(
        level=logging.INFO if settings.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    serve_until_signal(settings)


def discard_output() -> None:
    """Send what standard output still holds nowhere: the interpreter would fail to write it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def main(argv: list[str] | None = None) -> int:
    from feedback_store.errors import StoreError
    from spear_core.errors import SpearError

    try:
        try:
            run(sys.argv[1:] if argv is None else argv)
        finally:
            if sys.stdout is not None:  # closed by `>&-`
                sys.stdout.flush()
    except BrokenPipeError:  # `... | head -1`
        discard_output()
        return READER_GONE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        discard_output()
        print("There is no space left for the output; what was written is not complete.", file=sys.stderr)
        return FAILED_TO_START
    except (SpearError, StoreError) as error:
        sentence = str(error)
        print(sentence[:1].upper() + sentence[1:], file=sys.stderr)
        return FAILED_TO_START
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr, flush=True)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    code = main()
    if code == INTERRUPTED:  # at once: threads that still load the model would end with tracebacks
        os._exit(code)
    sys.exit(code)
