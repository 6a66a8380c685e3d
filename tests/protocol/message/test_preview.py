"""Previews: what a message list shows of a message."""

import pytest
from hypothesis import given, settings

from protocol.message import scan
from protocol.message.preview import PREVIEW_CHARACTERS, READ_OCTETS, preview
from tests.mails import MAILS, as_sent
from tests.protocol.message.test_properties import MESSAGES

QUOTED_PRINTABLE = "Content-Transfer-Encoding: quoted-printable"


def _shown(octets: bytes) -> str:
    return preview(octets, scan(octets))


def _plain(body: str, *fields: str) -> bytes:
    head = fields or ("Content-Type: text/plain; charset=utf-8",)
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body.replace("\n", "\r\n").encode()


def _html(body: str) -> bytes:
    return _plain(body, "Content-Type: text/html; charset=utf-8")


def _mixed(*parts: bytes, kind: str = "alternative") -> bytes:
    head = f"Content-Type: multipart/{kind}; boundary=b\r\n\r\n".encode()
    return head + b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (_plain("Hello,\n\n  see you\tsoon.\n"), "Hello, see you soon."),
        (_plain("\n\n"), ""),
        (b"", ""),
        (_plain("Gr\u00fc\u00dfe"), "Gr\u00fc\u00dfe"),
        (_plain("=C4=\npfel", "Content-Type: text/plain; charset=latin1", QUOTED_PRINTABLE), "\u00c4pfel"),
        (b"Content-Transfer-Encoding: base64\r\n\r\nSGk=\r\n", "Hi"),
        (_plain("Yes.\n\nOn Monday Bob wrote:\n\n> Really?\n> And so on\n\nBye\n-- \nAlice, CEO"), "Yes. Bye"),
        (_plain("> only\n> this"), "> only > this"),
        (_plain("-----BEGIN PGP MESSAGE-----\n\nhQEMA\n"), ""),
        (_html("<html><head><title>T</title><style>p{}</style></head><BODY class=a><p>One</p>&amp;<b>two</b></BODY>"), "One &two"),
        (_html("<p>Sale&zwnj;&nbsp;&zwnj;&nbsp;&#847; &shy;now</p>"), "Sale now"),
        (_plain("\u06a9\u062a\u0627\u0628\u200c\u0647\u0627"), "\u06a9\u062a\u0627\u0628\u200c\u0647\u0627"),
        (_mixed(_plain("plain"), _html("<p>html")), "plain"),
        (_mixed(_plain("\n"), _html("<p>html")), "html"),
        (_mixed(_plain("file", "Content-Disposition: attachment"), _plain("text"), kind="mixed"), "text"),
        (b"Content-Type: image/png\r\n\r\nxx", ""),
        (_mixed(b"Content-Type: message/rfc822\r\n\r\n" + _plain("forwarded"), kind="mixed"), "forwarded"),
    ],
)  # fmt: skip
def test_preview(octets: bytes, expected: str) -> None:
    """The first words of the first text that says something, on one line."""
    assert _shown(octets) == expected


def test_it_is_short() -> None:
    """At most 200 characters are shown, which RFC 8970 §3.3 recommends, whatever they take in octets."""
    assert _shown(_plain("\U0001f600" * 300)) == "\U0001f600" * PREVIEW_CHARACTERS
    assert _shown(_plain("ab " * 100)) == ("ab " * 66 + "ab")[:PREVIEW_CHARACTERS]


@pytest.mark.parametrize("filling", ["<style>" + "p{}" * READ_OCTETS + "</style>", "<!--" + "x" * READ_OCTETS + "-->"])
def test_what_is_cut_off_shows_no_markup(filling: str) -> None:
    """A style sheet that is longer than what is read does not become the preview; what stood before it does."""
    assert _shown(_html("<p>Before</p>" + filling + "<p>after</p>")) == "Before"
    assert _shown(_html("<p>Before</p>" + " " * (READ_OCTETS - 20) + "<a href='" + "x" * 100 + "'>")) == "Before"


def test_a_character_cut_in_its_middle_does_not_change_the_charset() -> None:
    """UTF-8 without a charset stays UTF-8 where the part is cut within a character."""
    for shift in range(3):
        assert _shown(_plain("x" * shift + "\u20ac" * READ_OCTETS, "Subject: x"))[shift:].strip("\u20ac") == ""


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_it_never_fails(octets: bytes) -> None:
    """Any octets give one line of at most 200 characters that can be sent as UTF-8."""
    shown = _shown(octets)
    assert len(shown) <= PREVIEW_CHARACTERS
    assert not {"\r", "\n", "\0"} & set(shown)
    assert shown.encode("utf-8").decode("utf-8") == shown.strip()


def test_mails_of_the_corpora() -> None:
    """Every mail of the corpora has a preview on one line, an HTML one without markup, and most have one with words in it."""
    said = 0
    for octets in map(as_sent, MAILS):
        part = scan(octets)
        shown = preview(octets, part)
        assert len(shown) <= PREVIEW_CHARACTERS
        assert "\n" not in shown
        assert "<html" not in shown.lower() or part.subtype.lower() != b"html"
        said += bool(shown)
    assert said > 0.7 * len(MAILS)
