"""Hostile updates: each is refused, and the reason names what is wrong with it."""

from __future__ import annotations

import json
import pickle  # noqa: TID251  what a peer may send, and nobody reads
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from federation.checks import Expected, Limits, Seen, check_update, norms_of
from federation.errors import MergeImpossible, UpdateRefused, UpdateReplayed
from federation.factors import digest_of
from federation.identity import Identity, to_text
from federation.manifest import PURPOSE, Manifest
from tests.federation.circle import A0, ALPHA, B0, BASE, NOW, adapter, expected, join_file, split_file, write

PEER, STRANGER = Identity.new(), Identity.new()
DAY = 86_400


class Trap:
    """Unpickling this would leave a file behind."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, ("sprung", "w")


def check(path: Path, seen: Seen | None = None, now: float = NOW, limits: Limits | None = None) -> Seen:
    return check_update(path, PEER.public, expected(), seen, now, limits).seen


def test_an_honest_update_passes_and_says_what_to_remember(tmp_path: Path) -> None:
    write(tmp_path / "u", PEER, round=7)
    checked = check_update(tmp_path / "u", PEER.public, expected(), None, NOW)
    assert checked.seen == Seen(7, NOW)
    assert checked.norms == norms_of(adapter(1))
    assert torch.equal(checked.update.tensors[A0], adapter(1)[A0])


# --- files that are no updates


def change_header(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    header, data = split_file(path)
    change(header)
    join_file(path, header, data)


def a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": Trap()}))


def a_torch_file(path: Path) -> None:
    torch.save({"weights": Trap()}, path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def truncated_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def with_more_behind(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"12345678")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def huge_header(path: Path) -> None:
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")


def nested_header(path: Path) -> None:
    join_file(path, b"[" * 200_000, b"")


def a_name_twice(path: Path) -> None:
    header, data = split_file(path)
    entry = json.dumps(header[A0])
    join_file(path, (json.dumps(header)[:-1] + f', "{A0}": {entry}}}').encode(), data)


def two_in_one_place(path: Path) -> None:
    def overlap(header: dict[str, object]) -> None:
        twin = A0.replace("down_proj", "q_proj").replace("mlp", "self_attn")
        header[twin] = {**header[A0], "shape": [2, 4]}  # type: ignore[dict-item]

    change_header(path, overlap)


def past_the_end(path: Path) -> None:
    header, data = split_file(path)
    last = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"][1])
    rows, columns = header[last]["shape"]
    header[last] |= {"shape": [rows * 1000, columns]}
    begin, end = header[last]["data_offsets"]
    header[last]["data_offsets"] = [begin, begin + (end - begin) * 1000]
    join_file(path, header, data)


def a_gap(path: Path) -> None:
    header, data = split_file(path)
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [n + 8 for n in entry["data_offsets"]]
    join_file(path, header, bytes(8) + data)


def negative_places(path: Path) -> None:
    change_header(path, lambda h: h[A0].update(data_offsets=[-32, 0]))  # type: ignore[attr-defined]


def overflowing_shape(path: Path) -> None:
    change_header(path, lambda h: h[A0].update(shape=[2**62, 4]))  # type: ignore[attr-defined]


def boolean_shape(path: Path) -> None:
    change_header(path, lambda h: h[A0].update(shape=[True, 8]))  # type: ignore[attr-defined]


def a_vector(path: Path) -> None:
    change_header(path, lambda h: h[A0].update(shape=[8]))  # type: ignore[attr-defined]


def integers(path: Path) -> None:
    change_header(path, lambda h: h[A0].update(dtype="I32"))  # type: ignore[attr-defined]


def float64(path: Path) -> None:
    save_file({n: t.double() for n, t in adapter(1).items()}, path)


def no_manifest(path: Path) -> None:
    save_file(adapter(1), path)


def no_tensors(path: Path) -> None:
    header, _ = split_file(path)
    join_file(path, {"__metadata__": header["__metadata__"]}, b"")


def metadata_of_numbers(path: Path) -> None:
    change_header(path, lambda h: h.update(__metadata__={"manifest": 1}))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (a_pickle, "not a safetensors file"),
        (a_torch_file, "not a safetensors file"),
        (truncated, "truncated: its tensors reach past the end"),
        (truncated_in_the_header, "truncated: it ends inside its header"),
        (with_more_behind, "bytes behind its last tensor"),
        (empty, "too short"),
        (missing, "cannot be read"),
        (huge_header, "its header is longer than"),
        (nested_header, "header is not JSON"),
        (a_name_twice, "header is not JSON"),
        (two_in_one_place, "overlaps another one"),
        (past_the_end, "reach past the end"),
        (a_gap, "leaves a gap"),
        (negative_places, "has no place"),
        (overflowing_shape, "not a matrix"),
        (boolean_shape, "not a matrix"),
        (a_vector, "not a matrix"),
        (integers, "is of type I32"),
        (float64, "is of type F64"),
        (no_manifest, "no manifest and signature"),
        (no_tensors, "no tensors"),
        (metadata_of_numbers, "not a table of texts"),
    ],
)
def test_a_file_that_is_no_update_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "u"
    write(path, PEER)
    spoil(path)
    with pytest.raises(UpdateRefused, match=says) as refusal:
        check(path)
    assert "\n" not in refusal.value.reason
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "u"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # sparse: five gigabytes of nothing
    with pytest.raises(UpdateRefused, match="more than the 268435456 that are taken"):
        check(path)


# --- well-formed updates of the wrong author, age or kind


def resigned(path: Path, **said: object) -> None:
    """The same file with another manifest, signed properly by the peer."""
    header, data = split_file(path)
    manifest = replace(Manifest.parse(header["__metadata__"]["manifest"]), **said)  # type: ignore[arg-type]
    signature = to_text(PEER.sign(PURPOSE, manifest.text.encode()))
    header["__metadata__"] |= {"manifest": manifest.text, "signature": signature}
    join_file(path, header, data)


def altered(path: Path, **said: object) -> None:
    """The same file with another manifest under the old signature."""
    header, data = split_file(path)
    manifest = replace(Manifest.parse(header["__metadata__"]["manifest"]), **said)  # type: ignore[arg-type]
    header["__metadata__"]["manifest"] = manifest.text
    join_file(path, header, data)


def test_an_altered_manifest_is_refused(tmp_path: Path) -> None:
    for said in ({"wins": 4}, {"round": 2}, {"created_at_utc": NOW + 1}, {"parent": "0" * 64}, {"sha256": "0" * 64}):
        write(tmp_path / "u", PEER)
        altered(tmp_path / "u", **said)
        with pytest.raises(UpdateRefused, match="signature does not hold"):
            check(tmp_path / "u")


def test_altered_tensors_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "u", PEER)
    raw = bytearray((tmp_path / "u").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "u").write_bytes(raw)
    with pytest.raises(UpdateRefused, match="not those that its author signed"):
        check(tmp_path / "u")


def test_another_key_is_refused_also_when_it_claims_to_be_the_peer(tmp_path: Path) -> None:
    write(tmp_path / "u", STRANGER)
    with pytest.raises(UpdateRefused, match=f"names the author {STRANGER.public.fingerprint}, not this peer"):
        check(tmp_path / "u")
    altered(tmp_path / "u", peer=PEER.public.text)
    with pytest.raises(UpdateRefused, match="signature does not hold"):
        check(tmp_path / "u")


@pytest.mark.parametrize(
    ("round_", "created", "seen", "now", "says"),
    [
        (5, NOW, Seen(5, NOW), NOW, "taken before"),
        (5, NOW - 5, Seen(5, NOW), NOW, "older than the one of round 5"),
        (4, NOW + 5, Seen(5, NOW), NOW, "older than the one of round 5"),
        (6, NOW - 1000, Seen(5, NOW), NOW, "older than the one of round 5"),
        (5, NOW + 1000, None, NOW, "from the future, by 17 minutes"),
        (5, NOW - 31 * DAY, None, NOW, "31 days old; its author must sign it again"),
    ],
)
def test_a_replayed_or_mistimed_update_is_refused(
    tmp_path: Path, round_: int, created: int, seen: Seen | None, now: float, says: str
) -> None:
    write(tmp_path / "u", PEER, round=round_, created_at_utc=created)
    with pytest.raises(UpdateRefused, match=says) as refusal:
        check(tmp_path / "u", seen, now)
    assert isinstance(refusal.value, UpdateReplayed) == (says == "taken before")


@pytest.mark.parametrize(
    ("round_", "created", "seen", "now"),
    [
        (5, NOW, None, NOW - 600),  # the peer's clock is ten minutes ahead
        (5, NOW, None, NOW + 600),
        (6, NOW - 600, Seen(5, NOW), NOW),  # and was then set right
        (5, NOW + 1, Seen(5, NOW), NOW),  # the same round, signed again
        (6, NOW, Seen(5, NOW), NOW),
    ],
)
def test_clocks_may_be_ten_minutes_apart(
    tmp_path: Path, round_: int, created: int, seen: Seen | None, now: float
) -> None:
    write(tmp_path / "u", PEER, round=round_, created_at_utc=created)
    assert check(tmp_path / "u", seen, now) == Seen(round_, created)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"protocol": 3}, "speaks protocol 3"),
        ({"protocol": 2}, "no fingerprint for questions_sha256"),
        ({"base": "f" * 16}, "for another base model"),
        ({"rank": 4}, "LoRA rank 4"),
        ({"alpha": 400}, "alpha 400"),
        ({"targets": ("k_proj",)}, "names other layers"),
    ],
)
def test_an_update_for_something_else_is_refused(tmp_path: Path, said: dict[str, object], says: str) -> None:
    write(tmp_path / "u", PEER)
    resigned(tmp_path / "u", **said)
    with pytest.raises(UpdateRefused, match=says):
        check(tmp_path / "u")


PATHS = "../../../../etc/passwd"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({A0: None}, "lacks 1 tensors"),
        ({A0.replace(".0.", ".1."): torch.ones(2, 4)}, "1 tensors too many"),
        ({A0: torch.ones(4, 2)}, r"shape \(4, 2\), not \(2, 4\)"),
        ({f"{PATHS}.lora_A.weight": torch.ones(2, 4)}, "too many, such as ../../../../etc/passwd.lora_A.weight"),
        ({"\x1b[2J\n<script>.lora_A.weight": torch.ones(2, 4)}, "too many, such as .* such as|too many"),
        ({A0: torch.full((2, 4), float("nan"))}, "not finite"),
        ({A0: torch.tensor([[0.0] * 4, [0, 0, 0, float("inf")]])}, "not finite"),
        ({B0: torch.tensor([[0.0, -float("inf")]] * 7).bfloat16()}, "not finite"),
        ({A0: torch.full((2, 4), 3e38)}, "A matrices are too large"),
        ({A0: adapter(1)[A0] * 1000}, "A matrices are too large"),
        ({B0: adapter(1)[B0] * 1000}, "B matrices are too large"),
        ({B0: adapter(1)[B0] * 1e-2, A0: adapter(1)[A0] * 1e3}, "A matrices are too large"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, torch.Tensor | None], says: str) -> None:
    """A hostile peer signs properly what its own program would never write."""
    state = {n: t.contiguous() for n, t in {**adapter(1), **change}.items() if t is not None}
    write(tmp_path / "honest", PEER)
    header, _ = split_file(tmp_path / "honest")
    manifest = replace(Manifest.parse(header["__metadata__"]["manifest"]), sha256=digest_of(state))
    signature = to_text(PEER.sign(PURPOSE, manifest.text.encode()))
    save_file(state, tmp_path / "u", {"format": "pt", "manifest": manifest.text, "signature": signature})
    with pytest.raises(UpdateRefused, match=says) as refusal:
        check(tmp_path / "u")
    assert refusal.value.reason.isprintable()


def test_an_adapter_a_thousand_times_too_large_is_refused_against_ones_own(tmp_path: Path) -> None:
    small = {n: t * 1e-4 for n, t in adapter(0).items()}
    own = Expected.of(small, BASE, ALPHA)
    write(tmp_path / "u", PEER, {n: t * 1000 for n, t in small.items()})
    with pytest.raises(UpdateRefused, match="A matrices are 1000 times as large as this instance's own; 50 times"):
        check_update(tmp_path / "u", PEER.public, own, None, NOW)


def test_a_first_adapter_whose_b_is_zero_still_has_the_absolute_bound(tmp_path: Path) -> None:
    first = {n: t * (".lora_A." in n) for n, t in adapter(0).items()}
    own = Expected.of(first, BASE, ALPHA)
    write(tmp_path / "u", PEER)
    check_update(tmp_path / "u", PEER.public, own, None, NOW)
    write(tmp_path / "u", PEER, {n: t * (100 if ".lora_B." in n else 1) for n, t in adapter(1).items()})
    with pytest.raises(UpdateRefused, match="B matrices are too large"):
        check_update(tmp_path / "u", PEER.public, own, None, NOW)


def test_a_huge_win_count_is_no_reason_to_refuse(tmp_path: Path) -> None:
    write(tmp_path / "u", PEER, wins=10**18)
    check(tmp_path / "u")  # it is capped where it is used: test_aggregate.py


def test_other_float_types_than_ones_own_are_taken(tmp_path: Path) -> None:
    write(tmp_path / "u", PEER, adapter(1, dtype=torch.bfloat16))
    check(tmp_path / "u")


def test_an_own_adapter_of_another_kind_cannot_be_expected() -> None:
    with pytest.raises(MergeImpossible, match="neither lora_A nor lora_B"):
        Expected.of({"magnitude": torch.ones(2, 2)}, BASE, ALPHA)
