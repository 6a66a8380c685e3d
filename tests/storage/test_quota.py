"""Room for mail: limits of accounts and of the tenant's pool, and sessions that ask for the same room at once."""

import asyncio

import pytest

from daemons.context import Context
from storage import quota
from storage.errors import OverQuotaError
from storage.notifications import DIRECTORY
from storage.quota import Rooms
from tests.conftest import Owner, Person, add_person
from tests.storage.messages_made import fill, mailbox_id


async def test_usage(context: Context, account: Person, owner: Owner) -> None:
    """An account's usage is what all its mailboxes hold, beside its own limits."""
    await fill(context, account, await mailbox_id(owner, account), 2)
    found = await quota.usage(owner, account.account_id)
    assert found == await quota.usage_of_login(owner, account.tenant_id, account.login)
    assert found is not None
    assert (found.used_octets, found.used_messages, found.quota_octets, found.quota_messages) == (34, 2, None, None)
    await quota.set_limits(owner, account.account_id, 1000, 5)
    found = await quota.usage(owner, account.account_id)
    assert found is not None
    assert (found.quota_octets, found.quota_messages) == (1000, 5)
    assert await quota.pool_usage(owner, account.tenant_id) is None
    await owner.execute("UPDATE tenant SET quota_octets = 5000")
    pool = await quota.pool_usage(owner, account.tenant_id)
    assert pool == quota.PoolUsage(account.tenant_id, "example", 5000, 34)


@pytest.mark.parametrize(
    "limit",
    [
        "UPDATE account SET quota_octets = 40",
        "UPDATE account SET quota_messages = 1",
        "UPDATE tenant SET quota_octets = 40",
    ],
)
async def test_limits(context: Context, account: Person, owner: Owner, limit: str) -> None:
    """Octets, messages and the pool each refuse what is one too many, and nothing before."""
    await owner.execute(limit)
    rooms = Rooms(context.pool, context.changes)
    await rooms.check(account.account_id, 17)
    async with rooms.held(account.account_id, 17):
        pass
    await fill(context, account, await mailbox_id(owner, account), 1)
    with pytest.raises(OverQuotaError):
        await rooms.check(account.account_id, 24)
    with pytest.raises(OverQuotaError):
        async with rooms.held(account.account_id, 24):
            pytest.fail("there was no room")


async def test_parallel_sessions_share_the_room(context: Context, account: Person, owner: Owner) -> None:
    """Of many that ask at once for the pool's last room, in several accounts, exactly as many get it as there is room."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    await owner.execute("UPDATE tenant SET quota_octets = 300")
    rooms = Rooms(context.pool, context.changes)
    got = refused = 0
    everyone_has_asked = asyncio.Barrier(20)

    async def ask(account_id: int) -> None:
        nonlocal got, refused
        try:
            async with rooms.held(account_id, 100):
                got += 1
                await everyone_has_asked.wait()
        except OverQuotaError:
            refused += 1
            await everyone_has_asked.wait()

    await asyncio.gather(*(ask(person.account_id) for person in (account, bob) for _ in range(10)))
    assert (got, refused) == (3, 17)
    assert await owner.fetchval("SELECT count(*) FROM quota_hold") == 0


async def test_a_promise_expires(context: Context, account: Person, owner: Owner) -> None:
    """What a crash leaves promised counts no more when its time is over."""
    await owner.execute("UPDATE account SET quota_octets = 100")
    await owner.execute(
        "INSERT INTO quota_hold (tenant_id, account_id, size_octets, message_count, expires_at) "
        "SELECT tenant_id, account_id, 60, 1, now() + interval '1 minute' FROM account"
    )
    rooms = Rooms(context.pool, context.changes)
    with pytest.raises(OverQuotaError):
        await rooms.check(account.account_id, 50)
    await owner.execute("UPDATE quota_hold SET expires_at = now()")
    await rooms.check(account.account_id, 50)
    async with rooms.held(account.account_id, 50):
        assert await owner.fetchval("SELECT count(*) FROM quota_hold") == 1


async def test_a_full_account_is_known_to_the_directory(context: Context, account: Person, owner: Owner) -> None:
    """Delivery learns that an account has reached its number of messages."""
    found = await context.directory.resolve("alice", "example.test")
    assert found is not None
    assert not found.is_over_quota
    await owner.execute("UPDATE account SET quota_messages = 0")
    context.directory.clear()  # as the notification does
    found = await context.directory.resolve("alice", "example.test")
    assert found is not None
    assert found.is_over_quota


async def test_an_account_without_limit_is_asked_for_once(context: Context, account: Person, owner: Owner) -> None:
    """A limit that is set later holds at once all the same: the notification makes the process forget."""
    told = asyncio.Event()
    end = context.changes.on(DIRECTORY, told.set)
    if not context.changes.is_connected:  # else it listens already
        await told.wait()
    rooms = Rooms(context.pool, context.changes)
    await rooms.check(account.account_id, 1 << 40)
    assert "1 accounts" in repr(rooms)
    async with rooms.held(account.account_id, 1 << 40, 1 << 40):
        assert await owner.fetchval("SELECT count(*) FROM quota_hold") == 0
    told.clear()
    await owner.execute("UPDATE account SET quota_messages = 0")
    await told.wait()
    with pytest.raises(OverQuotaError):
        await rooms.check(account.account_id, 1)
    rooms.close()
    end()
