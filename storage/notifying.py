"""Notifications of accounts: how many a day has seen and what they cost, and those by HTTP until they are sent.

A lease is a next attempt in the future; the number of attempts is the fence: who was too slow settles nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from storage.effects import Effect
from storage.errors import NotFoundError
from storage.pool import Connection, Pool, reported

CHANNEL = "postwerk_notification"  # notified when one is to be sent
Kind = Literal["mail", "web", "sms"]

_TODAY = "(now() AT TIME ZONE 'UTC')::date"
_LIMIT = "coalesce((SELECT per_day FROM notification_limit WHERE account_id = {account} AND kind = {kind}), {default})"
_COUNT = f"""
INSERT INTO notification_count AS c (tenant_id, account_id, login, day, kind, queued, sent)
SELECT tenant_id, account_id, login, {_TODAY}, $2::text, 1, ($2 = 'mail')::integer FROM account
 WHERE account_id = $1 AND {_LIMIT.format(account="$1", kind="$2", default="$3::integer")} > 0
    ON CONFLICT (account_id, day, kind) DO UPDATE SET queued = c.queued + 1, sent = c.sent + excluded.sent
 WHERE c.queued < {_LIMIT.format(account="$1", kind="$2", default="$3::integer")}
RETURNING tenant_id
"""
_QUEUE = f"""
WITH counted AS ({_COUNT}),
queued AS (
    INSERT INTO notification (tenant_id, account_id, kind, target, facts, parts, trace_id, expires_at)
    SELECT tenant_id, $1, $2::text, $4, $5, $6, $7, $8 FROM counted RETURNING 1)
SELECT pg_notify('{CHANNEL}', '') FROM queued
"""
_ROOM = f"""
SELECT {_LIMIT.format(account="$1", kind="$2", default="$3")}
     - coalesce((SELECT queued FROM notification_count WHERE account_id = $1 AND kind = $2 AND day = {_TODAY}), 0)
"""
# The daemons' sessions have no hash joins; accounts are few here, and rows of one account are taken in their order.
_LEASE = """
WITH free AS MATERIALIZED (
    SELECT notification_id, row_number() OVER (PARTITION BY account_id ORDER BY next_attempt_at, notification_id) AS place
      FROM (SELECT notification_id, account_id, next_attempt_at FROM notification
             WHERE state = 'waiting' AND next_attempt_at <= now() AND NOT account_id = ANY ($3::bigint[])
             ORDER BY next_attempt_at LIMIT 1000) AS due),
chosen AS MATERIALIZED (
    SELECT notification_id FROM notification
     WHERE notification_id = ANY (ARRAY (SELECT notification_id FROM free WHERE place <= $4 ORDER BY place LIMIT $1))
       AND state = 'waiting' AND next_attempt_at <= now()
     ORDER BY notification_id FOR NO KEY UPDATE SKIP LOCKED)
UPDATE notification AS n SET attempts = n.attempts + 1, next_attempt_at = now() + make_interval(secs => $2)
 WHERE notification_id = ANY (ARRAY (SELECT notification_id FROM chosen))
RETURNING notification_id, tenant_id, account_id, kind, target, facts, parts, trace_id, attempts, expires_at
"""
_SENT = f"""
WITH settled AS (
    UPDATE notification SET state = 'sent', facts = NULL, last_reply = $3, finished_at = now()
     WHERE notification_id = $1 AND attempts = $2 AND state = 'waiting'
 RETURNING tenant_id, account_id, kind, parts)
INSERT INTO notification_count AS c (tenant_id, account_id, login, day, kind, sent, parts, cost)
SELECT s.tenant_id, s.account_id, a.login, {_TODAY}, s.kind, 1, s.parts, $4::bigint
  FROM settled AS s JOIN account AS a USING (account_id)
    ON CONFLICT (account_id, day, kind) DO UPDATE
   SET sent = c.sent + 1, parts = c.parts + excluded.parts, cost = c.cost + excluded.cost
