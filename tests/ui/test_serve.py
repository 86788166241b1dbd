"""Binding the port, and what the page's address says."""

from __future__ import annotations

import socket

import pytest

from spear_core.errors import SpearError
from ui.serve import CONTENT_SECURITY_POLICY, bind


def test_a_busy_port_is_refused_with_the_way_out() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(SpearError, match=f"Port {port} .* --port"):
            bind("127.0.0.1", port)


def test_a_host_that_is_not_here_is_one_sentence() -> None:
    with pytest.raises(SpearError, match="Cannot listen on 203.0.113.1"):
        bind("203.0.113.1", 0)


def test_a_port_is_free_again_after_it_was_closed() -> None:
    first = bind("127.0.0.1", 0)
    port = first.getsockname()[1]
    first.close()
    second = bind("127.0.0.1", port)
    assert isinstance(second, socket.socket)
    second.close()


def test_the_policy_names_no_other_host() -> None:
    assert "http" not in CONTENT_SECURITY_POLICY and "*" not in CONTENT_SECURITY_POLICY
