"""A database as an earlier version left it, made of one of today's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from storage.embedded import Cluster
from storage.migrate import migrations

_COLUMNS = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) AS columns
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'schema_migration'
   AND NOT c.relispartition
 GROUP BY c.relname ORDER BY c.relname
"""
_SEQUENCES = "SELECT sequencename::text FROM pg_sequences WHERE schemaname = 'public'"


@asynccontextmanager
async def earlier_database(cluster: Cluster, version: int) -> AsyncIterator[str]:
    """The DSN of an empty database with so many migrations."""
    admin = await asyncpg.connect(cluster.dsn("postgres"))
    await admin.execute("CREATE DATABASE earlier")
    connection = await asyncpg.connect(cluster.dsn("earlier"))
    await connection.execute(
        "CREATE TABLE schema_migration (name text PRIMARY KEY, checksum bytea NOT NULL, applied_at timestamptz DEFAULT now())"
    )
    for migration in migrations()[:version]:
        await connection.execute(migration.sql)
        await connection.execute("INSERT INTO schema_migration VALUES ($1, $2)", migration.name, migration.checksum)
    await connection.close()
    try:
        yield cluster.dsn("earlier")
    finally:
        await admin.execute("DROP DATABASE earlier WITH (FORCE)")
        await admin.close()


async def copy_back(source_dsn: str, target_dsn: str) -> None:
    """All rows of one database into another of an earlier version, as far as both have the columns; the sequences likewise."""
    source, target = await asyncpg.connect(source_dsn), await asyncpg.connect(target_dsn)
    await target.execute("SET session_replication_role = replica")  # no triggers, no foreign keys
    present = {table: set(columns) for table, columns in await source.fetch(_COLUMNS)}
    for table, columns in await target.fetch(_COLUMNS):
        kept = [column for column in columns if column in present[table]]
        names = ", ".join(f'"{column}"' for column in kept)
        rows = await source.fetch(f"SELECT {names} FROM {table}")
        await target.execute(f"DELETE FROM {table}")  # what migrations have put there is in the other one, too
        await target.copy_records_to_table(table, records=[tuple(row) for row in rows], columns=kept)
    there = {name for (name,) in await source.fetch(_SEQUENCES)}
    for name in [name for (name,) in await target.fetch(_SEQUENCES) if name in there]:
        last = await source.fetchval(f"SELECT last_value FROM {name}")
        await target.execute("SELECT setval($1::text::regclass, $2)", name, last)
    await source.close()
    await target.close()
