"""The record that asks for reports of TLS, and the reports, RFC 8460."""

import email.policy
import gzip
import json
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.address import AddrSpec
from protocol.tls_rpt import Sessions, TlsReport, mailto, parse_record, render_json, render_mail

CORPORA = Path(__file__).parents[1] / "corpora"
STS = ("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400")
REPORT = TlsReport(
    domain="company-y.example",
    organization="Company-X",
    contact=AddrSpec("sts-reporting", "company-x.example"),
    report_id="5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    start=datetime(2016, 4, 1, tzinfo=UTC),
    end=datetime(2016, 4, 1, 23, 59, 59, tzinfo=UTC),
    sessions=[
        Sessions("sts", STS, ("*.mail.company-y.example",), None, 5326),
        Sessions(
            "sts",
            STS,
            ("*.mail.company-y.example",),
            "certificate-expired",
            100,
            host="mx1.mail.company-y.example",
            source="2001:db8:abcd:0012::1",
        ),
        Sessions("tlsa", ("3 1 1 00",), (), "starttls-not-supported", 2, host="mx2.mail.company-y.example"),
    ],
)


@pytest.mark.parametrize(
    ("texts", "places"),
    [
        (["v=TLSRPTv1;rua=mailto:reports@example.com"], ["mailto:reports@example.com"]),  # RFC 8460 §3.1.1
        (["v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt"], ["https://reporting.example.com/v1/tlsrpt"]),
        (["v=TLSRPTv1; rua=mailto:a@b.example, https://c.example/"], ["mailto:a@b.example", "https://c.example/"]),
        (["v=TLSRPTv1; rua=http://c.example/"], []),
        (["v=TLSRPTv1; x=y; rua=mailto:a@b.example; z"], ["mailto:a@b.example"]),
        (["v=TLSRPTv1"], []),
        (["v=TLSRPTv1;rua=mailto:a@b.example"] * 2, []),
        (["v=spf1"], []),
        ([], []),
    ],
)
def test_record(texts: list[str], places: list[str]) -> None:
    """One record names the places that reports are sent to; what is neither mailto nor https is left out."""
    assert parse_record(texts) == places


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("mailto:reports@example.com", AddrSpec("reports", "example.com")),
        ("mailto:a%2Bb@example.com?subject=x", AddrSpec("a+b", "example.com")),
        ("mailto:a@example.com,b@example.com", None),
        ("mailto:", None),
        ("mailto:a@example.com%0d%0aBcc:x", None),
    ],
)
def test_mailto(place: str, address: AddrSpec | None) -> None:
    """A mailto URI is one address; what it says besides does not count."""
    assert mailto(place) == address


def test_report_reads_like_those_of_others(microsoft: dict[str, Any]) -> None:
    """A report has the keys that one of Microsoft's has, and what RFC 8460 §4.4 adds for what failed."""
    told = json.loads(render_json(REPORT))
    assert told.keys() == microsoft.keys()
    ours, theirs = told["policies"][0], microsoft["policies"][0]
    assert ours.keys() == theirs.keys() | {"failure-details"}
    assert ours["policy"].keys() == theirs["policy"].keys() | {"mx-host"}
    assert {name: type(value) for name, value in ours["summary"].items()} == {
        name: type(value) for name, value in theirs["summary"].items()
    }
    assert ours["summary"] == {"total-successful-session-count": 5326, "total-failure-session-count": 100}
    assert ours["policy"] == {
        "policy-type": "sts",
        "policy-string": list(STS),
        "policy-domain": "company-y.example",
        "mx-host": ["*.mail.company-y.example"],
    }
    assert ours["failure-details"] == [
        {
            "result-type": "certificate-expired",
            "sending-mta-ip": "2001:db8:abcd:0012::1",
            "receiving-mx-hostname": "mx1.mail.company-y.example",
            "failed-session-count": 100,
        }
    ]
    assert told["date-range"] == {
        "start-datetime": "2016-04-01T00:00:00Z",
        "end-datetime": "2016-04-01T23:59:59Z",
    }
    assert [policy["policy"]["policy-type"] for policy in told["policies"]] == ["sts", "tlsa"]


@pytest.fixture
def microsoft() -> dict[str, Any]:
    """A report as it came from Microsoft."""
    octets = (CORPORA / "dmarc-tls-mox" / "tlsreports" / "microsoft.eml").read_bytes()
    (report,) = message_from_bytes(octets, policy=email.policy.default).iter_attachments()
    found: dict[str, Any] = json.loads(gzip.decompress(report.get_content()))
    return found


def test_mail_carries_the_report() -> None:
    """The mail is a multipart/report of type tlsrpt whose second part is the report, compressed; nobody's TLS is in its way."""
    octets = render_mail(
        REPORT,
        gzip.compress(render_json(REPORT)),
        AddrSpec("reports", "company-y.example"),
        boundary="=_b",
        date=datetime(2016, 4, 2, tzinfo=UTC),
    )
    assert octets.isascii()
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    message = message_from_bytes(octets, policy=email.policy.default)
    assert not message.defects
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "tlsrpt"
    assert message["TLS-Report-Domain"] == "company-y.example"
    assert message["TLS-Report-Submitter"] == "company-x.example"
    assert message["TLS-Required"] == "No"
    assert message["Subject"] == (
        "Report Domain: company-y.example Submitter: company-x.example "
        "Report-ID: <5065427c-23d3-47ca-b6e0-946ea0e8c4be@company-x.example>"
    )
    text, report = message.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert report.get_content_type() == "application/tlsrpt+gzip"
    assert report.get_filename() == (
        "company-x.example!company-y.example!1459468800!1459555199!5065427c-23d3-47ca-b6e0-946ea0e8c4be.json.gz"
    )
    assert gzip.decompress(report.get_content()) == render_json(REPORT)


@given(st.lists(st.text(max_size=80), max_size=3))
def test_any_record_is_read(texts: list[str]) -> None:
    """Whatever stands there, only places with one of the two schemes come out, and none makes mailto() fail."""
    for place in parse_record([*texts, f"v=TLSRPTv1;rua=mailto:{''.join(texts)}"]):
        assert place.lower().startswith(("mailto:", "https://"))
        assert mailto(place) is None or mailto(place)
