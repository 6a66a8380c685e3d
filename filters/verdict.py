"""What a filter may say: verdicts of the envelope and content stages. Values only. Of the delivery stage: filters/sieve/actions.py.

A filter returns any number of verdicts; none at all means it has no objection.
"""

import re
from dataclasses import dataclass
from typing import Literal

from protocol.smtp.reply import Reply

_FIELD_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 §3.6.8, ftext
_BARE_BREAK = re.compile(r"\r(?!\n)|(?<!\r)\n|\r\n(?![ \t])")


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse the command or the message with this reply: 5yz rejects for good, 4yz defers."""

    reply: Reply
    reason: str  # for the log
    account_id: int | None = None  # whom it concerns; None: all. SMTP has one reply: it counts when all of them refuse

    def __post_init__(self) -> None:
        if self.reply.is_positive:
            raise ValueError("a refusal needs a 4yz or 5yz reply")


@dataclass(frozen=True, slots=True)
class Score:
    """Points towards (or, below zero, away from) being spam."""

    points: float
    reason: str
    account_id: int | None = None  # for whom; None: for all


@dataclass(frozen=True, slots=True)
class AddField:
    """Add a header field on top of the message. The value may be folded; it cannot smuggle in a further field."""

    name: str
    value: str
    account_id: int | None = None  # in whose copy; None: in all

    def __post_init__(self) -> None:
        if _FIELD_NAME.fullmatch(self.name) is None or _BARE_BREAK.search(self.value) is not None:
            raise ValueError("not a header field")

    @property
    def octets(self) -> bytes:
        """The field as it stands in the message, CRLF included."""
        return f"{self.name}: {self.value}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Accept the message, but keep it from all mailboxes until somebody releases it."""

    reason: str
    tenant_id: int | None = None  # for whose recipients; None: for all
    account_id: int | None = None  # for whom; None: for all of the tenant


@dataclass(frozen=True, slots=True)
class Junk:
    r"""Deliver to the \Junk mailbox unless a rule of the recipient files it elsewhere."""

    reason: str
    tenant_id: int | None = None  # for whose recipients; None: for all
    account_id: int | None = None  # for whom; None: for all of the tenant


@dataclass(frozen=True, slots=True)
class StripPart:
    """Accept the message without the body of one part, named as in an IMAP section: (2, 1) is part 2.1."""

    part: tuple[int, ...]
    reason: str
    tenant_id: int | None = None  # for whose recipients; None: for all
    cause: Literal["virus", "attachment", "encrypted"] = "attachment"  # what the recipient is told


@dataclass(frozen=True, slots=True)
class Drop:
    """Accept the message and deliver it to nobody."""

    reason: str
    tenant_id: int | None = None  # for whose recipients; None: for all
    account_id: int | None = None  # to whom it is not delivered; None: to nobody of the tenant


@dataclass(frozen=True, slots=True)
class RemoveField:
    """Deliver the message without a field of its header section. The archive, and who gets it elsewhere, have it as it came."""

    octets: bytes  # the whole field as it stands there, with its line end
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a filter found out that others may need (`needs`, Subject.noted). It says nothing about the message."""

    value: object


Verdict = Refuse | Score | AddField | Quarantine | Junk | StripPart | Drop | RemoveField | Finding
