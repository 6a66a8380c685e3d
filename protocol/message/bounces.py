"""Incoming bounces: what a report by another server says of which recipients, and whether to write to them again.

Delivery status notifications are read as RFC 3464 has them, wherever in the message their fields stand; complaints as RFC 5965
has them; automatic answers are told apart by RFC 3834. The many forms without a standard are read by what they have in common
(protocol/message/bounces_text.py). Octets in, values out: anything gives a notification or None, never an exception.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from protocol.message import bounces_text, header, words
from protocol.message.bounces_reasons import HARD, reason_of
from protocol.message.bounces_words import Reason
from protocol.message.mime import Buffer, Part, scan
from protocol.message.text import decode_body, part_text
from protocol.status import Enhanced

__all__ = ["Bounced", "Kind", "Notification", "Reason", "classify"]

Kind = Literal["status", "complaint", "automatic"]  # RFC 3464, RFC 5965, RFC 3834

MESSAGE_LIMIT = 1024 * 1024  # octets that are looked at, ours: what a server says stands at the beginning
RECIPIENT_LIMIT = 1000  # of one notification, ours
HEADER_LIMIT = 4 * 1024  # octets of a field, ours
FIELDS_LIMIT = 256 * 1024  # octets of a part with fields, ours
DIAGNOSTIC_LIMIT = 4000  # characters, ours
_PARTS = 50  # looked at
_LOOKED_AT = frozenset(
    b"from to subject return-path x-failed-recipients auto-submitted precedence x-autoreply x-autorespond".split()
)
_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
_ORIGINALS = frozenset(
    {"text/rfc822-headers", "text/rfc822-header", "message/global-headers", "message/rfc822", "message/global"}
)
_ACTIONS = frozenset({"failed", "delayed", "delivered", "relayed", "expanded"})
_QUOTED = re.compile(r"^> ?", re.MULTILINE)
_GROUP = re.compile(r"\n[ \t>]*\n")
_FIELD = re.compile(r"^[> ]{0,4}([A-Za-z][A-Za-z-]{2,40}):[ \t]?(.*(?:\n[> ]{0,3}[ \t].*)*)", re.MULTILINE)
_STATUS_FIELD = re.compile(r"^[> ]{0,4}(?:final-recipient|original-recipient)[ \t]?:", re.IGNORECASE | re.MULTILINE)
_SPACES = re.compile(r"\s+")
_ENHANCED = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")
_SUCCESSES = re.compile(r"(?<![\d.])2\.\d{1,3}\.\d{1,3}(?!\.?\d)")
_REPLY = re.compile(r"(?<![\d.\-/@#:])([45][0-5]\d)(?=[ :\-#,;)>\]]|$)(?! (?:hours|days|minutes|octets|bytes))")
_NO_WORDS = re.compile(r"[^\s@]{1,64}@\S{1,255}|[245]\.\d{1,3}\.\d{1,3}|smtp;|[^A-Za-z\s]")
_WORD = re.compile(r"[A-Za-z]{3,}")
_MESSAGE_ID = re.compile(rb"^Message-ID:[ \t\r\n]{0,10}(<[!-;=?-~]{1,990}>)", re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(
    r"^\W{0,3}(?:auto(?:matic)?[ -]?(?:reply|response|answer)|auto:|out of (?:the )?office|vacation|away (?:until|from)|"
    r"abwesen\w*|automatische antwort|r[ée]ponse automatique|respuesta autom)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Bounced:
    """What became of the message for one recipient."""

    address: str  # as the server wrote it; "" when it did not
    action: str  # action-value of RFC 3464 §2.3.3; "complained" for RFC 5965
    status: Enhanced | None
    code: int | None  # of the reply
    reason: Reason
    diagnostic: str  # the server's own words
    remote_mta: str | None = None

    @property
    def is_hard(self) -> bool:
        """Whether the address is wrong and will stay so: nothing should be sent to it again."""
        return self.action == "failed" and self.reason in HARD

    @property
    def is_temporary(self) -> bool:
        """Whether the server still tried when it wrote this."""
        return self.action == "delayed"


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification."""

    kind: Kind
    recipients: tuple[Bounced, ...]
    message_id: str | None = None  # of the message it is about
    envid: str | None = None
    feedback_type: str | None = None  # RFC 5965 §3.5


