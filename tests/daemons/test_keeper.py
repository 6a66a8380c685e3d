"""The keeper as a process runs it: whole rounds, one keeper at a time, surviving a lost database."""

import asyncio

import asyncpg
import msgspec
import pytest

from config.keeper import Keeper as KeeperSettings
from config.units import Seconds
from daemons import rules
from daemons.context import Context
from daemons.keeper import service
from daemons.keeper.service import Keeper, become_active
from filters.simple.settings import Rule
from filters.simple.settings import Settings as Simple
from storage import messages
from storage.rows import ContentFacts, NewMessage, Placement
from tests.conftest import Person

FACTS = ContentFacts(b"()", b"()", b"\x90", b"", None, None, "", ())
AT_ONCE = KeeperSettings(interval=Seconds(0.02), content_grace=Seconds(0), segment_grace=Seconds(0))


@pytest.fixture
async def removed(context: Context, account: Person) -> None:
    """Three messages in the inbox, two of them removed."""
    inbox = await context.pool.fetchval("SELECT mailbox_id FROM mailbox WHERE name = 'INBOX'")
    for number in range(3):
        message = NewMessage(account.tenant_id, b"", b"mail %d\r\n" % number, FACTS, [Placement(inbox)])
        await context.ingest.store([message])
    async with context.pool.acquire() as connection:
        await messages.remove(connection, inbox, [1, 3])


def with_keeper(context: Context, settings: KeeperSettings) -> Context:
    """The context with other settings of the keeper."""
    changed = msgspec.structs.replace(context.settings, keeper=settings)
    return Context(changed, *(getattr(context, name) for name in Context.__slots__[1:]))


async def until(owner: "asyncpg.Connection[asyncpg.Record]", query: str, expected: object) -> None:
    """Wait until the database answers so."""
    async with asyncio.timeout(20):
        while await owner.fetchval(query) != expected:
            await asyncio.sleep(0)


async def test_a_round_removes_what_is_dead(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", removed: None
) -> None:
    """Contents and blobs of removed messages go; the living one stays."""
    keeper = Keeper(AT_ONCE, context.settings.segments_directory)
    done = await keeper.round(owner, asyncio.Event())
    assert (done.contents, done.blobs, done.segment_octets) == (2, 2, 0)
    assert await owner.fetchval("SELECT count(*) FROM content") == 1
    done = await keeper.round(owner, asyncio.Event())
    assert (done.contents, done.blobs) == (0, 0)


async def test_a_round_forgets_attacks(context: Context, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Attack events that would be older than seven days before the next round go; no longer memory can be configured."""
    await owner.execute(
        "INSERT INTO attack_event (happened_at, service, mechanism, reason, peer, login) "
        "SELECT now() - make_interval(secs => age), 'imap', 'PLAIN', 'password', '192.0.2.1', age::text "
        "FROM unnest(ARRAY[0, 590000, 601300, 604801, 999999]) AS age"
    )
    settings = KeeperSettings(batch_limit=2)
    done = await Keeper(settings, context.settings.segments_directory).round(owner, asyncio.Event())
    assert done.attacks == 3
    kept = await owner.fetch("SELECT login FROM attack_event ORDER BY happened_at DESC")
    assert [row["login"] for row in kept] == ["0", "590000"]
    with pytest.raises(ValueError, match="seven days at most"):
        KeeperSettings(attack_memory=Seconds(604_801))


async def test_a_round_ends_early_when_told_to_stop(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", removed: None
) -> None:
    """A stopping keeper starts nothing more."""
    stopping = asyncio.Event()
    stopping.set()
    done = await Keeper(AT_ONCE, context.settings.segments_directory).round(owner, stopping)
    assert (done.contents, done.blobs) == (0, 0)


async def test_one_keeper_is_active(database: str) -> None:
    """The second keeper gets its turn when the first one's connection ends."""
    first, second = await asyncpg.connect(database), await asyncpg.connect(database)
    try:
        assert await become_active(first)
        assert not await become_active(second)
        await first.close()
        async with asyncio.timeout(30):
            while not await become_active(second):
                await asyncio.sleep(0)
    finally:
        await second.close()


async def test_the_keeper_goes_round_until_stopped(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", removed: None
) -> None:
    """The process clears away on its own, outlives the loss of its connection, and stops at once when told."""
    stopping, is_ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(service.serve(with_keeper(context, AT_ONCE), stopping, lambda _: is_ready.set()))
    await is_ready.wait()
    await until(owner, "SELECT count(*) FROM content", 1)
    stopping.set()
    async with asyncio.timeout(30):
        await running


async def test_simple_settings_follow_the_hosts(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", account: Person
) -> None:
    """A keeper that starts compiles them for what [rules] and [sieve] say now."""
    wanted = Simple(rules=(Rule(name="x", flags=("x",)),))
    await rules.change(owner, context.settings, account.account_id, lambda _: wanted)
    await owner.execute("UPDATE simple_settings SET sieve = 'keep;'")
    stopping = asyncio.Event()
    running = asyncio.create_task(service.serve(with_keeper(context, AT_ONCE), stopping, lambda _: None))
    await until(owner, "SELECT sieve <> 'keep;' FROM simple_settings", True)
    stopping.set()
    async with asyncio.timeout(30):
        await running


async def test_a_keeper_whose_connection_dies_tries_again(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", removed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is lost with the connection; the keeper takes both anew."""
    monkeypatch.setattr(service, "_AGAIN_SECONDS", 0.01)
    stopping = asyncio.Event()
    running = asyncio.create_task(service.serve(with_keeper(context, AT_ONCE), stopping, lambda _: None))
    holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
    holder += " (SELECT oid FROM pg_database WHERE datname = current_database())"
    async with asyncio.timeout(30):
        while (pid := await owner.fetchval(holder)) is None:
            await asyncio.sleep(0)
        await owner.execute("SELECT pg_terminate_backend($1)", pid)
        while await owner.fetchval(holder) in (None, pid):
            await asyncio.sleep(0)
    stopping.set()
    async with asyncio.timeout(30):
        await running
