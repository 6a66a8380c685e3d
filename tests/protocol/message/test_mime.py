"""The scanner: trees, offsets, tolerance and limits."""

import mmap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.message import mime
from protocol.message.mime import Part, scan


def multipart(boundary: str, *parts: str, subtype: str = "mixed") -> str:
    body = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f"Content-Type: multipart/{subtype}; boundary={boundary}\n\n{body}--{boundary}--\n"


def tree(octets: bytes) -> object:
    """A message as nested (media type, body octets or children)."""
    return _tree(octets, scan(octets))


def _tree(octets: bytes, part: Part) -> object:
    media = f"{part.type.decode()}/{part.subtype.decode()}".lower()
    if part.children or part.is_multipart:
        return media, [_tree(octets, child) for child in part.children]
    return media, octets[part.body_start : part.end].decode()


TEXT = "\none"
HTML = "Content-Type: text/html\n\ntwo"


@pytest.mark.parametrize("line_end", ["\r\n", "\n"], ids=["crlf", "bare-lf"])
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", ("text/plain", "")),
        ("Subject: x", ("text/plain", "")),
        ("\nbody", ("text/plain", "body")),
        ("Subject: x\n\nbody\n", ("text/plain", "body\n")),
        (multipart("b", TEXT, HTML), ("multipart/mixed", [("text/plain", "one"), ("text/html", "two")])),
        (multipart("b", "\n"), ("multipart/mixed", [("text/plain", "")])),
        (multipart("b", ""), ("multipart/mixed", [("text/plain", "")])),
        (multipart("b"), ("multipart/mixed", [])),
        (
            multipart("b", multipart("c", TEXT, HTML, subtype="alternative"), TEXT),
            (
                "multipart/mixed",
                [("multipart/alternative", [("text/plain", "one"), ("text/html", "two")]), ("text/plain", "one")],
            ),
        ),
        (
            multipart("b", "\nSubject: inner\n\ntext", "Content-Type: text/html\n\ntwo", subtype="digest"),
            ("multipart/digest", [("message/rfc822", [("text/plain", "text")]), ("text/html", "two")]),
        ),
        (
            multipart("b", "Content-Type: message/rfc822\n\n" + multipart("c", TEXT), TEXT),
            (
                "multipart/mixed",
                [("message/rfc822", [("multipart/mixed", [("text/plain", "one")])]), ("text/plain", "one")],
            ),
        ),
        ("Content-Type: message/global\n\nSubject: x\n\nhi", ("message/global", [("text/plain", "hi")])),
        ("Content-Type: message/partial\n\nSubject: x\n\nhi", ("message/partial", "Subject: x\n\nhi")),
        ("Content-Type: multipart/mixed\n\n--b\n\none\n--b--\n", ("multipart/mixed", [])),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\none", ("multipart/mixed", [("text/plain", "one")])),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b", ("multipart/mixed", [])),
        (
            "Content-Type: multipart/mixed; boundary=b\n\npre\n--b \t\n\none\n--b-- \nepi\n--b\n",
            ("multipart/mixed", [("text/plain", "one")]),
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n--b\n\none\n--b--",
            ("multipart/mixed", [("text/html", ""), ("text/plain", "one")]),
        ),
        ("Content-Type: multipart/mixed; boundary=b\n\n --b\n\none\n", ("multipart/mixed", [])),
    ],
)
def test_trees(message: str, expected: object, line_end: str) -> None:
    """A message gives its tree of parts, whichever way its lines end."""
    octets = message.replace("\n", line_end).encode()
    assert tree(octets) == _with_line_ends(expected, line_end)


def _with_line_ends(expected: object, line_end: str) -> object:
    if isinstance(expected, str):
        return expected.replace("\n", line_end) if "/" not in expected.split("\n")[0] else expected
    if isinstance(expected, tuple):
        return expected[0], _with_line_ends(expected[1], line_end)
    assert isinstance(expected, list)
    return [_with_line_ends(item, line_end) for item in expected]


