"""The filter `authentication` as it is configured: named in smtp.filters, with a real DNS, counting for reports."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest

from config.authenticity import Authenticity
from config.settings import Settings
from config.transport import Transport
from config.units import Seconds
from daemons import daily_reports
from daemons.context import Context, open_context
from daemons.filtering import content_filters
from filters.pipeline import Pipeline
from filters.subject import Envelope, Subject
from protocol.address import AddrSpec
from storage import dmarc
from tests.conftest import Owner
from tests.internet.dns import NameServer, name_server

MAIL = b"From: Alice <alice@example.net>\r\nTo: bob@example.test\r\n\r\nHi.\r\n"


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    """example.net rejects what is not from 192.0.2.1, and wants reports."""
    async with name_server() as server:
        server.add("example.net", "TXT", '"v=spf1 ip4:192.0.2.1 -all"')
        server.add("_dmarc.example.net", "TXT", '"v=DMARC1; p=reject; rua=mailto:d@example.net"')
        yield server


@pytest.fixture
async def context(settings: Settings, names: NameServer) -> AsyncIterator[Context]:
    """A process with that DNS."""
    transport = Transport(resolvers=[names.address], resolver_timeout=Seconds(10))
    authenticity = Authenticity(report_from="dmarc@example.test", forwarders=["198.51.100.0/24"])
    changed = msgspec.structs.replace(
        settings, transport=transport, authenticity=authenticity, hostname="mx.example.test"
    )
    async with open_context(changed) as opened:
        yield opened


def arrived(peer: str) -> Subject:
    """A message from a host."""
    sender = AddrSpec("alice", "example.net")
    return Subject(Envelope("0" * 15 + peer[-1], peer, "mail.example.net", True, False, sender, ()), MAIL)


async def test_filter_by_name(context: Context, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in smtp.filters it tells, refuses, lets known forwarders by, and counts what a report will say."""
    monkeypatch.setattr(daily_reports, "FLUSH_SECONDS", 0.0)
    pipeline = Pipeline(content=content_filters(["authentication"], context))
    passed = await pipeline.check_content(arrived("192.0.2.1"))
    refused = await pipeline.check_content(arrived("192.0.2.2"))
    forwarded = await pipeline.check_content(arrived("198.51.100.3"))
    assert passed.fields.startswith(b"Authentication-Results: mx.example.test;\r\n spf=pass (ip4:192.0.2.1)")
    assert refused.refusal is not None
    assert forwarded.refusal is None
    assert b"override=trusted_forwarder" in forwarded.fields
    async with asyncio.timeout(20):
        while sum(row.messages for row in await dmarc.list_sent(owner)) < 3:
            await asyncio.sleep(0.01)
    assert [(row.domain, row.messages, row.failed) for row in await dmarc.list_sent(owner)] == [("example.net", 3, 2)]


async def test_counts_are_kept_at_the_end(settings: Settings, names: NameServer, owner: Owner) -> None:
    """A process that ends keeps what it has counted in its last minute."""
    transport = Transport(resolvers=[names.address], resolver_timeout=Seconds(10))
    authenticity = Authenticity(report_from="dmarc@example.test")
    async with open_context(
        msgspec.structs.replace(settings, transport=transport, authenticity=authenticity)
    ) as context:
        await Pipeline(content=content_filters(["authentication"], context)).check_content(arrived("192.0.2.1"))
        assert await dmarc.list_sent(owner) == []
    assert [row.messages for row in await dmarc.list_sent(owner)] == [1]


async def test_dns_that_is_down(context: Context, names: NameServer) -> None:
    """Without the DNS mail comes in, and its results say why there are none."""
    names.is_down = True
    transport = msgspec.structs.replace(context.settings.transport, resolver_timeout=Seconds(1))
    hasty = replace(context, settings=msgspec.structs.replace(context.settings, transport=transport))
    pipeline = Pipeline(content=content_filters(["authentication"], hasty))
    decision = await pipeline.check_content(arrived("192.0.2.2"))
    assert decision.refusal is None
    assert b"spf=temperror" in decision.fields
    assert b"dmarc=temperror" in decision.fields
