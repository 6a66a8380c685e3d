"""The reports in a mail: of all parts those that are packed, XML or JSON (RFC 7489 §7.2.1.1, RFC 8460 §5.3)."""

from collections.abc import Iterator
from dataclasses import dataclass

from protocol.message.mime import Buffer, Part, scan
from protocol.message.text import decode_body
from protocol.message.words import decode_parameter
from protocol.reports import ReportError, dmarc, tls
from protocol.reports.dmarc import AggregateReport
from protocol.reports.packing import PACKED_LIMIT, unpack
from protocol.reports.tls import ReceivedTlsReport

PART_LIMIT = 5  # reports of one mail, ours: RFC 7489 §7.2.1.1 has one
_TYPES = frozenset({
    "application/tlsrpt+gzip", "application/tlsrpt+json", "application/gzip", "application/x-gzip", "application/zip",
    "application/x-zip", "application/x-zip-compressed", "application/xml", "text/xml", "application/json",
    "application/octet-stream",
})  # fmt: skip
_NAMES = (".xml", ".xml.gz", ".gz", ".zip", ".json", ".json.gz")


@dataclass(frozen=True, slots=True)
class Found:
    """What a mail holds."""

    reports: tuple[AggregateReport | ReceivedTlsReport, ...]
    problems: tuple[str, ...]  # of parts that look like reports and cannot be read


def read(octets: Buffer) -> Found:
    """Read all reports of a mail. Never raises."""
    reports: list[AggregateReport | ReceivedTlsReport] = []
    problems: list[str] = []
    for part in _candidates(scan(octets)):
        if len(reports) + len(problems) >= PART_LIMIT:
            break
        try:
            reports.append(_report(octets, part))
        except ReportError as error:
            if _is_named_like_one(part):
                problems.append(str(error))
    return Found(tuple(reports), tuple(problems))


def _report(octets: Buffer, part: Part) -> AggregateReport | ReceivedTlsReport:
    if part.end - part.body_start > 2 * PACKED_LIMIT:
        raise ReportError("too large")
    plain = unpack(decode_body(octets, part))
    start = plain[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{"):
        return tls.read(plain)
    if start.startswith(b"<") or b"\x00<" in start or b"<\x00" in start:  # the latter two: UTF-16
        return dmarc.read(plain)
    raise ReportError("neither XML nor JSON")


def _candidates(part: Part) -> Iterator[Part]:
    for child in part.children:
        if not part.is_message:
            yield from _candidates(child)
    if not part.children and (_type_of(part) in _TYPES or _is_named_like_one(part)):
        yield part


def _type_of(part: Part) -> str:
    return f"{part.type.decode('latin-1')}/{part.subtype.decode('latin-1')}".lower()


def _is_named_like_one(part: Part) -> bool:
    if _type_of(part).startswith("application/tlsrpt+"):
        return True
    parameters = part.disposition[1] if part.disposition is not None else ()
    name = decode_parameter(parameters, b"filename") or decode_parameter(part.parameters, b"name") or ""
    return name.lower().endswith(_NAMES)
