"""The octet machines of DATA and BDAT: every state with every class of octets, and every cut of the same stream."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.smtp.data import BareLineEndError, ChunkReader, DataReader, DataWriter
from tests.feeding import cut

# What the machine may have seen last, named as in RFC 5321 §4.1.1.4, and a stream that leads there (behind "x" and CRLF).
STATES = {
    "start": b"",
    "text": b"x",
    "CR": b"x\r",
    "CRLF": b"x\r\n",
    "CRLF.": b"x\r\n.",
    "CRLF.CR": b"x\r\n.\r",
    "bare LF": b"x\n",
    "bare LF.": b"x\n.",
    "bare CR.": b"x\r.",
    "CR CRLF": b"x\r\r\n",
    "CR CRLF.": b"x\r\r\n.",
}
CLASSES = {"dot": b".", "CR": b"\r", "LF": b"\n", "CRLF": b"\r\n", "text": b"y", "8-bit": b"\xff", "NUL": b"\0"}

_END = b"\r\n.\r\n"


def specified(wire: bytes) -> tuple[bytes, bytes, bool]:
    """What RFC 5321 §4.1.1.4 and §4.5.2 make of the octets behind DATA CRLF: message, rest, has a bare CR or LF."""
    stream = b"\r\n" + wire
    end = stream.index(_END)
    lines = stream[2 : end + 2].split(b"\r\n")
    message = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
    return message, stream[end + 5 :], re.search(rb"\r(?!\n)|(?<!\r)\n", message) is not None


def read(wire: bytes, step: int | None) -> tuple[bytes, bytes, bool]:
    """What the machine makes of them."""
    data = DataReader()
    message = b"".join(data.receive(piece) for piece in cut(wire, step))
    assert data.is_complete
    return message, data.rest, data.has_bare_line_end


def stuffed(message: bytes) -> bytes:
    """What a client sends for a message that ends in CRLF or is empty (RFC 5321 §4.5.2)."""
    return b"".join(b"." + line if line.startswith(b".") else line for line in message.splitlines(True)) + b".\r\n"


@pytest.mark.parametrize("step", [None, 1, 2, 3], ids=["whole", "octets", "pairs", "threes"])
@pytest.mark.parametrize("octets", CLASSES.values(), ids=CLASSES.keys())
@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
def test_each_state_with_each_octet(state: bytes, octets: bytes, step: int | None) -> None:
    """Whatever comes after whatever, only CRLF "." CRLF ends the message and only CRLF goes by unmarked."""
    wire = state + octets + b"z\r\n.\r\nNOOP\r\n"
    assert read(wire, step) == specified(wire)


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\r\n.\r\n"]), max_size=40),
    st.integers(1, 9),
)
@example([b"\r\n.", b"\r\n."], 1)
def test_any_cut_reads_the_same(pieces: list[bytes], step: int) -> None:
    """Any octets, in any cut, are the message that the specification makes of them."""
    wire = b"".join(pieces) + _END + b"QUIT\r\n"
    assert read(wire, None) == read(wire, step) == specified(wire)


@given(
    st.lists(st.binary(max_size=9).map(lambda octets: re.sub(rb"[\r\n]", b".", octets)), max_size=20),
    st.integers(1, 40),
)
def test_reads_what_a_client_stuffed(lines: list[bytes], step: int) -> None:
    """Unstuffing is the inverse of stuffing for every message of CRLF lines."""
    message = b"".join(line + b"\r\n" for line in lines)
    assert read(stuffed(message), step) == (message, b"", False)


def test_empty_message() -> None:
    """A dot right behind DATA is a message without octets."""
    assert read(b".\r\nNOOP\r\n", None) == (b"", b"NOOP\r\n", False)


def test_what_comes_after_the_end_is_kept() -> None:
    """Octets fed after the end are the rest, not the message."""
    data = DataReader()
    assert data.receive(b"a\r\n.\r\nMA") == b"a\r\n"
    assert data.receive(b"IL") == b""
    assert data.rest == b"MAIL"


def test_memory_is_bounded_by_the_end_mark() -> None:
    """All but the octets that may begin the end mark are given out at once."""
    data = DataReader()
    given_out = sum(len(data.receive(b"\r\n.\r" + b"x" * 100)) for _ in range(50))
    assert given_out >= 50 * 103 - 4


def test_long_message_takes_linear_time() -> None:
    """Sixteen megabytes of dot lines, the worst case, are read piece by piece without looking back."""
    data = DataReader()
    piece = b"..\r\n" * 16384
    total = sum(len(data.receive(piece)) for _ in range(256))
    total += len(data.receive(b".\r\n"))
    assert (total, data.is_complete) == (256 * 16384 * 3, True)


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(1, 7))
def test_chunks_carry_any_octets(chunks: list[bytes], step: int) -> None:
    """BDAT gives each chunk's octets as they are and leaves what follows, in any cut."""
    reader = ChunkReader()
    for chunk in chunks:
        reader.begin(len(chunk))
        assert b"".join(reader.receive(piece) for piece in cut(chunk + b"RSET\r\n", step)) == chunk
        assert reader.rest == b"RSET\r\n"
    assert reader.finish() == (re.search(rb"\r(?!\n)|(?<!\r)\n", b"".join(chunks)) is not None)


@pytest.mark.parametrize(
    ("chunks", "is_bare"),
    [((b"a\r", b"\nb\r\n"), False), ((b"a\r", b"b"), True), ((b"a", b"\nb"), True), ((b"a\r\n", b"\n"), True),
     ((b"a\r",), True), ((b"", b"a\r\n"), False), ((b"a\r", b"", b"\n"), False)],
)  # fmt: skip
def test_line_ends_across_chunks(chunks: tuple[bytes, ...], is_bare: bool) -> None:
    """A CRLF may be cut in two by the end of a chunk; anything else that is cut off stays bare."""
    reader = ChunkReader()
    for chunk in chunks:
        reader.begin(len(chunk))
        assert reader.receive(chunk) == chunk
    assert reader.finish() is is_bare


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("message", [b"a\nb", b"a\rb", b"a\r", b"\n.\r\n", b"\r\r\n", b"a\r\n.\rb"])
def test_writer_refuses_bare_line_ends(message: bytes, step: int | None) -> None:
    """Content with a CR or LF outside CRLF is not written: never the piece that has it, nor an end mark."""

    def write() -> None:
        writer = DataWriter()
        for piece in cut(message, step):
            writer.write(piece)
        writer.finish()

    with pytest.raises(BareLineEndError):
        write()


@pytest.mark.parametrize("step", [None, 1, 2, 3], ids=["whole", "octets", "pairs", "threes"])
@pytest.mark.parametrize("message", [b"", b".", b".\r\n", b"..", b"x\r\n.y\r\n.", b"\r\n.\r\n.\r\n", b"x"])
def test_writer_is_the_reader_turned_round(message: bytes, step: int | None) -> None:
    """What is written is read as the same message, with a CRLF at its end."""
    writer = DataWriter()
    wire = b"".join(writer.write(piece) for piece in cut(message, step)) + writer.finish()
    whole = message if message.endswith(b"\r\n") or not message else message + b"\r\n"
    assert wire == stuffed(whole)
    assert read(wire, None) == (whole, b"", False)
