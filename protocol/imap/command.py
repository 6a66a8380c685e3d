"""IMAP commands, RFC 3501 §6 and the extensions that are parsed: one frozen dataclass for each, without any grammar.

Mailbox names are Unicode (INBOX in capitals, "/" between levels), wire words are octets in upper case, and nothing here
has been checked against a mailbox, a session state or a right: that is the daemon's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from protocol.imap.fetch import FetchAttribute
from protocol.imap.modifiers import NO_MODIFIERS, FetchModifiers, Resync
from protocol.imap.search import SearchKey
from protocol.imap.sequence import SequenceSet


@dataclass(frozen=True, slots=True)
class Command:
    """What all commands have."""

    tag: bytes


# Any state


@dataclass(frozen=True, slots=True)
class Capability(Command):
    """CAPABILITY, RFC 3501 §6.1.1."""


@dataclass(frozen=True, slots=True)
class Noop(Command):
    """NOOP, RFC 3501 §6.1.2."""


@dataclass(frozen=True, slots=True)
class Logout(Command):
    """LOGOUT, RFC 3501 §6.1.3."""


@dataclass(frozen=True, slots=True)
class Id(Command):
    """ID, RFC 2971 §3.1."""

    parameters: Mapping[bytes, bytes | None] | None  # names in lower case; None for NIL


# Not authenticated state


@dataclass(frozen=True, slots=True)
class StartTls(Command):
    """STARTTLS, RFC 3501 §6.2.1. The reader waits; it must be replaced by a new one when TLS is on."""


@dataclass(frozen=True, slots=True)
class Authenticate(Command):
    """AUTHENTICATE, RFC 3501 §6.2.2 with RFC 4959's initial response. The reader waits."""

    mechanism: bytes  # upper case
    initial: bytes | None  # decoded; b"" for "="


@dataclass(frozen=True, slots=True)
class Login(Command):
    """LOGIN, RFC 3501 §6.2.3."""

    user: bytes
    password: bytes

    def __repr__(self) -> str:  # a password must not reach a log or a traceback
        return f"Login(tag={self.tag!r})"


# Authenticated state


@dataclass(frozen=True, slots=True)
class Unauthenticate(Command):
    """UNAUTHENTICATE, RFC 8437 §3. The reader waits."""


@dataclass(frozen=True, slots=True)
class Enable(Command):
    """ENABLE, RFC 5161 §3.1. The reader waits, since what is enabled may change how the next command reads."""

    capabilities: tuple[bytes, ...]  # upper case


@dataclass(frozen=True, slots=True)
class Namespace(Command):
    """NAMESPACE, RFC 2342 §5."""


@dataclass(frozen=True, slots=True)
class Select(Command):
    """SELECT, RFC 3501 §6.3.1."""

    mailbox: str
    is_condstore: bool = False  # RFC 7162 §3.1.8
    resync: Resync | None = None  # RFC 7162 §3.2.5


@dataclass(frozen=True, slots=True)
class Examine(Command):
    """EXAMINE, RFC 3501 §6.3.2."""

    mailbox: str
    is_condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create(Command):
    """CREATE, RFC 3501 §6.3.3, with RFC 6154 §3's USE. A trailing "/" is kept: it announces children only."""

    mailbox: str
    special_use: tuple[bytes, ...] = ()  # rb"\Sent", known ones in their usual spelling


