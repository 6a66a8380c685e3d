"""Maildrops: the exclusive lock through cancellation, loss and reuse, and the listings that are kept."""

import asyncio
from contextlib import suppress

import asyncpg
import pytest

from daemons.context import Context
from storage.errors import MailboxNotFoundError, UnavailableError
from storage.maildrops import Maildrop, Maildrops
from tests.conftest import Person
from tests.storage.messages_made import fill, mailbox_id


@pytest.fixture
async def inbox(context: Context, owner: "asyncpg.Connection[asyncpg.Record]", account: Person) -> int:
    """Alice's inbox, with three messages in it."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 3)
    return box


async def locks(owner: "asyncpg.Connection[asyncpg.Record]") -> int:
    """How many maildrops are locked in the database."""
    return int(
        await owner.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    )


async def opened(maildrops: Maildrops, account: Person) -> Maildrop:
    """The account's maildrop, which nobody else has."""
    maildrop = await maildrops.open(account.account_id, None)
    assert isinstance(maildrop, Maildrop)
    return maildrop


def made(context: Context, *, cached_messages: int = 1000) -> Maildrops:
    return Maildrops(context.pool, cached_messages=cached_messages)


async def test_open_and_close(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", account: Person, inbox: int
) -> None:
    """An open maildrop is locked in the database; closing it frees it and gives the connection back."""
    maildrops = made(context)
    maildrop = await opened(maildrops, account)
    assert maildrop is not None
    assert list(maildrop.listing.uids) == [1, 2, 3]
    assert maildrop.listing.size_octets == sum(maildrop.listing.sizes)
    assert await locks(owner) == 1
    assert await maildrops.open(account.account_id, None) is None
    await maildrops.close(maildrop)
    assert await locks(owner) == 0
    assert context.pool.get_size() == context.pool.get_idle_size()
    assert maildrops.held_count == 0


async def test_an_empty_maildrop_is_not_locked(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", account: Person
) -> None:
    """In an empty inbox there is nothing to protect: any number of sessions may look at it."""
    maildrops = made(context)
    first, second = await opened(maildrops, account), await opened(maildrops, account)
    assert first is not None
    assert second is not None
    assert len(first.listing) == await locks(owner) == 0
    await maildrops.close(first)
    await maildrops.close(second)


async def test_no_inbox(context: Context, account: Person) -> None:
    """An account that is gone has no inbox, and trying leaves nothing behind."""
    maildrops = made(context)
    with pytest.raises(MailboxNotFoundError):
        await maildrops.open(account.account_id + 1, None)
    assert maildrops.held_count == 0
    assert context.pool.get_size() == context.pool.get_idle_size()


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_while_opening(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", account: Person, inbox: int, turns: int
) -> None:
    """Whenever a session is cancelled while it opens its maildrop, the lock does not outlive it."""
    maildrops = made(context)
    opening = asyncio.create_task(opened(maildrops, account))
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    maildrop = None
    with suppress(asyncio.CancelledError):
        maildrop = await opening
    if maildrop is not None:
        await maildrops.close(maildrop)
    async with asyncio.timeout(30):
        while maildrops.held_count:
            await asyncio.sleep(0)
    assert await locks(owner) == 0
    again = await opened(maildrops, account)
    assert again is not None
    await maildrops.close(again)


async def test_cancelled_while_closing(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", account: Person, inbox: int
) -> None:
    """A session that is cancelled while it closes its maildrop frees it all the same."""
    maildrops = made(context)
    maildrop = await opened(maildrops, account)
    assert maildrop is not None
    closing = asyncio.create_task(maildrops.close(maildrop))
    await asyncio.sleep(0)
    closing.cancel()
    with suppress(asyncio.CancelledError):
        await closing
    async with asyncio.timeout(30):
        while maildrops.held_count:
            await asyncio.sleep(0)
    assert await locks(owner) == 0


async def test_a_lost_connection(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", account: Person, inbox: int
) -> None:
    """With its connection a lock is lost: nothing is removed under it, and the maildrop can be opened anew."""
    maildrops = made(context)
    maildrop = await opened(maildrops, account)
    assert maildrop is not None
    assert maildrop.lock is not None
    await owner.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    async with asyncio.timeout(30):
        while not maildrop.lock.is_lost:
            await asyncio.sleep(0)
    with pytest.raises(UnavailableError):
        await maildrops.remove(maildrop, [1])
    await maildrops.close(maildrop)
    again = await opened(maildrops, account)
    assert again is not None
    assert len(again.listing) == 3
    await maildrops.remove(again, [1])
    await maildrops.close(again)
    assert context.pool.get_size() == context.pool.get_idle_size()


async def test_listings_are_kept_until_the_mailbox_changes(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", account: Person, inbox: int
) -> None:
    """The same listing serves until something changes in the mailbox, then a new one is read."""
    maildrops = made(context)
    seen = []
    for _ in range(2):
        maildrop = await opened(maildrops, account)
        assert maildrop is not None
        seen.append(maildrop.listing)
        await maildrops.close(maildrop)
    assert seen[0] is seen[1]
    await fill(context, account, inbox, 1)
    maildrop = await opened(maildrops, account)
    assert maildrop is not None
    assert list(maildrop.listing.uids) == [1, 2, 3, 4]
    await maildrops.close(maildrop)


async def test_kept_listings_are_bounded(context: Context, account: Person, inbox: int) -> None:
    """A listing larger than what may be kept is not kept."""
    maildrops = made(context, cached_messages=2)
    maildrop = await opened(maildrops, account)
    assert maildrop is not None
    assert len(maildrop.listing) == 3
    await maildrops.close(maildrop)
    assert not maildrops._listings
    assert maildrops._listed == 0
