"""How much an account and its tenant's pool may store, and how much they do (RFC 9208 keeps the words for it).

Room is asked for under a lock that PostgreSQL holds (schema/0008_metadata.sql): parallel sessions, of whatever process, get it
one after the other.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg

from storage.errors import NotFoundError, OverQuotaError, UnavailableError
from storage.notifications import DIRECTORY, ChangeHub
from storage.pool import Connection, Pool, reported

_HOLD_SECONDS = 300.0  # after a crash between promise and message, the promise counts no longer than this
_KEPT_SECONDS = 30.0  # should the notification of a new limit be lost
_KEPT_ACCOUNTS = 50_000
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


async def limit_account(connection: Connection, login: str, octets: int | None, messages: int | None) -> None:
    """set_limits() by login. Raises NotFoundError."""
    statement = "UPDATE account SET quota_octets = $2, quota_messages = $3 WHERE login = lower($1) RETURNING 1"
    await _changed(connection, statement, login, octets, messages)


async def limit_pool(connection: Connection, tenant: str, octets: int | None) -> None:
    """Give all accounts of the tenant together a limit; None is none. Raises NotFoundError."""
    await _changed(connection, "UPDATE tenant SET quota_octets = $2 WHERE name = $1 RETURNING 1", tenant, octets)


async def set_administrator(connection: Connection, login: str, *, is_granted: bool) -> None:
    """Make the account one that may set limits, or not. Raises NotFoundError."""
    statement = "UPDATE account SET is_administrator = $2 WHERE login = lower($1) AND kind = 'person' RETURNING 1"
    await _changed(connection, statement, login, is_granted)


async def _changed(connection: Connection, statement: str, *arguments: object) -> None:
    if await connection.fetchval(statement, *arguments) is None:
        raise NotFoundError("no such row")


async def is_administrator(connection: Connection, account_id: int) -> bool:
    """Whether the account may set the limits of its tenant's accounts."""
    return bool(await connection.fetchval("SELECT is_administrator FROM account WHERE account_id = $1", account_id))


class Rooms:
    """Asks for room. One per process: it remembers which accounts have no limit, so that asking for those costs nothing."""

    def __init__(self, pool: Pool, changes: ChangeHub) -> None:
        self._pool = pool
        self._changes = changes
        self._unlimited: dict[int, float] = {}
        self.close: Callable[[], None] = changes.on(DIRECTORY, self._unlimited.clear)

    def __repr__(self) -> str:
        return f"<Rooms: {len(self._unlimited)} accounts known to have no limit>"

    async def check(self, account_id: int, octets: int, messages: int = 1) -> None:
        """Raise OverQuotaError when there is no room now: to refuse early. What is to be relied upon is held()."""
        if self.is_unlimited(account_id):
            return
        async with reported():
            room = await self._pool.fetchrow("SELECT octets, messages FROM room_left($1)", account_id)
        if room is None:
            return
        if room[0] is None and room[1] is None:
            self._remember(account_id)
        elif (room[0] is not None and room[0] < octets) or (room[1] is not None and room[1] < messages):
            raise OverQuotaError(f"account {account_id}")

    @asynccontextmanager
    async def held(self, account_id: int, octets: int, messages: int = 1) -> AsyncIterator[None]:
        """Room that nobody else gets while the messages are being stored. Raises OverQuotaError, UnavailableError."""
        hold = None
        if not self.is_unlimited(account_id):
            hold = await self._hold(account_id, octets, messages)
            if hold is None:
                self._remember(account_id)
        try:
            yield
        finally:
            if hold is not None:
                with suppress(UnavailableError):  # it expires; what was stored is stored
                    async with reported():
                        await self._pool.execute("DELETE FROM quota_hold WHERE hold_id = $1", hold)

    async def _hold(self, account_id: int, octets: int, messages: int) -> int | None:
        try:
            async with reported():
                hold: int | None = await self._pool.fetchval(
                    "SELECT hold_room($1, $2, $3, $4)", account_id, octets, messages, _HOLD_SECONDS
                )
        except asyncpg.PostgresError as error:
            if error.sqlstate == "PW452":
                raise OverQuotaError(f"account {account_id}") from error
            raise
        return hold

    def is_unlimited(self, account_id: int) -> bool:
        """Whether the account is known to have no limit."""
        return self._unlimited.get(account_id, 0.0) > time.monotonic()

    def _remember(self, account_id: int) -> None:
        if not self._changes.is_connected:
            return  # nobody would tell us of a limit
        if len(self._unlimited) >= _KEPT_ACCOUNTS:
            self._unlimited.clear()
        self._unlimited[account_id] = time.monotonic() + _KEPT_SECONDS
