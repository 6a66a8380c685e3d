"""Reports of the relay: what the remote server said, why in plain words, and whether others can read it."""

import email
import email.policy
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from flufl.bounce import all_failures
from hypothesis import given
from hypothesis import strategies as st

from protocol.address import AddrSpec
from protocol.message.bounces import classify
from protocol.message.dsn import DIAGNOSTIC_LIMIT, Action, Language, Outcome, Report, render
from protocol.message.dsn_words import reason
from protocol.status import TITLES, Enhanced, enhanced

AT = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
ORIGINAL = b"From: bob@example.test\r\nMessage-ID: <1@example.test>\r\nSubject: hello\r\n\r\nHello.\r\n"
FAILED = Outcome(
    AddrSpec("zoe", "example.net"),
    "failed",
    enhanced("5.1.1"),
    orcpt="rfc822;zoe@example.net",
    remote_mta="mx.example.net",
    diagnostic="550 5.1.1 <zoe@example.net>: User unknown",
    is_reply=True,
    last_attempt_at=AT,
)
DELAYED = replace(
    FAILED,
    recipient=AddrSpec("yan", "example.org"),
    action="delayed",
    status=enhanced("4.4.1"),
    orcpt=None,
    remote_mta=None,
    diagnostic="connection timed out",
    is_reply=False,
    will_retry_until=AT + timedelta(days=5),
)
REPORT = Report(
    hostname="mail.example.test",
    author=AddrSpec("postmaster", "mail.example.test"),
    reverse_path=AddrSpec("bob", "example.test"),
    outcomes=[FAILED],
    arrived_at=AT,
    log_id="0123456789abcdef",
)


def rendered(report: Report) -> bytes:
    return render(report, ORIGINAL, boundary="=_b", message_id="<2@mail.example.test>", date=AT)


def text_of(octets: bytes) -> str:
    """The part for people."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    part = next(message.iter_parts())
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def status_part(octets: bytes) -> str:
    return octets.partition(b"delivery-status\r\n")[2].partition(b"\r\n--=_b")[0].decode()


def test_fields_of_a_failure() -> None:
    """The remote server, its reply and the last attempt stand in their fields (RFC 3464 §2.3), the trace id as Final-Log-ID."""
    assert status_part(rendered(REPORT)).split("\r\n\r\n")[2].strip().split("\r\n") == [
        "Original-Recipient: rfc822; zoe@example.net",
        "Final-Recipient: rfc822; zoe@example.net",
        "Action: failed",
        "Status: 5.1.1",
        "Remote-MTA: dns; mx.example.net",
        "Diagnostic-Code: smtp; 550 5.1.1 <zoe@example.net>: User unknown",
        "Last-Attempt-Date: Sat, 3 Feb 2024 04:05:06 +0000",
        "Final-Log-ID: 0123456789abcdef",
    ]


def test_fields_of_a_delay() -> None:
    """What no server said is no SMTP diagnostic; how long we try stands only with a delay (RFC 3464 §2.3.9)."""
    fields = status_part(rendered(replace(REPORT, outcomes=[DELAYED])))
    assert "Diagnostic-Code: x-postwerk; connection timed out\r\n" in fields
    assert "Will-Retry-Until: Thu, 8 Feb 2024 04:05:06 +0000\r\n" in fields
    assert "Remote-MTA" not in fields
    failed = replace(DELAYED, action="failed", status=enhanced("5.4.7"))
    assert "Will-Retry-Until" not in status_part(rendered(replace(REPORT, outcomes=[failed])))


def test_words_for_people_in_english() -> None:
    """The reason in plain words, below it what the server said, and until when we try."""
    text = text_of(rendered(replace(REPORT, outcomes=[FAILED, DELAYED])))
    assert (
        "    <zoe@example.net> (5.1.1)\n"
        "        There is no such mailbox at the destination.\n"
        "        The server mx.example.net said:\n"
        "        > 550 5.1.1 <zoe@example.net>: User unknown\n"
    ) in text
    assert (
        "    <yan@example.org> (4.4.1)\n"
        "        The destination did not answer.\n"
        "        Noted by the server:\n"
        "        > connection timed out\n"
        "        The server keeps trying until 2024-02-08 04:05 UTC.\n"
    ) in text


def test_words_for_people_in_german() -> None:
    """The same in German; the server's own words stay as they are."""
    text = text_of(rendered(replace(REPORT, outcomes=[FAILED, DELAYED], language="de")))
    assert (
        "        Diese Adresse gibt es dort nicht.\n"
        "        Antwort des Servers mx.example.net:\n"
        "        > 550 5.1.1 <zoe@example.net>: User unknown\n"
    ) in text
    assert "        Der Server versucht es weiter bis 08.02.2024 04:05 UTC.\n" in text


