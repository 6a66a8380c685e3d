"""DMARC aggregate reports that we send, RFC 9990: as XML, and as the mail that carries it."""

import base64
from collections.abc import Iterator
from datetime import datetime
from xml.sax.saxutils import escape

from protocol.address import AddrSpec
from protocol.reports.dmarc import AggregateReport, Authentication, Source
from protocol.smtp.received import render_date

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
_GENERATOR = "Postwerk"
_LINE = 76


def filename(report: AggregateReport, receiver: str) -> str:
    """RFC 9990 §3.5.1: who reports, about whom, from when to when."""
    begin, end = int(report.begins_at.timestamp()), int(report.ends_at.timestamp())
    return f"{receiver}!{report.domain}!{begin}!{end}!{report.report_id.partition('@')[0]}.xml.gz"


def render_xml(report: AggregateReport) -> bytes:
    """RFC 9990 §3.1 and its schema. What read() reads of it is the report again."""
    metadata = [
        _element("org_name", report.organization),
        _element("email", report.email),
        _element("report_id", report.report_id),
        _group(
            "date_range",
            _element("begin", str(int(report.begins_at.timestamp()))),
            _element("end", str(int(report.ends_at.timestamp()))),
        ),
        *(_element("error", error) for error in report.errors),
        _element("generator", _GENERATOR),
    ]
    policy = [
        _element("domain", report.domain),
        _element("discovery_method", "treewalk"),
        _element("p", report.policy),
        _element("sp", report.subdomain_policy),
        _element("np", report.nonexistent_policy),
        _element("adkim", report.adkim),
        _element("aspf", report.aspf),
        _element("testing", "y" if report.is_test else "n"),
    ]
    body = [
        _element("version", "1.0"),
        _group("report_metadata", *metadata),
        _group("policy_published", *policy),
        *(_record(source) for source in report.sources),
    ]
    text = "\n".join(body)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<feedback xmlns="{NAMESPACE}">\n{text}\n</feedback>\n'.encode()


def render_mail(
    report: AggregateReport, compressed: bytes, author: AddrSpec, to: AddrSpec, *, boundary: str, date: datetime
) -> bytes:
    """The mail with the report, compressed with gzip, RFC 9990 §3.5.2."""
    encoded = base64.b64encode(compressed).decode()
    lines = [encoded[start : start + _LINE] for start in range(0, len(encoded), _LINE)]
    name = filename(report, author.domain)
    return "\r\n".join(
        [
            f"From: {author}",
            f"To: {to}",
            f"Date: {render_date(date)}",
            f"Message-ID: <{report.report_id}@{author.domain}>",
            f"Subject: Report Domain: {report.domain}",
            f" Submitter: {author.domain}",
            f" Report-ID: <{report.report_id}>",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            f'Content-Type: multipart/mixed;\r\n boundary="{boundary}"',
            "",
            f"--{boundary}",
            "Content-Type: text/plain; charset=us-ascii",
            "",
            f"This is an aggregate report of DMARC (RFC 9990) about mail from {report.domain},",
            f"from {report.begins_at:%Y-%m-%dT%H:%M:%SZ} to {report.ends_at:%Y-%m-%dT%H:%M:%SZ}.",
            "",
            f"--{boundary}",
            "Content-Type: application/gzip",
            "Content-Transfer-Encoding: base64",
            f'Content-Disposition: attachment;\r\n filename="{name}"',
            "",
            *lines,
            f"--{boundary}--",
            "",
        ]
    ).encode()


def _record(source: Source) -> str:
    evaluated = [
        _element("disposition", source.disposition),
        _element("dkim", source.dkim),
        _element("spf", source.spf),
        *(_reason(reason) for reason in source.reasons),
    ]
    row = _group(
        "row",
        _element("source_ip", str(source.address) if source.address is not None else "0.0.0.0"),  # noqa: S104  # no bind
        _element("count", str(source.count)),
        _group("policy_evaluated", *evaluated),
    )
    identifiers = _group(
        "identifiers",
        _element("header_from", source.header_from),
        _element("envelope_from", source.envelope_from),
        _element("envelope_to", source.envelope_to),
    )
    return _group("record", row, identifiers, _group("auth_results", *_results(source.authentications)))


def _results(authentications: tuple[Authentication, ...]) -> Iterator[str]:
    """DKIM goes before SPF, as in the schema."""
    for each in authentications:
        if each.method == "dkim":
            named = _element("domain", each.domain), _element("selector", each.selector)
            yield _group("dkim", *named, _element("result", each.result))
    for each in authentications:
        if each.method == "spf":
            named = _element("domain", each.domain), _element("scope", each.scope)
            yield _group("spf", *named, _element("result", each.result))


def _reason(reason: str) -> str:
    kind, _, comment = reason.partition(": ")
    return _group("reason", _element("type", kind), _element("comment", comment))


def _group(name: str, *elements: str) -> str:
    return f"<{name}>\n" + "\n".join(filter(None, elements)) + f"\n</{name}>"


def _element(name: str, text: str) -> str:
    """One element; without a text there is none. Strangers have chosen some of it: what XML cannot hold is replaced."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return f"<{name}>{escape(plain)}</{name}>" if plain else ""
