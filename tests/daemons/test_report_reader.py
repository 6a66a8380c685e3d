"""Reports of other servers, from the mailbox that their address delivers to into the tables, each once."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from config.keeper import Keeper
from config.reports import Reports
from config.units import Octets, Seconds
from daemons.archiver.reports import ReportReader
from daemons.context import Context
from daemons.delivery import prepare
from daemons.keeper.expiry import Expiry
from storage import mailboxes, report_listing, reports
from storage.errors import NotFoundError
from storage.report_listing import Wanted
from storage.reports import TakenError
from storage.rows import Placement
from tests.conftest import Owner, Person, add_person
from tests.mails import CORPORA

Deliver = Callable[..., Awaitable[None]]
GIVEN = Path(__file__).parent.parent / "protocol" / "reports" / "given"
DMARC = (CORPORA / "dmarc-tls-mox" / "dmarc-reports" / "google.eml").read_bytes()
TLS = (CORPORA / "dmarc-tls-mox" / "tlsreports" / "microsoft.eml").read_bytes()
BOUNCE = (CORPORA / "bounces-flufl" / "yahoo_04.txt").read_bytes()
COMPLAINT = (CORPORA / "mail-auth-stalwart" / "arf" / "002.eml").read_bytes()
LETTER = b"From: bob@example.test\r\nSubject: hello\r\n\r\nHello.\r\n"
ALL = Wanted(None, None, datetime(1970, 1, 1, tzinfo=UTC))


def attached(octets: bytes, name: str = "report.json.gz") -> bytes:
    head = f"Content-Type: application/gzip; name={name}\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    return head.encode() + octets


@pytest.fixture
async def deliver(context: Context, account: Person, owner: Owner) -> Deliver:
    """Puts mails into alice's INBOX, which is watched."""
    await reports.watch(owner, account.login, "INBOX")
    box = await owner.fetchval(
        "SELECT mailbox_id FROM mailbox WHERE account_id = $1 AND name = 'INBOX'", account.account_id
    )

    async def run(*originals: bytes) -> None:
        group = [await prepare(account.tenant_id, b"", original, [Placement(box)]) for original in originals]
        await context.ingest.store(group)

    return run


async def read_all(context: Context) -> int:
    """Read until nothing waits. Returns the number of batches."""
    reader, batches = ReportReader(context), 0
    while await reader.read_batch():
        batches += 1
    return batches


def with_settings(context: Context, **changes: object) -> Context:
    settings = msgspec.structs.replace(context.settings, reports=msgspec.structs.replace(Reports(), **changes))
    return replace(context, settings=settings)


async def test_a_dmarc_report(context: Context, deliver: Deliver, owner: Owner) -> None:
    """A report becomes a row with its counts, and one row for each of its sources."""
    await deliver(LETTER, DMARC)
    assert await read_all(context) == 1
    (row,) = await report_listing.list_dmarc(owner, ALL)
    assert (row.tenant, row.domain, row.organization, row.policy) == ("example", "ueber.net", "google.com", "reject")
    assert (row.messages, row.passed, row.failed) == (5, 5, 0)
    sources = await report_listing.list_dmarc_sources(owner, row.id, "example", 10)
    assert [(source.messages, source.disposition, source.dkim) for source in sources] == [
        (3, "none", "pass"),
        (2, "none", "pass"),
    ]
    assert {"method", "domain", "result"} <= set(json.loads(sources[0].details)["authentications"][0])


async def test_a_tls_report(context: Context, deliver: Deliver, owner: Owner) -> None:
    """Each policy of a report becomes a row, each kind of failure another."""
    await deliver(TLS, attached(gzip.compress((GIVEN / "parsedmarc" / "rfc8460.json").read_bytes())))
    await read_all(context)
    rows = {row.organization: row for row in await report_listing.list_tls(owner, ALL)}
    assert set(rows) == {"Microsoft Corporation", "Company-X"}
    row = rows["Company-X"]
    assert (row.domain, row.policy_type, row.successes, row.failures) == ("company-y.example", "sts", 5326, 303)
    assert row.result_types == "certificate-expired starttls-not-supported validation-failure"
    failures = await report_listing.list_tls_failures(owner, row.id, None, 10)
    assert [(one.result_type, one.sessions) for one in failures] == [
        ("starttls-not-supported", 200),
        ("certificate-expired", 100),
        ("validation-failure", 3),
    ]
    assert failures[1].source == "2001:db8:abcd:12::1"


