"""How much accounts, domains and tenants have sent lately, and whose sending is suspended (schema/0013_sending.sql).

Counting is done by the database, so that it is right whatever number of processes ask; a process asks for several messages at
once, so that it is cheap. What was reserved and not used is given back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.accounts import domain_name, login_name
from storage.errors import NotFoundError
from storage.pool import Connection, Pool, reported

SENDING = "postwerk_sending"  # the channel that tells of suspensions and caps
HELD_FOR_SUSPENSION = "sending suspended: "  # so begins the reason of mail in the queue that is held for it
BURST = "burst"  # who suspends an account when nobody does

_RESERVE = "SELECT * FROM reserve_sending($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_RETURN = "SELECT return_sending($1, $2, $3, $4, $5)"
_SUSPENDED = """
SELECT s.account_id, s.tenant_id, a.login, t.name, s.reason, s.suspended_by, s.is_holding, s.suspended_at, s.held_messages,
       (SELECT count(*) FROM outbound_recipient AS r WHERE r.state = 'held' AND r.sender = s.account_id)
  FROM sending_suspension AS s JOIN account AS a USING (account_id) JOIN tenant AS t ON t.tenant_id = s.tenant_id
"""
# No lock is held while people are told: the account's next message would wait for it, and the tenant's behind that one.
_CLAIM_UNTOLD = """
UPDATE sending_suspension SET telling_until = now() + make_interval(secs => $1)
 WHERE account_id = (SELECT account_id FROM sending_suspension
                      WHERE told_at IS NULL AND (telling_until IS NULL OR telling_until < now()) LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING account_id
"""
_SUSPEND = """
INSERT INTO sending_suspension (account_id, tenant_id, reason, suspended_by, is_holding, told_at)
SELECT account_id, tenant_id, $2, $3, $4, now() FROM account WHERE login = $1
    ON CONFLICT (account_id) DO UPDATE
   SET reason = EXCLUDED.reason, suspended_by = EXCLUDED.suspended_by, is_holding = EXCLUDED.is_holding
RETURNING account_id
"""
# What was held and is now released was no burst but the account's way: its busiest hour becomes its habit.
_LEAVE = """
INSERT INTO sending_count AS c (scope, scope_id, hour_slot, day_slot, leave_until)
SELECT 'account', $1, floor(extract(epoch FROM now()) / 300), floor(extract(epoch FROM now()) / 3600),
       now() + make_interval(secs => $2)
    ON CONFLICT (scope, scope_id) DO UPDATE
   SET leave_until = EXCLUDED.leave_until, peak = greatest(c.peak, (SELECT max(n) FROM unnest(c.recipients_day) AS n))
"""
_LIMIT = """
INSERT INTO sending_cap (tenant_id, domain_id, account_id, messages_hour, recipients_hour, messages_day, recipients_day,
                         burst_recipients)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (tenant_id, domain_id, account_id) DO UPDATE
   SET messages_hour = EXCLUDED.messages_hour, recipients_hour = EXCLUDED.recipients_hour, messages_day = EXCLUDED.messages_day,
       recipients_day = EXCLUDED.recipients_day, burst_recipients = EXCLUDED.burst_recipients
"""
_LIMITS = """
SELECT t.name AS tenant,
       CASE WHEN c.account_id IS NOT NULL THEN a.login WHEN c.domain_id IS NOT NULL THEN '@' || d.name ELSE t.name END,
       CASE WHEN c.account_id IS NOT NULL THEN 'account' WHEN c.domain_id IS NOT NULL THEN 'domain' ELSE 'tenant' END,
       c.messages_hour, c.recipients_hour, c.messages_day, c.recipients_day, c.burst_recipients
  FROM sending_cap AS c JOIN tenant AS t USING (tenant_id) LEFT JOIN account AS a ON a.account_id = c.account_id
  LEFT JOIN domain AS d ON d.domain_id = c.domain_id
 ORDER BY t.name, 3 DESC, 2
"""
_WRONGLY_HELD = """
SELECT DISTINCT r.sender FROM outbound_recipient AS r JOIN outbound_message AS m USING (outbound_id)
 WHERE r.state = 'held' AND r.sender > 0 AND starts_with(r.held_reason, $1) AND m.created_at < now() - interval '1 min'
   AND NOT EXISTS (SELECT FROM sending_suspension AS s WHERE s.account_id = r.sender)
"""
_COUNTS = """
SELECT s.scope, s.name, total_count(later_counts(c.messages_hour, s.now / 300 - c.hour_slot)),
       total_count(later_counts(c.recipients_hour, s.now / 300 - c.hour_slot)),
       total_count(later_counts(c.messages_day, s.now / 3600 - c.day_slot)),
       total_count(later_counts(c.recipients_day, s.now / 3600 - c.day_slot)), c.habit, c.peak, c.leave_until
  FROM (SELECT 'account' AS scope, a.account_id AS id, a.login AS name FROM account AS a WHERE a.login = $1
         UNION ALL
        SELECT 'domain', d.domain_id, d.name FROM domain AS d JOIN account AS a USING (tenant_id)
         WHERE a.login = $1 AND d.name = split_part($1, '@', -1)
         UNION ALL
        SELECT 'tenant', t.tenant_id, t.name FROM tenant AS t JOIN account AS a USING (tenant_id) WHERE a.login = $1
       ) AS named
 CROSS JOIN LATERAL (SELECT named.*, floor(extract(epoch FROM now()))::bigint AS now) AS s
  JOIN sending_count AS c ON c.scope = s.scope AND c.scope_id = s.id
"""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The answer to a request for room."""

    verdict: str  # "go", "cap", "burst", "held", "full", "refused": schema/0013_sending.sql
    messages: int  # reserved, the one asked for included
    recipients: int
    seconds: float  # for how long
    hour_slot: int  # where they are counted
    day_slot: int
    counted: list[int | None]  # account, domain, tenant
    scope: str | None = None  # of a cap: "account", "domain", "tenant"
    unit: str | None = None  # of a cap: "messages an hour"
    cap: int | None = None
    reason: str | None = None  # of a suspension


@dataclass(frozen=True, slots=True)
class Suspension:
    """One account that may not send for now."""

    account_id: int
    tenant_id: int
    login: str
    tenant: str
    reason: str
    suspended_by: str  # BURST, or who did it
    is_holding: bool  # what it sends is taken and held; False: it is refused
    suspended_at: datetime
    held_messages: int  # taken since then
    held_recipients: int  # in the queue now


@dataclass(frozen=True, slots=True)
class Caps:
    """What differs from the configuration; None: as configured; 0: no cap."""

    messages_hour: int | None = None
    recipients_hour: int | None = None
    messages_day: int | None = None
    recipients_day: int | None = None
    burst_recipients: int | None = None


@dataclass(frozen=True, slots=True)
class CapRow:
    """One account, domain or tenant with caps of its own."""

    tenant: str
    name: str  # a login, "@domain", or the tenant's
    scope: str
    messages_hour: int | None
    recipients_hour: int | None
    messages_day: int | None
    recipients_day: int | None
    burst_recipients: int | None


@dataclass(frozen=True, slots=True)
class CountRow:
    """What was sent lately; what processes have reserved and not used yet is in it."""

    scope: str
    name: str
    messages_hour: int
    recipients_hour: int
    messages_day: int
    recipients_day: int
    habit: float  # recipients of the busiest hour of earlier days, fading
    peak: int  # and of today
    leave_until: datetime | None


async def reserve(
    pool: Pool,
    account_id: int,
    tenant_id: int,
    domain: str,
    recipients: int,
    *,
    times: int,
    caps: Sequence[int],
    burst_recipients: int,
    burst_factor: float,
    held_messages: int,
) -> Reserved:
    """Room for a message to so many recipients, `times` over if there is enough. Suspends the account if that is a burst.

    caps: messages and recipients an hour, messages and recipients a day, of account, domain and tenant, where they have none of
    their own. Raises UnavailableError.
    """
    async with reported():
        row = await pool.fetchrow(
            _RESERVE, account_id, tenant_id, domain, recipients, times, list(caps), burst_recipients, burst_factor, held_messages
        )  # fmt: skip
    assert row is not None
    return Reserved(*row)


async def give_back(pool: Pool, reserved: Reserved, *, messages: int, recipients: int) -> None:
    """So much of it was not used. Raises UnavailableError."""
    async with reported():
        await pool.execute(
            _RETURN, reserved.counted, reserved.hour_slot, reserved.day_slot, messages, recipients
        )  # fmt: skip


async def suspended(connection: Connection, tenant: str | None = None) -> list[Suspension]:
    """All suspended accounts, or those of a tenant, by login."""
    statement = f"{_SUSPENDED} WHERE $1::text IS NULL OR t.name = $1 ORDER BY a.login"
    return [Suspension(*row) for row in await connection.fetch(statement, tenant)]


async def suspend(connection: Connection, login: str, reason: str, by: str, *, is_holding: bool) -> int:
    """Stop the account's sending. Returns the account_id. Raises NotFoundError."""
    account_id: int | None = await connection.fetchval(_SUSPEND, login_name(login), reason, by, is_holding)
    if account_id is None:
        raise NotFoundError("no such account")
    return account_id


async def account_of(connection: Connection, login: str) -> int:
    """The account_id of a person or team. Raises NotFoundError."""
    account_id: int | None = await connection.fetchval(
        "SELECT account_id FROM account WHERE login = $1", login_name(login)
    )
    if account_id is None:
        raise NotFoundError("no such account")
    return account_id


async def resume(connection: Connection, account_id: int, *, leave_seconds: float) -> bool:
    """Let the account send again, and see no burst in what it sends for so long; gives whether it was suspended."""
    async with connection.transaction():
        found = await connection.fetchval(
            "DELETE FROM sending_suspension WHERE account_id = $1 RETURNING true", account_id
        )
        if leave_seconds > 0:
            await connection.execute(_LEAVE, account_id, leave_seconds)
    return bool(found)


async def claim_untold(connection: Connection, *, lease_seconds: float) -> Suspension | None:
    """A suspension that nobody was told of yet. For so long nobody else is given it."""
    account_id: int | None = await connection.fetchval(_CLAIM_UNTOLD, lease_seconds)
    if account_id is None:
        return None
    row = await connection.fetchrow(f"{_SUSPENDED} WHERE s.account_id = $1", account_id)
    return Suspension(*row) if row else None


async def mark_told(connection: Connection, account_id: int) -> None:
    """Tenant and operator were told."""
    await connection.execute("UPDATE sending_suspension SET told_at = now() WHERE account_id = $1", account_id)


async def administrators(connection: Connection, tenant_id: int, *, besides: int) -> list[str]:
    """Logins of the tenant's administrators that receive mail."""
    rows = await connection.fetch(
        "SELECT login FROM account WHERE tenant_id = $1 AND is_administrator AND account_id <> $2 "
        "AND receives AND NOT is_disabled ORDER BY login",
        tenant_id,
        besides,
    )
    return [row[0] for row in rows]


async def set_caps(connection: Connection, whose: str, caps: Caps) -> None:
    """Give an account ("alice@example.org"), a domain ("@example.org") or a tenant caps of its own. Raises NotFoundError."""
    tenant_id, domain_id, account_id = await _whose(connection, whose)
    await connection.execute(
        _LIMIT, tenant_id, domain_id, account_id, caps.messages_hour, caps.recipients_hour, caps.messages_day,
        caps.recipients_day, caps.burst_recipients,
    )  # fmt: skip


async def reset_caps(connection: Connection, whose: str) -> None:
    """Let the configuration decide again. Raises NotFoundError when it does already."""
    found = await connection.fetchval(
        "DELETE FROM sending_cap WHERE tenant_id = $1 AND domain_id IS NOT DISTINCT FROM $2 "
        "AND account_id IS NOT DISTINCT FROM $3 RETURNING true",
        *await _whose(connection, whose),
    )
    if found is None:
        raise NotFoundError(f"{whose} has no caps of its own")


async def list_caps(connection: Connection) -> list[CapRow]:
    """Everybody who differs from the configuration, by tenant."""
    return [CapRow(*row) for row in await connection.fetch(_LIMITS)]


async def counts_of(connection: Connection, login: str) -> list[CountRow]:
    """What was sent lately by the account, from its domain and by its tenant; those that sent nothing are left out."""
    return [CountRow(*row) for row in await connection.fetch(_COUNTS, login_name(login))]


async def wrongly_held(connection: Connection) -> list[int]:
    """Accounts with mail that is held for a suspension that they have not, for a minute at least.

    Mail that was being accepted when its sender was released comes to the queue after that, held.
    """
    rows = await connection.fetch(_WRONGLY_HELD, HELD_FOR_SUSPENSION)
    return [row[0] for row in rows]


async def forget_counts(connection: Connection, *, older_than_days: int) -> int:
    """Remove the counts of those that sent nothing for so long; gives how many these were."""
    status: str = await connection.execute(
        "DELETE FROM sending_count WHERE day_slot < floor(extract(epoch FROM now()) / 3600) - 24 * $1::bigint",
        older_than_days,
    )
    return int(status.rpartition(" ")[2])


async def _whose(connection: Connection, whose: str) -> tuple[int, int | None, int | None]:
    if whose.startswith("@"):
        statement = "SELECT tenant_id, domain_id, NULL::bigint FROM domain WHERE name = $1"
        row = await connection.fetchrow(statement, domain_name(whose[1:]))
    elif "@" in whose:
        statement = "SELECT tenant_id, NULL::bigint, account_id FROM account WHERE login = $1"
        row = await connection.fetchrow(statement, login_name(whose))
    else:
        statement = "SELECT tenant_id, NULL::bigint, NULL::bigint FROM tenant WHERE name = $1"
        row = await connection.fetchrow(statement, whose)
    if row is None:
        raise NotFoundError(f"no account, @domain or tenant {whose}")
    return row[0], row[1], row[2]
