"""Lookups, against the name server of the tests, over real packets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from config.transport import Transport
from config.units import Seconds
from daemons.relay.resolver import LookupFailedError, Mx, Resolver
from protocol.dane import Tlsa
from tests.clock import Clock
from tests.internet.dns import NameServer, name_server


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    """The name server."""
    async with name_server() as server:
        yield server


@asynccontextmanager
async def _resolver(names: NameServer, clock: Clock | None = None, **settings: object) -> AsyncIterator[Resolver]:
    made = Transport(**{"resolvers": [names.address], "resolver_timeout": Seconds(20)} | settings)  # type: ignore[arg-type]
    resolver = Resolver(made, clock or Clock())
    yield resolver
    await resolver.close()


async def test_answers_of_every_kind(names: NameServer) -> None:
    """MX, A, AAAA, TXT and TLSA records come as values, names in lower case and without their last dot."""
    names.add("Example.NET", "MX", "10 MX1.example.net.", "20 mx2.example.net.")
    names.add("mx1.example.net", "A", "192.0.2.1", "192.0.2.2")
    names.add("mx1.example.net", "AAAA", "2001:db8::1")
    names.add("_mta-sts.example.net", "TXT", '"v=STSv1; " "id=1"')
    names.add("_25._tcp.mx1.example.net", "TLSA", "3 1 1 " + "ab" * 32)
    async with _resolver(names) as resolver:
        answer, mx = await resolver.mx("example.net")
        assert sorted(mx, key=lambda each: each.preference) == [Mx(10, "mx1.example.net"), Mx(20, "mx2.example.net")]
        assert answer.name == "example.net"
        assert sorted((await resolver.addresses("mx1.example.net", "A"))[1]) == ["192.0.2.1", "192.0.2.2"]
        assert (await resolver.addresses("MX1.Example.net.", "AAAA"))[1] == ["2001:db8::1"]
        assert await resolver.txt("_mta-sts.example.net") == ["v=STSv1; id=1"]
        assert (await resolver.tlsa("_25._tcp.mx1.example.net"))[1] == [Tlsa(3, 1, 1, b"\xab" * 32)]


async def test_nothing_is_told_from_no_such_name(names: NameServer) -> None:
    """A name without records of the type exists; one that is not there does not; neither is an error."""
    names.add("example.net", "A", "192.0.2.1")
    async with _resolver(names) as resolver:
        answer = await resolver.ask("example.net", "MX")
        assert (answer.exists, answer.records) == (True, ())
        answer = await resolver.ask("other.example", "MX")
        assert (answer.exists, answer.records) == (False, ())
        assert not (await resolver.ask("a" * 64 + ".example", "MX")).exists
        assert not (await resolver.ask("a..example", "MX")).exists


async def test_cnames_lead_to_the_canonical_name(names: NameServer) -> None:
    """An answer behind CNAMEs tells where they led; a loop is an error."""
    names.add("a.example", "CNAME", "b.example.")
    names.add("b.example", "CNAME", "c.example.")
    names.add("c.example", "A", "192.0.2.3")
    names.add("l.example", "CNAME", "m.example.")
    names.add("m.example", "CNAME", "l.example.")
    async with _resolver(names) as resolver:
        answer, addresses = await resolver.addresses("a.example", "A")
        assert (answer.name, addresses) == ("c.example", ["192.0.2.3"])
        with pytest.raises(LookupFailedError):
            await resolver.ask("l.example", "A")


@pytest.mark.parametrize(("trusted", "is_believed"), [("loopback", True), ("all", True), ("none", False)])
async def test_authentic_answers(names: NameServer, trusted: str, is_believed: bool) -> None:
    """The AD flag of a resolver on this machine counts unless the configuration says otherwise."""
    names.add("signed.example", "A", "192.0.2.1")
    names.add("plain.example", "A", "192.0.2.1")
    names.secure("signed.example")
    async with _resolver(names, trusted_resolvers=trusted) as resolver:
        assert (await resolver.ask("signed.example", "A")).is_secure is is_believed
        assert (await resolver.ask("absent.signed.example", "A")).is_secure is is_believed
        assert not (await resolver.ask("plain.example", "A")).is_secure


def test_distant_resolver_is_not_trusted() -> None:
    """The AD flag of a resolver elsewhere counts only when the configuration says so, even if another one is on this machine."""
    assert not Resolver(Transport(resolvers=["192.0.2.53:53"])).is_trusted
    assert not Resolver(Transport(resolvers=["127.0.0.1:53", "192.0.2.53:53"])).is_trusted
    assert Resolver(Transport(resolvers=["[::1]:53"])).is_trusted
    assert Resolver(Transport(resolvers=["192.0.2.53:53"], trusted_resolvers="all")).is_trusted


async def test_signed_cname_into_an_unsigned_zone_is_not_authentic(names: NameServer) -> None:
    """All of a chain of CNAMEs has to be signed."""
    names.add("a.signed.example", "CNAME", "b.plain.example.")
    names.add("b.plain.example", "A", "192.0.2.1")
    names.secure("signed.example")
    async with _resolver(names) as resolver:
        assert not (await resolver.ask("a.signed.example", "A")).is_secure


async def test_answers_live_as_long_as_they_say(names: NameServer) -> None:
    """An answer, also an empty one, is asked for again only after its lifetime."""
    clock = Clock()
    names.add("example.net", "A", "192.0.2.1", ttl=100)
    async with _resolver(names, clock) as resolver:
        for _ in range(3):
            await resolver.ask("example.net", "A")
            await resolver.ask("example.net", "MX")
        assert names.asked["example.net", "A"] == names.asked["example.net", "MX"] == 1
        clock.now += 61  # longer than what is said of nothing
        names.add("example.net", "A", "192.0.2.2", ttl=100)
        assert (await resolver.addresses("example.net", "A"))[1] == ["192.0.2.1"]
        await resolver.ask("example.net", "MX")
        assert names.asked["example.net", "MX"] == 2
        clock.now += 40
        assert (await resolver.addresses("example.net", "A"))[1] == ["192.0.2.2"]


async def test_memory_is_bounded(names: NameServer) -> None:
    """The answers that were not wanted for longest are forgotten, and none lives longer than the configuration says."""
    clock = Clock()
    for name in ("a.example", "b.example", "c.example"):
        names.add(name, "A", "192.0.2.1", ttl=86400)
    async with _resolver(names, clock, answer_limit=2, answer_lifetime=Seconds(600)) as resolver:
        for name in ("a.example", "b.example", "a.example", "c.example", "a.example", "b.example"):
            await resolver.ask(name, "A")
        assert names.asked == {("a.example", "A"): 1, ("b.example", "A"): 2, ("c.example", "A"): 1}
        clock.now += 601
        await resolver.ask("a.example", "A")
        assert names.asked["a.example", "A"] == 2


async def test_those_who_ask_at_once_share_a_query(names: NameServer) -> None:
    """Many who ask the same cause one query; that one of them gives up takes nothing from the others."""
    names.add("example.net", "A", "192.0.2.1")
    gate = names.hold("example.net", "A")
    async with _resolver(names, resolver_timeout=Seconds(20)) as resolver:
        asking = [asyncio.create_task(resolver.ask("example.net", "A")) for _ in range(50)]
        while not names.asked:
            await asyncio.sleep(0)
        asking[0].cancel()
        gate.set()
        answers = await asyncio.gather(*asking[1:])
        assert len(answers) == 49
        assert names.asked["example.net", "A"] == 1
        with pytest.raises(asyncio.CancelledError):
            await asking[0]


async def test_failures_are_errors_for_a_moment(names: NameServer) -> None:
    """What cannot be known (SERVFAIL: bogus) is an error, asked about again a few seconds later, not at once."""
    clock = Clock()
    names.add("example.net", "TLSA", "3 1 1 " + "00" * 32)
    names.fail("example.net", "TLSA")
    async with _resolver(names, clock) as resolver:
        for _ in range(3):
            with pytest.raises(LookupFailedError):
                await resolver.ask("example.net", "TLSA")
        before = names.asked["example.net", "TLSA"]
        names.mend("example.net", "TLSA")
        with pytest.raises(LookupFailedError):
            await resolver.ask("example.net", "TLSA")
        assert names.asked["example.net", "TLSA"] == before
        clock.now += 6
        assert len((await resolver.tlsa("example.net"))[1]) == 1


async def test_silence_is_an_error(names: NameServer) -> None:
    """A server that says nothing costs the time that is configured, not more."""
    names.fail("example.net", "A", None)
    async with _resolver(names, resolver_timeout=Seconds(0.3)) as resolver:
        started = asyncio.get_running_loop().time()
        with pytest.raises(LookupFailedError):
            await resolver.ask("example.net", "A")
        assert asyncio.get_running_loop().time() - started < 4  # by default a lookup has five seconds


async def test_second_resolver_answers_when_the_first_does_not(names: NameServer) -> None:
    """Resolvers are asked in turn."""
    names.add("example.net", "A", "192.0.2.1")
    async with name_server() as silent:
        silent.is_down = True
        servers = [silent.address, names.address]
        async with _resolver(names, resolvers=servers, resolver_timeout=Seconds(3)) as resolver:
            assert (await resolver.addresses("example.net", "A"))[1] == ["192.0.2.1"]
        assert silent.asked["example.net", "A"] == 1


async def test_long_answers_come_over_tcp(names: NameServer) -> None:
    """An answer that is cut short over UDP is asked for over TCP."""
    names.add("example.net", "TXT", *(f'"{number} {"x" * 200}"' for number in range(40)))
    names.truncate("example.net", "TXT")
    async with _resolver(names) as resolver:
        assert len(await resolver.txt("example.net")) == 40
    assert names.asked["example.net", "TXT"] == 2


async def test_nothing_goes_on_after_the_end(names: NameServer) -> None:
    """Closing ends what is still being asked."""
    names.hold("example.net", "A")
    async with _resolver(names, resolver_timeout=Seconds(20)) as resolver:
        asking = asyncio.create_task(resolver.ask("example.net", "A"))
        while not names.asked:
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await asking
