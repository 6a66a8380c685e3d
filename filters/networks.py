"""A peer's IP address, and the part of it that one party has: whatever is counted or remembered of a peer, is of that."""

import ipaddress
from functools import lru_cache

_REMEMBERED = 1024  # peers: several filters ask for the address of each message's


@lru_cache(_REMEMBERED)
def address_of(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The host's address, IPv4 where that is mapped into IPv6; None for a local socket."""
    try:
        found = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def network_of(peer: str) -> str:
    """The network that shares one limit: IPv4 /24, IPv6 /64; a local socket is its own."""
    if ":" not in peer:
        return peer.rpartition(".")[0]
    address = ipaddress.IPv6Address(peer.partition("%")[0])
    return network_of(str(address.ipv4_mapped)) if address.ipv4_mapped else str(int(address) >> 64)
