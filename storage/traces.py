"""The delivery trace: notes of what became of messages, sealed with keys derived from the tenants', and found again.

Nothing of a note is legible in the database but the message's id and the time. An address is found by a keyed digest of it; a
search by domain, which has none, opens what lies in its time.
"""

import hmac
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage import choices
from storage.accounts import domain_name
from storage.blobs.keys import KeyRing, Wrapper
from storage.errors import CorruptError
from storage.pool import Connection, Pool, reported

_NONCE_OCTETS = 12
_DAY_SECONDS = 86400
_PAGE = 500  # messages that a search opens at once
INDEXED = frozenset({"received", "refused", "queued", "bounced"})  # kinds of notes whose addresses can be searched for

_ENCODER = msgspec.msgpack.Encoder(enc_hook=str)
_WRITE = """
WITH kept AS MATERIALIZED (
    SELECT tenant_id FROM tenant WHERE tenant_id = ANY ($1::bigint[]) AND coalesce(trace_days, $2) > 0),
tagged AS (
    INSERT INTO trace_tag (tenant_id, day, tag, trace_id)
    SELECT tenant_id, day, tag, trace_id
      FROM unnest($7::bigint[], $8::integer[], $9::bigint[], $10::bytea[]) AS t (tenant_id, day, tag, trace_id)
      JOIN kept USING (tenant_id)
     ORDER BY 1, 2, 3, 4 ON CONFLICT DO NOTHING)
INSERT INTO trace_record (tenant_id, trace_id, happened_at, sealed)
SELECT tenant_id, trace_id, happened_at, sealed
  FROM unnest($3::bigint[], $4::bytea[], $5::timestamptz[], $6::bytea[]) AS r (tenant_id, trace_id, happened_at, sealed)
  JOIN kept USING (tenant_id)
"""
_RECORDS = """
SELECT tenant_id, trace_id, sealed FROM trace_record WHERE trace_id = ANY ($1::bytea[]) AND tenant_id = ANY ($2::bigint[])
"""
_TENANTS_OF = "SELECT DISTINCT tenant_id FROM trace_record WHERE trace_id = $1"
_TAGGED = """
SELECT t.trace_id FROM generate_series($3::integer, $4::integer, -1) AS d (day)
  JOIN trace_tag AS t ON t.tenant_id = $1 AND t.day = d.day AND t.tag = $2
"""
_BETWEEN = """
SELECT trace_id, happened_at FROM trace_record
 WHERE tenant_id = $1 AND happened_at >= $2 AND happened_at < $3 ORDER BY happened_at DESC LIMIT $4
"""
_QUEUED = """
SELECT r.recipient_id, m.trace_id, m.tenant_id, r.forward_path, r.state, r.next_attempt_at, r.last_reply,
       a.attempt, a.tried_at, a.host, a.tls, a.reply
  FROM outbound_message AS m JOIN outbound_recipient AS r USING (outbound_id)
  LEFT JOIN outbound_attempt AS a USING (recipient_id)
 WHERE m.trace_id = ANY ($1::text[]) ORDER BY r.recipient_id, a.attempt
"""
_FORGET_RECORDS = """
DELETE FROM trace_record WHERE ctid = ANY (ARRAY(
    SELECT r.ctid FROM tenant AS t
     CROSS JOIN LATERAL (SELECT ctid FROM trace_record WHERE tenant_id = t.tenant_id
           AND happened_at < now() - make_interval(secs => coalesce(t.trace_days * 86400.0, $1)) LIMIT $2) AS r LIMIT $2))
"""
_FORGET_TAGS = """
DELETE FROM trace_tag WHERE ctid = ANY (ARRAY(
    SELECT r.ctid FROM tenant AS t
     CROSS JOIN LATERAL (SELECT ctid FROM trace_tag WHERE tenant_id = t.tenant_id
           AND day < floor((extract(epoch FROM now()) - coalesce(t.trace_days * 86400.0, $1)) / 86400) LIMIT $2) AS r LIMIT $2))
"""


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened to a message."""

    at: datetime
    kind: str
    facts: Mapping[str, Any]


class NewNote(NamedTuple):
    """A note to be written."""

    tenant_id: int
    trace_id: str  # 16 hexadecimal digits
    at: float  # seconds since 1970
    kind: str
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Trace:
    """All that a tenant has of one message, in the order it happened."""

    trace_id: str
    tenant_id: int
    notes: tuple[Note, ...]

    def addresses(self, *names: str) -> list[str]:
        """The addresses that its notes name under these facts, each once."""
        return list(dict.fromkeys(found for note in self.notes for found in _addresses(note.facts, names)))


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt that the queue has a record of."""

    attempt: int
    at: datetime
    host: str
    tls: str
    reply: str


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """A recipient as the queue has it now."""

    trace_id: str
    tenant_id: int
    forward_path: str
    state: str
    next_attempt_at: datetime
    last_reply: str | None
    attempts: list[Attempted]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for. A sender or recipient is an address, or a domain ("example.org", "@example.org")."""

    since: datetime
    until: datetime
    sender: str | None = None
    recipient: str | None = None


SENDER_FACTS = ("reverse_path", "authors", "login")
RECIPIENT_FACTS = ("forward_path", "forward_paths")


class Sealer:
    """Seals and opens the notes of one tenant. Wrapper.derived() gives the keys, so that blob keys and notes share no nonces."""

    def __init__(self, tenant_id: int, wrapper: Wrapper) -> None:
        self._bound_to = tenant_id.to_bytes(8, "big")
        self._cipher = AESGCM(wrapper.derived(b"trace"))
        self._tag_key = wrapper.derived(b"trace tags")

    def seal(self, trace_id: bytes, notes: Sequence[NewNote]) -> bytes:
        """Raises TypeError for facts that cannot be written down."""
        nonce = os.urandom(_NONCE_OCTETS)
        octets = _ENCODER.encode([(note.at, note.kind, note.facts) for note in notes])
        return nonce + self._cipher.encrypt(nonce, octets, self._bound_to + trace_id)

    def open(self, trace_id: bytes, sealed: bytes) -> list[Note]:
        """Raises CorruptError when the octets were changed, moved, or sealed for another tenant."""
        try:
            octets = self._cipher.decrypt(sealed[:_NONCE_OCTETS], sealed[_NONCE_OCTETS:], self._bound_to + trace_id)
        except (InvalidTag, ValueError) as error:
            raise CorruptError("a note of the trace does not open") from error
        return [
            Note(datetime.fromtimestamp(at, UTC), kind, facts) for at, kind, facts in msgspec.msgpack.decode(octets)
        ]

    def tag(self, side: str, address: str) -> int:
        """What stands in the index for an address as "from" or as "to"."""
        digest = hmac.digest(self._tag_key, f"{side} {_plain(address)}".encode(errors="surrogatepass"), "sha256")
        return int.from_bytes(digest[:8], "big", signed=True)

    def tags(self, note: NewNote) -> list[int]:
        """Those of a note that can be searched for."""
        if note.kind not in INDEXED:
            return []
        senders, recipients = _addresses(note.facts, SENDER_FACTS), _addresses(note.facts, RECIPIENT_FACTS)
        return [self.tag("from", each) for each in senders] + [self.tag("to", each) for each in recipients]


@dataclass(slots=True)
class Batch:
    """Rows to be written by one statement."""

    tenants: list[int]
    traces: list[bytes]
    times: list[datetime]
    sealed: list[bytes]
    tags: list[tuple[int, int, int, bytes]]

    @classmethod
    def empty(cls) -> "Batch":
        """Without rows."""
        return cls([], [], [], [], [])

    def add(self, sealer: Sealer, notes: Sequence[NewNote]) -> None:
        """Notes of one message and tenant, in their order. Raises TypeError, ValueError for what cannot be written."""
        first = notes[0]
        trace_id = bytes.fromhex(first.trace_id)
        sealed = sealer.seal(trace_id, notes)
        tags = {(int(note.at) // _DAY_SECONDS, tag) for note in notes for tag in sealer.tags(note)}
        self.tags += [(first.tenant_id, day, tag, trace_id) for day, tag in tags]
        self.tenants.append(first.tenant_id)
        self.traces.append(trace_id)
        self.times.append(datetime.fromtimestamp(first.at, UTC))
        self.sealed.append(sealed)


async def write(pool: Pool, batch: Batch, *, default_days: float) -> None:
    """Write it, but for tenants that keep no trace. Raises UnavailableError.

    Nobody waits for the disk: what a crash of the server loses is less than what one of our own process loses.
    """
    if not batch.tenants:
        return
    tags = zip(*batch.tags, strict=True) if batch.tags else ([], [], [], [])
    async with reported(), pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = off")
        await connection.execute(
            _WRITE, list(set(batch.tenants)), default_days, batch.tenants, batch.traces, batch.times, batch.sealed,
            *(list(column) for column in tags),
        )  # fmt: skip


async def by_id(pool: Pool, keys: KeyRing, trace_id: str) -> list[Trace]:
    """What every tenant has of the message; one that went to several tenants has several. Raises CorruptError."""
    tenants = [row[0] for row in await pool.fetch(_TENANTS_OF, bytes.fromhex(trace_id))]
    return await _opened(pool, keys, [bytes.fromhex(trace_id)], tenants)


async def search(pool: Pool, keys: KeyRing, tenant_id: int, wanted: Wanted) -> AsyncIterator[Trace]:
    """The tenant's messages that match, the latest first. Raises CorruptError."""
    seen: set[bytes] = set()
    async for page in _candidates(pool, keys, tenant_id, wanted):
        fresh = [trace_id for trace_id in dict.fromkeys(page) if trace_id not in seen]
        seen.update(fresh)
        found = [trace for trace in await _opened(pool, keys, fresh, [tenant_id]) if _matches(trace, wanted)]
        for trace in sorted(found, key=lambda trace: trace.notes[0].at, reverse=True):
            yield trace


