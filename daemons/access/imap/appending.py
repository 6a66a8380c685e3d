"""APPEND, RFC 3501 §6.3.11, and REPLACE, RFC 8508: what arrives is stored like any other mail, all of it or nothing.

With several messages (MULTIAPPEND, RFC 3502), in parts (CATENATE, RFC 4469), in a literal8 (BINARY, RFC 3516), and in UTF8
(RFC 6855).
"""

from contextlib import AsyncExitStack
from dataclasses import replace

from daemons.access.imap.arriving import Arriving
from daemons.access.imap.events import came_in, expected
from daemons.access.imap.mailboxes import find
from daemons.access.imap.progress import alive
from daemons.access.imap.rights import demand, rights_on
from daemons.access.imap.selecting import writable
from daemons.access.imap.session import Completion, RefusalError, Session, State
from protocol.imap import response
from protocol.imap.append import Replaced
from protocol.imap.events import AppendStarts
from storage.errors import MailboxNotFoundError, NotFoundError
from storage.rows import Mailbox, NewMessage, Stored
from storage.sent import copy_of


async def append(session: Session, starts: AppendStarts) -> Completion | None:
    """Take or refuse the messages that begin. None: the command was refused while it was read, and that has been answered.

    Mailbox, room and flags are looked at before a waiting client is told to send (RFC 3501 §6.3.11, §7.5).
    """
    try:
        uid = None if starts.replaced is None else _replaced(session, starts.replaced)
        mailbox = await find(session, starts.mailbox, needs="i", missing=b"TRYCREATE")
        rights = await rights_on(session, mailbox.mailbox_id)
    except BaseException:
        session.reader.refuse()
        raise
    session.reader.accept()
    async with AsyncExitStack() as stack:
        arriving = Arriving(session, mailbox, rights, stack, freed_octets=_freed_octets(session, mailbox, uid))
        if not await arriving.read():
            return None
        stored = await _store(session, starts, mailbox, arriving, uid)
    placed = [one.placed[0] for one in stored]
    code = None
    # No UID: the database died with the outcome unknown, and the message has been moved on since. Without the right to read
    # the mailbox its UIDs are nobody's business (RFC 4315 §3).
    if all(one.uid for one in placed) and "r" in rights:
        code = response.appenduid(placed[0].uidvalidity, [one.uid for one in placed])
    if uid is None:
        return Completion("appended", code)
    if code is not None:
        session.put(response.untagged("OK", code, "replacement stored"))  # RFC 8508 §3.3: before the EXPUNGE
    return Completion("replaced")


def _replaced(session: Session, replaced: Replaced) -> int:
    """The UID of the message that goes."""
    if session.state is not State.SELECTED:
        raise RefusalError.bad("no mailbox is selected")
    selected = writable(session)
    demand(selected.rights, "te")  # RFC 8508 §4
    if replaced.is_uid:
        position = selected.position(selected.last_uid if replaced.number is None else replaced.number)
        if position < 0:
            raise RefusalError.no(None, "no such message")
        return selected.uids[position]
    if session.has(b"UIDONLY"):
        raise RefusalError("BAD", b"UIDREQUIRED", "no message sequence numbers after UIDONLY")
    seqnum = selected.count if replaced.number is None else replaced.number
    if not 0 < seqnum <= selected.count:
        raise RefusalError.bad("no such message sequence number")
    return selected.uids[seqnum - 1]


def _freed_octets(session: Session, mailbox: Mailbox, uid: int | None) -> int | None:
    """The octets that the replaced message gives back to the account."""
    selected = session.selected
    if uid is None or selected is None or selected.view.account_id != mailbox.account_id:
        return None
    place = selected.view.rows.position(uid)
    return selected.view.rows.sizes[place] if place >= 0 else None


async def _instead_of_ours(session: Session, mailbox: Mailbox, group: list[NewMessage]) -> list[NewMessage]:
    """The messages, each in the place of the copy that submission has just stored of it, if there is one.

    Most clients store what they send in the Sent mailbox themselves, a moment after they sent it: it is one message.
    """
    if mailbox.special_use != r"\Sent":
        return group
    within_seconds = session.shared.context.settings.submission.sent_copy_time
    found = []
    async with session.database() as connection:
        for new in group:
            message_id = new.facts.message_id
            ours = None
            if message_id is not None:
                ours = await copy_of(connection, mailbox.mailbox_id, message_id, within_seconds)
            found.append(new if ours is None else replace(new, replaces=(mailbox.mailbox_id, ours)))
    return found


async def _store(
    session: Session, starts: AppendStarts, mailbox: Mailbox, arriving: Arriving, uid: int | None
) -> list[Stored]:
    """Store all messages, and in the same transaction remove the one with this UID from the selected mailbox."""
    selected = session.selected
    replaces = None if uid is None or selected is None else (selected.view.mailbox_id, uid)
    group = await arriving.prepared(replaces)
    rooms = session.shared.rooms
    if uid is None:
        group = await _instead_of_ours(session, mailbox, group)
    happening = await expected(session, "APPEND", mailbox)
    if happening is not None:
        noted = session.shared.events.noted(happening)
        group = [replace(new, effects=(*new.effects, *noted)) for new in group]
    try:
        async with (
            alive(session, starts.tag),
            rooms.held(mailbox.account_id, *arriving.room),
        ):
            try:
                stored = await session.shared.context.ingest.store(group)
            except NotFoundError:
                if uid is not None:
                    raise
                stored = await session.shared.context.ingest.store([replace(new, replaces=None) for new in group])
    except MailboxNotFoundError:
        raise RefusalError.no(b"TRYCREATE", "no such mailbox") from None
    except NotFoundError:
        raise RefusalError.no(b"EXPUNGEISSUED", "the message is gone") from None
    uids = [one.placed[0].uid for one in stored]
    await arriving.mark_seen(uids)
    await came_in(session, starts.tag, happening, [uid for uid in uids if uid])
    session.shared.views.touch(mailbox.mailbox_id)
    if replaces is not None:
        session.shared.views.touch(replaces[0])
    return stored
