"""Where mail for a domain goes, and what it must find there: hosts with their addresses in the order of trying, RFC 5321 §5.1.

A route of the configuration comes first, else the mail exchangers that the DNS names. Each host gets the TLS policy that all add up
to who ask for something.
"""

import asyncio
import ipaddress
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from config.routes import Route as Configured
from config.settings import Settings
from daemons.relay.demands import Demands, TlsaFound, demand
from daemons.relay.exchangers import Exchangers, NextHop, OwnAddressError, circular
from daemons.relay.mta_sts import Sts, StsPolicies
from daemons.relay.reach import Reach
from daemons.relay.resolver import Mx
from daemons.relay.route import Credentials, Host, Route, RouteError, Source
from daemons.relay.tls_policy import TlsFailure, TlsPolicy
from daemons.relay.tls_reports import TlsReports
from protocol.status import Enhanced, enhanced
from storage.transport import Sources

__all__ = ["Credentials", "Host", "Route", "RouteError", "Routes", "Source"]

_UNROUTABLE = enhanced("5.4.4")
_MISCONFIGURED = enhanced("4.3.5")
_INSECURE = enhanced("4.7.5")
_INSECURE_FOR_GOOD = enhanced("5.7.10")  # RFC 8689 §4.2.1: what must stay in TLS is given back
_SECRET_LIMIT = 4096
_REMEMBERED_SECONDS = 5.0  # beyond the lifetime of what the DNS says
_REMEMBERED_ROUTES = 10_000
_random = random.SystemRandom()


