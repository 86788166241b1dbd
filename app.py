"""Start the chat: flags and environment -> settings -> the services -> the page. Nothing else."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

POCKET_MODEL = Path(__file__).resolve().parent / "assets" / "pocket-model"
FAILED_TO_START = 2


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Exits with code 2 and one sentence for a flag that does not exist or a value of the wrong type."""
    parser = argparse.ArgumentParser(
        description="A chat whose model learns from the person using it.", allow_abbrev=False
    )
    parser.add_argument(
        "--model", default=str(POCKET_MODEL), help="folder or Hub name of a causal LM (default: the pocket model)"
    )
    parser.add_argument(
        "--data-folder",
        default=os.environ.get("SPEAR_DATA", "data"),
        type=Path,
        help="what is kept (default: SPEAR_DATA or ./data)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", default=7860, type=int, help="port to listen on, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--preset", default="live", help="live (fast corrections) or paper (as published) (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: %(default)s)")
    parser.add_argument("--threads", default=0, type=int, help="CPU threads, 0 for automatic (default: %(default)s)")
    parser.add_argument("--seed", default=1, type=int, help="seed of training (default: %(default)s)")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="URL#KEY", help="push to and pull from this peer (repeatable)"
    )
    parser.add_argument(
        "--sync-every", default="10m", help="how often to push and pull: 30s, 10m, 2h (default: %(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="log what the app does to stderr")
    return parser.parse_args(argv)


def prepare_environment(model: str) -> None:
    """Before the libraries are imported: no telemetry; for a model in a folder also no Hub and no progress bars."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if Path(model).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["TQDM_DISABLE"] = "1"
    warnings.filterwarnings("ignore", category=FutureWarning)  # of one library to another; nothing a user can act on


def run(arguments: argparse.Namespace) -> None:
    """Serve until a signal. Raises SpearError or StoreError, each with one sentence, where it cannot start."""
    from services.federation_settings import FederationSettings
    from services.settings import Settings
    from ui.server import bind, serve

    given = {k: v for k, v in vars(arguments).items() if k not in ("verbose", "peer", "sync_every")}
    federation = FederationSettings(peers=tuple(arguments.peer), sync_every=arguments.sync_every)
    settings = Settings(**given, federation=federation)
    listener = bind(settings.host, settings.port)  # first: a busy port should not cost the loading of a model
    from services.workbench import keep_what_is_loaded, open_workbench
    from ui.page import build_page

    workbench = open_workbench(settings)
    try:
        name, page = workbench.model.name, build_page(workbench)
        keep_what_is_loaded()
        ready = f"SPEAR chat with {name} is ready: "
        serve(page, listener, workbench.sync.routes(), lambda url: print(f"{ready}{url}", flush=True))
    finally:
        workbench.close()


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    prepare_environment(arguments.model)
    from feedback_store.errors import StoreError
    from spear_core.errors import SpearError

    try:
        run(arguments)
    except (SpearError, StoreError) as error:
        sentence = str(error)
        print(sentence[:1].upper() + sentence[1:], file=sys.stderr)
        return FAILED_TO_START
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
