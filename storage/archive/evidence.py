"""Appending to the tenants' evidence logs, and signing where they stand.

A log is appended to under its own advisory lock, so that sequence numbers have no gaps and no order but that of commit. No
state lives outside the database: an append needs the number of the last leaf, a checkpoint needs the last checkpoint and the
leaves since. So any number of archivers work at once, and one that dies leaves nothing half done.
"""

import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from storage.archive.checkpoint import Checkpoint, CheckpointError, Signer, open_note
from storage.archive.leaf import KIND_OF_DIRECTION, SALT_OCTETS, Leaf, commitment
from storage.archive.merkle import Frontier
from storage.errors import CorruptError
from storage.journal import Claimed
from storage.pool import Connection

_LOCKS = 0x50574152 << 32  # "PWAR": advisory locks of logs are this plus the tenant's id
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LEAF_SLICE = 10_000  # leaf hashes fetched at once when a checkpoint is computed

_LOCK = "SELECT pg_advisory_xact_lock($2 + tenant_id) FROM unnest($1::bigint[]) AS t (tenant_id)"

_OPEN_LOG = "INSERT INTO archive_log (tenant_id, origin) VALUES ($1, $2)"

# Where the logs stand. Two numbers that disagree mean that leaves a checkpoint has signed are gone.
_STANDING = """
SELECT t.tenant_id, origin, coalesce(leaves, 0) AS leaves, coalesce(signed, 0) AS signed
  FROM unnest($1::bigint[]) AS t (tenant_id)
  LEFT JOIN archive_log USING (tenant_id),
       LATERAL (SELECT max(seq) + 1 AS leaves FROM archive_leaf AS l WHERE l.tenant_id = t.tenant_id) AS l,
       LATERAL (SELECT max(size) AS signed FROM archive_checkpoint AS c WHERE c.tenant_id = t.tenant_id) AS c
"""

_APPEND_LEAVES = """
INSERT INTO archive_leaf (tenant_id, seq, at_ms, size_octets, version, kind, class_id, commitment, leaf_hash)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::smallint[], $7::integer[],
                     $8::bytea[], $9::bytea[])
"""

_APPEND_MESSAGES = """
INSERT INTO archive_message (tenant_id, seq, journal_id, content_id, direction, envelope, salt, digest)
SELECT j.tenant_id, new.seq, j.journal_id, j.content_id, j.direction, j.envelope, new.salt, j.digest
  FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS new (journal_id, seq, salt)
  JOIN journal AS j USING (journal_id)
"""

_NEWEST = (
    "SELECT number, size, note, frontier FROM archive_checkpoint WHERE tenant_id = $1 ORDER BY number DESC LIMIT 1"
)

_LEAVES = f"SELECT seq, leaf_hash FROM archive_leaf WHERE tenant_id = $1 AND seq >= $2 ORDER BY seq LIMIT {_LEAF_SLICE}"

_ADD_CHECKPOINT = """
INSERT INTO archive_checkpoint (tenant_id, number, size, note, frontier) VALUES ($1, $2, $3, $4, $5)
"""

