"""Encoded words, parameter values and charsets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.message.words import codec, decode, decode_base64, decode_octets, decode_parameter


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        (b"=?utf-8?b?w6TDtsO8?= x", "äöü x"),
        (b"=?UTF-8?Q?=E2=82?= =?UTF-8?Q?=AC?=", "€"),
        (b"=?utf-8*de?Q?gr=C3=BCn?=", "grün"),
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?gb2312?B?xOO6ww==?=", "你好"),
        (b"=?utf-8?B?w6Q?=", "ä"),
        (b"=?utf-8?Q?a b?=", "a b"),
        (b"=?nonsense?Q?=E4?=", "ä"),
        (b"=?utf-8?X?a?=", "=?utf-8?X?a?="),
        (b"gr\xc3\xbcn", "grün"),
        (b"gr\xfcn", "grün"),
        (b"a\0b", "ab"),
    ],
)
def test_encoded_words(value: bytes, text: str) -> None:
    """A field body is decoded as RFC 2047 says, and tolerantly where mail does otherwise."""
    assert decode(value) == text


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (((b"filename", b"a.txt"),), "a.txt"),
        (((b"filename", b"a.txt"), (b"FileName*", b"utf-8'de'%e2%82%ac.txt")), "€.txt"),
        (((b"filename*", b"no%20charset"),), "no charset"),
        (((b"filename", b"=?utf-8?q?=C3=A4?=.txt"),), "ä.txt"),
        ((), None),
    ],
)
def test_parameter_values(parameters: tuple[tuple[bytes, bytes], ...], text: str | None) -> None:
    """name* is decoded by RFC 2231 §4 and wins over name, whose encoded words are read."""
    assert decode_parameter(parameters, b"filename") == text


@pytest.mark.parametrize(
    "name", ["rot13", "base64", "zlib", "idna", "punycode", "unicode_escape", "x-unknown", "a\0b", ""]
)
def test_what_is_no_charset_is_refused(name: str) -> None:
    """Python's transforming codecs and unknown names are no charsets."""
    assert codec(name) is None


def test_a_plain_charset_that_is_not_kept_to_is_guessed() -> None:
    """8-bit octets under us-ascii are UTF-8 when they can be, else windows-1252."""
    assert decode_octets("ä".encode(), b"us-ascii") == "ä"
    assert decode_octets(b"\x80", b"us-ascii") == "€"


@settings(deadline=None)
@given(
    st.binary(max_size=80), st.sampled_from([b"utf-8", b"utf-7", b"utf-16", b"iso-2022-jp", b"hz", b"big5", b"?", b""])
)
def test_any_octets_decode_to_storable_text(octets: bytes, charset: bytes) -> None:
    """Any octets in any charset give text without NUL and lone surrogates."""
    for text in (decode_octets(octets, charset), decode(b"=?" + charset + b"?q?" + octets + b"?=")):
        assert "\0" not in text
        assert text.encode("utf-8").decode("utf-8") == text


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_base64_survives_line_ends_and_junk(octets: bytes) -> None:
    """Base64 decodes with line ends, blanks and without padding."""
    from base64 import encodebytes

    text = encodebytes(octets)
    assert decode_base64(text.replace(b"\n", b"\r\n")) == octets
    assert decode_base64(text.rstrip(b"=\n") + b"!") == octets
