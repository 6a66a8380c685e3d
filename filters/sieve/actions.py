"""What a script decides: values only. The caller carries them out, in their order.

A message in an action is None when it is the one that came in, and else the octets that the script made of it
(editheader, replace, enclose) at the moment of the action, RFC 5293 §6.
"""

from dataclasses import dataclass, field

from protocol.sieve.errors import Fault


@dataclass(frozen=True, slots=True)
class Fcc:
    """Where a copy of a generated message goes, RFC 8580."""

    mailbox: str
    flags: tuple[str, ...] = ()
    create: bool = False
    mailbox_id: str | None = None
    special_use: str | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """Store in the inbox."""

    flags: tuple[str, ...] = ()
    message: bytes | None = None
    is_implicit: bool = False


@dataclass(frozen=True, slots=True)
class FileInto:
    """Store in the mailbox; when it does not exist and `create` is false, in the inbox."""

    mailbox: str
    flags: tuple[str, ...] = ()
    create: bool = False  # RFC 5490 §3.2
    mailbox_id: str | None = None  # goes before the name when such a mailbox exists, RFC 9042 §5
    special_use: str | None = None  # goes before the name when such a mailbox exists, RFC 8579 §4
    message: bytes | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send on, RFC 5228 §4.2. When `list_name` is set, to all members of that list, and address is empty (RFC 6134)."""

    address: str
    list_name: str | None = None
    notify: tuple[str, ...] | None = None  # NOTIFY of RFC 3461, RFC 6009 §3
    ret: str | None = None  # FULL or HDRS, RFC 6009 §4
    message: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse. ereject prefers a refusal in the SMTP transaction; both may be given so, RFC 5429 §2."""

    reason: str
    is_extended: bool = False  # ereject


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop silently. Told so that the trace shows it; with other actions it means nothing."""


@dataclass(frozen=True, slots=True)
class Vacation:
    """Answer, unless outgoing.vacation_reply says no or the sender was answered within the period, RFC 5230."""

    reason: str
    handle: str  # what the memory is keyed by, together with the sender
    period_seconds: int  # 0: answer each time, RFC 6131 §2
    subject: str | None = None
    from_address: str | None = None
    addresses: tuple[str, ...] = ()
    is_mime: bool = False  # the reason is a MIME entity
    fcc: Fcc | None = None


@dataclass(frozen=True, slots=True)
class Notify:
    """Notify by the method of the URI, RFC 5435."""

    method: str
    message: str | None = None
    from_address: str | None = None
    importance: int = 2  # 1 is high, 3 low
    options: tuple[tuple[str, str], ...] = ()
    fcc: Fcc | None = None


@dataclass(frozen=True, slots=True)
class AddHeader:
    """A field that was added; told for the trace, the actions' messages have it already."""

    name: str
    value: str
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class DeleteHeader:
    """A field that was removed; told for the trace."""

    name: str
    count: int = 1


Action = Keep | FileInto | Redirect | Reject | Discard | Vacation | Notify
Edit = AddHeader | DeleteHeader


@dataclass(frozen=True, slots=True)
class Tracked:
    """An id to remember when the actions were carried out, RFC 7352 §3: only then, or a retry would see a duplicate."""

    handle: str
    unique_id: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the script did, in words, for `postwerk filter explain`."""

    script: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to. With an error, it is what the scripts before came to, and a Keep: a mistake loses no mail."""

    actions: tuple[Action, ...] = ()
    edits: tuple[Edit, ...] = ()
    tracked: tuple[Tracked, ...] = ()
    steps: tuple[Step, ...] = ()
    work: int = 0  # what counts against Limits.work
    error: Fault | None = None  # tell the owner, once
    error_script: str = ""
    message: bytes | None = None  # as the script left it; None: unchanged
    flags: tuple[str, ...] = field(default=())  # the internal variable of imap4flags, for IMAP events (RFC 6785 §3.7)
