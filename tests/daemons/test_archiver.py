"""The archiver as a process runs it: woken by intake, signing at its times and at the end, surviving a lost database."""

import asyncio

import asyncpg
import msgspec
import pytest

from config.units import Seconds
from daemons.archiver import service
from daemons.archiver.service import Archiver
from daemons.context import Context
from storage import accounts
from storage.archive.checkpoint import open_note
from storage.archive.head import read_head
from storage.archive.keys import trusted_keys
from storage.blobs.keys import KeyRing
from tests.conftest import Person
from tests.storage.archive.conftest import Deliver, deliver, heads_of, new_archiver

__all__ = ["deliver"]  # the fixture


async def until(context: Context, query: str, expected: object) -> None:
    """Wait until the database answers so."""
    async with asyncio.timeout(20):
        while await context.pool.fetchval(query) != expected:
            await asyncio.sleep(0)


class Running:
    """A service in the background."""

    def __init__(self, context: Context, **changes: object) -> None:
        archive = msgspec.structs.replace(context.settings.archive, **changes)
        self.stopping = asyncio.Event()
        self.is_ready = asyncio.Event()
        changed = Context(
            msgspec.structs.replace(context.settings, archive=archive),
            *(getattr(context, name) for name in Context.__slots__[1:]),
        )
        self.task = asyncio.create_task(service.serve(changed, self.stopping, lambda _: self.is_ready.set()))

    async def stop(self) -> None:
        self.stopping.set()
        await self.task


async def test_intake_wakes_the_archiver(context: Context, account: Person, deliver: Deliver) -> None:
    """What is accepted is archived long before the next poll, and signed at the end."""
    running = Running(context, poll=Seconds(3600), gather=Seconds(0))
    await running.is_ready.wait()
    await deliver(3)
    await until(context, "SELECT count(*) FROM archive_leaf", 3)
    assert await context.pool.fetchval("SELECT count(*) FROM archive_checkpoint") == 0
    await running.stop()
    assert await context.pool.fetchval("SELECT size FROM archive_checkpoint") == 3
    head = read_head(heads_of(context), account.tenant_id)
    assert head == await context.pool.fetchval("SELECT note FROM archive_checkpoint")


async def test_a_lost_wake_up_costs_a_poll(
    context: Context, account: Person, deliver: Deliver, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A journal row that nobody announced is archived by the poll."""
    await deliver(1)
    running = Running(context, poll=Seconds(0.02))
    await until(context, "SELECT count(*) FROM archive_leaf", 1)
    await owner.execute("""
        INSERT INTO journal (tenant_id, content_id, direction, envelope, digest, size_octets, accepted_at)
        SELECT tenant_id, content_id, 'internal', '{}', digest, size_octets, now() FROM journal
    """)
    await until(context, "SELECT count(*) FROM archive_leaf", 2)
    await running.stop()
    assert await context.pool.fetchval("SELECT kind FROM archive_leaf WHERE seq = 1") == 3


async def test_checkpoints_come_by_number(context: Context, account: Person, deliver: Deliver) -> None:
    """After so many leaves a log is signed at once."""
    running = Running(context, checkpoint_leaves=4, poll=Seconds(3600), gather=Seconds(0))
    await deliver(4)
    await until(context, "SELECT max(size) FROM archive_checkpoint", 4)
    await running.stop()


async def test_checkpoints_come_by_time(context: Context, account: Person, deliver: Deliver) -> None:
    """A single leaf is signed when the interval has passed, without anything else happening."""
    running = Running(context, checkpoint_interval=Seconds(0.05), poll=Seconds(3600), gather=Seconds(0))
    await running.is_ready.wait()
    await deliver(1)
    await until(context, "SELECT max(size) FROM archive_checkpoint", 1)
    await running.stop()


async def test_leaves_of_a_dead_archiver_are_signed_by_the_next(
    context: Context, account: Person, deliver: Deliver
) -> None:
    """An archiver that died between appending and signing leaves leaves that the next one signs at its start."""
    await deliver(2)
    assert await new_archiver(context).archive_batch() == 2
    running = Running(context, poll=Seconds(3600))
    await until(context, "SELECT max(size) FROM archive_checkpoint", 2)
    await running.stop()


async def test_the_archiver_outlives_its_database_connections(
    context: Context, account: Person, deliver: Deliver, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """All of its connections are killed: it goes on, and nothing is lost or doubled."""
    running = Running(context, poll=Seconds(0.02), gather=Seconds(0))
    await deliver(2)
    await until(context, "SELECT count(*) FROM archive_leaf", 2)
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1"
    )
    assert await owner.fetchval(kill, owner.get_server_pid()) > 0
    await deliver(3, first=2)
    async with asyncio.timeout(20):
        while await owner.fetchval("SELECT count(*) FROM archive_leaf") != 5:
            await asyncio.sleep(0)
    await running.stop()
    assert await owner.fetchval("SELECT count(DISTINCT journal_id) FROM archive_message") == 5


async def test_a_damaged_log_does_not_stop_the_others(
    context: Context, account: Person, deliver: Deliver, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The rows of a tenant whose log was cut short wait; those of others in the same batch are archived."""
    await deliver(3)
    archiver = new_archiver(context)
    await archiver.archive_batch()
    await archiver.sign_due(everything=True)
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")
        await owner.execute("DELETE FROM archive_leaf WHERE seq = 2")
    other = await accounts.add_tenant(owner, "other", KeyRing(context.settings.master_key_file).new_tenant_key())
    await accounts.add_domain(owner, "other", "other.test")
    await accounts.add_account(owner, "other", "eve@other.test", "x")
    await deliver(1)
    await deliver(2, tenant_id=other, login="eve@other.test")
    running = Running(context, poll=Seconds(3600), gather=Seconds(0))
    await until(context, f"SELECT count(*) FROM archive_leaf WHERE tenant_id = {other}", 2)
    await running.stop()
    assert await context.pool.fetchval("SELECT count(*) FROM journal WHERE archived_seq IS NULL") == 1


@pytest.mark.parametrize("is_whole_directory", [True, False])
async def test_an_unwritable_head_copy_stops_nothing(
    context: Context, account: Person, deliver: Deliver, is_whole_directory: bool
) -> None:
    """The checkpoint in the database is what counts: a copy that cannot be written is logged."""
    heads = heads_of(context)
    if is_whole_directory:
        heads.touch()
    else:
        (heads / f"{account.tenant_id}.checkpoint").mkdir(parents=True)
    archiver = new_archiver(context)
    await deliver(1)
    await archiver.archive_batch()
    await archiver.sign_due(everything=True)
    note = await context.pool.fetchval("SELECT note FROM archive_checkpoint")
    assert open_note(note, trusted_keys(context.settings.archive_key_file)).size == 1


async def test_an_archiver_shows_how_it_stands(context: Context) -> None:
    """The representation tells what is left to sign."""
    assert repr(new_archiver(context)) == "<Archiver 0 logs unsigned, 0 refused>"
    assert isinstance(new_archiver(context), Archiver)
