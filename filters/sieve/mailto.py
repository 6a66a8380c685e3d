"""mailto URIs as a notification method: RFC 5436, RFC 6068."""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from filters.sieve.addresses import mailbox_of
from protocol.message.address_list import parse

RECIPIENT_LIMIT = 8  # of one notification, ours
FIELD_LIMIT = 16  # header fields of one URI, ours
# RFC 6068 §2: qchar and the characters of `to`, with what is commonly left unencoded. '%' is checked apart.
_TO = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,:@/]|%[0-9A-Fa-f]{2})*")
_NAME = re.compile(r"(?:[A-Za-z0-9\-._~!$'()*+,:@;/?]|%[0-9A-Fa-f]{2})+")
_VALUE = re.compile(r"(?:[A-Za-z0-9\-._~!$'()*+,:@;/?]|%[0-9A-Fa-f]{2})*")
_FIELD_NAME = re.compile(r"[!-9;-~]+")
# RFC 5436 §2.3 and §2.7: what a URI must not set, or what would break the message.
_REFUSED = frozenset(
    (
        *("from", "date", "sender", "message-id", "auto-submitted", "received", "return-path", "bcc", "x-sieve"),
        *("mime-version", "content-type", "content-transfer-encoding", "delivered-to", "apparently-to"),
    )
)


class MailtoError(ValueError):
    """The URI is not one to notify by."""


@dataclass(frozen=True, slots=True)
class Mailto:
    """What a URI asks for. Addresses as given, with names."""

    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    subject: str | None = None
    body: str | None = None
    fields: tuple[tuple[str, str], ...] = ()


def parse_mailto(uri: str) -> Mailto:
    """Parse a whole mailto URI. Raises MailtoError."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() != "mailto":
        raise MailtoError("not a mailto URI")
    rest = rest.partition("#")[0]
    path, mark, query = rest.partition("?")
    if not _TO.fullmatch(path):
        raise MailtoError("invalid character in the recipients")
    lists: dict[str, list[str]] = {"to": addresses(_decoded(path)) if path else [], "cc": []}
    subject, body = None, None
    fields: list[tuple[str, str]] = []
    for item in query.split("&") if mark and query else ():
        name, equals, value = item.partition("=")
        if not _NAME.fullmatch(name) or not equals or not _VALUE.fullmatch(value):
            raise MailtoError("invalid character in a header field")
        name, text = _decoded(name).lower(), _decoded(value)
        if not _FIELD_NAME.fullmatch(name):
            raise MailtoError(f"invalid header field name '{name}'")
        if name in lists:
            lists[name].extend(addresses(text))
        elif name == "subject":
            subject = subject if subject is not None else text
        elif name == "body":
            body = body if body is not None else text
        elif name not in _REFUSED:
            fields.append((name, text))
    if len(lists["to"]) + len(lists["cc"]) > RECIPIENT_LIMIT:
        raise MailtoError(f"more than {RECIPIENT_LIMIT} recipients")
    if len(fields) > FIELD_LIMIT:
        raise MailtoError(f"more than {FIELD_LIMIT} header fields")
    return Mailto(tuple(lists["to"]), tuple(lists["cc"]), subject, body, tuple(fields))


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace")


def addresses(text: str) -> list[str]:
    """The addresses of a list, each as it is written. Raises MailtoError."""
    found = [part.strip() for part in _pieces(text) if part.strip()]
    for each in found:
        if mailbox_of(each) is None:
            raise MailtoError(f"invalid recipient '{each}'")
    if len(parse(text.encode("utf-8", "surrogateescape"))) != len(found):
        raise MailtoError("invalid recipients")
    return found


def _pieces(text: str) -> list[str]:
    """Cut at commas outside of quotes and angle brackets."""
    pieces, start, quoted, angled = [], 0, False, False
    for at, character in enumerate(text):
        if character == '"' and text[at - 1 : at] != "\\":
            quoted = not quoted
        elif not quoted and character in "<>":
            angled = character == "<"
        elif character == "," and not quoted and not angled:
            pieces.append(text[start:at])
            start = at + 1
    return [*pieces, text[start:]]
