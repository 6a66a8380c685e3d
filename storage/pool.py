"""Connections to PostgreSQL. One pool per process; whoever needs LISTEN or an advisory lock opens a connection of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from storage.errors import UnavailableError

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
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


@asynccontextmanager
async def open_pool(dsn: str, *, size: int, role: str | None) -> AsyncIterator[Pool]:
    """A pool of at most `size` connections that work as `role`. Raises UnavailableError when there is no server."""
    try:
        pool = await asyncpg.create_pool(
            dsn, min_size=1, max_size=size, reset=_reset, server_settings=server_settings(role), command_timeout=60
        )
    except AWAY as error:
        raise UnavailableError(f"no database: {error}") from error
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await pool.close()
        except (TimeoutError, *AWAY):
            pool.terminate()


@asynccontextmanager
async def reported() -> AsyncIterator[None]:
    """Translate what asyncpg raises when the server is away into UnavailableError."""
    try:
        yield
    except AWAY as error:
        raise UnavailableError(f"{type(error).__name__}: {error}") from error
