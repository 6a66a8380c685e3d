"""Delivery status notifications: what is rendered is read back with the standard library's own parser."""

import email.message
import email.policy
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.address import AddrSpec
from protocol.message import parse
from protocol.message.dsn import RETURNED_HEADER_LIMIT, Action, Outcome, Report, header_of, render
from protocol.status import enhanced

ORIGINAL = b"From: bob@example.test\r\nSubject: hello\r\n\r\nHello.\r\n"
ALICE = Outcome(AddrSpec("alice", "example.test"), "delivered", enhanced("2.0.0"))
REPORT = Report(
    hostname="mail.example.test",
    author=AddrSpec("postmaster", "mail.example.test"),
    reverse_path=AddrSpec("bob", "example.test"),
    outcomes=[replace(ALICE, orcpt="rfc822;carol@ivory.example")],
    arrived_at=datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC),
    envid="x+y=z",
)
JOERG = Outcome(AddrSpec("jörg", "bücher.example"), "delivered", enhanced("2.0.0"), "utf-8;jörg+x@bücher.example")

Part = email.message.MIMEPart


def rendered(report: Report, original: bytes = ORIGINAL) -> bytes:
    return render(
        report,
        original,
        boundary="=_b",
        message_id="<1@mail.example.test>",
        date=datetime(2024, 2, 3, 4, 5, 7, tzinfo=UTC),
    )


