"""STORE and UID STORE, RFC 3501 §6.4.6: one statement for any number of messages, answered from the view."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext

from daemons.access.imap.events import changed_flags, expected, flags_of, happened
from daemons.access.imap.limiting import completed, limited
from daemons.access.imap.permissions import changeable
from daemons.access.imap.progress import alive
from daemons.access.imap.selected import Range, Selected
from daemons.access.imap.selecting import writable
from daemons.access.imap.session import Completion, RefusalError, Session
from daemons.access.imap.teaching import marked
from daemons.access.imap.view import View
from protocol.imap import command, response
from protocol.imap.flags import bits_of
from protocol.imap.sequence import SequenceSet
from storage import messages, spam_lessons
from storage.messages import EVERY_FLAG, KEYWORDS, Operation
from storage.rows import StoredFlags

_BATCH = 1000  # responses between two looks at how much waits to be sent


async def store(session: Session, asked: command.Store) -> Completion:
    """STORE. Messages that others have expunged are answered as RFC 2180 §4.2 has it."""
    if asked.unchanged_since is not None:
        session.enable(b"CONDSTORE")
    selected = writable(session)
    ranges = message_ranges(selected, asked.sequence, is_uid=asked.is_uid)
    ranges, limit_code = limited(session, selected, ranges)
    bits, keywords = spelled(session, selected.view, asked.flags, is_adding=asked.operation != "remove")
    _demand_any(selected, bits, keywords, asked.operation)
    uids = selected.uids_at(ranges)
    async with alive(session, asked.tag):
        stored = await change_flags(
            session, selected, uids, asked.operation, bits, keywords, unchanged_since=asked.unchanged_since
        )
    for row in stored.changed:
        selected.keep(row.uid, row.modseq)
    session.tell_keywords()
    missing = await _answer(session, selected, ranges, asked, {row.uid for row in stored.changed})
    if stored.refused:
        selected.view.is_stale = True  # who changed them may be another process: tell now what it did
        completion = Completion("some have changed since", _modified(selected, stored.refused, is_uid=asked.is_uid))
        if missing and not asked.is_uid:  # RFC 7162 §3.1.3, example 9
            raise RefusalError.no(completion.code, "some of the messages are gone")
        return completed(session, completion, limit_code)
    if missing and not asked.is_uid and not asked.is_silent:
        raise RefusalError.no(b"EXPUNGEISSUED", "some of the messages are gone")
    return completed(session, Completion("stored"), limit_code)


def _modified(selected: Selected, refused: Sequence[int], *, is_uid: bool) -> bytes:
    return response.modified(refused if is_uid else [selected.position(uid) + 1 for uid in refused])


async def change_flags(
    session: Session,
    selected: Selected,
    uids: Sequence[int],
    operation: Operation,
    bits: int,
    keywords: Sequence[str],
    *,
    unchanged_since: int | None = None,
) -> StoredFlags:
    """Change flags in the database and then in the view. Raises StorageError."""
    if not uids:
        return StoredFlags(0, ())
    view, may = selected.view, changeable(selected.rights)
    happening, changed = await expected(session, "FLAG", view), dict[int, str]()
    before = flags_of(view, uids) if happening is not None else {}
    is_spam = marked(operation, keywords) if may & KEYWORDS else None
    is_alone = is_spam is None and happening is None
    async with session.database() as connection, nullcontext() if is_alone else connection.transaction():
        stored = await messages.store_flags(
            connection, view.mailbox_id, uids, operation, bits, keywords, unchanged_since, viewer=view.viewer, may=may
        )
        if is_spam is not None:
            told = [row.uid for row in stored.changed]
            await spam_lessons.note_marked(connection, view.mailbox_id, told, is_spam=is_spam)
        if happening is not None:
            changed = changed_flags(before, stored.changed)
            await session.shared.events.note(connection, happening, changed)
    await view.absorb(stored, asyncio.get_running_loop().time())
    session.shared.views.touch(view.mailbox_id, but=view)
    if happening is not None and changed:
        await happened(session, happening, changed)
    return stored


def _demand_any(selected: Selected, bits: int, keywords: Sequence[str], operation: Operation) -> None:
    """NO when none of the flags may be changed; with a right to some, the others are passed over (RFC 4314 §4)."""
    wanted = bits | (KEYWORDS if keywords else 0)
    if not wanted and operation == "replace":
        wanted = EVERY_FLAG
    if wanted and not wanted & changeable(selected.rights):
        raise RefusalError.no(b"NOPERM", "your rights on this mailbox do not allow that")


def spelled(session: Session, view: View, flags: tuple[bytes, ...], *, is_adding: bool) -> tuple[int, list[str]]:
    """Bits and keywords; a keyword that the mailbox knows in another case is taken in that (RFC 9051 §2.3.2)."""
    bits, given = bits_of(flags)
    known = view.table.spellings
    keywords = {keyword.upper(): known.get(keyword.upper(), keyword) for keyword in given}
    are_new = is_adding and not keywords.keys() <= known.keys()
    if are_new and len(known.keys() | keywords.keys()) > session.shared.settings.keyword_limit:
        raise RefusalError.no(b"LIMIT", "too many keywords in this mailbox")
    return bits, list(keywords.values())


def message_ranges(selected: Selected, sequence: SequenceSet, *, is_uid: bool) -> list[Range]:
    """Position ranges of a command's set. BAD for a sequence number above the count (RFC 3501 §9, seq-number)."""
    if not is_uid and sequence.highest > selected.count:
        raise RefusalError.bad("no such message sequence number")
    return selected.ranges(sequence, is_uid=is_uid)


async def _answer(
    session: Session, selected: Selected, ranges: list[Range], asked: command.Store, changed: set[int]
) -> bool:
    """Put the new flags of all messages asked for; says whether some are gone.

    Silent: nothing, or with CONDSTORE the new MODSEQ of those that changed (RFC 7162 §3.1.3).
    """
    rows, table = selected.view.rows, selected.view.table
    has_modseq = session.has(b"CONDSTORE")
    with_uid = asked.is_uid and not session.has(b"UIDONLY")
    is_missing = False
    pieces = ((at, min(end, at + _BATCH)) for start, end in ranges for at in range(start, end, _BATCH))
    for start, end in pieces:
        positions, places = selected.rows_at(rows, start, end)
        is_missing |= len(positions) < end - start
        if asked.is_silent and not (has_modseq and changed):
            continue
        for position, place in zip(positions, places, strict=True):
            uid = rows.uids[place]
            if asked.is_silent and uid not in changed:
                continue
            items = [b"UID %d" % uid] if with_uid else []
            if not asked.is_silent:
                texts = table.recent_texts if selected.recent and selected.is_recent(uid) else table.texts
                items.append(b"FLAGS (%b)" % texts[rows.kinds[place]])
            if has_modseq:
                items.append(b"MODSEQ (%d)" % rows.modseqs[place])
            session.put(session.message_head(position, uid) + b" ".join(items) + response.FETCH_TAIL)
        if end - start == _BATCH:
            await session.room()
            await asyncio.sleep(0)  # sending need not suspend: let the others have their turn
            session.tell_keywords()
    return is_missing
