"""Which questions a version answers because peers were taught them, as far as the peers sent them. No model.

They are stored with the merge, by peer: what each sent last, in place of what it sent before. Nothing of them is ever
trained, replayed or given from memory; they only say what the merged adapter is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from federation.questions import MAX_QUESTIONS, shareable
from feedback_store import Adapter, Store
from spear_core.inference.scope import asked_in

CONSOLIDATED = "consolidated"  # source of a version in which one's own corrections were practised together
MOST_IN_SCOPE = 4 * MAX_QUESTIONS  # of all peers together; peers of one circle mostly send the same ones
ByPeer = Mapping[str, Sequence[str]]  # peer's key -> its questions, oldest first


def of_version(store: Store, base: str, version: int) -> dict[str, tuple[str, ...]] | None:
    """Of the newest merge in a version's lineage; empty where there is none. None: the version is meant for everything.

    A preference of style concerns all replies, and what an upload, or a peer that sent no questions, was taught is known
    to them alone.
    """
    for adapter in store.lineage(base, version):
        if adapter.figures.style_preferences:
            return None
        if _is_from_elsewhere(adapter):
            return store.peer_questions(base, adapter.version) or None
    return {}


def after_merge(store: Store, base: str, version: int, author: str, sent: ByPeer) -> dict[str, tuple[str, ...]] | None:
    """What `of_version` will say of a merge on top of a version.

    Peers that were merged before without their questions are no hindrance where each of them has sent some now.

    Args:
        store: of this instance.
        base: fingerprint of the base model.
        version: that serves now.
        author: this instance's own key.
        sent: the questions of every peer that counts in the merge; none of one that sent none.
    """
    if not sent or not all(sent.values()):
        return None
    known: dict[str, tuple[str, ...]] = {}
    for adapter in store.lineage(base, version):
        if adapter.figures.style_preferences:
            return None
        if _is_from_elsewhere(adapter):
            known = store.peer_questions(base, adapter.version)
            if known:
                break
            merge = adapter.figures.merge if adapter.figures.source is None else None
            if merge is None or merge.weights is None:
                return None
            if not {peer for peer, weight in merge.weights.items() if weight > 0} <= {author, *sent}:
                return None
    return {**known, **{peer: tuple(questions) for peer, questions in sent.items()}}


def together(by_peer: ByPeer, most: int = MOST_IN_SCOPE) -> list[str]:
    """Each question once, oldest first; of more than `most` the newest of every peer in turn."""
    in_turn = zip_longest(*(reversed(by_peer[peer]) for peer in sorted(by_peer)))
    each = dict.fromkeys(question for newest in in_turn for question in newest if question is not None)
    return list(each)[:most][::-1]


def to_publish(store: Store, base: str, version: int) -> tuple[str, ...]:
    """The questions that an update of this version carries: one's own and, as its adapter knows them too, the peers'.

    Where there are more than an update holds, the latest of one's own come first. Of a version that is meant for
    everything none: there is no saying what it is for. Own questions of conversations that were deleted, or may no longer
    train, are left out, also where a peer sends them back.
    """
    theirs = of_version(store, base, version) if version else None
    if theirs is None:
        return ()
    trained = store.traces(base=base, status="trained", side="win")
    own = {" ".join(asked_in(t.prompt).split()) for t in trained}
    may_go = [asked_in(t.prompt) for t in store.shareable_wins(base)]
    return shareable([*(q for q in together(theirs) if q not in own), *may_go])


def _is_from_elsewhere(adapter: Adapter) -> bool:
    return adapter.round_id is None and adapter.figures.source != CONSOLIDATED
