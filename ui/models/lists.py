"""The lists of the Models tab as HTML: models used here, found on this machine, and recommended. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from services.models.downloads import DownloadView
from services.views import FoundModel, KnownModel, MemoryView, RecommendedModel
from ui.words import duration

# Clicks are heard on the list itself, so that entries may come and go
LIST_JS = """
element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-do]');
    if (['choose', 'download', 'stop'].includes(button?.dataset.do)) trigger(button.dataset.do, {name: button.dataset.name});
});
"""
NONE_FOUND = (
    "None found. Models of LM Studio and Ollama, models in the Hugging Face cache, and models in a folder that you name are "
    "listed here."
)


def size(count: float) -> str:
    """Bytes as a person says them: `1.4 GB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _button(do: str, name: str, words: str, label: str) -> str:
    return (
        f'<button type="button" class="sm" data-do="{do}" data-name="{escape(name)}" '
        f'aria-label="{escape(label)}">{words}</button>'
    )


def _where(name: str) -> str:
    """A folder below the one the app was started in is named from there."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else name


def known_html(models: Sequence[KnownModel]) -> str:
    """The models that were used here, the present one marked."""
    rows = "".join(_known(model) for model in models)
    return f'<section class="card"><header><h3>Used here</h3></header><ul class="models">{rows}</ul></section>'


def _known(model: KnownModel) -> str:
    title = Path(model.name).name
    learned = (
        f"{model.versions} version{'' if model.versions == 1 else 's'}" if model.versions else "nothing learned yet"
    )
    live = f", v{model.active} in use" if model.active else ""
    where = "Comes with the app" if model.is_built_in else escape(_where(model.name))
    pill = '<span class="pill live">answers now</span>' if model.is_current else ""
    button = "" if model.is_current else _button("choose", model.name, "Choose", f"Choose {title}")
    return (
        f'<li class="entry"><header><h4>{escape(title)}</h4>{pill}{button}</header>'
        f'<p class="where">{where}</p><p>{learned}{live}</p></li>'
    )


def found_html(models: Sequence[FoundModel]) -> str:
    """What other programs keep on this machine; what cannot be used comes last, with the reason."""
    ordered = sorted(models, key=lambda model: bool(model.problem))
    rows = "".join(_found(model) for model in ordered)
    words = f'<ul class="models">{rows}</ul>' if rows else f'<p class="detail">{NONE_FOUND}</p>'
    return f'<section class="card"><header><h3>Also on this machine</h3></header>{words}</section>'


def _found(model: FoundModel) -> str:
    button = "" if model.problem else _button("choose", model.name, "Choose", f"Choose {model.title}")
    about = f"{escape(model.place)}, {size(model.size_bytes)}"
    words = (
        f'<p class="problem">Cannot be used: {escape(model.problem)}.</p>'
        if model.problem
        else f"<p>Needs about {size(model.needed_bytes)} of memory.</p>"
    )
    return f'<li class="entry"><header><h4>{escape(model.title)}</h4>{button}</header><p class="where">{about}</p>{words}</li>'


def recommended_html(models: Sequence[RecommendedModel], download: DownloadView) -> str:
    """Models on the Hub, with what each asks of this machine."""
    rows = "".join(_recommended(model, download) for model in models)
    return (
        '<section class="card"><header><h3>Recommended</h3></header><p class="detail">From the Hugging Face Hub. Larger '
        f'models know more and learn more slowly.</p>{_download(download)}<ul class="models">{rows}</ul></section>'
    )


def _recommended(model: RecommendedModel, download: DownloadView) -> str:
    title = model.name.rpartition("/")[2]
    if model.folder:
        button = _button("choose", model.folder, "Choose", f"Choose {title}")
    elif download.phase == "running":
        button = ""
    else:
        words = "Resume" if model.has_part else "Download"
        button = _button("download", model.name, words, f"{words}: {title}")
    return (
        f'<li class="entry"><header><h4>{escape(title)}</h4>{button}</header>'
        f'<p class="where">{escape(model.name)} · licence {escape(model.licence)}</p><p>{escape(model.words)}</p>'
        f"<p>{model.parameters / 1e9:.1f} billion parameters. Download {size(model.download_bytes)}, memory about "
        f"{size(model.needed_bytes)}, a correction about {duration(model.seconds)}.</p></li>"
    )


def _download(download: DownloadView) -> str:
    """How far the download is, or how it ended."""
    if download.phase == "idle":
        return ""
    words = escape(download.sentence)
    if download.phase != "running":
        kind = "problem" if download.phase == "failed" else "detail"
        return f'<p class="{kind}" role="status">{words}</p>'
    share = 100 * download.done_bytes / max(download.total_bytes, 1)
    title = escape(download.name.rpartition("/")[2])
    done = f" {size(download.done_bytes)} of {size(download.total_bytes)}" if download.total_bytes else ""
    return (
        f'<div class="memory"><p><b>{title}</b> {words}{done}</p><div class="bar" role="progressbar" '
        f'aria-label="Download of {title}" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share:.0f}">'
        f'<span style="width:{share:.1f}%"></span></div>{_button("stop", "", "Cancel", "Cancel the download")}</div>'
    )


def memory_html(memory: MemoryView) -> str:
    """Needed against free, before anything is loaded."""
    fits = memory.needed_bytes <= memory.free_bytes
    share = min(1.0, memory.needed_bytes / max(memory.free_bytes, 1))
    words = (
        f"Needs about {size(memory.needed_bytes)}; {size(memory.free_bytes)} are free."
        if fits
        else f"Needs about {size(memory.needed_bytes)}, and only {size(memory.free_bytes)} are free. Close other programs or "
        "choose a smaller model."
    )
    return (
        f'<div class="memory {"fits" if fits else "too-large"}"><p><b>{escape(Path(memory.name).name)}</b>, '
        f'{memory.parameters / 1e6:,.1f} million parameters</p><div class="bar" role="meter" aria-label="Share of the free memory" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{100 * share:.0f}"><span style="width:{100 * share:.1f}%"></span>'
        f"</div><p>{words}</p></div>"
    )
