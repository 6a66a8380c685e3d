"""SELECT, EXAMINE, CLOSE, UNSELECT and EXPUNGE: RFC 3501 §6.3.1, §6.3.2, §6.4.2, §6.4.3; RFC 3691; RFC 4315 §2.1."""

from daemons.access.imap.mailboxes import find
from daemons.access.imap.selected import Selected
from daemons.access.imap.session import Completion, RefusalError, Session, State
from protocol.imap import command, response
from protocol.imap.flags import SYSTEM_FLAGS
from storage import messages
from storage.errors import MailboxNotFoundError


async def select(session: Session, asked: command.Select | command.Examine) -> Completion:
    """SELECT and EXAMINE. A failure leaves no mailbox selected (RFC 3501 §6.3.1)."""
    session.deselect()
    if asked.is_condstore or asked.resync:
        raise RefusalError.bad("unknown parameter")
    is_read_only = isinstance(asked, command.Examine)
    mailbox = await find(session, asked.mailbox)
    try:
        view = await session.shared.views.acquire(mailbox.mailbox_id)
    except MailboxNotFoundError:  # deleted a moment ago
        session.shared.views.forget(mailbox.mailbox_id)
        raise
    view.recent_uid = max(view.recent_uid, mailbox.recent_uid)
    session.selected = selected = Selected(view, is_read_only=is_read_only)
    session.state = State.SELECTED
    try:
        await session.claim_recent(selected)
    except BaseException:
        session.deselect()
        raise
    _describe(session, selected)
    if is_read_only:
        return Completion("selected, read only", b"READ-ONLY")
    return Completion("selected", b"READ-WRITE")


def _describe(session: Session, selected: Selected) -> None:
    view = selected.view
    known = [*SYSTEM_FLAGS, *(keyword.encode() for keyword in view.table.spellings.values())]
    permanent = [] if selected.is_read_only else [*known, rb"\*"]
    lines = [
        response.flags_line(known),
        response.untagged("OK", response.permanentflags(permanent), "flags that stay"),
        response.exists(selected.count),
        response.recent(selected.recent_count()),
    ]
    first_unseen = view.first_unseen()
    if 0 <= first_unseen < selected.count:
        lines.append(response.untagged("OK", b"UNSEEN %d" % (first_unseen + 1), "first unseen message"))
    lines.append(response.untagged("OK", b"UIDVALIDITY %d" % view.uidvalidity, "UIDs are valid"))
    lines.append(response.untagged("OK", b"UIDNEXT %d" % max(view.uidnext, selected.last_uid + 1), "next UID"))
    session.put(b"".join(lines))


async def close(session: Session, _: command.Close) -> Completion:
    """CLOSE, RFC 3501 §6.4.2: expunge without telling, then leave."""
    selected = chosen(session)
    try:
        if not selected.is_read_only:
            await session.shared.views.freshen(selected.view)
            if selected.view.has_deleted():
                await _expunge(session, None)
    finally:
        session.deselect()
    return Completion("closed")


async def unselect(session: Session, _: command.Unselect) -> Completion:
    """UNSELECT, RFC 3691 §2: leave without expunging."""
    session.deselect()
    return Completion("unselected")


async def expunge(session: Session, asked: command.Expunge) -> Completion:
    """EXPUNGE, and UID EXPUNGE of RFC 4315 §2.1. The synchronisation that follows tells which messages went."""
    selected = writable(session)
    uids = None
    if asked.uids is not None:
        uids = selected.uids_at(selected.uid_positions(asked.uids))
        if not uids:
            return Completion("nothing to expunge")
    await _expunge(session, uids)
    return Completion("expunged")


async def _expunge(session: Session, uids: list[int] | None) -> None:
    mailbox_id = chosen(session).view.mailbox_id
    async with session.database() as connection:
        removed = await messages.expunge(connection, mailbox_id, uids)
    if removed:
        session.shared.views.touch(mailbox_id)


def chosen(session: Session) -> Selected:
    """The selected mailbox; only in the selected state."""
    assert session.selected is not None
    return session.selected


def writable(session: Session) -> Selected:
    """The selected mailbox, unless EXAMINE opened it (RFC 3501 §6.3.2)."""
    selected = chosen(session)
    if selected.is_read_only:
        raise RefusalError.no(None, "mailbox is selected read only")
    return selected
