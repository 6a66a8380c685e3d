"""The messages of a mailbox: reading a view, what changed, flags, copies, removal. Every write is one call of a SQL function
that holds the mailbox row's lock (schema/0010_writes.sql), so MODSEQ is monotonic at commit."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import asyncpg

from storage.errors import MailboxNotFoundError
from storage.mailboxes import MAILBOX_COLUMNS, mailbox_row
from storage.pool import Connection, reported
from storage.rows import (
    ANSWERED,
    DELETED,
    DRAFT,
    FLAGGED,
    SEEN,
    Changes,
    Copied,
    Mailbox,
    MessageRow,
    StoredFlags,
)

KEYWORDS = 32  # beside the bits of the system flags, where it is said which flags may change
EVERY_FLAG = SEEN | ANSWERED | FLAGGED | DELETED | DRAFT | KEYWORDS


class Sharing(NamedTuple):
    """What is different about a COPY or MOVE between mailboxes of others."""

    source_viewer: int = 0  # whose \Seen the messages have
    target_viewer: int = 0  # whose \Seen they get
    may: int = EVERY_FLAG  # what flags they keep (RFC 4314 §4)


OWNERS = Sharing()
Operation = Literal["add", "remove", "replace"]
Fact = Literal["envelope", "bodystructure", "structure", "header_cache", "head", "sorting"]

_ROW = "uid, modseq, flags, keywords, size_octets, internaldate, content_id"
_HEAD = "SELECT highestmodseq, uidnext, expunged_forgotten, changes_forgotten FROM mailbox WHERE mailbox_id = $1"
_SNAPSHOT = f"SELECT {_ROW} FROM message WHERE mailbox_id = $1 ORDER BY uid"
_SOME = f"SELECT {_ROW} FROM message WHERE mailbox_id = $1 AND uid = ANY ($2::bigint[]) ORDER BY uid"
# What changed after a MODSEQ: schema/0010_writes.sql tells how it is found. Behind `edge` all messages are newer.
_EDGE = """
WITH edge AS MATERIALIZED (
    SELECT coalesce((SELECT uid FROM message WHERE mailbox_id = $1 AND modseq <= $2 ORDER BY uid DESC LIMIT 1), 0) AS uid),
span AS MATERIALIZED (
    SELECT unnest(range_agg(int8range(r.low, r.high, '[]'))) AS uids
      FROM message_change AS c, unnest(c.lows, c.highs) AS r (low, high) WHERE c.mailbox_id = $1 AND c.modseq > $2)
"""
# LATERAL with OFFSET 0: a plan that was made while the tables were small must look each span up in the index, too.
_IN_SPAN = "uid >= lower(span.uids) AND uid < upper(span.uids) AND uid <= edge.uid AND modseq > $2 OFFSET 0"
_CHANGED = f"""
{_EDGE}
SELECT {_ROW} FROM message WHERE mailbox_id = $1 AND uid > (SELECT uid FROM edge)
 UNION ALL
SELECT m.* FROM edge CROSS JOIN span CROSS JOIN LATERAL (
    SELECT {_ROW} FROM message WHERE mailbox_id = $1 AND {_IN_SPAN}) AS m
 ORDER BY uid
"""
_SCANNED = f"SELECT {_ROW} FROM message WHERE mailbox_id = $1 AND modseq > $2 ORDER BY uid"
# The same for a viewer with a \Seen of its own ($2, or $3 behind the MODSEQ): schema/0007_sharing.sql.
_VIEWER_ROW = (
    "m.uid, greatest(m.modseq, s.modseq) AS modseq, ((m.flags & ~1) | coalesce(s.is_seen, false)::int)::smallint AS flags, "
    "m.keywords, m.size_octets, m.internaldate, m.content_id FROM {messages} AS m "
    "LEFT JOIN LATERAL (SELECT modseq, is_seen FROM viewer_seen "
    "WHERE mailbox_id = $1 AND uid = m.uid AND account_id = {viewer} OFFSET 0) AS s ON true"
)
_SNAPSHOT_AS = f"SELECT {_VIEWER_ROW.format(messages='message', viewer='$2')} WHERE m.mailbox_id = $1 ORDER BY m.uid"
_VIEWED = "(SELECT uid FROM viewer_seen WHERE mailbox_id = $1 AND account_id = $3 AND modseq > $2) AS viewed"
_IS_VIEWED = "mailbox_id = $1 AND uid = viewed.uid OFFSET 0"
_OF_VIEWED = f"(SELECT m.* FROM {_VIEWED}, LATERAL (SELECT * FROM message WHERE {_IS_VIEWED}) AS m)"
_VIEWED_AS = f"SELECT {_VIEWER_ROW.format(messages=_OF_VIEWED, viewer='$3')}"
_OF_SPAN = f"(SELECT m.* FROM edge, span, LATERAL (SELECT * FROM message WHERE mailbox_id = $1 AND {_IN_SPAN}) AS m)"
_CHANGED_AS = f"""
{_EDGE}
SELECT {_VIEWER_ROW.format(messages="message", viewer="$3")} WHERE m.mailbox_id = $1 AND m.uid > (SELECT uid FROM edge)
 UNION
