"""Incoming bounces: the mails of two collections with what is known of them, forms by hand, and anything at all."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message.bounces import RECIPIENT_LIMIT, Notification, Reason, classify
from tests.mails import CORPORA, MAILS, as_sent, name_of

HERE = Path(__file__).parent
FLUFL = json.loads((HERE / "bounces_flufl.json").read_text("ascii"))  # mail -> addresses, whether only delayed
SISIMAI = json.loads((HERE / "bounces_sisimai.json").read_text("ascii"))  # mail -> [status, code, reason, hard]

# What that collection calls it, and what we do. "filtered" is what a server said late; we go by what it said.
REASONS: dict[str, set[Reason]] = {
    "authfailure": {"authentication"}, "badreputation": {"blocked"}, "blocked": {"blocked"}, "contenterror": {"policy"},
    "exceedlimit": {"too-large"}, "expired": {"expired", "network"}, "filtered": {"policy", "unknown-mailbox"},
    "hasmoved": {"moved"}, "hostunknown": {"unknown-domain"}, "mailboxfull": {"full"}, "mailererror": {"system"},
    "mesgtoobig": {"too-large"}, "networkerror": {"network", "expired"}, "norelaying": {"policy"},
    "notaccept": {"unknown-domain"}, "notcompliantrfc": {"policy"}, "onhold": {"other", "policy", "disabled"},
    "policyviolation": {"policy"}, "rejected": {"policy", "blocked"}, "requireptr": {"blocked"},
    "securityerror": {"policy"}, "spamdetected": {"spam"}, "speeding": {"rate"}, "suspend": {"disabled"},
    "syntaxerror": {"system"}, "systemerror": {"system"}, "systemfull": {"system", "full"}, "toomanyconn": {"rate"},
    "undefined": {"other", "system", "policy", "blocked", "disabled"}, "userunknown": {"unknown-mailbox"},
    "virusdetected": {"virus"},
}  # fmt: skip
KINDS = {"feedback": "complaint", "vacation": "automatic"}


def read(folder: str, name: str) -> Notification | None:
    return classify((CORPORA / folder / name).read_bytes())


def test_addresses_of_flufl() -> None:
    """At least 76 of 81 mails of old and odd servers name exactly the addresses that failed; all are known to be final or not."""
    found = {name: read("bounces-flufl", name) for name in FLUFL}
    told = {name: one.recipients if one is not None else () for name, one in found.items()}
    right = sum(sorted({each.address for each in told[name]}) == FLUFL[name][0] for name in FLUFL)
    temporary = sum(
        (bool(told[name]) and all(each.is_temporary for each in told[name])) == FLUFL[name][1] for name in FLUFL
    )
    assert len(FLUFL) == 81
    assert right >= 76
    assert temporary == 81


def test_verdicts_of_sisimai() -> None:
    """Of 202 mails of about 70 services, at least so many are read as that collection has them; the rest are few."""
    score: Counter[str] = Counter()
    for name, expected in SISIMAI.items():
        found = read("bounces-sisimai", name)
        if found is None or found.kind != KINDS.get(expected[0][2], "status"):
            continue
        score["kind"] += 1
        if found.kind != "status" or expected[0][2] == "delivered":
            continue
        score["recipients"] += len(found.recipients) == len(expected)
        for (status, code, reason, is_hard), each in zip(expected, found.recipients, strict=False):
            score["all"] += 1
            score["reason"] += each.reason in REASONS[reason]
            score["hard"] += each.is_hard == is_hard or reason == "filtered"
            score["code"] += str(each.code or "") == code
            is_genuine = not status.startswith(("4.0.", "5.0."))
            score["genuine"] += is_genuine
            score["status"] += is_genuine and str(each.status) == status
    assert len(SISIMAI) == 202
    assert score["kind"] >= 198
    assert score["recipients"] >= 190
    assert score["all"] >= 197
    assert score["reason"] >= 175
    assert score["hard"] >= 188
    assert score["code"] >= 186
    assert (score["status"], score["genuine"]) >= (113, 118)


def test_other_mail_is_no_bounce() -> None:
    """Of the other mails of the corpora only those are notifications that are bounces or complaints indeed."""
    found = [
        name
        for path in MAILS
        if not (name := name_of(path)).startswith("bounces-")
        and (one := classify(as_sent(path))) is not None
        and one.kind != "automatic"
    ]
    genuine = (
        "bounce",
        "complaint",
        "arf/",
        "delivery-status",
        "multipart_report_emails",
        "dmarc-tls-parsedmarc/failure",
    )
    others = [name for name in found if not any(mark in name.lower() for mark in genuine)]
    assert len(found) >= 30
    assert others == [
        "python-email-data/msg_25.txt",
        "python-email-data/msg_43.txt",
        "ruby-mail/emails/mime_emails/raw_email_with_mimepart_without_content_type.eml",
    ]  # all three are bounces


POSTFIX = (
    b"Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example (Mail Delivery System)\r\nTo: bob@example.test\r\n"
    b"Subject: Undelivered Mail Returned to Sender\r\n"
    b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\n<zoe@example.net>: host mx.example.net said: 550 no such user\r\n"
    b"--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    b"Reporting-MTA: dns; mx.example\r\nOriginal-Envelope-Id: x+y=z\r\n\r\n"
    b"Original-Recipient: rfc822;carol@example.test\r\nFinal-Recipient: rfc822; zoe@example.net\r\nAction: failed\r\n"
    b"Status: 5.0.0\r\nRemote-MTA: dns; mx.example.net\r\nDiagnostic-Code: smtp; 550 5.1.1 no\r\n  such user\r\n\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <1@example.test>\r\nSubject: hello\r\n\r\nHello.\r\n--b--\r\n"
)


def test_fields() -> None:
    """The fields of RFC 3464 are read: folded, typed, the remote server's own status before that of the one that reports."""
    found = classify(POSTFIX)
    assert found is not None
    assert (found.kind, found.envid, found.message_id) == ("status", "x+y=z", "<1@example.test>")
    (one,) = found.recipients
    assert (one.address, one.action, str(one.status), one.code) == ("carol@example.test", "failed", "5.1.1", 550)
    assert (one.reason, one.is_hard, one.remote_mta) == ("unknown-mailbox", True, "mx.example.net")
    assert one.diagnostic == "550 5.1.1 no such user"


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded"])
def test_actions(action: str) -> None:
    """Only a failure is hard, only a delay is temporary."""
    found = classify(POSTFIX.replace(b"Action: failed", f"Action: {action}".encode()))
    assert found is not None
    (one,) = found.recipients
    assert (one.action, one.is_hard, one.is_temporary) == (action, False, action == "delayed")


