"""Listed senders in the database: whose they are, how many there may be, and what finding them costs."""

import asyncio

import asyncpg
import pytest

from config.settings import Settings
from daemons.context import Context
from storage import listed_senders
from storage.accounts import add_domain, add_tenant
from storage.blobs.keys import KeyRing
from storage.errors import NotFoundError, TooManyError
from storage.listed_senders import Listed, ListedSenders, Owner
from storage.notifications import LISTED
from tests.conftest import Owner as Connection
from tests.conftest import Person, add_person


async def test_each_account_has_its_own_and_its_tenants(
    context: Context, settings: Settings, owner: Connection, account: Person
) -> None:
    """Of one statement for all who are asked about; another tenant's entries are nobody's business here."""
    bob = await add_person(settings, owner, "bob@example.test")
    other = await add_tenant(owner, "other", KeyRing(settings.master_key_file).new_tenant_key())
    await add_domain(owner, "other", "other.test")
    await listed_senders.add(owner, Owner(account.tenant_id, None), "spam.example", is_allowed=False)
    await listed_senders.add(owner, Owner(account.tenant_id, account.account_id), "friend.example", is_allowed=True)
    await listed_senders.add(owner, Owner(other, None), "foreign.example", is_allowed=False)
    listed = ListedSenders(context.pool, context.changes)
    found = await listed.of([(each.tenant_id, each.account_id) for each in (account, bob)])
    tenants = Listed("spam.example", is_allowed=False, is_own=False)
    own = Listed("friend.example", is_allowed=True, is_own=True)
    assert set(found[account.account_id]) == {tenants, own}
    assert found[bob.account_id] == (tenants,)
    listed.close()


async def test_an_account_of_another_tenant_has_no_place(
    settings: Settings, owner: Connection, account: Person
) -> None:
    """The database itself keeps tenants apart."""
    other = await add_tenant(owner, "other", KeyRing(settings.master_key_file).new_tenant_key())
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await listed_senders.add(owner, Owner(other, account.account_id), "x.example", is_allowed=True)
    with pytest.raises(NotFoundError):
        await listed_senders.owner_of(owner, login="nobody@example.test")


async def test_answers_come_from_memory_until_something_changes(
    context: Context, owner: Connection, account: Person
) -> None:
    """The second question costs no statement; a change anywhere is known as soon as it is told."""
    listed = ListedSenders(context.pool, context.changes)
    wanted = [(account.tenant_id, account.account_id)]
    told = asyncio.Event()
    end = context.changes.on(LISTED, told.set)
    while not context.changes.is_connected:
        await told.wait()
        told.clear()
    assert await listed.of(wanted) == {account.account_id: ()}
    assert (await listed.of(wanted))[account.account_id] is (await listed.of(wanted))[account.account_id]
    told.clear()
    await listed_senders.add(owner, Owner(account.tenant_id, None), "spam.example", is_allowed=False)
    await told.wait()
    assert await listed.of(wanted) == {account.account_id: (Listed("spam.example", is_allowed=False, is_own=False),)}
    end()
    listed.close()


async def test_a_list_has_an_end(owner: Connection, account: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry too many is refused; what is there can still be changed."""
    monkeypatch.setattr(listed_senders, "ENTRY_LIMIT", 3)
    whose = Owner(account.tenant_id, account.account_id)
    for number in range(3):
        await listed_senders.add(owner, whose, f"{number}.example", is_allowed=True)
    with pytest.raises(TooManyError):
        await listed_senders.add(owner, whose, "3.example", is_allowed=True)
    await listed_senders.add(owner, whose, "2.example", is_allowed=False)
    assert sum(row.standing == "blocked" for row in await listed_senders.entries(owner)) == 1


async def test_many_entries_of_others_cost_nothing(context: Context, owner: Connection, account: Person) -> None:
    """An account's entries are found by index among those of many."""
    await owner.execute(
        "INSERT INTO account (tenant_id, login, password_hash) SELECT $1, 'u' || n, 'x' FROM generate_series(1, 500) AS n",
        account.tenant_id,
    )
    await owner.execute(
        "INSERT INTO listed_sender (tenant_id, account_id, pattern, is_allowed) SELECT $1, account_id, n || '.example', true "
        "FROM account, generate_series(1, 40) AS n WHERE login LIKE 'u%'",
        account.tenant_id,
    )
    await owner.execute("ANALYZE listed_sender")
    async with context.pool.acquire() as connection:
        plan = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) {listed_senders._OF_ACCOUNTS}",
            [account.tenant_id],
            [account.account_id],
        )
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan" not in text
    assert "Rows Removed by Filter" not in text