@dataclass(frozen=True, slots=True)
class Delete(Command):
    """DELETE, RFC 3501 §6.3.4."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename(Command):
    """RENAME, RFC 3501 §6.3.5."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Subscribe(Command):
    """SUBSCRIBE, RFC 3501 §6.3.6."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Unsubscribe(Command):
    """UNSUBSCRIBE, RFC 3501 §6.3.7."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class List(Command):
    """LIST, RFC 3501 §6.3.8 and RFC 5258 §3. `LIST "" ""` asks for the delimiter only."""

    reference: str
    patterns: tuple[str, ...]
    selection: tuple[bytes, ...] = ()  # SUBSCRIBED, REMOTE, RECURSIVEMATCH, SPECIAL-USE
    returns: tuple[bytes, ...] = ()  # SUBSCRIBED, CHILDREN, SPECIAL-USE, MYRIGHTS, STATUS
    status_items: tuple[bytes, ...] = ()  # of RETURN (STATUS (…)), RFC 5819 §2
    is_extended: bool = False  # any part of the extended syntax was used
    entries: tuple[str, ...] = ()  # of RETURN (METADATA (…)), RFC 9590 §3


@dataclass(frozen=True, slots=True)
class Lsub(Command):
    """LSUB, RFC 3501 §6.3.9."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Status(Command):
    """STATUS, RFC 3501 §6.3.10."""

    mailbox: str
    items: tuple[bytes, ...]  # upper case, each once


@dataclass(frozen=True, slots=True)
class Idle(Command):
    """IDLE, RFC 2177 §3. The reader waits; DONE comes as a Line."""


# Selected state


@dataclass(frozen=True, slots=True)
class Check(Command):
    """CHECK, RFC 3501 §6.4.1."""


@dataclass(frozen=True, slots=True)
class Close(Command):
    """CLOSE, RFC 3501 §6.4.2."""


@dataclass(frozen=True, slots=True)
class Unselect(Command):
    """UNSELECT, RFC 3691 §2."""


@dataclass(frozen=True, slots=True)
class Expunge(Command):
    """EXPUNGE, RFC 3501 §6.4.3; with a set it is UID EXPUNGE, RFC 4315 §2.1."""

    uids: SequenceSet | None = None


@dataclass(frozen=True, slots=True)
class Search(Command):
    """SEARCH and UID SEARCH, RFC 3501 §6.4.4; `returns` is RFC 4731 §3.1's, None for the classic answer."""

    key: SearchKey
    is_uid: bool = False
    returns: tuple[bytes, ...] | None = None  # MIN, MAX, ALL, COUNT, SAVE, PARTIAL, UPDATE, …; () means ALL
    charset: str | None = None  # as Python names it; None if the client named none
    partial: tuple[int, int] | None = None  # of PARTIAL: from and to, counted from 1, or from the end if negative
    update: tuple[FetchAttribute, ...] = ()  # of UPDATE: to be fetched of new messages, RFC 5465 §7


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    """FETCH and UID FETCH, RFC 3501 §6.4.5. With is_uid every answer carries UID, asked for or not (§6.4.8)."""

    sequence: SequenceSet
    attributes: tuple[FetchAttribute, ...]
    is_uid: bool = False
    modifiers: FetchModifiers = NO_MODIFIERS


@dataclass(frozen=True, slots=True)
class Store(Command):
    """STORE and UID STORE, RFC 3501 §6.4.6."""

    sequence: SequenceSet
    operation: Literal["replace", "add", "remove"]
    flags: tuple[bytes, ...]  # canonical, each once, without \\Recent
    is_silent: bool = False
    is_uid: bool = False
    unchanged_since: int | None = None  # RFC 7162 §3.1.3


@dataclass(frozen=True, slots=True)
class Copy(Command):
    """COPY and UID COPY, RFC 3501 §6.4.7."""

    sequence: SequenceSet
    mailbox: str
    is_uid: bool = False


@dataclass(frozen=True, slots=True)
class Move(Command):
    """MOVE and UID MOVE, RFC 6851 §3."""

    sequence: SequenceSet
    mailbox: str
    is_uid: bool = False


@dataclass(frozen=True, slots=True)
class UidBatches(Command):
    """UIDBATCHES: UID ranges of `size_messages` messages each, from the newest down (draft-ietf-mailmaint-imap-uidbatches)."""

    size_messages: int
    batches: tuple[int, int] | None = None  # the first and the last one wanted, counted from 1
