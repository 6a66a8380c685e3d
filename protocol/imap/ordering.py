"""SORT and THREAD (RFC 5256), ESORT and CANCELUPDATE (RFC 5267), ESEARCH over mailboxes (RFC 7377): commands and grammar."""

from dataclasses import dataclass

from protocol.imap.command import Command
from protocol.imap.criteria import expect_charset, expect_search_keys, take_return_options
from protocol.imap.cursor import Cursor, expect_list, take_quoted
from protocol.imap.fetch import FetchAttribute
from protocol.imap.search import SearchKey
from protocol.imap.sources import MailboxFilter, expect_mailbox_filter

# RFC 5256 §5, RFC 5957 §4, RFC 6203 §5
_SORT_KEYS = frozenset(b"ARRIVAL CC DATE FROM SIZE SUBJECT TO DISPLAYFROM DISPLAYTO RELEVANCY".split())
_ALGORITHMS = frozenset({b"ORDEREDSUBJECT", b"REFERENCES", b"REFS"})


@dataclass(frozen=True, slots=True)
class SortCriterion:
    """One of SORT's criteria."""

    key: bytes  # upper case
    is_reverse: bool = False


@dataclass(frozen=True, slots=True)
class Sort(Command):
    """SORT and UID SORT, RFC 5256 §3; with `returns` it is RFC 5267 §3's ESORT."""

    criteria: tuple[SortCriterion, ...]
    key: SearchKey
    is_uid: bool = False
    returns: tuple[bytes, ...] | None = None  # as in Search
    charset: str | None = None
    partial: tuple[int, int] | None = None
    update: tuple[FetchAttribute, ...] = ()


@dataclass(frozen=True, slots=True)
class Thread(Command):
    """THREAD and UID THREAD, RFC 5256 §3."""

    algorithm: bytes  # upper case
    key: SearchKey
    is_uid: bool = False


@dataclass(frozen=True, slots=True)
class MultiSearch(Command):
    """ESEARCH, RFC 7377 §2: always by UID."""

    sources: tuple[MailboxFilter, ...]  # () means the selected mailbox
    key: SearchKey
    returns: tuple[bytes, ...] | None = None
    charset: str | None = None
    partial: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class CancelUpdate(Command):
    """CANCELUPDATE, RFC 5267 §4.5."""

    tags: tuple[bytes, ...]


# sort            = ["UID" SP] "SORT" [search-return-opts] SP sort-criteria SP search-criteria
# sort-criteria   = "(" sort-criterion *(SP sort-criterion) ")"
# search-criteria = charset 1*(SP search-key)
def expect_sort(cursor: Cursor, tag: bytes, *, is_uid: bool) -> Sort:
    """Expect what follows SORT, to the end of the command."""
    cursor.expect_space()
    returns, partial, update = take_return_options(cursor)
    criteria = expect_list(cursor, _sort_criterion)
    cursor.expect_space()
    charset = expect_charset(cursor)
    cursor.expect_space()
    return Sort(tag, criteria, expect_search_keys(cursor, charset), is_uid, returns, charset, partial, update)


# sort-criterion = ["REVERSE" SP] sort-key
def _sort_criterion(cursor: Cursor) -> SortCriterion:
    is_reverse = cursor.take_keyword(b"REVERSE")
    if is_reverse:
        cursor.expect_space()
    start = cursor.position
    key = cursor.take_word() or b""
    if key not in _SORT_KEYS:
        cursor.position = start
        cursor.fail("a sort key")
    return SortCriterion(key, is_reverse)


# thread     = ["UID" SP] "THREAD" SP thread-alg SP search-criteria
# thread-alg = "ORDEREDSUBJECT" / "REFERENCES" / thread-alg-ext
def expect_thread(cursor: Cursor, tag: bytes, *, is_uid: bool) -> Thread:
    """Expect what follows THREAD, to the end of the command."""
    cursor.expect_space()
    start = cursor.position
    algorithm = cursor.take_word() or b""
    if algorithm not in _ALGORITHMS:
        cursor.position = start
        cursor.fail("a threading algorithm")
    cursor.expect_space()
    charset = expect_charset(cursor)
    cursor.expect_space()
    return Thread(tag, algorithm, expect_search_keys(cursor, charset), is_uid)


# esearch             = "ESEARCH" [SP esearch-source-opts] [SP search-return-opts] SP search-program
# esearch-source-opts = "IN" SP "(" source-mbox [SP "(" scope-options ")"] ")"
# source-mbox         = filter-mailboxes *(SP filter-mailboxes)
def expect_multi_search(cursor: Cursor, tag: bytes) -> MultiSearch:
    """Expect what follows ESEARCH, to the end of the command. Scope options are for extensions: there are none."""
    cursor.expect_space()
    sources: tuple[MailboxFilter, ...] = ()
    if cursor.take_keyword(b"IN"):
        cursor.expect_space()
        sources = expect_list(cursor, _source)
        cursor.expect_space()
    returns, partial, _ = take_return_options(cursor)
    charset = None
    if cursor.take_keyword(b"CHARSET"):
        cursor.expect_space()
        charset = expect_charset(cursor)
        cursor.expect_space()
    return MultiSearch(tag, sources, expect_search_keys(cursor, charset or "utf-8"), returns, charset, partial)


def _source(cursor: Cursor) -> MailboxFilter:
    start = cursor.position
    found = expect_mailbox_filter(cursor)
    if found.kind == b"SELECTED-DELAYED":  # RFC 7377 §2.2: not a kind to search in
        cursor.position = start
        cursor.fail("a kind of mailboxes to search in")
    return found


# cancelupdate = "CANCELUPDATE" 1*(SP quoted)        (RFC 5267 §5)
def expect_cancel_update(cursor: Cursor, tag: bytes) -> CancelUpdate:
    """Expect what follows CANCELUPDATE."""
    tags: list[bytes] = []
    while not tags or not cursor.is_at_end():
        cursor.expect_space()
        cursor.count_item()
        found = take_quoted(cursor)
        tags.append(cursor.fail("a quoted tag") if found is None else found)
    return CancelUpdate(tag, tuple(dict.fromkeys(tags)))
