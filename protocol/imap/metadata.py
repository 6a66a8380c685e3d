"""METADATA, RFC 5464: its commands and their grammar (§5), its response and response codes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from protocol.imap import response
from protocol.imap.command import Command
from protocol.imap.cursor import Cursor, expect_astring, expect_list, expect_number, take_literal, take_string
from protocol.imap.names import expect_mailbox

SPECIAL_USE = "/private/specialuse"  # RFC 6154 §4
ADMIN = "/shared/admin"  # RFC 5464 §6.2.2, of the server only
INFINITE = -1

TOOMANY = b"METADATA TOOMANY"
NOPRIVATE = b"METADATA NOPRIVATE"

_ENTRY_OCTETS = 1000  # ours
_ROOTS = ("/private", "/shared")


@dataclass(frozen=True, slots=True)
class GetMetadata(Command):
    """GETMETADATA, RFC 5464 §4.2. The mailbox "" is the server."""

    mailbox: str
    entries: tuple[str, ...]  # as the client wrote them, each once
    max_size: int | None = None  # octets of a value, RFC 5464 §4.2.1
    depth: int = 0  # levels below the entries, or INFINITE, RFC 5464 §4.2.2


@dataclass(frozen=True, slots=True)
class SetMetadata(Command):
    """SETMETADATA, RFC 5464 §4.3. None removes."""

    mailbox: str
    values: Mapping[str, bytes | None] = field(default_factory=dict)  # entries in lower case


# getmetadata = "GETMETADATA" [SP getmetadata-options] SP mailbox SP entries
def expect_getmetadata(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows GETMETADATA. The options may stand behind the mailbox, where all examples of the RFC have them."""
    cursor.expect_space()
    max_size, depth = None, 0
    if cursor.is_next(b"("):
        max_size, depth = _options(cursor)
        cursor.expect_space()
    mailbox = expect_mailbox(cursor)
    cursor.expect_space()
    if _are_options_next(cursor):
        max_size, depth = _options(cursor)
        cursor.expect_space()
    return GetMetadata(tag, mailbox, expect_entries(cursor), max_size, depth)


def _are_options_next(cursor: Cursor) -> bool:
    octets, at = cursor.octets, cursor.position
    return octets[at : at + 1] == b"(" and octets[at + 1 : at + 2].isalpha()


# getmetadata-options = "(" getmetadata-option *(SP getmetadata-option) ")"
# maxsize-opt         = "MAXSIZE" SP number
# scope-opt           = "DEPTH" SP ("0" / "1" / "infinity")
def _options(cursor: Cursor) -> tuple[int | None, int]:
    options = dict(expect_list(cursor, _option))
    return options.get(b"MAXSIZE"), options.get(b"DEPTH", 0)


def _option(cursor: Cursor) -> tuple[bytes, int]:
    if cursor.take_keyword(b"MAXSIZE"):
        cursor.expect_space()
        return b"MAXSIZE", expect_number(cursor, "a size")
    if not cursor.take_keyword(b"DEPTH"):
        cursor.fail("MAXSIZE or DEPTH")
    cursor.expect_space()
    for word, depth in ((b"0", 0), (b"1", 1), (b"INFINITY", INFINITE)):
        if cursor.take_keyword(word):
            return b"DEPTH", depth
    return cursor.fail("0, 1 or infinity")


# entries = entry / "(" entry *(SP entry) ")"
def expect_entries(cursor: Cursor) -> tuple[str, ...]:
    """One entry or several, each once however it is spelled."""
    found = expect_list(cursor, _entry) if cursor.is_next(b"(") else (_entry(cursor),)
    return tuple({entry.lower(): entry for entry in found}.values())


# entry = astring        ; slash-separated path to entry, MUST NOT contain "*" or "%"
def _entry(cursor: Cursor) -> str:
    octets = expect_astring(cursor, "an entry")
    if len(octets) > _ENTRY_OCTETS:
        cursor.refuse("entry name too long")
    if not octets.isascii() or any(octet < 0x20 or octet in b"*%\x7f" for octet in octets):
        cursor.refuse("a character of the entry name is not possible")
    entry = octets.decode("ascii")
    if "//" in entry or entry.endswith("/") or not f"{entry.lower()}/".startswith(("/private/", "/shared/")):
        cursor.refuse("not an entry name")
    return entry


# setmetadata  = "SETMETADATA" SP mailbox SP entry-values
# entry-values = "(" entry-value *(SP entry-value) ")"
def expect_setmetadata(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows SETMETADATA."""
    cursor.expect_space()
    mailbox = expect_mailbox(cursor)
    cursor.expect_space()
    return SetMetadata(tag, mailbox, dict(expect_list(cursor, _entry_value)))


# entry-value = entry SP value, value = nstring / literal8
def _entry_value(cursor: Cursor) -> tuple[str, bytes | None]:
    entry = _entry(cursor).lower()
    if entry in _ROOTS:
        cursor.refuse("not an entry name")
    cursor.expect_space()
    value = take_literal(cursor, is_binary=True)
    if value is None:
        value = take_string(cursor)
    if value is None and not cursor.take_keyword(b"NIL"):
        cursor.fail("a value")
    return entry, value


def metadata_line(mailbox: bytes, values: Iterable[tuple[str, bytes | None]]) -> bytes:
    """`* METADATA INBOX (/shared/comment "x" …)`, RFC 5464 §4.4.1; the mailbox as mailbox_name() gave it."""
    words = [b"%b %b" % (response.astring(entry.encode("ascii")), _value(value)) for entry, value in values]
    return response.line(b"METADATA", mailbox, response.parenthesized(words))


def changed_line(mailbox: bytes, entries: Iterable[str]) -> bytes:
    """`* METADATA INBOX /shared/comment …`, without values: something changed (RFC 5464 §4.4.2)."""
    return response.line(b"METADATA", mailbox, *(response.astring(entry.encode("ascii")) for entry in entries))


def _value(value: bytes | None) -> bytes:
    if value is not None and b"\x00" in value:
        return b"~" + response.literal(value)
    return response.nstring(value)


def longentries(size_octets: int) -> bytes:
    """The code METADATA LONGENTRIES, RFC 5464 §4.2.1."""
    return b"METADATA LONGENTRIES %d" % size_octets


def maxsize(size_octets: int) -> bytes:
    """The code METADATA MAXSIZE, RFC 5464 §4.3."""
    return b"METADATA MAXSIZE %d" % size_octets
