"""POP3 responses: byte-stuffing, TOP and listings, in one piece and in many."""

import io
import poplib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.pop3 import response
from protocol.pop3.response import Code, Stuffing, TopCut
from tests.feeding import cut

LINES = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x", b"\r", b"\n", b"\r\n", b".\r\n", b"text."])).map(
    b"".join
)
STEPS = st.sampled_from([None, 1, 2, 3, 5])


def stuffed(octets: bytes, step: int | None) -> bytes:
    stuffing = Stuffing()
    return b"".join(map(stuffing.feed, cut(octets, step))) + stuffing.end()


def unstuffed(octets: bytes) -> bytes:
    """As RFC 1939 §3 has it: lines end with CRLF, one leading dot is removed, a dot alone ends the message."""
    assert octets == b".\r\n" or octets.endswith(b"\r\n.\r\n"), "the message does not end"
    lines = octets.split(b"\r\n")[:-2]
    assert b"." not in lines, "the message ends too early"
    return b"".join([line.removeprefix(b".") + b"\r\n" for line in lines])


def at_line_feeds(octets: bytes) -> list[bytes]:
    """What a client that cuts lines at LF takes for the message; the rest it would take for the next reply."""
    lines = io.BytesIO(octets).readlines()
    return lines[: next(at for at, line in enumerate(lines) if line in (b".\r\n", b".\n")) + 1]


@pytest.mark.parametrize(
    ("octets", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
        (b"a\n", b"a\n\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n..b\r\n", b"a\r\n...b\r\n.\r\n"),
        (b"a\n.\r\nb\r\n", b"a\n..\r\nb\r\n.\r\n"),
        (b"a\r.\r\n", b"a\r.\r\n.\r\n"),
        (b"a.\r\n", b"a.\r\n.\r\n"),
    ],
)
@pytest.mark.parametrize("step", [None, 1])
def test_stuffing(octets: bytes, wire: bytes, step: int | None) -> None:
    """A dot at the beginning of a line is doubled, an unended last line is ended, then comes the termination octet."""
    assert stuffed(octets, step) == wire


@given(octets=LINES | st.binary(), step=STEPS)
@example(octets=b"\r\n", step=1)
def test_stuffing_reads_back(octets: bytes, step: int | None) -> None:
    """Whatever the message and however it is cut, a client gets it back, plus at most the CRLF it lacked, and a dot
    behind a bare LF that would look like the end."""
    whole = stuffed(octets, None)
    assert stuffed(octets, step) == whole == response.stuffed_message(octets)
    ended = octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"
    assert unstuffed(whole) == re.sub(rb"(?<!\r)\n\.(?=\r?\n)", b"\n..", ended)


@given(octets=LINES | st.binary())
def test_no_client_takes_a_part_of_a_message_for_a_reply(octets: bytes) -> None:
    """Also a client that cuts lines at LF finds the end of a message at its end, wherever bare LFs stand in it."""
    whole = stuffed(octets, None)
    assert b"".join(at_line_feeds(whole)) == whole


def test_poplib_agrees() -> None:
    """Python's own client reads a message full of dots and bare line ends without losing its place."""
    message = b"Subject: dots\r\n\r\n.\r\n..\n.\n.a\r\nend\r\n"

    class Wire(poplib.POP3):
        def __init__(self, octets: bytes) -> None:
            self.file = io.BytesIO(octets)
            self._debugging = 0

        def retr(self, which: int | str) -> tuple[bytes, list[bytes], int]:
            return self._getlongresp()  # type: ignore[attr-defined, no-any-return]

    client = Wire(response.ok() + response.stuffed_message(message) + response.ok("next"))
    assert client.retr(1)[1] == message.replace(b"\r\n", b"\n").split(b"\n")[:-1]
    assert client._getresp() == b"+OK next"  # type: ignore[attr-defined]


def top(octets: bytes, lines: int, step: int | None) -> bytes:
    cutting = TopCut(lines)
    return b"".join(map(cutting.feed, cut(octets, step)))


@pytest.mark.parametrize(
    ("octets", "lines", "expected"),
    [
        (b"A: 1\r\n\r\nx\r\ny\r\n", 0, b"A: 1\r\n\r\n"),
        (b"A: 1\r\n\r\nx\r\ny\r\n", 1, b"A: 1\r\n\r\nx\r\n"),
        (b"A: 1\r\n\r\nx\r\ny\r\n", 2, b"A: 1\r\n\r\nx\r\ny\r\n"),
        (b"A: 1\r\n\r\nx\r\ny\r\n", 99, b"A: 1\r\n\r\nx\r\ny\r\n"),
        (b"A: 1\n\nx\ny\n", 1, b"A: 1\n\nx\n"),
        (b"\r\nx\r\ny\r\n", 1, b"\r\nx\r\n"),
        (b"A: 1\r\n", 5, b"A: 1\r\n"),
        (b"A: 1\r\n\r\n\r\n\r\nz", 2, b"A: 1\r\n\r\n\r\n\r\n"),
        (b"", 3, b""),
    ],
)
@pytest.mark.parametrize("step", [None, 1, 2])
def test_top(octets: bytes, lines: int, expected: bytes, step: int | None) -> None:
    """TOP gives the header, the empty line and so many lines of the body, or all there is (RFC 1939 §7)."""
    assert top(octets, lines, step) == expected


@given(octets=LINES | st.binary(), lines=st.integers(0, 6), step=STEPS)
def test_top_is_the_same_in_pieces(octets: bytes, lines: int, step: int | None) -> None:
    """However the message is cut, TOP gives the same beginning of it."""
    whole = top(octets, lines, None)
    assert top(octets, lines, step) == whole
    assert octets.startswith(whole)


def test_top_knows_when_it_is_done() -> None:
    """After the last line nothing more needs to be read from the store."""
    cutting = TopCut(1)
    cutting.feed(b"A: 1\r\n\r\nx\r")
    assert not cutting.is_done
    assert cutting.feed(b"\ny") == b"\n"
    assert cutting.is_done
    assert cutting.feed(b"more\r\n") == b""


def test_status_lines() -> None:
    """Status lines carry a response code in brackets where there is one (RFC 2449 §8)."""
    assert response.ok() == b"+OK\r\n"
    assert response.ok("done") == b"+OK done\r\n"
    assert response.error("no") == b"-ERR no\r\n"
    assert response.error("locked", Code.IN_USE) == b"-ERR [IN-USE] locked\r\n"
    assert response.error("later", Code.SYS_TEMP) == b"-ERR [SYS/TEMP] later\r\n"


def test_listing_leaves_deleted_messages_out() -> None:
    """A message marked as deleted keeps its number, but is not listed (RFC 1939 §5)."""
    assert response.numbered([120, 200, 300], {2}) == b"1 120\r\n3 300\r\n.\r\n"
    assert response.numbered([7], set(), "1.") == b"1 1.7\r\n.\r\n"
    assert response.numbered([], set()) == b".\r\n"
