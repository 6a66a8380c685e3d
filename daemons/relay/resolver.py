"""Questions to the DNS, RFC 1034 and RFC 1035: whole answers with the resolver's word on DNSSEC, remembered for their lifetime.

Whether an answer was authenticated (its AD flag) is believed only of a resolver that is configured to be trusted: whoever sits on
the way to it could set that flag. Several who ask the same at once cause one query. An empty answer is an answer; what cannot be
known now is a LookupFailedError, never an empty answer.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, TypeAlias

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from config.listen import split_address
from config.transport import Transport
from protocol.dane import Tlsa

Kind: TypeAlias = Literal["A", "AAAA", "MX", "PTR", "TLSA", "TXT"]

_FAILURE_SECONDS = 5.0  # for so long a failure is not asked about again
_TRY_SECONDS = 3.0  # for one server's answer, before the next one is asked
_TRIES = 3


class LookupFailedError(Exception):
    """The answer cannot be known now: no server answers, or what they have does not stand up to DNSSEC (SERVFAIL)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS says to one question."""

    name: str  # where CNAMEs led
    exists: bool = True  # whether that name exists at all
    is_secure: bool = False  # authenticated by DNSSEC, a trusted resolver says
    records: tuple[dns.rdata.Rdata, ...] = ()


@dataclass(frozen=True, slots=True)
class Mx:
    """One MX record."""

    preference: int
    exchange: str  # "" is the null MX's "."


@dataclass(frozen=True, slots=True)
class _Known:
    outcome: Answer | LookupFailedError
    until: float


class Resolver:
    """One per process."""

    def __init__(self, settings: Transport, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = settings.answer_limit
        self._longest = float(settings.answer_lifetime)
        self._clock = clock
        self._known: OrderedDict[tuple[str, Kind], _Known] = OrderedDict()
        self._asking: dict[tuple[str, Kind], asyncio.Task[Answer]] = {}
        self._stub = _stub(settings)
        self._is_trusted = _is_trusted(settings, self._stub)

    @property
    def is_trusted(self) -> bool:
        """Whether what it says about DNSSEC counts."""
        return self._is_trusted

    async def close(self) -> None:
        """Give up on what is being asked."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def mx(self, domain: str) -> tuple[Answer, list[Mx]]:
        """The mail exchangers, in no order. Raises LookupFailedError."""
        answer = await self.ask(domain, "MX")
        found = [Mx(record.preference, _text(record.exchange)) for record in answer.records]  # type: ignore[attr-defined]
        return answer, found

    async def tlsa(self, name: str) -> tuple[Answer, list[Tlsa]]:
        """TLSA records. Raises LookupFailedError."""
        answer = await self.ask(name, "TLSA")
        found = [
            Tlsa(record.usage, record.selector, record.mtype, record.cert)  # type: ignore[attr-defined]
            for record in answer.records
        ]
        return answer, found

    async def txt(self, name: str) -> list[str]:
        """TXT records, each with its strings put together. Raises LookupFailedError."""
        answer = await self.ask(name, "TXT")
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer.records]  # type: ignore[attr-defined]

    async def addresses(self, name: str, kind: Literal["A", "AAAA"]) -> tuple[Answer, list[str]]:
        """Addresses of one family. Raises LookupFailedError."""
        answer = await self.ask(name, kind)
        return answer, [record.address for record in answer.records]  # type: ignore[attr-defined]

    async def ask(self, name: str, kind: Kind) -> Answer:
        """One question, to the DNS or to memory. Raises LookupFailedError."""
        key = name.rstrip(".").lower(), kind
        known = self._known.get(key)
        if known is None or known.until <= self._clock():
            task = self._asking.get(key)
            if task is None:
                task = self._asking[key] = asyncio.create_task(self._learn(key), name="lookup")
                task.add_done_callback(lambda done: self._asked(key, done))
            return await asyncio.shield(task)  # who gives up waiting takes nothing from the others
        self._known.move_to_end(key)
        if isinstance(known.outcome, LookupFailedError):
            raise LookupFailedError(*known.outcome.args)
        return known.outcome

    def _asked(self, key: tuple[str, Kind], task: asyncio.Task[Answer]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # it is known now; those who waited may all have gone

    async def _learn(self, key: tuple[str, Kind]) -> Answer:
        try:
            answer, seconds = await self._query(*key)
        except LookupFailedError as error:
            self._remember(key, error, _FAILURE_SECONDS)
            raise
        self._remember(key, answer, seconds)
        return answer

    def _remember(self, key: tuple[str, Kind], outcome: Answer | LookupFailedError, seconds: float) -> None:
        self._known[key] = _Known(outcome, self._clock() + min(seconds, self._longest))
        self._known.move_to_end(key)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)

    async def _query(self, name: str, kind: Kind) -> tuple[Answer, float]:
        try:
            absolute = dns.name.from_text(f"{name}.")
        except (dns.exception.DNSException, ValueError):
            return Answer(name, exists=False), self._longest  # no name of the DNS: too long, or an empty label
        try:
            found = await self._stub.resolve(absolute, kind, raise_on_no_answer=False, search=False)
            response = found.response
        except dns.resolver.NXDOMAIN as error:
            response = error.response(absolute)  # type: ignore[no-untyped-call]
        except dns.exception.DNSException as error:
            raise LookupFailedError(f"{kind}: {type(error).__name__}") from error
        except OSError as error:
            raise LookupFailedError(f"{kind}: {error.strerror or type(error).__name__}") from error
        return self._read(response)

    def _read(self, response: dns.message.Message) -> tuple[Answer, float]:
        assert isinstance(response, dns.message.QueryMessage)
        try:
            chained = response.resolve_chaining()
        except dns.exception.DNSException as error:
            raise LookupFailedError(f"CNAME: {type(error).__name__}") from error
        answer = Answer(
            name=_text(chained.canonical_name),
            exists=response.rcode() != dns.rcode.NXDOMAIN,
            is_secure=self._is_trusted and bool(response.flags & dns.flags.AD),
            records=tuple(chained.answer or ()),
        )
        return answer, float(chained.minimum_ttl)


def _stub(settings: Transport) -> dns.asyncresolver.Resolver:
    try:
        stub = dns.asyncresolver.Resolver(configure=not settings.resolvers)
    except dns.resolver.NoResolverConfiguration:
        stub = dns.asyncresolver.Resolver(configure=False)
        stub.nameservers = ["127.0.0.1"]  # as resolv.conf(5) has it
    if settings.resolvers:
        stub.nameservers = [dns.nameserver.Do53Nameserver(*split_address(text)) for text in settings.resolvers]
    stub.lifetime = float(settings.resolver_timeout)
    stub.timeout = min(_TRY_SECONDS, stub.lifetime / _TRIES)
    stub.flags = dns.flags.RD | dns.flags.AD  # AD in a query: tell whether it was authenticated (RFC 6840 §5.7)
    stub.use_edns(0, 0, 1232)
    stub.cache = None
    return stub


def _is_trusted(settings: Transport, stub: dns.asyncresolver.Resolver) -> bool:
    if settings.trusted_resolvers != "loopback":
        return settings.trusted_resolvers == "all"
    hosts = [server if isinstance(server, str) else getattr(server, "address", "") for server in stub.nameservers]
    return bool(hosts) and all(_is_loopback(host) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")
