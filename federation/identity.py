"""The identity of a peer: an Ed25519 key (RFC 8032), made at the first start and kept in a private file. No network.

Every signature names its purpose, so that a signed request can never be passed off as a signed update.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from federation.errors import IdentityUnusable

log = logging.getLogger(__name__)

KEY_FILE = "key.pem"  # in the federation's folder
KEY_BYTES, SIGNATURE_BYTES = 32, 64
MAX_KEY_FILE_BYTES = 4096


def to_text(data: bytes) -> str:
    """URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_text(text: str, length: int) -> bytes:
    """The bytes that `to_text` wrote. Raises ValueError for anything else, also for other spellings."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as e:
        raise ValueError("not url-safe base64") from e
    if len(data) != length or to_text(data) != text:
        raise ValueError(f"not {length} bytes in url-safe base64")
    return data


@dataclass(frozen=True)
class PublicKey:
    """A peer's public key: 32 bytes. Equal keys are equal objects."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """From url-safe base64 (43 characters). Raises ValueError for anything else."""
        return cls(from_text(text, KEY_BYTES))

    @property
    def text(self) -> str:
        return to_text(self.raw)

    @property
    def fingerprint(self) -> str:
        """16 hex digits for people to compare; peers are pinned by the whole key."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verify(self, purpose: str, message: bytes, signature: bytes) -> bool:
        """Whether this key signed this message for this purpose."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, _framed(purpose, message))
        except (InvalidSignature, ValueError):
            return False
        return True


class Identity:
    """This instance's key pair."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def new(cls) -> Identity:
        return cls(Ed25519PrivateKey.generate())

    def sign(self, purpose: str, message: bytes) -> bytes:
        """64 bytes that `PublicKey.verify` accepts for the same purpose only."""
        return self._private.sign(_framed(purpose, message))

    def pem(self) -> bytes:
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _framed(purpose: str, message: bytes) -> bytes:
    return b"spear-federation\0" + purpose.encode() + b"\0" + message


def open_identity(path: Path) -> Identity:
    """The identity in `path` (PKCS#8 PEM, mode 0600), made and written whole when there is none yet.

    A file that others may read is closed to them, with a warning: refusing to start would not take back what they
    may have read, and a restored backup often comes with open modes.

    Raises:
        IdentityUnusable: if the file is damaged, holds another kind of key, or cannot be read, written or closed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path, Identity.new())
        return _read(path)
    except OSError as e:
        raise IdentityUnusable(f"the key file {path} cannot be used: {e.strerror or e}") from e


def renew_identity(path: Path) -> Identity:
    """Replace the key in `path`, which nobody uses meanwhile, by a new one: peers know the instance as another one.

    Raises:
        IdentityUnusable: if the file cannot be written.
    """
    identity = Identity.new()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        _create(path, identity)
    except OSError as e:
        raise IdentityUnusable(f"the key file {path} cannot be used: {e.strerror or e}") from e
    return identity


def _create(path: Path, identity: Identity) -> None:
    """Write to a temporary name, fsync, link: of two processes that start at once, the second takes the first's key."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(identity.pem())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the system can (Windows opens no folders)."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: Path) -> Identity:
    damaged = f"the key file {path} is damaged; restore it from a backup, or delete it to get a new identity"
    with path.open("rb") as file:
        if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            os.fchmod(file.fileno(), 0o600)
            log.warning(
                "the key file %s could be read by other users and is now closed to them; delete it for a new identity "
                "if you do not trust them",
                path,
            )
        data = file.read(MAX_KEY_FILE_BYTES + 1)
    try:
        private = load_pem_private_key(data[:MAX_KEY_FILE_BYTES], password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise IdentityUnusable(damaged) from e
    if not isinstance(private, Ed25519PrivateKey):
        raise IdentityUnusable(damaged)
    return Identity(private)
