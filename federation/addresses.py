"""Network addresses, as limits count them."""

from __future__ import annotations

import ipaddress


def network_of(remote: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, since whoever has one address there has them all."""
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
