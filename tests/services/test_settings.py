"""Settings from file, environment and flags: what wins, what is refused, and that docs/SETTINGS.md tells the truth."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest

import app
from cli.settings_docs import page as page_of_the_settings
from services.peers.settings import FederationSettings
from services.settings import Settings
from services.settings_file import TABLES, as_toml, read_settings
from spear_core.config import PRESETS, SpearConfig
from spear_core.errors import ConfigError
from spear_core.setting_fields import setting_fields

DEFAULTS = {"model": "some-model", "data_folder": Path("data")}
ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "SETTINGS.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spear.toml"


def read(file: Path, text: str, **given: object) -> Settings:
    file.write_text(text)
    return read_settings(file, given, DEFAULTS)


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPEAR_DATA", raising=False)
    assert app.settings_from({}).data_folder == Path("data")
    (tmp_path / "spear.toml").write_text('data_folder = "from-file"\nport = 8001\nseed = 7\n')
    assert app.settings_from({}).data_folder == Path("from-file")
    monkeypatch.setenv("SPEAR_DATA", "from-environment")
    assert app.settings_from({}).data_folder == Path("from-environment")
    settings = app.settings_from(vars(app.make_parser().parse_args(["--data-folder", "from-flag", "--port", "8002"])))
    assert (settings.data_folder, settings.port, settings.seed) == (Path("from-flag"), 8002, 7)


def test_an_empty_variable_of_the_environment_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPEAR_DATA", "")
    assert app.settings_from({}).data_folder == Path("data")
    (tmp_path / "spear.toml").write_text('data_folder = "from-file"\n')
    assert app.settings_from({}).data_folder == Path("from-file")


@pytest.mark.parametrize("inside", [".", "federation", "services/data", "spear_core/models/new", "docs/../cli", "link"])
def test_the_program_is_no_data_folder_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    (tmp_path / "link").symlink_to(ROOT / "ui")
    folder = tmp_path / "link" if inside == "link" else ROOT / inside
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPEAR_DATA", raising=False)
    with pytest.raises(ConfigError, match="belongs to the program itself"):
        app.settings_from({"data_folder": folder})
    monkeypatch.setenv("SPEAR_DATA", str(folder))
    with pytest.raises(ConfigError, match="belongs to the program itself"):
        app.settings_from({})
    monkeypatch.delenv("SPEAR_DATA")
    (tmp_path / "spear.toml").write_text(f"data_folder = {json.dumps(str(folder))}\n")
    with pytest.raises(ConfigError, match="belongs to the program itself"):
        app.settings_from({})


@pytest.mark.parametrize("folder", [ROOT / "data", ROOT / "runs" / "api-trial", ROOT.parent / "spear-data"])
def test_a_folder_beside_the_packages_may_hold_the_data(folder: Path) -> None:
    assert Settings(model="some-model", data_folder=folder).data_folder == folder


def test_the_spear_table_changes_single_keys_of_the_preset(file: Path) -> None:
    config = read(file, 'preset = "paper"\n[spear]\nlora_rank = 4\nlearning_rate = 0.5\n')
    assert config.config() == PRESETS["paper"].replace(lora_rank=4, learning_rate=0.5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prot = 1", "unknown key prot; did you mean port?"),
        ("[spear]\nlambda_loose = 1", "unknown key spear.lambda_loose; did you mean spear.lambda_lose?"),
        ("max_steps = 3", "unknown key max_steps; it belongs under [spear]"),
        ("[spear]\nverbose = true", "unknown key spear.verbose; it belongs at the top of the file"),
        ("qqqq = 1", "unknown key qqqq; the keys are model, data_folder"),
        ('port = "8000"', "port = '8000' is not allowed; it must be a whole number"),
        ("port = true", "port = True is not allowed"),
        ("port = 70000", "port 70000 is not a port"),
        ("insecure = 1", "insecure = 1 is not allowed; it must be true or false"),
        ('[spear]\nlearning_rate = "fast"', "spear.learning_rate = 'fast' is not allowed; it must be a number"),
        ("[spear]\nmargin = 1.4", "spear.margin = 1.4 is not allowed"),
        ("spear = 3", "spear is a table"),
        ("learn_interval_seconds = nan", "learn_interval_seconds = nan is not allowed; it must be 0.1 to 86400"),
        ("learn_interval_seconds = inf", "learn_interval_seconds = inf is not allowed"),
        ("learn_interval_seconds = 1e300", "learn_interval_seconds = 1e+300 is not allowed"),
        ("learn_interval_seconds = 1e-9", "learn_interval_seconds = 1e-09 is not allowed"),
        ('[federation]\nsync_every = "8d"', "sync_every = '8d' is not allowed"),
        (f'[federation]\nsync_every = "{"9" * 400}"', "is not allowed; write a time from 5s to 7d"),
        ("port = ", "is not valid TOML"),
        (
            '[federation]\npeers = "http://a:1"',
            "federation.peers = 'http://a:1' is not allowed; it must be a list of texts",
        ),
        ("[federation]\nsync_evry = 1", "unknown key federation.sync_evry; did you mean federation.sync_every?"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_way_out(file: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        read(file, text)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        read_settings(tmp_path / "nowhere.toml", {}, DEFAULTS)


@pytest.mark.parametrize("value", [-1e9, math.nan])
def test_every_number_of_the_learning_has_a_range(value: float) -> None:
    numbers = {f.name: f.default for f in dataclasses.fields(SpearConfig) if type(f.default) in (int, float)}
    assert len(numbers) > 30
    for name, default in numbers.items():
        if math.isnan(value) and isinstance(default, int):
            continue
        if name == "judge_tau" and value < 0:  # a gain, which may be below 0
            continue
        with pytest.raises(ConfigError, match=rf"spear\.{name} = "):
            PRESETS["live"].replace(**{name: type(default)(value)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        'preset = "paper"',
        f'[federation]\npeers = ["http://a:1#{"A" * 43}"]\nclip = 1.5',
        'model = "a \\"b\\" \\\\ ü\\u007f"\n[spear]\njudge_tau = inf',
    ],
)
def test_what_print_config_prints_reads_back_to_the_same(file: Path, text: str) -> None:
    settings = read(file, text)
    again = read(file, as_toml(settings))
    assert again.config() == settings.config()
    assert dataclasses.replace(again, spear={}) == dataclasses.replace(settings, spear={})


def test_print_config_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--print-config", "--port", "8003"]) == 0
    assert "port = 8003" in capsys.readouterr().out


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_beyond_this_machine_needs_users_or_the_word_insecure(host: str) -> None:
    with pytest.raises(ConfigError, match="--auth-file, or give --insecure"):
        Settings(**DEFAULTS, host=host)  # type: ignore[arg-type]
    Settings(**DEFAULTS, host=host, insecure=True)  # type: ignore[arg-type]
    Settings(**DEFAULTS, host=host, auth_file=Path("users.json"))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_neither(host: str) -> None:
    assert Settings(**DEFAULTS, host=host).host == host  # type: ignore[arg-type]


# -- docs/SETTINGS.md ------------------------------------------------------------------------------------------------


def rows(heading: str) -> dict[str, list[str]]:
    """key -> the cells after it, of the table under a heading of the page."""
    section = DOCS.read_text().split(f"## {heading}")[1].split("\n## ")[0]
    return {
        m[1]: [c.strip() for c in m[2].split(" | ")] for m in re.finditer(r"^\| `(\w+)` \| (.*) \|$", section, re.M)
    }


def shown(value: object) -> str:
    """A default as the page writes it."""
    value = list(value) if isinstance(value, tuple) else value
    if value is None:
        return "not set"
    plain = str(value) if isinstance(value, Path) else value
    assert not (isinstance(plain, float) and math.isinf(plain))
    return f"`{plain!r}`" if isinstance(plain, float) else f"`{json.dumps(plain)}`"


def test_the_page_has_every_key_of_the_top_with_its_default_and_no_other() -> None:
    settings = Settings(**DEFAULTS)  # type: ignore[arg-type]
    keys = [f.name for f in dataclasses.fields(settings) if f.name not in TABLES]
    page = rows("At the top of the file")
    assert list(page) == keys
    assert {key: page[key][0] for key in keys if key != "model"} == {
        key: shown(getattr(settings, key)) for key in keys if key != "model"
    }


def test_the_page_has_every_key_of_the_spear_table_with_its_defaults_and_no_other() -> None:
    page = rows("`[spear]`")
    live, general, paper = (dataclasses.asdict(PRESETS[name]) for name in ("live", "general", "paper"))
    assert {key: cells[:3] for key, cells in page.items()} == {
        key: [shown(live[key]), shown(general[key]), shown(paper[key])] for key in live
    }
    assert all(cells[3] for cells in page.values())


def test_every_key_of_the_top_has_a_flag_of_its_name() -> None:
    flags = {action.dest for action in app.make_parser()._actions}
    keys = {f.name for f in dataclasses.fields(Settings) if f.name not in TABLES}
    assert flags - {"help", "config", "print_config", "peers", "sync_every"} == keys


def test_the_page_has_every_key_of_the_federation_table_with_its_default_and_no_other() -> None:
    page = rows("`[federation]`")
    assert {key: cells[0] for key, cells in page.items()} == {
        key: shown(value) for key, value in dataclasses.asdict(FederationSettings()).items()
    }


def test_flags_about_peers_win_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "A" * 43
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spear.toml").write_text(
        f'[federation]\npeers = ["http://a:1#{key}"]\nsync_every = "1h"\nname = "Ann"\n'
    )
    assert app.settings_from({}).federation.peers == (f"http://a:1#{key}",)
    flags = ["--peer", f"http://b:1#{key}", "--peer", f"http://c:1#{key}", "--sync-every", "30s"]
    federation = app.settings_from(vars(app.make_parser().parse_args(flags))).federation
    assert federation.peers == (f"http://b:1#{key}", f"http://c:1#{key}")
    assert (federation.sync_seconds, federation.name) == (30.0, "Ann")


def test_the_example_of_the_page_is_a_valid_file(file: Path) -> None:
    example = DOCS.read_text().split("```toml\n")[1].split("```")[0]
    assert read(file, example).spear == {"max_new_tokens": 128}


def test_the_page_is_what_the_settings_say() -> None:
    assert page_of_the_settings(DOCS.read_text()) == DOCS.read_text(), "run: python -m cli.settings_docs"


@pytest.mark.parametrize("settings", [Settings, SpearConfig, FederationSettings])
def test_every_key_says_what_it_means(settings: type) -> None:
    silent = [name for name, field in setting_fields(settings).items() if name not in TABLES and not field.meaning]
    assert silent == []


def test_help_says_what_every_flag_means() -> None:
    said = " ".join(app.make_parser().format_help().split())
    for name, field in setting_fields(Settings).items():
        if name not in TABLES:
            assert " ".join(field.meaning.replace("`", "").split())[:40] in said, name
