"""Mail that a script causes: answers of vacation (RFC 5230, RFC 3834) and notifications by mail (RFC 5436)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from filters.sieve.actions import Fcc, Notify, Vacation
from filters.sieve.addresses import is_address, mailbox_of
from filters.sieve.fields import encoded_words, field, text_part
from filters.sieve.mailto import parse_mailto
from filters.sieve.message import View
from filters.sieve.ports import Surroundings
from protocol.message import words
from protocol.message.header import unfold

SUBJECT_LIMIT = 256  # characters of a subject made of a notification's text
REFERENCES_LIMIT = 20  # ids
_AUTOMATIC_LOCAL_PARTS = re.compile(  # RFC 5230 §4.6, RFC 3834 §2: nobody reads there
    r"mailer-daemon|listserv|majordomo|mdaemon|owner-.*|.*-owner|.*-request|.*-bounces?(?:\+.*)?|bounce[-+].*|no-?reply|do-?not-?reply",
    re.IGNORECASE,
)
_LIST_FIELDS = ("list-id", "list-post", "list-unsubscribe", "list-help", "list-subscribe", "list-owner", "list-archive")
_RECIPIENT_FIELDS = ("to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc")
_ID = re.compile(rb"<[^<>\s]+>")
_IMPORTANCE = {1: ("1 (High)", "High"), 2: ("3 (Normal)", "Normal"), 3: ("5 (Low)", "Low")}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send."""

    reverse_path: str  # "" is the null reverse-path
    forward_paths: tuple[str, ...]
    octets: bytes
    fcc: Fcc | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """There is nothing to send, and why."""

    reason: str


def vacation_reply(
    action: Vacation, message: View, surroundings: Surroundings, *, now: datetime, message_id: str
) -> Outgoing | Declined:
    """The answer to a message; whether its sender was answered already is the caller's to know."""
    own = [address.lower() for address in (*surroundings.owner.addresses, *action.addresses)]
    envelope = surroundings.envelope
    if envelope.forward_path:
        own.append(envelope.forward_path.lower())
    if envelope.original_recipient:
        own.append(envelope.original_recipient.lower())
    if reason := _reason_not_to_answer(message, envelope.reverse_path, own):
        return Declined(reason)
    addressed = _addressed(message, own)
    if addressed is None:
        return Declined("no own address among the recipients")
    sender = action.from_address or addressed
    if mailbox_of(sender) is None:
        return Declined("no usable address to answer from")
    subject = action.subject
    if subject is None:
        original = message.texts("subject")
        subject = f"Auto: {original[0]}" if original and original[0] else "Automated reply"
    lines = [
        field("Date", format_datetime(now)),
        field("From", named_address(sender)),
        field("To", envelope.reverse_path),
        field("Subject", words.decode(subject.encode("utf-8", "replace"))),
        field("Message-ID", message_id),
        *_thread(message),
        b"Auto-Submitted: auto-replied (vacation)\r\n",
        b"Precedence: bulk\r\n",
        b"X-Auto-Response-Suppress: All\r\n",
        b"MIME-Version: 1.0\r\n",
    ]
    return Outgoing("", (envelope.reverse_path,), b"".join(lines) + _content(action), action.fcc)


def _content(action: Vacation) -> bytes:
    if action.is_mime:
        octets = re.sub(rb"\r\n|\r|\n", b"\r\n", action.reason.encode("utf-8", "surrogateescape"))
        return octets if octets.endswith(b"\r\n") else octets + b"\r\n"
    head, body = text_part(action.reason)
    return head + b"\r\n" + body


def _reason_not_to_answer(message: View, sender: str, own: Sequence[str]) -> str:
    """RFC 5230 §4.6: who must not be answered."""
    if not sender or mailbox_of(sender) is None:
        return "null or unusable sender"
    if sender.lower() in own:
        return "sent by the owner"
    if _AUTOMATIC_LOCAL_PARTS.fullmatch(sender.rpartition("@")[0]):
        return "sent by a program"
    if any(message.has(name) for name in _LIST_FIELDS):
        return "from a mailing list"
    for value in message.texts("auto-submitted"):
        if value.partition(";")[0].strip().lower() != "no":
            return "submitted automatically"
    for value in message.texts("precedence"):
        if value.lower() in ("bulk", "junk", "list"):
            return "bulk mail"
    for value in message.texts("x-auto-response-suppress"):
        if {"all", "oof", "autoreply"} & {each.strip().lower() for each in value.split(",")}:
            return "asks for no answer"
    if any(value.lower().startswith("yes") for value in message.texts("x-spam-flag")):
        return "spam"
    return ""


