"""What people sorted, waiting to be learned: written with the move of the message, removed with what is learned from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from storage.pool import Connection, Pool, reported

CHANNEL = "postwerk_spam"
LOCK = 0x50574C53  # "PWLS": the advisory lock of the one who learns

# LIMIT keeps the planner from joining: each message is looked up by its key, however large the mailbox is.
# Into Junk is spam for the mailbox's owner; out of it, but not into Trash, is wanted by the owner of that Junk.
_NOTE_PLACED = r"""
WITH noted AS (
    INSERT INTO spam_lesson (account_id, content_id, is_spam)
    SELECT CASE WHEN t.special_use = '\Junk' THEN t.account_id ELSE s.account_id END, m.content_id,
           coalesce(t.special_use = '\Junk', false)
      FROM mailbox AS s, mailbox AS t, unnest($3::bigint[]) AS placed (uid),
           LATERAL (SELECT content_id FROM message WHERE mailbox_id = t.mailbox_id AND uid = placed.uid LIMIT 1) AS m
     WHERE s.mailbox_id = $1 AND t.mailbox_id = $2
       AND coalesce(s.special_use = '\Junk', false) <> coalesce(t.special_use = '\Junk', false)
       AND coalesce(t.special_use, '') <> '\Trash'
     ORDER BY placed.uid
    RETURNING 1)
SELECT pg_notify('postwerk_spam', '') FROM noted LIMIT 1
"""
_NOTE_MARKED = """
WITH noted AS (
    INSERT INTO spam_lesson (account_id, content_id, is_spam)
    SELECT b.account_id, m.content_id, $3
      FROM mailbox AS b, unnest($2::bigint[]) AS marked (uid),
           LATERAL (SELECT content_id FROM message WHERE mailbox_id = b.mailbox_id AND uid = marked.uid LIMIT 1) AS m
     WHERE b.mailbox_id = $1 ORDER BY marked.uid
    RETURNING 1)
SELECT pg_notify('postwerk_spam', '') FROM noted LIMIT 1
"""
_WAITING = """
SELECT l.lesson_id, a.tenant_id, l.account_id, l.content_id, l.is_spam
  FROM spam_lesson AS l JOIN account AS a USING (account_id) ORDER BY l.lesson_id LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One message that somebody sorted."""

    lesson_id: int
    tenant_id: int
    account_id: int
    content_id: int
    is_spam: bool


async def note_placed(connection: Connection, source_id: int, target_id: int, uids: Sequence[int]) -> None:
    """Messages came into a mailbox from another one, where they have these UIDs now. Teaches when one of the two is Junk."""
    await connection.execute(_NOTE_PLACED, source_id, target_id, uids)


async def note_marked(connection: Connection, mailbox_id: int, uids: Sequence[int], *, is_spam: bool) -> None:
    """Messages were marked as spam or not, wherever they lie."""
    await connection.execute(_NOTE_MARKED, mailbox_id, uids, is_spam)


async def waiting(connection: Connection, limit: int) -> list[Lesson]:
    """The next lessons, in their order."""
    return [Lesson(*row) for row in await connection.fetch(_WAITING, limit)]


async def count_waiting(pool: "Pool | Connection") -> int:
    """How many there are. Raises UnavailableError."""
    async with reported():
        found: int = await pool.fetchval("SELECT count(*) FROM spam_lesson")
    return found


async def done(connection: Connection, lesson_ids: Sequence[int]) -> None:
    """Remove them."""
    await connection.execute("DELETE FROM spam_lesson WHERE lesson_id = ANY ($1::bigint[])", lesson_ids)
