"""The outbound queue: recipients that wait for delivery, leased by relay processes, any number of them on any number of hosts.

A lease is a next attempt set into the future: when the process that holds it dies, the recipient is due again by time alone. Its
number (`attempts`) is the fence: what a process says after somebody else got the recipient changes nothing.

Turns go by sender (0012_queue.sql): who sends 50,000 gets as many turns as who sends one letter. Mail comes in through
Ingest.store, in the transaction that accepts it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.pool import Connection
from storage.rows import Settlement

_EXCLUDED_PAUSE_SECONDS = 5.0  # until a sender of whom nothing but excluded domains is due is looked at again

_LEASE = "SELECT lease_outbound($1, $2, $3, $4, $5, $6)"
LEASED = """
SELECT r.recipient_id, r.outbound_id, r.tenant_id, m.account_id, m.trace_id, r.forward_path, r.domain,
       string_to_array(r.notify, ','), r.orcpt, r.attempts, r.tries, m.reverse_path, m.envid, m.ret, m.body, m.is_smtputf8,
       m.is_requiretls, m.priority, m.created_at, m.expires_at, m.deliver_by, m.deliver_by_mode, m.content_id, r.delay_told_at,
       r.next_attempt_at
  FROM unnest($1::bigint[]) WITH ORDINALITY AS leased (recipient_id, ordinal)
  JOIN outbound_recipient AS r USING (recipient_id) JOIN outbound_message AS m USING (outbound_id) ORDER BY ordinal
"""

# Whose lease it still is: nobody else has got it since, and nobody has finished it. A hold by hand does not undo a delivery.
_IS_HELD = "r.attempts = s.attempt AND r.leased_by IS NOT NULL AND r.state IN ('waiting', 'held')"
WAKE = """
INSERT INTO outbound_wake (sender, urgency, due_at)
SELECT sender, urgency, min(next_attempt_at) FROM changed WHERE state = 'waiting' GROUP BY sender, urgency RETURNING due_at
"""
SETTLE = f"""
WITH changed AS (
    UPDATE outbound_recipient AS r
       SET state = CASE s.state WHEN 'waiting' THEN r.state ELSE s.state END,
           next_attempt_at = coalesce(s.next_attempt_at, r.next_attempt_at), leased_by = NULL, tries = r.tries + s.counts::integer,
           last_reply = coalesce(nullif(s.reply, ''), r.last_reply),
           delay_told_at = CASE WHEN s.is_delay_told THEN now() ELSE r.delay_told_at END,
           finished_at = CASE s.state WHEN 'waiting' THEN NULL ELSE now() END
      FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::boolean[],
                  $9::boolean[], $10::text[], $11::boolean[])
        AS s (recipient_id, attempt, state, reply, next_attempt_at, host, tls, is_delay_told, counts, removed_by, is_told)
     WHERE r.recipient_id = s.recipient_id AND {_IS_HELD}
 RETURNING r.recipient_id, r.outbound_id, r.tenant_id, r.domain, r.sender, r.urgency, r.state, r.next_attempt_at, s.attempt,
           s.state AS outcome, s.host, s.tls, s.reply, s.counts, s.removed_by, s.is_told),
recorded AS (
    INSERT INTO outbound_attempt (recipient_id, attempt, state, host, tls, reply)
    SELECT recipient_id, attempt, outcome, host, tls, reply FROM changed WHERE counts),
removed AS (
    INSERT INTO outbound_removal (tenant_id, recipient_id, trace_id, domain, removed_by, reason, is_told)
    SELECT tenant_id, recipient_id, (SELECT trace_id FROM outbound_message AS m WHERE m.outbound_id = changed.outbound_id), domain,
           removed_by, reply, is_told
      FROM changed WHERE removed_by IS NOT NULL),
woken AS ({WAKE})
SELECT recipient_id FROM changed
"""
_GIVE_BACK = f"""
WITH changed AS (
    UPDATE outbound_recipient AS r
       SET next_attempt_at = coalesce($3, now()), leased_by = NULL, last_reply = coalesce($4, r.last_reply)
      FROM unnest($1::bigint[], $2::integer[]) AS s (recipient_id, attempt)
     WHERE r.recipient_id = s.recipient_id AND {_IS_HELD}
 RETURNING r.recipient_id, r.sender, r.urgency, r.state, r.next_attempt_at),
woken AS ({WAKE}),
told AS MATERIALIZED (
    SELECT pg_notify('postwerk_outbound', extract(epoch FROM min(due_at))::text) FROM woken HAVING $3::timestamptz IS NULL)
SELECT recipient_id, (SELECT count(*) FROM told) FROM changed
"""
_EXTEND = f"""
UPDATE outbound_recipient AS r SET next_attempt_at = now() + make_interval(secs => $3)
  FROM unnest($1::bigint[], $2::integer[]) AS s (recipient_id, attempt)
 WHERE r.recipient_id = s.recipient_id AND {_IS_HELD} RETURNING r.recipient_id
