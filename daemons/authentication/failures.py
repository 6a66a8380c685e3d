"""How guessing is slowed: failed attempts counted per account and per network."""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from config.authentication import Authentication

_LOGIN_LIMIT = 254  # characters of a login that failures are counted by: the longest address (RFC 5321 §4.5.3.1.3)


class Failures:
    """Recent failed attempts per account and per network, bounded in number and time."""

    def __init__(self, settings: Authentication, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()  # subject -> failures, time of the last

    def delay(self, subject: str) -> float:
        """Seconds the next attempt of this account or network has to wait."""
        count = self._count(subject)
        if not count:
            return 0.0
        return min(self._settings.failure_delay * 2.0 ** min(count - 1, 30), self._settings.failure_delay_limit)

    def add(self, *subjects: str) -> None:
        """Count one failure for each."""
        for subject in subjects:
            self._counts[subject] = (self._count(subject) + 1, self._clock())
            self._counts.move_to_end(subject)
        while len(self._counts) > self._settings.failure_entries:
            self._counts.popitem(last=False)

    def forget(self, subject: str) -> None:
        """Forgive an account that has logged in; its network keeps its record, or one good login would hide a scan."""
        self._counts.pop(subject, None)

    def _count(self, subject: str) -> int:
        count, last = self._counts.get(subject, (0, 0.0))
        return count if self._clock() - last < self._settings.failure_memory else 0


def account_subject(name: str) -> str:
    """What failures of a login are counted by."""
    return f"account {name[:_LOGIN_LIMIT]}"


def network_subject(peer: str) -> str:
    """What failures from an address are counted by."""
    return f"network {network_of(peer)}"


def network_of(peer: str) -> str:
    """The unit that is slowed: one IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer  # a Unix socket or nothing: all such peers are one
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)
