"""What one attempt of delivery came to: the values that relay, reports, trace and TLS reports share."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from protocol.smtp.reply import Reply
from protocol.status import Enhanced
from storage.outbound import Leased

Kind = Literal["delivered", "failed", "deferred"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome for one recipient."""

    kind: Kind
    status: Enhanced  # of the reply, or what its code and the place of the failure say: RFC 3463
    reply: str  # the remote server's own words, code included, lines joined by a space; ours when there were none
    at: datetime  # aware
    is_remote: bool = False  # reply is what a server said: Diagnostic-Code: smtp (RFC 3464 §2.3.6)
    host: str = ""  # the remote server's name, as the route has it; empty when none was reached
    address: str = ""  # its IP address
    tls: str = ""  # protocol, cipher and how far the server was proved: "TLSv1.3 AES-256… verified (dane)"; empty: none
    is_uncertain: bool = False  # the connection ended between final dot and reply (RFC 1047): it may have arrived
    is_final: bool = (
        False  # it lies in a mailbox of ours: a delivered one is "delivered", not "relayed" (RFC 3464 §2.3.3)
    )
    is_reported_by_peer: bool = False  # the server took NOTIFY along (RFC 3461 §5.2.2): it reports success itself
    is_expanded: bool = False  # its recipient here sends it on to several: "expanded"
    knows_deadline: bool = False  # it took BY along (RFC 2852 §4.1.4)


@dataclass(frozen=True, slots=True)
class Settled:
    """An attempt, the recipient it was made for, and what follows."""

    leased: Leased
    attempt: Attempt
    next_attempt_at: datetime | None = None  # of a deferred one
    is_delay_due: bool = False  # deferred for so long that the sender is to be told, for the first time


def text_of(reply: Reply) -> str:
    """A reply in one line."""
    status = f"{reply.enhanced} " if reply.enhanced is not None else ""
    return f"{reply.code} {status}{' '.join(reply.lines)}"