async def test_bounces_and_complaints(context: Context, deliver: Deliver, owner: Owner) -> None:
    """Recipients of bounces and complaints become rows, each with the reason and whether it is hard."""
    await deliver(BOUNCE, COMPLAINT)
    await read_all(context)
    rows = await report_listing.list_bounces(owner, ALL)
    assert [(row.kind, row.address, row.action, row.reason, row.is_hard) for row in rows] == [
        ("complaint", "user@example.com", "complained", "spam", False),
        ("status", "usery@example.uk", "failed", "full", False),
        ("status", "userx@example.es", "failed", "full", False),
    ]
    assert await report_listing.list_bounces(owner, replace(ALL, bad_only=True)) == []
    assert len(await report_listing.list_bounces(owner, replace(ALL, domain="Example.ES"))) == 1


async def test_what_comes_twice_counts_once(context: Context, deliver: Deliver, owner: Owner) -> None:
    """Neither a report that is sent twice nor one that is read twice is counted twice."""
    await deliver(DMARC, DMARC, TLS)
    await read_all(context)
    await deliver(TLS)
    await read_all(context)
    await owner.execute("UPDATE report_source SET next_uid = 1")
    await read_all(context)
    assert len(await report_listing.list_dmarc(owner, ALL)) == 1
    assert len(await report_listing.list_tls(owner, ALL)) == 1


async def test_batches(context: Context, deliver: Deliver, owner: Owner) -> None:
    """However small the batches, every message is looked at once, and ones that were expunged are passed over."""
    await deliver(*[BOUNCE] * 5)
    await owner.execute("DELETE FROM message WHERE uid IN (2, 5)")
    assert await read_all(with_settings(context, batch_limit=2)) == 2
    assert len(await report_listing.list_bounces(owner, ALL)) == 6
    (source,) = await report_listing.list_sources(owner)
    assert (source.login, source.mailbox, source.taken, source.unreadable, source.waiting) == (
        "alice@example.test",
        "INBOX",
        6,
        0,
        0,
    )


async def test_what_cannot_be_read_is_counted(context: Context, deliver: Deliver, owner: Owner) -> None:
    """Damaged, hostile and oversized reports are counted and passed over; what is behind them is read."""
    bomb = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">]><feedback>&a;</feedback>'
    await deliver(attached(b"nonsense"), attached(gzip.compress(bomb), "report.xml.gz"), TLS + b" " * 20_000, DMARC)
    await read_all(with_settings(context, message_limit=Octets(20_000)))
    (source,) = await report_listing.list_sources(owner)
    assert (source.taken, source.unreadable) == (1, 3)
    assert len(await report_listing.list_dmarc(owner, ALL)) == 1


async def test_one_process_reads_a_mailbox(context: Context, deliver: Deliver, owner: Owner) -> None:
    """While one process has a mailbox no other gets it; when its time is over another one does, and the first changes nothing."""
    await deliver(BOUNCE)
    async with context.pool.acquire() as connection:
        source = await reports.take(connection, lease_seconds=60)
        assert source is not None
        assert await reports.take(connection, lease_seconds=60) is None
    assert not await ReportReader(context).read_batch()
    await owner.execute("UPDATE report_source SET leased_until = now() - interval '1 second'")
    assert await ReportReader(context).read_batch()
    async with context.pool.acquire() as connection:
        with pytest.raises(TakenError):
            await reports.keep(connection, source, 2, [])
    assert len(await report_listing.list_bounces(owner, ALL)) == 2


async def test_only_watched_mailboxes_are_read(
    context: Context, deliver: Deliver, owner: Owner, account: Person
) -> None:
    """Other mailboxes are not looked at, and one that is watched no more neither; what was found stays."""
    await deliver(BOUNCE)
    await read_all(context)
    await reports.unwatch(owner, "Alice@example.test", "INBOX")
    await deliver(DMARC)
    assert await read_all(context) == 0
    assert len(await report_listing.list_bounces(owner, ALL)) == 2
    with pytest.raises(NotFoundError):
        await reports.unwatch(owner, account.login, "INBOX")
    with pytest.raises(NotFoundError):
        await reports.watch(owner, account.login, "Nowhere")


