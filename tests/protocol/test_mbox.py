"""mbox files: split into messages, written, and given the line ends of the wire; whole and in pieces."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.mbox import (
    MboxError,
    MboxReader,
    MboxWriter,
    MessageEnds,
    MessageOctets,
    MessageStarts,
    WireForm,
    flags_of,
    received_at,
)
from tests.feeding import cut
from tests.mails import CORPORA

FILES = Path(__file__).parents[1] / "mbox_files"
STEPS = st.sampled_from([None, 1, 2, 5, 100])
AT = datetime(2026, 11, 2, 3, 4, 5, tzinfo=UTC)


def messages(octets: bytes, step: int | None = None) -> list[tuple[datetime | None, bytes]]:
    """The messages of an mbox file with the dates of their From_ lines; each starts and ends properly."""
    reader = MboxReader()
    events = [event for piece in cut(octets, step) for event in reader.receive(piece)] + reader.finish()
    found: list[tuple[datetime | None, bytes]] = []
    is_inside = False
    for event in events:
        match event:
            case MessageStarts(delivered_at):
                assert not is_inside
                found.append((delivered_at, b""))
                is_inside = True
            case MessageOctets(piece):
                assert is_inside
                assert piece
                found[-1] = (found[-1][0], found[-1][1] + piece)
            case MessageEnds():
                assert is_inside
                is_inside = False
    assert not is_inside
    return found


@pytest.mark.parametrize("step", [None, 1, 7, 4096])
def test_mime4j_file(step: int | None) -> None:
    """A file of a mailing list gives the five messages that mime4j finds in it, but for the empty line between them."""
    found = messages((FILES / "rlug.mbox").read_bytes(), step)
    expected = [(CORPORA / "mime4j-mbox" / f"mbox.rlug-{number}").read_bytes() for number in range(5)]
    assert [message + b"\n" for _, message in found] == expected
    assert found[0][0] == datetime(2003, 3, 4, 3, 33, 20, tzinfo=UTC)


@pytest.mark.parametrize("step", [None, 1, 100])
def test_mimekit_files(step: int | None) -> None:
    """From_ lines without a date or without an empty line before them are seen; the sizes are those that MimeKit finds."""
    assert [len(message) for _, message in messages((FILES / "issue1189.mbox").read_bytes(), step)] == [
        529,
        5857,
        529,
        529,
    ]
    simple = messages((FILES / "simple.mbox").read_bytes(), step)
    assert [message.count(b"You are here") for _, message in simple] == [1, 1, 1]
    assert [date for date, _ in simple] == [None] * 3


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"From a Mon Nov  2 03:04:05 2026\n", [b""]),
        (b"From a Mon Nov  2 03:04:05 2026\nA: 1\n\nx\n", [b"A: 1\n\nx\n"]),
        (b"From a Mon Nov  2 03:04:05 2026\nA: 1\n\nx\n\n", [b"A: 1\n\nx\n"]),
        (b"From a Mon Nov  2 03:04:05 2026\nA: 1\n\nx\n\n\n", [b"A: 1\n\nx\n\n"]),
        (b"From a Mon Nov  2 03:04:05 2026\nA: 1\n\nx", [b"A: 1\n\nx"]),
        (
            b"From a Mon Nov  2 03:04:05 2026\r\nA: 1\r\n\r\nx\r\n\r\nFrom b\r\nB: 2\r\n",
            [b"A: 1\r\n\r\nx\r\n", b"B: 2\r\n"],
        ),
        (
            b"From a\nA: 1\n\nx\n\nFrom here on it is text\nand more\n",
            [b"A: 1\n\nx\n\nFrom here on it is text\nand more\n"],
        ),
        (b"From a\nA: 1\n\nFrom Sun to Mon\n", [b"A: 1\n\nFrom Sun to Mon\n"]),
        (b"From a\nA: 1\n\nx\nFrom - \nB: 2\n", [b"A: 1\n\nx\n", b"B: 2\n"]),
        (b"From a\nA: 1\n\nx\nFrom b\nB: 2\n", [b"A: 1\n\nx\nFrom b\nB: 2\n"]),
        (
            b"From a\nA: 1\n\n>From x\n>>From y\n> From z\n>Fromage\n",
            [b"A: 1\n\nFrom x\n>From y\n> From z\n>Fromage\n"],
        ),
    ],
)
def test_separators(octets: bytes, expected: list[bytes], step: int | None) -> None:
    """Empty line, date and header field decide together what begins a message; quoting is undone once."""
    assert [message for _, message in messages(octets, step)] == expected


@pytest.mark.parametrize("octets", [b"Subject: x\n\n", b"\nfrom a\n", b"\0", b"x" * 100_000])
def test_what_is_no_mbox(octets: bytes) -> None:
    """A file that does not begin with a From_ line is refused."""
    with pytest.raises(MboxError):
        messages(octets)


def test_long_lines_are_passed_on() -> None:
    """A line of any length costs bounded memory, and nothing of it is lost or taken for something else."""
    body = b"x" * 150_000 + b"\n>From " + b"y" * 150_000 + b"\nFrom " + b"z" * 150_000
    reader = MboxReader()
    octets = b""
    for piece in cut(b"From - \nA: 1\n\n" + body, 1000):
        octets += b"".join(event.octets for event in reader.receive(piece) if isinstance(event, MessageOctets))
        assert len(reader._octets) <= 66_000
    octets += b"".join(event.octets for event in reader.finish() if isinstance(event, MessageOctets))
    assert octets == b"A: 1\n\n" + body.replace(b">From ", b"From ")


LINES = st.sampled_from(
    [b"From - ", b"From a Mon Nov  2 03:04:05 2026", b"A: 1", b"", b"text", b">From x", b"From x", b"\r"]
)
FILE = st.lists(LINES).map(b"\n".join) | st.lists(LINES).map(b"\r\n".join) | st.binary()


@given(octets=FILE, step=STEPS)
def test_any_octets(octets: bytes, step: int | None) -> None:
    """Any octets give messages or an MboxError, and the same however they are cut."""
    for file in (octets, b"From - \nA: 1\n\n" + octets):
        try:
            whole = messages(file)
        except MboxError:
            with pytest.raises(MboxError):
                messages(file, step)
        else:
            assert messages(file, step) == whole


def written(originals: list[bytes], step: int | None) -> bytes:
    writer = MboxWriter()
    octets = b""
    for original in originals:
        octets += writer.begin(AT) + b"".join(map(writer.feed, cut(original, step))) + writer.finish()
    return octets


@given(originals=st.lists(st.lists(LINES.filter(lambda line: b"\r" not in line)), max_size=4), step=STEPS)
def test_what_is_written_reads_back(originals: list[list[bytes]], step: int | None) -> None:
    """Messages written to a file and read again are the same, line for line, From_ lines in their text included."""
    mails = [b"".join(line + b"\r\n" for line in lines) for lines in originals]
    octets = written(mails, step)
    assert octets == written(mails, None)
    assert b"\r" not in octets
    assert messages(octets) == [(AT, mail.replace(b"\r\n", b"\n")) for mail in mails]


def test_from_line_is_in_utc() -> None:
    """The date of a From_ line is UTC in the form of asctime() (RFC 4155)."""
    at = datetime(2026, 11, 2, 4, 4, 5, tzinfo=timezone(timedelta(hours=1)))
    assert MboxWriter().begin(at) == b"From MAILER-DAEMON Mon Nov  2 03:04:05 2026\n"


def wired(octets: bytes, step: int | None) -> bytes:
    form = WireForm()
    return b"".join(map(form.feed, cut(octets, step))) + form.finish()


@pytest.mark.parametrize("step", [None, 1, 2])
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", b""),
        (b"a", b"a"),
        (b"\n", b"\r\n"),
        (b"\r", b"\r"),
        (b"\r\n", b"\r\n"),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\nb\r\nc\r", b"a\r\nb\r\nc\r"),
        (b"a\r\nb\nc\r\n", b"a\r\nb\nc\r\n"),
        (b"a\rb\nc", b"a\rb\r\nc"),
        (b"a\n\r\n\rb\r\r\n", b"a\r\n\r\n\rb\r\r\n"),
    ],
)
def test_wire_form(octets: bytes, expected: bytes, step: int | None) -> None:
    """A Unix file's line ends become CRLF; a file whose first line ends in CRLF stays as it is."""
    assert wired(octets, step) == expected


