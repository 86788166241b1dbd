"""The manifest of an update: canonical JSON with a signature. No tensors are read here.

The signature covers the manifest's bytes, and the manifest holds a SHA-256 over every tensor's name, dtype, shape and
bytes (`factors.digest_of`): one signature covers both, and can be checked before anything large is read. The same holds
for the taught questions of an update that carries them (`questions.py`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, fields

from federation.canonical_json import canonical_json, strict_json
from federation.errors import UpdateRefused
from federation.identity import PublicKey

PROTOCOL = 1
WITH_QUESTIONS = 2  # the protocol of an update that carries taught questions; versions that know 1 alone refuse it
PROTOCOLS = (PROTOCOL, WITH_QUESTIONS)
PURPOSE = "update"
MAX_NUMBER = (1 << 63) - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEX = {"base": re.compile(r"[0-9a-f]{16}"), "sha256": _SHA256, "questions_sha256": _SHA256}


@dataclass(frozen=True)
class LoraShape:
    """What must agree for two adapters to be averaged: rank, alpha (their quotient scales BA) and the layers."""

    rank: int
    alpha: int
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """The signed part of an update.

    Attributes:
        protocol: version of this format.
        base: fingerprint of the base model, 16 hex digits (`spear_core.models.files.fingerprint_of`).
        rank, alpha, targets: the LoRA shape.
        peer: the author's public key in url-safe base64.
        round: the author's count of published adapters; never goes down.
        wins: how many wins the author says it was trained on.
        parent: `digest_of` the adapter that training began from, or "" for none in particular.
        created_at_utc: seconds since 1970 by the author's clock.
        sha256: `digest_of` the tensors.
        questions_sha256: of the text of the taught questions; "", and not in the text, in protocol 1.
    """

    protocol: int
    base: str
    rank: int
    alpha: int
    targets: tuple[str, ...]
    peer: str
    round: int
    wins: int
    parent: str
    created_at_utc: int
    sha256: str
    questions_sha256: str = ""

    @property
    def lora(self) -> LoraShape:
        return LoraShape(self.rank, self.alpha, self.targets)

    @property
    def key(self) -> PublicKey:
        return PublicKey.parse(self.peer)

    @property
    def text(self) -> str:
        """The canonical form, which is what gets signed."""
        values = asdict(self)
        if self.protocol == PROTOCOL:
            del values["questions_sha256"]
        return canonical_json(values)

    @property
    def etag(self) -> str:
        """32 hex digits that change with the tensors and with everything said about them."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Raises UpdateRefused unless `text` is the canonical form of a manifest with every field in range."""
        try:
            values = strict_json(text)
        except ValueError as e:
            raise UpdateRefused("the update's manifest is not JSON") from e
        protocol = values.get("protocol") if isinstance(values, dict) else None
        if type(protocol) is int and protocol not in PROTOCOLS:
            raise UpdateRefused(f"the update speaks protocol {protocol}, this version {PROTOCOL} and {WITH_QUESTIONS}")
        known = {field.name for field in fields(cls)} - ({"questions_sha256"} if protocol == PROTOCOL else set())
        if not isinstance(values, dict) or set(values) != known:
            raise UpdateRefused("the update's manifest lacks fields or has others than this version knows")
        for name in ("protocol", "rank", "alpha", "round", "wins", "created_at_utc"):
            if type(values[name]) is not int or not 0 <= values[name] <= MAX_NUMBER:
                raise UpdateRefused(f"the update's manifest gives no whole number from 0 up for {name}")
        for name, pattern in _HEX.items():
            if name in values and not (isinstance(values[name], str) and pattern.fullmatch(values[name])):
                raise UpdateRefused(f"the update's manifest gives no fingerprint for {name}")
        parent, targets = values["parent"], values["targets"]
        if not isinstance(parent, str) or (parent and not _SHA256.fullmatch(parent)):
            raise UpdateRefused("the update's manifest gives no fingerprint for parent")
        if not isinstance(targets, list) or not all(isinstance(t, str) and len(t) <= 100 for t in targets):
            raise UpdateRefused("the update's manifest gives no list of names for targets")
        try:
            PublicKey.parse(values["peer"])
        except (ValueError, TypeError) as e:
            raise UpdateRefused("the update's manifest gives no public key for peer") from e
        manifest = cls(**{**values, "targets": tuple(targets)})
        if manifest.text != text:
            raise UpdateRefused("the update's manifest is not in its canonical form")
        return manifest
