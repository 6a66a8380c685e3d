"""Trace fields, replies and status codes: the octets that come of given values."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.address import AddrSpec, address_literal, is_address_literal, is_domain, parse_addr_spec
from protocol.smtp.grammar import GrammarError, decode_xtext, encode_xtext
from protocol.smtp.received import Hop, render_date, render_received, render_return_path, with_protocol
from protocol.smtp.reply import reply
from protocol.status import TITLES, enhanced

NOON = datetime(2026, 11, 8, 12, 0, 5, tzinfo=UTC)


def hop(**changed: object) -> Hop:
    values = {"helo": "client.example", "peer": "192.0.2.1", "hostname": "mx.example.test", "protocol": "ESMTPS",
              "transaction_id": "0123abcd", "forward_path": AddrSpec("alice", "example.test"), "received_at": NOON}  # fmt: skip
    return Hop(**(values | changed))  # type: ignore[arg-type]


def test_received() -> None:
    """RFC 5321 §4.4: from, by, with, id, for and date, folded."""
    assert render_received(hop()) == (
        b"Received: from client.example ([192.0.2.1])\r\n"
        b"\tby mx.example.test with ESMTPS id 0123abcd\r\n"
        b"\tfor <alice@example.test>;\r\n"
        b"\tSun, 8 Nov 2026 12:00:05 +0000\r\n"
    )


def test_received_keeps_several_recipients_to_itself() -> None:
    """Without a single recipient there is no `for` clause (RFC 5321 §7.2)."""
    assert b"for" not in render_received(hop(forward_path=None))


@pytest.mark.parametrize(
    ("helo", "peer", "source"),
    [
        ("client.example", "2001:db8::1", "client.example ([IPv6:2001:db8::1])"),
        ("client.example.", "192.0.2.1", "client.example ([192.0.2.1])"),
        ("[192.0.2.1]", "192.0.2.1", "[192.0.2.1]"),
        ("[192.0.2.9]", "192.0.2.1", "[192.0.2.9] ([192.0.2.1])"),
        ("my_pc", "192.0.2.1", "[192.0.2.1]"),
        ("my_pc", "", "localhost"),
        ("client.example", "", "client.example"),
        ("client.example", "::ffff:192.0.2.1", "client.example ([192.0.2.1])"),
    ],
)
def test_received_from(helo: str, peer: str, source: str) -> None:
    """The from clause is an Extended-Domain whatever the client calls itself."""
    assert render_received(hop(helo=helo, peer=peer)).startswith(f"Received: from {source}\r\n".encode())


def test_return_path() -> None:
    """The reverse path as the client gave it, quoted where it must be, <> for the null path, in UTF-8 if it has to be."""
    assert render_return_path(None) == b"Return-Path: <>\r\n"
    assert render_return_path(AddrSpec("a b", "x")) == b'Return-Path: <"a b"@x>\r\n'
    assert render_return_path(AddrSpec("jörg", "x")) == "Return-Path: <jörg@x>\r\n".encode()


def test_date_is_given_in_utc() -> None:
    """Whatever zone the time was taken in."""
    assert render_date(NOON.astimezone(timezone(timedelta(hours=5)))) == "Sun, 8 Nov 2026 12:00:05 +0000"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"is_extended": False}, "SMTP"),
        ({"is_extended": True}, "ESMTP"),
        ({"is_extended": True, "is_secure": True}, "ESMTPS"),
        ({"is_extended": True, "is_secure": True, "is_authenticated": True}, "ESMTPSA"),
        ({"is_extended": True, "is_lmtp": True}, "LMTP"),
        ({"is_extended": True, "is_lmtp": True, "is_secure": True}, "LMTPS"),
        ({"is_extended": True, "is_smtputf8": True}, "UTF8SMTP"),
        ({"is_extended": True, "is_smtputf8": True, "is_secure": True}, "UTF8SMTPS"),
        ({"is_extended": True, "is_smtputf8": True, "is_lmtp": True}, "UTF8LMTP"),
    ],
)
def test_with_clause(words: dict[str, bool], expected: str) -> None:
    """The registered transmission types of RFC 3848 and RFC 6531 §4.3."""
    assert with_protocol(**words) == expected


def test_reply_of_several_lines() -> None:
    """Each line has the code and the enhanced code; only the last has a space behind the code (RFC 5321 §4.2.1)."""
    assert reply(214, "2.0.0", "a", "b").octets == b"214-2.0.0 a\r\n214 2.0.0 b\r\n"
    assert reply(250, "", "mx", "SIZE 1", "DSN").octets == b"250-mx\r\n250-SIZE 1\r\n250 DSN\r\n"


def test_reply_must_agree_with_its_status() -> None:
    """A 4yz reply cannot carry a 5.y.z status, and no status outside the registry exists."""
    with pytest.raises(ValueError, match="contradicts"):
        reply(451, "5.3.0", "no")
    with pytest.raises(ValueError, match="no registered"):
        reply(550, "5.9.9", "no")
    with pytest.raises(ValueError, match="no reply code"):
        reply(150, "", "no")


def test_status_registry() -> None:
    """The codes that we use have the registry's titles."""
    assert (str(enhanced("5.1.1")), TITLES[1, 1]) == ("5.1.1", "Bad destination mailbox address")
    with pytest.raises(ValueError, match="no registered"):
        enhanced("3.1.1")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_xtext_reads_back(text: str) -> None:
    """Every printable text survives xtext (RFC 3461 §4)."""
    assert decode_xtext(encode_xtext(text)) == text


@pytest.mark.parametrize("text", ["+", "+2", "+2b", "=", " ", "ö", "+00", "+FF"])
def test_bad_xtext(text: str) -> None:
    """Lower-case hexchars, stray signs and encoded control characters are refused."""
    with pytest.raises(GrammarError):
        decode_xtext(text)


def test_address_literals() -> None:
    """RFC 5321 §4.1.3: IPv4, and IPv6 with its tag; no other tag, no scope ids, no brackets missing."""
    assert is_address_literal("[192.0.2.1]")
    assert is_address_literal("[IPv6:2001:db8::1]")
    for text in (
        "192.0.2.1",
        "[192.0.2.1",
        "[2001:db8::1]",
        "[X-Tag:content]",
        "[IPv6:fe80::1%eth0]",
        "[IPv6:192.0.2.1]",
        "[]",
        "[ö:x]",
    ):
        assert not is_address_literal(text), text
    assert address_literal("fe80::1%eth0") == "[IPv6:fe80::1]"


def test_addresses() -> None:
    """An address fills the whole text; the printed form quotes only what must be quoted."""
    assert str(parse_addr_spec('"alice"@example.test')) == "alice@example.test"
    assert str(parse_addr_spec('"al ice"@example.test')) == '"al ice"@example.test'
    assert str(AddrSpec("postmaster", "")) == "postmaster"
    assert not parse_addr_spec("jörg@example.test").is_ascii
    for text in ("", "alice", "alice@", " alice@example.test", "alice@example.test\n", "alice@" + "a." * 127 + "ab"):
        with pytest.raises(ValueError, match=r"expected|longer"):
            parse_addr_spec(text)
    assert is_domain("bücher.example")
    assert not is_domain("a_b.example")
