"""The journal: one row per accepted message, written by the transaction that accepts it, waiting for the archiver.

Rows are claimed with FOR UPDATE SKIP LOCKED and marked within the claiming transaction: a claim that dies with its process is
no claim. Nobody reads "everything after id N": identities commit out of order.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from storage.pool import Connection, Pool

# The envelope stays where it is: its digest is all that a leaf needs. Limit and exclusion are written into the statement: where
# they are parameters the generic plan must guess them, and would rather sort the table than follow the index of waiting rows.
_CLAIM = """
SELECT journal_id, tenant_id, direction, digest, sha256(envelope) AS envelope_digest, size_octets, accepted_at
  FROM journal
 WHERE archived_seq IS NULL{excluding}
 ORDER BY journal_id LIMIT {limit:d}
   FOR UPDATE SKIP LOCKED
"""

_MARK = """
UPDATE journal AS j SET archived_seq = done.seq
  FROM unnest($1::bigint[], $2::bigint[]) AS done (journal_id, seq)
 WHERE j.journal_id = done.journal_id
"""


# Without a content to go by the time leads there: what is written within a few seconds has neighbouring ids.
_OF_TRANSACTION = """
SELECT tenant_id, content_id, envelope FROM journal
 WHERE tenant_id = $1 AND (content_id = ANY ($2::bigint[]) OR cardinality($2::bigint[]) = 0 AND accepted_at BETWEEN $3 AND $4)
   AND position(convert_to($5, 'UTF8') IN envelope) > 0
 ORDER BY journal_id
"""
_SECONDS_AROUND = 60


class Claimed(NamedTuple):
    """A waiting row that belongs to the current transaction."""

    journal_id: int
    tenant_id: int
    direction: str  # "in", "out", "internal"
    digest: bytes  # SHA-256 of the original octets
    envelope_digest: bytes  # SHA-256 of the envelope
    size_octets: int
    accepted_at: datetime


class Journaled(NamedTuple):
    """A tenant's row of a transaction."""

    tenant_id: int
    content_id: int
    envelope: bytes  # canonical JSON


async def of_transaction(
    connection: "Connection | Pool", tenant_id: int, transaction_id: str, at: datetime, content_ids: Sequence[int] = ()
) -> list[Journaled]:
    """What the tenant's journal has of a transaction of about that time. Known contents spare a look through all of it."""
    around = timedelta(seconds=_SECONDS_AROUND)
    rows = await connection.fetch(
        _OF_TRANSACTION, tenant_id, list(content_ids), at - around, at + around, f'"id":"{transaction_id}"'
    )
    return [Journaled(*row) for row in rows]


async def claim(connection: Connection, limit: int, *, excluded: Collection[int] = ()) -> list[Claimed]:
    """The oldest waiting rows that nobody else holds, at most `limit`, ascending, without those of excluded tenants.

    They are locked until the caller's transaction ends.
    """
    excluding = f" AND tenant_id NOT IN ({','.join(f'{tenant_id:d}' for tenant_id in excluded)})" if excluded else ""
    rows = await connection.fetch(_CLAIM.format(limit=limit, excluding=excluding))
    return [Claimed(*row) for row in rows]


async def mark_archived(connection: Connection, archived: Sequence[tuple[int, int]]) -> None:
    """Set the leaf's sequence number of each (journal_id, seq), in the claiming transaction."""
    await connection.execute(_MARK, [journal_id for journal_id, _ in archived], [seq for _, seq in archived])


async def waiting(connection: Connection) -> int:
    """How many accepted messages are not archived yet."""
    count: int = await connection.fetchval("SELECT count(*) FROM journal WHERE archived_seq IS NULL")
    return count


async def waiting_by_tenant(connection: Connection) -> dict[int, int]:
    """The same by tenant; tenants without waiting messages are left out."""
    rows = await connection.fetch(
        "SELECT tenant_id, count(*) FROM journal WHERE archived_seq IS NULL GROUP BY tenant_id"
    )
    return {row["tenant_id"]: row["count"] for row in rows}
