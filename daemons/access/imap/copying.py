"""COPY and MOVE with their UID forms: RFC 3501 §6.4.7, RFC 6851, COPYUID of RFC 4315 §3."""

from daemons.access.imap.mailboxes import check_quota, find
from daemons.access.imap.selected import Selected
from daemons.access.imap.selecting import chosen, writable
from daemons.access.imap.session import Completion, RefusalError, Session
from daemons.access.imap.storing import message_ranges
from protocol.imap import command, response
from storage import messages
from storage.errors import MailboxNotFoundError
from storage.rows import Copied


async def copy(session: Session, asked: command.Copy) -> Completion:
    """COPY: all messages or none."""
    selected = chosen(session)
    uids = _wanted(selected, asked)
    target = await find(session, asked.mailbox, missing=b"TRYCREATE")
    if not uids:
        return Completion("nothing to copy")
    rows = selected.view.rows
    await check_quota(session, sum(rows.sizes[place] for uid in uids if (place := rows.position(uid)) >= 0))
    try:
        async with session.database() as connection:
            copied = await messages.copy(connection, selected.view.mailbox_id, uids, target.mailbox_id)
    except MailboxNotFoundError:
        raise RefusalError.no(b"TRYCREATE", "no such mailbox") from None
    session.shared.views.touch(target.mailbox_id)
    return Completion("copied", _copyuid(copied))


async def move(session: Session, asked: command.Move) -> Completion:
    """MOVE, RFC 6851 §3.3: COPYUID goes before the EXPUNGE responses, which the synchronisation sends."""
    selected = writable(session)
    uids = _wanted(selected, asked)
    target = await find(session, asked.mailbox, missing=b"TRYCREATE")
    if not uids:
        return Completion("nothing to move")
    try:
        async with session.database() as connection:
            moved = await messages.move(connection, selected.view.mailbox_id, uids, target.mailbox_id)
    except MailboxNotFoundError:
        raise RefusalError.no(b"TRYCREATE", "no such mailbox") from None
    code = _copyuid(moved)
    if code is not None:
        session.put(response.untagged("OK", code, "moved"))
    session.shared.views.touch(selected.view.mailbox_id)
    session.shared.views.touch(target.mailbox_id)
    return Completion("moved")


def _wanted(selected: Selected, asked: command.Copy | command.Move) -> list[int]:
    """The UIDs to place. By sequence number, one that is gone makes the whole command fail (RFC 2180 §4.4.1)."""
    uids = selected.uids_at(message_ranges(selected, asked.sequence, is_uid=asked.is_uid))
    if selected.uids is selected.view.rows.uids:
        return uids
    present = [uid for uid in uids if selected.view.rows.position(uid) >= 0]
    if len(present) < len(uids) and not asked.is_uid:
        raise RefusalError.no(b"EXPUNGEISSUED", "some of the messages are gone")
    return present


def _copyuid(copied: Copied) -> bytes | None:
    if not copied.source_uids:
        return None
    return response.copyuid(copied.uidvalidity, copied.source_uids, copied.target_uids)
