"""The grammar of SEARCH, RFC 3501 §9 "search": octets to the tree of search.py."""

import codecs
import encodings.aliases
from collections.abc import Callable
from datetime import date

from protocol.imap import search
from protocol.imap.command import Search
from protocol.imap.cursor import (
    CommandError,
    Cursor,
    expect_astring,
    expect_list,
    expect_number,
)
from protocol.imap.dates import expect_date
from protocol.imap.fetch import FetchAttribute, expect_fetch_attributes
from protocol.imap.flags import expect_keyword
from protocol.imap.objectid import is_objectid
from protocol.imap.search import SearchKey
from protocol.imap.sequence import SequenceSet, partial_range, sequence_set

Key = Callable[[Cursor, str], SearchKey]

BADCHARSET = (
    b"BADCHARSET (US-ASCII UTF-8 ISO-8859-1 ISO-8859-15 WINDOWS-1252 ISO-2022-JP SHIFT_JIS EUC-JP GB18030 BIG5 KOI8-R)"
)

# RFC 4731 §3.1, RFC 5182 §2, RFC 5267 §3, RFC 6203 §4, RFC 9394 §3.1
_RETURN_OPTIONS = {b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"UPDATE", b"CONTEXT", b"RELEVANCY", b"PARTIAL"}
# Charsets are looked up in Python's own table of names, never by codecs.lookup() of what a client sent: that would import
# and remember whatever name it is given. These codecs of the table turn no octets into text.
_NO_CHARSETS = {"base64_codec", "bz2_codec", "hex_codec", "mbcs", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
_CHARSETS = {name: codec for name, codec in encodings.aliases.aliases.items() if codec not in _NO_CHARSETS}
_CHARSETS |= {codec: codec for codec in set(_CHARSETS.values())}


# search         = "SEARCH" [search-return-opts] SP search-program        (RFC 4731 §4 with RFC 4466 §6)
# search-program = ["CHARSET" SP charset SP] search-key *(SP search-key)
def expect_search(cursor: Cursor, tag: bytes, *, is_uid: bool) -> Search:
    """Expect what follows SEARCH, to the end of the command."""
    cursor.expect_space()
    returns, partial, update = take_return_options(cursor)
    charset = None
    if cursor.take_keyword(b"CHARSET"):
        cursor.expect_space()
        charset = expect_charset(cursor)
        cursor.expect_space()
    # Without CHARSET the strings are US-ASCII (RFC 3501 §6.4.4) or UTF-8 (RFC 9051 §6.4.4); the latter includes the former.
    return Search(tag, expect_search_keys(cursor, charset or "utf-8"), is_uid, returns, charset, partial, update)


# search-return-opts = SP "RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")"
def take_return_options(
    cursor: Cursor,
) -> tuple[tuple[bytes, ...] | None, tuple[int, int] | None, tuple[FetchAttribute, ...]]:
    """The words of RETURN, each once, the range of PARTIAL, and what UPDATE fetches; a space behind them.

    (None, None, ()) where no RETURN stands.
    """
    if not cursor.take_keyword(b"RETURN"):
        return None, None, ()
    cursor.expect_space()
    found = expect_list(cursor, _search_return_opt, may_be_empty=True)
    cursor.expect_space()
    words = tuple(dict.fromkeys(word for word, _, _ in found))
    ranges = [partial for _, partial, _ in found if partial is not None]
    if len(ranges) > 1 or (ranges and b"ALL" in words):
        cursor.refuse("no more than one PARTIAL, and that without ALL")  # RFC 9394 §3.1
    update = dict.fromkeys(attribute for _, _, attributes in found for attribute in attributes)
    return words, ranges[0] if ranges else None, tuple(update)


# modifier-update = "UPDATE" [SP "(" fetch-att *(SP fetch-att) ")"]        (RFC 5465 §8)
def _search_return_opt(cursor: Cursor) -> tuple[bytes, tuple[int, int] | None, tuple[FetchAttribute, ...]]:
    start = cursor.position
    word = cursor.take_word()
    if word is None or word not in _RETURN_OPTIONS:
        cursor.position = start
        cursor.fail("a SEARCH return option")
    if word == b"PARTIAL":
        cursor.expect_space()
        return word, partial_range(cursor), ()
    if word == b"UPDATE" and cursor.is_next(b" ("):
        cursor.expect_space()
        return word, None, expect_fetch_attributes(cursor)
    return word, None, ()


def expect_search_keys(cursor: Cursor, charset: str) -> SearchKey:
    """Search keys to the end of the command, as one."""
    cursor.count_item()
    keys = [_search_key(cursor, charset)]
    while not cursor.is_at_end():
        cursor.expect_space()
        cursor.count_item()
        keys.append(_search_key(cursor, charset))
    return _all_of(keys)


# charset = atom / quoted
def expect_charset(cursor: Cursor) -> str:
    """A charset, by the name of its codec. NO [BADCHARSET] for one that is not known."""
    name = expect_astring(cursor, "a charset").decode("ascii", "replace").lower()
    codec = _CHARSETS.get(name.replace("-", "_").replace(" ", "_").replace(":", "_"))
    try:
        codecs.lookup(codec or "")
    except LookupError:  # also where Python's table names a codec that this build has not
        raise CommandError("NO", BADCHARSET, "charset not supported") from None
    return codec or ""


# search-key = … / sequence-set / "(" search-key *(SP search-key) ")"
def _search_key(cursor: Cursor, charset: str) -> SearchKey:
    if cursor.is_next(b"("):
        return _all_of(expect_list(cursor, lambda inner: _search_key(inner, charset)))
    start = cursor.position
    if cursor.octets[start : start + 1] in _SET_STARTS:
        return search.SequenceNumbers(sequence_set(cursor))
    word = cursor.take_word()
    simple = _SIMPLE.get(word or b"")
    if simple is not None:
        return simple
    production = _PRODUCTIONS.get(word or b"")
    if production is None:
        cursor.position = start
        cursor.fail("a search key")
    cursor.expect_space()
    return production(cursor, charset)


def _all_of(keys: "list[SearchKey] | tuple[SearchKey, ...]") -> SearchKey:
    return keys[0] if len(keys) == 1 else search.And(tuple(keys))


# "NOT" SP search-key
def _not(cursor: Cursor, charset: str) -> SearchKey:
    cursor.enter()
    cursor.count_item()
    key = search.Not(_search_key(cursor, charset))
    cursor.leave()
    return key


# "OR" SP search-key SP search-key
def _or(cursor: Cursor, charset: str) -> SearchKey:
    cursor.enter()
    cursor.count_item()
    left = _search_key(cursor, charset)
    cursor.expect_space()
    right = _search_key(cursor, charset)
    cursor.leave()
    return search.Or(left, right)


def _text(cursor: Cursor, charset: str) -> str:
    octets = expect_astring(cursor)
    try:
        return octets.decode(charset)
    except UnicodeError:
        cursor.refuse("search string is not in its charset")


def _on_day(make: Callable[[date], SearchKey]) -> Key:
    return lambda cursor, charset: make(expect_date(cursor))


def _with_text(make: Callable[[str], SearchKey]) -> Key:
    return lambda cursor, charset: make(_text(cursor, charset))


def _in_field(name: bytes) -> Key:
    return lambda cursor, charset: search.Header(name, _text(cursor, charset))


def _with_number(make: Callable[[int], SearchKey], *, least: int, most: int) -> Key:
    return lambda cursor, charset: make(expect_number(cursor, least=least, most=most))


# "HEADER" SP header-fld-name SP astring
def _header(cursor: Cursor, charset: str) -> SearchKey:
    name = expect_astring(cursor, "a header field name").upper()
    cursor.expect_space()
    return search.Header(name, _text(cursor, charset))


def _keyword(cursor: Cursor, charset: str) -> SearchKey:
    return search.HasFlag(expect_keyword(cursor))


def _unkeyword(cursor: Cursor, charset: str) -> SearchKey:
    return search.Not(search.HasFlag(expect_keyword(cursor)))


def _uid(cursor: Cursor, charset: str) -> SearchKey:
    return search.Uids(sequence_set(cursor))


# "UIDAFTER" SP uniqueid, "UIDBEFORE" SP uniqueid        (RFC 9738 §3.3)
def _uidafter(cursor: Cursor, charset: str) -> SearchKey:
    return search.Not(search.Uids(SequenceSet(((1, expect_number(cursor, "a UID", least=1)),))))


def _uidbefore(cursor: Cursor, charset: str) -> SearchKey:
    uid = expect_number(cursor, "a UID", least=1)
    return search.Uids(SequenceSet(((1, uid - 1),) if uid > 1 else ()))


# search-modsequence = "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer      (RFC 7162 §7)
def _modseq(cursor: Cursor, charset: str) -> SearchKey:
    if cursor.is_next(b'"'):
        expect_astring(cursor)
        cursor.expect_space()
        if cursor.take_word() not in (b"ALL", b"PRIV", b"SHARED"):
            cursor.fail("an entry type")
        cursor.expect_space()
    return search.ModSeq(expect_number(cursor, "a mod-sequence", most=_NUMBER64))


# "EMAILID" SP objectid, "THREADID" SP objectid        (RFC 8474 §7)
def _objectid(make: Callable[[bytes], SearchKey]) -> Key:
    def production(cursor: Cursor, charset: str) -> SearchKey:
        octets = expect_astring(cursor, "an objectid")
        if not is_objectid(octets):
            cursor.refuse("not an objectid")
        return make(octets)

    return production


# search-key =/ "FUZZY" SP search-key        (RFC 6203 §6)
def _fuzzy(cursor: Cursor, charset: str) -> SearchKey:
    cursor.enter()
    cursor.count_item()
    key = search.Fuzzy(_search_key(cursor, charset))
    cursor.leave()
    return key


_NUMBER64 = 2**63 - 1
_SET_STARTS = {b"%d" % digit for digit in range(10)} | {b"*", b"$"}
_FLAGS = (b"Answered", b"Deleted", b"Draft", b"Flagged", b"Seen")
_SIMPLE: dict[bytes, SearchKey] = {
    **{name.upper(): search.HasFlag(b"\\" + name) for name in _FLAGS},
    **{b"UN" + name.upper(): search.Not(search.HasFlag(b"\\" + name)) for name in _FLAGS},
    b"ALL": search.All(),
    b"SAVEDATESUPPORTED": search.All(),  # every mailbox of ours keeps the date, RFC 8514 §4.3
    b"RECENT": search.Recent(),
    b"OLD": search.Not(search.Recent()),
    b"NEW": search.And((search.Recent(), search.Not(search.HasFlag(rb"\Seen")))),
}
_PRODUCTIONS: dict[bytes, Key] = {
    **{name: _in_field(name) for name in (b"BCC", b"CC", b"FROM", b"SUBJECT", b"TO")},
    b"BEFORE": _on_day(search.Before),
    b"ON": _on_day(search.On),
    b"SINCE": _on_day(search.Since),
    b"SAVEDBEFORE": _on_day(search.SavedBefore),
    b"SAVEDON": _on_day(search.SavedOn),
    b"SAVEDSINCE": _on_day(search.SavedSince),
    b"SENTBEFORE": _on_day(search.SentBefore),
    b"SENTON": _on_day(search.SentOn),
    b"SENTSINCE": _on_day(search.SentSince),
    b"BODY": _with_text(search.Body),
    b"TEXT": _with_text(search.Text),
    b"HEADER": _header,
    b"KEYWORD": _keyword,
    b"UNKEYWORD": _unkeyword,
    b"LARGER": _with_number(search.Larger, least=0, most=_NUMBER64),
    b"SMALLER": _with_number(search.Smaller, least=0, most=_NUMBER64),
    b"OLDER": _with_number(search.Older, least=1, most=0xFFFFFFFF),
    b"YOUNGER": _with_number(search.Younger, least=1, most=0xFFFFFFFF),
    b"UID": _uid,
    b"UIDAFTER": _uidafter,
    b"UIDBEFORE": _uidbefore,
    b"NOT": _not,
    b"OR": _or,
    b"MODSEQ": _modseq,
    b"EMAILID": _objectid(search.EmailId),
    b"THREADID": _objectid(search.ThreadId),
    b"FUZZY": _fuzzy,
}
