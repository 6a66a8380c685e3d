"""Mail that was sent on comes back to its account once, in the transaction that says so."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemons.context import Context
from daemons.delivery import prepare
from storage.errors import StorageError
from storage.returns import AlreadyReturnedError, CameBack, ReturnsTo, holder
from storage.rows import NewMessage, Outbound, OutboundRecipient
from tests.conftest import Owner, Person

HEAD, ORIGINAL = b"Return-Path: <>\r\n", b"Subject: x\r\n\r\nx\r\n"


async def queued(context: Context, account: Person) -> int:
    """A message in the queue that comes back to the account."""
    recipients = [OutboundRecipient("dave@remote.example", "remote.example")]
    outbound = Outbound(None, "", "0" * 16, recipients, datetime.now(UTC) + timedelta(days=1))
    message = await prepare(account.tenant_id, HEAD, ORIGINAL, [])
    effects = (ReturnsTo(account.account_id),)
    (stored,) = await context.ingest.store([replace(message, outbound=outbound, effects=effects)])
    return stored.content_id


async def back(context: Context, account: Person, outbound_id: int) -> NewMessage:
    """What is stored when it comes back."""
    return replace(await prepare(account.tenant_id, HEAD, ORIGINAL, []), effects=(CameBack(outbound_id),))


async def test_once(context: Context, account: Person) -> None:
    """Whoever is second stores nothing, also when both come at the same time."""
    outbound_id = await queued(context, account)
    found = await holder(context.pool, outbound_id)
    assert found is not None
    assert (found.tenant_id, found.account_id) == (account.tenant_id, account.account_id)
    messages = [await back(context, account, outbound_id) for _ in range(2)]
    outcomes = await asyncio.gather(*(context.ingest.store([each]) for each in messages), return_exceptions=True)
    assert sorted(isinstance(outcome, AlreadyReturnedError) for outcome in outcomes) == [False, True]
    assert await holder(context.pool, outbound_id) is None
    assert await context.pool.fetchval("SELECT count(*) FROM content") == 2


async def test_nothing_comes_back(context: Context, account: Person, owner: Owner) -> None:
    """Neither what was never noted, nor what its account does not outlive."""
    assert await holder(context.pool, 4711) is None
    outbound_id = await queued(context, account)
    await owner.execute("DELETE FROM mailbox")
    assert await holder(context.pool, outbound_id) is None
    with pytest.raises(StorageError):
        await context.ingest.store([await back(context, account, 4711)])
