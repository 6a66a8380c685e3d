"""A way to a domain as a value: found by daemons/relay/routes.py, gone by whoever delivers."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from daemons.relay.tls_policy import TlsPolicy
from protocol.status import Enhanced


class RouteError(Exception):
    """There is no way to the domain, or none now. The text is for the sender."""

    def __init__(self, status: Enhanced, text: str) -> None:
        super().__init__(text)
        self.enhanced = status
        self.text = text

    @property
    def permanent(self) -> bool:
        """Whether trying again is of no use."""
        return self.enhanced.status_class == 5


@dataclass(frozen=True, slots=True)
class Host:
    """One host, with the addresses that may be connected to."""

    name: str  # "mx1.example.net"; of an address literal "[192.0.2.1]"
    addresses: tuple[
        str, ...
    ]  # in presentation form, IPv6 and IPv4 in turn; each was found to be none that is forbidden
    preference: int = 0
    port: int = 25
    policy: TlsPolicy = field(default_factory=TlsPolicy)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a smarthost wants to know."""

    login: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Source:
    """Where connections of a tenant come from; None: as the system and the configuration have it."""

    ipv4: str | None = None
    ipv6: str | None = None
    hostname: str | None = None  # for EHLO: what the address's reverse record says


@dataclass(frozen=True, slots=True)
class Route:
    """The way for mail of one sender to one domain."""

    hosts: tuple[Host, ...]  # never empty; hosts of one preference are in random order already
    credentials: Credentials | None = None
    source: Source = field(default_factory=Source)
    domain: str = ""  # the recipients' domain, an A-label or "[192.0.2.1]"
    is_reported: bool = False  # the domain wants reports of TLS (RFC 8460): note each session with TlsReports

    @property
    def policy(self) -> TlsPolicy:
        """The first host's. Each host has its own: with DANE they differ."""
        return self.hosts[0].policy

    @property
    def key(self) -> Hashable:
        """Routes with the same key may share connections: same hosts, same demands, same login, same source."""
        hosts = frozenset((host.name, host.port, host.preference, host.policy) for host in self.hosts)
        return hosts, self.credentials, self.source