def classify(octets: Buffer) -> Notification | None:
    """What the message says about the delivery of another one; None when it says nothing of that kind."""
    octets = bytes(octets[:MESSAGE_LIMIT])
    root = scan(octets)
    fields = _header(octets[root.header_start : root.body_start])
    leaves = list(islice(_leaves(root), _PARTS)) or [root]
    complaint = _complaint(octets, leaves, fields)
    if complaint is not None:
        return complaint
    texts = _texts(octets, leaves)
    envid, found = _by_fields(octets, leaves, texts)
    if not found:
        found = _by_text(fields, texts, _original_header(octets, leaves))
    if found:
        return Notification("status", tuple(found[:RECIPIENT_LIMIT]), _original_id(octets, leaves), envid)
    return Notification("automatic", ()) if _is_answer(fields) else None


def _header(section: bytes) -> dict[str, str]:
    """The fields that matter, decoded; of several of one name the first."""
    found: dict[str, str] = {}
    for field in header.fields(section):
        name = field.name.lower()
        if name in _LOOKED_AT:
            found.setdefault(name.decode(), words.decode(field.body[:HEADER_LIMIT]).strip())
    return found


def _leaves(part: Part) -> Iterator[Part]:
    """The parts that hold something, in order; a message within is one of them."""
    if part.is_multipart:
        for child in part.children:
            yield from _leaves(child)
    else:
        yield part


def _type_of(part: Part) -> str:
    return f"{part.type.decode('latin-1')}/{part.subtype.decode('latin-1')}".lower()


def _text_of(octets: bytes, part: Part) -> str:
    if part.is_text or part.is_multipart:  # a multipart without parts
        return part_text(octets, part)
    return words.decode_octets(decode_body(octets, part), None).replace("\r\n", "\n")


def _texts(octets: bytes, leaves: Sequence[Part]) -> list[str]:
    """What is written for people in front of the first part that holds fields or the original."""
    texts: list[str] = []
    for part in leaves:
        if (part.is_text or part.is_multipart) and _type_of(part) not in _ORIGINALS:
            texts.append(_text_of(octets, part)[: bounces_text.TEXT_LIMIT])
        elif texts:
            break
    return [text for text in texts if text.strip()][:3]


def _by_fields(octets: bytes, leaves: Sequence[Part], texts: Sequence[str]) -> tuple[str | None, list[Bounced]]:
    """Original-Envelope-Id and the recipients of RFC 3464, in the part that is made for it, or in what people are shown."""
    parts = [part for part in leaves if _type_of(part) in _STATUS_TYPES]
    sources = [_text_of(octets, part)[:FIELDS_LIMIT] for part in parts]
    if not sources:
        sources = [_QUOTED.sub("", text) for text in texts if _STATUS_FIELD.search(text)]
    said = [bounces_text.without_original(text) for text in texts]
    envid, found = None, []
    for source in sources:
        for group in _GROUP.split(source):
            fields = {name.lower(): _SPACES.sub(" ", body).strip() for name, body in _FIELD.findall(group)}
            envid = envid or fields.get("original-envelope-id")
            if (one := _recipient(fields, said)) is not None:
                found.append(one)
    return envid, found


def _recipient(fields: Mapping[str, str], said: Sequence[str]) -> Bounced | None:
    """The recipient of a group of fields, RFC 3464 §2.3."""
    addresses = [_untyped(fields[name]) for name in ("original-recipient", "final-recipient") if name in fields]
    if not addresses:
        return None
    address = next((address for address in addresses if "@" in address), addresses[-1])
    action = fields.get("action", "").split(" ")[0].strip(";").lower()
    diagnostic = fields.get("diagnostic-code", "")
    kind, mark, text = diagnostic.partition(";")
    diagnostic = text.strip() if mark and " " not in kind.strip() else diagnostic
    given = fields.get("status", "")
    about = f"{diagnostic} {given}"
    told = "" if _says(about) else " ".join([bounces_text.about(address, text) for text in said])
    status = _nearer(_status(given), _status(diagnostic) or _status(told))
    about = f"{about} {told}"
    if action not in _ACTIONS:
        action = "delayed" if status is not None and status.status_class == 4 else "failed"
    return _bounced(address, action, status, diagnostic or about, about, _untyped(fields.get("remote-mta", "")) or None)


def _by_text(fields: Mapping[str, str], texts: Sequence[str], original: str) -> list[Bounced]:
    """The recipients that a text in no standard form names; else the one that the original has."""
    said = [bounces_text.without_original(text) for text in texts]
    for text in said:
        if bounces_text.is_bounce(fields, text) and (found := bounces_text.find(fields, text)):
            return [_told(fields, one.address, one.text if _says(one.text) else text) for one in found]
    everything = "\n".join(said)
    if not bounces_text.is_bounce(fields, everything):
        return []
    address = bounces_text.original_recipient("\n".join([*texts, original]))
    return [] if address is None else [_told(fields, address, everything)]


