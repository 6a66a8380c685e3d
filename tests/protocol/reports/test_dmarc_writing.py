"""Aggregate reports that we write: what is written is what our own reader reads, and XML that any parser takes."""

import string
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from protocol.reports.dmarc import AggregateReport, Authentication, Source, read
from protocol.reports.dmarc_writing import NAMESPACE, render_xml

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
_WORDS = st.text(string.ascii_lowercase + string.digits + ".-_", max_size=20)
_TEXTS = st.text(string.ascii_letters + "<>&'\"; ü", max_size=20).map(lambda text: " ".join(text.split()))
_RESULTS = st.sampled_from(["pass", "fail", "temperror", "none"])
_AUTHENTICATIONS = st.builds(
    Authentication, st.just("dkim"), _WORDS.map(lambda word: word.rstrip(".")), _RESULTS, _WORDS
)
_SOURCES = st.builds(
    Source,
    address=st.ip_addresses(),
    count=st.integers(1, 10**9),
    disposition=st.sampled_from(["none", "pass", "quarantine", "reject"]),
    dkim=st.sampled_from(["pass", "fail"]),
    spf=st.sampled_from(["pass", "fail"]),
    header_from=_WORDS.map(lambda word: word.rstrip(".")),
    envelope_from=_WORDS.map(lambda word: word.rstrip(".")),
    reasons=st.lists(
        st.sampled_from(["policy_test_mode: t=y", "local_policy", "mailing_list: a list"]), max_size=2
    ).map(tuple),
    authentications=st.lists(_AUTHENTICATIONS, max_size=3).map(tuple),
)


def report(organization: str, sources: list[Source], errors: tuple[str, ...] = ()) -> AggregateReport:
    """A report of a day."""
    return AggregateReport(
        organization=organization,
        email="dmarc@example.test",
        report_id="20261122.1",
        domain="example.net",
        begins_at=BEGIN,
        ends_at=BEGIN + timedelta(days=1, seconds=-1),
        policy="quarantine",
        subdomain_policy="reject",
        adkim="r",
        aspf="s",
        percent=None,
        is_test=True,
        errors=errors,
        sources=tuple(sources),
        nonexistent_policy="none",
    )


@given(_TEXTS, st.lists(_SOURCES, max_size=4))
def test_what_is_written_is_read(organization: str, sources: list[Source]) -> None:
    """RFC 9990 §3.1: reading a report that we have written gives the same report."""
    written = report(organization, sources)
    assert read(render_xml(written)) == written


def test_elements() -> None:
    """RFC 9990 §3.1: the elements have the namespace of the schema, and stand in the order of its example."""
    spf = Authentication("spf", "example.net", "pass", scope="mfrom")
    dkim = Authentication("dkim", "example.net", "fail", selector="one")
    source = Source(
        ip_address("192.0.2.1"), 3, "pass", "fail", "pass", "example.net", "example.net", "", (), (spf, dkim)
    )
    root = ElementTree.fromstring(render_xml(report("Example", [source], ("something is wrong",))))
    assert root.tag == f"{{{NAMESPACE}}}feedback"
    names = [element.tag.removeprefix(f"{{{NAMESPACE}}}") for element in root.iter()][1:]
    assert names == [
        *("version", "report_metadata", "org_name", "email", "report_id", "date_range", "begin", "end", "error", "generator"),
        *("policy_published", "domain", "discovery_method", "p", "sp", "np", "adkim", "aspf", "testing"),
        *("record", "row", "source_ip", "count", "policy_evaluated", "disposition", "dkim", "spf"),
        *("identifiers", "header_from", "envelope_from"),
        *("auth_results", "dkim", "domain", "selector", "result", "spf", "domain", "scope", "result"),
    ]  # fmt: skip


@given(st.text(max_size=50))
def test_any_text(text: str) -> None:
    """Whatever strangers call themselves, the report is well-formed."""
    root = ElementTree.fromstring(
        render_xml(report("x", [Source(None, 1, "none", "fail", "fail", text, text)], (text,)))
    )
    assert len(root) == 4