async def test_watching_twice_is_watching(context: Context, deliver: Deliver, owner: Owner, account: Person) -> None:
    """Naming a mailbox again does not have it read again."""
    await deliver(BOUNCE)
    await read_all(context)
    await reports.watch(owner, account.login, "INBOX")
    assert await read_all(context) == 0


async def test_tenants_see_their_own(context: Context, deliver: Deliver, owner: Owner) -> None:
    """Lists and details of one tenant hold nothing of another."""
    await deliver(DMARC, TLS, BOUNCE)
    await read_all(context)
    other = replace(ALL, tenant="other")
    assert await report_listing.list_dmarc(owner, other) == []
    assert await report_listing.list_tls(owner, other) == []
    assert await report_listing.list_bounces(owner, other) == []
    (row,) = await report_listing.list_dmarc(owner, replace(ALL, tenant="example", domain="Ueber.net"))
    assert await report_listing.list_dmarc_sources(owner, row.id, "other", 10) == []


async def test_a_removed_mailbox_is_not_watched(
    context: Context, deliver: Deliver, owner: Owner, account: Person
) -> None:
    """When the mailbox goes it is watched no more; nobody has to remember that."""
    async with context.pool.acquire() as connection:
        made = await mailboxes.create(connection, account.account_id, "Reports")
    await reports.watch(owner, account.login, "Reports")
    await owner.execute("DELETE FROM mailbox WHERE mailbox_id = $1", made.mailbox_id)
    assert [source.mailbox for source in await report_listing.list_sources(owner)] == ["INBOX"]


async def test_time_is_up(context: Context, deliver: Deliver, owner: Owner) -> None:
    """Reports and bounces are forgotten after their time, each kind after its own, and with them their details."""
    await deliver(DMARC, TLS, BOUNCE)
    await read_all(context)
    async with context.pool.acquire() as connection:
        assert await reports.forget(connection, 10, report_seconds=3600, bounce_seconds=3600) == 0
        await owner.execute("UPDATE received_bounce SET received_at = now() - interval '2 hours'")
        assert await reports.forget(connection, 1, report_seconds=3600, bounce_seconds=3600) == 1
        assert await reports.forget(connection, 10, report_seconds=0, bounce_seconds=3600) == 1
    for table in ("dmarc_report", "dmarc_source", "tls_report", "tls_failure", "received_bounce"):
        assert await owner.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_the_keeper_forgets(context: Context, deliver: Deliver, owner: Owner) -> None:
    """The keeper removes what has had its time, in transactions of bounded size, until nothing is left of it."""
    await deliver(*[BOUNCE] * 3, DMARC)
    await read_all(context)
    changed = msgspec.structs.replace(
        context.settings, keeper=Keeper(batch_limit=2), reports=Reports(bounce_retention=Seconds(0))
    )
    done = await Expiry(changed).round(owner, asyncio.Event())
    assert done.reports == 3
    assert await report_listing.list_bounces(owner, ALL) == []
    assert len(await report_listing.list_dmarc(owner, ALL)) == 1


async def test_the_worker_runs(context: Context, deliver: Deliver, owner: Owner) -> None:
    """A running reader takes up what comes, and ends when it is told to."""
    stopping = asyncio.Event()
    worker = asyncio.create_task(ReportReader(with_settings(context, poll=Seconds(0.05))).run(stopping))
    await deliver(BOUNCE)
    async with asyncio.timeout(20):
        while not await report_listing.list_bounces(owner, ALL):
            await asyncio.sleep(0)
    stopping.set()
    await worker


async def test_two_accounts(context: Context, deliver: Deliver, owner: Owner, settings: object) -> None:
    """Each watched mailbox is read, whoever's it is."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    await reports.watch(owner, bob.login, "INBOX")
    box = await owner.fetchval(
        "SELECT mailbox_id FROM mailbox WHERE account_id = $1 AND name = 'INBOX'", bob.account_id
    )
    await context.ingest.store([await prepare(bob.tenant_id, b"", BOUNCE, [Placement(box)])])
    await deliver(BOUNCE)
    assert await read_all(context) == 2
    assert len(await report_listing.list_bounces(owner, ALL)) == 4