def _told(fields: Mapping[str, str], address: str, text: str) -> Bounced:
    action = "delayed" if bounces_text.is_delay(fields.get("subject", ""), text) else "failed"
    about = text if _says(text) else fields.get("subject", "")
    return _bounced(address, action, _failure_status(text), _SPACES.sub(" ", text).strip(), about)


def _bounced(
    address: str, action: str, status: Enhanced | None, diagnostic: str, about: str, remote_mta: str | None = None
) -> Bounced:
    reason = reason_of(status, about)
    return Bounced(address, action, status, _code(about), reason, diagnostic[:DIAGNOSTIC_LIMIT], remote_mta)


def _says(text: str) -> bool:
    """Whether the text says more than that it failed."""
    return _WORD.search(_NO_WORDS.sub("", text)) is not None


def _nearer(given: Enhanced | None, said: Enhanced | None) -> Enhanced | None:
    """The status that says more: what the remote server said, unless the reporting one gave up on a temporary reply."""
    if given is None or said is None:
        return given or said
    is_vague = (said.subject, said.detail) == (0, 0) and (given.subject, given.detail) != (0, 0)
    return given if said.status_class != given.status_class or is_vague else said


def _status(text: str) -> Enhanced | None:
    """The first enhanced status code in a text that says something; else the first."""
    codes = [Enhanced(int(a), int(b), int(c)) for a, b, c in _ENHANCED.findall(text[:DIAGNOSTIC_LIMIT])]
    return next((code for code in codes if (code.subject, code.detail) != (0, 0)), codes[0] if codes else None)


def _failure_status(text: str) -> Enhanced | None:
    """The same in a text that may quote the replies to earlier commands, too."""
    return _status(_SUCCESSES.sub("", text))


def _code(text: str) -> int | None:
    """The code of the reply that a text quotes."""
    found = _REPLY.search(text[:DIAGNOSTIC_LIMIT])
    return int(found[1]) if found is not None else None


def _untyped(value: str) -> str:
    """generic-address of `address-type ";" generic-address`, without angle brackets."""
    kind, mark, address = value.partition(";")
    return (address if mark else kind).strip().strip("<>").strip()


def _complaint(octets: bytes, leaves: Sequence[Part], fields: Mapping[str, str]) -> Notification | None:
    """A report of abuse, RFC 5965, or one of the older form that Hotmail sent."""
    for part in leaves:
        if _type_of(part) != "message/feedback-report":
            continue
        given = {
            name.lower(): _SPACES.sub(" ", body).strip()
            for name, body in _FIELD.findall(_text_of(octets, part)[:FIELDS_LIMIT])
        }
        kind = given.get("feedback-type", "abuse").lower()
        return _complained(kind, given.get("original-rcpt-to", ""), octets, leaves)
    if fields.get("subject", "").lower().startswith("complaint about message from"):
        return _complained("abuse", "", octets, leaves)
    return None


def _complained(kind: str, address: str, octets: bytes, leaves: Sequence[Part]) -> Notification:
    bounced = Bounced(_untyped(address), "complained", None, None, "spam" if kind == "abuse" else "policy", "")
    return Notification("complaint", (bounced,), _original_id(octets, leaves), None, kind)


def _original_id(octets: bytes, leaves: Sequence[Part]) -> str | None:
    """The Message-ID of the message that is given back."""
    for part in reversed(leaves):
        if part.is_message or _type_of(part) in _ORIGINALS:
            found = _MESSAGE_ID.search(octets, part.body_start, min(part.end, part.body_start + FIELDS_LIMIT))
            if found is not None:
                return found[1].decode("ascii", "replace")
    return None


def _original_header(octets: bytes, leaves: Sequence[Part]) -> str:
    """The header section of the message that is given back; "" when none is."""
    for part in reversed(leaves):
        if part.is_message:
            return words.decode_octets(
                octets[part.children[0].header_start : part.children[0].body_start][:FIELDS_LIMIT], None
            )
        if _type_of(part) in _ORIGINALS:
            return _text_of(octets, part)[:FIELDS_LIMIT]
    return ""


def _is_answer(fields: Mapping[str, str]) -> bool:
    """Whether a program answered for a human, RFC 3834 §5."""
    submitted = fields.get("auto-submitted", "no").partition(";")[0].strip().lower()
    return (
        submitted not in ("no", "")
        or "x-autoreply" in fields
        or "x-autorespond" in fields
        or fields.get("precedence", "").lower() == "auto_reply"
        or _ANSWER.search(fields.get("subject", "")) is not None
    )
