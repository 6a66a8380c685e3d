"""Aggregate reports of DMARC that are to be sent: what was counted by day and domain, and whose report is whose to send.

The counts are the host's, not a tenant's. A day's report goes to one process, and to another one when that dies over it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from storage.daily_reports import DailyReports
from storage.pool import Connection, Pool, reported

_COUNT = """
INSERT INTO dmarc_outcome (day, domain, digest, kind, messages)
SELECT * FROM unnest($1::date[], $2::text[], $3::bytea[], $4::text[]::jsonb[], $5::bigint[])
    ON CONFLICT (day, domain, digest) DO UPDATE SET messages = dmarc_outcome.messages + EXCLUDED.messages
"""
_KINDS = """
SELECT kind::text, messages FROM dmarc_outcome WHERE day = $1 AND domain = $2 ORDER BY messages DESC, digest LIMIT $3
"""
# A day's domains that have no report yet, or whose report somebody began and did not finish in time.
REPORTS = DailyReports("dmarc_outcome", "dmarc_report_sent")
_LIST = """
SELECT s.day, s.domain, sum(s.messages)::bigint AS messages,
       coalesce(sum(s.messages) FILTER (WHERE s.kind ->> 'dkim' = 'fail' AND s.kind ->> 'spf' = 'fail'), 0)::bigint AS failed,
       r.sent_at, r.outcome
  FROM dmarc_outcome AS s LEFT JOIN dmarc_report_sent AS r USING (day, domain)
 GROUP BY s.day, s.domain, r.sent_at, r.outcome ORDER BY s.day DESC, s.domain
"""


@dataclass(frozen=True, slots=True)
class SentRow:
    """A day's mail in the name of a domain, and what became of the report."""

    day: date
    domain: str
    messages: int
    failed: int
    sent_at: datetime | None
    outcome: str | None


async def count_outcomes(pool: Pool, counted: Mapping[tuple[date, str, str], int]) -> None:
    """Add to the counts by day, domain and kind; a kind is a JSON object, always written alike. Raises StorageError."""
    ordered = sorted(counted)  # processes that add the same rows must not wait for each other in a circle
    days, domains, kinds = zip(*ordered, strict=True)
    digests = [hashlib.sha256(kind.encode()).digest() for kind in kinds]
    async with reported():
        await pool.execute(_COUNT, days, domains, digests, kinds, [counted[key] for key in ordered])


async def outcomes_of(pool: Pool, day: date, domain: str, limit: int) -> list[tuple[str, int]]:
    """The kinds of a day's mail of a domain, and how many messages each, the most frequent first. Raises StorageError."""
    async with reported():
        return [(row[0], row[1]) for row in await pool.fetch(_KINDS, day, domain, limit)]


async def list_sent(connection: Connection) -> list[SentRow]:
    """What was counted, and which reports were sent."""
    return [SentRow(*row) for row in await connection.fetch(_LIST)]


async def forget_dmarc(connection: Connection, *, older_than_seconds: float) -> int:
    """Remove counts and reports of that age. Returns how many rows went."""
    removed = 0
    for table in ("dmarc_outcome", "dmarc_report_sent"):
        statement = f"DELETE FROM {table} WHERE day < (now() - make_interval(secs => $1::float8))::date"
        done = await connection.execute(statement, older_than_seconds)
        removed += int(done.rpartition(" ")[2])
    return removed
