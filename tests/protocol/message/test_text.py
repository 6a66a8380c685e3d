"""Searchable text."""

import time

import pytest

from protocol.message import scan
from protocol.message.text import header_text, searchable, strip_html

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
