"""What CommandReader reports besides commands (which are in command.py): requests to answer, refusals, and APPEND's octets."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from protocol.imap.append import Replaced


@dataclass(frozen=True, slots=True)
class Continue:
    """A synchronising literal was accepted: send "+ OK" now (RFC 3501 §7.5). Nothing waits for it but the client."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A command that was refused while it was read. Answer it, and end the connection with BYE when it is fatal."""

    tag: bytes | None  # None: the tag could not be read, answer untagged (RFC 3501 §7.1.3)
    status: Literal["BAD", "NO"]
    code: bytes | None  # response code without its brackets, such as b"TOOBIG"
    text: str  # ASCII, without peer's octets
    is_fatal: bool = False


@dataclass(frozen=True, slots=True)
class AppendStarts:
    """APPEND or REPLACE is at its messages: call reader.accept() or reader.refuse(), then go on with reader.receive(b"").

    Refused, it gives no further event. Accepted, it gives for each message AppendMessage, then its octets in one AppendLiteral,
    or for CATENATE in any number of AppendLiteral and AppendUrl; at last AppendEnds, or Rejected with its tag.
    """

    tag: bytes
    mailbox: str
    replaced: Replaced | None = None  # None: this is APPEND


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """A message begins."""

    flags: tuple[bytes, ...]  # canonical, each once, without \Recent
    internaldate: datetime | None  # aware, UTC; None: now


@dataclass(frozen=True, slots=True)
class AppendLiteral:
    """The message goes on with a literal: accept() or refuse() as for AppendStarts; then it comes as AppendOctets."""

    size_octets: int  # at most limits.append_octets; 0 is possible
    is_synchronizing: bool  # the client waits for "+ OK"
    is_binary: bool = False  # literal8, RFC 3516 §4.4
    is_utf8: bool = False  # in UTF8 (…), RFC 6855 §4


@dataclass(frozen=True, slots=True)
class AppendOctets:
    """The next octets of the literal that was accepted."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class AppendUrl:
    """The message goes on with what a URL names, RFC 4469 §3."""

    url: bytes  # as the client wrote it


@dataclass(frozen=True, slots=True)
class AppendEnds:
    """All messages have been given."""

    tag: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """The line asked for with reader.expect_line(), without its CRLF: base64, "*" (cancel) or "DONE"."""

    octets: bytes


AppendEvent = AppendStarts | AppendMessage | AppendLiteral | AppendOctets | AppendUrl | AppendEnds
