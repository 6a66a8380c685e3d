"""Numbered SQL files, forward only, applied once each under an advisory lock, with a checksum of what was applied."""

import hashlib
from importlib import resources
from typing import NamedTuple

import asyncpg

from storage.errors import StorageError
from storage.pool import Connection

_LOCK = 0x706F7374  # "post": held while migrating, so that two processes starting at once apply nothing twice

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    name       text PRIMARY KEY,
    checksum   bytea NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now())
"""


class Migration(NamedTuple):
    """One file of storage/schema."""

    name: str
    sql: str
    checksum: bytes


def migrations() -> list[Migration]:
    """All files that this version of the program brings, in order."""
    found = []
    for entry in sorted(resources.files("storage").joinpath("schema").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            sql = entry.read_text("utf-8")
            found.append(Migration(entry.name, sql, hashlib.sha256(sql.encode()).digest()))
    return found


async def pending(connection: Connection) -> list[str]:
    """Names of the files that are not applied yet. Raises StorageError when an applied one has changed since."""
    applied: dict[str, bytes] = {}
    if await connection.fetchval("SELECT to_regclass('schema_migration')") is not None:
        rows = await connection.fetch("SELECT name, checksum FROM schema_migration")
        applied = {row["name"]: row["checksum"] for row in rows}
    known = migrations()
    for migration in known:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise StorageError(f"{migration.name} differs from what was applied to this database")
    unknown = sorted(applied.keys() - {migration.name for migration in known})
    if unknown:
        raise StorageError(f"the database was migrated by a newer version: it has {unknown[-1]}")
    return [migration.name for migration in known if migration.name not in applied]


async def migrate(dsn: str) -> list[str]:
    """Apply what is pending, each file in a transaction of its own. Returns the names of the applied files."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        await connection.execute("GRANT SELECT ON schema_migration TO PUBLIC")
        names = await pending(connection)
        for migration in migrations():
            if migration.name in names:
                async with connection.transaction():
                    await connection.execute(migration.sql)
                    await connection.execute(
                        "INSERT INTO schema_migration (name, checksum) VALUES ($1, $2)",
                        migration.name,
                        migration.checksum,
                    )
        return names
    finally:
        await connection.close()
