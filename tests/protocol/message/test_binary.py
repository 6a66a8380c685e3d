"""Binary messages made fit for lines: what they hold stays the same, and what cannot be changed is refused."""

import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message import scan
from protocol.message.binary import in_lines, is_in_lines
from protocol.message.transfer import UnknownEncodingError

HEAD = b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"


def encoded(message: bytes) -> bytes:
    return b"".join(in_lines(message, scan(message)))


def read(message: bytes) -> EmailMessage:
    return email.message_from_bytes(message, policy=email.policy.SMTP)


@given(st.binary(max_size=3000))
def test_one_body(body: bytes) -> None:
    """Any octets come back from what was made of them, and it is in lines."""
    made = encoded(HEAD + body)
    assert is_in_lines(made)
    found = read(made).get_content()
    assert isinstance(found, bytes)
    assert found == body


@given(st.lists(st.binary(max_size=300).filter(lambda part: b"--b" not in part), min_size=1, max_size=4))
def test_many_parts(bodies: list[bytes]) -> None:
    """Parts stay parts, each with what it held; what was in lines already is not touched but for its label."""
    head = b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\nX-A: 1\r\n\r\n"
    message = head + b"".join(b"--b\r\n" + HEAD + body + b"\r\n" for body in bodies) + b"--b--\r\n"
    made = encoded(message)
    assert is_in_lines(made)
    assert b"binary" not in made.replace(b"".join(bodies), b"")
    whole = read(made)
    assert (whole["X-A"], whole["Content-Transfer-Encoding"]) == ("1", "8bit")
    leaves = [part for part in whole.walk() if not part.is_multipart()]
    assert [part.get_payload(decode=True) for part in leaves if part["Content-Transfer-Encoding"] == "base64"] == [
        body for body in bodies if not is_in_lines(body)
    ]


def test_what_is_in_lines_stays() -> None:
    """A message without binary bodies is given as it is, octet for octet."""
    message = b"From: a@b.example\r\nContent-Type: text/plain\r\n\r\n" + "Grüße\r\n".encode() * 100
    assert encoded(message) == message


def test_message_in_a_message() -> None:
    """A message that is attached is gone through, too."""
    inner = b"Subject: inner\r\n" + HEAD + b"\0\n\r"
    message = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\n" + inner
    made = encoded(message)
    assert is_in_lines(made)
    (found,) = read(made).iter_parts()
    assert (found["Subject"], found.get_content()) == ("inner", b"\0\n\r")


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: a\nb\r\n\r\nbody\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\npre\0amble\r\n--b\r\n\r\nx\r\n--b--\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\nAAAA\nAAAA\r\n",
        b"Content-Transfer-Encoding: x-unknown\r\n\r\na\0b\r\n",
        b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n" + HEAD + b"\0\r\n--b--\r\n",
        b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n" + HEAD + b"text\r\n--b--\r\n",
    ],
)
def test_what_cannot_be_encoded(message: bytes) -> None:
    """Octets that are no lines outside of bodies, or in an encoded or signed one, cannot be changed without harm."""
    with pytest.raises(UnknownEncodingError):
        encoded(message)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", True), (b"a\r\nb", True), (b"\r\n\r\n", True), (b"x" * 998 + b"\r\n", True), (b"\xff\r\n", True),
        (b"x" * 999, False), (b"\0", False), (b"a\nb", False), (b"a\rb", False), (b"\r", False), (b"\n", False), (b"\r\r\n", False),
    ],
)  # fmt: skip
def test_lines(octets: bytes, expected: bool) -> None:
    """A line has at most 998 octets, none of them NUL, and ends in CRLF."""
    assert is_in_lines(octets) is expected
