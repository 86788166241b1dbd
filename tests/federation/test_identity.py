"""Identities, keys as text, peer addresses, backoff."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import AddressInvalid, IdentityUnusable
from federation.identity import Identity, PublicKey, from_text, open_identity, to_text
from federation.peers import backoff_seconds, parse_address

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are posix's")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
def test_an_identity_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "identity.pem"
    first = open_identity(path)
    assert mode(path) == 0o600
    assert open_identity(path).public == first.public
    assert [p.name for p in path.parent.iterdir()] == ["identity.pem"]  # no temporary file stays


@posix
def test_a_key_file_that_others_can_read_is_closed_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "identity.pem"
    first = open_identity(path)
    path.chmod(0o644)
    assert open_identity(path).public == first.public
    assert mode(path) == 0o600
    assert "could be read by other users" in caplog.text


def test_a_damaged_or_foreign_key_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    whole = Identity.new().pem()
    rsa = generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", whole[:-40], b"\x80" * 100, rsa):
        path.write_bytes(content)
        with pytest.raises(IdentityUnusable, match="is damaged; restore it from a backup"):
            open_identity(path)
        assert path.read_bytes() == content


def test_a_key_file_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityUnusable, match="cannot be used"):
        open_identity(tmp_path / "file" / "identity.pem")


def test_of_two_processes_that_start_at_once_the_second_takes_the_firsts_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "identity.pem", Identity.new()
    link = os.link

    def beaten(source: Path, target: Path) -> None:
        target.write_bytes(other.pem())
        target.chmod(0o600)
        link(source, target)

    monkeypatch.setattr(os, "link", beaten)
    assert open_identity(path).public == other.public


def test_a_signature_holds_for_its_message_purpose_and_key_only() -> None:
    me, you = Identity.new(), Identity.new()
    signature = me.sign("update", b"text")
    assert me.public.verify("update", b"text", signature)
    assert not me.public.verify("update", b"texT", signature)
    assert not me.public.verify("request", b"text", signature)
    assert not you.public.verify("update", b"text", signature)
    assert not me.public.verify("update", b"text", signature[:-1])


@given(st.binary(min_size=32, max_size=32))
def test_keys_survive_being_written_as_text(raw: bytes) -> None:
    key = PublicKey(raw)
    assert PublicKey.parse(key.text) == key
    assert len(key.fingerprint) == 16 and key.fingerprint == PublicKey(raw).fingerprint


@pytest.mark.slow
@given(st.text(max_size=60))
def test_any_other_text_is_no_key(text: str) -> None:
    try:
        raw = from_text(text, 32)
    except ValueError:
        return
    assert to_text(raw) == text


KEY = to_text(bytes(range(32)))


@pytest.mark.parametrize(
    ("text", "url", "unprotected"),
    [
        (f"http://host:7860#{KEY}", "http://host:7860", True),
        (f" https://host/spear/#{KEY} ", "https://host/spear", False),
        (f"http://127.0.0.1:7860#{KEY}", "http://127.0.0.1:7860", False),
        (f"http://[::1]:7860#{KEY}", "http://[::1]:7860", False),
        (f"http://localhost#{KEY}", "http://localhost", False),
    ],
)
def test_an_address_is_a_url_and_a_key(text: str, url: str, unprotected: bool) -> None:
    address = parse_address(text)
    assert (address.url, address.unprotected) == (url, unprotected)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lacks the peer's key"),
        ("http://host:7860", "lacks the peer's key"),
        ("http://host:7860#", "lacks the peer's key"),
        (f"http://host:7860#{KEY}A", "not a peer key"),
        (f"http://host:7860#{KEY[:-1]}=", "not a peer key"),
        (f"ftp://host#{KEY}", "names no http host"),
        (f"host:7860#{KEY}", "names no http host"),
        (f"http://#{KEY}", "names no http host"),
        (f"http://host:99999#{KEY}", "cannot be read"),
        (f"http://[::1#{KEY}", "cannot be read"),
        (f"http://me:secret@host#{KEY}", "no user, password or query"),
        (f"http://host/?a=b#{KEY}", "no user, password or query"),
        (f"http://ho st#{KEY}", "is not a peer address"),
        (f"http://host\n#{KEY}", "is not a peer address"),
        ("http://" + "h" * 600 + f"#{KEY}", "is not a peer address"),
    ],
)
def test_a_wrong_address_is_refused_with_the_part_that_is_wrong(text: str, says: str) -> None:
    with pytest.raises(AddressInvalid, match=says):
        parse_address(text)


def test_backoff_doubles_up_to_its_limit_and_is_half_chance() -> None:
    assert backoff_seconds(0, 0.5) == 0
    assert backoff_seconds(1, 0.0) == 7.5  # 15 * .5
    assert backoff_seconds(3, 0.0) == 30.0  # 15 * 4 * .5
    assert backoff_seconds(3, 0.5) == 45.0  # 60 * .75
    assert backoff_seconds(10_000, 0.999) <= 3600


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_between_half_and_whole(failures: int, jitter: float) -> None:
    whole = min(3600.0, 15.0 * 2 ** (failures - 1))
    assert whole / 2 <= backoff_seconds(failures, jitter) <= whole
