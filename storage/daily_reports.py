"""Reports that are due once for each day and domain: which process sends which. TLSRPT and DMARC have such reports.

A claim that runs out returns by time: the reports of a process that dies are sent by another one.
"""

from dataclasses import dataclass
from datetime import date, datetime

from storage.pool import Pool, reported

_CLAIM = """
INSERT INTO {sent} AS r (day, domain, claimed_until)
SELECT DISTINCT s.day, s.domain, now() + make_interval(secs => $3)
  FROM {counts} AS s LEFT JOIN {sent} AS known USING (day, domain)
 WHERE s.day < ($1 AT TIME ZONE 'UTC')::date
   AND (s.day + 1)::timestamp AT TIME ZONE 'UTC' + make_interval(secs => (hashtext(s.domain) & 2147483647) % $4::integer) <= $1
   AND (known.domain IS NULL OR (known.sent_at IS NULL AND known.claimed_until < now()))
 LIMIT $2
    ON CONFLICT (day, domain) DO UPDATE SET claimed_until = EXCLUDED.claimed_until
       WHERE r.sent_at IS NULL AND r.claimed_until < now()
RETURNING r.day, r.domain
"""
_DONE = "UPDATE {sent} SET sent_at = now(), outcome = $3 WHERE day = $1 AND domain = $2"


@dataclass(frozen=True, slots=True)
class DailyReports:
    """One kind of report, by the tables of what was counted and of what was sent."""

    counts: str
    sent: str

    async def claim(
        self, pool: Pool, now: datetime, limit: int, *, claim_seconds: float, spread_seconds: int
    ) -> list[tuple[date, str]]:
        """Days that are over, and domains, whose reports are this process's to send for that time.

        Each domain has its own moment within `spread_seconds` after midnight. Raises StorageError.
        """
        statement = _CLAIM.format(counts=self.counts, sent=self.sent)
        async with reported():
            rows = await pool.fetch(statement, now, limit, claim_seconds, spread_seconds)
        return [(row[0], row[1]) for row in rows]

    async def done(self, pool: Pool, day: date, domain: str, outcome: str) -> None:
        """The report needs nothing more. Raises StorageError."""
        async with reported():
            await pool.execute(_DONE.format(sent=self.sent), day, domain, outcome)