class Routes:
    """Finds routes. One per process; see daemons/relay/transport.py."""

    def __init__(
        self,
        settings: Settings,
        exchangers: Exchangers,
        reach: Reach,
        sources: Sources,
        policies: StsPolicies,
        reports: TlsReports,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings.transport
        self._exchangers = exchangers
        self._reach = reach
        self._sources = sources
        self._policies = policies
        self._reports = reports
        self._clock = clock
        self._known: OrderedDict[Hashable, tuple[float, list[Host], bool]] = OrderedDict()

    async def of(
        self, domain: str, tenant_id: int, sender: str, *, is_requiretls: bool = False, ignores_tls: bool = False
    ) -> Route:
        """The way to a domain, an A-label in lower case or an address literal; `sender` is the reverse path, "" the null one.

        is_requiretls: the message must stay in verified TLS (RFC 8689 §4.2.1). ignores_tls: it has the field "TLS-Required: No"
        (RFC 8689 §3), so that no policy of the destination is in its way. Raises RouteError, and StorageError.
        """
        configured = next((route for route in self._settings.routes if _fits(route, domain, sender)), None)
        source = await self._sources.of(tenant_id)
        demands = Demands(
            minimum=self._settings.minimum,
            authority=self._settings.authority,
            configured=configured,
            is_requiretls=is_requiretls,
            ignores_tls=ignores_tls,
        )
        is_reported = False
        if configured is not None and configured.host and not configured.is_domain:
            hosts = [await self._smarthost(configured.host, demands)]
        elif domain.startswith("["):
            hosts = [self._literal(domain, demands)]
        else:
            next_hop = configured.host if configured is not None and configured.host else domain
            hosts, is_reported = await self._remembered(next_hop.rstrip(".").lower(), demands)
        return Route(
            hosts=tuple(hosts),
            credentials=None if configured is None else _credentials(configured),
            source=Source(source.ipv4, source.ipv6, source.hostname),
            domain=domain,
            is_reported=is_reported,
        )

    async def _remembered(self, domain: str, demands: Demands) -> tuple[list[Host], bool]:
        """The same as _exchangers_of(), for a moment from memory: each of many messages to a domain asks."""
        key = domain, id(demands.configured), demands.is_requiretls, demands.ignores_tls
        until, hosts, is_reported = self._known.get(key, (0.0, [], False))
        if until <= self._clock():
            hosts, is_reported = await self._exchangers_of(domain, demands)
            self._known[key] = self._clock() + _REMEMBERED_SECONDS, hosts, is_reported
            self._known.move_to_end(key)
            while len(self._known) > _REMEMBERED_ROUTES:
                self._known.popitem(last=False)
        return sorted(hosts, key=lambda host: (host.preference, _random.random())), is_reported

    async def _exchangers_of(self, domain: str, demands: Demands) -> tuple[list[Host], bool]:
        """The hosts of a domain, and whether it wants reports."""
        next_hop, sts, is_reported = await asyncio.gather(
            self._exchangers.next_hop(domain), self._sts(domain, demands), self._reports.wanted(domain)
        )
        demands = replace(demands, sts=sts.policy, is_secure=next_hop.is_secure)
        if sts.failure is not None and is_reported:
            missing = TlsPolicy(policy_type="sts")
            self._reports.note_failure(domain, sts.failure.kind, str(sts.failure), missing)
        found = await asyncio.gather(*(self._host(mx, next_hop, demands) for mx in next_hop.exchangers))
        ours = min((mx.preference for mx, host in found if isinstance(host, OwnAddressError)), default=None)
        hosts: list[Host] = []
        errors: list[RouteError] = []
        for mx, host in found:
            if isinstance(host, OwnAddressError) or (ours is not None and mx.preference >= ours):
                continue
            if isinstance(host, TlsFailure):
                if is_reported:
                    self._reports.note_failure(domain, host.kind, str(host), _asked_for(demands, host), mx.exchange)
                errors.append(RouteError(_status(demands, host), f"{mx.exchange}: {host}"))
            elif isinstance(host, RouteError):
                errors.append(host)
            else:
                hosts.append(host)
        if hosts:
            return hosts, is_reported
        if not errors:
            raise circular()
        raise next((error for error in errors if not error.permanent), errors[0])

    async def _sts(self, domain: str, demands: Demands) -> Sts:
        if not self._settings.mta_sts or demands.ignores_tls:
            return Sts()
        return await self._policies.of(domain)

    async def _host(
        self, mx: Mx, next_hop: NextHop, demands: Demands
    ) -> tuple[Mx, Host | RouteError | TlsFailure | OwnAddressError]:
        """A mail exchanger, or why it is none."""
        port = self._port(demands.configured)
        with_tlsa = self._settings.dane and next_hop.is_secure and not demands.ignores_tls
        try:
            exchanger = await self._exchangers.exchanger(mx.exchange, with_tlsa=with_tlsa, port=port)
            policy = demand(demands, mx.exchange, exchanger.found, (next_hop.domain,))
        except (RouteError, TlsFailure, OwnAddressError) as error:
            return mx, error
        return mx, Host(mx.exchange, exchanger.addresses, mx.preference, port, policy)

    async def _smarthost(self, name: str, demands: Demands) -> Host:
        """The host of a configured route, wherever it is: that is the operator's to know."""
        literal = _address(name)
        name = name.rstrip(".").lower() if literal is None else name
        addresses = [literal] if literal is not None else (await self._exchangers.addresses(name))[1]
        policy = self._demanded(replace(demands, is_secure=True), name)
        limit = self._settings.address_limit
        return Host(name, tuple(addresses[:limit]), 0, self._port(demands.configured), policy)

    def _literal(self, domain: str, demands: Demands) -> Host:
        """The host of an address literal, RFC 5321 §4.1.3."""
        address = _address(domain)
        if address is None or not self._reach.allows(address) or self._reach.is_own(address):
            raise RouteError(_UNROUTABLE, f"mail is not sent to {domain}")
        return Host(domain, (address,), 0, self._port(demands.configured), self._demanded(demands, domain))

    def _demanded(self, demands: Demands, name: str) -> TlsPolicy:
        try:
            return demand(demands, name, TlsaFound(), ())
        except TlsFailure as failure:
            raise RouteError(_status(demands, failure), f"{name}: {failure}") from failure

    def _port(self, configured: Configured | None) -> int:
        if configured is None or not (configured.port or configured.starts_with_tls):
            return self._settings.port
        return configured.port or 465


def _status(demands: Demands, failure: TlsFailure) -> Enhanced:
    """For good only where the message itself asks for more than the host's name can prove, not where a lookup failed."""
    is_permanent = demands.is_requiretls and failure.kind == "validation-failure"
    return _INSECURE_FOR_GOOD if is_permanent else _INSECURE


def _asked_for(demands: Demands, failure: TlsFailure) -> TlsPolicy:
    """As what a failure is reported that came before a policy."""
    if failure.kind == "dnssec-invalid":
        return TlsPolicy(policy_type="tlsa")
    if demands.sts is None:
        return TlsPolicy()
    return TlsPolicy(policy_type="sts", policy_strings=demands.sts.strings, mx_patterns=demands.sts.mx)


def _fits(route: Configured, domain: str, sender: str) -> bool:
    return _fits_domain(route.domains, domain) and _fits_sender(route.senders, sender)


def _fits_domain(patterns: list[str], domain: str) -> bool:
    if not patterns:
        return True
    for pattern in map(str.lower, patterns):
        if pattern in ("*", domain) or (pattern.startswith(".") and domain.endswith(pattern)):
            return True
    return False


def _fits_sender(patterns: list[str], sender: str) -> bool:
    if not patterns:
        return True
    folded = sender.lower()
    domain = folded[folded.rfind("@") :] if folded else ""
    return any(pattern.lower() in ((folded, domain) if folded else ("<>",)) for pattern in patterns)


def _address(text: str) -> str | None:
    """The IP address that is written there, with or without the brackets of a literal."""
    inside = text.removeprefix("[").removesuffix("]")
    if inside[:5].upper() == "IPV6:":
        inside = inside[5:]
    try:
        return str(ipaddress.ip_address(inside))
    except ValueError:
        return None


def _credentials(configured: Configured) -> Credentials | None:
    if not configured.login:
        return None
    try:
        path = Path(configured.password_file)
        return Credentials(configured.login, _secret(path, path.stat().st_mtime_ns))
    except (OSError, UnicodeDecodeError) as error:
        raise RouteError(_MISCONFIGURED, "the password of the route cannot be read") from error


@lru_cache(maxsize=256)
def _secret(path: Path, _: int) -> str:
    """The first line of a small file, read again when it has changed."""
    with path.open("rb") as file:
        return file.read(_SECRET_LIMIT).decode("utf-8").partition("\n")[0].rstrip("\r")