def parts_of(octets: bytes) -> tuple[email.message.EmailMessage, list[Part]]:
    """The report and its three parts."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert not message.defects
    parts = list(message.iter_parts())
    assert len(parts) == 3
    assert parts[0].get_content_type() == "text/plain"
    return message, parts


def status_of(part: Part) -> list[list[tuple[str, str]]]:
    """The groups of fields of the second part, by the blank lines between them."""
    octets = part.as_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")[2].rstrip(b"\n")
    groups = [group.split("\n") for group in octets.decode().split("\n\n")]
    return [[(line.partition(": ")[0], line.partition(": ")[2]) for line in group] for group in groups]


def test_the_whole_report() -> None:
    """A report of delivery, octet for octet."""
    assert rendered(REPORT) == (
        b"From: Mail Delivery System <postmaster@mail.example.test>\r\n"
        b"To: <bob@example.test>\r\n"
        b"Subject: Mail delivered\r\n"
        b"Date: Sat, 3 Feb 2024 04:05:07 +0000\r\n"
        b"Message-ID: <1@mail.example.test>\r\n"
        b"Auto-Submitted: auto-replied\r\n"
        b"MIME-Version: 1.0\r\n"
        b'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="=_b"\r\n'
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"--=_b\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\n"
        b"Content-Language: en\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"This is the mail server mail.example.test.\r\n"
        b"\r\n"
        b"Your message was delivered to these recipients:\r\n"
        b"\r\n"
        b"    <alice@example.test>\r\n"
        b"\r\n"
        b"A report for mail programs follows, then your message or its header.\r\n"
        b"\r\n"
        b"\r\n--=_b\r\n"
        b"Content-Type: message/delivery-status\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Original-Envelope-Id: x+y=z\r\n"
        b"Reporting-MTA: dns; mail.example.test\r\n"
        b"Arrival-Date: Sat, 3 Feb 2024 04:05:06 +0000\r\n"
        b"\r\n"
        b"Original-Recipient: rfc822; carol@ivory.example\r\n"
        b"Final-Recipient: rfc822; alice@example.test\r\n"
        b"Action: delivered\r\n"
        b"Status: 2.0.0\r\n"
        b"\r\n--=_b\r\n"
        b"Content-Type: text/rfc822-headers\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"From: bob@example.test\r\nSubject: hello\r\n"
        b"\r\n--=_b--\r\n"
    )


def test_fields_read_back() -> None:
    """The standard library finds the groups of fields; what the sender did not give is left out."""
    report = replace(REPORT, envid=None, outcomes=[ALICE, *REPORT.outcomes])
    message, parts = parts_of(rendered(report))
    assert message["To"].addresses[0].addr_spec == "bob@example.test"
    assert message["Auto-Submitted"] == "auto-replied"
    groups = [dict(group.items()) for group in parts[1].iter_parts()]
    assert groups[0] == {"Reporting-MTA": "dns; mail.example.test", "Arrival-Date": "Sat, 3 Feb 2024 04:05:06 +0000"}
    final = {"Final-Recipient": "rfc822; alice@example.test", "Action": "delivered", "Status": "2.0.0"}
    assert groups[1:] == [final, {"Original-Recipient": "rfc822; carol@ivory.example", **final}]


@pytest.mark.parametrize(
    ("language", "action", "status", "subject", "words"),
    [
        ("en", "failed", "5.1.1", "Mail not delivered", "could not be delivered"),
        ("en", "delayed", "4.4.1", "Mail delayed", "keeps trying"),
        ("en", "relayed", "2.1.9", "Mail passed on", "passed on"),
        ("en", "delivered", "2.0.0", "Mail delivered", "was delivered"),
        ("de", "failed", "5.1.1", "Nachricht nicht zustellbar", "Empfängern nicht zugestellt"),
        ("de", "delayed", "4.4.1", "Zustellung noch nicht erfolgt", "Sie müssen nichts tun"),
        ("de", "relayed", "2.1.9", "Nachricht weitergegeben", "die\nkeine Zustellung bestätigen"),
        ("de", "delivered", "2.0.0", "Nachricht zugestellt", "diesen Empfängern zugestellt"),
    ],
)
def test_languages_and_actions(language: str, action: Action, status: str, subject: str, words: str) -> None:
    """Each action has its words in each language; the report stays 7-bit, and a failure shows its status."""
    outcome = Outcome(AddrSpec("alice", "example.test"), action, enhanced(status))
    octets = rendered(replace(REPORT, outcomes=[outcome], language=language))  # type: ignore[arg-type]
    message, parts = parts_of(octets)
    assert octets.isascii()
    assert message["Subject"] == subject
    assert parts[0]["Content-Language"] == language
    text = parts[0].get_content().replace("\r\n", "\n")
    assert words in text
    assert f"    <alice@example.test>{'' if status[0] == '2' else f' ({status})'}\n" in text
    assert dict(status_of(parts[1])[1])["Action"] == action


def test_the_worst_is_the_subject() -> None:
    """A report of several actions groups the recipients by them, the worst first, and is named after it."""
    bad = Outcome(AddrSpec("zoe", "example.test"), "failed", enhanced("5.1.1"))
    message, parts = parts_of(rendered(replace(REPORT, outcomes=[ALICE, bad])))
    assert message["Subject"] == "Mail not delivered"
    text = parts[0].get_content()
    assert text.index("<zoe@example.test> (5.1.1)") < text.index("<alice@example.test>")


@pytest.mark.parametrize("ret", [None, "HDRS", "FULL"])
@pytest.mark.parametrize("action", ["delivered", "failed"])
def test_ret(ret: str | None, action: Action) -> None:
    """RET=FULL returns the message if there is a failure among the outcomes (RFC 3461 §6.2), else the header does."""
    report = replace(REPORT, ret=ret, outcomes=[replace(ALICE, action=action)])
    _, (_, _, returned) = parts_of(rendered(report))
    is_whole = (ret, action) == ("FULL", "failed")
    assert report.returns_message is is_whole
    assert returned.get_content_type() == ("message/rfc822" if is_whole else "text/rfc822-headers")
    assert (b"Hello." in returned.as_bytes()) is is_whole


LONG = b"Subject: " + b"x" * 990
UMLAUT = "Subject: Grüße\r\n\r\nüber\r\n".encode()


@pytest.mark.parametrize(
    ("original", "is_smtputf8", "ret", "content_type", "encoding"),
    [
        (b"", False, None, "text/rfc822-headers", "7bit"),
        (b"\r\nbody\r\n", False, None, "text/rfc822-headers", "7bit"),
        (LONG[:998] + b"\r\n\r\n", False, None, "text/rfc822-headers", "7bit"),
        (LONG + b"\r\n\r\n", False, None, "text/rfc822-headers", "quoted-printable"),
        (b"Subject: \xff\r\n\r\n", False, None, "text/rfc822-headers", "quoted-printable"),
        (UMLAUT, False, None, "text/rfc822-headers", "quoted-printable"),
        (UMLAUT, True, None, "message/global-headers", "8bit"),
        (b"Subject: \xff\r\n\r\n", True, None, "text/rfc822-headers", "quoted-printable"),
        (b"Subject: a\x00b\r\n\r\n", True, None, "text/rfc822-headers", "quoted-printable"),
        (ORIGINAL, True, None, "text/rfc822-headers", "7bit"),
        (b"Subject: x\r\n\r\n\xff\r\n", False, "FULL", "message/rfc822", "8bit"),
        (b"Subject: x\r\n\r\n\xff\r\n", True, "FULL", "message/rfc822", "8bit"),
        (UMLAUT, True, "FULL", "message/global", "8bit"),
        (b"Subject: x\r\n\r\n" + LONG + b"\r\n", False, "FULL", "text/rfc822-headers", "7bit"),
    ],
)
def test_what_is_returned(
    original: bytes, is_smtputf8: bool, ret: str | None, content_type: str, encoding: str
) -> None:
    """Headers go as they are, or quoted when lines would not get through; UTF-8 types only for SMTPUTF8."""
    action: Action = "failed" if ret else "delivered"
    outcomes = [replace(ALICE, action=action)]
    octets = rendered(replace(REPORT, is_smtputf8=is_smtputf8, ret=ret, outcomes=outcomes), original)
    message, (_, _, returned) = parts_of(octets)
    assert (returned.get_content_type(), returned["Content-Transfer-Encoding"]) == (content_type, encoding)
    assert message["Content-Transfer-Encoding"] == ("8bit" if encoding == "8bit" else "7bit")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    if content_type == "text/rfc822-headers":
        assert returned.get_payload(decode=True) == header_of(original)
    else:
        assert octets.endswith((original if ret else header_of(original)) + b"\r\n--=_b--\r\n")


def test_utf8_addresses() -> None:
    """Addresses in UTF-8 stand as they are in message/global-delivery-status (RFC 6533 §4), if the sender can read it."""
    report = replace(REPORT, outcomes=[JOERG, ALICE], reverse_path=JOERG.recipient, is_smtputf8=True)
    octets = rendered(report)
    message, parts = parts_of(octets)
    assert parts[1].get_content_type() == "message/global-delivery-status"
    assert message["Content-Transfer-Encoding"] == parts[1]["Content-Transfer-Encoding"] == "8bit"
    assert "\r\nTo: <jörg@bücher.example>\r\n".encode() in octets
    assert (
        "\r\nOriginal-Recipient: utf-8; jörg+x@bücher.example\r\nFinal-Recipient: utf-8; jörg@bücher.example\r\n".encode()
        in octets
    )
    assert b"\r\nFinal-Recipient: rfc822; alice@example.test\r\n" in octets
    assert "<jörg@bücher.example>" in parts[0].get_content()


def test_utf8_addresses_without_smtputf8() -> None:
    """A UTF-8 ORCPT of a transaction without SMTPUTF8 is escaped to ASCII (RFC 6533 §3)."""
    octets = rendered(replace(REPORT, outcomes=[replace(ALICE, orcpt=JOERG.orcpt)]))
    assert octets.isascii()
    assert b"\r\nOriginal-Recipient: utf-8; j\\x{F6}rg\\x{2B}x@b\\x{FC}cher.example\r\n" in octets
    assert b"message/delivery-status" in octets


def test_endless_orcpt() -> None:
    """An original recipient that fits in no line is left out."""
    octets = rendered(replace(REPORT, is_smtputf8=True, outcomes=[replace(JOERG, orcpt="utf-8;" + "ö" * 494)]))
    assert b"Original-Recipient" not in octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998


def test_long_header() -> None:
    """Of a long header section whole lines are returned, up to a limit."""
    header = b"X-Line: 0123456789\r\n" * 10_000
    returned = header_of(header + b"\r\nbody")
    assert header.startswith(returned)
    assert RETURNED_HEADER_LIMIT - 20 < len(returned) <= RETURNED_HEADER_LIMIT
    assert returned == header_of(header[:RETURNED_HEADER_LIMIT])
    assert returned.endswith(b"\r\n")


LINES = st.lists(
    st.binary(max_size=1200).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")), max_size=5
)


@given(LINES, st.text(max_size=100), st.booleans(), st.sampled_from([None, "FULL"]))
def test_any_message_can_be_reported_on(lines: list[bytes], address: str, is_smtputf8: bool, ret: str | None) -> None:
    """Whatever the message and the addresses: short lines, three parts, and 7-bit unless the transaction was SMTPUTF8."""
    orcpt = "utf-8;" + "".join(char for char in address if char >= " " and not "\ud800" <= char <= "\udfff")
    outcomes = [replace(ALICE, orcpt=orcpt)]
    report = replace(REPORT, outcomes=outcomes, is_smtputf8=is_smtputf8, ret=ret)
    octets = rendered(report, b"\r\n".join(lines))
    assert is_smtputf8 or octets.isascii()
    assert b"\x00" not in octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert parse(octets).bodystructure.count(b'"QUOTED-PRINTABLE"') <= 1
    parts_of(octets)
    full = rendered(replace(report, outcomes=[replace(ALICE, action="failed")]), b"\r\n".join(lines))
    assert max(map(len, full.split(b"\r\n"))) <= 998
