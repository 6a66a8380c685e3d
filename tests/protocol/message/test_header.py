"""Header fields: where they lie, and HEADER.FIELDS."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.message.header import CACHED_FIELDS, MAX_FIELDS, cached, fields, read, select_fields, unfold

HEADER = b"From: a@b\r\nSubject: one\r\n two\r\nnot a field\r\nX-Odd : x\r\nsubject:again\r\n\r\n"


def test_fields_have_names_bodies_and_offsets() -> None:
    """Each field comes with its name as written, its folded body and the extent of its lines."""
    found = [(field.name, field.body, HEADER[field.start : field.end]) for field in fields(HEADER)]
    assert found == [
        (b"From", b" a@b", b"From: a@b\r\n"),
        (b"Subject", b" one\r\n two", b"Subject: one\r\n two\r\n"),
        (b"X-Odd", b" x", b"X-Odd : x\r\n"),
        (b"subject", b"again", b"subject:again\r\n"),
    ]


def test_fields_end_at_the_blank_line() -> None:
    """What stands behind the blank line is no field, with CRLF and with bare LF."""
    assert [field.name for field in fields(b"A: 1\n\nB: 2\n")] == [b"A"]
    assert list(fields(b"\r\nB: 2\r\n")) == []


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b" one", b"one"),
        (b"\t  one two \r", b"one two "),
        (b" one\r\n two\r\n\tthree\r", b"one two\tthree"),
        (b"\r\n <id@x>", b" <id@x>"),
        (b" one\n two", b"one two"),
        (b"", b""),
        (b"   ", b"  "),
    ],
)
def test_unfolding(body: bytes, value: bytes) -> None:
    """Line ends go, the white space of a fold stays, leading white space goes (RFC 5322 §2.2.3)."""
    assert unfold(body) == value


@pytest.mark.parametrize(
    ("header", "names", "negate", "selected"),
    [
        (HEADER, {b"SUBJECT"}, False, b"Subject: one\r\n two\r\nsubject:again\r\n\r\n"),
        (HEADER, {b"SUBJECT"}, True, b"From: a@b\r\nnot a field\r\nX-Odd : x\r\n\r\n"),
        (HEADER, {b"X-ODD", b"TO"}, False, b"X-Odd : x\r\n\r\n"),
        (HEADER, set(), False, b"\r\n"),
        (b"A: 1\nB: 2", {b"B"}, False, b"B: 2\r\n\r\n"),
        (b"A: 1\nB: 2\n\n", {b"B"}, True, b"A: 1\n\r\n"),
        (b"", {b"B"}, True, b"\r\n"),
        (b"\r\n", {b"B"}, True, b"\r\n"),
    ],
)
def test_select_fields(header: bytes, names: set[bytes], negate: bool, selected: bytes) -> None:
    """The raw lines of the named fields come in message order, with a blank line (RFC 3501 §6.4.5)."""
    assert select_fields(header, frozenset(names), negate=negate) == selected


def test_the_cache_serves_what_the_header_would() -> None:
    """Selecting from the header cache equals selecting from the header for names that are cached."""
    names = frozenset({b"FROM", b"SUBJECT"})
    assert names <= CACHED_FIELDS
    kept = cached(read(HEADER[:-2]))
    assert kept == select_fields(HEADER, CACHED_FIELDS)
    assert select_fields(kept, names) == select_fields(HEADER, names)


def test_the_number_of_fields_is_limited() -> None:
    """A header of a hundred thousand fields costs no more than its limit."""
    assert len(read(b"A: x\r\n" * (MAX_FIELDS * 10))) == MAX_FIELDS


_LINES = st.sampled_from(b"A: 1|B:|b : 2|C: x\n y|junk| z|:x|A:\r".split(b"|"))
_SECTIONS = st.lists(st.tuples(_LINES, st.sampled_from([b"\n", b"\r\n"])), max_size=8).map(
    lambda rows: b"".join(line + end for line, end in rows)
)


@settings(deadline=None)
@given(_SECTIONS | st.binary(max_size=60))
def test_fields_and_the_rest_make_the_header(section: bytes) -> None:
    """Fields lie in order without overlap, and FIELDS with FIELDS.NOT hold every line once."""
    found = list(fields(section))
    edges = [edge for field in found for edge in (field.start, field.end)]
    assert edges == sorted(edges)
    names = frozenset(field.name.upper() for field in found)
    assert len(select_fields(section, names)) - 2 >= sum(field.end - field.start for field in found)
    assert list(fields(select_fields(section, names, negate=True))) == []