def _addressed(message: View, own: Sequence[str]) -> str | None:
    """The own address that the message was sent to, in its To, Cc or Bcc, RFC 5230 §4.5."""
    for name in _RECIPIENT_FIELDS:
        for address in message.addresses(name):
            if is_address(address):
                text = f"{_utf8(address.mailbox)}@{_utf8(address.host)}"
                if text.lower() in own:
                    return text
    return None


def _utf8(octets: bytes | None) -> str:
    return (octets or b"").decode("utf-8", "replace")


def _thread(message: View) -> list[bytes]:
    """In-Reply-To and References, RFC 5230 §5.8 and RFC 5322 §3.6.4."""
    ids = _ID.findall(b" ".join(unfold(body) for body in message.bodies("message-id")[:1]))
    if not ids:
        return []
    before = _ID.findall(b" ".join(unfold(body) for body in message.bodies("references")[:1]))
    if not before:
        before = _ID.findall(b" ".join(unfold(body) for body in message.bodies("in-reply-to")[:1]))[:1]
    chain = [*before[-REFERENCES_LIMIT:], ids[0]]
    return [
        field("In-Reply-To", _utf8(ids[0])),
        field("References", " ".join(_utf8(each) for each in chain)),
    ]


def notification_mail(
    action: Notify,
    message: View,
    surroundings: Surroundings,
    *,
    now: datetime,
    message_id: str,
    told: set[str],
    reverse_path: str | None = None,
) -> Outgoing | Declined:
    """The mail for a mailto notification. `told` collects who was told of this message already: nobody is twice.

    `reverse_path` is what bounces go to; None: the sender of the notification.
    """
    for value in message.texts("auto-submitted"):
        if value.partition(";")[0].strip().lower() != "no":
            return Declined("submitted automatically")  # RFC 5436 §2.2: notifications must not make loops
    uri = parse_mailto(action.method)
    to, cc = (_untold(addresses, told) for addresses in (uri.to, uri.cc))
    if not to and not cc:
        return Declined("all recipients were told already")
    owner = surroundings.owner.addresses[0] if surroundings.owner.addresses else surroundings.envelope.forward_path
    sender = action.from_address or owner
    priority, importance = _IMPORTANCE[action.importance]
    subject = _one_line(uri.subject or action.message or _default_subject(message))
    lines = [
        field("Date", format_datetime(now)),
        field("From", named_address(sender)),
        *([field("To", ", ".join(named_address(each) for each in to))] if to else []),
        *([field("Cc", ", ".join(named_address(each) for each in cc))] if cc else []),
        field("Subject", subject),
        field("Message-ID", message_id),
        b"Auto-Submitted: auto-notified; owner-email=" + _quoted(owner) + b"\r\n",
        b"Precedence: bulk\r\n",
        b"X-Sieve: Postwerk\r\n",
        field("X-Priority", priority),
        field("Importance", importance),
        *(field(_capitalized(name), value) for name, value in uri.fields),
        b"MIME-Version: 1.0\r\n",
    ]
    head, body = text_part(uri.body or action.message or "Notification of new message.")
    # RFC 5436 §2.7: the null reverse-path stays null, so that failing notifications cannot loop.
    path = (mailbox_of(sender) or "") if reverse_path is None else reverse_path
    path = path if surroundings.envelope.reverse_path else ""
    recipients = tuple(address for each in (*to, *cc) if (address := mailbox_of(each)) is not None)
    return Outgoing(path, recipients, b"".join(lines) + head + b"\r\n" + body, action.fcc)


def _untold(addresses: Sequence[str], told: set[str]) -> list[str]:
    found = []
    for each in addresses:
        address = (mailbox_of(each) or "").lower()
        if address and address not in told:
            told.add(address)
            found.append(each)
    return found


def _default_subject(message: View) -> str:
    sender = (message.texts("from") or ["unknown"])[0]
    return f"Notification: [{sender}] {(message.texts('subject') or ['(no subject)'])[0]}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SUBJECT_LIMIT else line[: SUBJECT_LIMIT - 1] + "…"


def _capitalized(name: str) -> str:
    return "-".join(word.capitalize() for word in name.split("-"))


def _quoted(text: str) -> bytes:
    safe = "".join(character for character in text if " " <= character <= "~" and character not in '"\\')
    return f'"{safe}"'.encode()


def named_address(text: str) -> str:
    """An address field's value with the display name in encoded words when it is not ASCII."""
    name, bracket, rest = text.rpartition("<")
    if not bracket:
        return text.strip()
    shown = words.decode(name.strip().encode("utf-8", "replace"))
    if shown.isascii():
        return f"{name.strip()} <{rest}".strip()
    return f"{' '.join(encoded_words(shown.strip(chr(34))))} <{rest}"