SELECT {_VIEWER_ROW.format(messages=_OF_SPAN, viewer="$3")}
 UNION
{_VIEWED_AS} ORDER BY uid
"""
_SCANNED_AS = (
    f"SELECT {_VIEWER_ROW.format(messages='message', viewer='$3')} WHERE m.mailbox_id = $1 AND m.modseq > $2 "
    f"UNION {_VIEWED_AS} ORDER BY uid"
)
_EXPUNGED = "SELECT uid FROM expunged WHERE mailbox_id = $1 AND modseq > $2 ORDER BY uid"
_EXPUNGED_SINCE = """
SELECT CASE WHEN m.expunged_forgotten <= $2
            THEN ARRAY(SELECT uid FROM expunged WHERE mailbox_id = $1 AND modseq > $2 ORDER BY uid) END AS uids
  FROM mailbox AS m WHERE m.mailbox_id = $1
"""
_FACTS = "SELECT content_id, {columns} FROM content WHERE content_id = ANY ($1::bigint[])"
_CONTENT = "SELECT content_id FROM message WHERE mailbox_id = $1 AND uid = $2"
_SAVEDATES = "SELECT uid, savedate FROM message WHERE mailbox_id = $1 AND uid BETWEEN $2 AND $3"
_KNOWN_FACTS = frozenset({"envelope", "bodystructure", "structure", "header_cache", "head", "sorting"})


def _message_row(row: asyncpg.Record) -> MessageRow:
    uid, modseq, flags, keywords, size_octets, internaldate, content_id = row[:7]
    return MessageRow(uid, modseq, flags, tuple(keywords) if keywords else (), size_octets, internaldate, content_id)


async def _call(connection: Connection, statement: str, *arguments: object) -> list[asyncpg.Record]:
    try:
        async with reported():
            return await connection.fetch(statement, *arguments)
    except asyncpg.PostgresError as error:
        if error.sqlstate == "PW404":
            raise MailboxNotFoundError(str(error)) from error
        raise


def _ranges(uids: Sequence[int]) -> tuple[list[int], list[int]]:
    """UIDs as ranges, ascending and disjoint, ends included: one look into the index for each, not for each UID."""
    lows: list[int] = []
    highs: list[int] = []
    last = -1
    for uid in uids:
        if uid == last + 1 and lows:
            highs[-1] = last = uid
        elif uid > last:
            lows.append(uid)
            highs.append(uid)
            last = uid
        else:
            return _ranges(sorted(set(uids)))
    return lows, highs


async def snapshot(connection: Connection, mailbox_id: int, viewer: int = 0) -> tuple[Mailbox, list[MessageRow]]:
    r"""The mailbox and all its messages, ascending by UID, of one moment. Raises MailboxNotFoundError.

    `viewer`, here and below, is the account whose own \Seen is meant, 0 for the one that the mailbox keeps.
    """
    async with reported(), connection.transaction(isolation="repeatable_read", readonly=True):
        found = await connection.fetchrow(f"SELECT {MAILBOX_COLUMNS} FROM mailbox WHERE mailbox_id = $1", mailbox_id)
        if found is None:
            raise MailboxNotFoundError(f"mailbox {mailbox_id}")
        if viewer:
            rows = await connection.fetch(_SNAPSHOT_AS, mailbox_id, viewer)
        else:
            rows = await connection.fetch(_SNAPSHOT, mailbox_id)
    return mailbox_row(found), [_message_row(row) for row in rows]


async def changes(connection: Connection, mailbox_id: int, since_modseq: int, viewer: int = 0) -> Changes:
    """What happened after `since_modseq`, of one moment. Raises MailboxNotFoundError when the mailbox is gone."""
    async with reported():
        head = await connection.fetchrow(_HEAD, mailbox_id)
    if head is None:
        raise MailboxNotFoundError(f"mailbox {mailbox_id}")
    if head["highestmodseq"] <= since_modseq:  # the usual answer, in one query
        return Changes(head["highestmodseq"], head["uidnext"], (), ())
    async with reported(), connection.transaction(isolation="repeatable_read", readonly=True):
        head = await connection.fetchrow(_HEAD, mailbox_id)
        if head is None:
            raise MailboxNotFoundError(f"mailbox {mailbox_id}")
        is_whole = since_modseq < head["expunged_forgotten"]  # the keeper trimmed what we ask for
        since = 0 if is_whole else since_modseq
        is_logged = since >= head["changes_forgotten"]
        if viewer:
            changed = await connection.fetch(_CHANGED_AS if is_logged else _SCANNED_AS, mailbox_id, since, viewer)
        else:
            changed = await connection.fetch(_CHANGED if is_logged else _SCANNED, mailbox_id, since)
        expunged = [] if is_whole else await connection.fetch(_EXPUNGED, mailbox_id, since_modseq)
    return Changes(
        head["highestmodseq"],
        head["uidnext"],
        tuple(map(_message_row, changed)),
        tuple(row["uid"] for row in expunged),
        is_whole,
    )


async def expunged_since(connection: Connection, mailbox_id: int, modseq: int) -> list[int] | None:
    """UIDs expunged after `modseq`, ascending; None when the keeper has trimmed what is asked for.

    Raises MailboxNotFoundError.
    """
    async with reported():
        found = await connection.fetchrow(_EXPUNGED_SINCE, mailbox_id, modseq)
    if found is None:
        raise MailboxNotFoundError(f"mailbox {mailbox_id}")
    uids: list[int] | None = found["uids"]
    return uids


async def store_flags(
    connection: Connection,
    mailbox_id: int,
    uids: Sequence[int],
    operation: Operation,
    flags: int,
    keywords: Sequence[str],
    unchanged_since: int | None = None,
    *,
    viewer: int = 0,
    may: int = EVERY_FLAG,
) -> StoredFlags:
    """Change those of the flags that `may` holds: bits of system flags, and KEYWORDS.

    Messages that have the wanted flags already keep their MODSEQ and are not in the answer. Raises MailboxNotFoundError.
    """
    statement = "SELECT * FROM store_flags($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    arguments = operation, flags, list(keywords), unchanged_since, viewer, may
    rows = await _call(connection, statement, mailbox_id, *_ranges(uids), *arguments)
    changed = tuple(_message_row(row) for row in rows if not row["refused"])
    refused = tuple(row["uid"] for row in rows if row["refused"])
    return StoredFlags(changed[0].modseq if changed else 0, changed, refused)


async def copy(
    connection: Connection,
    source_mailbox_id: int,
    uids: Sequence[int],
    target_mailbox_id: int,
    sharing: Sharing = OWNERS,
) -> Copied:
    """Place the messages in another mailbox of the same tenant as well; all or none. Raises MailboxNotFoundError."""
    return await _place(connection, "copy_messages", source_mailbox_id, uids, target_mailbox_id, sharing)


async def move(
    connection: Connection,
    source_mailbox_id: int,
    uids: Sequence[int],
    target_mailbox_id: int,
    sharing: Sharing = OWNERS,
) -> Copied:
    """Copy and remove in one transaction. Raises MailboxNotFoundError."""
    return await _place(connection, "move_messages", source_mailbox_id, uids, target_mailbox_id, sharing)


async def _place(
    connection: Connection, function: str, source: int, uids: Sequence[int], target: int, sharing: Sharing
) -> Copied:
    statement = f"SELECT * FROM {function}($1, $2, $3, $4, $5, $6, $7)"
    return _copied(await _call(connection, statement, source, *_ranges(uids), target, *sharing))


def _copied(rows: list[asyncpg.Record]) -> Copied:
    source = tuple(row["source_uid"] for row in rows)
    return Copied(rows[0]["uidvalidity"] if rows else 0, source, tuple(row["target_uid"] for row in rows))


async def expunge(connection: Connection, mailbox_id: int, uids: Sequence[int] | None = None) -> list[int]:
    """Remove what has the Deleted flag, of `uids` or of all. Returns the removed UIDs, ascending."""
    return await _remove(connection, mailbox_id, uids, deleted_only=True)


async def remove(connection: Connection, mailbox_id: int, uids: Sequence[int]) -> list[int]:
    """Remove these messages whatever their flags. Returns the removed UIDs, ascending."""
    return await _remove(connection, mailbox_id, uids, deleted_only=False)


async def _remove(
    connection: Connection, mailbox_id: int, uids: Sequence[int] | None, *, deleted_only: bool
) -> list[int]:
    lows, highs = (None, None) if uids is None else _ranges(uids)
    statement = "SELECT remove_messages($1, $2, $3, $4)"
    return [row[0] for row in await _call(connection, statement, mailbox_id, lows, highs, deleted_only)]


async def content_of(connection: Connection, mailbox_id: int, uid: int) -> int | None:
    """The content of one message; None when there is no such UID."""
    async with reported():
        found: int | None = await connection.fetchval(_CONTENT, mailbox_id, uid)
    return found


async def rows(connection: Connection, mailbox_id: int, uids: Sequence[int]) -> list[MessageRow]:
    """These messages as they are now, ascending by UID; those that are gone are left out."""
    async with reported():
        found = await connection.fetch(_SOME, mailbox_id, list(uids))
    return [_message_row(row) for row in found]


async def savedates(connection: Connection, mailbox_id: int, first_uid: int, last_uid: int) -> dict[int, int]:
    """When the messages of a range of UIDs came into this mailbox, by UID, in seconds since 1970."""
    async with reported():
        rows = await connection.fetch(_SAVEDATES, mailbox_id, first_uid, last_uid)
    return {uid: int(savedate.timestamp()) for uid, savedate in rows}


async def facts(
    connection: Connection, content_ids: Sequence[int], columns: Sequence[Fact]
) -> dict[int, asyncpg.Record]:
    """What was computed at intake, by content id: `columns`, about 1 KB of each content. Ids that are gone are left out.

    By content, not by message: a third of the time, as neighbours share their page and nothing is joined.
    """
    assert columns
    assert _KNOWN_FACTS.issuperset(columns)
    statement = _FACTS.format(columns=", ".join(columns))
    async with reported():
        return {record["content_id"]: record for record in await connection.fetch(statement, content_ids)}