async def queued_of(pool: Pool, trace_ids: Sequence[str]) -> list[QueuedRecipient]:
    """What the queue has of these messages now: it knows also what a crash took from the trace."""
    found: dict[int, QueuedRecipient] = {}
    for row in await pool.fetch(_QUEUED, list(trace_ids)):
        recipient = found.get(row["recipient_id"])
        if recipient is None:
            recipient = found[row["recipient_id"]] = QueuedRecipient(
                row["trace_id"], row["tenant_id"], row["forward_path"], row["state"], row["next_attempt_at"], row["last_reply"], []
            )  # fmt: skip
        if row["attempt"] is not None:
            recipient.attempts.append(
                Attempted(row["attempt"], row["tried_at"], row["host"], row["tls"], row["reply"])
            )  # fmt: skip
    return list(found.values())


async def mailboxes_of(pool: Pool, traces: Iterable[Trace]) -> dict[int, str]:
    """The mailboxes that their notes name and that still exist, as "login/NAME"."""
    ids = {note.facts["mailbox_id"] for trace in traces for note in trace.notes if "mailbox_id" in note.facts}
    rows = await pool.fetch(
        "SELECT mailbox_id, a.login || '/' || m.name FROM mailbox AS m JOIN account AS a USING (account_id) "
        "WHERE mailbox_id = ANY ($1::bigint[])",
        list(ids),
    )
    return {row[0]: row[1] for row in rows}


