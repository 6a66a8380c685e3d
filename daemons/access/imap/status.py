"""STATUS, RFC 3501 §6.3.10 and RFC 9051 §6.3.11, for one mailbox or for all that LIST tells (RFC 5819): in one statement."""

from collections.abc import Callable, Iterable, Sequence

from daemons.access.imap.mailboxes import find
from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import command, objectid, response
from storage.counts import NO_COUNTS, Counts, counts
from storage.rows import Mailbox

_Value = int | bytes
_ITEMS: dict[bytes, Callable[[Session, Mailbox, Counts], _Value]] = {
    b"MESSAGES": lambda session, mailbox, counted: mailbox.message_count,
    b"RECENT": lambda session, mailbox, counted: counted.recent,
    b"UIDNEXT": lambda session, mailbox, counted: mailbox.uidnext,
    b"UIDVALIDITY": lambda session, mailbox, counted: mailbox.uidvalidity,
    b"UNSEEN": lambda session, mailbox, counted: counted.unseen,
    b"SIZE": lambda session, mailbox, counted: mailbox.size_octets,  # RFC 8438 §2
    b"DELETED": lambda session, mailbox, counted: counted.deleted,
    b"DELETED-STORAGE": lambda session, mailbox, counted: counted.deleted_octets,
    b"HIGHESTMODSEQ": lambda session, mailbox, counted: mailbox.highestmodseq,
    b"APPENDLIMIT": lambda session, mailbox, counted: session.shared.settings.append_limit,
    b"MAILBOXID": lambda session, mailbox, counted: b"(%b)" % objectid.mailbox_id(mailbox.mailbox_id),
}
_DELETED = {b"DELETED", b"DELETED-STORAGE"}


async def status(session: Session, asked: command.Status) -> Completion:
    """STATUS of one mailbox."""
    check_items(session, asked.items)
    mailbox = await find(session, asked.mailbox)
    lines = await status_lines(session, [mailbox], asked.items)
    session.put(lines[mailbox.mailbox_id])
    return Completion("done")


def check_items(session: Session, items: Sequence[bytes]) -> None:
    """BAD for what does not exist in IMAP4rev2 (RFC 9051 appendix E); HIGHESTMODSEQ enables CONDSTORE (RFC 7162 §3.1)."""
    if b"RECENT" in items and session.has(b"IMAP4REV2"):
        raise RefusalError.bad("RECENT is not known in IMAP4rev2")
    if b"HIGHESTMODSEQ" in items:
        session.enable(b"CONDSTORE")


async def status_lines(session: Session, found: Iterable[Mailbox], items: Sequence[bytes]) -> dict[int, bytes]:
    """The STATUS response of each mailbox, by its id. Raises StorageError."""
    boxes = list(found)
    viewer = session.account.account_id
    # An own or shared \Seen is counted in the mailbox's row already.
    wants_unseen = b"UNSEEN" in items and any(not box.is_seen_shared and box.account_id != viewer for box in boxes)
    async with session.database() as connection:
        counted = await counts(
            connection,
            viewer,
            [box.mailbox_id for box in boxes],
            wants_unseen=wants_unseen,
            wants_recent=b"RECENT" in items,
            wants_deleted=not _DELETED.isdisjoint(items),
        )
    lines = {}
    for box in boxes:
        own = counted.get(box.mailbox_id, NO_COUNTS)
        if not wants_unseen:
            own = Counts(box.unseen_count, own.recent, own.deleted, own.deleted_octets)
        values = [(item, _ITEMS[item](session, box, own)) for item in items]
        lines[box.mailbox_id] = response.status_line(session.mailbox_name(box.name), values)
    return lines
