"""COPY and MOVE with their UID forms: RFC 3501 §6.4.7, RFC 6851, COPYUID of RFC 4315 §3."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from daemons.access.imap.events import came_in, expected
from daemons.access.imap.limiting import check_saved, completed, limited
from daemons.access.imap.mailboxes import find
from daemons.access.imap.permissions import changeable
from daemons.access.imap.progress import alive
from daemons.access.imap.rights import rights_on, viewer_of
from daemons.access.imap.selected import Selected
from daemons.access.imap.selecting import chosen, expunged, writable
from daemons.access.imap.session import Completion, RefusalError, Session
from daemons.access.imap.storing import message_ranges
from daemons.access.imap.teaching import sorts
from protocol.imap import command, response
from storage import messages, spam_lessons
from storage.errors import MailboxNotFoundError
from storage.mailbox_events import Happening
from storage.messages import Sharing
from storage.pool import Connection
from storage.rows import Copied, Mailbox

Placing = Callable[[Connection, int, list[int], int, Sharing], Awaitable[Copied]]


async def copy(session: Session, asked: command.Copy) -> Completion:
    """COPY: all messages or none."""
    selected = chosen(session)
    uids, _ = _wanted(session, selected, asked)
    target = await find(session, asked.mailbox, needs="i", missing=b"TRYCREATE")
    if not uids:
        return Completion("nothing to copy")
    happening = await expected(session, "COPY", target)
    copied = await _placed(session, asked, uids, target, messages.copy, happening)
    await came_in(session, asked.tag, happening, copied.target_uids)
    session.shared.views.touch(target.mailbox_id)
    return Completion("copied", await _copyuid(session, target, copied))


async def move(session: Session, asked: command.Move) -> Completion:
    """MOVE, RFC 6851 §3.3: COPYUID goes before the EXPUNGE responses, which the synchronisation sends."""
    selected = writable(session, "te")
    uids, limit_code = _wanted(session, selected, asked)
    target = await find(session, asked.mailbox, needs="i", missing=b"TRYCREATE")
    if not uids:
        return Completion("nothing to move")
    happening = await expected(session, "COPY", target)
    moved = await _placed(session, asked, uids, target, messages.move, happening)
    if not moved.source_uids:
        return Completion("nothing to move")
    await came_in(session, asked.tag, happening, moved.target_uids)
    if (code := await _copyuid(session, target, moved)) is not None:
        session.put(response.untagged("OK", code, "moved"))
    session.shared.views.touch(selected.view.mailbox_id)
    session.shared.views.touch(target.mailbox_id)
    return completed(session, await expunged(session, "moved"), limit_code)


async def _placed(
    session: Session,
    asked: command.Copy | command.Move,
    uids: list[int],
    target: Mailbox,
    place: Placing,
    happening: Happening | None,
) -> Copied:
    """Copy or move, and note what that starts. By sequence number, one that another process has expunged undoes it all.

    Raises StorageError.
    """
    view = chosen(session).view
    source_id = view.mailbox_id
    may = changeable(await rights_on(session, target.mailbox_id))
    sharing = Sharing(view.viewer, viewer_of(session, target), may)
    try:
        room = _room(session, uids, target, is_move=isinstance(asked, command.Move))
        async with alive(session, asked.tag), room, session.database() as connection:
            teaches = sorts(view, target)
            if asked.is_uid and not teaches and happening is None:
                return await place(connection, source_id, uids, target.mailbox_id, sharing)
            async with connection.transaction():
                placed = await place(connection, source_id, uids, target.mailbox_id, sharing)
                if len(placed.source_uids) < len(uids) and not asked.is_uid:
                    session.shared.views.touch(source_id)
                    raise RefusalError.no(b"EXPUNGEISSUED", "some of the messages are gone")
                if teaches:
                    await spam_lessons.note_placed(connection, source_id, target.mailbox_id, placed.target_uids)
                if happening is not None:
                    await session.shared.events.note(connection, happening, dict.fromkeys(placed.target_uids, ""))
                return placed
    except MailboxNotFoundError:
        raise RefusalError.no(b"TRYCREATE", "no such mailbox") from None


def _room(session: Session, uids: list[int], target: Mailbox, *, is_move: bool) -> AbstractAsyncContextManager[None]:
    """Room for the copies in the target's account (RFC 9208 §4.3.1); what moves within one account takes none."""
    view, rooms = chosen(session).view, session.shared.rooms
    if rooms.is_unlimited(target.account_id) or (is_move and view.account_id == target.account_id):
        return nullcontext()
    rows = view.rows
    size_octets = sum(rows.sizes[place] for uid in uids if (place := rows.position(uid)) >= 0)
    return rooms.held(target.account_id, size_octets, len(uids))


def _wanted(session: Session, selected: Selected, asked: command.Copy | command.Move) -> tuple[list[int], bytes | None]:
    """The UIDs to place, and MESSAGELIMIT if these are not all that were asked for.

    By sequence number, one that is gone makes the whole command fail (RFC 2180 §4.4.1).
    """
    ranges = message_ranges(selected, asked.sequence, is_uid=asked.is_uid)
    limit_code = None
    if isinstance(asked, command.Copy):
        check_saved(session, sum(end - start for start, end in ranges))
    else:
        ranges, limit_code = limited(session, selected, ranges)
    uids = selected.uids_at(ranges)
    if selected.uids is selected.view.rows.uids:
        return uids, limit_code
    present = [uid for uid in uids if selected.view.rows.position(uid) >= 0]
    if len(present) < len(uids) and not asked.is_uid:
        raise RefusalError.no(b"EXPUNGEISSUED", "some of the messages are gone")
    return present, limit_code


async def _copyuid(session: Session, target: Mailbox, copied: Copied) -> bytes | None:
    """COPYUID, where something was placed. Who may not read the target learns nothing of its UIDs (RFC 4315 §3)."""
    if not copied.source_uids or "r" not in await rights_on(session, target.mailbox_id):
        return None
    return response.copyuid(copied.uidvalidity, copied.source_uids, copied.target_uids)
