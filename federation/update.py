"""One update: one safetensors file of adapter tensors; in the metadata its manifest and signature, and the taught questions
where it carries them. Nothing is judged.

Reading maps the file: a tensor's bytes are loaded when it is used, and are the page cache's, not the process's. The
mapping belongs to one open file, so what was checked is what is merged, whatever is renamed meanwhile; but nobody may
write into the file, so updates must lie in a folder of this instance's own.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file
from torch import Tensor

from federation.errors import UpdateRefused
from federation.factors import digest_of, rank_of, targets_of
from federation.identity import SIGNATURE_BYTES, Identity, from_text, sync_folder, to_text
from federation.manifest import PROTOCOL, PURPOSE, WITH_QUESTIONS, Manifest
from federation.questions import digest_of_text, questions_text, read_questions
from federation.safetensors_header import MAX_HEADER_BYTES, Entry, read_header

MAX_UPDATE_BYTES = 256 << 20  # the largest of the benchmark shapes, 3B at rank 16 in float32, takes 97 MB
METADATA_KEYS = {"format", "manifest", "signature"}
QUESTIONS = "questions"  # further key, of protocol WITH_QUESTIONS


class MappedTensors(Mapping[str, Tensor]):
    """Tensors of a mapped file, made on access; keep no more of them than are needed at once."""

    def __init__(self, mapped: mmap.mmap, entries: Mapping[str, Entry]) -> None:
        self._mapped = mapped
        self.entries = MappingProxyType(dict(entries))

    def __getitem__(self, name: str) -> Tensor:
        entry = self.entries[name]
        count = prod(entry.shape)
        return torch.frombuffer(self._mapped, dtype=entry.dtype, count=count, offset=entry.begin).view(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True)
class Update:
    """A well-formed update, of which nothing but the form has been checked.

    Attributes:
        manifest: what it says about itself.
        signature: 64 bytes over the manifest's text; see `signed_by_author`.
        tensors: by name, mapped; (r, in) for lora_A, (out, r) for lora_B.
        size_bytes: of the file.
        questions: that the adapter was taught, those that the manifest was made for; none in protocol 1.
    """

    manifest: Manifest
    signature: bytes
    tensors: MappedTensors
    size_bytes: int
    questions: tuple[str, ...] = ()

    def signed_by_author(self) -> bool:
        """Whether the key that the manifest names signed this manifest. Reads no tensor."""
        return self.manifest.key.verify(PURPOSE, self.manifest.text.encode(), self.signature)

    def content_matches(self) -> bool:
        """Whether the tensors are those that the manifest was made for. Reads the whole file, a tensor at a time."""
        return digest_of(self.tensors) == self.manifest.sha256


def open_update(path: Path, max_bytes: int = MAX_UPDATE_BYTES, max_header_bytes: int = MAX_HEADER_BYTES) -> Update:
    """Map an update and read its header.

    Raises:
        UpdateRefused: if the file is missing, too large, or not a well-formed update.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise UpdateRefused(f"the update has {size} bytes, more than the {max_bytes} that are taken")
            header = read_header(file, size, max_header_bytes)
            # private and copy-on-write: torch warns of buffers that it may not write to, and nothing writes to these
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    except OSError as e:
        raise UpdateRefused(f"the update cannot be read: {e.strerror or e}") from e
    if set(header.metadata) - {QUESTIONS} != METADATA_KEYS:
        raise UpdateRefused("the update carries no manifest and signature")
    try:
        signature = from_text(header.metadata["signature"], SIGNATURE_BYTES)
    except ValueError as e:
        raise UpdateRefused("the update's signature is not one") from e
    manifest = Manifest.parse(header.metadata["manifest"])
    questions = _questions(manifest, header.metadata.get(QUESTIONS))
    return Update(manifest, signature, MappedTensors(mapped, header.entries), size, questions)


def _questions(manifest: Manifest, text: str | None) -> tuple[str, ...]:
    if (text is not None) != (manifest.protocol == WITH_QUESTIONS):
        raise UpdateRefused("the update's protocol and the questions that it carries, or does not, are at odds")
    if text is None:
        return ()
    if digest_of_text(text) != manifest.questions_sha256:
        raise UpdateRefused("the update's questions are not those that its author signed")
    return read_questions(text)


def write_update(
    path: Path,
    state: Mapping[str, Tensor],
    identity: Identity,
    *,
    base: str,
    alpha: int,
    round: int,
    wins: int,
    parent: str,
    created_at_utc: int,
    questions: Sequence[str] = (),
) -> Manifest:
    """Sign an adapter and write it: temporary name, fsync, rename.

    Args:
        path: the file; replaced where it exists.
        state: PEFT's LoRA tensors, float32, bfloat16 or float16; lora_A (r, in) and lora_B (out, r).
        identity: the key that signs.
        base: fingerprint of the base model.
        alpha: PEFT's lora_alpha; the rank is read from the tensors.
        round: larger than in this identity's earlier updates.
        wins: right answers that it was trained on.
        parent: `digest_of` the adapter that training began from, or "".
        created_at_utc: seconds since 1970.
        questions: that it was taught, as `questions.shareable` leaves them; none makes an update of protocol 1.

    Raises:
        MergeImpossible: if the state is not one plain LoRA adapter of one rank.
    """
    tensors = {name: state[name].detach().contiguous().cpu() for name in sorted(state)}
    asked = {QUESTIONS: questions_text(questions)} if questions else {}
    manifest = Manifest(
        protocol=WITH_QUESTIONS if asked else PROTOCOL,
        base=base,
        rank=rank_of(tensors),
        alpha=alpha,
        targets=targets_of(tensors),
        peer=identity.public.text,
        round=round,
        wins=wins,
        parent=parent,
        created_at_utc=created_at_utc,
        sha256=digest_of(tensors),
        questions_sha256=digest_of_text(asked[QUESTIONS]) if asked else "",
    )
    Manifest.parse(manifest.text)  # whoever passes a wrong field learns it here, not from a peer
    signature = to_text(identity.sign(PURPOSE, manifest.text.encode()))
    temporary = path.with_name(f".{path.name}.tmp")
    metadata = {"format": "pt", "manifest": manifest.text, "signature": signature, **asked}
    save_file(tensors, temporary, metadata=metadata)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
    return manifest
