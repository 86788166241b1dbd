"""The update format: what goes in comes out, is a plain safetensors file, and is signed as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from federation.errors import MergeImpossible, UpdateRefused
from federation.factors import digest_of
from federation.identity import Identity, to_text
from federation.manifest import Manifest
from federation.update import open_update, write_update
from tests.federation.circle import A0, ALPHA, BASE, NOW, adapter, join_file, split_file, write

ME = Identity.new()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rank=st.integers(1, 5),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    round_=st.integers(0, 2**63 - 1),
    wins=st.integers(0, 2**63 - 1),
    parent=st.one_of(st.just(""), st.binary(min_size=32, max_size=32).map(bytes.hex)),
    created=st.integers(0, 2**40),
)
def test_an_update_round_trips(
    seed: int, rank: int, dtype: torch.dtype, round_: int, wins: int, parent: str, created: int
) -> None:
    state = adapter(seed, rank=rank, dtype=dtype)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "update.safetensors"
        written = write(path, ME, state, round=round_, wins=wins, parent=parent, created_at_utc=created)
        update = open_update(path)
        library = load_file(path)
    assert update.manifest == written
    assert (written.rank, written.round, written.wins, written.parent) == (rank, round_, wins, parent)
    assert written.targets == ("down_proj", "q_proj")
    assert update.signed_by_author() and update.content_matches()
    assert set(update.tensors) == set(state) == set(library)
    for name, tensor in state.items():
        assert torch.equal(update.tensors[name], tensor) and torch.equal(library[name], tensor)
        assert update.tensors[name].dtype == dtype


def test_the_same_adapter_gives_the_same_update_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    state = adapter(3)
    first = write(tmp_path / "a", ME, state)
    second = write(tmp_path / "b", ME, dict(reversed(state.items())))
    assert first == second and split_file(tmp_path / "a")[1] == split_file(tmp_path / "b")[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_the_digest_names_the_adapter_whatever_file_it_lies_in() -> None:
    state = adapter(3)
    assert digest_of(state) == digest_of(dict(reversed(state.items())))
    assert digest_of(state) != digest_of(adapter(4))
    assert digest_of(state) != digest_of({n: t.bfloat16() for n, t in state.items()})
    renamed = {n.replace("q_proj", "k_proj"): t for n, t in state.items()}
    assert digest_of(state) != digest_of(renamed)


def test_the_etag_changes_with_the_tensors_and_with_the_words(tmp_path: Path) -> None:
    etags = {
        write(tmp_path / "u", ME).etag,
        write(tmp_path / "u", ME, adapter(2)).etag,
        write(tmp_path / "u", ME, created_at_utc=NOW + 1).etag,
        write(tmp_path / "u", ME, wins=4).etag,
    }
    assert len(etags) == 4


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_byte_of_an_update_can_be_changed_unnoticed(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "update.safetensors"
        write(path, ME)
        raw = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
        path.write_bytes(raw)
        try:
            update = open_update(path)
        except UpdateRefused:
            return
        honest = update.manifest.key == ME.public and update.signed_by_author() and update.content_matches()
        # what may change is the spelling of the header: a space inside, or the text "pt" that nobody reads
        assert not honest or at < 8 + int.from_bytes(raw[:8], "little")
        if honest:
            assert all(torch.equal(update.tensors[n], t) for n, t in adapter(1).items())


def test_opening_reads_the_header_only(tmp_path: Path) -> None:
    path = tmp_path / "u"
    write(path, ME)
    header, data = split_file(path)
    join_file(path, header, bytes(len(data)))
    update = open_update(path)  # zeros instead of the tensors: not noticed before they are read
    assert update.signed_by_author() and not update.content_matches()


def test_what_is_mapped_is_what_was_opened_although_the_name_is_taken_by_another_file(tmp_path: Path) -> None:
    path = tmp_path / "u"
    write(path, ME)
    update = open_update(path)
    write(path, ME, adapter(9))
    assert update.content_matches() and torch.equal(update.tensors[A0], adapter(1)[A0])


def test_only_plain_lora_of_one_rank_is_written(tmp_path: Path) -> None:
    words = {"base": BASE, "alpha": ALPHA, "round": 1, "wins": 1, "parent": "", "created_at_utc": NOW}
    for state, says in (
        ({**adapter(1), "base_model.model.lm_head.weight": torch.zeros(2, 2)}, "neither lora_A nor lora_B"),
        ({**adapter(1), A0: torch.zeros(3, 4)}, "one rank"),
        ({**adapter(1), A0: torch.zeros(2, 4, dtype=torch.int8)}, "not a matrix of float32"),
    ):
        with pytest.raises(MergeImpossible, match=says):
            write_update(tmp_path / "u", state, ME, **words)  # type: ignore[arg-type]
    with pytest.raises(UpdateRefused, match="base"):
        write(tmp_path / "u", ME, base="somewhere")
    assert not list(tmp_path.iterdir())


def test_a_manifest_has_one_spelling() -> None:
    manifest = Manifest(1, BASE, 2, ALPHA, ("q_proj",), ME.public.text, 1, 2, "", NOW, "0" * 64)
    assert Manifest.parse(manifest.text) == manifest
    for text in (
        manifest.text.replace(",", ", ", 1),
        manifest.text[:-1] + ',"more":1}',
        manifest.text.replace('"wins":2', '"wins":2.0'),
        manifest.text.replace('"wins":2', '"wins":true'),
        manifest.text.replace('"wins":2', '"wins":1,"wins":2'),
        manifest.text.replace('"wins":2', '"wins":-2'),
        manifest.text.replace('"wins":2', f'"wins":{2**63}'),
        manifest.text.replace('"wins":2', '"wins":NaN'),
        replace(manifest, peer=to_text(b"short")).text,
        replace(manifest, sha256="../../etc").text,
        "[" * 100_000,
        "null",
        "",
    ):
        with pytest.raises(UpdateRefused, match="manifest"):
            Manifest.parse(text)
