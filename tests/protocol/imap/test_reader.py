"""What the reader does between commands: waiting, raw lines, APPEND taken or refused, and what it keeps."""

import time

import pytest

from protocol.imap.command import Authenticate, Enable, Idle, Login, Noop, Select, StartTls
from protocol.imap.events import Continue, Line, Rejected
from protocol.imap.limits import Limits
from protocol.imap.reader import CommandReader
from tests.protocol.imap.feeds import read


def test_pipelined_commands_come_together() -> None:
    """Commands that arrive together are given together, in order; the rest of a line is kept."""
    reader = CommandReader()
    assert reader.receive(b"a NOOP\r\nb SELECT A\r\nc NO") == [Noop(b"a"), Select(b"b", "A")]
    assert not reader.is_waiting
    assert reader.buffered_octets == 4
    assert reader.receive(b"OP\r\n") == [Noop(b"c")]
    assert reader.receive(b"") == []
    assert repr(reader) == "<CommandReader reading, 0 octets kept>"


@pytest.mark.parametrize(
    ("octets", "event"),
    [
        (b"a IDLE", Idle(b"a")),
        (b"a AUTHENTICATE PLAIN", Authenticate(b"a", b"PLAIN", None)),
        (b"a STARTTLS", StartTls(b"a")),
        (b"a ENABLE X", Enable(b"a", (b"X",))),
        (b"a LOGIN x y", Login(b"a", b"x", b"y")),
    ],
)
def test_waits_behind_what_changes_the_conversation(octets: bytes, event: object) -> None:
    """Nothing is read behind a command that may change what the next octets mean, until the session comes again."""
    reader = CommandReader()
    assert reader.receive(octets + b"\r\nb NOOP\r\n") == [event]
    assert reader.is_waiting
    assert reader.receive(b"") == [Noop(b"b")]


def test_lines_of_an_exchange() -> None:
    """expect_line() gives the next line as it is, once: SASL responses, "*", DONE; a literal's spelling means nothing there."""
    reader = CommandReader()
    assert reader.receive(b"a AUTHENTICATE X\r\nAGE=\r\n{5}\r\nb NOOP\r\n") == [Authenticate(b"a", b"X", None)]
    reader.expect_line()
    assert reader.receive(b"") == [Line(b"AGE=")]
    assert reader.is_waiting
    reader.expect_line()
    assert reader.receive(b"") == [Line(b"{5}")]
    assert reader.receive(b"") == [Noop(b"b")]


def test_line_too_long_in_an_exchange() -> None:
    """A response above the line limit is refused untagged, and the next line is a command again."""
    reader = CommandReader(Limits(line_octets=20))
    reader.receive(b"a IDLE\r\n")
    reader.expect_line()
    assert reader.receive(b"x" * 30) == [Rejected(None, "BAD", None, "command line too long")]
    assert reader.receive(b"x\r\nb NOOP\r\n") == [Noop(b"b")]


def test_limits_change_with_the_state() -> None:
    """The session may replace the limits: what was too large before login is not after it."""
    reader = CommandReader(Limits(literal_octets=2))
    assert reader.receive(b"a LOGIN {3}\r\n") == [Rejected(b"a", "BAD", None, "literal too large")]
    reader.limits = Limits()
    assert reader.receive(b"a LOGIN {3}\r\n") == [Continue()]
    assert reader.receive(b"bob x\r\n") == [Login(b"a", b"bob", b"x")]


def test_names_once_utf8_is_enabled() -> None:
    """After ENABLE UTF8=ACCEPT "&" stands for itself (RFC 6855 §3)."""
    reader = CommandReader()
    assert reader.receive(b"a SELECT A&-B\r\n") == [Select(b"a", "A&B")]
    reader.is_utf8 = True
    assert reader.receive('a SELECT "Ä&-B"\r\n'.encode()) == [Select(b"a", "Ä&-B")]


def test_empty_lines_are_nothing() -> None:
    """Empty lines between commands are passed over, with CRLF or LF alone."""
    assert read(b"\r\n\n\r\na NOOP\n\r\n") == [Noop(b"a")]


def test_closed_reader_gives_nothing() -> None:
    """Behind a fatal refusal there are no events and nothing is kept."""
    reader = CommandReader(Limits(discard_octets=10))
    (rejected,) = reader.receive(b"a BOGUS {11+}\r\nb NOOP\r\n")
    assert isinstance(rejected, Rejected)
    assert rejected.is_fatal
    assert reader.receive(b"c NOOP\r\n") == []
    assert reader.buffered_octets == 0
    assert repr(reader) == "<CommandReader closed, 0 octets kept>"


def test_literals_of_one_command_are_limited() -> None:
    """A command with more literals than it may have arguments is refused at the first too many, not when it is whole."""
    line = b" TEXT {1+}\r\nx"
    assert read(b"a SEARCH" + line * 5 + b"\r\nb NOOP\r\n", limits=Limits(list_items=4)) == [
        Rejected(b"a", "BAD", None, "too many arguments"),
        Noop(b"b"),
    ]


def test_time_for_literals_is_in_proportion() -> None:
    """A command with as many literals as it may have takes not much longer for each than one with few."""

    def seconds(count: int) -> float:
        octets = b"a SEARCH" + b" SEEN {1+}\r\nx" * count + b"\r\n"
        started = time.process_time()
        for _ in range(8000 // count):
            CommandReader(Limits(list_items=10_000)).receive(octets)
        return time.process_time() - started

    assert min(seconds(8000) for _ in range(3)) < 4 * min(seconds(20) for _ in range(3))
