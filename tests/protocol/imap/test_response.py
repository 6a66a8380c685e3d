"""The exact octets of each response (RFC 3501 §7), and that a client of another make reads them."""

from datetime import UTC, datetime, timedelta, timezone
from imaplib import Internaldate2tuple, ParseFlags
from time import mktime

import pytest

from protocol.imap import response
from protocol.imap.cursor import Cursor
from protocol.imap.dates import render_date_time, take_date_time
from protocol.imap.fetch import FetchAttribute, Item, Section
from protocol.imap.flags import bits_of, render_flags
from protocol.imap.limits import Limits

LINES = [
    (response.tagged(b"a1", "OK", None, "done"), b"a1 OK done\r\n"),
    (response.tagged(b"a1", "NO", b"TRYCREATE", "no such mailbox"), b"a1 NO [TRYCREATE] no such mailbox\r\n"),
    (response.tagged(None, "BAD", None, "expected a tag at octet 1"), b"* BAD expected a tag at octet 1\r\n"),
    (response.tagged(b"a", "OK", None, ""), b"a OK -\r\n"),
    (response.untagged("OK", b"UIDVALIDITY 7", "ok"), b"* OK [UIDVALIDITY 7] ok\r\n"),
    (response.bye("shutting down"), b"* BYE shutting down\r\n"),
    (response.continuation(), b"+ OK\r\n"),
    (response.continuation(""), b"+ \r\n"),
    (response.capability([b"IMAP4rev1", b"IDLE"]), b"* CAPABILITY IMAP4rev1 IDLE\r\n"),
    (response.enabled([]), b"* ENABLED\r\n"),
    (response.identification(None), b"* ID NIL\r\n"),
    (response.identification({b"name": b"Postwerk", b"os": None}), b'* ID ("name" "Postwerk" "os" NIL)\r\n'),
    (response.namespace(""), b'* NAMESPACE (("" "/")) NIL NIL\r\n'),
    (response.namespace("", "Other Users/"), b'* NAMESPACE (("" "/")) (("Other Users/" "/")) NIL\r\n'),
    (response.list_line([rb"\HasNoChildren"], b"INBOX"), b'* LIST (\\HasNoChildren) "/" INBOX\r\n'),
    (response.list_line([], response.mailbox_name("Entwürfe/A B")), b'* LIST () "/" "Entw&APw-rfe/A B"\r\n'),
    (response.list_line([], response.mailbox_name("Entwürfe", is_utf8=True)), '* LIST () "/" "Entwürfe"\r\n'.encode()),
    (response.list_line([], response.mailbox_name("a\r\nü", is_utf8=True)), '* LIST () "/" {5}\r\na\r\nü\r\n'.encode()),
    (response.list_line([], response.mailbox_name('A"\\'), extended=b'("CHILDINFO" ("SUBSCRIBED"))'),
     rb'* LIST () "/" "A\"\\" ("CHILDINFO" ("SUBSCRIBED"))' + b"\r\n"),
    (response.list_line([], response.mailbox_name("nil")), b'* LIST () "/" "nil"\r\n'),
    (response.lsub_line([rb"\Noselect"], response.mailbox_name("A&B")), b'* LSUB (\\Noselect) "/" A&-B\r\n'),
    (response.status_line(b"A", [(b"MESSAGES", 231), (b"UIDNEXT", 44292)]), b"* STATUS A (MESSAGES 231 UIDNEXT 44292)\r\n"),
    (response.flags_line([rb"\Seen", b"x"]), b"* FLAGS (\\Seen x)\r\n"),
    (response.search_line([]), b"* SEARCH\r\n"),
    (response.search_line([2, 84, 882]), b"* SEARCH 2 84 882\r\n"),
    (response.search_line([2], 917162500), b"* SEARCH 2 (MODSEQ 917162500)\r\n"),
    (response.search_line([], 917162500), b"* SEARCH\r\n"),
    (response.esearch_line(b"A282", False, [(b"MIN", b"2"), (b"COUNT", b"3")]), b'* ESEARCH (TAG "A282") MIN 2 COUNT 3\r\n'),
    (response.esearch_line(b"A2", True, []), b'* ESEARCH (TAG "A2") UID\r\n'),
    (response.exists(23), b"* 23 EXISTS\r\n"),
    (response.recent(5), b"* 5 RECENT\r\n"),
    (response.expunge(44), b"* 44 EXPUNGE\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "octets"), LINES, ids=[repr(octets)[2:40] for _, octets in LINES])
def test_line(line: bytes, octets: bytes) -> None:
    """Each response is exactly these octets."""
    assert line == octets


def test_fetch_pieces() -> None:
    """A FETCH response is its pieces joined; streamed, it is the same octets."""
    moment = datetime(1996, 7, 7, 2, 44, 25, tzinfo=timezone(-timedelta(hours=7, minutes=30)))
    text = FetchAttribute(Item.SECTION, Section((1,), "TEXT"), (0, 4), is_peek=True)
    pieces = [
        response.fetch_uid(7),
        response.fetch_flags(render_flags(1)),
        response.fetch_internaldate(moment),
        response.fetch_size(44827),
        response.fetch_modseq(65402),
        response.fetch_rendered(b"ENVELOPE", b"(NIL)"),
        response.fetch_octets(text.label, b"a\0\r\n"),
    ]
    octets = (
        b'* 12 FETCH (UID 7 FLAGS (\\Seen) INTERNALDATE " 7-Jul-1996 02:44:25 -0730" RFC822.SIZE 44827 MODSEQ (65402) '
        b"ENVELOPE (NIL) BODY[1.TEXT]<0> {4}\r\na\0\r\n)\r\n"
    )
    assert response.fetch(12, pieces) == octets
    pieces[-1] = response.fetch_octets_head(text.label, 4) + b"a\0\r\n"
    assert response.fetch_head(12) + b" ".join(pieces) + response.FETCH_TAIL == octets
    assert response.fetch_octets(b"BODY[9]", None) == b"BODY[9] NIL"
    assert response.fetch_octets(b"RFC822", b"") == b"RFC822 {0}\r\n"


@pytest.mark.parametrize(
    ("section", "label"),
    [
        (Section(), b"BODY[]"),
        (Section((4, 1), "MIME"), b"BODY[4.1.MIME]"),
        (Section((), "HEADER.FIELDS", (b"From", b"X-A B", b'"')), rb'BODY[HEADER.FIELDS (From "X-A B" "\"")]'),
        (Section((2,), "HEADER.FIELDS.NOT", (b"To",)), b"BODY[2.HEADER.FIELDS.NOT (To)]"),
    ],
)
def test_section_labels(section: Section, label: bytes) -> None:
    """The label repeats the section as the client may write it."""
    assert FetchAttribute(Item.SECTION, section).label == label


def test_what_sets_seen() -> None:
    r"""BODY[…], BINARY[…], RFC822 and RFC822.TEXT set \Seen, their other forms do not (RFC 3501 §6.4.5)."""
    whole = Section()
    bracketed = {Item.SECTION, Item.BINARY}
    sets = {Item.RFC822, Item.RFC822_TEXT}
    for item in Item:
        if item not in bracketed:
            assert FetchAttribute(item).sets_seen == (item in sets)
    for item in bracketed:
        assert FetchAttribute(item, whole).sets_seen
        assert not FetchAttribute(item, whole, is_peek=True).sets_seen


def test_codes() -> None:
    """The codes of RFC 4315 §3, their sets in the order of the pairs."""
    assert response.appenduid(38505, [3955]) == b"APPENDUID 38505 3955"
    assert response.copyuid(38505, [304, 319, 320], [3956, 3957, 3958]) == b"COPYUID 38505 304,319:320 3956:3958"
    assert response.permanentflags([rb"\Seen", rb"\*"]) == rb"PERMANENTFLAGS (\Seen \*)"


@pytest.mark.parametrize(
    ("octets", "astring", "nstring"),
    [
        (b"", b'""', b'""'),
        (b"abc]", b"abc]", b'"abc]"'),
        (b"a b", b'"a b"', b'"a b"'),
        (b'a"\\', b'"a\\"\\\\"', b'"a\\"\\\\"'),
        (b"NIL", b'"NIL"', b'"NIL"'),
        (b"a\r\n", b"{3}\r\na\r\n", b"{3}\r\na\r\n"),
        ("ü".encode(), b"{2}\r\n\xc3\xbc", b"{2}\r\n\xc3\xbc"),
        (b"x" * 1025, b"x" * 1025, b"{1025}\r\n" + b"x" * 1025),
    ],
)
def test_strings(octets: bytes, astring: bytes, nstring: bytes) -> None:
    """Each string takes the plainest form that can carry it."""
    assert response.astring(octets) == astring
    assert response.nstring(octets) == nstring
    assert response.nstring(None) == b"NIL"


def test_flags_as_bits() -> None:
    """System flags are bits and the rest keywords; rendering gives them back, and imaplib reads them."""
    assert bits_of([rb"\Draft", b"x", rb"\Seen", b"x"]) == (17, ["x"])
    assert render_flags(0) == b"()"
    assert render_flags(31, ("$Junk",), is_recent=True) == rb"(\Seen \Answered \Flagged \Deleted \Draft $Junk \Recent)"
    assert ParseFlags(b"FLAGS " + render_flags(3, ("x",))) == (rb"\Seen", rb"\Answered", b"x")


def test_internaldate_reads_back() -> None:
    """INTERNALDATE's form is read by our parser and by imaplib as the same moment."""
    moment = datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)
    octets = render_date_time(moment)
    assert octets == b'"29-Feb-2024 23:59:58 +0000"'
    assert take_date_time(Cursor(octets, {}, Limits())) == moment
    read = Internaldate2tuple(b"INTERNALDATE " + octets)
    assert read is not None
    assert mktime(read) == moment.timestamp()