RETURNING 1
"""
_FAILED = """
UPDATE notification SET state = 'failed', facts = NULL, last_reply = $3, finished_at = now()
 WHERE notification_id = $1 AND attempts = $2 AND state = 'waiting' RETURNING 1
"""
_DEFERRED = """
UPDATE notification SET last_reply = $3, next_attempt_at = least(now() + make_interval(secs => $4), expires_at)
 WHERE notification_id = $1 AND attempts = $2 AND state = 'waiting' RETURNING 1
"""
_NEXT = """
SELECT extract(epoch FROM min(next_attempt_at) - now())::float8 FROM notification
 WHERE state = 'waiting' AND NOT account_id = ANY ($1::bigint[])
"""
_FORGET = """
DELETE FROM notification WHERE notification_id IN (
    SELECT notification_id FROM notification WHERE finished_at < now() - make_interval(secs => $1) LIMIT $2) RETURNING 1
"""
_FORGET_COUNTS = f"DELETE FROM notification_count WHERE day < {_TODAY} - $1::integer"
_LISTED = """
SELECT n.notification_id, t.name AS tenant, a.login, n.kind, n.target, n.state, n.attempts, n.created_at, n.next_attempt_at,
       n.last_reply, n.trace_id
  FROM notification AS n JOIN tenant AS t USING (tenant_id) JOIN account AS a USING (account_id)
 WHERE ($1::text IS NULL OR t.name = $1) AND ($2::text IS NULL OR a.login = $2)
 ORDER BY n.notification_id DESC LIMIT $3
"""
_COSTS = """
SELECT t.name AS tenant, c.login, c.kind, sum(c.queued)::bigint AS queued, sum(c.sent)::bigint AS sent,
       sum(c.parts)::bigint AS parts, sum(c.cost)::bigint AS cost
  FROM notification_count AS c JOIN tenant AS t USING (tenant_id)
 WHERE c.day >= $1 AND c.day < $2 AND ($3::text IS NULL OR t.name = $3)
 GROUP BY t.name, c.account_id, c.login, c.kind ORDER BY t.name, c.login, c.kind
"""
_LIMITS = """
SELECT a.login, l.kind, l.per_day FROM notification_limit AS l JOIN account AS a USING (account_id) ORDER BY a.login, l.kind
"""
_SET_LIMIT = """
INSERT INTO notification_limit (account_id, kind, per_day) SELECT account_id, $2, $3 FROM account WHERE login = $1
    ON CONFLICT (account_id, kind) DO UPDATE SET per_day = excluded.per_day
RETURNING 1
"""
_RESET_LIMIT = """
DELETE FROM notification_limit USING account AS a
 WHERE notification_limit.account_id = a.account_id AND a.login = $1 AND notification_limit.kind = $2
"""


@dataclass(frozen=True, slots=True)
class Counted(Effect):
    """One more notification by mail, which stands beside this. What two messages cause at once may exceed the limit by one."""

    account_id: int
    limit: int  # as configured

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect."""
        await connection.execute(_COUNT, self.account_id, "mail", self.limit)

    def lock(self) -> str:
        """The row."""
        return f"notification {self.account_id:020} mail"


@dataclass(frozen=True, slots=True)
class Queued(Effect):
    """A notification by HTTP, sent soon, unless the account has had its share of the day."""

    account_id: int
    kind: Kind
    limit: int  # as configured
    target: str  # a URL, or a telephone number
    facts: str  # JSON
    trace_id: str
    expires_at: datetime  # aware
    parts: int = 1

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect."""
        await connection.execute(
            _QUEUE, self.account_id, self.kind, self.limit, self.target, self.facts, self.parts, self.trace_id, self.expires_at
        )  # fmt: skip

    def lock(self) -> str:
        """The row of the day's count."""
        return f"notification {self.account_id:020} {self.kind}"