def test_an_inner_multipart_with_the_outer_boundary_takes_its_parts() -> None:
    """Equal boundaries: the innermost open multipart owns a delimiter line."""
    octets = multipart("b", multipart("b", TEXT), HTML).replace("\n", "\r\n").encode()
    assert tree(octets) == ("multipart/mixed", [("multipart/mixed", [("text/plain", "one")]), ("text/html", "two")])


@pytest.mark.parametrize(("outer", "inner"), [("b", "bb"), ("bb", "b"), ("b", "b--"), ("b--", "b")])
def test_boundaries_with_one_beginning(outer: str, inner: str) -> None:
    """Where two boundaries begin alike, each keeps its own delimiter lines."""
    octets = multipart(outer, multipart(inner, TEXT), HTML).encode()
    assert tree(octets) == ("multipart/mixed", [("multipart/mixed", [("text/plain", "one")]), ("text/html", "two")])


def test_an_outer_delimiter_ends_unended_inner_multiparts() -> None:
    """A multipart that lacks its close delimiter ends where the one around it goes on."""
    inner = "Content-Type: multipart/mixed; boundary=c\n\n--c\n\none"
    assert tree(multipart("b", inner, HTML).encode()) == (
        "multipart/mixed",
        [("multipart/mixed", [("text/plain", "one")]), ("text/html", "two")],
    )


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"], ids=["crlf", "bare-lf"])
@pytest.mark.parametrize(
    ("last", "header"),
    [
        (b"--i", b""),
        (b"--i\n", b""),
        (b"--i\nX: 1", b"X: 1"),
        (b"--i\nX: 1\n", b"X: 1\n"),
        (b"--i\nX: 1\n\n", b"X: 1\n\n"),
        (b"--i\nContent-Type: message/rfc822\n", b"Content-Type: message/rfc822\n"),
        (b"--i\nContent-Type: multipart/mixed; boundary=j", b"Content-Type: multipart/mixed; boundary=j"),
    ],
)
def test_the_line_end_of_an_outer_delimiter_is_in_no_part(last: bytes, header: bytes, line_end: bytes) -> None:
    """A last part without a body ends with the unended multipart around it: in front of the outer delimiter's line end."""
    inner = b"Content-Type: multipart/mixed; boundary=i\n\n--i\n\none\n" + last
    octets = b"Content-Type: multipart/mixed; boundary=o\n\n--o\n" + inner + b"\n--o--\n"
    octets, header = octets.replace(b"\n", line_end), header.replace(b"\n", line_end)
    (around,) = scan(octets).children
    part = around.children[-1]
    assert len(around.children) == 2
    assert octets[part.header_start : part.body_start] == header
    assert part.body_start == part.end == around.end == octets.index(line_end + b"--o--")


def test_the_fields_of_a_part() -> None:
    """A part carries what its Content-* fields say, raw."""
    root = scan(
        b'Content-Type: Application/X-Foo; name="a b"\r\n\t; x=y\r\nContent-Transfer-Encoding: BASE64\r\n'
        b"Content-ID: <i@d>\r\nContent-Description: a\r\n thing\r\nContent-MD5: bWQ1\r\n"
        b"Content-Disposition: attachment; filename*=utf-8''%C3%A4\r\nContent-Language: de, en\r\n"
        b"Content-Location: http://x.test/\r\n\r\nYQ=="
    )
    assert (root.type, root.subtype) == (b"Application", b"X-Foo")
    assert root.parameters == ((b"name", b"a b"), (b"x", b"y"))
    assert (root.encoding, root.id, root.description, root.md5) == (b"BASE64", b"<i@d>", b"a thing", b"bWQ1")
    assert root.disposition == (b"attachment", ((b"filename*", b"utf-8''%C3%A4"),))
    assert (root.language, root.location) == ((b"de", b"en"), b"http://x.test/")


