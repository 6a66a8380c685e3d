"""The one way in: messages become blobs in a segment and rows in PostgreSQL, durably, many at a time.

While one batch is being committed the next one gathers: no timer when idle, no sync per message when busy. A batch is one
append with one fdatasync, then one statement, which is one transaction and one round trip.
"""

import asyncio
import hashlib
import mmap
import os
from collections import OrderedDict, deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from storage.blobs import codec
from storage.blobs.keys import KEY_OCTETS, KeyRing
from storage.blobs.segments import Location, SegmentWriter, chunks
from storage.errors import (
    DiskError,
    LeaseLostError,
    MailboxNotFoundError,
    NotFoundError,
    StorageError,
    UnavailableError,
)
from storage.messages import remove
from storage.outbound import SETTLE, settlement_arrays
from storage.pool import Pool, reported
from storage.rows import NewMessage, Placed, Stored
from storage.statements import COMMITTED, INGEST, INGEST_AND_QUEUE, KNOWN_BLOBS, LOCK_MAILBOXES, PLACED

_CONTENT_BLOCK = 1024  # ids taken from the sequence content_block at once
_BATCH_MESSAGES = 256
_BATCH_OCTETS = 16 << 20
_ASK_ABOVE_OCTETS = 16 << 10  # blobs from here on are looked for in the database before they are written
_RECENT_BLOBS = 50_000
_INLINE_OCTETS = 64 << 10  # what a lone message may write and sync without a thread
_CLOSING_SECONDS = 10.0  # for the transaction that runs at shutdown
_THREAD_ABOVE_OCTETS = 256 << 10  # hashing more than this would hold the loop for longer than a thread hop costs
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # a killed server is back within these, or the peer gets 451


@dataclass(frozen=True, slots=True)
class _Blob:
    """Octets that must be stored, unless the tenant has them already."""

    tenant_id: int
    digest: bytes
    plain_octets: int
    buffer: bytes | mmap.mmap
    ranges: tuple[tuple[int, int], ...]


_Name: TypeAlias = tuple[int, bytes]  # (tenant, digest)
_Written: TypeAlias = dict[_Blob, tuple[Location, bytes]]  # where the new blobs lie, and their wrapped keys


@dataclass(slots=True)
class _Plan:
    """One message, hashed and cut into blobs."""

    message: NewMessage
    digest: bytes
    size_octets: int
    skeleton: _Blob
    parts: list[tuple[int, _Blob]]  # (start octet in the original, blob)
    buffer: bytes | mmap.mmap
    content_id: int = 0

    def blobs(self) -> Iterator[_Blob]:
        yield self.skeleton
        for _, blob in self.parts:
            yield blob

    def close(self) -> None:
        if isinstance(self.buffer, mmap.mmap):
            self.buffer.close()


