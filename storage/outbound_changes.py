"""What people do to the outbound queue: try now, hold, release, take out; and the keeper's clearing of what is finished.

A recipient whose lease runs is being delivered: to try it now needs nothing, to take it out has to wait.
"""

from dataclasses import dataclass
from typing import Any

from storage.outbound import LEASED, WAKE, Leased, leased_of
from storage.outbound_listing import Selection
from storage.pool import Connection

# Nothing here joins what was chosen: the daemons' sessions have no hash joins, and a queue may be long.
_CHOSEN = """
    SELECT r.recipient_id FROM outbound_recipient AS r JOIN outbound_message AS m USING (outbound_id)
      JOIN tenant AS t ON t.tenant_id = r.tenant_id
     WHERE {conditions} ORDER BY r.recipient_id
"""
_IS_CHOSEN = "r.recipient_id = ANY (ARRAY (SELECT recipient_id FROM chosen))"
_FREE = "(r.leased_by IS NULL OR r.next_attempt_at <= now())"
_CHANGED = "r.tenant_id, r.outbound_id, r.forward_path"
_WOKEN = f"""
woken AS ({WAKE}),
told AS MATERIALIZED (
    SELECT pg_notify('postwerk_outbound', extract(epoch FROM min(due_at))::text) FROM woken HAVING count(*) > 0)
SELECT tenant_id, outbound_id, forward_path, (SELECT count(*) FROM told) FROM changed
"""
_RETRY = f"""
WITH chosen AS MATERIALIZED ({_CHOSEN} FOR NO KEY UPDATE OF r),
changed AS (
    UPDATE outbound_recipient AS r SET next_attempt_at = now(), leased_by = NULL
     WHERE {_IS_CHOSEN} AND r.state = 'waiting' AND {_FREE}
 RETURNING {_CHANGED}, r.sender, r.urgency, r.state, r.next_attempt_at),
{_WOKEN}
"""
_HOLD = f"""
WITH chosen AS MATERIALIZED ({_CHOSEN} FOR NO KEY UPDATE OF r)
UPDATE outbound_recipient AS r SET state = 'held', held_reason = $1 WHERE {_IS_CHOSEN} AND r.state = 'waiting' RETURNING {_CHANGED}
"""
# What lay here held gets the time again that it had: it must not expire for it.
_RELEASE = f"""
WITH chosen AS MATERIALIZED ({_CHOSEN} FOR NO KEY UPDATE OF r),
changed AS (
    UPDATE outbound_recipient AS r
       SET state = 'waiting', held_reason = NULL, next_attempt_at = CASE WHEN {_FREE} THEN now() ELSE r.next_attempt_at END
     WHERE {_IS_CHOSEN} AND r.state = 'held'
 RETURNING {_CHANGED}, r.sender, r.urgency, r.state, r.next_attempt_at),
renewed AS (
    UPDATE outbound_message AS m SET expires_at = now() + (m.expires_at - m.created_at)
     WHERE m.outbound_id = ANY (ARRAY (SELECT DISTINCT outbound_id FROM changed))),
{_WOKEN}
"""
_TAKE = f"""
WITH chosen AS MATERIALIZED ({_CHOSEN} LIMIT {{limit:d}} FOR NO KEY UPDATE OF r SKIP LOCKED)
UPDATE outbound_recipient AS r
   SET next_attempt_at = now() + make_interval(secs => $1), leased_by = $2, attempts = r.attempts + 1
 WHERE {_IS_CHOSEN} AND {_FREE} RETURNING r.recipient_id
"""
_TRACES = "SELECT outbound_id, trace_id FROM outbound_message WHERE outbound_id = ANY ($1::bigint[])"
_FORGET = """
WITH gone AS (
    DELETE FROM outbound_recipient WHERE recipient_id IN (
        SELECT recipient_id FROM outbound_recipient
         WHERE finished_at < now() - make_interval(secs => $1) ORDER BY finished_at LIMIT {limit:d} FOR UPDATE SKIP LOCKED)
    RETURNING outbound_id)
SELECT count(*), array_agg(DISTINCT outbound_id) FROM gone
"""
_FORGET_MESSAGES = """
DELETE FROM outbound_message AS m WHERE outbound_id = ANY ($1::bigint[])
   AND NOT EXISTS (SELECT FROM outbound_recipient AS r WHERE r.outbound_id = m.outbound_id)
"""
_FORGET_REMOVALS = """
WITH gone AS (
    DELETE FROM outbound_removal WHERE removal_id IN (
        SELECT removal_id FROM outbound_removal
         WHERE removed_at < now() - make_interval(secs => $1) ORDER BY removed_at LIMIT {limit:d})
    RETURNING 1)
SELECT count(*) FROM gone
"""
# A lane that is missing although mail waits: nothing of ours makes one, but a hand in the database may.
_MEND = """
INSERT INTO outbound_wake (sender, urgency, due_at)
SELECT sender, urgency, min(next_attempt_at) FROM outbound_recipient AS r
 WHERE state = 'waiting' AND NOT EXISTS (SELECT FROM outbound_lane AS l WHERE l.sender = r.sender AND l.urgency = r.urgency)
   AND NOT EXISTS (SELECT FROM outbound_wake AS w WHERE w.sender = r.sender AND w.urgency = r.urgency)
 GROUP BY sender, urgency
"""