@given(octets=st.lists(st.sampled_from([b"\r", b"\n", b"a"])).map(b"".join), step=STEPS)
def test_wire_form_is_stable(octets: bytes, step: int | None) -> None:
    """However it is cut the outcome is the same, and a message in wire form is not changed again."""
    once = wired(octets, None)
    assert wired(octets, step) == once
    assert wired(once, step) == once


def test_flags() -> None:
    """Status, X-Status and X-Keywords become flags."""
    head = b"Status: RO\r\nX-Status: AF\r\nX-Keywords: $Label1, work (bad)\r\n\r\nX-Status: D\r\n"
    assert flags_of(head) == [rb"\Seen", rb"\Answered", rb"\Flagged", b"$Label1", b"work"]
    assert flags_of(b"Status: O\n\n") == []


def test_received_at() -> None:
    """The topmost Received field that has a date tells when a message came; without one its Date field does."""
    received = (
        b"Received: by x;\r\n\tMon, 2 Nov 2026 03:04:05 +0000\r\nReceived: by y; Sun, 1 Nov 2026 00:00:00 +0000\r\n"
    )
    date = b"Date: Sat, 31 Oct 2026 00:00:00 +0000\r\n"
    assert received_at(date + received) == AT
    assert received_at(date + b"Received: by x\r\n") == datetime(2026, 10, 31, tzinfo=UTC)
    assert received_at(b"Subject: x\r\n\r\n" + date) is None