async def set_days(connection: Connection, tenant: str, days: int | None) -> None:
    """How long the tenant's trace is kept; None: as configured; 0: no more is recorded. Raises NotFoundError."""
    await choices.choose(connection, "trace_days", tenant, days)


async def days_of(connection: Connection, tenant: str) -> int | None:
    """How long the tenant's trace is kept, where it differs from the configuration. Raises NotFoundError."""
    days: int | None = await choices.chosen(connection, "trace_days", tenant)
    return days


async def forget(connection: Connection, batch_limit: int, *, older_than_seconds: float) -> int:
    """Remove what is too old, at most batch_limit records and as many tags; gives how many these were."""
    removed = 0
    for statement in (_FORGET_RECORDS, _FORGET_TAGS):
        status: str = await connection.execute(statement, older_than_seconds, batch_limit)
        removed += int(status.rpartition(" ")[2])
    return removed


async def _candidates(pool: Pool, keys: KeyRing, tenant_id: int, wanted: Wanted) -> AsyncIterator[Sequence[bytes]]:
    """Ids of messages that may match, by pages, the latest first."""
    named = [
        (side, address)
        for side, address in (("from", wanted.sender), ("to", wanted.recipient))
        if address is not None and "@" in address.lstrip("@")
    ]
    if named:
        sealer = Sealer(tenant_id, await keys.tenant(pool, tenant_id))
        last, first = (int(moment.timestamp()) // _DAY_SECONDS for moment in (wanted.until, wanted.since))
        found: list[dict[bytes, None]] = []
        for side, address in named:
            rows = await pool.fetch(_TAGGED, tenant_id, sealer.tag(side, address), last, first)
            found.append(dict.fromkeys(row[0] for row in rows))
        common = [trace_id for trace_id in found[0] if all(trace_id in other for other in found)]
        for start in range(0, len(common), _PAGE):
            yield common[start : start + _PAGE]
        return
    until = wanted.until
    while rows := await pool.fetch(_BETWEEN, tenant_id, wanted.since, until, _PAGE):
        yield [row[0] for row in rows]
        # Records of one moment may be cut by the page: they come again, and are passed over as seen.
        until = rows[-1][1] + timedelta(microseconds=1) if rows[0][1] != rows[-1][1] else rows[-1][1]
        if len(rows) < _PAGE:
            return


async def _opened(pool: Pool, keys: KeyRing, trace_ids: Sequence[bytes], tenants: Iterable[int]) -> list[Trace]:
    sealers = {tenant_id: Sealer(tenant_id, await keys.tenant(pool, tenant_id)) for tenant_id in tenants}
    notes: dict[tuple[bytes, int], list[Note]] = {}
    for tenant_id, trace_id, sealed in await pool.fetch(_RECORDS, list(trace_ids), list(sealers)):
        own = notes.setdefault((trace_id, tenant_id), [])
        # A batch whose commit got lost on the way was written again: the same microsecond is the same note.
        own += [note for note in sealers[tenant_id].open(trace_id, sealed) if note not in own]
    return [
        Trace(trace_id.hex(), tenant_id, tuple(sorted(own, key=lambda note: note.at)))
        for (trace_id, tenant_id), own in notes.items()
    ]


def _matches(trace: Trace, wanted: Wanted) -> bool:
    if not any(wanted.since <= note.at < wanted.until for note in trace.notes):
        return False
    for sought, names in ((wanted.sender, SENDER_FACTS), (wanted.recipient, RECIPIENT_FACTS)):
        if sought is not None and not any(_is_meant(address, sought) for address in trace.addresses(*names)):
            return False
    return True


def _is_meant(address: str, sought: str) -> bool:
    if "@" in sought.lstrip("@"):
        return _plain(address) == _plain(sought)
    return domain_name(address.rpartition("@")[2]) == domain_name(sought.lstrip("@"))


def _addresses(facts: Mapping[str, object], names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        match facts.get(name):
            case str() as address if address:
                found.append(address)
            case list() | tuple() as several:
                found += [str(address) for address in several]
    return found


def _plain(address: str) -> str:
    local_part, at, domain = address.rpartition("@")
    return local_part.lower() + at + domain_name(domain)
