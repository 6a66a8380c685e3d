"""The envelope filter `dnslists`: what DNS-based lists say of the peer and of the sender's domain, RFC 5782.

Each list has its weight: above zero for lists of bad senders, below for lists of good ones. The sum is part of the spam score, and
may be enough to refuse. A list that gives no answer says nothing; one that lists everything, or nothing, is broken and left alone
until it has mended (RFC 5782 §5).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from typing import Literal

from filters.breaker import Breaker
from filters.ports import OnFailure, Resolver
from filters.subject import Envelope
from filters.verdict import Finding, Refuse, Score, Verdict
from protocol.domain import a_labels
from protocol.smtp.reply import reply

SOUND_SECONDS = 3600.0  # for so long a list is trusted, or left alone, until its test entries are looked at again
_ANSWERS = ip_network("127.0.0.0/8")  # RFC 5782 §2.1
_ERRORS = IPv4Network("127.255.255.0/24")  # by wide custom: "you ask too much", "you ask through a public resolver"
_LISTED, _UNLISTED = ip_address("127.0.0.2"), ip_address("127.0.0.1")  # RFC 5782 §5
_LISTED_6, _UNLISTED_6 = ip_address("::ffff:127.0.0.2"), ip_address("::ffff:127.0.0.1")


@dataclass(frozen=True, slots=True)
class DnsList:
    """One list."""

    zone: str
    points: float  # below zero: a list of good senders
    names: Literal["peer", "sender"] = "peer"  # what it has: addresses of hosts, or domains
    answers: tuple[IPv4Network, ...] = ()  # which of its answers count; none: all


@dataclass(frozen=True, slots=True)
class DnsListings:
    """Which lists have the peer or the sender's domain."""

    lists: tuple[DnsList, ...] = ()

    @property
    def points(self) -> float:
        """What that comes to."""
        return sum(each.points for each in self.lists)

    @property
    def is_welcome(self) -> bool:
        """Whether the good ones say more than the bad ones."""
        return self.points < 0


@dataclass(slots=True)
class _Watched:
    """A list, and whether it is in order."""

    list: DnsList
    breaker: Breaker
    is_sound: bool = True
    tested_until: float = 0.0
    testing: asyncio.Lock = field(default_factory=asyncio.Lock)


class BrokenListError(Exception):
    """The list says what no list in order says."""


