"""Which addresses may be connected to. Names are published by strangers: what they point at must not be a way into our own network.

Checked is the address that is connected to, never the name. IPv4 addresses hidden in IPv6 ones count as what they are.
"""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from config.transport import Transport

# The special-purpose registries (RFC 6890) where nothing public answers, and multicast.
_SPECIAL: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/8",  # unspecified, loopback, IPv4-compatible; mapped and translated ones are looked into first
        "100::/8",  # discard-only
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/9",  # link-local, site-local
        "ff00::/8",
    )
)
_TRANSLATED = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class Reach:
    """The rule of this configuration."""

    def __init__(self, settings: Transport) -> None:
        self._allowed = [ip_network(text, strict=False) for text in settings.private_networks]
        self._own = {ip_address(text) for text in settings.own_addresses}

    def allows(self, address: str) -> bool:
        """Whether it may be connected to: a public address, or one of a network that is named in the configuration."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if any(parsed in network for network in self._allowed):
            return True
        inner = _inner(parsed)
        if inner is not None:
            return self.allows(str(inner))
        return not any(parsed in network for network in _SPECIAL)

    def is_own(self, address: str) -> bool:
        """Whether it is an address of this host. One of the loopback is not taken for that: it is forbidden or meant."""
        parsed = ip_address(address)
        if parsed in self._own:
            return True
        return not parsed.is_loopback and _is_local(parsed)


class PrivateReach(Reach):
    """The rule for what must not leave our own networks: those that are named in the configuration, and nothing else."""

    def allows(self, address: str) -> bool:
        """Whether it is in one of them."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._allowed)


def in_turn(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """One of each kind by turns, beginning with the first, so that a family that does not work costs one attempt (RFC 8305 §4)."""
    left, right = list(first), list(second)
    mixed: list[str] = []
    for index in range(max(len(left), len(right))):
        mixed += left[index : index + 1] + right[index : index + 1]
    return mixed


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if not isinstance(address, IPv6Address):
        return None
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether the system delivers to itself what is sent there: its source is then the destination. Nothing is sent."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return ip_address(str(probe.getsockname()[0]).partition("%")[0]) == address
