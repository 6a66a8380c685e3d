"""What every process works with: the database, the blob store, identities and notifications, opened and closed together."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from config.settings import Settings
from daemons.sockets import server_tls_context
from daemons.traces import Recorder
from storage.accounts import Directory
from storage.blobs.keys import KeyRing
from storage.blobs.store import BlobReader
from storage.errors import StorageError
from storage.ingest import Ingest
from storage.notifications import ChangeHub
from storage.pool import Pool, open_pool


@dataclass(frozen=True, slots=True)
class Context:
    """One per process."""

    settings: Settings
    pool: Pool
    keys: KeyRing
    blobs: BlobReader
    ingest: Ingest
    directory: Directory
    changes: ChangeHub
    tls: ssl.SSLContext | None  # None: no certificate is configured, so nothing offers TLS
    recorder: Recorder
    closing: AsyncExitStack = field(
        default_factory=AsyncExitStack
    )  # what is to be closed while all of this is still open
    is_rehearsal: bool = False  # somebody only asks what would happen: nothing is counted, learned, remembered or sent


@asynccontextmanager
async def open_context(settings: Settings, *, is_rehearsal: bool = False) -> AsyncIterator[Context]:
    """Open all of it; what waits in ingest at the end is refused, not lost: nothing of it was acknowledged.

    In a rehearsal nothing is stored: what changes the database is undone, and ingest and trace do not run.
    Raises StorageError without a DSN, a master key, or a database.
    """
    database = settings.database
    if database.dsn is None:
        raise StorageError("database.dsn is not set: only `postwerk up` brings its own database")
    keys = KeyRing(settings.master_key_file)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(database.dsn, size=database.pool_size, role=database.role, is_rehearsal=is_rehearsal)
        )
        hub = ChangeHub(database.dsn, database.role)
        ingest = Ingest(pool, settings.segments_directory, keys)
        blobs = BlobReader(pool, settings.segments_directory, keys)
        stack.callback(blobs.close)
        directory = Directory(pool, hub)
        stack.callback(directory.close)
        tls = server_tls_context(settings.tls) if settings.tls.certificate else None
        recorder = Recorder(settings.trace, pool, keys)
        running = [asyncio.create_task(hub.run(), name="changes")]
        if not is_rehearsal:
            running.append(asyncio.create_task(ingest.run(), name="ingest"))
            stack.push_async_callback(recorder.close)
            running.append(asyncio.create_task(recorder.run(), name="trace"))
        for task in running:
            stack.push_async_callback(_end, task)
        closing = await stack.enter_async_context(AsyncExitStack())
        yield Context(
            settings, pool, keys, blobs, ingest, directory, hub, tls, recorder, closing, is_rehearsal=is_rehearsal
        )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
