"""SELECT, EXAMINE, CLOSE, UNSELECT and EXPUNGE: RFC 3501 §6.3.1, §6.3.2, §6.4.2, §6.4.3; RFC 3691; RFC 4315 §2.1."""

from daemons.access.imap import resyncing
from daemons.access.imap.limiting import completed, limited
from daemons.access.imap.mailboxes import find
from daemons.access.imap.permissions import is_read_write
from daemons.access.imap.progress import alive
from daemons.access.imap.quota import warn_if_full
from daemons.access.imap.rights import rights_on, viewer_of
from daemons.access.imap.selected import Range, Selected
from daemons.access.imap.session import Completion, RefusalError, Session, State
from daemons.access.imap.view import View
from protocol.imap import command, response
from protocol.imap.objectid import mailbox_id
from protocol.imap.sequence import ranges_of
from storage import messages
from storage.errors import MailboxNotFoundError
from storage.rows import DELETED


async def select(session: Session, asked: command.Select | command.Examine) -> Completion:
    """SELECT and EXAMINE. A failure leaves no mailbox selected (RFC 3501 §6.3.1)."""
    if asked.resync is not None:
        resyncing.check(session, asked.resync)
    if session.selected is not None:
        session.deselect()
        session.put(response.untagged("OK", b"CLOSED", "the mailbox before is closed"))  # RFC 7162 §3.2.11
    if asked.is_condstore:
        session.enable(b"CONDSTORE")
    is_read_only = isinstance(asked, command.Examine)
    mailbox = await find(session, asked.mailbox)
    try:
        viewer, modseq = viewer_of(session, mailbox), mailbox.highestmodseq
        view = await session.shared.views.acquire(mailbox.mailbox_id, viewer, modseq=modseq)
    except MailboxNotFoundError:  # deleted a moment ago
        session.shared.views.forget(mailbox.mailbox_id)
        raise
    view.recent_uid = max(view.recent_uid, mailbox.recent_uid)
    rights = await _rights(session, view)
    session.selected = selected = Selected(view, is_read_only=is_read_only, rights=rights)
    session.state = State.SELECTED
    first_unseen = view.first_unseen()  # while the view's positions are the session's
    resync = asked.resync if asked.resync and asked.resync.uidvalidity == view.uidvalidity else None
    vanished: list[bytes] = []
    try:
        if not session.has(b"IMAP4REV2"):
            await session.claim_recent(selected)
        if resync is not None:
            vanished = await resyncing.vanished(session, selected, resync.modseq, resync.known_uids, resync.matches)
    except BaseException:
        session.deselect()
        raise
    _describe(session, selected, asked.mailbox, first_unseen)
    if resync is not None:
        session.put(b"".join(vanished))
        await resyncing.tell_changed(session, selected, resync)
    await warn_if_full(session, view.account_id)
    if not is_read_write(selected):
        return Completion("selected, read only", b"READ-ONLY")
    return Completion("selected", b"READ-WRITE")


async def _rights(session: Session, view: View) -> frozenset[str]:
    """As they are now: they may have been withdrawn while the view was loaded. Raises StorageError."""
    try:
        return await rights_on(session, view.mailbox_id)
    except BaseException:
        session.shared.views.release(view)
        raise


def _describe(session: Session, selected: Selected, name: str, first_unseen: int) -> None:
    is_rev2 = session.has(b"IMAP4REV2")
    lines = [selected.take_flag_lines(), response.exists(selected.count)]
    if is_rev2:
        lines.append(response.list_line([], session.mailbox_name(name)))  # RFC 9051 §6.3.2
    else:
        lines.append(response.recent(selected.recent_count()))
    if first_unseen >= 0 and not is_rev2 and not session.has(b"UIDONLY"):
        lines.append(response.untagged("OK", b"UNSEEN %d" % (first_unseen + 1), "first unseen message"))
    lines.append(response.untagged("OK", b"UIDVALIDITY %d" % selected.view.uidvalidity, "UIDs are valid"))
    lines.append(response.untagged("OK", b"UIDNEXT %d" % selected.uidnext, "next UID"))
    lines.append(response.untagged("OK", selected.highestmodseq_code, "highest"))
    lines.append(response.untagged("OK", b"MAILBOXID (%b)" % mailbox_id(selected.view.mailbox_id), "identifier"))
    session.put(b"".join(lines))


async def close(session: Session, _: command.Close) -> Completion:
    """CLOSE, RFC 3501 §6.4.2: expunge without telling, then leave."""
    selected = chosen(session)
    try:
        if not selected.is_read_only and "e" in selected.rights:  # RFC 4314 §4
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
    selected = writable(session, "e")
    uids = limit_code = None
    if asked.uids is not None:
        uids, limit_code = _deleted(session, selected, selected.uid_positions(asked.uids))
        if not uids:
            return Completion("nothing to expunge")
    async with alive(session, asked.tag):
        if not await _expunge(session, uids):
            return Completion("nothing to expunge")
    return completed(session, await expunged(session, "expunged"), limit_code)


def _deleted(session: Session, selected: Selected, ranges: list[Range]) -> tuple[list[int], bytes | None]:
    r"""The UIDs to expunge: only \Deleted ones count for MESSAGELIMIT, but whether they are is the database's to say."""
    limit_code = None
    if sum(end - start for start, end in ranges) > session.shared.settings.message_limit > 0:
        rows, deleted = selected.view.rows, selected.view.table.kinds_with(DELETED)
        at = [
            position
            for start, end in ranges
            for position, place in zip(*selected.rows_at(rows, start, end), strict=True)
            if rows.kinds[place] in deleted
        ]
        ranges, limit_code = limited(session, selected, [(low, high + 1) for low, high in ranges_of(at)])
    return selected.uids_at(ranges), limit_code


async def expunged(session: Session, text: str) -> Completion:
    """Tell what went, and up to where the client knows all, if it keeps account of that (RFC 7162 §3.2.7)."""
    if not session.has(b"QRESYNC"):
        return Completion(text)
    await session.sync(tells_expunges=True)
    return Completion(text, chosen(session).highestmodseq_code)


async def _expunge(session: Session, uids: list[int] | None) -> bool:
    """Whether anything was expunged."""
    view = chosen(session).view
    async with session.database() as connection:
        removed = await messages.expunge(connection, view.mailbox_id, uids)
    if removed:
        session.shared.views.touch(view.mailbox_id)
    return bool(removed)


def chosen(session: Session) -> Selected:
    """The selected mailbox; only in the selected state."""
    assert session.selected is not None
    return session.selected


def writable(session: Session, needs: str = "") -> Selected:
    """The selected mailbox, unless EXAMINE opened it (RFC 3501 §6.3.2), or a right is lacking (RFC 4314 §4)."""
    selected = chosen(session)
    if selected.is_read_only:
        raise RefusalError.no(None, "mailbox is selected read only")
    if not selected.rights.issuperset(needs):
        raise RefusalError.no(b"NOPERM", "your rights on this mailbox do not allow that")
    return selected
