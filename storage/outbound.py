"""The outbound queue: recipients that wait for delivery, leased by relay processes.

A lease is a next attempt set into the future: when the process that holds it dies, the recipient is due again by time alone.
Nothing enqueues yet; submission will, in the transaction that accepts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.pool import Connection
from storage.rows import Settlement

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
    account_id: int | None
    trace_id: str
    forward_path: str
    domain: str
    notify: tuple[str, ...] | None
    orcpt: str | None
    attempts: int  # leases so far, this one included: the fence of its settlement
    tries: int  # deliveries that were tried before: what the retry schedule goes by
    reverse_path: str
    envid: str | None
    ret: str | None
    body: str
    is_smtputf8: bool
    is_requiretls: bool
    priority: int
    created_at: datetime
    expires_at: datetime
    deliver_by: datetime | None
    deliver_by_mode: str | None
    content_id: int
    delay_told_at: datetime | None
    leased_until: datetime


async def settle(connection: Connection, settlements: Sequence[Settlement]) -> set[int]:
    """Note what became of leases, in one statement. Returns the recipients for which it counted.

    What is missing there was lost: its lease ran out and somebody else has it. Nothing was changed for it. A message that
    reports of what is settled goes through Ingest.store instead, as NewMessage.settles.
    """
    raise NotImplementedError


async def give_back(
    connection: Connection, leased: Sequence[Leased], *, until: datetime | None = None, reply: str | None = None
) -> set[int]:
    """End leases without a try: due again at once, or at `until` with the reason in `reply`. Returns whose lease it still was."""
    raise NotImplementedError


async def extend(connection: Connection, leased: Sequence[Leased], *, lease_seconds: float) -> set[int]:
    """Have leases run out so many seconds from now. Returns the recipients whose lease it still was."""
    raise NotImplementedError


async def next_due(connection: Connection) -> float | None:
    """In how many seconds the queue has to be looked at again (0 or less: at once); None: nothing waits. Cheap."""
    raise NotImplementedError


async def lease(
    connection: Connection, limit: int, *, lease_seconds: float, leased_by: str, excluded_domains: Sequence[str] = ()
) -> list[Leased]:
    """Take at most `limit` recipients that are due and that nobody else is taking, the longest due first."""
    return [Leased(*row) for row in await connection.fetch(_LEASE.format(limit=limit), lease_seconds, leased_by)]


async def standing(connection: Connection) -> tuple[int, float | None]:
    """How many recipients wait, and in how many seconds the first of them is due (negative: overdue; None: none waits)."""
    row = await connection.fetchrow(_STANDING)
    assert row is not None
    return row["waiting"], row["next_seconds"]
