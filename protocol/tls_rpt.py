"""SMTP TLS reporting, RFC 8460: the record that asks for reports, and a report as JSON and as the mail that carries it."""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.smtp.received import render_date

FailureType: TypeAlias = Literal[  # RFC 8460 §4.3
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]
PolicyType: TypeAlias = Literal["tlsa", "sts", "no-policy-found"]  # RFC 8460 §4.4

_DELIMITER = re.compile(r"[ \t]*;[ \t]*")
_PLACES_LIMIT = 10  # ours: places that one domain's reports are sent to
_LINE = 76


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions with one outcome under one policy, counted."""

    policy_type: PolicyType
    policy_strings: tuple[str, ...]
    mx_patterns: tuple[str, ...]
    failure: FailureType | None  # None: nothing was wrong
    count: int
    host: str = ""
    address: str = ""
    source: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TlsReport:
    """What one domain is told of one time span."""

    domain: str
    organization: str
    contact: AddrSpec
    report_id: str  # unique: letters, digits, "-" and "."
    start: datetime
    end: datetime
    sessions: Sequence[Sessions]

    @property
    def filename(self) -> str:
        """RFC 8460 §5.1."""
        start, end = int(self.start.timestamp()), int(self.end.timestamp())
        return f"{self.contact.domain}!{self.domain}!{start}!{end}!{self.report_id}.json.gz"


def parse_record(texts: Iterable[str]) -> list[str]:
    """The URIs out of the TXT records at _smtp._tls that are mailto or https; none: nobody asks for reports (RFC 8460 §3)."""
    records = [text for text in texts if _DELIMITER.split(text, maxsplit=1)[0] == "v=TLSRPTv1"]
    if len(records) != 1:
        return []
    for field in _DELIMITER.split(records[0].strip())[1:]:
        name, _, value = field.partition("=")
        if name.strip() == "rua":
            places = [place.strip() for place in value.split(",")]
            return [place for place in places if place.lower().startswith(("mailto:", "https://"))][:_PLACES_LIMIT]
    return []


def mailto(place: str) -> AddrSpec | None:
    """The address of a mailto URI; None when it holds none, or several."""
    try:
        return parse_addr_spec(unquote(urlsplit(place).path, errors="strict"))
    except (AddressError, ValueError):
        return None


def render_json(report: TlsReport) -> bytes:
    """RFC 8460 §4.4."""
    policies: dict[tuple[PolicyType, tuple[str, ...], tuple[str, ...]], list[Sessions]] = {}
    for sessions in report.sessions:
        key = sessions.policy_type, sessions.policy_strings, sessions.mx_patterns
        policies.setdefault(key, []).append(sessions)
    told = {
        "organization-name": report.organization,
        "date-range": {"start-datetime": _instant(report.start), "end-datetime": _instant(report.end)},
        "contact-info": str(report.contact),
        "report-id": report.report_id,
        "policies": [_policy(report.domain, key, sessions) for key, sessions in policies.items()],
    }
    return json.dumps(told, ensure_ascii=False, indent=1).encode()


def render_mail(report: TlsReport, compressed: bytes, to: AddrSpec, *, boundary: str, date: datetime) -> bytes:
    """The mail with the report, compressed with gzip, RFC 8460 §5.3.

    TLS-Required: No (RFC 8689 §3), since the receiver's TLS may be what the report is about.
    """
    encoded = base64.b64encode(compressed).decode()
    lines = [encoded[start : start + _LINE] for start in range(0, len(encoded), _LINE)]
    head = [
        f"From: {report.contact}",
        f"To: {to}",
        f"Date: {render_date(date)}",
        f"Message-ID: <{report.report_id}@{report.contact.domain}>",
        f"Subject: Report Domain: {report.domain}",
        f" Submitter: {report.contact.domain}",
        f" Report-ID: <{report.report_id}@{report.contact.domain}>",
        f"TLS-Report-Domain: {report.domain}",
        f"TLS-Report-Submitter: {report.contact.domain}",
        "TLS-Required: No",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="tlsrpt";\r\n boundary="{boundary}"',
    ]
    text = [
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"This is an aggregate report of TLS connections to {report.domain} (RFC 8460),",
        f"from {_instant(report.start)} to {_instant(report.end)}.",
        "",
    ]
    attached = [
        f"--{boundary}",
        "Content-Type: application/tlsrpt+gzip",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment;\r\n filename="{report.filename}"',
        "",
        *lines,
        f"--{boundary}--",
        "",
    ]
    return "\r\n".join([*head, "", *text, *attached]).encode()


def _policy(
    domain: str, key: tuple[PolicyType, tuple[str, ...], tuple[str, ...]], sessions: Sequence[Sessions]
) -> dict[str, Any]:
    kind, strings, patterns = key
    policy: dict[str, Any] = {"policy-type": kind, "policy-string": list(strings), "policy-domain": domain}
    if patterns:
        policy["mx-host"] = list(patterns)
    failed = [entry for entry in sessions if entry.failure is not None]
    told: dict[str, Any] = {
        "policy": policy,
        "summary": {
            "total-successful-session-count": sum(entry.count for entry in sessions if entry.failure is None),
            "total-failure-session-count": sum(entry.count for entry in failed),
        },
    }
    if failed:
        told["failure-details"] = [_failure(entry) for entry in failed]
    return told


def _failure(entry: Sessions) -> dict[str, Any]:
    told = {
        "result-type": entry.failure,
        "sending-mta-ip": entry.source,
        "receiving-mx-hostname": entry.host,
        "receiving-ip": entry.address,
        "failed-session-count": entry.count,
        "failure-reason-code": entry.reason,
    }
    return {name: value for name, value in told.items() if value}


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
