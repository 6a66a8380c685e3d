"""Addresses and their parts, RFC 5228 §2.7.4 and RFC 5233."""

from collections.abc import Callable

from filters.sieve.message import View
from protocol.address import AddressError, parse_addr_spec
from protocol.message.address_list import INVALID_ROUTE, MISSING_DOMAIN, MISSING_MAILBOX, SYNTAX_ERROR, Address, parse
from protocol.message.header import unfold
from protocol.sieve.validation import Node

ADDRESS_FIELDS = frozenset(
    (
        *("from", "to", "cc", "bcc", "sender", "reply-to", "resent-from", "resent-to", "resent-cc", "resent-bcc"),
        *("resent-sender", "resent-reply-to", "return-path", "disposition-notification-to", "apparently-to"),
        *("return-receipt-to", "errors-to", "delivered-to", "x-original-to", "envelope-to", "envelope-from"),
        *("approved", "for-approval", "mail-followup-to", "mail-reply-to", "x-envelope-to", "x-envelope-from"),
        *("x-admin", "x-complaints-to", "x-beenthere", "x-return-path", "x-mailing-list", "list-post", "list-owner"),
        *("x-loop", "original-recipient", "x-forwarded-to", "x-forwarded-for", "x-sender", "x-confirm-reading-to"),
    )
)
"""Fields of addresses, RFC 5228 §5.1: the address test is for these alone."""

Part = Callable[[str, str | None, str], str | None]
_BAD_HOSTS = (MISSING_DOMAIN, SYNTAX_ERROR, INVALID_ROUTE)
_NO_MAILBOX = (None, b"", MISSING_MAILBOX)


def address_part(node: Node) -> Part:
    """Which part of an address the test looks at: local part, domain (None: there is none) and delimiters to it."""
    for name, part in _PARTS.items():
        if name in node.options:
            return part
    return _all


def _all(local: str, domain: str | None, delimiters: str) -> str | None:
    return local if domain is None else f"{local}@{domain}"


def _local_part(local: str, domain: str | None, delimiters: str) -> str | None:
    return local


def _domain(local: str, domain: str | None, delimiters: str) -> str | None:
    return domain


def _user(local: str, domain: str | None, delimiters: str) -> str | None:
    return local[: _separator(local, delimiters)]


def _detail(local: str, domain: str | None, delimiters: str) -> str | None:
    at = _separator(local, delimiters)
    return local[at + 1 :] if at < len(local) else None


def _separator(local: str, delimiters: str) -> int:
    return min((at for at in (local.find(each) for each in delimiters) if at >= 0), default=len(local))


_PARTS: dict[str, Part] = {"localpart": _local_part, "domain": _domain, "user": _user, "detail": _detail}


def address_values(view: View, name: str, part: Part, delimiters: str) -> list[list[str]]:
    """That part of the addresses of each field of that name. What is no address shows itself whole, and has no parts."""
    values: list[list[str]] = []
    for at, field in enumerate(view.addresses_by_field(name)):
        found: list[str] = []
        for address in field:
            if is_address(address):
                value = part(_text(address.mailbox), _text(address.host), delimiters)
            else:
                value = _text(address.mailbox) if part is _all and address.mailbox not in _NO_MAILBOX else None
            if value is not None:
                found.append(value)
        if not found and part is _all:  # nothing that reads as addresses: the body itself
            found = [_text(unfold(view.bodies(name)[at])).strip()]
        values.append(found)
    return values


def flat_values(view: View, name: str, part: Part, delimiters: str) -> list[str]:
    """The same of all fields together, remembered."""
    key = (name, part, delimiters)
    found = view.remembered.get(key)
    if found is None:
        fields = address_values(view, name, part, delimiters)
        found = view.remembered[key] = [text for field in fields for text in field]
    return found


def is_address(address: Address) -> bool:
    """Whether it has a local part and a domain."""
    return address.mailbox not in _NO_MAILBOX and bool(address.host) and address.host not in _BAD_HOSTS


def _text(octets: bytes | None) -> str:
    return (octets or b"").decode("utf-8", "surrogateescape")


def split(path: str) -> tuple[str, str | None]:
    """Local part and domain of an envelope address."""
    try:
        found = parse_addr_spec(path)
    except AddressError:
        local, at, domain = path.rpartition("@")
        return (local, domain) if at else (path, None)
    return found.local_part, found.domain


def mailbox_of(text: str) -> str | None:
    """The address of `address` or `Name <address>`, for :from and redirect; None when it is not one."""
    found = parse(text.encode("utf-8", "surrogateescape"))
    if len(found) != 1 or not is_address(found[0]):
        return None
    return f"{_text(found[0].mailbox)}@{_text(found[0].host)}"
