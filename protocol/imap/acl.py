"""Access control lists, RFC 4314: the commands (§3.1 to §3.5), their grammar (§7), and their responses (§3.6 to §3.8)."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from protocol.imap import response
from protocol.imap.command import Command
from protocol.imap.cursor import Cursor, expect_astring
from protocol.imap.names import expect_mailbox

RIGHTS = "lrswipkxtea"
"""RFC 4314 §2.1, in its order."""
# RFC 4314 §2.1.1: we take the first of its two readings, so "x" belongs to "c".
_CREATE, _DELETE = frozenset("kx"), frozenset("et")
_VIRTUAL = (("c", _CREATE), ("d", _DELETE))
_IDENTIFIER_OCTETS = 1000  # ours

Change = Literal["replace", "add", "remove"]


@dataclass(frozen=True, slots=True)
class Identifier:
    """Whom a list's entry is about; negative rights are taken away from him (RFC 4314 §2)."""

    name: str
    is_negative: bool = False


@dataclass(frozen=True, slots=True)
class SetAcl(Command):
    """SETACL, RFC 4314 §3.1."""

    mailbox: str
    identifier: Identifier
    change: Change
    rights: frozenset[str]


@dataclass(frozen=True, slots=True)
class DeleteAcl(Command):
    """DELETEACL, RFC 4314 §3.2."""

    mailbox: str
    identifier: Identifier


@dataclass(frozen=True, slots=True)
class GetAcl(Command):
    """GETACL, RFC 4314 §3.3."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class ListRights(Command):
    """LISTRIGHTS, RFC 4314 §3.4. The answer repeats the identifier as it was written."""

    mailbox: str
    identifier: Identifier
    spelling: bytes


@dataclass(frozen=True, slots=True)
class MyRights(Command):
    """MYRIGHTS, RFC 4314 §3.5."""

    mailbox: str


# setacl = "SETACL" SP mailbox SP identifier SP mod-rights
def expect_setacl(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows SETACL."""
    mailbox, identifier, _ = _mailbox_and_identifier(cursor)
    cursor.expect_space()
    change, rights = _mod_rights(cursor)
    return SetAcl(tag, mailbox, identifier, change, rights)


# deleteacl = "DELETEACL" SP mailbox SP identifier
def expect_deleteacl(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows DELETEACL."""
    mailbox, identifier, _ = _mailbox_and_identifier(cursor)
    return DeleteAcl(tag, mailbox, identifier)


# getacl = "GETACL" SP mailbox
def expect_getacl(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows GETACL."""
    cursor.expect_space()
    return GetAcl(tag, expect_mailbox(cursor))


# listrights = "LISTRIGHTS" SP mailbox SP identifier
def expect_listrights(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows LISTRIGHTS."""
    return ListRights(tag, *_mailbox_and_identifier(cursor))


# myrights = "MYRIGHTS" SP mailbox
def expect_myrights(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows MYRIGHTS."""
    cursor.expect_space()
    return MyRights(tag, expect_mailbox(cursor))


# identifier = astring
def _mailbox_and_identifier(cursor: Cursor) -> tuple[str, Identifier, bytes]:
    cursor.expect_space()
    mailbox = expect_mailbox(cursor)
    cursor.expect_space()
    spelling = expect_astring(cursor, "an identifier")
    return mailbox, _identifier(cursor, spelling), spelling


def _identifier(cursor: Cursor, spelling: bytes) -> Identifier:
    """The identifier prepared as names are compared (RFC 4314 §3; SASLprep is NFKC less what nobody can type)."""
    try:
        text = spelling.decode("utf-8")
    except UnicodeDecodeError:
        cursor.refuse("identifier is not UTF-8")
    is_negative = text.startswith("-")
    name = unicodedata.normalize("NFKC", text.removeprefix("-"))
    if not name or len(spelling) > _IDENTIFIER_OCTETS or any(unicodedata.category(one)[0] == "C" for one in name):
        cursor.refuse("not a possible identifier")
    return Identifier(name, is_negative)


# mod-rights = astring      ; +rights to add, -rights to remove, rights to replace
def _mod_rights(cursor: Cursor) -> tuple[Change, frozenset[str]]:
    words = expect_astring(cursor, "rights")
    change: Change = "replace"
    if words[:1] in (b"+", b"-"):
        change = "add" if words[:1] == b"+" else "remove"
        words = words[1:]
    letters = words.decode("latin-1")
    if any(letter not in RIGHTS and letter not in "cd" for letter in letters):
        cursor.refuse("a right that is not known here; rights are in lower case")  # RFC 4314 §3.1: MUST be BAD
    return change, expanded(letters)


def expanded(letters: Iterable[str]) -> frozenset[str]:
    """The rights without the virtual "c" and "d", which stand for their members (RFC 4314 §2.1.1)."""
    given = frozenset(letters)
    for virtual, members in _VIRTUAL:
        if virtual in given:
            given = given - {virtual} | members
    return given


def rights(held: Iterable[str]) -> bytes:
    """Rights as they are told: "c" and "d" are added where any member of theirs is held (RFC 4314 §2.1.1)."""
    letters = frozenset(held)
    told = [letter for letter in RIGHTS if letter in letters]
    told += [virtual for virtual, members in _VIRTUAL if not members.isdisjoint(letters)]
    return response.astring("".join(told).encode("ascii"))


# acl-data = "ACL" SP mailbox *(SP identifier SP rights)
def acl_line(mailbox: bytes, entries: Iterable[tuple[Identifier, Iterable[str]]]) -> bytes:
    """`* ACL INBOX fred rwipslxetad -fred wetd`; the name as mailbox_name() gave it."""
    words: list[bytes] = []
    for identifier, held in entries:
        spelling = ("-" if identifier.is_negative else "") + identifier.name
        words += [response.astring(spelling.encode("utf-8")), rights(held)]
    return response.line(b"ACL", mailbox, *words)


# listrights-data = "LISTRIGHTS" SP mailbox SP identifier SP rights *(SP rights)
def listrights_line(mailbox: bytes, spelling: bytes, required: Iterable[str], optional: Sequence[str]) -> bytes:
    """`* LISTRIGHTS INBOX fred "" l r s w i p k x t e c d a`: what is always held, then what can be given, tied or alone."""
    given = [*optional, *(virtual for virtual, members in _VIRTUAL if not members.isdisjoint("".join(optional)))]
    words = [letters.encode("ascii") for letters in given]
    return response.line(b"LISTRIGHTS", mailbox, response.astring(spelling), rights(required), *words)


# myrights-data = "MYRIGHTS" SP mailbox SP rights
def myrights_line(mailbox: bytes, held: Iterable[str]) -> bytes:
    """`* MYRIGHTS INBOX rwiptsldaex`."""
    return response.line(b"MYRIGHTS", mailbox, rights(held))
