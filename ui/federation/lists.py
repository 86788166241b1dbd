"""Renders the federation as HTML: this instance, its peers, join requests and merges. Pure functions; all text is escaped."""

from __future__ import annotations

from datetime import datetime
from html import escape

from services.peers.views import CircleView, JoinRequestView, MergeView, PeerView

NO_PEERS = (
    '<div class="empty"><p><b>No peers yet.</b> To connect two instances:</p><ol>'
    "<li>Give your address (under <i>This instance</i>) to someone who runs this app with the same model.</li>"
    "<li>Enter theirs above, or start with <code>--peer http://host:7860#key</code>.</li>"
    "<li>Each of you approves the other once. From then on each learns what the other is taught.</li></ol></div>"
)
NO_MERGES = '<div class="empty"><p>Nothing has been merged yet.</p></div>'
# what is sent, and what is not
SENT = (
    "the adapter (numbers), how many right answers it learned from, a round number, the time, your public key",
    "what you or the model wrote, votes, hints",
)
SENT_WITH_QUESTIONS = (
    f"{SENT[0]}, and the questions that it was taught, as they were asked, with those that other peers sent",
    "answers, all other messages, votes, hints",
)
QUESTIONS = {
    True: "sent with the adapter, without their answers (<code>share_questions</code>)",
    False: "not sent, so peers cannot tell what the adapter is for and may have to refuse it "
    "(<code>share_questions</code> under <code>[federation]</code> in the settings)",
}


def _time(at_utc: str | None) -> str:
    if at_utc is None:
        return "not contacted yet"
    moment = datetime.fromisoformat(at_utc)
    return f'<time datetime="{escape(at_utc)}">{moment:%d %b %Y, %H:%M} UTC</time>'


def _button(do: str, label: str, key: str, about: str, kind: str = "sm") -> str:
    return (
        f'<button type="button" class="{kind}" data-do="{do}" data-key="{escape(key)}" '
        f'aria-label="{escape(label)}: {escape(about)}">{escape(label)}</button>'
    )


def self_html(circle: CircleView) -> str:
    """This instance: its fingerprint, its address, and what it sends."""
    return (
        '<section class="card"><header><h3>This instance</h3></header>'
        '<dl class="self"><dt>Fingerprint</dt>'
        f"<dd><code>{escape(circle.fingerprint)}</code></dd><dt>Address for peers</dt>"
        f'<dd><code class="address" data-url="{escape(circle.url)}" data-key="{circle.key}">{escape(circle.url)}'
        f"#{circle.key}</code></dd><dt>Syncs</dt>"
        f"<dd>every {escape(circle.sync_every)}</dd><dt>Taught questions</dt>"
        f"<dd>{QUESTIONS[circle.shares_questions]}</dd></dl>"
        f'<div class="detail privacy">{privacy_html(circle.shares_questions)}</div></section>'
    )


def privacy_html(shares_questions: bool) -> str:
    """What peers are sent, and what they never are."""
    sent, never = SENT_WITH_QUESTIONS if shares_questions else SENT
    return (
        f"<p><b>Sent to approved peers:</b> {sent}. <b>Never sent:</b> {never}. But an adapter can leak what "
        "it was trained on: someone who holds it can ask the model and guess. Do not teach it secrets. Peers keep "
        "what they have already downloaded.</p>"
    )


def _peer(peer: PeerView) -> str:
    state, meaning = ("trouble", "The last contact failed.") if peer.failures else ("approved", "Its key is pinned.")
    pill = f'<span class="pill {state}" title="{meaning}">{state}</span>'
    warning = "<p>Plain http: others on the network can read what is sent.</p>" if peer.unprotected else ""
    where = escape(peer.url) or "contacts this instance"
    taken = f" · round {peer.round} received" if peer.round is not None else ""
    return (
        f'<li class="entry"><header><h4>{escape(peer.name)}</h4>{pill}</header>'
        f"<p>{escape(peer.words) or 'Not contacted yet.'}</p>{warning}<footer><p><code>{peer.fingerprint}</code> · {where}"
        f'{taken} · {_time(peer.contact_at_utc)}</p><div class="buttons">'
        f"{_button('remove', 'Remove', peer.key, peer.name)}</div></footer></li>"
    )


def _send_join_request(join_request: JoinRequestView) -> str:
    name = join_request.name or "An unnamed peer"
    return (
        f'<li class="entry"><header><h4>{escape(name)}</h4><span class="pill" title="It has no access yet.">'
        f"asks to join</span></header><p>Compare this fingerprint with your peer before you approve it: <code>{join_request.fingerprint}"
        f"</code></p><footer><p>{escape(join_request.url) or 'gives no address'} · from {escape(join_request.remote)}</p>"
        f'<div class="buttons">{_button("approve", "Approve", join_request.key, name)}'
        f"{_button('decline', 'Decline', join_request.key, name)}</div></footer></li>"
    )


def _merge(merge: MergeView) -> str:
    word = f"v{merge.version}" if merge.version is not None else "nothing changed"
    return (
        f'<li class="entry"><header><h4>{escape(", ".join(merge.peers))}</h4><span class="pill">{word}</span></header>'
        f"<p>{escape(merge.words)}</p><footer><p>{_time(merge.at_utc)}</p></footer></li>"
    )


def peers_html(circle: CircleView) -> str:
    """Join requests and approved peers."""
    join_requests = "".join(map(_send_join_request, circle.join_requests))
    peers = "".join(map(_peer, circle.peers))
    return (
        '<section class="card"><header><h3>Peers</h3><button type="button" class="sm" data-do="sync">Sync now</button>'
        f"</header>{f'<ul>{join_requests}{peers}</ul>' if join_requests or peers else NO_PEERS}</section>"
    )


def merges_html(circle: CircleView) -> str:
    """Merges of what peers sent, newest first."""
    merges = "".join(map(_merge, circle.merges))
    return (
        '<section class="card"><header><h3>Merges</h3></header><p class="detail">A merge is checked like a '
        "correction and can be undone in the Learning tab.</p>"
        f"{f'<ul>{merges}</ul>' if merges else NO_MERGES}</section>"
    )
