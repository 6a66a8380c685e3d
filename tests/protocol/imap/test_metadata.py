"""GETMETADATA, SETMETADATA, the METADATA response, and METADATA in LIST: octets and what they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.imap import metadata
from protocol.imap.command import List
from protocol.imap.events import Continue, Rejected
from protocol.imap.metadata import INFINITE, GetMetadata, SetMetadata
from tests.protocol.imap.feeds import read_three_ways

ENTRY = "/shared/comment"


@pytest.mark.parametrize(
    ("octets", "command"),
    [
        (b'a GETMETADATA "" /shared/comment', GetMetadata(b"a", "", (ENTRY,))),
        (b"a getmetadata inbox (/shared/comment)", GetMetadata(b"a", "INBOX", (ENTRY,))),
        (
            b"a GETMETADATA INBOX (/shared/comment /Private/Comment /PRIVATE/comment)",
            GetMetadata(b"a", "INBOX", (ENTRY, "/PRIVATE/comment")),
        ),
        (
            b'a GETMETADATA (DEPTH 1 MAXSIZE 1024) INBOX "/shared/a b"',
            GetMetadata(b"a", "INBOX", ("/shared/a b",), 1024, 1),
        ),
        (
            b"a GETMETADATA INBOX (maxsize 0) (/shared/comment)",
            GetMetadata(b"a", "INBOX", (ENTRY,), 0, 0),
        ),
        (
            b"a GETMETADATA (DEPTH Infinity) A /private",
            GetMetadata(b"a", "A", ("/private",), None, INFINITE),
        ),
        (b"a SETMETADATA A (/shared/comment NIL)", SetMetadata(b"a", "A", {ENTRY: None})),
        (
            b'a SETMETADATA A (/SHARED/Comment "x" /private/y "NIL")',
            SetMetadata(b"a", "A", {ENTRY: b"x", "/private/y": b"NIL"}),
        ),
        (
            b'a LIST "" * RETURN (METADATA /shared/comment STATUS (MESSAGES) METADATA (/private/x))',
            List(
                b"a", "", ("*",), (), (b"METADATA", b"STATUS"), (b"MESSAGES",),
                is_extended=True, entries=(ENTRY, "/private/x"),
            ),
        ),
    ],
)  # fmt: skip
def test_commands(octets: bytes, command: GetMetadata | SetMetadata | List) -> None:
    """Each form of RFC 5464 §5 and RFC 9590 §5 is one command."""
    assert read_three_ways(octets + b"\r\n") == [command]


def test_literals() -> None:
    """A value may be a literal or a literal8, and only the latter holds NUL."""
    octets = b"a SETMETADATA A (/shared/x {2}\r\n\r\n /shared/y ~{2+}\r\n\0\0)\r\n"
    values: dict[str, bytes | None] = {"/shared/x": b"\r\n", "/shared/y": b"\0\0"}
    assert read_three_ways(octets) == [Continue(), SetMetadata(b"a", "A", values)]
    (refused,) = read_three_ways(b"a SETMETADATA A (/shared/x {2+}\r\n\0\0)\r\n")
    assert refused == Rejected(b"a", "BAD", None, "NUL in a literal")


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"a GETMETADATA", "expected a space at octet 14"),
        (b"a GETMETADATA INBOX", "expected a space at octet 20"),
        (b"a GETMETADATA INBOX ()", "expected an entry at octet 22"),
        (b"a GETMETADATA (SIZE 1) INBOX /shared/x", "expected MAXSIZE or DEPTH at octet 16"),
        (b"a GETMETADATA (DEPTH 2) INBOX /shared/x", "expected 0, 1 or infinity at octet 22"),
        (b"a GETMETADATA (MAXSIZE x) INBOX /shared/x", "expected a size at octet 24"),
        (b"a GETMETADATA INBOX comment", "not an entry name"),
        (b"a GETMETADATA INBOX /sharedx", "not an entry name"),
        (b"a GETMETADATA INBOX /shared//x", "not an entry name"),
        (b"a GETMETADATA INBOX /shared/", "not an entry name"),
        (b'a GETMETADATA INBOX "/shared/*"', "a character of the entry name is not possible"),
        (b"a GETMETADATA INBOX /shared/" + b"x" * 1000, "entry name too long"),
        (b'a SETMETADATA INBOX (/shared "x")', "not an entry name"),
        (b"a SETMETADATA INBOX (/shared/x)", "expected a space at octet 31"),
        (b"a SETMETADATA INBOX (/shared/x y)", "expected a value at octet 32"),
        (b"a SETMETADATA INBOX /shared/x NIL", "expected '(' at octet 21"),
        (b'a LIST "" * RETURN (METADATA)', "expected a space at octet 29"),
    ],
)
def test_refusals(octets: bytes, text: str) -> None:
    """What is no METADATA is BAD, with what was expected."""
    assert read_three_ways(octets + b"\r\n") == [Rejected(b"a", "BAD", None, text)]


def test_responses() -> None:
    """Values are strings, literals or literal8s; changes are names only."""
    values = [(ENTRY, b"x"), ("/shared/a b", None), ("/shared/z", b"\r"), ("/shared/b", b"\0")]
    line = b'* METADATA A (/shared/comment "x" "/shared/a b" NIL /shared/z {1}\r\n\r /shared/b ~{1}\r\n\0)\r\n'
    assert metadata.metadata_line(b"A", values) == line
    assert metadata.changed_line(b'""', [ENTRY, "/private/x"]) == b'* METADATA "" /shared/comment /private/x\r\n'
    assert (metadata.longentries(5), metadata.maxsize(6)) == (b"METADATA LONGENTRIES 5", b"METADATA MAXSIZE 6")


_ENTRIES = st.from_regex(r'\A/(shared|private)(/[a-z0-9 "\\(){}\[\]]+)+\Z')


@given(_ENTRIES, st.none() | st.binary())
def test_what_is_told_can_be_set(entry: str, value: bytes | None) -> None:
    """An entry and value as METADATA tells them, sent back as SETMETADATA, are the same entry and value."""
    told = metadata.metadata_line(b"A", [(entry, value)]).removeprefix(b"* METADATA")
    if value is not None and told.endswith(b"}\r\n" + value + b")\r\n"):  # clients need not wait to send a literal
        end = len(told) - len(value) - len(b"}\r\n)\r\n")
        told = told[:end] + b"+" + told[end:]
    assert read_three_ways(b"a SETMETADATA" + told) == [SetMetadata(b"a", "A", {entry: value})]


@given(st.text(max_size=60))
def test_any_octets(text: str) -> None:
    """Whatever stands behind SETMETADATA gives a command or a refusal."""
    words = text.translate({0x0A: None, 0x0D: None, ord("}"): None}).encode()
    (event,) = read_three_ways(b"a SETMETADATA A (/shared/x " + words + b"\r\n")
    assert isinstance(event, SetMetadata | Rejected)
