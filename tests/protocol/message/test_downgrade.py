"""Surrogates of internationalised messages, RFC 6858: ASCII headers, untouched bodies, in whatever pieces they come."""

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message import scan
from protocol.message.downgrade import Surrogate, downgrade, encode_words, header_ranges
from protocol.message.words import decode
from tests.feeding import cut

MESSAGE = (
    "Return-Path: <jürgen@größe.example>\r\n"
    'From: Jürgen Größe <jürgen@größe.example>, "A, B" <a@b.example>\r\n'
    "To: Freunde ö: a@b.example, ü@x.example;, z@b.example\r\n"
    "Subject: Grüße aus Köln\r\n und von weiter her\r\n"
    "X-Plain: stays\r\n"
    "X-Ünknown: goes\r\n"
    "Received: by ü.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSchöne Grüße\r\n"
    '--b\r\nContent-Type: text/plain; name="größe.txt"\r\nContent-Description: Übersicht\r\n\r\nx\r\n--b--\r\n'
).encode()


def surrogate(octets: bytes, step: int | None = None) -> bytes:
    made = Surrogate(header_ranges(scan(octets)))
    return b"".join([made.feed(piece) for piece in cut(octets, step)]) + made.end()


def test_a_surrogate_reads_like_the_message() -> None:
    """Names and the subject are kept as encoded words, and an address that is not ASCII becomes nobody's."""
    shown = email.message_from_bytes(surrogate(MESSAGE), policy=email.policy.default)
    assert shown["subject"] == "Grüße aus Köln und von weiter her"
    first, second = shown["from"].addresses
    assert (first.display_name, first.addr_spec) == ("Jürgen Größe", "invalid@internationalized-address.invalid")
    assert (second.display_name, second.addr_spec) == ("A, B", "a@b.example")
    group, rest = shown["to"].groups
    assert group.display_name == "Freunde ö"
    assert [address.addr_spec for address in group.addresses] == [
        "a@b.example",
        "invalid@internationalized-address.invalid",
    ]
    assert rest.addresses[0].addr_spec == "z@b.example"
    text, attached = shown.iter_parts()
    assert text.get_content().strip() == "Schöne Grüße"
    assert attached.get_filename() == "größe.txt"
    assert decode(attached["content-description"].encode()) == "Übersicht"


def test_every_header_section_is_ascii() -> None:
    """No header section of a surrogate has an octet beyond ASCII; fields that cannot be shown are left out."""
    octets = surrogate(MESSAGE)
    assert all(octets[start:end].isascii() for start, end in header_ranges(scan(octets)))
    assert b"X-Plain: stays\r\n" in octets
    assert b"Received" not in octets
    assert b"nknown" not in octets


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: plain\r\n\r\nb\xc3\xb6dy\r\n",
        b"Subject: Gr\xfc\xdfe\r\n\r\nin Latin-1, which nobody can know\r\n",
        b"\r\nno header",
        b"",
    ],
)
def test_what_is_no_internationalised_message_stays(octets: bytes) -> None:
    """ASCII headers, and headers that are not UTF-8, pass through octet for octet."""
    assert surrogate(octets) == octets


@given(st.integers(1, 400))
def test_pieces(step: int) -> None:
    """A surrogate is the same however the message is cut."""
    assert surrogate(MESSAGE, step) == surrogate(MESSAGE)


@given(st.text().map(lambda text: text.encode(errors="replace")) | st.binary(), st.integers(1, 50))
def test_anything(octets: bytes, step: int) -> None:
    """Any octets give a surrogate, and the same one however they are cut."""
    assert surrogate(octets, step) == surrogate(octets)


@given(st.lists(st.sampled_from(["From", "To", "Subject", "Content-Type", "X-A"])), st.text(max_size=200))
def test_any_header_becomes_ascii(names: list[str], value: str) -> None:
    """A header section in UTF-8 becomes one in ASCII, whatever stands in its fields."""
    clean = " ".join(value.split()).encode(errors="replace")
    section = b"".join([name.encode() + b": " + clean + b"\r\n" for name in names]) + b"\r\n"
    assert downgrade(section).isascii()


@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_encoded_words(text: str) -> None:
    """Encoded words give the text back, and none is longer than RFC 2047 §2 allows."""
    words = encode_words(text)
    assert decode(words.replace(b"\r\n", b"")) == text
    assert all(len(word) <= 75 for word in words.split())
