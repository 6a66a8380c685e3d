"""The DNS as filters see it, asked from a real resolver."""

from collections.abc import AsyncIterator

import pytest

from config.transport import Transport
from config.units import Seconds
from daemons.names import Names
from daemons.relay.resolver import Resolver
from tests.internet.dns import NameServer, name_server


@pytest.fixture
async def names() -> AsyncIterator[tuple[Names, NameServer]]:
    """A name server and what asks it."""
    async with name_server() as server:
        resolver = Resolver(Transport(resolvers=[server.address], resolver_timeout=Seconds(10)))
        yield Names(resolver), server
        await resolver.close()


async def test_answers(names: tuple[Names, NameServer]) -> None:
    """All kinds of records come as filters want them, and what does not exist is nothing."""
    asking, server = names
    server.add("example.net", "TXT", '"v=spf1 " "-all"', '"\\195\\188"')
    server.add("example.net", "MX", "10 MX.example.net.", "0 .")
    server.add("mx.example.net", "A", "192.0.2.1")
    server.add("mx.example.net", "AAAA", "2001:db8::1")
    server.add("1.2.0.192.in-addr.arpa", "PTR", "MX.example.net.")
    server.add("alias.example.net", "CNAME", "mx.example.net.")
    assert sorted(await asking.texts("example.net")) == [b"v=spf1 -all", "ü".encode()]
    assert sorted(await asking.exchangers("example.net")) == [(0, ""), (10, "mx.example.net")]
    assert await asking.addresses("alias.example.net") == ["192.0.2.1", "2001:db8::1"]
    assert await asking.family("mx.example.net", "AAAA") == ["2001:db8::1"]
    assert await asking.pointers("192.0.2.1") == ["mx.example.net"]
    assert [await asking.exists(name) for name in ("example.net", "net", "other.example.net")] == [True, True, False]
    assert await asking.texts("other.example.net") == []
    assert await asking.texts("x" * 64 + ".example.net") == []


async def test_no_answer(names: tuple[Names, NameServer]) -> None:
    """What cannot be known now is a TimeoutError, whatever is asked."""
    asking, server = names
    for kind in ("A", "AAAA", "MX", "TXT"):
        server.fail("example.net", kind)
    server.fail("1.2.0.192.in-addr.arpa", "PTR")
    for work in (asking.texts, asking.addresses, asking.exchangers, asking.exists):
        with pytest.raises(TimeoutError):
            await work("example.net")
    with pytest.raises(TimeoutError):
        await asking.pointers("192.0.2.1")
