"""How much an account and its tenant's pool may store, and how much they do (RFC 9208 keeps the words for it).

Room is asked for under a lock that PostgreSQL holds (schema/0009_metadata.sql): parallel sessions, of whatever process, get it
one after the other.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg

from storage.errors import OverQuotaError, UnavailableError
from storage.pool import Connection, Pool, reported

_HOLD_SECONDS = 300.0  # after a crash between promise and message, the promise counts no longer than this
_ACCOUNT_USAGE = """
SELECT a.account_id, a.tenant_id, a.login, t.name, a.quota_octets, a.quota_messages,
       coalesce(sum(m.size_octets), 0)::bigint AS used_octets, coalesce(sum(m.message_count), 0)::bigint AS used_messages
  FROM account AS a JOIN tenant AS t USING (tenant_id) LEFT JOIN mailbox AS m USING (account_id)
"""
_GROUPED = " GROUP BY a.account_id, t.tenant_id"


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """An account's own limits, and what counts against them."""

    account_id: int
    tenant_id: int
    login: str
    tenant: str
    quota_octets: int | None
    quota_messages: int | None
    used_octets: int
    used_messages: int


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """The limit that all accounts of a tenant share, and what counts against it."""

    tenant_id: int
    tenant: str
    quota_octets: int
    used_octets: int


async def usage(connection: Connection, account_id: int) -> AccountUsage | None:
    """The account's usage; None when it is gone."""
    row = await connection.fetchrow(f"{_ACCOUNT_USAGE} WHERE a.account_id = $1 {_GROUPED}", account_id)
    return AccountUsage(*row) if row else None


async def usage_of_login(connection: Connection, tenant_id: int, login: str) -> AccountUsage | None:
    """The usage of an account of the tenant, by login."""
    row = await connection.fetchrow(
        f"{_ACCOUNT_USAGE} WHERE a.tenant_id = $1 AND a.login = $2 {_GROUPED}", tenant_id, login
    )
    return AccountUsage(*row) if row else None


async def pool_usage(connection: Connection, tenant_id: int) -> PoolUsage | None:
    """The pool of a tenant; None when it has no limit."""
    row = await connection.fetchrow(
        "SELECT tenant_id, name, quota_octets, (SELECT coalesce(sum(size_octets), 0)::bigint FROM mailbox WHERE tenant_id = $1) "
        "FROM tenant WHERE tenant_id = $1 AND quota_octets IS NOT NULL",
        tenant_id,
    )
    return PoolUsage(*row) if row else None


async def set_limits(connection: Connection, account_id: int, octets: int | None, messages: int | None) -> None:
    """Give the account new limits; None is none."""
    await connection.execute(
        "UPDATE account SET quota_octets = $2, quota_messages = $3 WHERE account_id = $1", account_id, octets, messages
    )


async def is_administrator(connection: Connection, account_id: int) -> bool:
    """Whether the account may set the limits of its tenant's accounts."""
    return bool(await connection.fetchval("SELECT is_administrator FROM account WHERE account_id = $1", account_id))


async def check_room(connection: Connection, account_id: int, octets: int, messages: int = 1) -> None:
    """Raise OverQuotaError when there is no room now. What is to be relied upon is held()."""
    row = await connection.fetchrow("SELECT octets, messages FROM room_left($1)", account_id)
    if row and ((row[0] is not None and row[0] < octets) or (row[1] is not None and row[1] < messages)):
        raise OverQuotaError(f"account {account_id}")


@asynccontextmanager
async def held(pool: Pool, account_id: int, octets: int, messages: int = 1) -> AsyncIterator[None]:
    """Room that nobody else gets while the messages are being stored. Raises OverQuotaError, UnavailableError."""
    async with translated(account_id):
        hold = await pool.fetchval("SELECT hold_room($1, $2, $3, $4)", account_id, octets, messages, _HOLD_SECONDS)
    try:
        yield
    finally:
        if hold is not None:
            with suppress(UnavailableError):  # it expires; what was stored is stored
                async with reported():
                    await pool.execute("DELETE FROM quota_hold WHERE hold_id = $1", hold)


@asynccontextmanager
async def translated(account_id: int) -> AsyncIterator[None]:
    """Turn what require_room() fails with into OverQuotaError."""
    try:
        async with reported():
            yield
    except asyncpg.PostgresError as error:
        if error.sqlstate == "PW452":
            raise OverQuotaError(f"account {account_id}") from error
        raise
