"""What holds for any octets: the scanner never fails and its tree is consistent."""

import mmap
import tempfile
from collections.abc import Iterator
from itertools import chain, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.message import body_of, extent, pack, parse, render_bodystructure, scan, unpack
from protocol.message.mime import Part
from protocol.message.text import searchable
from tests.protocol.message.imap_lists import one
from tests.protocol.message.nesting import all_parts, assert_nested

_LINES = st.sampled_from(
    b"--a|--a--|--ab|--ab--|--c|--|--a--x||text|From: a@b, (c) <d|Subject: =?utf-8?q?=C3?=|"
    b"Content-Type: multipart/mixed; boundary=a|Content-Type: multipart/digest; boundary=ab|"
    b'Content-Type: multipart/x; boundary=|Content-Type: message/rfc822|Content-Type: text/html; x="y\\"|'
    b"Content-Transfer-Encoding: base64|Content-Disposition: x; y=\xff\0| folded|\0\xff\r".split(b"|")
)
_ENDS = st.sampled_from([b"\r\n", b"\n", b"\r", b""])
_OPEN = (
    b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"  # multiparts within each other, all still open
    b"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/digest; boundary=ab\r\n\r\n"
    b"--ab\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"
)
_ROWS = st.lists(st.tuples(_LINES, _ENDS), max_size=40).map(lambda rows: b"".join(line + end for line, end in rows))
MESSAGES = _ROWS | _ROWS.map(_OPEN.__add__) | st.binary(max_size=200)


def walk(root: Part) -> Iterator[tuple[tuple[int, ...], Part]]:
    """Every part that a path names, with its path: a message that is no multipart has one part, number 1."""
    parts = root.children if root.is_multipart else (root,)
    return chain.from_iterable(_below(part, (number,)) for number, part in enumerate(parts, start=1))


def _below(part: Part, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Part]]:
    yield path, part
    if part.is_message or part.is_multipart:
        for numbers, found in walk(part.children[0] if part.is_message else part):
            yield (*path, *numbers), found


@settings(max_examples=300, deadline=None)
@given(MESSAGES)
def test_offsets_are_nested_and_in_range(octets: bytes) -> None:
    """Parts lie within the one around them, in order, header before body."""
    assert_nested(scan(octets), len(octets))


@settings(max_examples=300, deadline=None)
@given(MESSAGES)
def test_parts_and_what_lies_between_make_the_message(octets: bytes) -> None:
    """Between the parts of a multipart stand only delimiter lines, preamble and epilogue: every leaf octet has one place."""
    leaves = sorted((part.body_start, part.end) for part in all_parts(scan(octets)) if not part.children)
    for (_, end), (start, _) in pairwise(leaves):
        assert end <= start
    for part in all_parts(scan(octets)):
        if part.is_multipart:
            for child in part.children:
                line = octets[part.body_start : child.header_start].removesuffix(b"\n").rpartition(b"\n")[2]
                assert line.startswith(b"--")


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_sections_are_consistent_with_the_tree(octets: bytes) -> None:
    """Each part's own path names its body and its MIME header, and HEADER and TEXT of a message adjoin."""
    root = scan(octets)
    for path, part in walk(root):
        assert extent(root, path, "") == (part.body_start, part.end)
        assert extent(root, path, "MIME") == (part.header_start, part.body_start)
        assert extent(root, (*path, 0), "") is None
    for path in [(), *(path for path, part in walk(root) if part.is_message)]:
        header, text = extent(root, path, "HEADER"), extent(root, path, "TEXT")
        assert header is not None
        assert text is not None
        assert header[1] == text[0]


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_what_is_rendered_reads_back(octets: bytes) -> None:
    """ENVELOPE has ten items, BODYSTRUCTURE and BODY are well-formed lists, and the packed tree comes back."""
    parsed = parse(octets)
    root = scan(octets)
    assert len(one(parsed.envelope)) == 10
    assert one(parsed.bodystructure) == one(render_bodystructure(root))
    assert len(one(body_of(parsed.bodystructure))) < len(one(parsed.bodystructure))
    assert unpack(pack(root)) == root == unpack(parsed.structure)
    assert list(parsed.extents) == sorted(parsed.extents)


@settings(max_examples=50, deadline=None)
@given(MESSAGES.filter(bool))
def test_a_mapped_file_parses_as_its_octets_do(octets: bytes) -> None:
    """mmap and bytes give the same answer."""
    with tempfile.TemporaryFile() as file:
        file.write(octets)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert parse(mapped) == parse(octets)


@settings(max_examples=100, deadline=None)
@given(MESSAGES)
def test_any_octets_give_storable_text(octets: bytes) -> None:
    """Searchable text encodes as UTF-8 and holds no NUL."""
    for text in searchable(octets, scan(octets)):
        assert "\0" not in text
        assert text.encode("utf-8").decode("utf-8") == text
