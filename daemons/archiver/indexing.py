"""Fills the search index behind intake's back: takes contents that wait, has their text extracted, keeps it.

Several processes may do so at once, each with contents of its own. One that dies loses nothing: what it had taken waits
again when its lease is over. A content that kills whoever reads it is tried a few times and then marked: searches scan it.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
from prometheus_client import Counter, Gauge

from config.search import Search
from daemons.archiver.extraction import ExtractionError, Extractor
from daemons.archiver.working import is_set_within, work
from daemons.logs import logger
from protocol.message.text import TEXT_VERSION
from storage import search_text
from storage.blobs.store import BlobReader
from storage.errors import CorruptError, NotFoundError, StorageError
from storage.pool import Pool, reported
from storage.search_text import UNREADABLE, Indexed

_log = logger("indexer")
_REST_SECONDS = 60.0  # without work, until the process that extracts is let go
_COUNTED = 100_000  # of the backlog

_INDEXED = Counter("postwerk_indexed_messages", "Contents whose text the search index took.")
_UNINDEXED = Counter(
    "postwerk_unindexed_messages", "Contents whose text every search has to read anew, by reason.", ["reason"]
)
_DOCUMENTS = Counter("postwerk_indexed_documents", "Attachments whose text the search index took.")
_WAITING = Gauge("postwerk_search_waiting", "Contents that wait for the search index.", multiprocess_mode="mostrecent")


class Indexer:
    """One worker. `run` goes on until it is told to stop; index_batch is its step."""

    def __init__(self, pool: Pool, blobs: BlobReader, settings: Search) -> None:
        self._pool = pool
        self._blobs = blobs
        self._settings = settings
        self._extractor = Extractor(settings)
        self._wake = asyncio.Event()
        self._worked_at = 0.0  # time.monotonic() of the last batch that was not empty

    def __repr__(self) -> str:
        return f"<Indexer {self._extractor!r}>"

    def wake(self) -> None:
        """Look for waiting contents soon."""
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Index until `stopping` is set. What is not done then waits for the next start."""
        try:
            await work(
                stopping, self._wake, lambda: self._step(stopping), lambda: self._until_woken(stopping), self._failed
            )
        finally:
            await self.close()

    async def _step(self, stopping: asyncio.Event) -> bool:
        return await self.index_batch(stopping) >= self._settings.batch_limit

    @staticmethod
    def _failed(error: Exception, failures: int) -> None:
        _log.error("indexing failed", error=f"{type(error).__name__}: {error}", failures=failures)

    async def index_batch(self, stopping: asyncio.Event | None = None) -> int:
        """Index at most `batch_limit` contents. Returns how many were taken. Raises StorageError."""
        settings = self._settings
        async with reported(), self._pool.acquire() as connection:
            taken = await search_text.claim(connection, settings.batch_limit, lease_seconds=settings.lease)
            if not taken:
                return 0
            facts = await search_text.facts(connection, [waiting.content_id for waiting in taken])
        self._worked_at = time.monotonic()
        gone = [record["content_id"] for record in facts if record["tenant_id"] is None]
        there = [record for record in facts if record["tenant_id"] is not None]
        attempts = {waiting.content_id: waiting.attempts for waiting in taken}
        await self._blobs.prefetch([record["content_id"] for record in there])
        done: list[Indexed] = []
        octets = 0
        for at, record in enumerate(there):
            if stopping is not None and stopping.is_set():
                await self._release([left["content_id"] for left in there[at:]])
                break
            indexed = await self._index(record, attempts[record["content_id"]])
            if indexed is None:
                gone.append(record["content_id"])
                continue
            done.append(indexed)
            octets += len(indexed.header or "") + len(indexed.body or "")
            if octets > settings.batch_octets:
                await self._store(done)
                done, octets = [], 0
        await self._store(done)
        if gone:
            async with reported(), self._pool.acquire() as connection:
                await search_text.drop(connection, gone)
        return len(taken)

    async def _index(self, record: asyncpg.Record, attempts: int) -> Indexed | None:
        """What the index is to hold of one content; None when it is gone."""
        content_id = record["content_id"]
        if attempts > self._settings.attempts:
            return _unreadable(content_id, "crashes")
        try:
            original = await self._blobs.read(content_id)
        except NotFoundError:
            return None
        except CorruptError as error:
            _log.error("a content cannot be read", content=content_id, reason=str(error))
            return _unreadable(content_id, "damaged")
        for with_documents in (True, False):
            try:
                found = await self._extractor.extract(
                    record["head"], original, record["structure"], with_documents=with_documents
                )
            except ExtractionError as error:
                _log.warning("text extraction failed", content=content_id, documents=with_documents, reason=str(error))
                continue
            if not found.is_whole:
                return _unreadable(content_id, "large", found.preview)
            _DOCUMENTS.inc(found.documents)
            return Indexed(content_id, TEXT_VERSION, found.header, found.body, found.words, found.preview)
        return _unreadable(content_id, "fails")

    async def _store(self, done: Sequence[Indexed]) -> None:
        """Keep them. When the database refuses one, it is marked, and the others are kept."""
        if not done:
            return
        try:
            async with reported(), self._pool.acquire() as connection:
                await search_text.store(connection, done)
        except asyncpg.DataError as error:
            if len(done) > 1:
                for one in done:
                    await self._store([one])
                return
            _log.error("the database refuses a text", content=done[0].content_id, reason=type(error).__name__)
            await self._store([_unreadable(done[0].content_id, "refused")])
            return
        _INDEXED.inc(sum(1 for one in done if one.version != UNREADABLE))

    async def close(self) -> None:
        """End the process that extracts."""
        await self._extractor.close()

    async def _release(self, content_ids: Sequence[int]) -> None:
        async with reported(), self._pool.acquire() as connection:
            await search_text.release(connection, content_ids)

    async def _until_woken(self, stopping: asyncio.Event) -> None:
        """Wait for a wake-up or the next poll; after a wake-up until no more mail comes in, but not for ever."""
        with suppress(StorageError, asyncpg.PostgresError):
            async with reported(), self._pool.acquire() as connection:
                _WAITING.set(await search_text.backlog(connection, most=_COUNTED))
        settings = self._settings
        if await is_set_within(self._wake, settings.poll):
            # Indexing costs more than taking a message in: while that keeps the machine busy, searches can scan.
            until = time.monotonic() + settings.delay
            while self._wake.is_set() and not stopping.is_set() and time.monotonic() < until:
                self._wake.clear()
                await is_set_within(self._wake, settings.gather)
        elif time.monotonic() - self._worked_at > _REST_SECONDS:
            await self.close()
        self._wake.clear()


def _unreadable(content_id: int, reason: str, preview: str | None = None) -> Indexed:
    _UNINDEXED.labels(reason).inc()
    return Indexed(content_id, UNREADABLE, preview=preview)
