"""Sets of mailboxes by kind, RFC 5465 §8 "filter-mailboxes" with RFC 7377 §2.2's addition: NOTIFY and ESEARCH name theirs so."""

from dataclasses import dataclass

from protocol.imap.cursor import Cursor, expect_list
from protocol.imap.names import DELIMITER, expect_mailbox

_ALONE = frozenset({b"SELECTED", b"SELECTED-DELAYED", b"INBOXES", b"PERSONAL", b"SUBSCRIBED"})
_WITH_MAILBOXES = frozenset({b"SUBTREE", b"SUBTREE-ONE", b"MAILBOXES"})


@dataclass(frozen=True, slots=True)
class MailboxFilter:
    """One kind of mailboxes, and those it is about where the kind needs some."""

    kind: bytes  # SELECTED, SELECTED-DELAYED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE, SUBTREE-ONE or MAILBOXES
    mailboxes: tuple[str, ...] = ()


# filter-mailboxes = filter-mailboxes-selected / filter-mailboxes-other
# filter-mailboxes-other = "inboxes" / "personal" / "subscribed" / ("subtree" SP one-or-more-mailbox) / …
# one-or-more-mailbox = mailbox / many-mailboxes
# many-mailboxes = "(" mailbox *(SP mailbox) ")"
def expect_mailbox_filter(cursor: Cursor) -> MailboxFilter:
    """One filter-mailboxes. Which kinds make sense is the command's to say."""
    start = cursor.position
    kind = cursor.take_word() or b""
    if kind in _ALONE:
        return MailboxFilter(kind)
    if kind not in _WITH_MAILBOXES:
        cursor.position = start
        cursor.fail("a kind of mailboxes")
    cursor.expect_space()
    names = expect_list(cursor, expect_mailbox) if cursor.is_next(b"(") else (expect_mailbox(cursor),)
    return MailboxFilter(kind, tuple(name.rstrip(DELIMITER) for name in names))  # "work/" is "work"
