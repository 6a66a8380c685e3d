"""DMARC aggregate reports: real ones, odd ones, and ones that are made to harm."""

import gzip
import io
import json
import time
import zipfile
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.reports import ReportError, elements, packing
from protocol.reports.dmarc import AggregateReport, Authentication, read
from protocol.reports.mail import read as read_mail
from tests.mails import CORPORA

GIVEN = Path(__file__).parent / "given"
REPORT = (GIVEN / "parsedmarc" / "rfc9990.xml").read_bytes()
STALWART = CORPORA / "mail-auth-stalwart" / "dmarc-feedback"


def report_of(name: str) -> AggregateReport:
    path = GIVEN / "stalwart" / f"{name}.xml"
    if path.exists():
        return read(path.read_bytes())
    (found,) = read_mail((STALWART / f"{name}.eml").read_bytes()).reports
    assert isinstance(found, AggregateReport)
    return found


def word(value: str | None) -> str:
    return "" if value in (None, "Unspecified") else str(value).lower()


@pytest.mark.parametrize("name", ["001", "002", "003", "100", "101", "102"])
def test_reports_read_as_another_parser_reads_them(name: str) -> None:
    """Metadata, policy, sources and their results are those that the parser of mail-auth has recorded."""
    expected: dict[str, Any] = json.loads((GIVEN / "stalwart" / f"{name}.json").read_text("utf-8"))
    report = report_of(name)
    metadata, policy = expected["report_metadata"], expected["policy_published"]
    assert (report.organization, report.email, report.report_id) == (
        metadata["org_name"],
        metadata["email"],
        metadata["report_id"],
    )
    assert report.begins_at.timestamp() == metadata["date_range"]["begin"]
    assert report.ends_at.timestamp() == metadata["date_range"]["end"]
    assert (report.domain, report.policy) == (policy["domain"], word(policy["p"]))
    assert report.subdomain_policy == (word(policy["sp"]) or report.policy)
    assert len(report.sources) == len(expected["record"])
    for source, record in zip(report.sources, expected["record"], strict=True):
        row, results = record["row"], record["auth_results"]
        evaluated = row["policy_evaluated"]
        assert (str(source.address), source.count) == (row["source_ip"], row["count"])
        assert (source.dkim, source.spf) == (word(evaluated["dkim"]), word(evaluated["spf"]))
        assert source.disposition == word(evaluated["disposition"])
        assert source.header_from == record["identifiers"]["header_from"]
        assert source.envelope_from == (record["identifiers"]["envelope_from"] or "")
        assert [(one.method, one.domain, one.selector, one.result) for one in source.authentications] == [
            (method, one["domain"], one.get("selector") or "", word(one["result"]))
            for method in ("dkim", "spf")
            for one in results[method]
        ]


@pytest.mark.parametrize(
    ("name", "organization", "domain", "sources", "passed"),
    [
        ("without-organization.xml", "", "example.com", 1, 0),
        ("infonacot.xml.zip", "XYZ Corporation", "example.com", 1, 0),
        ("fastmail.xml.gz", "FastMail Pty Ltd", "indemed.com", 1, 0),
        ("ikea-unclosed-schema.xml", "ikea.com", "example.de", 1, 0),
        ("old-draft.xml", "acme.com", "example.com", 1, 2),
        ("outlook.xml", "Outlook.com", "example.com", 1, 0),
        ("rfc9990.xml", "example.net", "example.com", 2, 5),
        ("upper-case.xml", "example.com", "example.com", 1, 1),
        ("nice.xml.gz", "google.com", "example.com", 20, 3047),
    ],
)
def test_reports_of_many_senders(name: str, organization: str, domain: str, sources: int, passed: int) -> None:
    """Drafts, namespaces, upper case, gzip, ZIP, and a schema that is opened and never closed are read."""
    report = read(packing.unpack((GIVEN / "parsedmarc" / name).read_bytes()))
    assert (report.organization, report.domain, len(report.sources)) == (organization, domain, sources)
    assert sum(source.count for source in report.sources if source.passes) == passed


@pytest.mark.parametrize(
    ("mail", "organization"),
    [
        ("dmarc-tls-mox/dmarc-reports/google.eml", "google.com"),
        ("dmarc-tls-mox/dmarc-reports/mailru.eml", "Mail.Ru"),
        ("dmarc-tls-mox/dmarc-reports/outlook.eml", "Outlook.com"),
        ("dmarc-tls-mox/dmarc-reports/yahoo.eml", "Yahoo! Inc."),
        ("dmarc-tls-parsedmarc/aggregate/mimecast-weird-gzip.eml", "Mimecast"),
        ("dmarc-tls-parsedmarc/aggregate/twilight.eml", "google.com"),
    ],
)
def test_reports_in_mails(mail: str, organization: str) -> None:
    """The report is found in the mails of large services, whatever they call the part that holds it."""
    found = read_mail((CORPORA / mail).read_bytes())
    assert [report.organization for report in found.reports] == [organization]
    assert found.problems == ()


def test_a_report_of_rfc_9990() -> None:
    """All that a report of today says is read."""
    report = read(REPORT)
    assert (report.begins_at, report.ends_at) == (
        datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        datetime(2023, 11, 15, 22, 13, 19, tzinfo=UTC),
    )
    first = report.sources[0]
    assert (first.address, first.count, first.dkim, first.spf) == (ip_address("198.51.100.1"), 5, "pass", "pass")
    assert {one.method for one in first.authentications} == {"dkim", "spf"}
    assert isinstance(first.authentications[0], Authentication)


