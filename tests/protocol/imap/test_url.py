"""IMAP URLs."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.imap.fetch import Section
from protocol.imap.url import MessageUrl, Server, UrlError, badurl, parse

HERE = Server(None, "mail.example.org")
ROWS = [
    (b"/Drafts;UIDVALIDITY=385759045/;UID=20", MessageUrl(None, "Drafts", 385759045, 20)),
    (b"/Drafts/;uid=20/;section=HEADER", MessageUrl(None, "Drafts", None, 20, Section((), "HEADER"))),
    (b"/A/B/;UID=1/;SECTION=1.2.MIME", MessageUrl(None, "A/B", None, 1, Section((1, 2), "MIME"))),
    (b"/inbox/;UID=1/;SECTION=1", MessageUrl(None, "INBOX", None, 1, Section((1,)))),
    (
        b"/A/;UID=1/;SECTION=HEADER.FIELDS%20(Date%20%22X-A%20B%22)/;PARTIAL=5.10",
        MessageUrl(None, "A", None, 1, Section((), "HEADER.FIELDS", (b"Date", b"X-A B")), (5, 10)),
    ),
    (b"/A/;UID=1/;PARTIAL=7", MessageUrl(None, "A", None, 1, partial=(7, None))),
    (b"imap://mail.example.org/A/;UID=1", MessageUrl(HERE, "A", None, 1)),
    (b"IMAP://Alice%40x;AUTH=*@MAIL.example.org:143/A;uidvalidity=7/;UID=1", MessageUrl(Server("Alice@x", HERE.host), "A", 7, 1)),
    (b"imap://[::1]/A/;UID=1", MessageUrl(Server(None, "[::1]"), "A", None, 1)),
    (b"/Entw%C3%BCrfe/;UID=1", MessageUrl(None, "Entw\u00fcrfe", None, 1)),
    (b";UID=20/;SECTION=1", MessageUrl(None, None, None, 20, Section((1,)))),
    (b"Other/;UID=20", MessageUrl(None, "Work/Other", None, 20)),
]  # fmt: skip


@pytest.mark.parametrize(("url", "expected"), ROWS)
def test_urls(url: bytes, expected: MessageUrl) -> None:
    """Mailbox, UID, section and partial of absolute and relative URLs (RFC 5092 §11)."""
    assert parse(url, "Work/Drafts") == expected


@pytest.mark.parametrize(
    "url",
    [
        *(b"", b"/", b"x", b"/A", b"/A/", b"/A/;UID=0", b"/A/;UID=01", b"/A/;UID=12345678901", b"/A;UID=1", b"/;UID=1"),
        *(b"/A;UIDVALIDITY=0/;UID=1", b"/A/;UID=1/;SECTION=", b"/A/;UID=1/;SECTION=FOO", b"/A/;UID=1/;SECTION=1]"),
        *(b"/A/;UID=1/;PARTIAL=", b"/A/;UID=1/;PARTIAL=1.0", b"/A/;UID=1;URLAUTH=anonymous:internal:9", b"/A%/;UID=1"),
        *(b"http://mail.example.org/A/;UID=1", b"imap://x@y@z/A/;UID=1", b"/A%ff/;UID=1", b"/A%00/;UID=1", b"/A?x/;UID=1"),
    ],
)  # fmt: skip
def test_what_names_no_octets(url: bytes) -> None:
    """Everything else is an error, URLAUTH included."""
    with pytest.raises(UrlError):
        parse(url, "INBOX")


def test_relative_urls_need_a_mailbox() -> None:
    """Without a selected mailbox a UID alone names nothing; a relative name then begins at the top."""
    with pytest.raises(UrlError):
        parse(b";UID=1")
    assert parse(b"A/;UID=1").mailbox == "A"


@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from([b"/", b";UID=", b"1", b"A", b"%", b"41", b";PARTIAL=", b"."])).map(b"".join)
)
def test_any_octets(url: bytes) -> None:
    """Any octets are read or refused, and can be told in a response code either way."""
    with contextlib.suppress(UrlError):
        assert parse(url, "INBOX").uid > 0
    code = badurl(url)
    assert code.startswith(b"BADURL ")
    assert not set(code[7:]) & set(b"]\r\n\0 ")
