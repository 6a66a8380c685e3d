"""The promise of the reader: any octets give events, never an exception, within bounded memory, however they are cut."""

import base64
import encodings.aliases
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from protocol.imap import names
from protocol.imap.command import Search
from protocol.imap.cursor import CommandError
from protocol.imap.events import Line, Rejected
from protocol.imap.grammar import decode_base64
from protocol.imap.limits import Limits
from protocol.imap.match import compress, matcher
from protocol.imap.reader import CommandReader
from protocol.imap.sequence import SequenceSet, positions
from tests.protocol.imap.feeds import SMALL, answered
from tests.protocol.imap.test_commands import COMMANDS, KEYS
from tests.protocol.imap.test_refusals import REFUSED

_WORDS = [
    *(
        b" ",
        b"\r\n",
        b"\n",
        b"\r",
        b"(",
        b")",
        b'"',
        b"\\",
        b"{",
        b"}",
        b"{3}",
        b"{3+}\r\n",
        b"~{2+}\r\n",
        b"{31+}\r\n",
    ),
    *(
        b"a ",
        b"b ",
        b"UID ",
        b"FETCH ",
        b"SEARCH ",
        b"APPEND ",
        b"STORE ",
        b"LIST ",
        b"LOGIN ",
        b"IDLE",
        b"AUTHENTICATE ",
    ),
    *(b"1:*", b"*", b"%", b"BODY[", b"]", b"<0.", b">", b"FLAGS", b"NOT ", b"OR ", b"NIL", b"&AOQ-", b"\x00", b"\xff"),
]
_fragments = st.lists(st.one_of(st.sampled_from(_WORDS), st.binary(max_size=8)), max_size=40).map(b"".join)
_rows = [octets for octets, _ in COMMANDS] + [b"a SEARCH " + key for key, _ in KEYS] + [octets for octets, _ in REFUSED]


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    """Some commands of the tables with a few octets cut out, doubled or put in."""
    lines = draw(st.lists(st.sampled_from(_rows), min_size=1, max_size=4))
    octets = b"\r\n".join(lines) + b"\r\n"
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(octets)))
        octets = (
            octets[:at]
            + draw(st.one_of(st.sampled_from(_WORDS), st.just(b"")))
            + octets[at + draw(st.integers(0, 3)) :]
        )
    return octets


@given(st.one_of(_fragments, _broken(), st.binary(max_size=400)), st.booleans(), st.booleans(), st.integers(1, 7))
@example(b"a IDLE\r\nDONE\r\n", False, True, 1)
def test_any_octets(octets: bytes, is_strict: bool, accepts: bool, step: int) -> None:
    """Fed whole, in pieces and octet by octet, any octets give the same events and keep no more than the limits allow."""
    whole = answered(octets, None, SMALL, is_strict=is_strict, accepts=accepts)
    assert answered(octets, 1, SMALL, is_strict=is_strict, accepts=accepts) == whole
    assert answered(octets, step, SMALL, is_strict=is_strict, accepts=accepts) == whole
    large = Limits()
    assert answered(octets, 1, large, is_strict=is_strict, accepts=accepts) == answered(
        octets, None, large, is_strict=is_strict, accepts=accepts
    )


@given(st.binary(max_size=60).filter(lambda octets: b"\n" not in octets and not octets.endswith(b"\r")))
def test_any_line(octets: bytes) -> None:
    """A line that was asked for is given as it came."""
    reader = CommandReader()
    reader.receive(b"a IDLE\r\n")
    reader.expect_line()
    assert reader.receive(octets + b"\r\n") == [Line(octets)]


@given(st.binary(max_size=40))
def test_base64_or_refusal(octets: bytes) -> None:
    """Any octets are base64 or a CommandError."""
    try:
        decoded = decode_base64(octets)
    except CommandError:
        return
    assert base64.b64encode(decoded) == octets


@given(st.sampled_from(sorted(encodings.aliases.aliases)), st.binary(max_size=25))
def test_any_charset(charset: str, octets: bytes) -> None:
    """Whatever charset is named and whatever the string holds, it is decoded or refused."""
    words = b"a SEARCH CHARSET %b TEXT {%d+}\r\n%b\r\n" % (charset.encode(), len(octets), octets)
    (event,) = CommandReader().receive(words)
    assert isinstance(event, Search | Rejected)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_names_round_trip(name: str) -> None:
    """Every Unicode name has one modified UTF-7 spelling, printable ASCII, that reads back as it."""
    encoded = names.encode(name)
    assert encoded.isascii()
    assert names.decode(encoded) == name


@given(st.binary(max_size=30))
def test_decoded_names_have_one_spelling(octets: bytes) -> None:
    """What decodes at all is what the encoder would have written."""
    try:
        name = names.decode(octets)
    except ValueError:
        return
    assert names.encode(name) == octets


_ends = st.one_of(st.none(), st.integers(1, 60))


@given(st.lists(st.tuples(_ends, _ends), min_size=1, max_size=8), st.integers(0, 50))
def test_resolved_sets(ranges: list[tuple[int | None, int | None]], maximum: int) -> None:
    """Resolving names the same numbers as taking each range for itself, in ascending ranges that do not touch."""
    expected: set[int] = set()
    for first, last in ranges:
        if maximum or None not in (first, last):
            low, high = sorted((maximum if first is None else first, maximum if last is None else last))
            expected.update(range(low, high + 1))
    resolved = SequenceSet(tuple(ranges)).resolve(maximum)
    assert {number for low, high in resolved for number in range(low, high + 1)} == expected
    assert all(earlier[1] + 1 < later[0] for earlier, later in pairwise(resolved))
    numbers = list(range(2, 60, 3))
    chosen = [number for start, end in positions(resolved, numbers) for number in numbers[start:end]]
    assert chosen == [number for number in numbers if number in expected]


@given(st.lists(st.integers(1, 40), max_size=30))
def test_compressed_sets(numbers: list[int]) -> None:
    """A compressed list names the same numbers in the same order."""
    written = compress(numbers)
    parts = [part.split(b":") for part in written.split(b",")] if written else []
    assert [number for part in parts for number in range(int(part[0]), int(part[-1]) + 1)] == numbers


def _matches(pattern: str, name: str) -> bool:
    """The definition of RFC 3501 §6.3.8, read literally."""
    if not pattern:
        return not name
    if pattern[0] in "*%":
        stops = len(name) if pattern[0] == "*" or "/" not in name else name.index("/")
        return any(_matches(pattern[1:], name[taken:]) for taken in range(stops + 1))
    return bool(name) and name[0] == pattern[0] and _matches(pattern[1:], name[1:])


@given(st.text("ab/*%", max_size=7), st.text("ab/", max_size=7))
def test_patterns(pattern: str, name: str) -> None:
    """The automaton says what the definition says."""
    assert matcher(pattern)(name) == _matches(pattern, name)
