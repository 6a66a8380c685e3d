"""What CommandReader reports besides commands (which are in command.py): requests to answer, refusals, and APPEND's octets."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


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
    """APPEND is at its message: call reader.accept() or reader.refuse(), then go on with reader.receive(b"")."""

    tag: bytes
    mailbox: str
    flags: tuple[bytes, ...]  # as in command.Append
    internaldate: datetime | None  # aware, UTC; None: now
    size_octets: int  # at most limits.append_octets; 0 is possible
    is_synchronizing: bool  # the client waits for "+ OK"
    is_binary: bool = False  # literal8, RFC 3516 §4.4


@dataclass(frozen=True, slots=True)
class AppendOctets:
    """The next octets of the message that was accepted. After the last of them comes Append, or Rejected with its tag."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """The line asked for with reader.expect_line(), without its CRLF: base64, "*" (cancel) or "DONE"."""

    octets: bytes
