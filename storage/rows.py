"""The values that cross storage's border: plain, frozen, without any wire grammar."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from storage.effects import Effect

# System flags as bits of message.flags (RFC 3501 §2.3.2). \Recent is no stored flag: it follows from mailbox.recent_uid.
SEEN, ANSWERED, FLAGGED, DELETED, DRAFT = 1, 2, 4, 8, 16


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where mail for one address goes."""

    tenant_id: int
    account_id: int
    inbox_id: int
    is_disabled: bool  # receives nothing (row 26)
    is_over_quota: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """What becomes of mail for one address."""

    tenant_id: int
    recipient: Recipient | None  # the account of the address
    forward_paths: tuple[str, ...] = ()  # addr-specs
    keeps: bool = True  # False: the account gets nothing, only those do

    @property
    def is_plain(self) -> bool:
        """Nothing is passed on."""
        return not self.forward_paths


@dataclass(frozen=True, slots=True)
class AppPassword:
    """A random password for one program or device."""

    app_password_id: int
    digest: bytes  # SHA-256
    scram_keys: bytes  # StoredKey and ServerKey, RFC 5802 §3
    scopes: frozenset[str]  # imap, pop3, smtp, sieve
    networks: tuple[IPv4Network | IPv6Network, ...]  # empty: from anywhere
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Login:
    """What is needed to check a password."""

    account_id: int
    tenant_id: int
    login: str
    password_hash: str  # argon2id, PHC string format
    is_disabled: bool
    scram_sha_256: str | None = None  # the same password's SCRAM verifier, RFC 5803 §2
    tenant: str = ""
    app_passwords: tuple[AppPassword, ...] = ()


@dataclass(frozen=True, slots=True)
class AppPasswordRow:
    """An app password as the command line shows it."""

    app_password_id: int
    login: str
    label: str
    scopes: list[str]
    networks: list[str]
    expires_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Attack:
    """A failed login, with what identifies who tried. It is kept for days, and nowhere else."""

    happened_at: datetime
    tenant_id: int | None  # whose account was meant
    service: str
    mechanism: str
    reason: str
    peer: str  # IP address
    login: str
    client: str


@dataclass(frozen=True, slots=True)
class AttackRow:
    """An attack as the command line shows it."""

    happened_at: datetime
    tenant: str | None
    service: str
    mechanism: str
    reason: str
    peer: str
    login: str
    client: str


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One IMAP mailbox with its counters as of the read."""

    mailbox_id: int
    account_id: int
    tenant_id: int
    name: str  # full path in Unicode, "/" between levels; the inbox is exactly "INBOX"
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    message_count: int
    unseen_count: int
    size_octets: int
    recent_uid: int  # UIDs >= this have not been told to any session as \Recent
    special_use: str | None  # r"\Sent", r"\Trash", …: RFC 6154
    is_selectable: bool
    is_seen_shared: bool = True  # False: everybody but the owner has a \Seen of their own


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """What was computed once at intake about the original octets; storage keeps it and never looks inside."""

    envelope: bytes  # rendered IMAP ENVELOPE
    bodystructure: bytes  # rendered IMAP BODYSTRUCTURE, with extension data
    structure: bytes  # protocol.message's packed part tree; offsets are relative to the original octets
    header_cache: bytes  # the raw header fields clients ask for most, in message order
    sent_at: datetime | None  # Date field, aware
    message_id: bytes | None
    subject: str  # decoded, without change otherwise
    extents: tuple[tuple[int, int], ...] = ()  # (start, length) of large attachment bodies, ascending, disjoint
    sorting: bytes | None = None  # packed sort keys and references


@dataclass(frozen=True, slots=True)
class Placement:
    """One mailbox that gets the message."""

    mailbox_id: int
    flags: int = 0
    keywords: tuple[str, ...] = ()
    internaldate: datetime | None = None  # None: now


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The acceptance record that the archiver turns into a leaf."""

    direction: str  # "in", "out", "internal"
    envelope: bytes  # canonical JSON of the SMTP transaction: reverse path, forward paths, peer's words
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class OutboundRecipient:
    """One remote recipient of a message."""

    forward_path: str  # addr-spec
    domain: str  # where it goes, in lower case: the A-label form, or an address literal like "[192.0.2.1]"
    notify: tuple[str, ...] | None = None  # RFC 3461 §4.1; None: not said
    orcpt: str | None = None  # RFC 3461 §4.2, as it is sent on