class DnsLists:
    """The filter. All lists are asked at the same time."""

    name = "dnslists"
    on_failure: OnFailure = "pass"

    def __init__(
        self,
        lists: Sequence[DnsList],
        resolver: Resolver,
        *,
        breaker: Callable[[str], Breaker],
        refuse_at: float = 0.0,
        limit_seconds: float = 5.0,
        warn: Callable[[str, str], None] = lambda zone, problem: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """breaker makes one for each zone; refuse_at: points from which mail is refused, 0: never; warn is told of broken zones."""
        self.limit_seconds = 3 * limit_seconds  # each question has its own limit; a list's test entries come before it
        self._watched = [_Watched(each, breaker(each.zone)) for each in lists]
        self._question_seconds = limit_seconds
        self._resolver = resolver
        self._refuse_at = refuse_at
        self._warn = warn
        self._clock = clock

    async def check(self, subject: Envelope) -> Sequence[Verdict]:
        """The points of each list that has the sender, and whether they are enough to refuse."""
        found = await self.listings(subject)
        if not found.lists:
            return ()
        verdicts: list[Verdict] = [Score(each.points, f"listed by {each.zone}") for each in found.lists]
        verdicts.append(Finding(found))
        if self._refuse_at and found.points >= self._refuse_at:
            zones = ", ".join(each.zone for each in found.lists if each.points > 0)
            answer = reply(550, "5.7.1", f"mail from your host is not accepted: listed by {zones}")
            verdicts.append(Refuse(answer, f"{found.points:g} points of DNS lists"))
        return verdicts

    async def listings(self, subject: Envelope) -> DnsListings:
        """Which lists have the sender."""
        names = {"peer": _address_label(subject.peer), "sender": _domain_label(subject)}
        asked = [each for each in self._watched if names[each.list.names]]
        answers = await asyncio.gather(*(self._has(each, names[each.list.names]) for each in asked))
        return DnsListings(tuple(each.list for each, has in zip(asked, answers, strict=True) if has))

    async def examine(self, subject: Envelope) -> list[tuple[DnsList, bool | str]]:
        """Each list, and whether it has the sender, or what is wrong with it. Nothing of it is remembered."""
        names = {"peer": _address_label(subject.peer), "sender": _domain_label(subject)}
        return [(each.list, await self._examined(each, names[each.list.names])) for each in self._watched]

    async def _examined(self, watched: _Watched, label: str) -> bool | str:
        try:
            await self._test(watched)
            return bool(label) and await self._ask(watched, label)
        except BrokenListError as error:
            return str(error)
        except OSError:
            return "no answer"

    async def _has(self, watched: _Watched, label: str) -> bool:
        """False also when nobody knows."""
        try:
            return await self._is_sound(watched) and await self._ask(watched, label)
        except BrokenListError as error:
            self._leave(watched, str(error))
        except OSError:  # no answer, or left alone since it gave none
            pass
        return False

    async def _is_sound(self, watched: _Watched) -> bool:
        """Look at the test entries once in a while, whoever asks first."""
        if self._clock() < watched.tested_until:
            return watched.is_sound
        async with watched.testing:
            if self._clock() < watched.tested_until:
                return watched.is_sound
            await self._test(watched)
            watched.is_sound, watched.tested_until = True, self._clock() + SOUND_SECONDS
        return True

    def _leave(self, watched: _Watched, problem: str) -> None:
        watched.is_sound, watched.tested_until = False, self._clock() + SOUND_SECONDS
        self._warn(watched.list.zone, problem)

    async def _test(self, watched: _Watched) -> None:
        """Whether the list has what every list has, and has not what none has. Raises BrokenListError, OSError."""
        if watched.list.names == "sender":
            listed, unlisted = ["test"], ["invalid"]
        else:  # a list of IPv6 addresses alone has other entries for tests, RFC 5782 §5
            listed, unlisted = [reversed_label(_LISTED), reversed_label(_LISTED_6)], [reversed_label(_UNLISTED)]
            unlisted.append(reversed_label(_UNLISTED_6))
        whole = _Watched(replace(watched.list, answers=()), watched.breaker)
        has = await asyncio.gather(*(self._ask(whole, label) for label in (*listed, *unlisted)))
        if any(has[len(listed) :]):
            raise BrokenListError("it lists everything")
        if not any(has[: len(listed)]):
            raise BrokenListError("it lists nothing, not even its test entries")

    async def _ask(self, watched: _Watched, label: str) -> bool:
        name = f"{label}.{watched.list.zone}"
        found = [IPv4Address(each) for each in await watched.breaker.call(lambda: self._answer(name))]
        if any(each in _ERRORS for each in found):
            raise BrokenListError("it refuses to answer us")
        if any(each not in _ANSWERS for each in found):
            raise BrokenListError("its answers are not in 127.0.0.0/8")  # its domain is sold, or the resolver lies
        answers = watched.list.answers
        return any(not answers or any(each in network for network in answers) for each in found)

    async def _answer(self, name: str) -> Sequence[str]:
        async with asyncio.timeout(self._question_seconds):  # within the breaker: a list that is slow is away
            return await self._resolver.family(name, "A")


def reversed_label(address: IPv4Address | IPv6Address) -> str:
    """An address as its name begins in a list: octets or nibbles in reverse order, RFC 5782 §2.1 and §2.4."""
    return address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


def _address_label(peer: str) -> str:
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return reversed_label(address)


def _domain_label(subject: Envelope) -> str:
    """The sender's domain; with a null reverse path that of the HELO name stands for it."""
    domain = a_labels(subject.helo if subject.reverse_path is None else subject.reverse_path.domain)
    return domain if "." in domain and not domain.startswith("[") else ""