_UNSIGNED = """
SELECT tenant_id, coalesce(leaves, 0) - coalesce(signed, 0) AS count
  FROM archive_log AS t,
       LATERAL (SELECT max(seq) + 1 AS leaves FROM archive_leaf AS l WHERE l.tenant_id = t.tenant_id) AS l,
       LATERAL (SELECT max(size) AS signed FROM archive_checkpoint AS c WHERE c.tenant_id = t.tenant_id) AS c
 WHERE coalesce(leaves, 0) > coalesce(signed, 0)
"""


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did."""

    archived: list[tuple[int, int]]  # (journal_id, seq)
    leaves: Mapping[int, int]  # new leaves per tenant
    refused: Mapping[int, str] = field(default_factory=dict)  # tenants whose log is damaged, with the reason


def milliseconds(at: datetime) -> int:
    """UTC milliseconds since 1970 of an aware datetime."""
    return (at - _EPOCH) // _MILLISECOND


async def append_messages(connection: Connection, claimed: Sequence[Claimed], *, hostname: str) -> Appended:
    """Append one leaf and one archive_message per claimed row, in their order, within the caller's transaction.

    A tenant's first leaf opens its log; the hostname goes into the log's name and never matters again. A log that is shorter
    than its newest checkpoint is not appended to: new leaves would take the numbers of those that were taken away.
    """
    tenants = sorted({row.tenant_id for row in claimed})
    await connection.execute(_LOCK, tenants, _LOCKS)  # ascending, as everybody takes them; its own statement, because
    standing = await connection.fetch(
        _STANDING, tenants
    )  # only the next one sees what the lock's last holder committed
    following: dict[int, int] = {}
    refused: dict[int, str] = {}
    for tenant_id, origin, leaves, signed in standing:
        if leaves < signed:
            refused[tenant_id] = f"a checkpoint covers {signed} leaves, but only {leaves} are there"
            continue
        following[tenant_id] = leaves
        if origin is None:
            await connection.execute(_OPEN_LOG, tenant_id, f"{hostname}/{tenant_id}/{secrets.token_hex(4)}")
    rows = [row for row in claimed if row.tenant_id in following]
    salts = os.urandom(SALT_OCTETS * len(rows))
    leaves_of, archived, columns = dict.fromkeys(following, 0), [], []
    for index, row in enumerate(rows):
        seq = following[row.tenant_id] + leaves_of[row.tenant_id]
        leaves_of[row.tenant_id] += 1
        salt = salts[index * SALT_OCTETS : (index + 1) * SALT_OCTETS]
        bound = commitment(salt, row.digest, row.envelope_digest)
        leaf = Leaf(seq, KIND_OF_DIRECTION[row.direction], milliseconds(row.accepted_at), row.size_octets, bound)
        archived.append((row.journal_id, seq))
        columns.append(
            (
                row.tenant_id,
                seq,
                leaf.at_ms,
                leaf.size_octets,
                leaf.version,
                leaf.kind,
                leaf.class_id,
                bound,
                leaf.hash(),
            )
        )
    if rows:
        await connection.execute(_APPEND_LEAVES, *map(list, zip(*columns, strict=True)))
        await connection.execute(
            _APPEND_MESSAGES,
            [row.journal_id for row in rows],
            [seq for _, seq in archived],
            [salts[at : at + SALT_OCTETS] for at in range(0, len(salts), SALT_OCTETS)],
        )
    return Appended(archived, leaves_of, refused)


async def unsigned(connection: Connection) -> dict[int, int]:
    """Per tenant the number of leaves that no checkpoint covers yet; tenants without such leaves are left out."""
    return {row["tenant_id"]: row["count"] for row in await connection.fetch(_UNSIGNED)}


async def register_key(connection: Connection, public_key: bytes) -> None:
    """Note a public key in the database, for people to read."""
    await connection.execute("INSERT INTO archive_key (public_key) VALUES ($1) ON CONFLICT DO NOTHING", public_key)


async def newest_note(connection: Connection, tenant_id: int) -> str | None:
    """The tenant's newest checkpoint as a signed note."""
    row = await connection.fetchrow(_NEWEST, tenant_id)
    return None if row is None else row["note"]


async def sign_checkpoint(
    connection: Connection, tenant_id: int, signer: Signer, trusted: Collection[bytes], *, at: datetime
) -> str | None:
    """Sign where the tenant's log stands, in a transaction of its own (durable on return). None: nothing new to sign.

    Starts from the newest checkpoint, after checking its signature. Raises CorruptError if that one does not verify or if the
    leaves since have a gap: nothing is signed then.
    """
    async with connection.transaction():
        await connection.execute(_LOCK, [tenant_id], _LOCKS)
        newest = await connection.fetchrow(_NEWEST, tenant_id)
        number, frontier = 0, Frontier()
        if newest is not None:
            number, frontier = newest["number"] + 1, _resumed(tenant_id, newest["note"], newest["frontier"], trusted)
        start = frontier.size
        while rows := await connection.fetch(_LEAVES, tenant_id, frontier.size):
            for seq, leaf_hash in rows:
                if seq != frontier.size:
                    raise CorruptError(f"tenant {tenant_id}: leaf {frontier.size} is missing")
                frontier.append(leaf_hash)
        if frontier.size == start:
            return None
        origin = await connection.fetchval("SELECT origin FROM archive_log WHERE tenant_id = $1", tenant_id)
        if origin is None:
            raise CorruptError(f"tenant {tenant_id}: has leaves, but no log")
        note = signer.sign(Checkpoint(origin, frontier.size, frontier.root(), number, milliseconds(at)))
        await connection.execute(_ADD_CHECKPOINT, tenant_id, number, frontier.size, note, frontier.pack())
    return note


def _resumed(tenant_id: int, note: str, edge: bytes, trusted: Collection[bytes]) -> Frontier:
    """The right edge of the tree that the note has signed."""
    try:
        signed = open_note(note, trusted)
        frontier = Frontier.unpack(signed.size, edge)
    except (CheckpointError, ValueError) as error:
        raise CorruptError(f"tenant {tenant_id}: newest checkpoint: {error}") from error
    if frontier.root() != signed.root:
        raise CorruptError(f"tenant {tenant_id}: newest checkpoint: its frontier does not lead to its root")
    return frontier
