"""Transfer encodings, undone in pieces."""

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message import scan
from protocol.message.transfer import UnknownEncodingError, decode, decoder_of, without_8bit, without_nul
from protocol.message.words import decode_base64

SOUP = st.lists(
    st.sampled_from([b"QUJD", b"=", b"==", b"\r\n", b"Q", b"=41", b"=\r\n", b" ", b"\xff", b"=4", b"x"])
).map(b"".join)


def _in_pieces(body: bytes, encoding: bytes, step: int) -> bytes:
    decoder = decoder_of(encoding)
    assert decoder is not None
    return b"".join(decoder.feed(body[at : at + step]) for at in range(0, len(body), step)) + decoder.finish()


@given(st.binary(max_size=300), st.integers(1, 80))
def test_what_was_encoded_comes_back(content: bytes, step: int) -> None:
    """Both encodings give back what was put in, in pieces of any size."""
    encoded = base64.encodebytes(content)
    assert _in_pieces(encoded, b"BASE64", step) == decode(encoded, b"base64") == content
    encoded = quopri.encodestring(content)
    assert _in_pieces(encoded, b"quoted-printable", step) == decode(encoded, b"Quoted-Printable ") == content


@given(SOUP, st.integers(1, 7))
def test_pieces_do_not_matter(body: bytes, step: int) -> None:
    """Broken encodings give the same in pieces as at once, and as everywhere else."""
    for encoding in (b"base64", b"quoted-printable"):
        assert _in_pieces(body, encoding, step) == decode(body, encoding)
    assert decode(body, b"base64") == decode_base64(body)


def test_a_line_without_end_takes_no_memory() -> None:
    """A megabyte without a line end is decoded as it comes, escapes across pieces included."""
    body = b"=41b" * 250_000
    decoder = decoder_of(b"quoted-printable")
    assert decoder is not None
    pieces = [decoder.feed(body[at : at + 65_537]) for at in range(0, len(body), 65_537)]
    assert sum(map(len, pieces)) > 450_000
    assert b"".join(pieces) + decoder.finish() == b"Ab" * 250_000


@pytest.mark.parametrize("encoding", [None, b"", b"7bit", b"8BIT", b"binary"])
def test_what_is_not_encoded_stays(encoding: bytes | None) -> None:
    """7bit, 8bit and binary are names for the content itself."""
    assert decode(b"=41 \0", encoding) == b"=41 \0"


def test_unknown_encodings_are_told() -> None:
    """uuencode and the like are not guessed at."""
    with pytest.raises(UnknownEncodingError):
        decoder_of(b"x-uuencode")


CONTENTS = st.binary(max_size=200).map(lambda content: content.replace(b"\n--", b""))


@given(CONTENTS, CONTENTS)
def test_nul_is_encoded_away(first: bytes, second: bytes) -> None:
    """A message that may hold NUL becomes one without any, whose parts have the same content; the rest of it stays."""
    parts = [b"Content-Type: x/y\r\nContent-Transfer-Encoding: binary\r\n\r\n" + first, b"\r\n" + second]
    octets = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=bbb\r\n\r\n" + b"".join(
        b"--bbb\r\n" + part + b"\r\n" for part in parts
    )
    octets += b"--bbb--\r\nthe end"
    changed = b"".join(without_nul(octets, scan(octets)))
    assert b"\0" not in changed
    assert (changed == octets) == (b"\0" not in octets)
    assert (changed[:40], changed[-9:]) == (octets[:40], octets[-9:])
    before, after = scan(octets).children, scan(changed).children
    for old, new in zip(before, after, strict=True):
        content = decode(changed[new.body_start : new.end], new.encoding)
        assert content == octets[old.body_start : old.end]


def test_nul_in_a_message_without_parts() -> None:
    """A lone body becomes base64 lines, each ended."""
    octets = b"Content-Transfer-Encoding: 8bit\r\nSubject: x\r\n\r\n\0" + b"y" * 99
    changed = b"".join(without_nul(octets, scan(octets)))
    assert changed.startswith(b"Content-Transfer-Encoding: base64\r\nSubject: x\r\n\r\nAHl5")
    assert changed.endswith(b"=\r\n")


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: \0\r\n\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\nAAAA\0",
        b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\0\r\n--b--\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n\0\r\n--b\r\n\r\nx\r\n--b--\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n\0--b\r\n\r\nx\r\n",
    ],
)
def test_nul_that_cannot_be_encoded(octets: bytes) -> None:
    """NUL outside of bodies, in an encoded one, and in what is signed stays nobody's to change."""
    with pytest.raises(UnknownEncodingError):
        list(without_nul(octets, scan(octets)))


@pytest.mark.parametrize(
    ("line", "decoded"),
    [
        (b"a  \r\nb", b"a\r\nb"),
        (b"a= \t\r\nb", b"ab"),
        (b"a=20 \r\n", b"a \r\n"),
        (b"a =\r\nb\t", b"a b"),
        (b" \n", b"\n"),
    ],
)
def test_white_space_at_the_end_of_lines_was_added_on_the_way(line: bytes, decoded: bytes) -> None:
    """What stands unencoded at the end of a quoted-printable line is not content (RFC 2045 §6.7, rule 3)."""
    assert decode(line, b"quoted-printable") == decoded


MIXED = (
    b"Subject: =?utf-8?q?x?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n%b\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    b"%b\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n"
)


@given(st.text(max_size=300), st.binary(max_size=300))
def test_8bit_content_becomes_lines_of_7_bits(text: str, octets: bytes) -> None:
    """Text and binary content survive their encoding, the labels above it are true, and nothing else changes."""
    message = MIXED % (text.encode(errors="replace").replace(b"--b", b""), octets.replace(b"--b", b""))
    converted = b"".join(without_8bit(message, scan(message)))
    before, after = scan(message), scan(converted)
    assert converted.isascii()
    assert b"\0" not in converted
    assert max(map(len, converted.split(b"\r\n"))) <= max(76, len(b"Content-Type: multipart/mixed; boundary=b") + 40)
    for old, new in zip(before.children, after.children, strict=True):
        assert decode(converted[new.body_start : new.end], new.encoding) == message[old.body_start : old.end]
    assert after.children[2].encoding is None
    assert (after.encoding is None) == (b"quoted" in converted or b"base64" in converted)


def test_8bit_text_without_mime_gets_its_version_field() -> None:
    """A message that declares nothing gets the two fields that say how to read it."""
    message = b"Subject: x\r\n\r\nz\xc3\xa4h" + b"e" * 100
    converted = b"".join(without_8bit(message, scan(message)))
    assert converted.startswith(
        b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\nSubject: x\r\n\r\n"
    )
    assert b"=C3=A4" in converted
    assert b"=\r\n" in converted
    assert converted.count(b"\n") == converted.count(b"\r\n")


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: \xe4\r\n\r\nbody\r\n",
        b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xe4\r\n--b--\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\npr\xe4amble\r\n--b\r\n\r\nx\r\n--b--\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\n\xe4\r\n",
    ],
    ids=["header", "signed", "preamble", "encoded"],
)
def test_what_cannot_be_7bit_is_told(message: bytes) -> None:
    """A signature would break, a header has no encoding of its own: such a message is not converted."""
    with pytest.raises(UnknownEncodingError):
        b"".join(without_8bit(message, scan(message)))
