"""Lines of ManageSieve: what is a word, a string, a literal, and what is none, however the octets are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.managesieve.reader import Bad, Line, LineReader, Oversized, String, Token, Word
from tests.feeding import cut

LIMITS = {"line_octets": 64, "literal_octets": 20, "discard_octets": 100}


def read(octets: bytes, step: int | None = None) -> list[Line | Bad]:
    """All lines of these octets."""
    reader, found = LineReader(**LIMITS), []
    for piece in cut(octets, step):
        reader.receive(piece)
        while (line := reader.take_line()) is not None:
            found.append(line)
            if isinstance(line, Bad) and line.is_fatal:
                return found
        assert reader.buffered_octets <= max(LIMITS.values()) + 1
    return found


def line(*tokens: Token) -> Line:
    return Line(tokens)


GOOD: list[tuple[bytes, list[Line | Bad]]] = [
    (b"\r\n", [line()]),
    (b"NOOP\n", [line(Word(b"NOOP"))]),
    (b'A  "b c"  12 \r\n', [line(Word(b"A"), String(b"b c"), Word(b"12"))]),
    (b'A "" "\\"\\\\"\r\n', [line(Word(b"A"), String(b""), String(b'"\\'))]),
    (b'A "\xc3\xbc {5+}"\r\n', [line(Word(b"A"), String("ü {5+}".encode()))]),
    (b"A {0+}\r\n\r\n", [line(Word(b"A"), String(b""))]),
    (b'A {3+}\r\n\r\n" {2+}\r\nxy z\r\nB\r\n',
     [line(Word(b"A"), String(b'\r\n"'), String(b"xy"), Word(b"z")), line(Word(b"B"))]),
    (b"A {21+}\r\n" + b"x" * 21 + b"\r\nB\r\n", [line(Word(b"A"), Oversized(21)), line(Word(b"B"))]),
    (b"A {11+}\r\n" + b"x" * 11 + b" {10+}\r\n" + b"y" * 10 + b"\r\n",
     [line(Word(b"A"), String(b"x" * 11), Oversized(10))]),
]  # fmt: skip

NO_STRING, NO_LITERAL = Bad("expected a quoted string"), Bad("expected a literal: {size+} at the end of the line")
NO_TOKEN, NO_SPACE = Bad("expected an atom, a number or a string"), Bad("expected a space between arguments")
BAD: list[tuple[bytes, Bad]] = [
    (b'A "open {7+}\r\n', NO_STRING),
    (b'A "b\\c"\r\n', NO_STRING),
    (b'A "nul\0"\r\n', NO_STRING),
    (b"A {5}\r\n", NO_LITERAL),
    (b"A {x+}\r\n", NO_LITERAL),
    (b"A {05+}\r\n", NO_LITERAL),
    (b"A {5+} B\r\n", NO_LITERAL),
    (b'A"b"\r\n', NO_SPACE),
    (b"(A)\r\n", NO_TOKEN),
    (b"A \t\r\n", NO_TOKEN),
    (b"A\rB\r\n", NO_SPACE),
    (b"\x01 {4+}\r\nB\r\n\r\n", NO_TOKEN),
    (b"A {1+}\r\nxB\r\n", Bad("expected a space after the literal")),
    (b"A" * 63 + b"\r\n", Bad("line too long")),
    (b"A" * 200 + b"\r\n", Bad("line too long")),
    (b"A" * 200 + b" {3+}\r\nB\r\n\r\n", Bad("line too long")),
]


@pytest.mark.parametrize("step", [None, 1, 3], ids=["whole", "octets", "threes"])
@pytest.mark.parametrize(("octets", "expected"), GOOD)
def test_lines(octets: bytes, expected: list[Line | Bad], step: int | None) -> None:
    """Words, quoted strings and literals are what RFC 5804 §4 says, literals within the limit of their line."""
    assert read(octets, step) == expected


@pytest.mark.parametrize("step", [None, 1, 3], ids=["whole", "octets", "threes"])
@pytest.mark.parametrize(("octets", "expected"), BAD)
def test_bad_lines(octets: bytes, expected: Bad, step: int | None) -> None:
    """A bad line is one error, to its end and with its literals: what follows it is read as ever."""
    assert read(octets + b"NOOP\r\n", step) == [expected, line(Word(b"NOOP"))]


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "octets"])
def test_what_is_too_much(step: int | None) -> None:
    """Beyond the limit nothing is waited for: the reader gives up."""
    assert read(b"A {101+}\r\nxxx", step) == [Bad("too much to discard", is_fatal=True)]
    many = b"A" + b" {30+}\r\n" + b"x" * 30 + b" {30+}\r\n" + b"x" * 30 + b" {60+}\r\n"
    assert read(many, step) == [Bad("too much to discard", is_fatal=True)]


PIECES = st.sampled_from(
    [b"A", b" ", b'"', b"\\", b"{3+}", b"{21+}", b"{0+}", b"\r\n", b"\n", b"\r", b"x", b"\xff", b"\0"]
)


@given(st.lists(PIECES, max_size=40).map(b"".join), st.integers(1, 7))
def test_any_octets(octets: bytes, step: int) -> None:
    """Any octets give lines, the same ones however they are cut, in bounded memory."""
    assert read(octets) == read(octets, step)
