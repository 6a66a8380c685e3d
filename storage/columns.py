"""A whole mailbox as columns: what a view of 100,000 messages is made of, read in a tenth of the time that rows take.

The server sends each column as the octets that it will be here (int8send() and its like, joined): no value of it is ever
an object on the way.
"""

import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from storage.errors import MailboxNotFoundError
from storage.mailboxes import MAILBOX_COLUMNS, mailbox_row
from storage.pool import Connection, reported
from storage.rows import Mailbox

# One statement, so that the columns are of the very state that highestmodseq names. Size and flags share an integer.
_COLUMNS = """
SELECT {mailbox}, c.*
  FROM mailbox AS b, LATERAL (
    SELECT string_agg(int8send(p.uid), '') AS uids, string_agg(int8send(p.modseq), '') AS modseqs,
           string_agg(int8send(p.size_octets << 16 | p.flags), '') AS sizes_and_flags,
           string_agg(timestamptz_send(p.internaldate), '') AS dates, string_agg(int8send(p.content_id), '') AS contents,
           array_agg(p.uid) FILTER (WHERE p.keywords IS NOT NULL) AS uids_with_keywords,
           array_agg(array_to_string(p.keywords, ' ')) FILTER (WHERE p.keywords IS NOT NULL) AS keywords
      FROM ({placed} ORDER BY uid) AS p) AS c
 WHERE b.mailbox_id = $1
"""
_MAILBOX = ", ".join(f"b.{column.strip()}" for column in MAILBOX_COLUMNS.split(","))
_PLACED = (
    "SELECT uid, modseq, flags, keywords, size_octets, internaldate, content_id FROM message WHERE mailbox_id = $1"
)
# The same for a viewer with a \Seen of its own ($2): schema/0007_sharing.sql.
_PLACED_AS = r"""
SELECT m.uid, greatest(m.modseq, s.modseq) AS modseq, (m.flags & ~1) | coalesce(s.is_seen, false)::int AS flags, m.keywords,
       m.size_octets, m.internaldate, m.content_id
  FROM message AS m
  LEFT JOIN LATERAL (SELECT modseq, is_seen FROM viewer_seen
                      WHERE mailbox_id = $1 AND uid = m.uid AND account_id = $2 OFFSET 0) AS s ON true
 WHERE m.mailbox_id = $1"""
_READ = _COLUMNS.format(mailbox=_MAILBOX, placed=_PLACED)
_READ_AS = _COLUMNS.format(mailbox=_MAILBOX, placed=_PLACED_AS)
_FLAG_BITS = 0xFFFF
_MICROSECONDS, _EPOCH = 1_000_000, 946_684_800  # PostgreSQL counts from 2000-01-01


@dataclass(frozen=True, slots=True)
class Columns:
    """Parallel arrays, ascending by UID."""

    uids: "array[int]"  # "I"
    modseqs: "array[int]"  # "Q"
    sizes: "array[int]"  # "Q"
    dates: "array[int]"  # "q": INTERNALDATE, seconds since 1970 (UTC)
    contents: "array[int]"  # "Q"
    flags: "array[int]"  # "H": system flags as bits
    keywords: Mapping[int, tuple[str, ...]]  # by UID, where there are any


async def read_columns(connection: Connection, mailbox_id: int, viewer: int = 0) -> tuple[Mailbox, Columns]:
    r"""The mailbox and all its messages of one moment, in one round trip. Raises MailboxNotFoundError.

    `viewer` is the account whose own \Seen is meant, 0 for the one that the mailbox keeps.
    """
    async with reported():
        if viewer:
            row = await connection.fetchrow(_READ_AS, mailbox_id, viewer)
        else:
            row = await connection.fetchrow(_READ, mailbox_id)
    if row is None:
        raise MailboxNotFoundError(f"mailbox {mailbox_id}")
    both = integers(row["sizes_and_flags"])
    with_keywords = zip(row["uids_with_keywords"] or (), row["keywords"] or (), strict=True)
    return mailbox_row(row), Columns(
        uids=array("I", integers(row["uids"])),
        modseqs=integers(row["modseqs"]),
        sizes=array("Q", [value >> 16 for value in both]),
        dates=array("q", [value // _MICROSECONDS + _EPOCH for value in integers(row["dates"], "q")]),
        contents=integers(row["contents"]),
        flags=array("H", [value & _FLAG_BITS for value in both]),
        keywords={uid: tuple(text.split(" ")) for uid, text in with_keywords},
    )


def integers(octets: bytes | None, typecode: str = "Q") -> "array[int]":
    """What int8send() wrote, which is big-endian wherever the server runs; None is what it wrote of no rows."""
    column = array(typecode, octets or b"")
    if sys.byteorder == "little":
        column.byteswap()
    return column
