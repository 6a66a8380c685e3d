"""Connections to PostgreSQL. One pool per process; whoever needs LISTEN or an advisory lock opens a connection of its own."""

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction

from storage.errors import UnavailableError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

# What asyncpg raises when the server is away, starting, stopping, or was killed under a query.
AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a query in the moment between the server's farewell and the end of its connection
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.ReadOnlySQLTransactionError,
)


_CLOSE_SECONDS = 5
_SPARE_SECONDS = 60.0  # connections that nobody wanted for so long go back to the driver, which closes them in time


def server_settings(role: str | None) -> dict[str, str]:
    """What every session of ours runs with.

    The statements are few, prepared once and fed by arrays: a generic plan is right for all of them, and planning
    the ingest statement anew would cost more than running it. Each looks rows up by key, so scans and the joins that
    read whole tables are out: a plan made while the tables are empty stays, and must be right when they are large.
    """
    settings = {
        "application_name": "postwerk",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_seqscan": "off",
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
        "timezone": "UTC",
    }
    return settings | ({"role": role} if role else {})


async def _reset(connection: Connection) -> None:
    """Replace asyncpg's reset, a round trip per release: no code of ours leaves session state behind but by a bug."""
    if connection.is_in_transaction():
        await connection.reset()


class Pool:
    """At most so many connections, lent for a moment each. asyncpg's pool makes, replaces and closes them.

    That pool takes two thirds of the time of a small query: a task, a timer and three turns of the loop for each connection
    given back. So connections that came back in order wait here, and only others go through it.
    """

    def __init__(self, driver: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._driver = driver
        self._idle: list[PoolConnectionProxy[asyncpg.Record]] = []  # the last used one is last
        self._waiting = 0  # who has to be given what comes back
        self._generation = 0
        self._spare = 0  # how many at the front of _idle nobody wanted since the last look
        self._timer: asyncio.TimerHandle | None = None
        self._releasing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Pool {self.get_size()} connections, {self.get_idle_size()} idle>"

    def acquire(self) -> "_Loan":
        """Borrow a connection: `async with pool.acquire() as connection`, or await it and give it to release()."""
        return _Loan(self)

    async def release(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
        """Give back what was awaited."""
        await self._return(connection)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of one query."""
        async with _Loan(self) as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """The first row of one query."""
        async with _Loan(self) as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: object) -> Any:
        """The first value of the first row of one query."""
        async with _Loan(self) as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: object) -> str:
        """Run one statement."""
        async with _Loan(self) as connection:
            return await connection.execute(query, *arguments)

    def get_size(self) -> int:
        """Connections that there are."""
        return self._driver.get_size()

    def get_idle_size(self) -> int:
        """Connections that nobody has borrowed."""
        return self._driver.get_idle_size() + len(self._idle)

    async def expire_connections(self) -> None:
        """Have every connection replaced when it is wanted next."""
        self._generation += 1
        await self._driver.expire_connections()
        await self._release_idle()

    async def close(self) -> None:
        """Wait for what is lent, then close all."""
        self._generation += 1
        self._stop_timer()
        await self._release_idle()
        await self._driver.close()

    def terminate(self) -> None:
        """Close all at once."""
        self._generation += 1
        self._stop_timer()
        self._idle.clear()
        self._driver.terminate()

    async def _take(self) -> "PoolConnectionProxy[asyncpg.Record]":
        while self._idle:
            connection = self._idle.pop()
            self._spare = min(self._spare, len(self._idle))
            if _is_open(connection):
                return connection
            await self._return(connection)
        self._waiting += 1
        try:
            return await self._driver.acquire()
        finally:
            self._waiting -= 1

    async def _give(
        self, connection: "PoolConnectionProxy[asyncpg.Record]", generation: int, *, is_sound: bool
    ) -> None:
        is_sound = is_sound and _is_open(connection) and not connection.is_in_transaction()
        if self._waiting or generation != self._generation or not is_sound:
            await self._return(connection)
            return
        self._idle.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SPARE_SECONDS, self._release_spare)

    def _release_spare(self) -> None:
        self._timer = None
        for connection in self._idle[: self._spare]:
            task = asyncio.create_task(self._return(connection))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)
        del self._idle[: self._spare]
        self._spare = len(self._idle)
        if self._idle:
            self._timer = asyncio.get_running_loop().call_later(_SPARE_SECONDS, self._release_spare)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _return(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
        try:
            await self._driver.release(connection)
        except asyncpg.InternalClientError:  # it was lost while it was given back: the driver has it already
            if _is_open(connection):
                raise

    async def _release_idle(self) -> None:
        while self._idle:
            await self._return(self._idle.pop())


def _is_open(connection: "PoolConnectionProxy[asyncpg.Record]") -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # it was lost, and the driver's pool has noticed
        return False


class _Loan:
    """One borrowing."""

    __slots__ = ("_connection", "_generation", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: PoolConnectionProxy[asyncpg.Record] | None = None
        self._generation = 0

    async def __aenter__(self) -> "PoolConnectionProxy[asyncpg.Record]":
        self._connection = connection = await self._pool._take()
        self._generation = self._pool._generation
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        await self._pool._give(connection, self._generation, is_sound=kind is None)

    def __await__(self) -> "Generator[Any, None, PoolConnectionProxy[asyncpg.Record]]":
        return self._pool._take().__await__()


class RehearsalPool(Pool):
    """Whatever is done on one of its connections is undone when that is given back: all code works, and nothing has happened."""

    def __init__(self, driver: "asyncpg.Pool[asyncpg.Record]") -> None:
        super().__init__(driver)
        self._open: dict[PoolConnectionProxy[asyncpg.Record], Transaction] = {}

    async def release(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
        """Give back what was awaited."""
        await self._undo(connection)
        await super().release(connection)

    async def _take(self) -> "PoolConnectionProxy[asyncpg.Record]":
        connection = await super()._take()
        self._open[connection] = transaction = connection.transaction()
        await transaction.start()
        return connection

    async def _give(
        self, connection: "PoolConnectionProxy[asyncpg.Record]", generation: int, *, is_sound: bool
    ) -> None:
        await self._undo(connection)
        await super()._give(connection, generation, is_sound=is_sound)

    async def _undo(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
        transaction = self._open.pop(connection)
        if _is_open(connection):
            await transaction.rollback()


@asynccontextmanager
async def open_pool(dsn: str, *, size: int, role: str | None, is_rehearsal: bool = False) -> AsyncIterator[Pool]:
    """A pool of at most `size` connections that work as `role`. Raises UnavailableError when there is no server."""
    try:
        driver = await asyncpg.create_pool(
            dsn, min_size=1, max_size=size, reset=_reset, server_settings=server_settings(role), command_timeout=60
        )
    except AWAY as error:
        raise UnavailableError(f"no database: {error}") from error
    pool = RehearsalPool(driver) if is_rehearsal else Pool(driver)
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await pool.close()
        except (TimeoutError, *AWAY):
            pool.terminate()


class _Reported:
    """See reported()."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, AWAY):
            raise UnavailableError(f"{type(error).__name__}: {error}") from error


_REPORTED = _Reported()


def reported() -> AbstractAsyncContextManager[None]:
    """Translate what asyncpg raises when the server is away into UnavailableError."""
    return _REPORTED
