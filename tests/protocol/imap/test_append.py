"""APPEND and REPLACE: what the reader asks and tells, however the octets are cut."""

from datetime import UTC, datetime

import pytest

from protocol.imap.append import Replaced
from protocol.imap.command import Noop
from protocol.imap.events import (
    AppendEnds,
    AppendLiteral,
    AppendMessage,
    AppendOctets,
    AppendStarts,
    AppendUrl,
    Continue,
    Rejected,
)
from protocol.imap.limits import Limits
from protocol.imap.reader import CommandReader
from tests.protocol.imap.feeds import read, read_three_ways

STARTS, ENDS = AppendStarts(b"a", "A"), AppendEnds(b"a")
MESSAGE = AppendMessage((), None)

HEADS = [
    (b"", ((), None)),
    (rb"(\Seen $MDNSent \Recent) ", ((rb"\Seen", b"$MDNSent"), None)),
    (b'"17-Jul-1996 02:44:25 -0700" ', ((), datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC))),
    (b'() " 7-jul-1996 23:59:60 +0000" ', ((), datetime(1996, 7, 7, 23, 59, 59, tzinfo=UTC))),
]


@pytest.mark.parametrize("mailbox", [b"inbox", b'"INBOX"', b"{5+}\r\nInbox"])
@pytest.mark.parametrize(("words", "head"), HEADS, ids=["bare", "flags", "date", "both"])
def test_append(mailbox: bytes, words: bytes, head: tuple[tuple[bytes, ...], datetime | None]) -> None:
    """APPEND asks first, for the mailbox and then for the literal, and passes the message on (RFC 3501 §6.3.11)."""
    message = b"From: x\r\n\r\n{3}\r\n\0\xff"
    octets = b"a APPEND " + mailbox + b" " + words + b"{%d+}\r\n" % len(message) + message + b"\r\n"
    assert read_three_ways(octets) == [
        AppendStarts(b"a", "INBOX"),
        AppendMessage(*head),
        AppendLiteral(len(message), is_synchronizing=False),
        AppendOctets(message),
        ENDS,
    ]


def test_synchronizing_and_binary() -> None:
    """A synchronising message is marked so, and no Continue is given for it: the session answers."""
    assert read_three_ways(b"a APPEND {1}\r\nA ~{3}\r\na\0b\r\n") == [
        Continue(),
        STARTS,
        MESSAGE,
        AppendLiteral(3, is_synchronizing=True, is_binary=True),
        AppendOctets(b"a\0b"),
        ENDS,
    ]


def test_empty_message() -> None:
    """A message of no octets is reported, not refused: what to say is the session's."""
    events = [STARTS, MESSAGE, AppendLiteral(0, is_synchronizing=False), ENDS]
    assert read_three_ways(b"a APPEND A {0+}\r\n\r\n") == events


def test_several_messages() -> None:
    """Each message has flags and a date of its own (RFC 3502 §6.3.11)."""
    octets = b'a APPEND A (\\Seen) {1+}\r\nx "17-Jul-1996 02:44:25 -0700" {1}\r\ny {1+}\r\nz\r\n'
    assert read_three_ways(octets) == [
        STARTS,
        AppendMessage((rb"\Seen",), None),
        AppendLiteral(1, is_synchronizing=False),
        AppendOctets(b"x"),
        AppendMessage((), datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)),
        AppendLiteral(1, is_synchronizing=True),
        AppendOctets(b"y"),
        MESSAGE,
        AppendLiteral(1, is_synchronizing=False),
        AppendOctets(b"z"),
        ENDS,
    ]


def test_catenate() -> None:
    """Texts and URLs come in order, URLs in any form of string (RFC 4469 §3), and another message may follow."""
    octets = b'a APPEND A CATENATE (URL "/B/;UID=1" TEXT {1+}\r\nx URL {3+}\r\n/C/ text {0}\r\n URL /D) (\\Draft) {1+}\r\nz\r\n'
    assert read_three_ways(octets) == [
        STARTS,
        MESSAGE,
        AppendUrl(b"/B/;UID=1"),
        AppendLiteral(1, is_synchronizing=False),
        AppendOctets(b"x"),
        AppendUrl(b"/C/"),
        AppendLiteral(0, is_synchronizing=True),
        AppendUrl(b"/D"),
        AppendMessage((rb"\Draft",), None),
        AppendLiteral(1, is_synchronizing=False),
        AppendOctets(b"z"),
        ENDS,
    ]
    assert read_three_ways(b"a APPEND A CATENATE (URL /B)\r\n") == [STARTS, MESSAGE, AppendUrl(b"/B"), ENDS]


def test_utf8() -> None:
    """UTF8 has a literal8 in parentheses (RFC 6855 §4), also as a part."""
    literal = [AppendLiteral(1, is_synchronizing=False, is_binary=True, is_utf8=True), AppendOctets(b"x")]
    assert read_three_ways(b"a APPEND A UTF8 (~{1+}\r\nx)\r\n") == [STARTS, MESSAGE, *literal, ENDS]
    assert read_three_ways(b"a APPEND A CATENATE (UTF8 (~{1+}\r\nx))\r\n") == [STARTS, MESSAGE, *literal, ENDS]


