"""What a client learns of its session (protocol/smtp/client.py): one value for each thing that happened."""

from dataclasses import dataclass
from enum import StrEnum

from protocol.smtp.capabilities import Capabilities
from protocol.smtp.reply import Reply
from protocol.smtp.transmission import Outcome


class Phase(StrEnum):
    """What the server is expected to answer. The time limits of RFC 5321 §4.5.3.2 go by it."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CHUNK = "BDAT"  # a chunk that is not the last
    CONTENT = "end of message"  # the last dot, or the last chunk
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"


@dataclass(frozen=True, slots=True)
class Opened:
    """EHLO was answered, at the start or behind STARTTLS: transactions may begin."""

    capabilities: Capabilities
    reply: Reply


@dataclass(frozen=True, slots=True)
class Denied:
    """The server refused the session (greeting, EHLO, HELO), or STARTTLS or AUTH, behind which it may go on."""

    phase: Phase
    reply: Reply


@dataclass(frozen=True, slots=True)
class TlsAllowed:
    """The server waits for the TLS handshake now. Call tls_started() behind it."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """AUTH succeeded."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Finished:
    """The transaction is over: one outcome for each of its recipients, in their order."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """RSET or NOOP was answered."""

    phase: Phase
    reply: Reply


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more can be done here; the connection is to be closed. reply: the server's last word, where it had one."""

    reason: str
    reply: Reply | None = None


Event = Opened | Denied | TlsAllowed | Authenticated | Finished | Answered | Ended