@pytest.mark.parametrize("language", ["en", "de"])
def test_reasons(language: Language) -> None:
    """Every reason is one sentence; codes of success and codes that say nothing have none."""
    found = {detail: reason(Enhanced(5, *detail), language) for detail in TITLES}
    told = [sentence for sentence in found.values() if sentence is not None]
    assert len(told) >= 50
    assert all(sentence.endswith(".") and len(sentence) < 100 for sentence in told)
    assert found[0, 0] is None
    assert reason(Enhanced(2, 1, 5), language) is None
    assert reason(Enhanced(4, 2, 2), language) == found[2, 2]


@pytest.mark.parametrize("host", ["mx..example", "x y", "mx.exämple", "a\r\nX: y", ""])
def test_a_host_without_a_proper_name_is_not_named(host: str) -> None:
    """What DNS gave as a name gets into no field unless it is one."""
    octets = rendered(replace(REPORT, outcomes=[replace(FAILED, remote_mta=host)]))
    assert b"Remote-MTA" not in octets
    assert "Noted by the server" in text_of(octets)


def test_an_address_literal_is_a_host() -> None:
    """A server without a name is named by its address in brackets."""
    octets = rendered(replace(REPORT, outcomes=[replace(FAILED, remote_mta="[192.0.2.1]")]))
    assert b"\r\nRemote-MTA: dns; [192.0.2.1]\r\n" in octets


REPORTS = [
    REPORT,
    replace(REPORT, language="de"),
    replace(REPORT, ret="FULL"),
    replace(REPORT, outcomes=[FAILED, replace(FAILED, recipient=AddrSpec("yan", "example.org"), orcpt=None)]),
    replace(REPORT, outcomes=[replace(FAILED, diagnostic="550 " + "long words " * 300)]),
    replace(REPORT, outcomes=[DELAYED]),
    replace(REPORT, outcomes=[DELAYED], language="de"),
]


@pytest.mark.parametrize("report", REPORTS)
def test_an_independent_parser_reads_the_report(report: Report) -> None:
    """flufl.bounce finds the recipients, and whether they failed for good."""
    temporary, permanent = all_failures(email.message_from_bytes(rendered(report)))
    expected = {str(outcome.recipient).encode() for outcome in report.outcomes}
    is_delay = report.outcomes[0].action == "delayed"
    assert temporary == (expected if is_delay else set())
    assert permanent == (set() if is_delay else expected)


@pytest.mark.parametrize("report", REPORTS)
def test_our_own_parser_reads_the_report(report: Report) -> None:
    """What we render we classify: recipients, actions, status, the server's words, and the message it is about."""
    found = classify(rendered(report))
    assert found is not None
    assert found.message_id == "<1@example.test>"
    assert len(found.recipients) == len(report.outcomes)
    for each, outcome in zip(found.recipients, report.outcomes, strict=True):
        assert (each.address, each.action, each.status) == (str(outcome.recipient), outcome.action, outcome.status)
        assert each.remote_mta == outcome.remote_mta
        assert each.diagnostic == " ".join((outcome.diagnostic or "").split())[:DIAGNOSTIC_LIMIT].rstrip()


@pytest.mark.parametrize("action", ["delivered", "relayed"])
def test_a_success_is_no_failure_to_others(action: Action) -> None:
    """A report of success names nobody whose mail failed."""
    outcome = replace(FAILED, action=action, status=enhanced("2.0.0"), diagnostic="250 2.0.0 ok")
    octets = rendered(replace(REPORT, outcomes=[outcome]))
    assert not any(all_failures(email.message_from_bytes(octets)))
    ours = classify(octets)
    assert ours is not None
    assert [(each.action, each.is_hard) for each in ours.recipients] == [(action, False)]


@given(st.text(max_size=3000), st.booleans(), st.booleans(), st.sampled_from(["en", "de"]))
def test_any_reply_can_be_reported(reply: str, is_reply: bool, is_smtputf8: bool, language: Language) -> None:
    """Whatever a server says: short lines of ASCII, no field of its own making, and one recipient."""
    outcome = replace(FAILED, diagnostic=reply, is_reply=is_reply)
    octets = rendered(replace(REPORT, outcomes=[outcome], is_smtputf8=is_smtputf8, language=language))
    assert octets.isascii()
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert re.search(rb"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]", octets) is None
    names = re.findall(r"^([A-Za-z-]+):", status_part(octets).partition("Diagnostic-Code")[2], re.MULTILINE)
    assert names == ["Last-Attempt-Date", "Final-Log-ID"]
    found = classify(octets)
    assert found is not None
    assert [each.address for each in found.recipients] == ["zoe@example.net"]