@dataclass(frozen=True, slots=True)
class LeasedNotification:
    """One that is this process's to send."""

    notification_id: int
    tenant_id: int
    account_id: int
    kind: Kind
    target: str
    facts: str
    parts: int
    trace_id: str
    attempts: int  # this one included
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """One as the command line shows it."""

    notification_id: int
    tenant: str
    login: str
    kind: str
    target: str
    state: str
    attempts: int
    created_at: datetime
    next_attempt_at: datetime
    last_reply: str
    trace_id: str


@dataclass(frozen=True, slots=True)
class CostRow:
    """What an account caused, of one kind."""

    tenant: str
    login: str
    kind: str
    queued: int
    sent: int
    parts: int
    cost: int  # thousandths of the unit of currency


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit that differs from the configuration."""

    login: str
    kind: str
    per_day: int


async def room(pool: Pool, account_id: int, kind: Kind, limit: int) -> int:
    """How many more the account may cause today. Raises UnavailableError."""
    async with reported():
        left: int = await pool.fetchval(_ROOM, account_id, kind, limit)
    return left


async def lease(
    connection: Connection, limit: int, *, lease_seconds: float, busy: Sequence[int], per_account: int
) -> list[LeasedNotification]:
    """Take what is due, of each account at most so many, of the busy ones none."""
    rows = await connection.fetch(_LEASE, limit, lease_seconds, busy, per_account)
    return [LeasedNotification(*row) for row in rows]


async def sent(connection: Connection, leased: LeasedNotification, reply: str, cost: int) -> bool:
    """It is sent, and counted with its cost. Returns whether the lease still held."""
    return await connection.fetchval(_SENT, leased.notification_id, leased.attempts, reply, cost) is not None


async def failed(connection: Connection, leased: LeasedNotification, reply: str) -> bool:
    """It is given up. Returns whether the lease still held."""
    return await connection.fetchval(_FAILED, leased.notification_id, leased.attempts, reply) is not None


async def deferred(connection: Connection, leased: LeasedNotification, reply: str, seconds: float) -> bool:
    """It is tried again after that time, but once more before it expires. Returns whether the lease still held."""
    return await connection.fetchval(_DEFERRED, leased.notification_id, leased.attempts, reply, seconds) is not None


async def next_due(connection: Connection, *, busy: Sequence[int]) -> float | None:
    """In how many seconds one is due of an account that is not busy; None: none waits."""
    seconds: float | None = await connection.fetchval(_NEXT, busy)
    return seconds


async def forget(connection: Connection, limit: int, *, finished_seconds: float, counts_days: int) -> int:
    """Remove at most so many that ended so long ago, and counts of days so long ago. Returns how many notifications."""
    await connection.execute(_FORGET_COUNTS, counts_days)
    return len(await connection.fetch(_FORGET, finished_seconds, limit))


async def list_notifications(
    connection: Connection, limit: int, *, tenant: str | None = None, login: str | None = None
) -> list[NotificationRow]:
    """Those by HTTP that wait, or ended lately, the newest first."""
    return [NotificationRow(*row) for row in await connection.fetch(_LISTED, tenant, login, limit)]


async def list_costs(connection: Connection, first: date, end: date, *, tenant: str | None = None) -> list[CostRow]:
    """What accounts caused from the first day on until before the end."""
    return [CostRow(*row) for row in await connection.fetch(_COSTS, first, end, tenant)]


async def list_limits(connection: Connection) -> list[LimitRow]:
    """Limits of accounts that differ from the configuration."""
    return [LimitRow(*row) for row in await connection.fetch(_LIMITS)]


async def set_limit(connection: Connection, login: str, kind: Kind, per_day: int | None) -> None:
    """Give an account a limit of its own; None: as configured. Raises NotFoundError."""
    if await connection.fetchval("SELECT true FROM account WHERE login = $1", login) is None:
        raise NotFoundError(f"no account {login}")
    if per_day is None:
        await connection.execute(_RESET_LIMIT, login, kind)
    else:
        await connection.execute(_SET_LIMIT, login, kind, per_day)
