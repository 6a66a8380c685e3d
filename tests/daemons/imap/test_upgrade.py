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
from tests.upgrading import copy_back, earlier_database

_FIRST = 4  # migrations of the version before sharing, the search index and the cheaper writes


@pytest.fixture
async def earlier(cluster: Cluster) -> AsyncIterator[str]:
    """The DSN of an empty database as the earlier version made it."""
    async with earlier_database(cluster, _FIRST) as dsn:
        yield dsn


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
    await copy_back(database, earlier)
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
    await copy_back(database, earlier)
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
