"""Searchable text."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message import scan
from protocol.message.text import canonical, fields_named, header_text, searchable, strip_html

MAIL = """\
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus\r
 Ulm\r
To: a@b\r
Content-Type: multipart/mixed; boundary=b\r
\r
preamble\r
--b\r
Content-Type: text/plain; charset=iso-8859-1\r
Content-Transfer-Encoding: quoted-printable\r
\r
sch=F6ne Gr=\r
=FC=DFe\r
zwei\r
--b\r
Content-Type: text/html; charset=utf-8\r
Content-Transfer-Encoding: base64\r
\r
PHA+RmlzY2gmYW1wO0NvPC9wPjxzdHlsZT5we308L3N0eWxlPg==\r
--b\r
Content-Type: image/png\r
\r
not text\r
--b\r
Content-Type: message/rfc822\r
\r
Subject: =?utf-8?b?SW5uZW4=?=\r
\r
drin\r
--b--\r
"""


def test_all_text_of_a_message_is_found() -> None:
    """Headers and text parts come decoded, embedded messages with their headers, other parts not at all."""
    octets = MAIL.encode()
    header, body = searchable(octets, scan(octets))
    assert header.splitlines()[:2] == ["Subject: Grüße aus Ulm", "To: a@b"]
    for text in ("schöne Grüße\nzwei", "Fisch&Co", "Subject: Innen", "drin"):
        assert text in body
    for text in ("not text", "preamble", "{}", "<p>"):
        assert text not in body


def test_header_text_of_one_field() -> None:
    """The text of all fields of one name comes a line each, without their names."""
    section = b"Received: one\r\nSubject: x\r\nreceived: =?utf-8?q?zw=C3=B6lf?=\r\n\r\nReceived: body"
    assert header_text(section, b"Received") == "one\nzwölf"
    assert header_text(section, b"Absent") == ""


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a<b>b</b>c", "abc"),
        ("a<br>b", "a\nb"),
        ("1 < 2 &lt; 3", "1 < 2 < 3"),
        ("<!-- no -->a<SCRIPT x>no</script >b", " a b"),
        ("a<script>endless", "aendless"),
        ('<a href="x">y</a', "y</a"),
    ],
)
def test_html_is_stripped_crudely(markup: str, text: str) -> None:
    """Markup goes, text and character references stay."""
    assert strip_html(markup) == text


@pytest.mark.parametrize("piece", ["<script", "<!--", "<a ", "</p", "&", "<style></style", "<script></script>"])
def test_hostile_html_takes_linear_time(piece: str) -> None:
    """A megabyte of unended markup is stripped in a few seconds of CPU at most."""
    started = time.process_time()
    assert len(strip_html(piece * (1_000_000 // len(piece)))) <= 1_000_000
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Straße", "STRA\u00dfE"),  # UnicodeData.txt has no titlecase of one character for it
        ("ÄÖÜ äöü", "A\u0308O\u0308U\u0308 A\u0308O\u0308U\u0308"),
        ("ǆ ǅ Ǆ", "Dz\u030c Dz\u030c Dz\u030c"),
        ("Σίσυφος", "\u03a3\u0399\u0301\u03a3\u03a5\u03a6\u039f\u03a3"),
        ("ﬁ ™ ½ ａ", "fi TM 1\u20442 A"),  # titlecase first, then what it is composed of
        ("한글", "한글"),  # syllables have no decomposition there
        ("\u1fb3", "\u0391\u0345"),
        ("", ""),
    ],
)
def test_canonical_text_is_titlecased_and_decomposed(text: str, key: str) -> None:
    """RFC 5051 §2, by UnicodeData.txt alone."""
    assert canonical(text) == key


@given(st.text(), st.text())
def test_canonical_text_is_made_character_by_character(one: str, other: str) -> None:
    """Joining and mapping commute, and case makes no difference where each character has one other."""
    assert canonical(one + other) == canonical(one) + canonical(other)
    assert all(canonical(letter.swapcase()) == canonical(letter) for letter in one if letter.isascii())


@given(st.text(max_size=40))
def test_canonical_text_is_what_the_tables_say(text: str) -> None:
    """The fast ways give what looking up each character gives."""
    titles = [character.title() if len(character.title()) == 1 else character for character in text]
    assert canonical(text) == "".join([_full(title) for title in titles])


def _full(character: str) -> str:
    if "\uac00" <= character <= "\ud7a3":
        return character
    decomposed = unicodedata.decomposition(character).split()
    codes = [chr(int(code, 16)) for code in decomposed if not code.startswith("<")]
    return "".join(map(_full, codes)) or character


def test_fields_are_found_in_header_text_by_name() -> None:
    """Each field is a line, whatever its encoded words hold: none can pretend to be another one."""
    section = b"X: =?utf-8?q?one=0AY:_two?=\r\nY:three\r\ny : four\r\nXY: five\r\n\r\n"
    text = canonical(header_text(section, None))
    assert fields_named(text, "X") == ["ONE Y: TWO"]
    assert fields_named(text, "Y") == ["THREE", "FOUR"]
    assert fields_named(text, "Z") == []
