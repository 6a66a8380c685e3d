"""The outbound queue: recipients that wait for delivery, leased by relay processes.

A lease is a next attempt set into the future: when the process that holds it dies, the recipient is due again by time alone.
Nothing enqueues yet; submission will, in the transaction that accepts.
"""

from dataclasses import dataclass

from storage.pool import Connection

# The limit is written into the statement: with a parameter the generic plan must expect a tenth of the queue, and would sort it.
_LEASE = """
WITH due AS MATERIALIZED (
    SELECT recipient_id FROM outbound_recipient
     WHERE state = 'waiting' AND next_attempt_at <= now()
     ORDER BY next_attempt_at LIMIT {limit:d} FOR UPDATE SKIP LOCKED)
UPDATE outbound_recipient AS r
   SET next_attempt_at = now() + make_interval(secs => $1), leased_by = $2, attempts = attempts + 1
  FROM due WHERE r.recipient_id = due.recipient_id
RETURNING r.recipient_id, r.outbound_id, r.tenant_id, r.forward_path, r.domain, r.attempts
"""
_STANDING = """
SELECT count(*) AS waiting, extract(epoch FROM min(next_attempt_at) - now())::float8 AS next_seconds
  FROM outbound_recipient WHERE state = 'waiting'
"""


@dataclass(frozen=True, slots=True)
class Leased:
    """One recipient that is this process's to deliver to until the lease runs out."""

    recipient_id: int
    outbound_id: int
    tenant_id: int
    forward_path: str
    domain: str
    attempts: int  # this one included


async def lease(connection: Connection, limit: int, *, lease_seconds: float, leased_by: str) -> list[Leased]:
    """Take at most `limit` recipients that are due and that nobody else is taking, the longest due first."""
    return [Leased(*row) for row in await connection.fetch(_LEASE.format(limit=limit), lease_seconds, leased_by)]


async def standing(connection: Connection) -> tuple[int, float | None]:
    """How many recipients wait, and in how many seconds the first of them is due (negative: overdue; None: none waits)."""
    row = await connection.fetchrow(_STANDING)
    assert row is not None
    return row["waiting"], row["next_seconds"]
