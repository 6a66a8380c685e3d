"""What a session knows of its open mail transaction (RFC 5321 §3.3), and of itself when a message is accepted. Values only."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from protocol.smtp.command import Mail, Rcpt
from protocol.smtp.data import ChunkReader
from protocol.smtp.reply import Reply
from storage.rows import Recipient
from storage.spool import SpoolFile

if TYPE_CHECKING:
    from daemons.authentication import Identity
    from daemons.forwarding import Returned


@dataclass(frozen=True, slots=True)
class Origin:
    """The session a message came from."""

    peer: str  # IP address in presentation form
    helo: str
    protocol: str  # the `with` clause: "ESMTPS"
    tls: tuple[str, str] | None  # version and cipher
    identity: "Identity | None" = None  # who submits; None: mail from elsewhere


@dataclass(frozen=True, slots=True)
class Addressee:
    """One accepted RCPT."""

    rcpt: Rcpt
    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Rerouted:
    """One accepted RCPT for a sender that we had rewritten: a bounce on its way back."""

    rcpt: Rcpt
    returned: "Returned"


@dataclass(slots=True)
class Transaction:
    """From MAIL to the reply to the message, or to RSET."""

    mail: Mail
    file: SpoolFile
    addressees: list[Addressee] = field(default_factory=list)
    remote: list[Rcpt] = field(default_factory=list)  # accepted ones that the queue will carry elsewhere
    returned: list[Rerouted] = field(default_factory=list)
    begun_at: datetime | None = None  # when MAIL came; what a user says of time counts from then
    has_refused_recipients: bool = False
    chunks: ChunkReader | None = None  # since the first BDAT
    refusal: Reply | None = None  # why the message cannot be accepted; its remaining octets are read and dropped
    ends_at: float = 0.0  # loop time by which the whole message must have come; 0: it has not begun

    @property
    def recipient_count(self) -> int:
        """How many recipients were accepted."""
        return len(self.addressees) + len(self.remote) + len(self.returned)

    @property
    def is_binary(self) -> bool:
        """Whether the message may hold any octets, CR and LF alone included (RFC 3030 §3)."""
        return self.mail.parameters.body == "BINARYMIME"

    @property
    def rcpts(self) -> list[Rcpt]:
        """The accepted recipients, local ones first."""
        return [addressee.rcpt for addressee in self.addressees] + self.remote

    def refuse(self, answer: Reply) -> None:
        """Accept nothing of this message any more: the first reason stays."""
        if self.refusal is None:
            self.refusal = answer
        self.file.discard()
