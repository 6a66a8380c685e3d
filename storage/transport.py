"""What is remembered about other hosts: MTA-STS policies and sessions to be reported; and the source addresses of tenants.

Policies and counts are the host's, not a tenant's: they hold no sender, recipient or content.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import asyncpg

from storage.daily_reports import DailyReports
from storage.errors import NotFoundError
from storage.pool import Connection, Pool, reported

_STS = "SELECT domain, policy_id, mode, mx, max_age, fetched_at FROM sts_policy WHERE domain = $1"
_KEEP_STS = """
INSERT INTO sts_policy (domain, policy_id, mode, mx, max_age, fetched_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (domain) DO UPDATE SET policy_id = EXCLUDED.policy_id, mode = EXCLUDED.mode, mx = EXCLUDED.mx,
       max_age = EXCLUDED.max_age, fetched_at = EXCLUDED.fetched_at
"""
_LIST_STS = "SELECT domain, policy_id, mode, mx, max_age, fetched_at FROM sts_policy ORDER BY domain"
_SOURCE = "SELECT host(ipv4) AS ipv4, host(ipv6) AS ipv6, hostname FROM tenant_source WHERE tenant_id = $1"
_LIST_SOURCES = """
SELECT t.name, host(s.ipv4) AS ipv4, host(s.ipv6) AS ipv6, s.hostname FROM tenant_source AS s JOIN tenant AS t USING (tenant_id)
 ORDER BY t.name
"""
_SET_SOURCE = """
INSERT INTO tenant_source (tenant_id, ipv4, ipv6, hostname)
SELECT tenant_id, $2::text::inet, $3::text::inet, $4 FROM tenant WHERE name = $1
    ON CONFLICT (tenant_id) DO UPDATE SET ipv4 = EXCLUDED.ipv4, ipv6 = EXCLUDED.ipv6, hostname = EXCLUDED.hostname
RETURNING tenant_id
"""
_RESET_SOURCE = """
DELETE FROM tenant_source USING tenant WHERE tenant_source.tenant_id = tenant.tenant_id AND name = $1 RETURNING name
"""
_COUNT = """
INSERT INTO tls_session (day, domain, digest, kind, sessions)
SELECT * FROM unnest($1::date[], $2::text[], $3::bytea[], $4::text[]::jsonb[], $5::bigint[])
    ON CONFLICT (day, domain, digest) DO UPDATE SET sessions = tls_session.sessions + EXCLUDED.sessions
"""
_KINDS = "SELECT kind::text, sessions FROM tls_session WHERE day = $1 AND domain = $2 ORDER BY digest"

# A day's domains that have no report yet, or whose report somebody began and did not finish in time. Each goes to one process.
REPORTS = DailyReports("tls_session", "tls_report_sent")
_LIST_REPORTS = """
SELECT s.day, s.domain, sum(s.sessions)::bigint AS sessions,
       coalesce(sum(s.sessions) FILTER (WHERE s.kind ->> 'failure' IS NOT NULL), 0)::bigint AS failed, r.sent_at, r.outcome
  FROM tls_session AS s LEFT JOIN tls_report_sent AS r USING (day, domain)
 GROUP BY s.day, s.domain, r.sent_at, r.outcome ORDER BY s.day DESC, s.domain
"""
_SOURCE_SECONDS = 60.0  # for so long a tenant's source is remembered
_REMEMBERED_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class StoredSts:
    """A policy as it was fetched."""

    domain: str
    policy_id: str  # of the record that it was fetched for
    mode: str
    mx: tuple[str, ...]
    max_age: int  # seconds
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class StoredSource:
    """Where a tenant's mail comes from; None: as the system has it."""

    ipv4: str | None = None
    ipv6: str | None = None
    hostname: str | None = None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A tenant's source, to be shown."""

    tenant: str
    ipv4: str | None
    ipv6: str | None
    hostname: str | None


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A day's sessions with a domain, and what became of the report."""

    day: date
    domain: str
    sessions: int
    failed: int
    sent_at: datetime | None
    outcome: str | None


async def sts_policy(pool: Pool, domain: str) -> StoredSts | None:
    """The policy that was fetched last, however old. Raises StorageError."""
    async with reported():
        row = await pool.fetchrow(_STS, domain)
    return None if row is None else _sts(row)


async def keep_sts_policy(pool: Pool, policy: StoredSts) -> None:
    """Keep a policy in place of the one before. Raises StorageError."""
    async with reported():
        await pool.execute(
            _KEEP_STS, policy.domain, policy.policy_id, policy.mode, policy.mx, policy.max_age, policy.fetched_at
        )


async def list_sts_policies(connection: Connection) -> list[StoredSts]:
    """All policies that are kept."""
    return [_sts(row) for row in await connection.fetch(_LIST_STS)]


async def list_sources(connection: Connection) -> list[SourceRow]:
    """All tenants with a source of their own."""
    return [SourceRow(*row) for row in await connection.fetch(_LIST_SOURCES)]


async def set_source(
    connection: Connection, tenant: str, *, ipv4: str | None, ipv6: str | None, hostname: str | None
) -> None:
    """Give a tenant a source of its own. Raises NotFoundError."""
    if await connection.fetchval(_SET_SOURCE, tenant, ipv4, ipv6, hostname) is None:
        raise NotFoundError(tenant)


async def reset_source(connection: Connection, tenant: str) -> None:
    """Let the system decide again. Raises NotFoundError when the tenant has no source of its own."""
    if await connection.fetchval(_RESET_SOURCE, tenant) is None:
        raise NotFoundError(tenant)


async def tenant_named(pool: Pool, name: str) -> int | None:
    """The tenant's id; None: there is none of that name. Raises StorageError."""
    async with reported():
        found: int | None = await pool.fetchval("SELECT tenant_id FROM tenant WHERE name = $1", name)
    return found


async def count_sessions(pool: Pool, counted: Mapping[tuple[date, str, str], int]) -> None:
    """Add to the counts by day, domain and kind; a kind is a JSON object, always written alike. Raises StorageError."""
    days, domains, kinds = zip(*counted, strict=True)
    digests = [hashlib.sha256(kind.encode()).digest() for kind in kinds]
    async with reported():
        await pool.execute(_COUNT, days, domains, digests, kinds, list(counted.values()))


async def sessions_of(pool: Pool, day: date, domain: str) -> list[tuple[str, int]]:
    """The kinds of a day's sessions with a domain, and how many there were of each. Raises StorageError."""
    async with reported():
        return [(row[0], row[1]) for row in await pool.fetch(_KINDS, day, domain)]


async def list_reports(connection: Connection) -> list[ReportRow]:
    """What was counted, and which reports were sent."""
    return [ReportRow(*row) for row in await connection.fetch(_LIST_REPORTS)]


async def forget_transport(connection: Connection, *, older_than_seconds: float) -> int:
    """Remove counts and reports of that age, and policies whose time was over then. Returns how many rows went."""
    removed = 0
    for statement in (
        "DELETE FROM tls_session WHERE day < (now() - make_interval(secs => $1::float8))::date",
        "DELETE FROM tls_report_sent WHERE day < (now() - make_interval(secs => $1::float8))::date",
        "DELETE FROM sts_policy WHERE fetched_at + make_interval(secs => max_age) < now() - make_interval(secs => $1)",
    ):
        done = await connection.execute(statement, older_than_seconds)
        removed += int(done.rpartition(" ")[2])
    return removed


class Sources:
    """The sources of tenants, remembered for a minute."""

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._known: OrderedDict[int, tuple[float, StoredSource]] = OrderedDict()

    async def of(self, tenant_id: int) -> StoredSource:
        """Where the tenant's mail comes from. Raises StorageError."""
        until, source = self._known.get(tenant_id, (0.0, StoredSource()))
        if until > self._clock():
            return source
        async with reported():
            row = await self._pool.fetchrow(_SOURCE, tenant_id)
        source = StoredSource() if row is None else StoredSource(row["ipv4"], row["ipv6"], row["hostname"])
        self._known[tenant_id] = self._clock() + _SOURCE_SECONDS, source
        self._known.move_to_end(tenant_id)
        while len(self._known) > _REMEMBERED_TENANTS:
            self._known.popitem(last=False)
        return source


def _sts(row: asyncpg.Record) -> StoredSts:
    return StoredSts(row["domain"], row["policy_id"], row["mode"], tuple(row["mx"]), row["max_age"], row["fetched_at"])
