"""parse(): the one call at intake."""

from datetime import UTC, datetime

from protocol.message import LARGE_BODY_OCTETS, parse, render_bodystructure, render_envelope, scan, unpack

MAIL = (
    b"Received: by x; Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: A <a@b.test>\r\nSubject: =?utf-8?q?=C3=A4?=\r\n b\r\n"
    b"Date: Mon, 1 Jan 2024 01:02:03 +0100\r\nMessage-ID: (c) <id@b.test> x\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsmall\r\n--b\r\nContent-Type: image/png\r\n\r\n"
)
LARGE = b"x" * LARGE_BODY_OCTETS


def test_everything_is_found_in_one_call() -> None:
    """parse() gives what the single functions give, and what storage sorts and searches by."""
    octets = MAIL + LARGE + b"\r\n--b--\r\n"
    parsed = parse(octets)
    root = scan(octets)
    assert parsed.envelope == render_envelope(octets, root)
    assert parsed.bodystructure == render_bodystructure(root)
    assert unpack(parsed.structure) == root
    assert parsed.header_cache == MAIL[MAIL.index(b"From") : MAIL.index(b"--b")]
    assert parsed.sent_at == datetime(2024, 1, 1, 0, 2, 3, tzinfo=UTC)
    assert parsed.message_id == b"<id@b.test>"
    assert parsed.subject == "ä b"


def test_large_leaves_are_named() -> None:
    """Bodies of 32 KiB and more are the extents that may be stored apart."""
    octets = MAIL + LARGE + b"\r\n--b\r\n\r\n" + LARGE[1:] + b"\r\n--b--\r\n"
    assert parse(octets).extents == ((len(MAIL), len(MAIL) + LARGE_BODY_OCTETS),)


def test_an_empty_message() -> None:
    """No octets are a message too."""
    parsed = parse(b"")
    assert (parsed.sent_at, parsed.message_id, parsed.subject, parsed.extents) == (None, None, "", ())
    assert parsed.header_cache == b"\r\n"