@dataclass(slots=True)
class _Group:
    """What store() was called with: committed together or not at all."""

    plans: list[_Plan]
    size_octets: int
    done: asyncio.Future[list[Stored]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


def _digest(buffer: bytes | mmap.mmap, ranges: Iterable[tuple[int, int]]) -> bytes:
    hashed = hashlib.sha256()
    for chunk in chunks(buffer, ranges):
        hashed.update(chunk)
    return hashed.digest()


def _buffer(original: bytes | Path) -> bytes | mmap.mmap:
    if isinstance(original, bytes):
        return original
    descriptor = os.open(original, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)


def _plan(message: NewMessage) -> _Plan:
    buffer = _buffer(message.original)
    size, tenant_id = len(buffer), message.tenant_id
    digest = _digest(buffer, [(0, size)]) if not isinstance(buffer, bytes) else hashlib.sha256(buffer).digest()
    parts, kept, at = [], [], 0
    for start, length in message.facts.extents:
        ranges = ((start, start + length),)
        parts.append((start, _Blob(tenant_id, _digest(buffer, ranges), length, buffer, ranges)))
        kept.append((at, start))
        at = start + length
    kept.append((at, size))
    if parts:
        skeleton = _Blob(tenant_id, _digest(buffer, kept), sum(end - start for start, end in kept), buffer, tuple(kept))
    else:
        skeleton = _Blob(tenant_id, digest, size, buffer, ((0, size),))
    return _Plan(message, digest, size, skeleton, parts, buffer)


class Ingest:
    """Stores messages. One per process; `run` must be running for `store` to return."""

    def __init__(self, pool: Pool, segments: Path, keys: KeyRing) -> None:
        self._pool = pool
        self._keys = keys
        self._writer = SegmentWriter(segments, pool)
        self._waiting: deque[_Group] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingest")
        self._next_id = self._last_id = 0
        self._writing = asyncio.Lock()  # the writer takes one batch at a time
        self._recent: OrderedDict[_Name, None] = OrderedDict()  # blobs that we stored or found lately
        self._in_flight: frozenset[_Name] = frozenset()  # written, synced, and being committed right now
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Ingest {len(self._waiting)} waiting, {self._writer!r}>"

    async def store(self, group: Sequence[NewMessage]) -> list[Stored]:
        """Store all messages of the group, or none. Returns when they are durable and visible.

        Raises MailboxNotFoundError when a placement's mailbox is gone, LeaseLostError when a settlement is not the caller's
        to make any more, what an effect raises, UnavailableError when database or disk cannot be used. The caller may be
        cancelled while it waits; the messages are then stored all the same, or not at all.
        """
        if self._is_closed:
            raise UnavailableError("shutting down")
        known = [message.original for message in group if isinstance(message.original, bytes)]
        if len(known) == len(group) and sum(map(len, known)) <= _THREAD_ABOVE_OCTETS:
            plans = [_plan(message) for message in group]
        else:
            plans = await asyncio.to_thread(lambda: [_plan(message) for message in group])
        waiting = _Group(plans, sum(plan.size_octets for plan in plans))
        self._waiting.append(waiting)
        self._arrived.set()
        return await waiting.done

    async def run(self) -> None:
        """Commit batches until cancelled. What waits then is refused with UnavailableError.

        Two stages: while one batch is in its transaction the next one is written and synced.
        """
        committing: asyncio.Task[None] | None = None
        try:
            while True:
                while not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                batch = self._gather()
                written = await self._written(batch)
                if committing is not None:
                    await committing
                committing = asyncio.create_task(self._commit(batch, written))
        finally:
            self._is_closed = True
            if committing is not None:
                await asyncio.wait([committing], timeout=_CLOSING_SECONDS)
                committing.cancel()
            for group in self._waiting:
                _fail(group, UnavailableError("shutting down"))
            self._waiting.clear()
            self._thread.shutdown(wait=True)
            with suppress(StorageError):
                await self._writer.seal()

    def _gather(self) -> list[_Group]:
        batch: list[_Group] = []
        messages = octets = 0
        while self._waiting and messages < _BATCH_MESSAGES and octets < _BATCH_OCTETS:
            group = self._waiting.popleft()
            batch.append(group)
            messages += len(group.plans)
            octets += group.size_octets
        return batch

    async def _written(self, batch: list[_Group]) -> _Written | None:
        """The batch's blobs, durable; None when that failed: committing it then tries again, or says why not."""
        try:
            return await self._write([plan for group in batch for plan in group.plans])
        except asyncio.CancelledError:
            for group in batch:
                _fail(group, UnavailableError("shutting down"))
            raise
        except Exception:
            return None

    async def _commit(self, batch: list[_Group], written: _Written | None = None) -> None:
        """Store the batch; if that fails for another reason than a lost server, each group by itself."""
        try:
            await self._attempt(batch, written)
        except asyncio.CancelledError:
            for group in batch:
                _fail(group, UnavailableError("shutting down"))
            raise
        except UnavailableError as error:
            for group in batch:
                _fail(group, error)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error if isinstance(error, StorageError) else _translated(error))
                return
            for group in batch:  # a poison message fails alone
                await self._commit([group])
        finally:
            for group in batch:
                if group.done.done():
                    for plan in group.plans:
                        plan.close()

    async def _attempt(self, batch: list[_Group], written: _Written | None) -> None:
        """Insert what is written; again while the server is away, asking each time first whether the last attempt was committed.

        A retry is also right after a foreign key or uniqueness violation: a blob that we had found was removed by the keeper,
        or was in a batch that failed (we write it anew), or we met our own attempt whose answer was lost.
        """
        plans = [plan for group in batch for plan in group.plans]
        was_sent = is_second = False
        for pause in (*_RETRY_SECONDS, None):
            try:
                rows = await self._outcome(plans) if was_sent else None
                if rows is None:
                    if written is None:
                        written = await self._write(plans)
                    self._in_flight = frozenset((blob.tenant_id, blob.digest) for blob in written)
                    was_sent = True
                    rows = await self._insert(plans, written)
                self._answer(batch, rows)
                return
            except DiskError:
                raise
            except (asyncpg.ForeignKeyViolationError, asyncpg.UniqueViolationError):
                if is_second:
                    raise
                is_second, written = True, None
                self._recent.clear()
            except UnavailableError:
                if pause is None:
                    raise
                await self._pool.expire_connections()  # the others are likely to be dead, too
                await asyncio.sleep(pause)
            finally:
                self._in_flight = frozenset()

    async def _insert(self, plans: list[_Plan], written: _Written) -> list[asyncpg.Record]:
        """Run the ingest statement, and in the same transaction take away what is replaced, settle what is reported, apply effects.

        Raises NotFoundError when a replaced message is gone already, LeaseLostError when a lease is, and whatever effects do:
        then nothing is stored.
        """
        messages = [plan.message for plan in plans]
        outbound = [message.outbound for message in messages if message.outbound is not None]
        statement = INGEST_AND_QUEUE if outbound else INGEST
        arguments = _arguments(plans, written) + (_outbound_arguments(plans) if outbound else [])
        replaced = [message.replaces for message in messages if message.replaces is not None]
        settlements = [settlement for message in messages for settlement in message.settles]
        effects = [(effect, plan.content_id) for plan in plans for effect in plan.message.effects]
        if not replaced and not settlements and not effects:
            async with reported():
                return await self._pool.fetch(statement, *arguments)
        others = {mailbox_id for mailbox_id, _ in replaced}
        others |= {mailbox_id for effect, _ in effects for mailbox_id in effect.mailboxes()}
        locked = others | {placement.mailbox_id for message in messages for placement in message.placements}
        async with reported(), self._pool.acquire() as connection, connection.transaction():
            if settlements:  # before mailboxes are locked: who settles alone locks no mailbox
                settled = await connection.fetch(SETTLE, *settlement_arrays(settlements))
                if len(settled) < len(settlements):
                    raise LeaseLostError(f"{len(settlements) - len(settled)} of {len(settlements)} leases")
            if others:
                await connection.execute(LOCK_MAILBOXES, sorted(locked))  # before any statement locks one of them
            rows = await connection.fetch(statement, *arguments)
            for mailbox_id, uid in replaced:
                if not await remove(connection, mailbox_id, [uid]):
                    raise NotFoundError("the message to be replaced")
            for effect, content_id in sorted(effects, key=lambda each: each[0].lock()):
                await effect.apply(connection, content_id)
        return rows

    async def _number(self, plans: list[_Plan]) -> None:
        """Give each plan its content id before anything is written, so that a retry can ask what became of it."""
        for plan in plans:
            if plan.content_id:
                continue
            if self._next_id == self._last_id:
                async with reported():
                    block = await self._pool.fetchval("SELECT nextval('content_block')")
                self._next_id, self._last_id = block * _CONTENT_BLOCK, (block + 1) * _CONTENT_BLOCK
            plan.content_id = self._next_id
            self._next_id += 1

    async def _write(self, plans: list[_Plan]) -> _Written:
        """Append what the tenants do not have yet. Returns where each new blob lies, with its wrapped key."""
        async with self._writing:
            await self._number(plans)
            wanted = {(blob.tenant_id, blob.digest): blob for plan in plans for blob in plan.blobs()}
            present = await self._present(wanted)
            # One order for all processes: the inserts of two batches cannot deadlock.
            fresh = [wanted[name] for name in sorted(wanted) if name not in present]
            self._remember(wanted)
            if not fresh:
                return {}
            tenants = {blob.tenant_id for blob in fresh}
            wrappers = {tenant: await self._keys.tenant(self._pool, tenant) for tenant in tenants}
            await self._writer.ready()
            keys = [os.urandom(KEY_OCTETS) for _ in fresh]
            records = [_record(blob, key) for blob, key in zip(fresh, keys, strict=True)]
            if len(plans) == 1 and not self._waiting and sum(blob.plain_octets for blob in fresh) <= _INLINE_OCTETS:
                located = self._writer.append(
                    records
                )  # nobody else is here: two thread switches cost more than the sync
            else:
                loop = asyncio.get_running_loop()
                located = await loop.run_in_executor(self._thread, self._writer.append, records)
            return {
                blob: (location, wrappers[blob.tenant_id].wrap(key, blob.digest))
                for blob, location, key in zip(fresh, located, keys, strict=True)
            }

    async def _present(self, wanted: Mapping[_Name, _Blob]) -> Container[_Name]:
        """Which of the blobs need not be written.

        A small one that this process has not met lately is not asked for. If it was stored by another process, or long ago,
        a few kilobytes lie in a segment unused; the row stays the one it was.
        """
        names = [
            name for name, blob in wanted.items() if blob.plain_octets >= _ASK_ABOVE_OCTETS or name in self._recent
        ]
        asked = sorted(name for name in names if name not in self._in_flight)
        if not asked:
            return self._in_flight
        async with reported():
            rows = await self._pool.fetch(KNOWN_BLOBS, [name[0] for name in asked], [name[1] for name in asked])
        return self._in_flight | {(row["tenant_id"], row["digest"]) for row in rows}

    def _remember(self, names: Iterable[_Name]) -> None:
        for name in names:
            self._recent[name] = None
            self._recent.move_to_end(name)
        while len(self._recent) > _RECENT_BLOBS:
            self._recent.popitem(last=False)

    async def _outcome(self, plans: list[_Plan]) -> list[asyncpg.Record] | None:
        """The rows of an attempt that was committed although we did not hear of it; None when it was not."""
        async with reported():
            if await self._pool.fetchval(COMMITTED, [plan.content_id for plan in plans]) == 0:
                return None
            targets = [(plan.content_id, placed.mailbox_id) for plan in plans for placed in plan.message.placements]
            return await self._pool.fetch(PLACED, [target[0] for target in targets], [target[1] for target in targets])

    @staticmethod
    def _answer(batch: list[_Group], rows: list[asyncpg.Record]) -> None:
        each = iter(rows)
        for group in batch:
            answers = []
            for plan in group.plans:
                placed = []
                for placement in plan.message.placements:
                    row = next(each)
                    placed.append(Placed(placement.mailbox_id, row["uidvalidity"], row["uid"], row["modseq"]))
                answers.append(Stored(plan.content_id, tuple(placed)))
            if not group.done.done():
                group.done.set_result(answers)


