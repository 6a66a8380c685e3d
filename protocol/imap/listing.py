"""The grammar of LIST, LSUB, STATUS and CREATE: RFC 3501 §6.3, RFC 5258 §6, RFC 5819 §4, RFC 6154 §6, RFC 8440 §4."""

from collections.abc import Iterable

from protocol.imap.command import Create, List, Lsub, Status
from protocol.imap.cursor import Cursor, expect_atom, expect_list
from protocol.imap.metadata import expect_entries
from protocol.imap.names import expect_mailbox, expect_pattern, expect_reference

STATUS_ITEMS = frozenset(
    (
        *(b"MESSAGES", b"RECENT", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN"),
        *(b"SIZE", b"DELETED"),  # RFC 9051 §6.3.11
        b"HIGHESTMODSEQ",  # RFC 7162 §3.1.7
        b"APPENDLIMIT",  # RFC 7889 §3.2
        b"MAILBOXID",  # RFC 8474 §4.3
        b"DELETED-STORAGE",  # RFC 9208 §4.1.4
    )
)
SPECIAL_USES = (rb"\All", rb"\Archive", rb"\Drafts", rb"\Flagged", rb"\Important", rb"\Junk", rb"\Sent", rb"\Trash")

_CANONICAL_USES = {use.upper(): use for use in SPECIAL_USES}
_SELECTION_OPTIONS = frozenset((b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE"))
_RETURN_OPTIONS = frozenset((b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"MYRIGHTS"))


# list             = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
# mbox-or-pat      = list-mailbox / patterns
# patterns         = "(" list-mailbox *(SP list-mailbox) ")"
# list-return-opts = "RETURN" SP "(" [return-option *(SP return-option)] ")"
def expect_list_command(cursor: Cursor, tag: bytes) -> List:
    """Expect what follows LIST."""
    cursor.expect_space()
    selection: tuple[bytes, ...] = ()
    is_extended = cursor.is_next(b"(")
    if is_extended:
        selection = _unique(expect_list(cursor, _list_select_opt, may_be_empty=True))
        if b"RECURSIVEMATCH" in selection and b"SUBSCRIBED" not in selection:
            # RFC 5258 §3.1; SPECIAL-USE is an independent option too, RFC 6154 §6
            cursor.refuse("RECURSIVEMATCH needs SUBSCRIBED")
        cursor.expect_space()
    reference = expect_reference(cursor)
    cursor.expect_space()
    if cursor.is_next(b"("):
        is_extended = True
        patterns = expect_list(cursor, expect_pattern)
    else:
        patterns = (expect_pattern(cursor),)
    if cursor.is_at_end():
        return List(tag, reference, patterns, selection, is_extended=is_extended)
    cursor.expect_space()
    if not cursor.take_keyword(b"RETURN"):
        cursor.fail("RETURN")
    cursor.expect_space()
    options = expect_list(cursor, _return_option, may_be_empty=True)
    returns = _unique(name for name, _, _ in options)
    status_items = _unique(item for _, items, _ in options for item in items)
    entries = tuple(entry for _, _, entries in options for entry in entries)
    return List(tag, reference, patterns, selection, returns, status_items, is_extended=True, entries=entries)


# list-select-opt = "SUBSCRIBED" / "REMOTE" / "RECURSIVEMATCH" / "SPECIAL-USE"
def _list_select_opt(cursor: Cursor) -> bytes:
    return _one_of(cursor, _SELECTION_OPTIONS, "a LIST selection option")


# return-option = "SUBSCRIBED" / "CHILDREN" / "SPECIAL-USE" / "MYRIGHTS" / "STATUS" SP "(" status-att *(SP status-att) ")"
def _return_option(cursor: Cursor) -> tuple[bytes, tuple[bytes, ...], tuple[str, ...]]:
    if cursor.take_keyword(b"STATUS"):
        cursor.expect_space()
        return b"STATUS", expect_list(cursor, _status_att), ()
    if cursor.take_keyword(b"METADATA"):  # RFC 9590 §5
        cursor.expect_space()
        return b"METADATA", (), expect_entries(cursor)
    return _one_of(cursor, _RETURN_OPTIONS, "a LIST return option"), (), ()


# lsub = "LSUB" SP mailbox SP list-mailbox
def expect_lsub(cursor: Cursor, tag: bytes) -> Lsub:
    """Expect what follows LSUB."""
    cursor.expect_space()
    reference = expect_reference(cursor)
    cursor.expect_space()
    return Lsub(tag, reference, expect_pattern(cursor))


# status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"
def expect_status(cursor: Cursor, tag: bytes) -> Status:
    """Expect what follows STATUS."""
    cursor.expect_space()
    mailbox = expect_mailbox(cursor)
    cursor.expect_space()
    return Status(tag, mailbox, _unique(expect_list(cursor, _status_att)))


def _status_att(cursor: Cursor) -> bytes:
    return _one_of(cursor, STATUS_ITEMS, "a STATUS item")


# create       = "CREATE" SP mailbox [SP "(" create-param *(SP create-param) ")"]
# create-param = "USE" SP "(" [use-attr *(SP use-attr)] ")"
def expect_create(cursor: Cursor, tag: bytes) -> Create:
    """Expect what follows CREATE."""
    cursor.expect_space()
    mailbox = expect_mailbox(cursor)
    if cursor.is_at_end():
        return Create(tag, mailbox)
    cursor.expect_space()
    cursor.expect(b"(")
    if not cursor.take_keyword(b"USE"):
        cursor.fail("USE")
    cursor.expect_space()
    uses = expect_list(cursor, _use_attr, may_be_empty=True)
    cursor.expect(b")")
    return Create(tag, mailbox, _unique(uses))


# use-attr = "\All" / "\Archive" / … / use-attr-ext, use-attr-ext = "\" atom
def _use_attr(cursor: Cursor) -> bytes:
    cursor.expect(b"\\")
    use = b"\\" + expect_atom(cursor, "a special-use attribute")
    return _CANONICAL_USES.get(use.upper(), use)


def _one_of(cursor: Cursor, words: frozenset[bytes], expected: str) -> bytes:
    start = cursor.position
    word = cursor.take_word()
    if word in words:
        return word
    cursor.position = start
    return cursor.fail(expected)


def _unique(words: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(words))
