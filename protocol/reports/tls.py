"""TLS reports about our domains, RFC 8460 §4: sessions with our servers, good ones counted, bad ones with what was wrong.

Reports that we send are protocol/tls_rpt.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import msgspec

from protocol.reports import ReportError

TEXT_LIMIT = 1000  # characters of a value, ours
POLICY_LIMIT = 1000  # of a report, ours
FAILURE_LIMIT = 10_000  # of a policy, ours
_STRINGS = 100  # policy strings and MX hosts


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed sessions of one kind, RFC 8460 §4.3."""

    result_type: str
    count: int
    source: IPv4Address | IPv6Address | None = None  # sending-mta-ip
    host: str = ""  # receiving-mx-hostname
    helo: str = ""  # receiving-mx-helo
    address: IPv4Address | IPv6Address | None = None  # receiving-ip
    information: str = ""  # additional-information, a URI
    reason: str = ""  # failure-reason-code


@dataclass(frozen=True, slots=True)
class Policy:
    """The sessions under one policy."""

    policy_type: str  # "tlsa", "sts", "no-policy-found"
    domain: str
    strings: tuple[str, ...]
    mx_hosts: tuple[str, ...]
    successes: int
    failures: int
    details: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class ReceivedTlsReport:
    """One report."""

    organization: str
    contact: str
    report_id: str
    begins_at: datetime
    ends_at: datetime
    policies: tuple[Policy, ...]


def read(octets: bytes) -> ReceivedTlsReport:
    """Read one plain report. Raises ReportError."""
    try:
        report = msgspec.json.decode(octets.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ReportError("JSON: not well-formed") from error
    if not isinstance(report, dict) or not isinstance(report.get("policies"), list):
        raise ReportError("no TLS report")
    span = _object(report.get("date-range"))
    return ReceivedTlsReport(
        organization=_text(report.get("organization-name")),
        contact=_text(report.get("contact-info")),
        report_id=_text(report.get("report-id")),
        begins_at=_time(span.get("start-datetime")),
        ends_at=_time(span.get("end-datetime")),
        policies=tuple(_policy(_object(each)) for each in report["policies"][:POLICY_LIMIT]),
    )


def _policy(each: Mapping[str, Any]) -> Policy:
    policy, summary = _object(each.get("policy")), _object(each.get("summary"))
    details = each.get("failure-details")
    return Policy(
        policy_type=_text(policy.get("policy-type")).lower(),
        domain=_text(policy.get("policy-domain")).lower().rstrip("."),
        strings=_texts(policy.get("policy-string")),
        mx_hosts=_texts(policy.get("mx-host")),
        successes=_number(summary.get("total-successful-session-count")),
        failures=_number(summary.get("total-failure-session-count")),
        details=tuple(_failure(_object(one)) for one in details[:FAILURE_LIMIT]) if isinstance(details, list) else (),
    )


def _failure(each: Mapping[str, Any]) -> Failure:
    return Failure(
        result_type=_text(each.get("result-type")).lower(),
        count=_number(each.get("failed-session-count")),
        source=_address(each.get("sending-mta-ip")),
        host=_text(each.get("receiving-mx-hostname")).lower(),
        helo=_text(each.get("receiving-mx-helo")),
        address=_address(each.get("receiving-ip")),
        information=_text(each.get("additional-information")),
        reason=_text(each.get("failure-reason-code")),
    )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    """One line that a terminal and a text column can hold."""
    if not isinstance(value, str):
        return ""
    return " ".join("".join(char if char.isprintable() else " " for char in value[: 4 * TEXT_LIMIT]).split())[
        :TEXT_LIMIT
    ]


def _texts(value: Any) -> tuple[str, ...]:
    """A list of strings; RFC 8460 §4.4 shows mx-host as one string, its schema as a list."""
    values = value if isinstance(value, list) else [value]
    return tuple(text for each in values[:_STRINGS] if (text := _text(each)))


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15 else 0


def _address(value: Any) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(value.strip("[]").partition("%")[0]) if isinstance(value, str) else None
    except ValueError:
        return None


def _time(value: Any) -> datetime:
    """A date-time of RFC 3339. Raises ReportError."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None:
        raise ReportError("TLS report without a time span")
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
