"""The mail exchangers of a domain, RFC 5321 §5.1: which there are, in what order, at what addresses, with what TLSA records.

Ourselves and what is worse are left out, so that mail does not go in circles, and so are addresses outside the public internet.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from config.settings import Settings
from daemons.relay.demands import TlsaFound
from daemons.relay.reach import Reach, in_turn
from daemons.relay.resolver import Answer, LookupFailedError, Mx, Resolver
from daemons.relay.route import RouteError
from daemons.relay.tls_policy import TlsFailure
from protocol.status import enhanced

_BAD_DOMAIN = enhanced("5.1.2")
_NULL_MX = enhanced("5.1.10")  # RFC 7505 §4.2
_UNROUTABLE = enhanced("5.4.4")
_LOOP = enhanced("5.4.6")
_NO_ANSWER = enhanced("4.4.3")
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class NextHop:
    """What the DNS says about a domain that mail goes to."""

    domain: str
    is_secure: bool  # authentic by DNSSEC
    exchangers: tuple[Mx, ...]  # best first; of too many equals random ones; without us; never empty


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One host."""

    addresses: tuple[str, ...]  # that may be connected to, IPv6 and IPv4 in turn; never empty
    found: TlsaFound


class OwnAddressError(Exception):
    """The host is ourselves."""


class Exchangers:
    """Asks about them. One per process."""

    def __init__(self, settings: Settings, resolver: Resolver, reach: Reach) -> None:
        self._settings = settings.transport
        self._resolver = resolver
        self._reach = reach
        self._own_names = {name.rstrip(".").lower() for name in (settings.hostname, *settings.transport.own_names)}

    async def next_hop(self, domain: str) -> NextHop:
        """The mail exchangers of a domain. Raises RouteError."""
        try:
            answer, records = await self._resolver.mx(domain)
        except LookupFailedError as error:
            raise RouteError(_NO_ANSWER, f"the mail exchangers of {domain} cannot be looked up now") from error
        if not answer.exists:
            raise RouteError(_BAD_DOMAIN, f"the domain {domain} does not exist")
        if records and not any(mx.exchange for mx in records):
            raise RouteError(_NULL_MX, f"the domain {domain} accepts no mail")
        named = [mx for mx in records if mx.exchange]
        return NextHop(domain, answer.is_secure, self._in_order(named or [Mx(0, domain)]))

    def _in_order(self, exchangers: Sequence[Mx]) -> tuple[Mx, ...]:
        ours = min((mx.preference for mx in exchangers if mx.exchange in self._own_names), default=None)
        left = [mx for mx in dict.fromkeys(exchangers) if ours is None or mx.preference < ours]
        if not left:
            raise circular()
        left.sort(key=lambda mx: (mx.preference, _random.random()))
        return tuple(left[: self._settings.host_limit])

    async def exchanger(self, name: str, *, with_tlsa: bool, port: int) -> Exchanger:
        """One host. TLSA records are looked for only where its addresses are authentic, too (RFC 7672 §2.2.2).

        Raises RouteError when it cannot be used, OwnAddressError, and TlsFailure when its TLSA records cannot be had: then it must
        not be used (RFC 7672 §2.1.3).
        """
        answers, addresses = await self.addresses(name)
        if any(self._reach.is_own(address) for address in addresses):
            raise OwnAddressError
        allowed = [address for address in addresses if self._reach.allows(address)]
        if not allowed:
            raise RouteError(_UNROUTABLE, f"{name} has no address on the public internet")
        found = TlsaFound()
        if with_tlsa and all(answer.is_secure for answer in answers):
            found = await self._tlsa(dict.fromkeys((answers[0].name, name)), port)
        return Exchanger(tuple(allowed[: self._settings.address_limit]), found)

    async def addresses(self, name: str) -> tuple[list[Answer], list[str]]:
        """What is known of a host's addresses, and these, IPv6 and IPv4 in turn. Raises RouteError when there are none."""
        six, four = await asyncio.gather(self._family(name, "AAAA"), self._family(name, "A"))
        answers = [answer for answer, found in (six, four) if answer is not None and found]
        addresses = in_turn(six[1], four[1])
        if addresses:
            return answers, addresses
        if six[0] is None or four[0] is None:
            raise RouteError(_NO_ANSWER, f"the addresses of {name} cannot be looked up now")
        raise RouteError(_UNROUTABLE, f"the host {name} has no address")

    async def _family(self, name: str, kind: Literal["A", "AAAA"]) -> tuple[Answer | None, list[str]]:
        try:
            return await self._resolver.addresses(name, kind)
        except LookupFailedError:
            return None, []  # the other family may do

    async def _tlsa(self, bases: Iterable[str], port: int) -> TlsaFound:
        """Records at the name that CNAMEs led to, else at the name that was asked for (RFC 7672 §2.2.3)."""
        for base in bases:
            try:
                answer, records = await self._resolver.tlsa(f"_{port}._tcp.{base}")
            except LookupFailedError as error:
                raise TlsFailure("dnssec-invalid", f"the TLSA records of {base} cannot be had: {error}") from error
            if records and answer.is_secure:
                return TlsaFound(tuple(records), base)
        return TlsaFound()


def circular() -> RouteError:
    """Nothing is left that is better than ourselves."""
    return RouteError(_LOOP, "mail for that domain would come back to this host")
