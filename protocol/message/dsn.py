"""Delivery status notifications, RFC 3464: what became of a message, as a multipart/report (RFC 6522) to its sender.

The SMTP side of it, who is to be told what, is RFC 3461; the UTF-8 forms are those of RFC 6533. Values in, octets out: the
caller brings date, Message-ID and boundary, and decides whether a report may be sent at all (never to the null reverse path).
"""

import binascii
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from protocol.address import AddrSpec, is_address_literal, is_domain
from protocol.message.dsn_words import WORDS, Action, Language, language_of, reason, spell_time
from protocol.message.mime import Buffer
from protocol.smtp.received import render_date
from protocol.status import Enhanced

__all__ = ["Action", "Language", "Outcome", "Report", "header_of", "language_of", "render"]

LINE_LIMIT = 998  # octets without CRLF, RFC 5322 §2.1.1
RETURNED_HEADER_LIMIT = 64 * 1024  # octets, ours: fields of a longer header section are cut off
DIAGNOSTIC_LIMIT = 2000  # characters, ours: the rest of a longer reply is cut off
_FOLD_AT = 76  # RFC 5322 §2.1.1 recommends 78
_TOO_LONG_LINE = re.compile(rb"[^\r\n]{%d}" % (LINE_LIMIT + 1))
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")  # RFC 6533 §3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the message for one recipient."""

    recipient: AddrSpec  # as the sender gave it, not where an alias led: that is nobody's business but ours
    action: Action
    status: Enhanced
    orcpt: str | None = None  # "addr-type;address", the address decoded
    remote_mta: str | None = None  # the host that we talked to: a name, or an address in brackets; None: to none
    diagnostic: str | None = None  # why: a reply as it came, "550 5.1.1 User unknown", or what we noted ourselves
    is_reply: bool = False  # diagnostic is the former
    last_attempt_at: datetime | None = None  # aware
    will_retry_until: datetime | None = None  # aware; of "delayed" only


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report says. Addresses that are not ASCII need is_smtputf8."""

    hostname: str  # ours, the Reporting-MTA
    author: AddrSpec  # a human who runs the server, RFC 3464 §2
    reverse_path: AddrSpec  # who is told
    outcomes: Sequence[Outcome]  # one at least
    arrived_at: datetime  # aware
    envid: str | None = None  # decoded
    ret: str | None = None  # "FULL" or "HDRS"
    is_smtputf8: bool = False  # of the transaction reported on: the sender can read UTF-8 forms
    language: Language = "en"
    log_id: str | None = None  # by which the transaction is found in our logs
    deliver_by: datetime | None = None  # aware; the sender's deadline, RFC 2852

    @property
    def returns_message(self) -> bool:
        """Whether the whole message is given back: RET=FULL speaks of failures only (RFC 3461 §6.2)."""
        return self.ret == "FULL" and any(outcome.action == "failed" for outcome in self.outcomes)


def render(report: Report, original: Buffer, *, boundary: str, message_id: str, date: datetime) -> bytes:
    """The report as a message, without Return-Path.

    original is the message with CRLF line ends; its header section, or the first RETURNED_HEADER_LIMIT octets, is enough
    unless report.returns_message. The boundary must be one that the sender of the original could not know (1 to 70
    characters, none that RFC 2046 §5.1.1 does not allow); message_id comes with its angle brackets.
    """
    parts = [_notification(report), _status(report), _returned(report, original)]
    words = WORDS[report.language]
    subject = next(words.actions[action][0] for action in words.actions if _outcomes(report, action))
    head = (
        f"From: Mail Delivery System <{report.author}>\r\n"
        f"To: <{report.reverse_path}>\r\n"
        f"Subject: {subject}\r\n"
        f"Date: {render_date(date)}\r\n"
        f"Message-ID: {message_id}\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"\r\n'
        f"Content-Transfer-Encoding: {'7bit' if all(part.isascii() for part in parts) else '8bit'}\r\n\r\n"
    )
    delimiter = b"\r\n--" + boundary.encode()
    return head.encode() + b"".join([delimiter + b"\r\n" + part for part in parts])[2:] + delimiter + b"--\r\n"


def header_of(original: Buffer) -> bytes:
    """The header section that is given back, without its blank line; at most RETURNED_HEADER_LIMIT octets, in whole lines."""
    if original[:2] == b"\r\n":
        return b""
    end = original.find(b"\r\n\r\n", 0, RETURNED_HEADER_LIMIT)
    if end >= 0:
        return bytes(original[: end + 2])
    lines = bytes(original[:RETURNED_HEADER_LIMIT])
    return lines if len(lines) < RETURNED_HEADER_LIMIT else lines[: lines.rfind(b"\r\n") + 2]


def _outcomes(report: Report, action: Action) -> list[Outcome]:
    return [outcome for outcome in report.outcomes if outcome.action == action]


def _part(content_type: str, octets: bytes, encoding: str | None = None, *, language: str | None = None) -> bytes:
    fields = f"Content-Type: {content_type}\r\n"
    if language is not None:
        fields += f"Content-Language: {language}\r\n"
    fields += f"Content-Transfer-Encoding: {encoding or ('7bit' if octets.isascii() else '8bit')}\r\n\r\n"
    return fields.encode() + octets


def _notification(report: Report) -> bytes:
    """The part for people, RFC 6522 §3."""
    words = WORDS[report.language]
    paragraphs = [words.greeting.format(hostname=report.hostname)]
    for action, (_, sentence) in words.actions.items():
        outcomes = _outcomes(report, action)
        if not outcomes:
            continue
        entries = ["\r\n".join(_entry(outcome, report.language)) for outcome in outcomes]
        paragraphs += [sentence, "\r\n".join(entries)]
    octets = "\r\n\r\n".join([*paragraphs, words.closing, ""]).encode()
    if octets.isascii():
        return _part("text/plain; charset=us-ascii", octets, language=report.language)
    return _part("text/plain; charset=utf-8", _quoted_printable(octets), "quoted-printable", language=report.language)


def _entry(outcome: Outcome, language: Language) -> Iterator[str]:
    """The lines on one recipient: the address, why in plain words, and what the other server said."""
    words, status = WORDS[language], outcome.status
    yield f"    <{outcome.recipient}>" + (f" ({status})" if status.status_class != 2 else "")
    if (sentence := reason(status, language)) is not None:
        yield f"        {sentence}"
    if outcome.diagnostic is not None and status.status_class != 2:
        host = _host_of(outcome) if outcome.is_reply else None
        yield "        " + (words.noted if host is None else words.said.format(name=host))
        yield from textwrap.wrap(
            _one_line(outcome.diagnostic), 72, initial_indent="        > ", subsequent_indent="        > "
        )
    if outcome.will_retry_until is not None:
        yield "        " + words.until.format(time=spell_time(outcome.will_retry_until, language))


def _status(report: Report) -> bytes:
    """delivery-status-content, RFC 3464 §2.1; in UTF-8 only if it must be and may be, since few clients know the type."""
    is_global = report.is_smtputf8 and not all(
        outcome.recipient.is_ascii and (outcome.orcpt or "").isascii() for outcome in report.outcomes
    )
    groups = [[f"Reporting-MTA: dns; {report.hostname}", f"Arrival-Date: {render_date(report.arrived_at)}"]]
    if report.deliver_by is not None:
        groups[0].append(f"Deliver-By-Date: {render_date(report.deliver_by)}")
    if report.envid is not None:
        groups[0].insert(0, f"Original-Envelope-Id: {report.envid}")
    for outcome in report.outcomes:
        fields = []
        if outcome.orcpt is not None:
            kind, _, address = outcome.orcpt.partition(";")
            field = f"Original-Recipient: {_typed_address(kind, address, is_global=is_global)}"
            if len(field.encode()) <= LINE_LIMIT:  # it cannot be folded, and no mailbox has such a name
                fields.append(field)
        kind = "rfc822" if outcome.recipient.is_ascii else "utf-8"
        fields.append(f"Final-Recipient: {_typed_address(kind, str(outcome.recipient), is_global=is_global)}")
        fields += [f"Action: {outcome.action}", f"Status: {outcome.status}"]
        groups.append([*fields, *_details(outcome, report.log_id, is_global=is_global)])
    octets = "\r\n".join("".join(f"{field}\r\n" for field in group) for group in groups).encode()
    return _part("message/global-delivery-status" if is_global else "message/delivery-status", octets)


def _details(outcome: Outcome, log_id: str | None, *, is_global: bool) -> Iterator[str]:
    """The optional per-recipient fields, RFC 3464 §2.3.5 to §2.3.9."""
    if (host := _host_of(outcome)) is not None:
        yield f"Remote-MTA: dns; {host}"
    if outcome.diagnostic is not None:
        text = _one_line(outcome.diagnostic)
        if not is_global:
            text = text.encode("ascii", "replace").decode()
        yield _folded(f"Diagnostic-Code: {'smtp' if outcome.is_reply else 'x-postwerk'}; {text}")
    if outcome.last_attempt_at is not None:
        yield f"Last-Attempt-Date: {render_date(outcome.last_attempt_at)}"
    if log_id is not None:
        yield f"Final-Log-ID: {log_id}"
    if outcome.will_retry_until is not None and outcome.action == "delayed":  # RFC 3464 §2.3.9: for no other action
        yield f"Will-Retry-Until: {render_date(outcome.will_retry_until)}"


def _host_of(outcome: Outcome) -> str | None:
    """The remote host, unless DNS gave it a name that is none."""
    host = outcome.remote_mta
    return host if host is not None and host.isascii() and (is_domain(host) or is_address_literal(host)) else None


def _one_line(text: str) -> str:
    """A reply as one line that controls no terminal: the lines of a longer one joined, cut to DIAGNOSTIC_LIMIT."""
    printable = "".join(char if char.isprintable() else " " for char in text[: 2 * DIAGNOSTIC_LIMIT])
    return " ".join(printable.split())[:DIAGNOSTIC_LIMIT]


def _folded(field: str) -> str:
    """The field in lines of moderate length; a word that is too long for a line is broken, which costs it a space."""
    return "\r\n ".join(textwrap.wrap(field, _FOLD_AT, break_on_hyphens=False))


def _typed_address(kind: str, address: str, *, is_global: bool) -> str:
    """address-type ";" generic-address. A UTF-8 address is escaped where it is not allowed as it is (RFC 6533 §3)."""
    if kind.lower() == "utf-8" and not (is_global and address.isprintable()):
        address = _NOT_QCHAR.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", address)
    return f"{kind}; {address}"


def _returned(report: Report, original: Buffer) -> bytes:
    """The third part: the message or its header, RFC 3461 §6.2."""
    if report.returns_message:
        message = bytes(original)
        if _is_mailable(message):  # message/rfc822 cannot be encoded: otherwise the header has to do
            is_global = report.is_smtputf8 and not header_of(message).isascii()
            return _part("message/global" if is_global else "message/rfc822", message)
    header = header_of(original)
    if _is_mailable(header):
        if header.isascii():
            return _part("text/rfc822-headers", header)
        if report.is_smtputf8 and _is_utf8(header):
            return _part("message/global-headers", header)
    return _part("text/rfc822-headers", _quoted_printable(header), "quoted-printable")  # RFC 6522 §4


def _is_mailable(octets: bytes) -> bool:
    """Whether the lines may go as 7bit or 8bit, RFC 2045 §2.7."""
    return b"\x00" not in octets and _TOO_LONG_LINE.search(octets) is None


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _quoted_printable(text: bytes) -> bytes:
    """RFC 2045 §6.7; line ends stay."""
    return b"\r\n".join([binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in text.split(b"\r\n")])