"""
DUE = """
least((SELECT min(turn_at) FROM outbound_lane WHERE urgency = 1), (SELECT min(turn_at) FROM outbound_lane WHERE urgency = 0),
      (SELECT min(turn_at) FROM outbound_lane WHERE urgency = -1), (SELECT min(due_at) FROM outbound_wake))
"""
_NEXT_DUE = f"SELECT extract(epoch FROM {DUE} - now())::float8"
STANDING = f"""
SELECT count(*) AS waiting, extract(epoch FROM {DUE} - now())::float8 AS next_seconds
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

    @property
    def sender(self) -> int:
        """Whose turn it took: an account, or minus a tenant for what we send ourselves."""
        return self.account_id if self.account_id is not None else -self.tenant_id


async def lease(
    connection: Connection,
    limit: int,
    *,
    lease_seconds: float,
    leased_by: str,
    excluded_domains: Sequence[str] = (),
    excluded_senders: Sequence[int] = (),
) -> list[Leased]:
    """Take at most `limit` recipients that are due, by turns between their senders; recipients of one message and domain together.

    Less than `limit` does not say that nothing is left: ask next_due. Mail to the excluded domains (a few hundred at most:
    those that are busy or in back-off) is passed over, at the cost of a step for each sender and domain; so is that of the
    excluded senders (Leased.sender), at no cost.
    """
    excluded = list(excluded_domains), _EXCLUDED_PAUSE_SECONDS, list(excluded_senders)
    arguments = limit, lease_seconds, leased_by, *excluded
    taken = await connection.fetchval(_LEASE, *arguments)
    return [leased_of(row) for row in await connection.fetch(LEASED, taken)] if taken else []


def leased_of(row: Iterable[Any]) -> Leased:
    """A row of the statement LEASED."""
    leased = list(row)
    if leased[7] is not None:
        leased[7] = tuple(leased[7])
    return Leased(*leased)


async def settle(connection: Connection, settlements: Sequence[Settlement]) -> set[int]:
    """Note what became of leases, in one statement. Returns the recipients for which it counted.

    What is missing there was lost: its lease ran out and somebody else has it. Nothing was changed for it. A message that
    reports of what is settled goes through Ingest.store instead, as NewMessage.settles.
    """
    if not settlements:
        return set()
    return {row[0] for row in await connection.fetch(SETTLE, *settlement_arrays(settlements))}


def settlement_arrays(settlements: Iterable[Settlement]) -> list[list[Any]]:
    """The arguments of SETTLE. In the order of recipients: two that settle the same ones cannot deadlock."""
    rows = [
        (each.recipient_id, each.attempt, each.state, each.reply, each.next_attempt_at, each.host, each.tls, each.is_delay_told,
         each.counts, each.removed_by, each.is_told)
        for each in sorted(settlements, key=lambda each: each.recipient_id)
    ]  # fmt: skip
    return [list(column) for column in zip(*rows, strict=True)]


async def give_back(
    connection: Connection, leased: Sequence[Leased], *, until: datetime | None = None, reply: str | None = None
) -> set[int]:
    """End leases without a try: due again at once, or at `until` with the reason in `reply`. Returns whose lease it still was."""
    return {row[0] for row in await connection.fetch(_GIVE_BACK, *_fences(leased), until, reply)}


async def give_back_unknown(connection: Connection, leased_by: str, known: Sequence[int]) -> int:
    """End the leases of that name but for the known recipients: of a call of lease() whose answer was lost. Returns how many.

    Reads all that waits; `leased_by` must be nobody else's.
    """
    rows = await connection.fetch(
        "SELECT recipient_id, attempts FROM outbound_recipient"
        " WHERE state = 'waiting' AND leased_by = $1 AND NOT recipient_id = ANY ($2::bigint[]) ORDER BY recipient_id",
        leased_by,
        list(known),
    )
    recipients, attempts = [row["recipient_id"] for row in rows], [row["attempts"] for row in rows]
    return len(await connection.fetch(_GIVE_BACK, recipients, attempts, None, None)) if rows else 0


async def extend(connection: Connection, leased: Sequence[Leased], *, lease_seconds: float) -> set[int]:
    """Have leases run out so many seconds from now. Returns the recipients whose lease it still was."""
    return {row[0] for row in await connection.fetch(_EXTEND, *_fences(leased), lease_seconds)}


def _fences(leased: Iterable[Leased]) -> tuple[list[int], list[int]]:
    each = sorted((one.recipient_id, one.attempts) for one in leased)
    return [recipient_id for recipient_id, _ in each], [attempts for _, attempts in each]


async def next_due(connection: Connection) -> float | None:
    """In how many seconds the queue has to be looked at again (0 or less: at once); None: nothing waits. Cheap."""
    seconds: float | None = await connection.fetchval(_NEXT_DUE)
    return seconds


async def standing(connection: Connection) -> tuple[int, float | None]:
    """How many recipients wait, which takes counting them, and what next_due says."""
    row = await connection.fetchrow(STANDING)
    assert row is not None
    return row["waiting"], row["next_seconds"]