@pytest.mark.parametrize(
    ("words", "replaced"),
    [
        (b"REPLACE 7", Replaced(7)),
        (b"replace *", Replaced(None)),
        (b"UID REPLACE 4294967295", Replaced(4294967295, is_uid=True)),
        (b"uid replace *", Replaced(None, is_uid=True)),
    ],
)
def test_replace(words: bytes, replaced: Replaced) -> None:
    """REPLACE names a message and is APPEND from there on (RFC 8508 §3)."""
    assert read_three_ways(b"a " + words + b" {1+}\r\nA (\\Seen) {1+}\r\nx\r\n") == [
        AppendStarts(b"a", "A", replaced),
        AppendMessage((rb"\Seen",), None),
        AppendLiteral(1, is_synchronizing=False),
        AppendOctets(b"x"),
        ENDS,
    ]


REFUSED = [
    (b"a APPEND A {1+}\r\nxx\r\n", "expected a space at octet 1"),
    (b"a APPEND A {1+}\r\nx {4+}\r\nb NOz\r\n", "expected a space at octet 1"),
    (b"a APPEND A {1+}\r\nx (\\Seen)\r\n", "expected a space at octet 9"),
    (b"a APPEND A UTF8 ({1+}\r\nx)\r\n", "expected a literal8 at octet 18"),
    (b"a APPEND A UTF8 (~{1+}\r\nx\r\n", "expected ')' at octet 1"),
    (b"a APPEND A CATENATE ()\r\n", "expected TEXT or URL at octet 22"),
    (b"a APPEND A CATENATE (URL)\r\n", "expected a space at octet 25"),
    (b"a APPEND A CATENATE (TEXT x)\r\n", "expected a literal at octet 27"),
    (b"a REPLACE 1 A {1+}\r\nx {1+}\r\ny\r\n", "expected the end of the command at octet 1"),
]


@pytest.mark.parametrize(("octets", "text"), REFUSED)
def test_what_spoils_a_message(octets: bytes, text: str) -> None:
    """What is wrong behind a message is told with the tag by which the session knows the messages it holds."""
    events = read_three_ways(octets)
    assert isinstance(events[0], AppendStarts)
    assert events[-1] == Rejected(b"a", "BAD", None, text)


def test_replace_needs_a_number() -> None:
    """REPLACE without a message, or with several, is refused before anything is asked."""
    for words in (b"REPLACE A", b"REPLACE 0 A", b"REPLACE 1:2 A", b"UID REPLACE A", b"APPEND"):
        (rejected,) = read_three_ways(b"a " + words + b"\r\n")
        assert isinstance(rejected, Rejected)
        assert (rejected.tag, rejected.status) == (b"a", "BAD")


def test_it_waits_for_the_answers() -> None:
    """Without accept() or refuse() nothing comes, whatever arrives."""
    reader = CommandReader()
    assert reader.receive(b"a APPEND A {3+}\r\nab") == [STARTS]
    assert reader.is_waiting
    assert reader.receive(b"c\r\nb NOOP\r\n") == []
    assert reader.is_waiting
    reader.accept()
    assert reader.receive(b"") == [MESSAGE, AppendLiteral(3, is_synchronizing=False)]
    assert reader.receive(b"") == []
    reader.accept()
    assert reader.receive(b"") == [AppendOctets(b"abc"), ENDS, Noop(b"b")]


@pytest.mark.parametrize(
    "octets", [b"a APPEND A {3+}\r\nabc\r\n", b"a APPEND A {3}\r\n", b"a APPEND A CATENATE (URL x)\r\n"]
)
@pytest.mark.parametrize("step", [None, 1])
def test_refused_at_the_mailbox(octets: bytes, step: int | None) -> None:
    """A refused command gives no events: a synchronising message never comes, a non-synchronising one is swallowed."""
    assert read(octets + b"b NOOP\r\n", step=step, accepts=False) == [STARTS, Noop(b"b")]


@pytest.mark.parametrize("is_synchronizing", [False, True])
def test_refused_at_a_later_message(*, is_synchronizing: bool) -> None:
    """Refusing one literal ends the whole command, with what comes of it all the same."""
    reader = CommandReader()
    rest = b"" if is_synchronizing else b"xy (\\Seen) {2+}\r\nzz\r\n"
    reader.receive(b"a APPEND A {1+}\r\nx {2%b}\r\n" % (b"" if is_synchronizing else b"+") + rest + b"b NOOP\r\n")
    for _ in range(2):
        reader.accept()
        events = reader.receive(b"")
    assert events == [AppendOctets(b"x"), MESSAGE, AppendLiteral(2, is_synchronizing)]
    reader.refuse()
    assert reader.receive(b"") == [Noop(b"b")]


def test_messages_pass_through() -> None:
    """Messages are passed on as they come and never collected."""
    reader = CommandReader()
    reader.receive(b"a APPEND A {1000000}\r\n")
    for _ in range(2):
        reader.accept()
        reader.receive(b"")
    piece = b"x" * 10000
    for _ in range(100):
        assert reader.receive(piece) == [AppendOctets(piece)]
        assert reader.buffered_octets == 0
    assert reader.receive(b"\r\n") == [ENDS]


def test_lines_between_messages_are_limited() -> None:
    """What stands between the messages of one command counts as one command."""
    limits = Limits(command_octets=100)
    events = read_three_ways(b"a APPEND A" + b" (\\Seen $Forwarded) {1+}\r\nx" * 10 + b"\r\n", limits=limits)
    assert events[-1] == Rejected(b"a", "BAD", None, "command too large")