def _record(blob: _Blob, key: bytes) -> Iterable[bytes]:
    """The blob's record. A small one is made here and now: a thread that gives up the GIL with each compression waits for
    the busy loop each time it wants it back. A large one is made while it is written, and never whole in memory."""
    plain = chunks(blob.buffer, blob.ranges) if blob.plain_octets else (b"",)
    record = codec.encode(blob.tenant_id, blob.digest, blob.plain_octets, key, plain)
    return record if blob.plain_octets > _THREAD_ABOVE_OCTETS else list(record)


def _arguments(plans: list[_Plan], located: _Written) -> list[list[Any]]:
    """The arrays of the ingest statement, in the order of its parameters."""
    blobs = [
        (blob.tenant_id, blob.digest, *location, blob.plain_octets, key) for blob, (location, key) in located.items()
    ]
    contents = [
        (plan.content_id, plan.message.tenant_id, plan.digest, plan.size_octets + len(plan.message.head), plan.message.head,
         plan.skeleton.digest, len(plan.parts), facts.envelope, facts.bodystructure, facts.structure, facts.header_cache,
         facts.sent_at, facts.message_id, facts.subject)
        for plan in plans for facts in (plan.message.facts,)
    ]  # fmt: skip
    parts = [
        (plan.content_id, blob.tenant_id, start, blob.plain_octets, blob.digest)
        for plan in plans for start, blob in plan.parts
    ]  # fmt: skip
    now = datetime.now(UTC)
    placements = [
        (plan.content_id, placement.mailbox_id, placement.flags, " ".join(placement.keywords) or None,
         plan.size_octets + len(plan.message.head), placement.internaldate or now)
        for plan in plans for placement in plan.message.placements
    ]  # fmt: skip
    journal = [
        (plan.message.tenant_id, plan.content_id, entry.direction, entry.envelope, plan.digest, plan.size_octets, entry.accepted_at)
        for plan in plans for entry in (plan.message.journal,) if entry is not None
    ]  # fmt: skip
    arrays: list[list[Any]] = []
    for rows, width in ((blobs, 7), (contents, 14), (parts, 5), (placements, 6), (journal, 7)):
        arrays += _columns(rows, width)
    arrays.append([plan.message.facts.sorting for plan in plans])
    return arrays