@dataclass(frozen=True, slots=True)
class Outbound:
    """What the queue has to know of a message besides its content."""

    account_id: int | None  # who sent it; None: ourselves (bounces, reports, forwarded mail)
    reverse_path: str  # "": the null reverse-path
    trace_id: str  # 16 hexadecimal digits
    recipients: Sequence[OutboundRecipient]
    expires_at: datetime
    envid: str | None = None  # RFC 3461 §4.4
    ret: str | None = None  # "FULL", "HDRS"; RFC 3461 §4.3
    body: str = "7BIT"  # "7BIT", "8BITMIME", "BINARYMIME"
    is_smtputf8: bool = False
    is_requiretls: bool = False
    priority: int = 0  # -9 to 9, RFC 6710 §4.1
    release_at: datetime | None = None  # RFC 4865; None: at once
    deliver_by: datetime | None = None  # RFC 2852
    deliver_by_mode: str | None = None  # "N", "R", with "T" behind it when each relay is to tell of itself
    held_reason: str | None = None  # None: not held


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of one lease. It counts only while the lease is still the settler's: `attempt` is the fence."""

    recipient_id: int
    attempt: int  # Leased.attempts
    state: str  # "delivered", "failed", "waiting", "deleted"
    reply: str  # the remote server's own words, or ours when there is no reply; why it was deleted
    next_attempt_at: datetime | None = None  # of "waiting"
    host: str = ""  # the remote server: name and address
    tls: str = ""  # how the connection was protected
    is_delay_told: bool = False  # the sender is told of the delay in the same transaction
    counts: bool = True  # False: nothing was tried (no room, back-off), so no attempt is recorded
    removed_by: str | None = None  # who deleted it: a record is made
    is_told: bool = False  # of "deleted": the sender gets a report, in the same transaction


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message of one tenant, to be stored once and placed in any number of that tenant's mailboxes."""

    tenant_id: int
    head: bytes  # trace fields that we add on top
    original: bytes | Path  # the octets as accepted; a path is a complete spool file
    facts: ContentFacts
    placements: Sequence[Placement]
    journal: JournalEntry | None = None
    replaces: tuple[int, int] | None = None  # (mailbox, UID) of a message that goes in the same transaction
    outbound: Outbound | None = None  # remote recipients, queued in the same transaction
    settles: Sequence[Settlement] = ()  # what it reports of: settled in the same transaction, or it is not stored
    effects: Sequence[Effect] = ()  # what else is done in the same transaction


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a placement ended up."""

    mailbox_id: int
    uidvalidity: int
    uid: int
    modseq: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A durable message: blobs synced and transaction committed."""

    content_id: int
    placed: tuple[Placed, ...]  # in the order of NewMessage.placements


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One placement as a session's view needs it."""

    uid: int
    modseq: int
    flags: int
    keywords: tuple[str, ...]
    size_octets: int
    internaldate: datetime
    content_id: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened in a mailbox after a MODSEQ, up to and including highestmodseq."""

    highestmodseq: int
    uidnext: int
    changed: tuple[MessageRow, ...]  # new or with other flags, ascending by UID
    expunged: tuple[int, ...]  # ascending
    is_whole: bool = False  # too much was forgotten: changed lists every message, and any other is gone


@dataclass(frozen=True, slots=True)
class StoredFlags:
    """The outcome of a STORE."""

    modseq: int  # what the changed messages got; 0 when none changed
    changed: tuple[MessageRow, ...]
    refused: tuple[int, ...] = field(default=())  # UIDs whose MODSEQ is above UNCHANGEDSINCE (RFC 7162 §3.1.3)


@dataclass(frozen=True, slots=True)
class Copied:
    """UIDs by pairs (RFC 4315 COPYUID)."""

    uidvalidity: int
    source_uids: tuple[int, ...]
    target_uids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TenantRow:
    """One tenant with its counts."""

    tenant_id: int
    name: str
    quota_octets: int | None
    domains: int
    accounts: int
    used_octets: int


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One domain."""

    domain_id: int
    name: str
    tenant: str
    addresses: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account with its usage."""

    account_id: int
    login: str
    tenant: str
    quota_octets: int | None
    used_octets: int
    message_count: int
    is_disabled: bool
    quota_messages: int | None
    is_administrator: bool  # of its tenant's quotas and shared annotations
    copies_sent: bool  # what it sends is stored in its Sent mailbox, too


@dataclass(frozen=True, slots=True)
class TeamRow:
    """One team with its usage."""

    account_id: int
    name: str  # below "Shared/"
    address: str
    tenant: str
    quota_octets: int | None
    used_octets: int
    members: int  # persons with any right


@dataclass(frozen=True, slots=True)
class ForwardRow:
    """One address that forwards."""

    address: str
    forward_paths: list[str]
    keeps: bool
    login: str | None  # of the account of the address


@dataclass(frozen=True, slots=True)
class AddressRow:
    """One address; a local part of "" is the domain's catch-all and shows as "@domain"."""

    address_id: int
    address: str
    login: str
