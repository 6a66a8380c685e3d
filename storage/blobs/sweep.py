"""Removal of what nothing refers to any more: contents, blobs, segments, and the memory of old expunges.

Never deletes what is not provably dead. Candidates are locked first and looked at again under the lock by a new statement, and
foreign keys have the last word: a reference that commits in between keeps its target, or fails and is tried anew.

Rewriting segments of which only a little is alive is not done yet: such a segment stays as it is until its last blob is gone.
"""

import fcntl
import os
from pathlib import Path

import asyncpg

from storage.blobs.segments import segment_path, whole_octets
from storage.pool import Connection

_DEAD_CONTENT = """
  NOT EXISTS (SELECT FROM message AS r WHERE r.content_id = c.content_id)
  AND NOT EXISTS (SELECT FROM journal AS r WHERE r.content_id = c.content_id)
  AND NOT EXISTS (SELECT FROM archive_message AS r WHERE r.content_id = c.content_id)
  AND NOT EXISTS (SELECT FROM outbound_message AS r WHERE r.content_id = c.content_id)
  AND NOT EXISTS (SELECT FROM quarantine AS r WHERE r.content_id = c.content_id)
"""
# Limits are written into the statements: with a parameter the generic plan must expect a tenth of the table, and sorts it.
_CONTENTS = f"""
WITH looked_at AS MATERIALIZED (
    SELECT content_id, created_at FROM content WHERE content_id > $1 ORDER BY content_id LIMIT {{limit:d}})
SELECT (SELECT max(content_id) FROM looked_at) AS last,
       ARRAY (SELECT content_id FROM looked_at AS c
               WHERE created_at < now() - make_interval(secs => $2) AND {_DEAD_CONTENT}) AS dead
"""
_LOCK_CONTENTS = "SELECT FROM content WHERE content_id = ANY ($1::bigint[]) ORDER BY content_id FOR UPDATE"
_DELETE_CONTENTS = f"""
DELETE FROM content AS c WHERE content_id = ANY ($1::bigint[]) AND {_DEAD_CONTENT} RETURNING tenant_id, skeleton
"""

_DEAD_BLOB = """
  NOT EXISTS (SELECT FROM content AS r WHERE r.tenant_id = b.tenant_id AND r.skeleton = b.digest)
  AND NOT EXISTS (SELECT FROM content_part AS r WHERE r.tenant_id = b.tenant_id AND r.digest = b.digest)
"""
_BLOBS = f"""
WITH looked_at AS MATERIALIZED (
    SELECT tenant_id, digest FROM blob WHERE (tenant_id, digest) > ($1::bigint, $2::bytea)
     ORDER BY tenant_id, digest LIMIT {{limit:d}})
SELECT tenant_id, digest, {_DEAD_BLOB} AS is_dead FROM looked_at AS b ORDER BY tenant_id, digest
"""
_LOCK_BLOBS = """
SELECT FROM blob JOIN unnest($1::bigint[], $2::bytea[]) AS wanted (tenant_id, digest) USING (tenant_id, digest)
 ORDER BY tenant_id, digest FOR UPDATE OF blob
"""
_DELETE_BLOBS = f"""
DELETE FROM blob AS b USING unnest($1::bigint[], $2::bytea[]) AS wanted (tenant_id, digest)
 WHERE b.tenant_id = wanted.tenant_id AND b.digest = wanted.digest AND {_DEAD_BLOB}
RETURNING b.record_octets
"""

_LONG_HISTORIES = "SELECT mailbox_id FROM expunged GROUP BY mailbox_id HAVING count(*) > $1 ORDER BY mailbox_id"
_EDGE = "SELECT modseq FROM expunged WHERE mailbox_id = $1 ORDER BY modseq DESC OFFSET $2 LIMIT 1"
_FORGET = """
WITH remembered AS (UPDATE mailbox SET expunged_forgotten = greatest(expunged_forgotten, $2) WHERE mailbox_id = $1)
DELETE FROM expunged WHERE mailbox_id = $1 AND modseq <= $2
"""

_LONG_LOGS = "SELECT mailbox_id FROM message_change GROUP BY mailbox_id HAVING count(*) > $1 ORDER BY mailbox_id"
_LOG_EDGE = "SELECT modseq FROM message_change WHERE mailbox_id = $1 ORDER BY modseq DESC OFFSET $2 LIMIT 1"
_FORGET_CHANGES = """
WITH remembered AS (UPDATE mailbox SET changes_forgotten = greatest(changes_forgotten, $2) WHERE mailbox_id = $1)
DELETE FROM message_change WHERE mailbox_id = $1 AND modseq <= $2
"""

_LEFT_OPEN = """
SELECT segment_id FROM segment
 WHERE sealed_at IS NULL AND store = 'local' AND created_at < now() - make_interval(secs => $1) ORDER BY segment_id
"""
_SEAL = "UPDATE segment SET size_octets = $2, sealed_at = now() WHERE segment_id = $1 AND sealed_at IS NULL"
_EMPTY = """
SELECT segment_id FROM segment AS s
 WHERE store = 'local' AND sealed_at < now() - make_interval(secs => $1)
   AND NOT EXISTS (SELECT FROM blob AS b WHERE b.segment_id = s.segment_id) ORDER BY segment_id LIMIT $2
"""
_DELETE_SEGMENT = """
DELETE FROM segment AS s WHERE segment_id = $1 AND sealed_at IS NOT NULL
   AND NOT EXISTS (SELECT FROM blob AS b WHERE b.segment_id = s.segment_id)
RETURNING coalesce(size_octets, 0)
"""


