"""A peer's card: its identity and its newest update, signed. A few hundred bytes that can save a download. No network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from federation.canonical_json import canonical_json, strict_json
from federation.errors import PeerUntrusted, shown
from federation.identity import SIGNATURE_BYTES, Identity, PublicKey, from_text, to_text
from federation.manifest import PROTOCOL

PURPOSE = "card"
MAX_CARD_BYTES = 4096


@dataclass(frozen=True)
class Card:
    """What anyone may know of a peer.

    Attributes:
        protocol: version of the update format.
        peer: its public key in url-safe base64.
        base: fingerprint of its base model.
        etag: of its latest update; "" for none.
        round: of that update; 0 for none.
    """

    protocol: int
    peer: str
    base: str
    etag: str
    round: int


def write_card(identity: Identity, base: str, etag: str, round: int) -> bytes:
    """The signed card as JSON."""
    text = canonical_json(asdict(Card(PROTOCOL, identity.public.text, base, etag, round)))
    return canonical_json({"card": text, "signature": to_text(identity.sign(PURPOSE, text.encode()))}).encode()


def read_card(data: bytes, pinned: PublicKey) -> Card:
    """Raises PeerUntrusted unless the pinned key signed a card of this form."""
    try:
        outer = strict_json(data[: MAX_CARD_BYTES + 1])
        text, signature = outer["card"], from_text(outer["signature"], SIGNATURE_BYTES)
        values = strict_json(text)
        if set(values) != {field.name for field in fields(Card)}:
            raise ValueError("other fields")
        card = Card(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise PeerUntrusted("the peer's card cannot be read; it may run another version, or be another program") from e
    types = {"protocol": int, "peer": str, "base": str, "etag": str, "round": int}
    if any(type(getattr(card, name)) is not kind for name, kind in types.items()):
        raise PeerUntrusted("the peer's card cannot be read; it may run another version")
    if card.peer != pinned.text or not pinned.verify(PURPOSE, text.encode(), signature):
        raise PeerUntrusted(
            f"whoever answers there does not hold the key {pinned.fingerprint} but shows {shown(card.peer, 12)}; "
            "ask your peer for the address again"
        )
    return card