def test_lines_are_counted_where_they_are_shown() -> None:
    """Text and message/rfc822 count the line ends of their bodies."""
    root = scan(b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\none\r\ntwo\nthree")
    assert (root.lines, root.children[0].lines) == (4, 2)


def test_nesting_is_limited() -> None:
    """Below the limit of depth a multipart is one opaque leaf."""
    octets = b"".join(b"Content-Type: multipart/mixed; boundary=%03d\n\n--%03d\n" % (n, n) for n in range(300))
    depth, part = 1, scan(octets)
    while part.children:
        depth, part = depth + 1, part.children[0]
    assert depth == mime.MAX_DEPTH
    assert (part.type, part.subtype, part.end) == (b"application", b"octet-stream", len(octets))


def test_a_nest_of_messages_is_limited() -> None:
    """Below the limit of depth a message is one opaque leaf."""
    part = scan(b"Content-Type: message/rfc822\r\n\r\n" * 1000)
    while part.children:
        part = part.children[0]
    assert (part.type, part.subtype) == (b"application", b"octet-stream")


def test_the_number_of_parts_is_limited() -> None:
    """The last part that is counted reaches to the end of the message."""
    octets = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * (mime.MAX_PARTS + 5)
    root = scan(octets)
    assert len(root.children) == mime.MAX_PARTS - 1
    assert root.children[-1].end == len(octets)


def test_an_overlong_boundary_delimits_nothing() -> None:
    """A boundary above the limit gives a multipart without parts."""
    boundary = b"b" * (mime.MAX_BOUNDARY_OCTETS + 1)
    root = scan(b"Content-Type: multipart/mixed; boundary=%b\n\n--%b\n\nx\n" % (boundary, boundary))
    assert root.children == ()
    assert root.is_multipart


def test_all_header_sections_together_are_limited() -> None:
    """Behind the limit of header octets a part is what it is without a header: text/plain."""
    part = b"--b\nContent-Type: a/b\nX: %b\n\nx\n" % (b"y" * 900_000)
    root = scan(b"Content-Type: multipart/mixed; boundary=b\n\n" + part * 7)
    assert [child.type for child in root.children] == [b"a"] * 5 + [b"text"] * 2


def _padded(octets: bytes) -> bytes:
    return octets + b"x" * (4_000_000 - len(octets))


@pytest.mark.parametrize(
    "attack",
    [
        lambda: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * 1_000_000,
        lambda: b"Content-Type: multipart/mixed; boundary=aaa\n\n" + b"--aa\n" * 800_000,
        lambda: (
            b"Content-Type: multipart/mixed; boundary=O\n\n"
            + b"".join(
                b"--O\nContent-Type: multipart/mixed; boundary=u%d\n\n%b\n" % (n, b"x" * 350) for n in range(9_000)
            )
        ),
        lambda: _padded(
            b"".join(b"Content-Type: multipart/mixed; boundary=d%03d\n\n--d%03d\n" % (n, n) for n in range(98))
        ),
        lambda: b"Content-Type: message/rfc822\n\n" * 130_000,
        lambda: b"a:\n" * 1_300_000,
        lambda: b"Subject: x" + b"\n y" * 1_300_000,
        lambda: b"x" * 4_000_000,
        lambda: b"From: " + b"a(" * 500_000 + b"\n\n",
        lambda: b"From: " + b"a." * 500_000 + b"\n\n",
        lambda: b"Content-Type: a/b" + b';x="\\"' * 150_000 + b"\n\n",
    ],
    ids=[
        "parts",
        "near-misses",
        "unended-siblings",
        "deep",
        "messages",
        "fields",
        "folds",
        "no-colon",
        "comments",
        "dots",
        "quotes",
    ],
)
def test_four_hostile_megabytes_take_linear_time(attack: Callable[[], bytes]) -> None:
    """No message of 4 MB takes more than a few seconds of CPU: ten times what it needs here."""
    octets = attack()
    started = time.process_time()
    root = scan(octets)
    assert time.process_time() - started < 8
    assert root.end == len(octets)


def test_a_mapped_file_scans_as_its_octets_do(tmp_path: Path) -> None:
    """mmap and bytes give the same tree, line counts of more than one piece included."""
    octets = multipart("b", "\n" + "line\n" * 300_000, multipart("c", TEXT)).encode()
    path = tmp_path / "message"
    path.write_bytes(octets)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert scan(mapped) == scan(octets)
