"""The part of an IP address that one party has: whatever is counted or remembered of a peer, is of that."""

import ipaddress


def network_of(peer: str) -> str:
    """The network that shares one limit: IPv4 /24, IPv6 /64; a local socket is its own."""
    if ":" not in peer:
        return peer.rpartition(".")[0]
    address = ipaddress.IPv6Address(peer.partition("%")[0])
    return network_of(str(address.ipv4_mapped)) if address.ipv4_mapped else str(int(address) >> 64)
