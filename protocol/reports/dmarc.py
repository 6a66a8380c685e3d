"""DMARC aggregate reports: who sent mail in our domain's name, and whether it passed (RFC 7489 §7.2, RFC 9990).

Senders differ in case, order, and in what they leave out: what is there is read. A report without domain or time span is none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address

from protocol.reports import ReportError
from protocol.reports.elements import Element, parse

TEXT_LIMIT = 255  # characters of a value, ours: the rest is cut off
AUTHENTICATION_LIMIT = 100  # results per source, ours
_SCHEMA = re.compile(rb"<xs:schema[^<>]{0,500}>(?=\s{0,20}<feedback)")  # that some senders open and never close
_LATEST = 253_402_300_799  # the last second that a datetime can hold


@dataclass(frozen=True, slots=True)
class Authentication:
    """One result of SPF or DKIM, before alignment."""

    method: str  # "spf", "dkim"
    domain: str
    result: str
    selector: str = ""  # of dkim
    scope: str = ""  # of spf: "mfrom", "helo"


@dataclass(frozen=True, slots=True)
class Source:
    """Messages of one source with one outcome."""

    address: IPv4Address | IPv6Address | None
    count: int
    disposition: str  # what was done: "none", "quarantine", "reject", "pass"
    dkim: str  # aligned: "pass", "fail"
    spf: str
    header_from: str
    envelope_from: str = ""
    envelope_to: str = ""
    reasons: tuple[str, ...] = ()  # why the policy was not followed: "type: comment"
    authentications: tuple[Authentication, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether these messages pass DMARC (RFC 7489 §6.6.2)."""
        return "pass" in (self.dkim, self.spf)


@dataclass(frozen=True, slots=True)
class AggregateReport:
    """One report."""

    organization: str
    email: str
    report_id: str
    domain: str  # whose policy it is
    begins_at: datetime
    ends_at: datetime
    policy: str  # p
    subdomain_policy: str  # sp
    adkim: str
    aspf: str
    percent: int | None
    is_test: bool  # t=y, RFC 9990
    errors: tuple[str, ...]
    sources: tuple[Source, ...]
    nonexistent_policy: str = ""  # np, RFC 9990


def read(octets: bytes) -> AggregateReport:
    """Read one plain report. Raises ReportError."""
    root = parse(_SCHEMA.sub(b"", octets, count=1))
    if root.name != "feedback":
        raise ReportError("no DMARC report")
    metadata, policy = root.find("report_metadata"), root.find("policy_published")
    if metadata is None or policy is None:
        raise ReportError("DMARC report without metadata or policy")
    domain = _domain(policy.value("domain"))
    if not domain:
        raise ReportError("DMARC report without a domain")
    p = _word(policy.value("p"))
    return AggregateReport(
        organization=_text(metadata.value("org_name")),
        email=_text(metadata.value("email")),
        report_id=_text(metadata.value("report_id")),
        domain=domain,
        begins_at=_time(metadata.value("date_range", "begin")),
        ends_at=_time(metadata.value("date_range", "end")),
        policy=p,
        subdomain_policy=_word(policy.value("sp")) or p,
        adkim=_word(policy.value("adkim")) or "r",
        aspf=_word(policy.value("aspf")) or "r",
        percent=_number(policy.value("pct")),
        is_test=_word(policy.value("testing") or policy.value("t")) == "y",
        errors=tuple(_text(error.text) for error in metadata.all("error"))[:AUTHENTICATION_LIMIT],
        sources=tuple(_source(record) for record in root.all("record")),
        nonexistent_policy=_word(policy.value("np")),
    )


def _source(record: Element) -> Source:
    evaluated, identifiers = record.find("row", "policy_evaluated"), _identifiers(record)
    if evaluated is None:
        evaluated = Element("policy_evaluated")
    reasons = (
        ": ".join(filter(None, (_word(each.value("type")), _text(each.value("comment")))))
        for each in evaluated.all("reason")
    )
    return Source(
        address=_address(record.value("row", "source_ip")),
        count=_number(record.value("row", "count")) or 0,
        disposition=_word(evaluated.value("disposition")) or "none",
        dkim=_word(evaluated.value("dkim")),
        spf=_word(evaluated.value("spf")),
        header_from=_domain(identifiers.value("header_from")),
        envelope_from=_domain(identifiers.value("envelope_from")),
        envelope_to=_domain(identifiers.value("envelope_to")),
        reasons=tuple(filter(None, reasons))[:AUTHENTICATION_LIMIT],
        authentications=tuple(_authentications(record))[:AUTHENTICATION_LIMIT],
    )


def _identifiers(record: Element) -> Element:
    """Drafts of the format called it "identities"."""
    return record.find("identifiers") or record.find("identities") or Element("identifiers")


def _authentications(record: Element) -> Iterator[Authentication]:
    results = record.find("auth_results") or Element("auth_results")
    for each in results.children:
        if each.name in ("dkim", "spf"):
            yield Authentication(
                each.name,
                _domain(each.value("domain")),
                _word(each.value("result")),
                _text(each.value("selector")),
                _word(each.value("scope")),
            )


def _text(text: str) -> str:
    """One line that a terminal and a text column can hold."""
    text = text[: 4 * TEXT_LIMIT]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())[:TEXT_LIMIT] if " " in text else text[:TEXT_LIMIT]


def _word(text: str) -> str:
    return _text(text).lower()


def _domain(text: str) -> str:
    return _word(text).rstrip(".")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def _time(text: str) -> datetime:
    """A Unix timestamp, with a fraction in some reports. Raises ReportError."""
    seconds = _number(text.partition(".")[0])
    if seconds is None or seconds > _LATEST:
        raise ReportError("DMARC report without a time span")
    return datetime.fromtimestamp(seconds, UTC)