@dataclass(frozen=True, slots=True)
class Changed:
    """A recipient that something was done to, as the trace names it."""

    tenant_id: int
    trace_id: str
    forward_path: str


async def retry(connection: Connection, selection: Selection) -> list[Changed]:
    """Have what waits tried now; what is being delivered is left out."""
    return await _change(connection, _RETRY, selection, "waiting")


async def hold(connection: Connection, selection: Selection, reason: str) -> list[Changed]:
    """Keep what waits from being tried, until it is released. What is being delivered is only kept from its next attempt."""
    return await _change(connection, _HOLD, selection, "waiting", reason)


async def release(connection: Connection, selection: Selection) -> list[Changed]:
    """Have what is held tried now, with as much time before it expires as it had when it came."""
    return await _change(connection, _RELEASE, selection, "held")


async def _change(
    connection: Connection, statement: str, selection: Selection, state: str, *arguments: object
) -> list[Changed]:
    given: list[Any] = [*arguments]
    conditions = selection.conditions(given, [state])
    async with connection.transaction():
        rows = await connection.fetch(statement.format(conditions=conditions), *given)
        found = await connection.fetch(_TRACES, list({row["outbound_id"] for row in rows}))
    traces = {row["outbound_id"]: row["trace_id"] for row in found}
    return [Changed(row["tenant_id"], traces[row["outbound_id"]], row["forward_path"]) for row in rows]


async def take(
    connection: Connection, selection: Selection, limit: int, *, lease_seconds: float, leased_by: str
) -> list[Leased]:
    """Lease what waits or is held, due or not, to take it out: it is settled as "deleted", in one transaction with its record.

    What is being delivered is left out: whoever asks again later gets what is still there.
    """
    given: list[Any] = [lease_seconds, leased_by]
    conditions = f"{selection.conditions(given)} AND {_FREE}"
    rows = await connection.fetch(_TAKE.format(conditions=conditions, limit=limit), *given)
    return [leased_of(row) for row in await connection.fetch(LEASED, [row[0] for row in rows])] if rows else []


async def forget_finished(connection: Connection, limit: int, *, older_than_seconds: float) -> int:
    """Remove at most `limit` recipients that were finished so long ago, and messages of which none is left."""
    async with connection.transaction():
        row = await connection.fetchrow(_FORGET.format(limit=limit), older_than_seconds)
        assert row is not None
        if row[1]:
            await connection.execute(_FORGET_MESSAGES, row[1])
    count: int = row[0]
    return count


async def forget_removals(connection: Connection, limit: int, *, older_than_seconds: float) -> int:
    """Remove at most `limit` records of what was taken out by hand so long ago."""
    count: int = await connection.fetchval(_FORGET_REMOVALS.format(limit=limit), older_than_seconds)
    return count


async def mend(connection: Connection) -> None:
    """Have every sender whose mail waits known to the relays."""
    await connection.execute(_MEND)
