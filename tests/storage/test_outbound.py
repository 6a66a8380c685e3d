"""Leases of the outbound queue, with several relays at it."""

import asyncio

import asyncpg
import pytest

from daemons.context import Context
from storage import outbound
from storage.rows import ContentFacts, NewMessage, Placement
from tests.conftest import Person

FACTS = ContentFacts(b"()", b"()", b"\x90", b"", None, None, "", ())


@pytest.fixture
async def queued(context: Context, account: Person, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """One message to ten recipients, due one after the other."""
    inbox = await context.pool.fetchval("SELECT mailbox_id FROM mailbox WHERE name = 'INBOX'")
    message = NewMessage(account.tenant_id, b"", b"mail\r\n", FACTS, [Placement(inbox)])
    (stored,) = await context.ingest.store([message])
    outbound_id = await owner.fetchval(
        "INSERT INTO outbound_message (tenant_id, account_id, content_id, reverse_path, expires_at)"
        " VALUES ($1, $2, $3, 'alice@example.test', now() + interval '5 days') RETURNING outbound_id",
        account.tenant_id,
        account.account_id,
        stored.content_id,
    )
    await owner.execute(
        "INSERT INTO outbound_recipient (outbound_id, tenant_id, forward_path, domain, next_attempt_at)"
        " SELECT $1, $2, format('r%s@example.org', n), 'example.org', now() - make_interval(secs => 10 - n)"
        " FROM generate_series(0, 9) AS n",
        outbound_id,
        account.tenant_id,
    )


async def test_each_recipient_is_leased_once(context: Context, queued: None) -> None:
    """Several relays at once lease every recipient, the longest due first, and none twice."""

    async def relay(name: str) -> list[outbound.Leased]:
        async with context.pool.acquire() as connection:
            return await outbound.lease(connection, 3, lease_seconds=60, leased_by=name)

    taken = [leased for part in await asyncio.gather(*(relay(f"relay {n}") for n in range(5))) for leased in part]
    assert sorted(leased.forward_path for leased in taken) == [f"r{n}@example.org" for n in range(10)]
    assert {leased.attempts for leased in taken} == {1}


async def test_a_lease_returns_by_time(context: Context, queued: None) -> None:
    """A recipient whose relay died is due again when the lease has run out, and not before."""
    async with context.pool.acquire() as connection:
        assert len(await outbound.lease(connection, 9, lease_seconds=3600, leased_by="dead")) == 9
        (last,) = await outbound.lease(connection, 9, lease_seconds=0, leased_by="brief")
        assert last.forward_path == "r9@example.org"
        (again,) = await outbound.lease(connection, 9, lease_seconds=3600, leased_by="next")
        assert (again.recipient_id, again.attempts) == (last.recipient_id, 2)
        assert await outbound.lease(connection, 9, lease_seconds=3600, leased_by="next") == []


async def test_only_waiting_recipients_are_leased(context: Context, queued: None) -> None:
    """What is held, delivered, failed or deleted is left alone, and is not counted as waiting."""
    async with context.pool.acquire() as connection:
        assert (await outbound.standing(connection))[0] == 10
        await connection.execute("""
            UPDATE outbound_recipient SET state = CASE recipient_id % 5 WHEN 0 THEN 'held' WHEN 1 THEN 'delivered'
                WHEN 2 THEN 'failed' WHEN 3 THEN 'deleted' ELSE 'waiting' END
        """)
        assert len(await outbound.lease(connection, 100, lease_seconds=60, leased_by="relay")) == 2
        waiting, next_seconds = await outbound.standing(connection)
        assert waiting == 2
        assert next_seconds is not None
        assert 55 < next_seconds <= 60


async def test_an_empty_queue(context: Context) -> None:
    """Nothing waits, nothing is due."""
    async with context.pool.acquire() as connection:
        assert await outbound.standing(connection) == (0, None)
        assert await outbound.lease(connection, 5, lease_seconds=60, leased_by="relay") == []
