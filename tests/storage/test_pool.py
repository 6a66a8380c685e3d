"""Connections lent and given back."""

import asyncio

import asyncpg
import pytest

from storage.pool import Pool, open_pool

BACKEND = "SELECT pg_backend_pid()"


async def test_a_connection_is_used_again(pool: Pool) -> None:
    """One query after the other has the same connection, which counts as idle in between."""
    first = await pool.fetchval(BACKEND)
    assert {await pool.fetchval(BACKEND) for _ in range(5)} == {first}
    row = await pool.fetchrow(BACKEND)
    assert row is not None
    assert [row[0], *(row[0] for row in await pool.fetch(BACKEND))] == [first, first]
    assert (pool.get_size(), pool.get_idle_size()) == (1, 1)
    async with pool.acquire() as connection:
        assert await connection.fetchval(BACKEND) == first
        assert pool.get_idle_size() == 0


async def test_whoever_waits_is_served(pool: Pool) -> None:
    """Many more queries than connections are all answered, those that come first by no more connections than there may be."""
    found = await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(100)))
    assert found == list(range(100))
    assert pool.get_size() <= 4
    awaited = [await pool.acquire() for _ in range(4)]
    waiting = asyncio.create_task(pool.fetchval(BACKEND))
    await asyncio.sleep(0)
    assert not waiting.done()
    for connection in awaited:
        await pool.release(connection)
    assert await waiting


async def test_errors_and_cancellations(pool: Pool) -> None:
    """After a query that failed or was cancelled the next one works."""
    with pytest.raises(asyncpg.DivisionByZeroError):
        await pool.execute("SELECT 1 / 0")
    task = asyncio.create_task(pool.execute("SELECT pg_sleep(60)"))
    while pool.get_idle_size() or not pool.get_size():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await pool.fetchval("SELECT 7") == 7


async def test_connections_expire(pool: Pool) -> None:
    """After expire_connections every query has a new one, also where an old one was lent meanwhile."""
    async with pool.acquire() as connection:
        old = {await connection.fetchval(BACKEND), await pool.fetchval(BACKEND)}
        await pool.expire_connections()
        assert await pool.fetchval(BACKEND) not in old
    assert await pool.fetchval(BACKEND) not in old


async def test_a_killed_connection_is_replaced(pool: Pool, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A connection that the server has ended is not lent again."""
    async with pool.acquire() as connection:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        killed = await connection.fetchval(BACKEND)
    await owner.execute("SELECT pg_terminate_backend($1)", killed)
    await lost.wait()
    assert await pool.fetchval(BACKEND) != killed


async def test_a_connection_is_lost_while_it_is_given_back(pool: Pool) -> None:
    """Whoever gives it back need not know, and the next one gets another."""
    connection = await pool.acquire()
    giving = asyncio.create_task(pool.release(connection))
    await asyncio.sleep(0)  # the driver has begun
    connection.terminate()
    await giving
    assert await pool.fetchval("SELECT 1") == 1


async def test_closing_waits_for_what_is_lent(database: str) -> None:
    """A query that runs when the pool is closed has its answer; afterwards there are no more."""
    async with open_pool(database, size=2, role=None) as pool:
        running = asyncio.create_task(pool.fetchval("SELECT 1 FROM pg_sleep(0.05)"))
        while pool.get_idle_size() or not pool.get_size():
            await asyncio.sleep(0)
    assert await running == 1
    with pytest.raises(asyncpg.InterfaceError):
        await pool.fetchval("SELECT 1")


async def test_a_rehearsal_changes_nothing(database: str, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """All statements work, transactions within them too, and what they did is gone when the connection is given back."""
    count = "SELECT count(*) FROM tenant"
    insert = "INSERT INTO tenant (name, wrapped_key) VALUES ($1, '')"
    async with open_pool(database, size=2, role=None, is_rehearsal=True) as pool:
        async with pool.acquire() as connection:
            async with connection.transaction():
                await connection.execute(insert, "one")
            assert await connection.fetchval(count) == 1
        await pool.execute(insert, "two")
        async with pool.acquire() as connection:
            await connection.execute(insert, "three")
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.execute(insert, "three")
        awaited = await pool.acquire()
        await awaited.execute(insert, "four")
        await pool.release(awaited)
        assert await pool.fetchval(count) == 0
    assert await owner.fetchval(count) == 0
