"""Scripts of IMAP events (RFC 6785) that the command's own process has not run: somebody else does, and their effects come once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from config.settings import Settings
from config.units import Seconds
from daemons.context import Context
from daemons.scripting.events import EventScripts
from daemons.scripting.left import run_left
from storage.quota import Rooms
from tests.conftest import Owner
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.test_event_scripts import ENTRY, append, flags, put, queued
from tests.sections import with_changes
from tests.statements import statements

SCRIPT = (
    'require ["imapsieve", "fileinto", "copy", "environment"]; '
    'if environment "imap.user" "alice@example.test" { fileinto :copy "Sent"; redirect :copy "carol@example.org"; }'
)
ASKED = [b"APPEND", b"UID COPY 1 Archive", b"MOVE 1 Archive", b"UID STORE 1 +FLAGS (\\Flagged)", b"FETCH 1 BODY[]"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Every event is anybody's at once, as if the process of the command had been killed some time ago."""
    return with_changes(settings, sieve={"event_lease": Seconds(0.001)})


@asynccontextmanager
async def other_process(context: Context) -> AsyncIterator[EventScripts]:
    """What runs what was left."""
    rooms = Rooms(context.pool, context.changes)
    events = EventScripts(context, rooms)
    yield events
    rooms.close()
    await events.close()


async def waiting(owner: Owner) -> int:
    """Events whose script has not run."""
    number: int = await owner.fetchval("SELECT count(*) FROM mailbox_event")
    return number


async def until_noted(owner: Owner) -> None:
    """Wait until the command has done its work, and notes are all that is left of it."""
    async with asyncio.timeout(20):
        while not await waiting(owner):
            await asyncio.sleep(0)


async def prepared(service: Service, owner: Owner, client: Client) -> None:
    """A message in the selected inbox, and a script for that and the archive."""
    await service.deliver(mail("one"))
    await put(owner, service.person, "events", SCRIPT)
    await client.ok(b'SETMETADATA INBOX (%b "events")' % ENTRY)
    await client.ok(b'SETMETADATA Archive (%b "events")' % ENTRY)
    await client.ok(b"SELECT INBOX")


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.decode().replace("UID ", "").partition(" ")[0])
async def test_two_processes_run_one_script(service: Service, owner: Owner, asked: bytes) -> None:
    """Whoever is first stores what the script does; what the other one made of it is stored nowhere, and nothing waits on."""
    async with await service.client() as client, other_process(service.context) as events:
        await prepared(service, owner, client)
        async with owner.transaction():
            await owner.execute("LOCK TABLE sieve_script")  # nobody gets to the script
            command = asyncio.create_task(append(client) if asked == b"APPEND" else client.ok(asked))
            await until_noted(owner)
            other = asyncio.create_task(run_left(service.context, events))
            async with asyncio.timeout(20):
                while not await owner.fetchval("SELECT attempts FROM mailbox_event"):
                    await asyncio.sleep(0)
        await command
        await other
    assert await flags(owner, service.person, "Sent") == [[]]
    assert await queued(owner) == [("alice@example.test", "carol@example.org")]
    assert await waiting(owner) == 0


async def test_nobody_runs_it_twice(service: Service, owner: Owner) -> None:
    """A script that was run is not there to be run by others."""
    async with await service.client() as client, other_process(service.context) as events:
        await prepared(service, owner, client)
        await client.ok(b"UID COPY 1 Archive")
        assert await run_left(service.context, events) == 0
    assert await flags(owner, service.person, "Sent") == [[]]


async def test_the_message_is_gone(service: Service, owner: Owner) -> None:
    """What is expunged before anybody runs the script is not sent anywhere, and is not waited for."""
    async with await service.client() as client:
        await prepared(service, owner, client)
        async with owner.transaction():
            await owner.execute("LOCK TABLE sieve_script")
            command = asyncio.create_task(client.ok(b"UID COPY 1 Archive"))
            await until_noted(owner)
            await owner.execute(
                "SELECT remove_messages(mailbox_id, NULL, NULL, false) FROM mailbox WHERE name = 'Archive'"
            )
        await command
    assert await flags(owner, service.person, "Sent") == []
    assert await queued(owner) == []
    assert await waiting(owner) == 0


async def test_scripts_that_change_nothing_are_over(service: Service, owner: Owner) -> None:
    """Neither one that keeps the message, nor one with a mistake, nor a name that no script has leaves anything to be run."""
    await put(owner, service.person, "nothing", 'require "imapsieve"; keep;')
    await put(owner, service.person, "bad", 'require ["imapsieve", "reject"]; reject "no";')
    async with await service.client() as client:
        for name in (b"nothing", b"bad", b"bad", b"missing"):
            await client.ok(b'SETMETADATA Archive (%b "%b")' % (ENTRY, name))
            await append(client, b"Archive")
            assert await waiting(owner) == 0
    assert await flags(owner, service.person, "Archive") == [[], [], [], []]
    assert await flags(owner, service.person) == [[]]  # word of the mistake


async def test_too_old_events(service: Service, owner: Owner) -> None:
    """What could not be run for a day is dropped, and its script does not run any more."""
    async with await service.client() as client, other_process(service.context) as events:
        await prepared(service, owner, client)
        await owner.execute(
            "INSERT INTO mailbox_event (command_id, uid, account_id, mailbox_id, cause, script, login, changed, happened_at, "
            "due_at) SELECT 0, 1, account_id, mailbox_id, 'COPY', 'events', 'alice@example.test', '', now() - interval '25 hours', "
            "now() FROM mailbox WHERE name = 'INBOX'"
        )
        assert await run_left(service.context, events) == 0
    assert await waiting(owner) == 0
    assert await queued(owner) == []


async def test_more_events_than_may_wait(settings: Settings, service: Service, owner: Owner) -> None:
    """While so many wait, the script of one more runs all the same, unnoted."""
    async with await service.client() as client:
        await prepared(service, owner, client)
        await owner.execute(
            "INSERT INTO mailbox_event (command_id, uid, account_id, mailbox_id, cause, script, login, changed, due_at) "
            "SELECT 0, uid, account_id, mailbox_id, 'COPY', 'events', '', '', 'infinity' FROM mailbox, "
            "generate_series(1, $1) AS uid WHERE name = 'INBOX'",
            settings.sieve.event_limit,
        )
        await client.ok(b"UID COPY 1 Archive")
    assert await flags(owner, service.person, "Sent") == [[]]
    assert await waiting(owner) == settings.sieve.event_limit


async def test_mailboxes_without_a_script(service: Service, owner: Owner) -> None:
    """Nothing of all this is asked of the database where no script is named."""
    await service.deliver(mail("one"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"UID COPY 1 Archive")
        async with statements(service.context) as asked:
            await client.ok(b"UID COPY 1 Archive")
            await client.ok(b"UID STORE 1 +FLAGS (\\Flagged)")
    assert [each for each in asked if "mailbox_event" in each or "annotation" in each or "BEGIN" in each] == []
    assert len(asked) == 3  # the mailbox's name, and one for each command
