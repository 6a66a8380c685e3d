"""Senders that accounts and tenants have listed, to be allowed or blocked."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.accounts import login_name
from storage.errors import NotFoundError, TooManyError
from storage.notifications import LISTED, ChangeHub
from storage.pool import Connection, Pool, reported

ENTRY_LIMIT = 10_000  # that one account, or one tenant, may have
_CACHED_SECONDS = 60.0  # should the notification of a change be lost
_CACHED_ACCOUNTS = 20_000

_OF_ACCOUNTS = """
SELECT o.account_id, s.pattern, s.is_allowed, s.account_id IS NOT NULL AS is_own
  FROM unnest($1::bigint[], $2::bigint[]) AS o (tenant_id, account_id)
 CROSS JOIN LATERAL (
       SELECT pattern, is_allowed, account_id FROM listed_sender WHERE tenant_id = o.tenant_id AND account_id IS NULL
        UNION ALL
       SELECT pattern, is_allowed, account_id FROM listed_sender WHERE tenant_id = o.tenant_id AND account_id = o.account_id) AS s
"""
_OWNER = """
SELECT tenant_id, NULL::bigint AS account_id FROM tenant WHERE name = $1 AND $2::text IS NULL
 UNION ALL
SELECT tenant_id, account_id FROM account WHERE login = $2 AND $1::text IS NULL
"""
_ADD = """
INSERT INTO listed_sender (tenant_id, account_id, pattern, is_allowed, note) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (tenant_id, account_id, pattern) DO UPDATE SET is_allowed = EXCLUDED.is_allowed, note = EXCLUDED.note
"""
_IS_MEANT = "tenant_id = $1 AND account_id IS NOT DISTINCT FROM $2"
_LIST = """
SELECT t.name AS tenant, a.login AS account, s.pattern, CASE WHEN s.is_allowed THEN 'allowed' ELSE 'blocked' END AS standing,
       s.note, s.created_at
  FROM listed_sender AS s JOIN tenant AS t USING (tenant_id) LEFT JOIN account AS a ON a.account_id = s.account_id
 WHERE ($1::text IS NULL OR t.name = $1) AND ($2::text IS NULL OR a.login = $2)
 ORDER BY t.name, a.login NULLS FIRST, s.pattern
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose list it is: an account's, or with None all accounts' of the tenant."""

    tenant_id: int
    account_id: int | None


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as it applies to an account."""

    pattern: str
    is_allowed: bool
    is_own: bool  # the account's; otherwise its tenant's


@dataclass(frozen=True, slots=True)
class ListedRow:
    """One entry as people read it."""

    tenant: str
    account: str | None
    pattern: str
    standing: str
    note: str
    created_at: datetime


class ListedSenders:
    """Answers from memory while nothing changed. One per process."""

    def __init__(self, pool: Pool, hub: ChangeHub) -> None:
        self._pool = pool
        self._hub = hub
        self._known: dict[int, tuple[float, tuple[Listed, ...]]] = {}
        self._changes = 0  # that we were told of
        self.close: Callable[[], None] = hub.on(LISTED, self._forget)

    def _forget(self) -> None:
        self._changes += 1
        self._known.clear()

    async def of(self, owners: Sequence[tuple[int, int]]) -> dict[int, tuple[Listed, ...]]:
        """What applies to each account, by account_id. owners: tenant_id and account_id. Raises UnavailableError."""
        now = time.monotonic()
        found: dict[int, tuple[Listed, ...]] = {}
        missing: list[tuple[int, int]] = []
        for tenant_id, account_id in owners:
            known = self._known.get(account_id)
            if known is not None and known[0] > now:
                found[account_id] = known[1]
            else:
                missing.append((tenant_id, account_id))
        return found | await self._read(missing) if missing else found

    async def _read(self, owners: Sequence[tuple[int, int]]) -> dict[int, tuple[Listed, ...]]:
        fresh: dict[int, list[Listed]] = {account_id: [] for _, account_id in owners}
        changes = self._changes
        async with reported():
            rows = await self._pool.fetch(_OF_ACCOUNTS, *(list(column) for column in zip(*owners, strict=True)))
        for account_id, *entry in rows:
            fresh[account_id].append(Listed(*entry))
        read = {account_id: tuple(entries) for account_id, entries in fresh.items()}
        if (
            self._hub.is_connected and changes == self._changes
        ):  # otherwise nobody would tell us of changes, or has already
            if len(self._known) + len(read) > _CACHED_ACCOUNTS:
                self._known.clear()
            until = time.monotonic() + _CACHED_SECONDS
            self._known |= {account_id: (until, entries) for account_id, entries in read.items()}
        return read


async def of_account(connection: Connection, owner: Owner) -> list[Listed]:
    """What applies to an account: its own entries, and its tenant's."""
    rows = await connection.fetch(_OF_ACCOUNTS, [owner.tenant_id], [owner.account_id])
    return [Listed(*entry) for _, *entry in rows]


async def owner_of(connection: Connection, *, tenant: str | None = None, login: str | None = None) -> Owner:
    """Whose list is meant: the tenant's by name, or an account's by login. Raises NotFoundError."""
    row = await connection.fetchrow(_OWNER, tenant, login_name(login) if login else None)
    if row is None:
        raise NotFoundError(f"no account {login}" if login else f"no tenant {tenant}")
    return Owner(*row)


async def add(connection: Connection, owner: Owner, pattern: str, *, is_allowed: bool, note: str = "") -> None:
    """List the pattern, in its normal form; what it was listed as before is over. Raises TooManyError."""
    whose = owner.tenant_id, owner.account_id
    count = await connection.fetchval(
        f"SELECT count(*) FROM listed_sender WHERE {_IS_MEANT} AND pattern <> $3", *whose, pattern
    )
    if count >= ENTRY_LIMIT:
        raise TooManyError(f"a list has {ENTRY_LIMIT} entries at most")
    await connection.execute(_ADD, *whose, pattern, is_allowed, note)


async def remove(connection: Connection, owner: Owner, pattern: str) -> bool:
    """Take the pattern off the list; gives whether it was there."""
    statement = f"DELETE FROM listed_sender WHERE {_IS_MEANT} AND pattern = $3"
    status: str = await connection.execute(statement, owner.tenant_id, owner.account_id, pattern)
    return status != "DELETE 0"


async def entries(connection: Connection, *, tenant: str | None = None, login: str | None = None) -> list[ListedRow]:
    """What is listed: by one tenant and all its accounts, by one account, or by everybody."""
    return [ListedRow(*row) for row in await connection.fetch(_LIST, tenant, login_name(login) if login else None)]
