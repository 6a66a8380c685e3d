"""The trace fields of an accepted message, RFC 5321 §4.4: Return-Path and Received. Values in, octets out.

The time and the id come from the caller. Addresses appear only where the RFC wants them: `for` is left out when there
are several recipients, which would otherwise learn of each other (RFC 5321 §7.2).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from protocol.address import AddrSpec, address_literal, is_address_literal, is_domain

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Hop:
    """What the Received field says of the session and the transaction."""

    helo: str  # as the client gave it; trusted no further than its syntax
    peer: str  # IP address in presentation form; "" for a local socket
    hostname: str  # ours
    protocol: str  # of the registry "Mail Transmission Types": with_protocol()
    transaction_id: str
    forward_path: AddrSpec | None  # None unless there is exactly one recipient
    received_at: datetime  # aware
    priority: int | None = None  # MT-PRIORITY of the transaction


def with_protocol(
    *,
    is_extended: bool,
    is_lmtp: bool = False,
    is_secure: bool = False,
    is_authenticated: bool = False,
    is_smtputf8: bool = False,
) -> str:
    """The `with` clause: RFC 3848 for the suffixes S and A, RFC 6531 §4.3 for UTF8."""
    if not (is_extended or is_lmtp):
        return "SMTP"
    suffix = ("S" if is_secure else "") + ("A" if is_authenticated else "")
    if is_smtputf8:
        return ("UTF8LMTP" if is_lmtp else "UTF8SMTP") + suffix
    return ("LMTP" if is_lmtp else "ESMTP") + suffix


def render_trace(reverse_path: AddrSpec | None, hop: Hop) -> bytes:
    """Both fields, Return-Path first, ready to stand on top of the message (RFC 5321 §4.4)."""
    return render_return_path(reverse_path) + render_received(hop)


def render_return_path(reverse_path: AddrSpec | None) -> bytes:
    """Return-path-line = "Return-Path:" FWS Reverse-path CRLF."""
    return f"Return-Path: <{reverse_path if reverse_path is not None else ''}>\r\n".encode()


def render_received(hop: Hop) -> bytes:
    """Time-stamp-line = "Received:" FWS Stamp CRLF, folded."""
    recipient = f"\r\n\tfor <{hop.forward_path}>" if hop.forward_path is not None else ""
    priority = f"\r\n\tpriority {hop.priority}" if hop.priority is not None else ""  # RFC 6710 §4.1
    return (
        f"Received: from {_from_domain(hop.helo, hop.peer)}\r\n"
        f"\tby {hop.hostname} with {hop.protocol} id {hop.transaction_id}{recipient}{priority};\r\n"
        f"\t{render_date(hop.received_at)}\r\n"
    ).encode()


@lru_cache(maxsize=4096)  # a session sends many messages, and parsing its IP address costs more than all the rest
def _from_domain(helo: str, peer: str) -> str:
    """Extended-Domain: what the client calls itself, and where it really is."""
    source = helo.rstrip(".")
    literal = address_literal(peer) if peer else ""
    if not (source.isascii() and is_domain(source)) and not is_address_literal(source):
        source = literal or "localhost"  # it must begin with something well-formed
    return f"{source} ({literal})" if literal and literal != source else source


def render_date(moment: datetime) -> str:
    """date-time of RFC 5322 §3.3 in UTC, independent of the locale."""
    return _date_of_second(int(moment.timestamp()))


@lru_cache(maxsize=64)  # a busy process renders the same second a thousand times
def _date_of_second(timestamp: int) -> str:
    utc = datetime.fromtimestamp(timestamp, UTC)
    return (
        f"{_DAYS[utc.weekday()]}, {utc.day} {_MONTHS[utc.month - 1]} {utc.year:04d} "
        f"{utc.hour:02d}:{utc.minute:02d}:{utc.second:02d} +0000"
    )
