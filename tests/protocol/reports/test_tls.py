"""TLS reports: those of RFC 8460 and of services, and anything else that is JSON or not."""

import gzip
import json
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.reports import ReportError
from protocol.reports.mail import read as read_mail
from protocol.reports.tls import Failure, Policy, ReceivedTlsReport, read
from tests.mails import CORPORA

GIVEN = Path(__file__).parent / "given"
REPORT = (GIVEN / "parsedmarc" / "rfc8460.json").read_bytes()


def test_the_example_of_the_rfc() -> None:
    """The report of RFC 8460 is read whole."""
    report = read(REPORT)
    assert (report.organization, report.contact) == ("Company-X", "sts-reporting@company-x.example")
    assert report.begins_at == datetime(2016, 4, 1, tzinfo=UTC)
    assert report.ends_at == datetime(2016, 4, 1, 23, 59, 59, tzinfo=UTC)
    (policy,) = report.policies
    assert (policy.policy_type, policy.domain, policy.successes, policy.failures) == (
        "sts",
        "company-y.example",
        5326,
        303,
    )
    assert policy.strings == ("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400")
    assert policy.mx_hosts == ("*.mail.company-y.example",)
    assert [(one.result_type, one.count) for one in policy.details] == [
        ("certificate-expired", 100),
        ("starttls-not-supported", 200),
        ("validation-failure", 3),
    ]
    assert policy.details[0].source == ip_address("2001:db8:abcd:12::1")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mail.ru", [("example.com", 0, 1, 2)]),
        ("smtp_tls", [("example.com", 0, 3, 2)]),
        ("../stalwart/rpt01", [("company-y.example", 5326, 303, 3)]),
        ("../stalwart/rpt03", [("", 1, 0, 0), ("", 1, 0, 0)]),
    ],
)
def test_reports_of_services(name: str, expected: list[tuple[str, int, int, int]]) -> None:
    """What services leave out or write in another way is read as far as it goes."""
    report = read((GIVEN / "parsedmarc" / f"{name}.json").read_bytes())
    found = [(policy.domain, policy.successes, policy.failures, len(policy.details)) for policy in report.policies]
    assert found == expected


@pytest.mark.parametrize(
    ("mail", "organization"),
    [
        ("dmarc-tls-mox/tlsreports/microsoft.eml", "Microsoft Corporation"),
        ("mail-auth-stalwart/tlsrpt/rpt01.eml", "Company-X"),
    ],
)
def test_reports_in_mails(mail: str, organization: str) -> None:
    """The report is found in mails, packed or not."""
    found = read_mail((CORPORA / mail).read_bytes())
    assert [report.organization for report in found.reports] == [organization]
    assert isinstance(found.reports[0], ReceivedTlsReport)


def changed(**changes: Any) -> bytes:
    return json.dumps(json.loads(REPORT) | changes).encode()


@pytest.mark.parametrize(
    "octets",
    [b"", b"[]", b"{}", b"{", b"\xff", changed(policies={}), changed(**{"date-range": {"start-datetime": "yesterday"}}),
     changed(**{"date-range": None}), b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_report(octets: bytes) -> None:
    """What is no JSON, no report, or without a time span is refused."""
    with pytest.raises(ReportError):
        read(octets)


def test_values_of_strangers_are_tamed() -> None:
    """Values of the wrong kind are nothing; long ones are cut."""
    policy = {
        "policy": {"policy-type": 5, "policy-string": "one", "mx-host": [1, "mx"], "policy-domain": "Example.TEST."},
        "summary": {"total-successful-session-count": -1, "total-failure-session-count": True},
        "failure-details": [None, {"result-type": "x" * 5000, "sending-mta-ip": "[192.0.2.1]", "receiving-ip": 7}],
    }
    report = read(changed(policies=[policy, 5]))
    assert report.policies == (
        Policy(
            "", "example.test", ("one",), ("mx",), 0, 0,
            (Failure("", 0), Failure("x" * 1000, 0, source=ip_address("192.0.2.1"))),
        ),
        Policy("", "", (), (), 0, 0, ()),
    )  # fmt: skip


def test_a_part_that_cannot_be_read_is_named() -> None:
    """A part that is called a report and is none is told as a problem; other attachments are not."""
    mail = (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: application/tlsrpt+gzip\r\n\r\nnonsense\r\n'
        b"--b\r\nContent-Type: application/octet-stream\r\n\r\nnonsense\r\n--b--\r\n"
    )
    found = read_mail(mail)
    assert (found.reports, found.problems) == ((), ("neither XML nor JSON",))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["policy", "summary", "mx-host"]), inner)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(json.loads(REPORT))), JSON))
def test_any_json_can_be_given(changes: dict[str, Any]) -> None:
    """Any JSON gives a report or ReportError."""
    try:
        report = read(changed(**changes))
    except ReportError:
        return
    assert report.begins_at.tzinfo is not None


@given(st.binary(max_size=300), st.booleans())
def test_any_mail_can_be_given(octets: bytes, is_packed: bool) -> None:
    """Any mail gives reports and problems, never an exception."""
    body = gzip.compress(octets) if is_packed else octets
    found = read_mail(
        b"Content-Type: application/gzip; name=x.json.gz\r\nContent-Transfer-Encoding: binary\r\n\r\n" + body
    )
    assert len(found.reports) + len(found.problems) <= 1
