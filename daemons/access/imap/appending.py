"""APPEND, RFC 3501 §6.3.11: the message is spooled as it comes, then stored like any other; APPENDUID of RFC 4315 §3."""

from daemons.access.imap.mailboxes import check_quota, find
from daemons.access.imap.session import Completion, RefusalError, Session
from daemons.access.imap.storing import spelled
from daemons.delivery import prepare
from protocol.imap import response
from protocol.imap.events import AppendOctets, AppendStarts, Continue, Rejected
from protocol.imap.flags import bits_of
from storage.errors import MailboxNotFoundError
from storage.rows import Mailbox, Placement
from storage.spool import SpoolFile


async def append(session: Session, starts: AppendStarts) -> Completion | None:
    """Take or refuse the message that begins. None: it was refused while it was read, and that has been answered.

    Mailbox, quota and flags are looked at before a waiting client is told to send (RFC 3501 §6.3.11, §7.5).
    """
    try:
        mailbox = await find(session, starts.mailbox, missing=b"TRYCREATE")
        placement = _placement(session, mailbox, starts)
        await check_quota(session, starts.size_octets)
        if not starts.size_octets:
            raise RefusalError.no(b"CANNOT", "the message is empty")
        if starts.is_binary:
            raise RefusalError.no(b"UNKNOWN-CTE", "BINARY is not offered")
    except BaseException:
        session.reader.refuse()
        raise
    session.reader.accept()
    if starts.is_synchronizing:
        session.put(response.continuation())
    async with session.shared.spool.open() as spooled:
        if not await _read(session, spooled):
            return None
        message = await prepare(session.account.tenant_id, b"", spooled.original, [placement])
        try:
            stored = await session.shared.context.ingest.store([message])
        except MailboxNotFoundError:
            raise RefusalError.no(b"TRYCREATE", "no such mailbox") from None
    placed = stored[0].placed[0]
    session.shared.views.touch(mailbox.mailbox_id)
    if not placed.uid:  # the database died with the outcome unknown, and the message has been moved on since
        return Completion("appended")
    return Completion("appended", response.appenduid(placed.uidvalidity, [placed.uid]))


def _placement(session: Session, mailbox: Mailbox, starts: AppendStarts) -> Placement:
    view = session.shared.views.peek(mailbox.mailbox_id)
    bits, keywords = bits_of(starts.flags) if view is None else spelled(session, view, starts.flags, is_adding=True)
    if len(keywords) > session.shared.settings.keyword_limit:
        raise RefusalError.no(b"LIMIT", "too many keywords")
    return Placement(mailbox.mailbox_id, bits, tuple(keywords), starts.internaldate)


async def _read(session: Session, spooled: SpoolFile) -> bool:
    """Spool the message. False when the rest of the command was no good."""
    failure: Exception | None = None
    while True:
        event = await session.next_event()
        if isinstance(event, AppendOctets):
            if failure is None:
                try:
                    spooled.write(event.octets)
                except (
                    Exception
                ) as error:  # the disk is full: read on, or the next command would be lost in the message
                    failure = error
            continue
        if failure is not None:
            raise failure
        if isinstance(event, Rejected):
            session.reject(event)
            return False
        if not isinstance(event, Continue):
            return True