def _outbound_arguments(plans: list[_Plan]) -> list[list[Any]]:
    """The arrays that the ingest statement takes besides when something is queued."""
    queued = [(plan, outbound) for plan in plans for outbound in (plan.message.outbound,) if outbound is not None]
    messages = [
        (plan.content_id, plan.message.tenant_id, new.account_id, new.trace_id, new.reverse_path, new.envid, new.ret, new.body,
         new.is_smtputf8, new.is_requiretls, new.priority, new.deliver_by, new.deliver_by_mode, new.expires_at)
        for plan, new in queued
    ]  # fmt: skip
    recipients = [
        (plan.content_id, plan.message.tenant_id, -plan.message.tenant_id if new.account_id is None else new.account_id,
         (new.priority > 0) - (new.priority < 0), each.forward_path, each.domain,
         None if each.notify is None else ",".join(each.notify), each.orcpt, new.held_reason, new.release_at)
        for plan, new in queued for each in new.recipients
    ]  # fmt: skip
    return _columns(messages, 14) + _columns(recipients, 10)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _translated(error: Exception) -> StorageError:
    """Our error for one of the driver's."""
    if isinstance(error, asyncpg.NotNullViolationError) and getattr(error, "column_name", None) == "uid":
        return MailboxNotFoundError("a mailbox of the message is gone")
    if isinstance(error, asyncpg.ForeignKeyViolationError):
        return NotFoundError(str(error))
    return StorageError(f"{type(error).__name__}: {error}")


def _fail(group: _Group, error: Exception) -> None:
    if not group.done.done():
        group.done.set_exception(error)