async def sweep_contents(
    connection: Connection, after: int, limit: int, *, grace_seconds: float
) -> tuple[int, int | None]:
    """Look at the `limit` contents after an id; delete those older than the grace to which nothing refers.

    Returns how many went, and the id to go on after (None: the end is reached). So does sweep_blobs.
    """
    row = await connection.fetchrow(_CONTENTS.format(limit=limit), after, grace_seconds)
    assert row is not None
    removed = 0
    if row["dead"]:
        async with connection.transaction():
            await connection.execute(_LOCK_CONTENTS, row["dead"])  # from here on nobody can add a reference
            removed = len(await connection.fetch(_DELETE_CONTENTS, row["dead"]))
    return removed, row["last"]


async def sweep_blobs(
    connection: Connection, after: tuple[int, bytes], limit: int
) -> tuple[int, tuple[int, bytes] | None]:
    """Look at the `limit` blobs after a (tenant, digest); delete those of which no content is made, and their keys with them.

    There is no grace: a writer that found the blob present before it went adds its content in a statement that the foreign
    key then fails, and stores the octets anew.
    """
    rows = await connection.fetch(_BLOBS.format(limit=limit), *after)
    dead = [(row["tenant_id"], row["digest"]) for row in rows if row["is_dead"]]
    removed = 0
    if dead:
        arrays = [one for one, _ in dead], [other for _, other in dead]
        async with connection.transaction():
            await connection.execute(_LOCK_BLOBS, *arrays)
            removed = len(await connection.fetch(_DELETE_BLOBS, *arrays))
    return removed, ((rows[-1]["tenant_id"], rows[-1]["digest"]) if rows else None)


async def forget_expunged(connection: Connection, limit: int, *, up_to: dict[int, int]) -> int:
    """Forget the oldest expunges of mailboxes that remember more than `limit`, and note up to which MODSEQ.

    Nothing above a mailbox's `up_to` is forgotten: that is its HIGHESTMODSEQ one round ago, and no live session is further
    behind than a round. Returns the number of mailboxes.
    """
    forgotten = 0
    for (mailbox_id,) in await connection.fetch(_LONG_HISTORIES, limit):
        edge = await connection.fetchval(_EDGE, mailbox_id, limit)
        if edge is not None and mailbox_id in up_to:
            await connection.execute(_FORGET, mailbox_id, min(edge, up_to[mailbox_id]))
            forgotten += 1
    return forgotten


async def long_histories(connection: Connection, limit: int) -> dict[int, int]:
    """HIGHESTMODSEQ of each mailbox that remembers more than `limit` expunges: the next round's `up_to`."""
    identities = [row["mailbox_id"] for row in await connection.fetch(_LONG_HISTORIES, limit)]
    query = "SELECT mailbox_id, highestmodseq FROM mailbox WHERE mailbox_id = ANY ($1::bigint[])"
    return {row["mailbox_id"]: row["highestmodseq"] for row in await connection.fetch(query, identities)}


async def forget_changes(connection: Connection, limit: int) -> int:
    """Cut the logs of changed flags to `limit` entries: who asks for more has all messages looked through instead.

    Returns the number of mailboxes.
    """
    mailboxes = [row["mailbox_id"] for row in await connection.fetch(_LONG_LOGS, limit)]
    for mailbox_id in mailboxes:
        edge = await connection.fetchval(_LOG_EDGE, mailbox_id, limit)
        if edge is not None:
            await connection.execute(_FORGET_CHANGES, mailbox_id, edge)
    return len(mailboxes)


async def seal_abandoned(connection: Connection, directory: Path, *, grace_seconds: float) -> int:
    """Seal segments whose writer has died: old enough, and the lock that a living writer holds on the file is free.

    A segment that lies on another host is not ours to judge, and is left alone.
    """
    sealed = 0
    for (segment_id,) in await connection.fetch(_LEFT_OPEN, grace_seconds):
        path = segment_path(directory, segment_id)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            await connection.execute(_SEAL, segment_id, whole_octets(path))
            sealed += 1
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return sealed


async def sweep_segments(connection: Connection, directory: Path, limit: int, *, grace_seconds: float) -> int:
    """Delete sealed segments that hold no live blob and were sealed before the grace. Returns the octets freed.

    The file goes while the row's deletion is not committed yet: if we die in between, the row is still there and the next
    round deletes it again; a file without a row would never be found.
    """
    freed = 0
    for (segment_id,) in await connection.fetch(_EMPTY, grace_seconds, limit):
        try:
            async with connection.transaction():
                octets = await connection.fetchval(_DELETE_SEGMENT, segment_id)
                if octets is not None:
                    segment_path(directory, segment_id).unlink(missing_ok=True)
                    freed += octets
        except asyncpg.ForeignKeyViolationError:
            continue  # a blob was added meanwhile
    return freed
