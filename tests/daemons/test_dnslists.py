"""DNS lists, asked from a real resolver: what counts, what is broken, and what gives no answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network

import pytest

from config.transport import Transport
from config.units import Seconds
from daemons.names import Names
from daemons.relay.resolver import Resolver
from filters.breaker import Breaker
from filters.dnslists import SOUND_SECONDS, DnsList, DnsListings, DnsLists
from filters.subject import Envelope
from filters.verdict import Finding, Refuse, Score
from protocol.address import parse_addr_spec
from tests.internet.dns import NameServer, name_server

BAD = DnsList("bad.example", 3.0)
DOMAINS = DnsList("domains.example", 2.0, "sender")


def envelope(
    peer: str = "192.0.2.9", sender: str | None = "sender@Client.example", helo: str = "mail.helo.example"
) -> Envelope:
    """What is known at MAIL."""
    return Envelope(
        transaction_id="0123456789abcdef",
        peer=peer,
        helo=helo,
        is_secure=False,
        is_authenticated=False,
        reverse_path=None if sender is None else parse_addr_spec(sender),
        forward_paths=(),
    )


@dataclass
class World:
    """A name server, a filter that asks it, and a clock."""

    names: NameServer
    lists: DnsLists
    warnings: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    async def zones(self, subject: Envelope) -> list[str]:
        """Which lists have the sender."""
        return [each.zone for each in (await self.lists.listings(subject)).lists]


@asynccontextmanager
async def asking(
    *lists: DnsList, refuse_at: float = 0, is_sound: bool = True, limit: float = 10
) -> AsyncIterator[World]:
    """Lists with their test entries, and what asks them."""
    async with name_server() as server:
        for each in lists:
            if is_sound:
                server.add(f"{'test' if each.names == 'sender' else '2.0.0.127'}.{each.zone}", "A", "127.0.0.2")
        resolver = Resolver(Transport(resolvers=[server.address], resolver_timeout=Seconds(10)))
        world: World
        made = DnsLists(
            lists,
            Names(resolver),
            breaker=lambda zone: Breaker(zone, failures=2, pause_seconds=60),
            refuse_at=refuse_at,
            limit_seconds=limit,
            warn=lambda zone, problem: world.warnings.append((zone, problem)),
            clock=lambda: world.seconds,
        )
        world = World(server, made)
        yield world
        await resolver.close()


@pytest.mark.parametrize(
    ("peer", "label"),
    [
        ("192.0.2.9", "9.2.0.192"),
        ("::ffff:192.0.2.9", "9.2.0.192"),
        ("2001:db8::5", "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"),
        ("fe80::1%eth0", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f"),
    ],
)
async def test_hosts(peer: str, label: str) -> None:
    """Hosts are found by their address of either family, in reverse."""
    async with asking(BAD) as world:
        assert await world.zones(envelope("198.51.100.1")) == []
        world.names.add(f"{label}.bad.example", "A", "127.0.0.2")
        assert await world.zones(envelope(peer)) == ["bad.example"]


async def test_domains() -> None:
    """Lists of domains are asked for the sender's; where there is no sender, for that of HELO, and never for an address."""
    async with asking(DOMAINS) as world:
        world.names.add("client.example.domains.example", "A", "127.0.0.2")
        world.names.add("mail.helo.example.domains.example", "A", "127.0.0.2")
        assert await world.zones(envelope()) == ["domains.example"]
        assert await world.zones(envelope(sender=None)) == ["domains.example"]
        assert await world.zones(envelope(sender=None, helo="[192.0.2.9]")) == []
        assert await world.zones(envelope(sender="x@other.example")) == []


async def test_only_configured_answers_count() -> None:
    """A list that says several things counts for those that are wanted."""
    chosen = DnsList("bad.example", 3.0, answers=(IPv4Network("127.0.0.4/30"),))
    async with asking(chosen) as world:
        world.names.add("9.2.0.192.bad.example", "A", "127.0.0.2", "127.0.0.10")
        world.names.add("10.2.0.192.bad.example", "A", "127.0.0.2", "127.0.0.5")
        assert await world.zones(envelope("192.0.2.9")) == []
        assert await world.zones(envelope("192.0.2.10")) == ["bad.example"]


async def test_verdicts() -> None:
    """Each list says its points and why; the sum refuses from the limit on; good lists count against it."""
    good = DnsList("good.example", -2.0)
    async with asking(BAD, good, refuse_at=3) as world:
        world.names.add("9.2.0.192.bad.example", "A", "127.0.0.2")
        score, finding, refuse = await world.lists.check(envelope())
        assert score == Score(3.0, "listed by bad.example")
        assert finding == Finding(DnsListings((BAD,)))
        assert isinstance(refuse, Refuse)
        world.names.add("8.2.0.192.bad.example", "A", "127.0.0.2")
        world.names.add("8.2.0.192.good.example", "A", "127.0.0.2")
        said = await world.lists.check(envelope("192.0.2.8"))
        assert [each.points for each in said if isinstance(each, Score)] == [3.0, -2.0]
        assert not any(isinstance(each, Refuse) for each in said)
        assert await world.lists.check(envelope("192.0.2.7")) == ()


@pytest.mark.parametrize(
    ("name", "address", "problem"),
    [
        ("1.0.0.127", "127.0.0.2", "it lists everything"),
        ("9.2.0.192", "127.255.255.254", "it refuses to answer us"),
        ("9.2.0.192", "192.0.2.80", "its answers are not in 127.0.0.0/8"),
    ],
)
async def test_broken_lists_are_left_alone(name: str, address: str, problem: str) -> None:
    """A list that was given up, sold, or does not want us lists nobody; it is asked again an hour later."""
    async with asking(BAD) as world:
        world.names.add(f"{name}.bad.example", "A", address, ttl=0)
        assert await world.zones(envelope()) == []
        assert world.warnings == [("bad.example", problem)]
        world.names.remove(f"{name}.bad.example")
        world.names.add("8.2.0.192.bad.example", "A", "127.0.0.2")
        assert await world.zones(envelope("192.0.2.8")) == []
        assert len(world.warnings) == 1
        world.seconds += SOUND_SECONDS + 1
        assert await world.zones(envelope("192.0.2.8")) == ["bad.example"]


async def test_a_list_without_test_entries_is_none() -> None:
    """Where nothing answers any more nobody is listed, and the operator is told."""
    async with asking(BAD, is_sound=False) as world:
        world.names.add("9.2.0.192.bad.example", "A", "127.0.0.2")
        assert await world.zones(envelope()) == []
        assert world.warnings == [("bad.example", "it lists nothing, not even its test entries")]


async def test_a_list_that_gives_no_answer_costs_little_time() -> None:
    """The others are heard all the same, and after two failures nobody waits for it."""
    async with asking(BAD, DOMAINS, limit=1.5) as world:
        world.names.add("client.example.domains.example", "A", "127.0.0.2")
        for label in ("2.0.0.127", "1.0.0.127", "9.2.0.192"):
            world.names.hold(f"{label}.bad.example", "A")
        assert await world.zones(envelope()) == ["domains.example"]
        asked = sum(world.names.asked.values())
        assert await world.zones(envelope()) == ["domains.example"]
        assert sum(world.names.asked.values()) == asked
        assert world.warnings == []
