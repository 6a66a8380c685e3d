"""Who a message is from, in every way that some program might read its fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.smtp.authors import header_section, read_heading


def authors(body: bytes) -> set[str]:
    return {str(author) for author in read_heading(b"From:" + body + b"\r\n").authors}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b" alice@example.test", {"alice@example.test"}),
        (b" Alice <alice@example.test>, b@c.example", {"alice@example.test", "b@c.example"}),
        (b' "a, b@c.example" <alice@example.test> (d@e.example)', {"alice@example.test"}),
        (b" Group: a@b.example, c@d.example;", {"a@b.example", "c@d.example"}),
        (b' "x y"@b.example', {'"x y"@b.example'}),
        (b" a@[192.0.2.1]", {"a@[192.0.2.1]"}),
        (b"\r\n <alice\r\n @example.test>", {"alice@example.test"}),
        (b" me@here.example <you@there.example>", {"me@here.example", "you@there.example"}),
        (b" alice@example.test you@there.example", {"alice@example.test", "you@there.example"}),
        (b" a@b.example; you@there.example", {"a@b.example", "you@there.example"}),
        (b' (") ceo@x.example (") <a@b.example>', {"ceo@x.example", "a@b.example"}),
        (b" (a (b@c.example) d) <a@b.example>", {"a@b.example"}),
        (b" <@relay.example:a@b.example>", {"a@b.example"}),
        (b" undisclosed:;", set()),
        (b"", set()),
    ],
)
def test_authors(body: bytes, expected: set[str]) -> None:
    """Addresses count, and every word with an @ that is neither quoted nor in a comment."""
    assert authors(body) == expected


@pytest.mark.parametrize(
    "body", [b" alice", b" <>", b" a b c", b" <a@b.example", b' "unterminated', b" a@b.example\0.x"]
)
def test_broken_fields(body: bytes) -> None:
    """What cannot be read is somebody all the same, and no address that exists."""
    found = authors(body)
    assert found
    assert found != {"a@b.example"}


@given(st.binary(max_size=300))
def test_any_octets(octets: bytes) -> None:
    """Whatever the field holds, reading it ends, and gives each author once."""
    found = read_heading(b"From:" + octets).authors
    assert len(set(found)) == len(found)


@given(st.integers(0, 3000), st.sampled_from([b"(", b'"', b"\\", b"<", b"@", b"()", b'""']))
def test_linear_time(count: int, octets: bytes) -> None:
    """Brackets and quotes without end cost no more than their number."""
    assert len(authors(octets * count + b" a@b.example")) <= count + 2


def test_heading() -> None:
    """The fields that submission looks for are found in any case, folded, with white space before the colon."""
    heading = read_heading(b"FROM : a@b.example\r\nsender: c@d.example\r\ndate: x\r\nMessage-Id:\r\n <1@b.example>\r\n")
    assert [str(author) for author in heading.authors] == ["a@b.example", "c@d.example"]
    assert heading.has_from
    assert heading.has_date
    assert heading.has_message_id
    assert not heading.is_ambiguous
    assert read_heading(b"From: a@b.example\r\nFrom: a@b.example\r\n").is_ambiguous


def test_header_section() -> None:
    """The body is not looked at; a message without header has none."""
    assert header_section(b"From: a\r\n\r\nFrom: b\r\n") == b"From: a\r\n"
    assert header_section(b"\r\nFrom: b\r\n") == b""
    assert header_section(b"From: a\r\n") == b"From: a\r\n"
