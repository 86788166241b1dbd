"""The Federation tab in a browser on the real app: a wrong address, a peer that knocks, approval, removal."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from federation.client import PeerClient
from federation.errors import PeerRefused
from federation.identity import Identity
from federation.peers import PeerAddress, parse_address
from tests.browser.driver import App, Visitor

pytestmark = pytest.mark.browser


def test_a_peer_knocks_is_approved_and_removed_on_the_page(visitor: Visitor, app: App) -> None:
    page, stranger = visitor.page, Identity.new()
    visitor.open_tab("Federation")
    expect(page.locator("#own")).to_contain_text("Never sent")
    expect(page.locator("#own code.address")).to_have_text(re.compile(rf"^{re.escape(app.url)}#[\w-]{{43}}$"))
    expect(page.locator("#peers .empty")).to_contain_text("No peers yet")
    own = parse_address(page.locator("#own code.address").inner_text())

    page.get_by_label("Add a peer").fill("http://host:7860")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("lacks the peer's key")).to_be_visible()
    expect(page.get_by_label("Add a peer")).to_have_value("http://host:7860")  # nothing typed is lost

    client = PeerClient(stranger, PeerAddress(app.url, own.key))
    with pytest.raises(PeerRefused):
        client.pull(app.data_folder)
    assert client.join_request("Ann's <b>laptop</b>", "") is False
    expect(page.locator("#peers")).to_contain_text("Ann's <b>laptop</b>")  # as typed, not as markup
    expect(page.locator("#peers")).to_contain_text(stranger.public.fingerprint)
    page.get_by_role("button", name="Approve: Ann's").click()
    expect(page.locator("#peers .pill.approved")).to_be_visible()
    assert client.pull(app.data_folder) is None, "let in, and nothing is there yet"

    page.get_by_role("button", name="Remove: Ann's").click()
    expect(page.locator("#peers .empty")).to_be_visible()
    with pytest.raises(PeerRefused):
        client.pull(app.data_folder)
