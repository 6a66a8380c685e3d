"""What can be said of a database and its blobs by looking: for `postwerk check`. Changes nothing."""

import hashlib
from dataclasses import dataclass

import asyncpg

from storage.blobs.store import BlobReader
from storage.errors import StorageError
from storage.migrate import pending
from storage.pool import Connection, Pool, reported


@dataclass(frozen=True, slots=True)
class Readable:
    """Outcome of reading contents back."""

    read: int
    total: int
    unreadable: tuple[int, ...]  # content_id


async def server_version(connection: Connection) -> str:
    """Such as "18.6". Raises UnavailableError."""
    async with reported():
        return str(await connection.fetchval("SHOW server_version"))


async def pending_migrations(connection: Connection) -> list[str]:
    """Files not applied yet. Raises StorageError when the database and this program do not belong together."""
    try:
        async with reported():
            return await pending(connection)
    except asyncpg.PostgresError as error:
        raise StorageError(f"the database's state cannot be read: {error}") from error


async def read_back(pool: Pool, blobs: BlobReader, *, limit: int | None) -> Readable:
    """Read the newest `limit` contents (all without a limit) and compare them with their digests."""
    async with reported():
        total = await pool.fetchval("SELECT count(*) FROM content")
        rows = await pool.fetch("SELECT content_id, digest FROM content ORDER BY content_id DESC LIMIT $1", limit)
    unreadable = []
    for content_id, digest in rows:
        try:
            if hashlib.sha256(await blobs.read(content_id)).digest() != digest:
                unreadable.append(content_id)
        except StorageError:
            unreadable.append(content_id)
    return Readable(len(rows), total, tuple(unreadable))
