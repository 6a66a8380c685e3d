"""Rendering of ENVELOPE, BODYSTRUCTURE and BODY; the packed tree."""

import msgspec
import pytest

from protocol.message import body_of, pack, render_bodystructure, render_envelope, scan, unpack
from protocol.message.strings import nstring, string, tidy_nstring

REPORT = (
    b"From: MAILER-DAEMON (Mail)\r\nContent-Type: multipart/report; boundary=b; report-type=delivery-status\r\n\r\n"
    b"--b\r\n\r\nfailed\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n"
    b'--b\r\nContent-Type: message/rfc822\r\nContent-Description: the "original"\r\n\r\n'
    b'Subject: gr\xc3\xbc\xc3\x9fe\r\nContent-Type: text/html; charset=utf-8; name="{3}"\r\n\r\n<p>\r\n--b--\r\n'
)


def test_an_envelope() -> None:
    """ENVELOPE takes Sender and Reply-To from From, shows NIL for absent fields and "" for empty ones."""
    octets = (
        b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nSubject:\r\n"
        b'From: Fred "F" Foobar <foobar@Blurdy.test>\r\nTo: a@b,\r\n c@d\r\n\r\n'
    )
    sender = b'(("Fred F Foobar" NIL "foobar" "Blurdy.test"))'
    assert render_envelope(octets, scan(octets)) == (
        b'("Mon, 7 Feb 1994 21:52:25 -0800" "" %b %b %b ((NIL NIL "a" "b")(NIL NIL "c" "d")) NIL NIL NIL NIL)'
        % (sender, sender, sender)
    )


def test_a_bodystructure_and_its_body() -> None:
    """BODYSTRUCTURE shows nested messages with their envelope; BODY is the same without extension data."""
    bodystructure = render_bodystructure(scan(REPORT))
    assert bodystructure == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 8 1 NIL NIL NIL NIL)'
        b'("message" "delivery-status" NIL NIL NIL "7bit" 14 NIL NIL NIL NIL)'
        b'("message" "rfc822" NIL NIL "the \\"original\\"" "7bit" 75 '
        b"(NIL {7}\r\ngr\xc3\xbc\xc3\x9fe NIL NIL NIL NIL NIL NIL NIL NIL) "
        b'("text" "html" ("charset" "utf-8" "name" "{3}") NIL NIL "7bit" 3 0 NIL NIL NIL NIL) 3 NIL NIL NIL NIL)'
        b' "report" ("boundary" "b" "report-type" "delivery-status") NIL NIL NIL)'
    )
    assert body_of(bodystructure) == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 8 1)'
        b'("message" "delivery-status" NIL NIL NIL "7bit" 14)'
        b'("message" "rfc822" NIL NIL "the \\"original\\"" "7bit" 75 '
        b"(NIL {7}\r\ngr\xc3\xbc\xc3\x9fe NIL NIL NIL NIL NIL NIL NIL NIL) "
        b'("text" "html" ("charset" "utf-8" "name" "{3}") NIL NIL "7bit" 3 0) 3) "report")'
    )


@pytest.mark.parametrize(
    ("octets", "bodystructure"),
    [
        (b"", b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
            b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)',
        ),
        (
            b"Content-Type: image/png; name=a\r\nContent-Disposition: inline\r\nContent-Language: de\r\n"
            b"Content-Location: x\r\n\r\nab",
            b'("image" "png" ("name" "a") NIL NIL "7bit" 2 NIL ("inline" NIL) ("de") "x")',
        ),
        (
            b"Content-Type: message/global\r\n\r\nSubject: x\r\n\r\nab",
            b'("message" "global" NIL NIL NIL "7bit" 16 (NIL "x" NIL NIL NIL NIL NIL NIL NIL NIL) '
            b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL)',
        ),
        (
            b"Content-Type: multipart/mixed; boundary=----=_a=b; x=y=z\r\n\r\n------=_a=b\r\n\r\nab\r\n------=_a=b--\r\n",
            b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2 0 NIL NIL NIL NIL) '
            b'"mixed" ("boundary" "----=_a=b" "x" "y") NIL NIL NIL)',
        ),
    ],
)
def test_bodystructures(octets: bytes, bodystructure: bytes) -> None:
    """Defaults and extension fields stand where RFC 9051 §7.5.2 puts them; the boundary is the one that divides."""
    assert render_bodystructure(scan(octets)) == bodystructure


@pytest.mark.parametrize(
    ("value", "rendered"),
    [
        (b"", b'""'),
        (b"plain", b'"plain"'),
        (b'quote " back \\', b'"quote \\" back \\\\"'),
        (b"8-bit \xfc", b"{7}\r\n8-bit \xfc"),
        (b"line\r\nend\rs\n", b'"line end s "'),
        (b"nul\0", b"{6}\r\nnul\xef\xbf\xbd"),
    ],
)
def test_strings(value: bytes, rendered: bytes) -> None:
    """What a quoted string cannot carry becomes a literal; line ends and NUL, which no string carries, are replaced."""
    assert string(value) == rendered
    assert nstring(None) == b"NIL"


def test_text_for_people_is_tidied() -> None:
    """White space in subjects and names is collapsed."""
    assert tidy_nstring(b" a\t\tb\r\n  c ") == b'"a b c"'
    assert tidy_nstring(None) == b"NIL"


def test_the_packed_tree_comes_back() -> None:
    """unpack() gives back what pack() was given, and refuses anything else."""
    root = scan(REPORT)
    assert unpack(pack(root)) == root
    with pytest.raises(msgspec.DecodeError):
        unpack(b"\x93\x01")


def test_body_of_refuses_what_it_did_not_render() -> None:
    """A BODYSTRUCTURE that is none is an error, not an endless loop."""
    with pytest.raises(ValueError, match="octet 1"):
        body_of(b"(x")
