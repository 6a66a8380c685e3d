"""Scripts in the database: at most one is active, and whoever changes them at the same time waits for the other."""

import asyncio

import pytest

from config.settings import Settings
from storage import accounts, scripts
from storage.errors import ExistsError, NotFoundError, OverQuotaError, TooManyError
from storage.pool import Pool
from storage.scripts import ActiveScriptError, Bounds
from tests.conftest import Owner, Person

BOUNDS = Bounds(scripts=3, octets=30)


async def put(pool: Pool, person: Person, name: str, octets: bytes = b"keep;") -> None:
    async with pool.acquire() as connection:
        await scripts.put(connection, person.account_id, name, octets, BOUNDS)


async def test_the_active_script(pool: Pool, account: Person) -> None:
    """What delivery asks for is the active script, with a digest that changes with its octets."""
    assert await scripts.active(pool, account.account_id) is None
    await put(pool, account, "a")
    await put(pool, account, "b")
    assert await scripts.active(pool, account.account_id) is None
    async with pool.acquire() as connection:
        await scripts.activate(connection, account.account_id, "a")
        before = await scripts.active(connection, account.account_id)
        await scripts.put(connection, account.account_id, "a", b"stop;", BOUNDS)
        after = await scripts.active(connection, account.account_id)
        twin = await scripts.read(connection, account.account_id, "b")
        await scripts.activate(connection, account.account_id, None)
        assert await scripts.active(connection, account.account_id) is None
    assert before is not None
    assert after is not None
    assert twin is not None
    assert (before.name, before.octets, after.octets) == ("a", b"keep;", b"stop;")
    assert before.digest == twin.digest != after.digest


async def test_bounds(pool: Pool, account: Person) -> None:
    """A replaced script is not counted twice, neither in number nor in octets."""
    for name in "abc":
        await put(pool, account, name, b"x" * 10)
    await put(pool, account, "c", b"y" * 10)
    with pytest.raises(OverQuotaError):
        await put(pool, account, "c", b"y" * 11)
    with pytest.raises(TooManyError):
        await put(pool, account, "d", b"")


async def test_what_is_missing_or_taken(pool: Pool, account: Person) -> None:
    """A refused change changes nothing."""
    await put(pool, account, "a")
    await put(pool, account, "b")
    async with pool.acquire() as connection:
        await scripts.activate(connection, account.account_id, "a")
        with pytest.raises(NotFoundError):
            await scripts.activate(connection, account.account_id, "x")
        with pytest.raises(ActiveScriptError):
            await scripts.delete(connection, account.account_id, "a")
        with pytest.raises(NotFoundError):
            await scripts.delete(connection, account.account_id, "x")
        for taken in ("a", "b"):
            with pytest.raises(ExistsError):
                await scripts.rename(connection, account.account_id, "a", taken)
        with pytest.raises(NotFoundError):
            await scripts.rename(connection, account.account_id, "x", "x")
        with pytest.raises(NotFoundError):
            await scripts.put(connection, account.account_id + 1, "a", b"keep;", BOUNDS)
    rows = await scripts.list_scripts(pool, account.account_id)
    assert [(row.name, row.is_active) for row in rows] == [("a", True), ("b", False)]


async def test_changes_at_the_same_time(pool: Pool, account: Person) -> None:
    """Of many clients that add a script or move the mark, as many succeed as there is room for, and one mark is left."""

    async def add(name: str) -> bool:
        try:
            await put(pool, account, name)
        except TooManyError:
            return False
        async with pool.acquire() as connection:
            await scripts.activate(connection, account.account_id, name)
        return True

    added = await asyncio.gather(*(add(name) for name in "abcdef"))
    assert sum(added) == BOUNDS.scripts
    rows = await scripts.list_scripts(pool, account.account_id)
    assert (len(rows), sum(row.is_active for row in rows)) == (BOUNDS.scripts, 1)


async def test_scripts_go_with_their_account(settings: Settings, pool: Pool, account: Person, owner: Owner) -> None:
    """A removed account leaves no script behind, the active one neither."""
    await put(pool, account, "a")
    await scripts.activate(owner, account.account_id, "a")
    await accounts.remove_account(owner, account.login)
    assert await owner.fetchval("SELECT count(*) FROM sieve_script") == 0
