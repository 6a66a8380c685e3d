"""Body hashes: as other signers made them, as dkimpy makes them, in pieces of any size, in linear time."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from dkim import rfc822_parse
from dkim.canonicalization import Relaxed
from dkim.util import parse_tag_value
from hypothesis import given
from hypothesis import strategies as st

from protocol.dkim.canonicalization import BodyHash, MessageHash
from protocol.message.header import MAX_HEADER_OCTETS
from tests.mails import as_sent

CORPORA = Path(__file__).parent.parent.parent / "corpora"

# Mails whose signers hashed a relaxed body, and which have not been changed since.
SIGNED = [
    *("dkimpy/test2.message", "mimekit-dkim/gmail.msg", "mimekit-dkim/multipart-no-end-boundary.msg"),
    *(f"mailauth-postalsys/{name}.eml" for name in ("arc-pass2", "bimi", "message2", "message4", "zbimi", "zproov")),
    *(f"mail-auth-stalwart/dmarc-feedback/{number}.eml" for number in (100, 101, 102)),
    *(f"dmarc-tls-mox/dmarc-reports/{name}.eml" for name in ("google", "mailru", "outlook", "yahoo")),
    *("dmarc-tls-mox/junk/parse3.eml", "dmarc-tls-mox/tlsreports/microsoft.eml"),
    *("dmarc-tls-parsedmarc/aggregate/mimecast-weird-gzip.eml", "nodemailer-mailparser/nodemailer.eml"),
    *("rspamd-messages/ed25519-broken.eml", "rspamd-messages/invalid_mid_allowed.eml"),
    *("rspamd-messages/dmarc/good_dkim_rspamd.eml", "rspamd-messages/dmarc/pass_none.eml"),
    *("spamassassin-tdata/t/data/dkim/test-pass-04.msg", "webklex-php-imap/issue-275.eml"),
]

BODY = st.lists(st.sampled_from([b"a", b"b", b" ", b"\t", b"\r\n", b" \r\n", b"\r\n\r\n"])).map(b"".join)
ANY_BODY = st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r", b"\n", b"\r\n"])).map(b"".join)


def hashed(pieces: list[bytes]) -> bytes:
    """The hash of a body in pieces."""
    body = BodyHash()
    for piece in pieces:
        body.update(piece)
    return body.digest()


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    """The octets in pieces."""
    places = sorted(place % (len(octets) + 1) for place in places)
    return [octets[start:end] for start, end in zip([0, *places], [*places, len(octets)], strict=True)]


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", SIGNED)
def test_bodies_hash_as_their_signers_hashed_them(name: str, step: int) -> None:
    """RFC 6376 §3.4.4: the body hash of signed mail is what its bh= says, in pieces of any size."""
    octets = as_sent(CORPORA / name)
    told = []
    for field, value in rfc822_parse(octets)[0]:
        tags = parse_tag_value(value) if field.lower() == b"dkim-signature" else {}
        if tags.get(b"c", b"").endswith(b"/relaxed") and tags[b"a"].endswith(b"sha256"):
            told.append(re.sub(rb"\s", b"", tags[b"bh"]))
    message = MessageHash()
    for at in range(0, len(octets), step):
        message.update(octets[at : at + step])
    assert base64.b64encode(message.digest()) in told


@given(BODY, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_whole_lines_hash_as_dkimpy_hashes_them(body: bytes, places: list[int]) -> None:
    """However it is cut, a body of whole lines gives the hash of dkimpy's relaxed form."""
    body += b"\r\n" if not body.endswith(b"\r\n") else b""
    assert hashed(cut(body, places)) == hashlib.sha256(Relaxed.canonicalize_body(body)).digest()


@given(ANY_BODY, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_the_cut_does_not_matter(body: bytes, places: list[int]) -> None:
    """Any octets in pieces, CR and LF that stand alone among them, hash as they do whole."""
    assert hashed(cut(body, places)) == hashed([body])


@given(ANY_BODY)
def test_a_missing_line_end_is_added(body: bytes) -> None:
    """A body hashes as it will arrive: DATA ends its last line."""
    if not body.endswith(b"\r"):
        assert hashed([body]) == hashed([body + b"\r\n"])


@pytest.mark.parametrize(
    ("body", "relaxed"),
    [
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b" \t\r\n\r\n ", b""),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),  # RFC 6376 §3.4.5
        (b"a\nb", b"a\nb\r\n"),
        (b"a\rb \r\n", b"a\rb\r\n"),
        (b"a\r", b"a\r\r\n"),
        (b"a \n\r\n\r\n", b"a \n\r\n"),
        (b"a\r\n\r\n \r \r\n", b"a\r\n\r\n \r\r\n"),
        (b"\n", b"\n\r\n"),
    ],
)
def test_the_relaxed_form(body: bytes, relaxed: bytes) -> None:
    """White space is squeezed, empty lines at the end go; only CRLF is a line end."""
    assert hashed([body]) == hashlib.sha256(relaxed).digest()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("unit", [b" ", b"\r\n", b"\t ", b" \r\n", b"\n", b"\r", b" \r", b"a \r\n\r\n"])
def test_no_body_takes_more_than_its_length(unit: bytes) -> None:
    """Megabytes of white space and line ends take time by their length, whole or in pieces (dkimpy's order takes hours)."""
    body = unit * ((4 << 20) // len(unit))
    pieces = [body[at : at + 4096] for at in range(0, len(body), 4096)]
    assert hashed(pieces) == hashed([body])


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("message", "header", "body"),
    [
        (b"A: b\r\nC: d\r\n\r\nbody\r\n", b"A: b\r\nC: d\r\n", b"body\r\n"),
        (b"A: b\r\n\r\n", b"A: b\r\n", b""),
        (b"A: b\r\n", b"A: b\r\n", b""),
        (b"\r\nbody\r\n", b"", b"body\r\n"),
        (b"", b"", b""),
    ],
)
def test_header_and_body_are_told_apart(message: bytes, header: bytes, body: bytes, step: int) -> None:
    """The first empty line ends the header section, wherever the pieces end."""
    found = MessageHash()
    for at in range(0, len(message), step):
        found.update(message[at : at + step])
    assert found.header == header
    assert found.digest() == hashed([body])


def test_a_header_section_must_end() -> None:
    """Octets without an empty line are not gathered for ever."""
    message = MessageHash()
    message.update(b"a" * MAX_HEADER_OCTETS)
    with pytest.raises(ValueError, match="header section"):
        message.update(b"a")
