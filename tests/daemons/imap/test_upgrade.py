"""A database of an earlier version, with mail in it, after the migrations: nothing is lost, and everything works."""

import re
import ssl
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from config.database import Database
from config.settings import Settings
from daemons.context import open_context
from storage.embedded import Cluster
from storage.migrate import migrate, migrations
from tests.conftest import Person
from tests.daemons.imap.conftest import Service, mail, running

_FIRST = 4  # migrations of the version before sharing, the search index and the cheaper writes
_COLUMNS = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) AS columns
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'schema_migration'
   AND NOT c.relispartition
 GROUP BY c.relname ORDER BY c.relname
"""
_SEQUENCES = "SELECT sequencename::text FROM pg_sequences WHERE schemaname = 'public'"


@pytest.fixture
async def earlier(cluster: Cluster) -> AsyncIterator[str]:
    """The DSN of an empty database as the earlier version made it."""
    admin = await asyncpg.connect(cluster.dsn("postgres"))
    await admin.execute("CREATE DATABASE earlier")
    connection = await asyncpg.connect(cluster.dsn("earlier"))
    await connection.execute(
        "CREATE TABLE schema_migration (name text PRIMARY KEY, checksum bytea NOT NULL, applied_at timestamptz DEFAULT now())"
    )
    for migration in migrations()[:_FIRST]:
        await connection.execute(migration.sql)
        await connection.execute("INSERT INTO schema_migration VALUES ($1, $2)", migration.name, migration.checksum)
    await connection.close()
    yield cluster.dsn("earlier")
    await admin.execute("DROP DATABASE earlier WITH (FORCE)")
    await admin.close()


async def _copy_back(source_dsn: str, target_dsn: str) -> None:
    """All rows of one database into another of an earlier version, as far as both have the columns; the sequences likewise."""
    source, target = await asyncpg.connect(source_dsn), await asyncpg.connect(target_dsn)
    await target.execute("SET session_replication_role = replica")  # no triggers, no foreign keys
    present = {table: set(columns) for table, columns in await source.fetch(_COLUMNS)}
    for table, columns in await target.fetch(_COLUMNS):
        kept = [column for column in columns if column in present[table]]
        names = ", ".join(f'"{column}"' for column in kept)
        rows = await source.fetch(f"SELECT {names} FROM {table}")
        await target.copy_records_to_table(table, records=[tuple(row) for row in rows], columns=kept)
    there = {name for (name,) in await source.fetch(_SEQUENCES)}
    for name in [name for (name,) in await target.fetch(_SEQUENCES) if name in there]:
        last = await source.fetchval(f"SELECT last_value FROM {name}")
        await target.execute("SELECT setval($1::text::regclass, $2)", name, last)
    await source.close()
    await target.close()


async def test_mail_of_an_earlier_version(
    service: Service, settings: Settings, account: Person, database: str, earlier: str, client_tls: ssl.SSLContext
) -> None:
    """Messages, flags and MODSEQs are there, can be searched, sorted, threaded, changed and moved, and QRESYNC knows them."""
    await service.deliver(mail("zebra", "needle\r\n"), mail("ant"), mail("cow"), flags=r"\Flagged word")
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(rb"STORE 2 +FLAGS (\Seen)")
        await client.ok(rb"STORE 3 +FLAGS (\Deleted)")
        await client.ok(b"EXPUNGE")
    await _copy_back(database, earlier)
    assert await migrate(earlier) == [migration.name for migration in migrations()[_FIRST:]]
    own = msgspec.structs.replace(settings, database=Database(dsn=earlier, owner_dsn=earlier, pool_size=4))
    async with open_context(own) as context, running(context) as endpoints:
        upgraded = Service(context, endpoints, account, client_tls)
        async with await upgraded.client() as client:
            await client.ok(b"ENABLE QRESYNC")
            told = b"\n".join(await client.ok(b"SELECT INBOX (QRESYNC (1 1 1:3))"))
            assert b"* 2 EXISTS" in told
            found = b"\n".join(await client.ok(b"FETCH 1:* (UID FLAGS)"))
            assert re.search(rb"UID 1 FLAGS \(\\Flagged word\)", found)
            assert re.search(rb"UID 2 FLAGS \(\\(Seen|Flagged) \\(Seen|Flagged) word\)", found)
            assert await client.ok(b"SEARCH BODY needle") == [b"* SEARCH 1"]
            assert await client.ok(b"SEARCH FUZZY TEXT needles") == [b"* SEARCH 1"]
            assert await client.ok(b"SORT (SUBJECT) UTF-8 ALL") == [b"* SORT 2 1"]
            assert await client.ok(b"THREAD REFERENCES UTF-8 ALL") == [b"* THREAD (1)(2)"]
            assert b"PREVIEW" in (await client.ok(b"FETCH 1 PREVIEW"))[0]
            since = re.search(rb"HIGHESTMODSEQ (\d+)", told)
            assert since is not None
            await client.ok(rb"STORE 1 +FLAGS (\Answered)")
            changed = await client.ok(b"UID FETCH 1:* FLAGS (CHANGEDSINCE %b)" % since[1])
            assert [line.split()[1] for line in changed] == [b"1"]
            await client.ok(b"COPY 1 Archive")
            await client.ok(b"MOVE 2 Archive")
            assert await client.ok(b"STATUS Archive (MESSAGES UNSEEN)") == [b"* STATUS Archive (MESSAGES 2 UNSEEN 1)"]
            await upgraded.deliver(mail("new"))
            assert b"* STATUS INBOX (MESSAGES 2)" in await client.ok(b"STATUS INBOX (MESSAGES)")


async def test_names_that_belong_to_namespaces_now(
    service: Service, settings: Settings, account: Person, database: str, earlier: str, client_tls: ssl.SSLContext
) -> None:
    """Mailboxes of one's own below Shared and Other Users get another name, or nobody could reach them any more."""
    await _copy_back(database, earlier)
    connection = await asyncpg.connect(earlier)
    for name in ("Shared", "Shared/notes", "Shared (own)", "Other Users/x", "Sharedness", "Lists/Shared"):
        await connection.execute(
            "INSERT INTO mailbox (tenant_id, account_id, name) VALUES ($1, $2, $3)",
            account.tenant_id, account.account_id, name,
        )  # fmt: skip
        await connection.execute("INSERT INTO subscription VALUES ($1, $2)", account.account_id, name)
    await connection.close()
    await migrate(earlier)
    own = msgspec.structs.replace(settings, database=Database(dsn=earlier, owner_dsn=earlier, pool_size=4))
    async with open_context(own) as context, running(context) as endpoints:
        upgraded = Service(context, endpoints, account, client_tls)
        async with await upgraded.client() as client:
            listed = b"\n".join(await client.ok(b'LIST (SUBSCRIBED) "" *')).decode()
            for name in (
                "Shared (own)",
                "Shared (own) (own)/notes",
                "Other Users (own)/x",
                "Sharedness",
                "Lists/Shared",
            ):
                quoted = f'"{name}"' if " " in name else name
                assert f'"/" {quoted}' in listed
                await client.ok(f'SELECT "{name}"'.encode())
            assert '"/" Shared/' not in listed
