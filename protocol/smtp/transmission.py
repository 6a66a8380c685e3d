"""One mail transaction from the client's side: what is to be sent, its commands, what became of each recipient.

Values only. Which parameters go onto MAIL and RCPT follows from what the server offers (RFC 5321 §2.2.1: nothing is used
that was not offered); what cannot be left out although the server does not offer it is an obstacle.
"""

import re
from dataclasses import dataclass
from typing import Literal

from protocol.address import ADDR_SPEC
from protocol.smtp.capabilities import Capabilities
from protocol.smtp.grammar import encode_orcpt, encode_xtext
from protocol.smtp.reply import Reply, reply

_PATH = re.compile(rf"{ADDR_SPEC}|postmaster", re.IGNORECASE)

BAD_REVERSE_PATH = reply(550, "5.1.7", "sender address is malformed")
BAD_FORWARD_PATH = reply(550, "5.1.3", "recipient address is malformed")
NEEDS_SMTPUTF8 = reply(553, "5.6.7", "next server does not take internationalized addresses or headers")
NEEDS_8BITMIME = reply(554, "5.6.3", "next server does not take 8-bit content")
NEEDS_BINARYMIME = reply(554, "5.6.3", "next server does not take binary content")
NEEDS_REQUIRETLS = reply(550, "5.7.30", "next server does not promise TLS on the rest of the way")
NEEDS_DELIVERBY = reply(550, "5.3.3", "next server does not know when a message must be delivered by")
TOO_LATE = reply(550, "5.4.7", "next server cannot deliver the message in time")
TOO_BIG = reply(552, "5.3.4", "message is larger than the next server takes")

Body = Literal["7BIT", "8BITMIME", "BINARYMIME"]
State = Literal["delivered", "failed", "deferred"]


@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT."""

    forward_path: str  # as it stands between the angle brackets
    notify: tuple[str, ...] | None = None  # NOTIFY=, RFC 3461 §4.1
    orcpt: str | None = None  # ORCPT=, "addr-type;address", the address decoded


@dataclass(frozen=True, slots=True)
class Transaction:
    """One MAIL with its recipients. What the server does not offer and the message can do without is left out."""

    reverse_path: str  # as it stands between the angle brackets; "" is the null reverse-path
    recipients: tuple[Recipient, ...]
    size_octets: int | None = None  # exact where it is given: small messages go out in one flight
    body: Body = "7BIT"
    is_smtputf8: bool = False  # the message or an address needs it, RFC 6531 §3.4
    is_requiretls: bool = False
    ret: str | None = None  # RET=FULL or HDRS
    envid: str | None = None  # ENVID=, decoded
    deliver_by_seconds: int | None = None  # BY=, what is left of it now; may be negative in mode N, RFC 2852 §4
    deliver_by_mode: Literal["N", "R", "NT", "RT"] = "N"  # T: each relay tells the sender of itself
    priority: int | None = None  # MT-PRIORITY=, RFC 6710 §4.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient.

    reply: the server's own, or ours where it said nothing (is_remote False). phase: the command that it answers.
    is_uncertain: the connection died between the end of the message and the reply, so it may have been delivered.
    is_surplus: refused for now only because the transaction has enough recipients; the next one may have it at once.
    """

    recipient: Recipient
    state: State
    reply: Reply
    phase: str
    is_remote: bool = True
    is_uncertain: bool = False
    is_surplus: bool = False


def state_of(answer: Reply) -> State:
    """What a final reply means for a recipient."""
    if answer.code < 300:
        return "delivered"
    return "failed" if answer.code >= 500 else "deferred"


def obstacle(transaction: Transaction, capabilities: Capabilities, *, is_secure: bool) -> Reply | None:
    """Why this transaction cannot be sent to such a server at all, in the words of a reply; None when it can."""
    if transaction.reverse_path and _PATH.fullmatch(transaction.reverse_path) is None:
        return BAD_REVERSE_PATH
    if not all(_PATH.fullmatch(recipient.forward_path) for recipient in transaction.recipients):
        return BAD_FORWARD_PATH
    if (transaction.is_smtputf8 or not _is_ascii(transaction)) and not capabilities.has_smtputf8:
        return NEEDS_SMTPUTF8
    if transaction.body == "BINARYMIME" and not capabilities.has_binarymime:
        return NEEDS_BINARYMIME
    if transaction.body == "8BITMIME" and not capabilities.has_8bitmime:
        return NEEDS_8BITMIME
    if transaction.is_requiretls and not (is_secure and capabilities.has_requiretls):
        return NEEDS_REQUIRETLS
    if transaction.deliver_by_seconds is not None and transaction.deliver_by_mode.startswith("R"):
        if not capabilities.has_deliverby:
            return NEEDS_DELIVERBY
        if transaction.deliver_by_seconds < max(1, capabilities.deliverby_seconds):
            return TOO_LATE
    if transaction.size_octets is not None and transaction.size_octets > (capabilities.size_limit or float("inf")):
        return TOO_BIG
    return None


def _is_ascii(transaction: Transaction) -> bool:
    return transaction.reverse_path.isascii() and all(
        recipient.forward_path.isascii() for recipient in transaction.recipients
    )


def mail_command(transaction: Transaction, capabilities: Capabilities) -> bytes:
    """MAIL with the parameters that this server takes."""
    words = [f"MAIL FROM:<{transaction.reverse_path}>"]
    if capabilities.has_size and transaction.size_octets is not None:
        words.append(f"SIZE={transaction.size_octets}")
    if transaction.body != "7BIT" and capabilities.has_8bitmime:
        words.append(f"BODY={transaction.body}")
    if capabilities.has_smtputf8 and (transaction.is_smtputf8 or not _is_ascii(transaction)):
        words.append("SMTPUTF8")
    if capabilities.has_dsn:
        words += [f"RET={transaction.ret}"] if transaction.ret is not None else []
        words += [f"ENVID={encode_xtext(transaction.envid)}"] if transaction.envid is not None else []
    if capabilities.has_deliverby and transaction.deliver_by_seconds is not None:
        words.append(f"BY={transaction.deliver_by_seconds};{transaction.deliver_by_mode}")
    if capabilities.has_mt_priority and transaction.priority is not None:
        words.append(f"MT-PRIORITY={transaction.priority}")
    if transaction.is_requiretls:
        words.append("REQUIRETLS")
    return " ".join(words).encode() + b"\r\n"


def rcpt_command(recipient: Recipient, transaction: Transaction, capabilities: Capabilities) -> bytes:
    """RCPT with the parameters that this server takes."""
    command = f"RCPT TO:<{recipient.forward_path}>"
    if capabilities.has_dsn:
        if recipient.notify is not None:
            command += f" NOTIFY={','.join(recipient.notify)}"
        if recipient.orcpt is not None:
            command += f" ORCPT={encode_orcpt(recipient.orcpt, is_smtputf8=transaction.is_smtputf8)}"
    return command.encode() + b"\r\n"
