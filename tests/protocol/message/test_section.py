"""Sections, RFC 3501 §6.4.5, on the message that the RFC uses as its example."""

import pytest

from protocol.message import extent, scan
from protocol.message.section import Specifier

EXAMPLE = b"""\
Subject: root
Content-Type: multipart/mixed; boundary=O

--O
X: 1

one
--O
Content-Type: application/octet-stream

two
--O
Content-Type: message/rfc822
X: 3

Subject: three
Content-Type: multipart/mixed; boundary=I

--I

three-one
--I
Content-Type: application/octet-stream

three-two
--I--

--O
Content-Type: multipart/mixed; boundary=J

--J
Content-Type: image/gif
X: 4.1

four-one
--J
Content-Type: message/rfc822
X: 4.2

Subject: four-two
Content-Type: text/plain
X: body

four-two
--J--
--O--
""".replace(b"\n", b"\r\n")


def section(octets: bytes, path: tuple[int, ...], what: Specifier) -> str | None:
    found = extent(scan(octets), path, what)
    return None if found is None else octets[found[0] : found[1]].decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("path", "what", "text"),
    [
        ((), "", EXAMPLE.decode().replace("\r\n", "\n")),
        ((), "HEADER", "Subject: root\nContent-Type: multipart/mixed; boundary=O\n\n"),
        ((1,), "", "one"),
        ((1,), "MIME", "X: 1\n\n"),
        ((1,), "HEADER", None),
        ((1,), "TEXT", None),
        ((2,), "", "two"),
        ((1, 1), "", None),
        ((3,), "MIME", "Content-Type: message/rfc822\nX: 3\n\n"),
        ((3,), "HEADER", "Subject: three\nContent-Type: multipart/mixed; boundary=I\n\n"),
        ((3,), "TEXT", "--I\n\nthree-one\n--I\nContent-Type: application/octet-stream\n\nthree-two\n--I--\n"),
        ((3, 1), "", "three-one"),
        ((3, 2), "", "three-two"),
        ((3, 2), "MIME", "Content-Type: application/octet-stream\n\n"),
        ((3, 3), "", None),
        ((4, 1), "", "four-one"),
        ((4, 1), "MIME", "Content-Type: image/gif\nX: 4.1\n\n"),
        ((4, 2), "HEADER", "Subject: four-two\nContent-Type: text/plain\nX: body\n\n"),
        ((4, 2), "TEXT", "four-two"),
        ((4, 2, 1), "", "four-two"),
        ((4, 2, 1), "MIME", "Subject: four-two\nContent-Type: text/plain\nX: body\n\n"),
        ((4, 2, 2), "", None),
        ((4, 2, 1, 1), "", None),
        ((4,), "HEADER", None),
        ((5,), "", None),
        ((0,), "", None),
    ],
)
def test_example(path: tuple[int, ...], what: Specifier, text: str | None) -> None:
    """Each part specifier of the RFC's example names its octets, and others name none."""
    assert section(EXAMPLE, path, what) == text


@pytest.mark.parametrize(
    ("path", "what", "text"),
    [
        ((1,), "", "body"),
        ((1,), "MIME", "Subject: x\n\n"),
        ((), "TEXT", "body"),
        ((), "MIME", None),
        ((1,), "TEXT", None),
        ((2,), "", None),
        ((1, 1), "", None),
    ],
)
def test_a_message_that_is_no_multipart_has_one_part(path: tuple[int, ...], what: Specifier, text: str | None) -> None:
    """Part 1 of a non-multipart message is its body."""
    assert section(b"Subject: x\r\n\r\nbody", path, what) == text


@pytest.mark.parametrize(
    ("path", "what", "text"),
    [
        ((1,), "", "Subject: y\n\ninner"),
        ((1,), "HEADER", "Subject: y\n\n"),
        ((1,), "TEXT", "inner"),
        ((1, 1), "", "inner"),
        ((1, 1, 1), "", None),
    ],
)
def test_a_message_that_holds_a_message(path: tuple[int, ...], what: Specifier, text: str | None) -> None:
    """Part 1 of a message/rfc822 root is the message in it, whose part 1 is its body."""
    assert section(b"Content-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\ninner", path, what) == text
