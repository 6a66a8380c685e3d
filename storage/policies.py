"""What sites ask of POP3 users, account by account where they differ: login delay and retention (RFC 2449 §6.5, §6.7).

Also when mail was last fetched, by whatever protocol, which the inactivity rules go by.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from storage import messages
from storage.credentials import note_fetch
from storage.errors import NotFoundError
from storage.pool import Connection, Pool, reported

_STRICTEST = """
SELECT max(login_delay_seconds) AS login_delay, min(expire_days) AS expire_days
  FROM pop3_policy
"""
_LIST = """
SELECT a.login, p.login_delay_seconds, p.expire_days FROM pop3_policy AS p JOIN account AS a USING (account_id) ORDER BY a.login
"""
_SET = """
INSERT INTO pop3_policy (account_id, login_delay_seconds, expire_days)
SELECT account_id, $2, $3 FROM account WHERE login = lower($1)
    ON CONFLICT (account_id) DO UPDATE SET login_delay_seconds = EXCLUDED.login_delay_seconds, expire_days = EXCLUDED.expire_days
RETURNING account_id
"""
_RESET = """
DELETE FROM pop3_policy USING account WHERE pop3_policy.account_id = account.account_id AND login = lower($1)
RETURNING login
"""
_EXPIRED = """
SELECT b.mailbox_id, array_agg(m.uid ORDER BY m.uid) AS uids
  FROM pop3_policy AS p JOIN mailbox AS b ON b.account_id = p.account_id AND b.name = 'INBOX'
  JOIN message AS m ON m.mailbox_id = b.mailbox_id
 WHERE p.expire_days > 0 AND m.savedate < now() - make_interval(days => p.expire_days)
 GROUP BY b.mailbox_id ORDER BY b.mailbox_id
"""
_NOTED_EVERY_SECONDS = 3600.0  # the rules count days: an hour more or less is nothing, and saves a write per login
_REMEMBERED_ACCOUNTS = 50_000
_AT_ONCE = 1000  # messages that one transaction removes


@dataclass(frozen=True, slots=True)
class Strictest:
    """What binds some user most; None: nobody has a policy of their own."""

    login_delay: int | None
    expire_days: int | None


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One account that differs from the configuration."""

    login: str
    login_delay_seconds: int | None
    expire_days: int | None


async def strictest(pool: Pool) -> Strictest:
    """The longest login delay and the shortest retention of any account that has its own. Raises StorageError."""
    async with reported():
        row = await pool.fetchrow(_STRICTEST)
    assert row is not None
    return Strictest(row["login_delay"], row["expire_days"])


async def list_policies(connection: Connection) -> list[PolicyRow]:
    """All accounts that differ from the configuration."""
    return [PolicyRow(*row) for row in await connection.fetch(_LIST)]


async def set_policy(
    connection: Connection, login: str, *, login_delay_seconds: int | None, expire_days: int | None
) -> None:
    """Give an account a policy of its own. Raises NotFoundError."""
    if await connection.fetchval(_SET, login, login_delay_seconds, expire_days) is None:
        raise NotFoundError(login)


async def reset_policy(connection: Connection, login: str) -> None:
    """Let the configuration decide again. Raises NotFoundError when the account has no policy of its own."""
    if await connection.fetchval(_RESET, login) is None:
        raise NotFoundError(login)


async def remove_expired(connection: Connection) -> int:
    """Remove what lies in inboxes for longer than their policy says. Returns how many messages went."""
    removed = 0
    for mailbox_id, uids in await connection.fetch(_EXPIRED):
        for start in range(0, len(uids), _AT_ONCE):
            removed += len(await messages.remove(connection, mailbox_id, uids[start : start + _AT_ONCE]))
    return removed


class Fetches:
    """Notes when an account has last fetched mail: once an hour at most, and without a statement in between."""

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._noted: OrderedDict[int, float] = OrderedDict()

    async def note(self, account_id: int) -> None:
        """The account is fetching mail now. Raises StorageError."""
        now = self._clock()
        if now - self._noted.get(account_id, -_NOTED_EVERY_SECONDS) < _NOTED_EVERY_SECONDS:
            return
        async with reported(), self._pool.acquire() as connection:
            await note_fetch(connection, account_id)
        self._noted[account_id] = now
        self._noted.move_to_end(account_id)
        while len(self._noted) > _REMEMBERED_ACCOUNTS:
            self._noted.popitem(last=False)
