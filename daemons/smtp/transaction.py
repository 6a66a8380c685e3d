"""What a session knows of its open mail transaction (RFC 5321 §3.3), and of itself when a message is accepted. Values only."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from filters.pipeline import Result, found_by
from filters.verdict import Refuse
from protocol.address import AddrSpec
from protocol.message.mime import Scanner
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


@dataclass(frozen=True, slots=True)
class Onward:
    """Where an address of ours forwards to on another host."""

    rcpt: Rcpt  # to that host
    reverse_path: AddrSpec | None  # from there on: one of ours, unless it is null
    tenant_id: int  # who forwards: it is queued for that tenant
    forwarder: AddrSpec  # the address that forwards
    account: Recipient | None = None  # of that address
    keeps: bool = False  # the account has a copy


@dataclass(frozen=True, slots=True)
class Forwarded:
    """One accepted RCPT for an address that forwards, and everybody behind it."""

    rcpt: Rcpt
    tenant_id: int  # whose address it is
    local: tuple[Addressee, ...]
    onward: tuple[Onward, ...]
    is_expanded: bool = False  # there is more than one in place of the address

    @property
    def tenant_ids(self) -> list[int]:
        """Who takes part in it, each once."""
        concerned = [each.recipient.tenant_id for each in self.local] + [each.tenant_id for each in self.onward]
        return list(dict.fromkeys([self.tenant_id, *concerned]))


@dataclass(frozen=True, slots=True)
class RefusedRecipient:
    """One RCPT that was refused."""

    rcpt: Rcpt
    tenant_id: int  # who may know of it
    reply: Reply
    reason: str  # why, where the reply does not say it


@dataclass(slots=True)
class Policed:
    """What the envelope filters have said of a transaction so far."""

    results: list[Result] = field(default_factory=list)  # without refusals: these were answered, recipient by recipient
    refusal: Refuse | None = None  # for all recipients who do not allow the sender
    is_begun: bool = False  # those that look at the sender have been asked

    def add(self, results: Sequence[Result]) -> None:
        """What they say of the message; for several recipients it is often the same."""
        for result in results:
            verdicts = tuple(verdict for verdict in result.verdicts if not isinstance(verdict, Refuse))
            if all((known.name, known.verdicts) != (result.name, verdicts) for known in self.results):
                self.results.append(replace(result, verdicts=verdicts))

    @property
    def notes(self) -> tuple[object, ...]:
        """What they have found out, for the content filters."""
        return found_by(self.results)


@dataclass(slots=True)
class Transaction:
    """From MAIL to the reply to the message, or to RSET."""

    mail: Mail
    file: SpoolFile
    trace_id: str = ""  # of the transaction and its message
    policed: Policed = field(default_factory=Policed)
    named: list[Rcpt] = field(default_factory=list)  # accepted ones, in their order
    addressees: list[Addressee] = field(default_factory=list)
    remote: list[Rcpt] = field(default_factory=list)  # accepted ones that the queue will carry elsewhere
    returned: list[Rerouted] = field(default_factory=list)
    forwarded: list[Forwarded] = field(default_factory=list)
    expanded: list[Forwarded] = field(default_factory=list)  # RCPTs in whose place there are several
    begun_at: datetime | None = None  # when MAIL came; what a user says of time counts from then
    has_refused_recipients: bool = False
    refused: list[RefusedRecipient] = field(default_factory=list)  # those that some tenant may know of
    chunks: ChunkReader | None = None  # since the first BDAT
    refusal: Reply | None = None  # why the message cannot be accepted; its remaining octets are read and dropped
    scanned: Scanner | None = None  # the message in `file`, when filters have looked into it
    ends_at: float = 0.0  # loop time by which the whole message must have come; 0: it has not begun

    @property
    def recipient_count(self) -> int:
        """How many recipients were accepted."""
        return len(self.addressees) + len(self.remote) + len(self.returned) + len(self.forwarded)

    @property
    def answer_count(self) -> int:
        """How many replies LMTP gives to the message (RFC 2033 §4.2)."""
        return max(1, len(self.named))

    @property
    def everyone(self) -> list[Addressee]:
        """Who gets it here, those behind addresses that forward among them."""
        return self.addressees + [each for forwarded in self.forwarded for each in forwarded.local]

    @property
    def asks_for_success(self) -> bool:
        """Whether there is anything to report to the sender once the message is delivered (RFC 3461 §4.1)."""
        if self.mail.reverse_path is None:
            return False
        notified: list[Addressee | Forwarded] = [*self.everyone, *self.forwarded, *self.expanded]
        return any("SUCCESS" in each.rcpt.parameters.notify for each in notified if each.rcpt.parameters.notify)

    @property
    def is_binary(self) -> bool:
        """Whether the message may hold any octets, CR and LF alone included (RFC 3030 §3)."""
        return self.mail.parameters.body == "BINARYMIME"

    @property
    def rcpts(self) -> list[Rcpt]:
        """The accepted recipients, local ones first."""
        local: list[Addressee | Forwarded] = [*self.addressees, *self.forwarded]
        return [each.rcpt for each in local] + self.remote

    def refuse(self, answer: Reply) -> None:
        """Accept nothing of this message any more: the first reason stays."""
        if self.refusal is None:
            self.refusal = answer
        self.file.discard()
