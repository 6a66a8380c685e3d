"""STORE and UID STORE, RFC 3501 §6.4.6: one statement for any number of messages, answered from the view."""

import asyncio
from collections.abc import Sequence

from daemons.access.imap.selected import Range, Selected
from daemons.access.imap.selecting import writable
from daemons.access.imap.session import Completion, RefusalError, Session
from daemons.access.imap.view import View
from protocol.imap import command
from protocol.imap.flags import bits_of
from protocol.imap.sequence import SequenceSet
from storage import messages
from storage.messages import Operation
from storage.rows import StoredFlags


async def store(session: Session, asked: command.Store) -> Completion:
    """STORE. Messages that others have expunged are answered as RFC 2180 §4.2 has it."""
    if asked.unchanged_since is not None:
        raise RefusalError.bad("CONDSTORE is not offered")
    selected = writable(session)
    ranges = message_ranges(selected, asked.sequence, is_uid=asked.is_uid)
    bits, keywords = spelled(session, selected.view, asked.flags, is_adding=asked.operation != "remove")
    uids = selected.uids_at(ranges)
    stored = await change_flags(session, selected, uids, asked.operation, bits, keywords)
    for row in stored.changed:
        selected.keep(row.uid, row.modseq)
    missing = _answer(session, selected, ranges, asked)
    if missing and not asked.is_uid and not asked.is_silent:
        raise RefusalError.no(b"EXPUNGEISSUED", "some of the messages are gone")
    return Completion("stored")


async def change_flags(
    session: Session, selected: Selected, uids: Sequence[int], operation: Operation, bits: int, keywords: Sequence[str]
) -> StoredFlags:
    """Change flags in the database and then in the view. Raises StorageError."""
    if not uids:
        return StoredFlags(0, ())
    async with session.database() as connection:
        stored = await messages.store_flags(connection, selected.view.mailbox_id, uids, operation, bits, keywords)
    await selected.view.absorb(stored, asyncio.get_running_loop().time())
    return stored


def spelled(session: Session, view: View, flags: tuple[bytes, ...], *, is_adding: bool) -> tuple[int, list[str]]:
    """Bits and keywords; a keyword that the mailbox knows in another case is taken in that (RFC 9051 §2.3.2)."""
    bits, given = bits_of(flags)
    known = view.table.spellings
    keywords = {keyword.upper(): known.get(keyword.upper(), keyword) for keyword in given}
    if is_adding and len(known.keys() | keywords.keys()) > session.shared.settings.keyword_limit:
        raise RefusalError.no(b"LIMIT", "too many keywords in this mailbox")
    return bits, list(keywords.values())


def message_ranges(selected: Selected, sequence: SequenceSet, *, is_uid: bool) -> list[Range]:
    """Position ranges of a command's set. BAD for a sequence number above the count (RFC 3501 §9, seq-number)."""
    if sequence.is_saved:
        raise RefusalError.bad("SEARCHRES is not offered")
    if not is_uid and sequence.highest > selected.count:
        raise RefusalError.bad("no such message sequence number")
    return selected.ranges(sequence, is_uid=is_uid)


def _answer(session: Session, selected: Selected, ranges: list[Range], asked: command.Store) -> bool:
    """Put the new flags of all messages asked for, unless silent; says whether some are gone."""
    rows, table = selected.view.rows, selected.view.table
    is_missing = False
    for start, end in ranges:
        positions, places = selected.rows_at(rows, start, end)
        is_missing |= len(positions) < end - start
        if asked.is_silent:
            continue
        for position, place in zip(positions, places, strict=True):
            uid = rows.uids[place]
            texts = table.recent_texts if selected.recent and selected.is_recent(uid) else table.texts
            flags = texts[rows.kinds[place]]
            head = session.message_head(position, uid)
            if asked.is_uid:
                session.put(head + b"UID %d FLAGS (%b))\r\n" % (uid, flags))
            else:
                session.put(head + b"FLAGS (%b))\r\n" % flags)
    return is_missing