def built(metadata: str = "<report_id>1</report_id>", record: str = "", before: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?>{before}<feedback><report_metadata><org_name>o</org_name>{metadata}<date_range><begin>1</begin>'
        f"<end>2</end></date_range></report_metadata><policy_published><domain>Example.TEST.</domain><p>None</p>"
        f"</policy_published>{record}</feedback>"
    ).encode()


def test_values_of_strangers_are_tamed() -> None:
    """Long values are cut, control characters go, addresses and numbers that are none are nothing."""
    report = read(
        built(
            f"<report_id>a&#9;&#x9b;{'x' * 5000}</report_id>",
            "<record><row><source_ip>nonsense</source_ip><count>-5</count></row></record>"
            "<record><row><source_ip>2001:db8::1%eth0</source_ip><count>99999999999999999999</count></row></record>"
            "<record/>",
        )
    )
    assert report.domain == "example.test"
    assert report.report_id == "a " + "x" * 253
    assert [(source.address, source.count, source.passes) for source in report.sources] == [
        (None, 0, False),
        (ip_address("2001:db8::1"), 0, False),
        (None, 0, False),
    ]


LAUGHS = '<!DOCTYPE feedback [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "well-formed"),
        (b"<feedback/>", "without metadata"),
        (b"<report/>", "no DMARC report"),
        (b"<feedback>", "well-formed"),
        (built().replace(b"Example.TEST.", b""), "without a domain"),
        (built().replace(b"<begin>1", b"<begin>x"), "time span"),
        (built().replace(b"<end>2", b"<end>999999999999999"), "time span"),
        (built("<report_id>&b;</report_id>", before=LAUGHS), "document type"),
        (built("<x>&e;</x>", before='<!DOCTYPE f [<!ENTITY e SYSTEM "file:///etc/passwd">]>'), "document type"),
        (built(before='<!DOCTYPE feedback SYSTEM "http://192.0.2.1/x.dtd">'), "document type"),
        (built("<x>&e;</x>"), "well-formed"),
        (built("<a>" * 30 + "</a>" * 30), "too deep"),
        (b'<?xml version="1.0" encoding="utf-7"?><feedback/>', "well-formed"),
        (b'<?xml version="1.0" encoding="nonsense"?><feedback/>', "well-formed"),
        (b"<feedback>\x00</feedback>", "well-formed"),
    ],
)
def test_what_is_no_report(octets: bytes, reason: str) -> None:
    """Broken and hostile documents are refused: no entity is ever expanded or fetched, no document type read."""
    with pytest.raises(ReportError, match=reason):
        read(octets)


def test_elements_are_bounded() -> None:
    """A document of too many elements is refused before it is read to its end."""
    with pytest.raises(ReportError, match="too many elements"):
        elements.parse(b"<a>" + b"<b/>" * (elements.ELEMENT_LIMIT + 1) + b"</a>")


def test_bombs_are_bounded() -> None:
    """What unpacks to more than the limit is refused, in time and memory of the limit."""
    bomb = gzip.compress(b" " * (packing.PLAIN_LIMIT + 1))
    assert len(bomb) < 100_000
    began = time.process_time()
    with pytest.raises(ReportError, match="too large when unpacked"):
        packing.unpack(bomb)
    with pytest.raises(ReportError, match="too large when unpacked"):
        packing.unpack(zipped({"a.xml": b" " * (packing.PLAIN_LIMIT + 1)}))
    with pytest.raises(ReportError, match="too large"):
        packing.unpack(b"x" * (packing.PACKED_LIMIT + 1))
    assert time.process_time() - began < 5


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, octets in files.items():
            archive.writestr(name, octets)
    return packed.getvalue()


def test_archives() -> None:
    """The first file of an archive counts, directories do not; damaged, empty and oddly packed ones are refused."""
    assert packing.unpack(zipped({"reports/": b"", "reports/a.xml": b"<a/>", "b": b"x"})) == b"<a/>"
    for damaged in (zipped({"a": b"x" * 99})[:40], b"PK\x03\x04" + b"x" * 99, b"\x1f\x8bxxx"):
        with pytest.raises(ReportError, match="damaged"):
            packing.unpack(damaged)
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with pytest.raises(ReportError, match="in another way"):
            packing.unpack(zipped({"a.xml": b"<a/>"}, method))
    with pytest.raises(ReportError, match="empty"):
        packing.unpack(zipped({"reports/": b""}))
    assert packing.unpack(gzip.compress(b"<a/>") + b"padding") == b"<a/>"
    assert packing.unpack(gzip.compress(b"<a/>")[:-8]) == b"<a/>"


@given(st.binary(max_size=500), st.integers(0, len(REPORT)), st.booleans())
def test_anything_can_be_given(octets: bytes, start: int, is_packed: bool) -> None:
    """Any octets give a report or ReportError."""
    damaged = REPORT[:start] + octets + REPORT[start + len(octets) :]
    try:
        found = read(packing.unpack(gzip.compress(damaged) if is_packed else damaged))
    except ReportError:
        return
    assert found.domain


@given(st.binary(max_size=1000))
def test_anything_can_be_unpacked(octets: bytes) -> None:
    """Any octets behind the mark of a format give octets or ReportError."""
    for mark in (b"", b"\x1f\x8b", b"PK\x03\x04"):
        try:
            assert len(packing.unpack(mark + octets)) <= packing.PLAIN_LIMIT
        except ReportError:
            continue
