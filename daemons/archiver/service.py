"""archiver: turns journal rows into leaves of the tenants' evidence logs, and signs where the logs stand. Beside that it
fills the search index (indexing.py) and takes up what other servers report (reports.py).

Several archivers may work at once. One that dies loses nothing: its rows are free again with its transaction, and its
unsigned leaves are signed by whoever comes next.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from prometheus_client import Counter

from config.archive import Archive
from daemons.archiver.indexing import Indexer
from daemons.archiver.reports import ReportReader
from daemons.archiver.working import is_set_within, work
from daemons.context import Context
from daemons.logs import logger
from daemons.runtime import Ready
from storage import journal, search_text
from storage.archive import evidence
from storage.archive.checkpoint import Signer
from storage.archive.head import publish_head
from storage.archive.keys import open_signer, trusted_keys
from storage.errors import CorruptError, StorageError
from storage.notifications import JOURNAL
from storage.pool import Pool, reported

_log = logger("archiver")
_REFUSED_SECONDS = 300.0  # a tenant whose log is damaged is looked at again after this

_ARCHIVED = Counter("postwerk_archived_messages", "Messages that became leaves of an evidence log.")
_CHECKPOINTS = Counter("postwerk_archive_checkpoints", "Checkpoints signed.")


@dataclass(slots=True)
class _Unsigned:
    """Leaves of one tenant that no checkpoint covers, as far as this process knows."""

    count: int
    since: float  # time.monotonic() of the first one


class Archiver:
    """One worker. `run` goes on until it is told to stop; the other methods are its steps."""

    def __init__(self, pool: Pool, settings: Archive, hostname: str, key_file: Path, heads: Path) -> None:
        self._pool = pool
        self._settings = settings
        self._hostname = hostname
        self._signer: Signer = open_signer(key_file)
        self._trusted = trusted_keys(key_file)
        self._heads = heads
        self._wake = asyncio.Event()
        self._unsigned: dict[int, _Unsigned] = {}
        self._refused: dict[int, float] = {}  # tenant -> time.monotonic() when it is tried again
        self._refresh_at = 0.0

    def __repr__(self) -> str:
        return f"<Archiver {len(self._unsigned)} logs unsigned, {len(self._refused)} refused>"

    def wake(self) -> None:
        """Look at the journal soon."""
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Archive and sign until `stopping` is set; then finish what waits (for `drain` seconds at most) and sign everything."""
        await work(stopping, self._wake, self._step, lambda: self._until_woken(stopping), self._failed)
        await self._finish()

    async def _step(self) -> bool:
        archived = await self.archive_batch()
        await self.sign_due()
        return archived >= self._settings.batch_limit

    @staticmethod
    def _failed(error: Exception, failures: int) -> None:
        _log.error("archiving failed", error=str(error), failures=failures)

    async def archive_batch(self) -> int:
        """Archive at most `batch_limit` waiting rows in one transaction. Returns how many. Raises StorageError."""
        now = time.monotonic()
        self._refused = {tenant_id: until for tenant_id, until in self._refused.items() if until > now}
        async with reported(), self._pool.acquire() as connection, connection.transaction():
            # Losing this transaction in a crash loses no message: leaves and marks vanish together and the rows wait again.
            # A checkpoint is committed durably, and everything before it with it.
            await connection.execute("SET LOCAL synchronous_commit = off")
            claimed = await journal.claim(connection, self._settings.batch_limit, excluded=self._refused)
            if not claimed:
                return 0
            appended = await evidence.append_messages(connection, claimed, hostname=self._hostname)
            if appended.archived:
                await journal.mark_archived(connection, appended.archived)
        for tenant_id, reason in appended.refused.items():
            _log.error("archive refuses to append to a damaged log", tenant=tenant_id, reason=reason)
            self._refused[tenant_id] = now + _REFUSED_SECONDS
        for tenant_id, count in appended.leaves.items():
            self._unsigned.setdefault(tenant_id, _Unsigned(0, now)).count += count
        _ARCHIVED.inc(len(appended.archived))
        return len(appended.archived)

    async def sign_due(self, *, everything: bool = False) -> None:
        """Sign each log that has new leaves for long enough, or enough of them, or (everything) at all. Raises StorageError."""
        now = time.monotonic()
        if now >= self._refresh_at or everything:
            await self._refresh(now)
        for tenant_id, known in tuple(self._unsigned.items()):
            is_due = known.count >= self._settings.checkpoint_leaves
            if everything or is_due or now - known.since >= self._settings.checkpoint_interval:
                await self._sign(tenant_id)
                del self._unsigned[tenant_id]

    async def _refresh(self, now: float) -> None:
        """Learn of leaves that others appended and perhaps died without signing."""
        async with reported(), self._pool.acquire() as connection:
            if not self._refresh_at:
                await evidence.register_key(connection, self._signer.public_key)
            found = await evidence.unsigned(connection)
        since = now if self._refresh_at else now - self._settings.checkpoint_interval  # at the start: due at once
        for tenant_id, count in found.items():
            self._unsigned.setdefault(tenant_id, _Unsigned(0, since)).count = count
        self._refresh_at = now + self._settings.checkpoint_interval

    async def _sign(self, tenant_id: int) -> None:
        try:
            async with reported(), self._pool.acquire() as connection:
                note = await evidence.sign_checkpoint(
                    connection, tenant_id, self._signer, self._trusted, at=datetime.now(UTC)
                )
        except CorruptError as error:
            _log.error("archive refuses to sign a damaged log", tenant=tenant_id, reason=str(error))
            return
        if note is None:
            return  # another archiver has signed it
        _CHECKPOINTS.inc()
        try:
            if not await asyncio.to_thread(publish_head, self._heads, tenant_id, note, self._trusted):
                _log.warning("head copy left as it is: it is newer or of another log", tenant=tenant_id)
        except OSError as error:  # the checkpoint itself is durable; the next one brings the copy up to date
            _log.error("head copy cannot be written", tenant=tenant_id, error=str(error))

    async def _until_woken(self, stopping: asyncio.Event) -> None:
        """Wait for a wake-up, the next poll or the next checkpoint; after a wake-up let rows gather for a moment."""
        now, interval = time.monotonic(), self._settings.checkpoint_interval
        until_sign = min((known.since + interval - now for known in self._unsigned.values()), default=interval)
        if await is_set_within(self._wake, max(0.0, min(self._settings.poll, until_sign))):
            await is_set_within(stopping, self._settings.gather)
        self._wake.clear()

    async def _finish(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain):
                try:
                    while await self.archive_batch():
                        pass
                    await self.sign_due(everything=True)
                except (StorageError, asyncpg.PostgresError) as error:
                    _log.warning("stopped with unsigned leaves or waiting rows", error=str(error))


async def serve(context: Context, stopping: asyncio.Event, ready: Ready) -> None:
    """Run one archiver, one indexer and one reader of reports until `stopping` is set."""
    settings = context.settings
    heads = Path(settings.state) / "archive"
    archiver = Archiver(context.pool, settings.archive, settings.hostname, settings.archive_key_file, heads)
    indexer = Indexer(context.pool, context.blobs, settings.search)
    subscriptions = (
        context.changes.on(JOURNAL, archiver.wake),
        context.changes.on(search_text.CHANNEL, indexer.wake),
    )
    try:
        ready({})
        async with asyncio.TaskGroup() as workers:
            workers.create_task(archiver.run(stopping), name="archiver")
            workers.create_task(indexer.run(stopping), name="indexer")
            workers.create_task(ReportReader(context).run(stopping), name="reports")
    finally:
        for forget in subscriptions:
            forget()
