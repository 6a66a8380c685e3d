"""Transfer encodings, undone in pieces."""

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message.transfer import UnknownEncodingError, decode, decoder_of
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