@pytest.mark.parametrize(
    ("text", "reason", "is_hard"),
    [
        ("550 5.1.1 User unknown", "unknown-mailbox", True),
        ("552 5.2.2 Mailbox full", "full", False),
        ("550 5.1.1 <a@b.example> is over quota", "full", False),
        ("550 5.7.26 not authenticated", "authentication", False),
        ("554 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.spamhaus.org", "blocked", False),
        ("550 Host unknown", "unknown-domain", True),
        ("550 5.1.6 moved", "moved", True),
        ("552 message size exceeds fixed limit", "too-large", False),
        ("550 looks like spam", "spam", False),
        ("550 virus found", "virus", False),
        ("550 mailbox disabled", "disabled", False),
        ("450 too many connections", "rate", False),
        ("451 timed out", "expired", False),
        ("421 connection refused", "network", False),
        ("554 relay access denied", "policy", False),
        ("554 internal system error", "system", False),
        ("554 5.1.1", "unknown-mailbox", True),
        ("554 5.4.1", "expired", False),
        ("554 5.6.0", "policy", False),
        ("554", "other", False),
    ],
)
def test_reasons(text: str, reason: str, is_hard: bool) -> None:
    """Words tell the reason, and the status where there are none."""
    mail = POSTFIX.replace(b"said: 550 no such user", b"said").replace(b"550 5.1.1 no\r\n  such user", text.encode())
    found = classify(mail)
    assert found is not None
    assert (found.recipients[0].reason, found.recipients[0].is_hard) == (reason, is_hard)


def test_complaint() -> None:
    """A feedback report is a complaint of its type, about the message that it returns."""
    found = classify(
        b'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n"
        b"Original-Rcpt-To: <zoe@example.net>\r\n\r\n"
        b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <1@example.test>\r\n\r\n--b--\r\n"
    )
    assert found is not None
    assert (found.kind, found.feedback_type, found.message_id) == ("complaint", "abuse", "<1@example.test>")
    assert [(one.address, one.action, one.is_hard) for one in found.recipients] == [
        ("zoe@example.net", "complained", False)
    ]


def test_automatic_answers() -> None:
    """An answer by a program is told apart from a bounce, and from what a human writes."""
    answer = classify(b"From: zoe@example.net\r\nAuto-Submitted: auto-replied\r\nSubject: Away\r\n\r\nI am away.\r\n")
    assert answer == Notification("automatic", ())
    assert classify(b"From: zoe@example.net\r\nSubject: Re: delivery\r\n\r\nWrite to bob@example.net.\r\n") is None


def test_time_and_recipients_are_bounded() -> None:
    """Megabytes made to be slow, and a report on too many recipients, cost little."""
    head = b"From: mailer-daemon@x\nSubject: undeliverable\n\n"
    slow = [b"a", b"user ", b"a@b.cc\n", b"a@", b"a.", b"-", b"> ", b"\n", b"domain ", b"5.1.1 "]
    began = time.process_time()
    for unit in slow:
        classify(head + unit * (2_000_000 // len(unit)))
    classify(b"Subject: " + b"deliver " * 100_000)
    assert time.process_time() - began < 10
    many = (
        b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n"
        + b"Final-Recipient: rfc822; a@b.cc\n\n" * 3000
    )
    found = classify(many)
    assert found is not None
    assert len(found.recipients) == RECIPIENT_LIMIT


@given(st.binary(max_size=2000), st.sampled_from([b"", POSTFIX[:700], POSTFIX[:300], POSTFIX]))
def test_anything_can_be_read(octets: bytes, start: bytes) -> None:
    """Any octets give a notification or none."""
    found = classify(start + octets)
    assert found is None or len(found.recipients) <= RECIPIENT_LIMIT


@given(st.data())
def test_a_damaged_bounce_can_be_read(data: st.DataObject) -> None:
    """A real bounce with a piece cut out gives a notification or none."""
    octets = (CORPORA / "bounces-flufl" / data.draw(st.sampled_from(sorted(FLUFL)))).read_bytes()
    start = data.draw(st.integers(0, len(octets)))
    found = classify(octets[:start] + octets[start + data.draw(st.integers(0, 500)) :])
    assert found is None or all(one.diagnostic is not None for one in found.recipients)
