"""Appending to evidence logs and signing them, against a real database."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from daemons.archiver.service import Archiver
from daemons.context import Context
from storage import accounts, journal
from storage.archive import evidence
from storage.archive.checkpoint import open_note
from storage.archive.keys import open_signer, trusted_keys
from storage.archive.merkle import root_hash
from storage.blobs.keys import KeyRing
from storage.errors import CorruptError
from tests.conftest import Person
from tests.storage.archive.conftest import Deliver, new_archiver


async def test_accepted_messages_become_leaves_in_order(
    context: Context, account: Person, archiver: Archiver, deliver: Deliver
) -> None:
    """Every journal row gets a leaf, in order and without gaps, and the checkpoint signs their root."""
    await deliver(7)
    assert await archiver.archive_batch() == 7
    assert await archiver.archive_batch() == 0
    await archiver.sign_due(everything=True)
    rows = await context.pool.fetch("SELECT * FROM archive_leaf ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(7))
    journaled = await context.pool.fetch("SELECT archived_seq FROM journal ORDER BY journal_id")
    assert [row["archived_seq"] for row in journaled] == list(range(7))
    note = await context.pool.fetchval("SELECT note FROM archive_checkpoint")
    checkpoint = open_note(note, trusted_keys(context.settings.archive_key_file))
    assert (checkpoint.size, checkpoint.number) == (7, 0)
    assert checkpoint.root == root_hash([row["leaf_hash"] for row in rows])
    assert checkpoint.origin.startswith(f"mail.example.test/{account.tenant_id}/")
    assert await context.pool.fetchval("SELECT public_key FROM archive_key") in trusted_keys(
        context.settings.archive_key_file
    )


async def test_checkpoints_follow_each_other(
    context: Context, account: Person, archiver: Archiver, deliver: Deliver
) -> None:
    """Each checkpoint starts from the one before and signs the root over all leaves; without new leaves there is none."""
    sizes = []
    for count in (1, 2, 5):
        await deliver(count)
        await archiver.archive_batch()
        await archiver.sign_due(everything=True)
        await archiver.sign_due(everything=True)
        hashes = [row[0] for row in await context.pool.fetch("SELECT leaf_hash FROM archive_leaf ORDER BY seq")]
        async with context.pool.acquire() as connection:
            note = await evidence.newest_note(connection, account.tenant_id)
            assert await evidence.unsigned(connection) == {}
        assert note is not None
        opened = open_note(note, trusted_keys(context.settings.archive_key_file))
        assert opened.root == root_hash(hashes)
        sizes.append((opened.number, opened.size))
    assert sizes == [(0, 1), (1, 3), (2, 8)]


async def test_each_tenant_has_its_own_log(
    context: Context,
    account: Person,
    owner: "asyncpg.Connection[asyncpg.Record]",
    archiver: Archiver,
    deliver: Deliver,
) -> None:
    """Sequence numbers, origins and checkpoints of two tenants that share batches are independent."""
    other = await accounts.add_tenant(owner, "other", KeyRing(context.settings.master_key_file).new_tenant_key())
    await accounts.add_domain(owner, "other", "other.test")
    await accounts.add_account(owner, "other", "eve@other.test", "x")
    for _ in range(3):
        await deliver(1)
        await deliver(2, tenant_id=other, login="eve@other.test")
    assert await archiver.archive_batch() == 9
    await archiver.sign_due(everything=True)
    rows = await context.pool.fetch(
        "SELECT tenant_id, array_agg(seq ORDER BY seq) AS seqs FROM archive_leaf GROUP BY 1"
    )
    assert {row["tenant_id"]: row["seqs"] for row in rows} == {
        account.tenant_id: list(range(3)),
        other: list(range(6)),
    }
    assert await context.pool.fetchval("SELECT count(DISTINCT origin) FROM archive_log") == 2
    assert await context.pool.fetchval("SELECT array_agg(size ORDER BY size) FROM archive_checkpoint") == [3, 6]


async def test_a_batch_that_is_rolled_back_leaves_nothing(
    context: Context, archiver: Archiver, deliver: Deliver
) -> None:
    """A crash between appending and marking leaves neither leaves nor marks, and the rows are archived afterwards, once."""
    await deliver(4)
    async with context.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        claimed = await journal.claim(connection, 100)
        appended = await evidence.append_messages(connection, claimed, hostname="mail.example.test")
        assert len(appended.archived) == 4
        await transaction.rollback()
    for table in ("archive_log", "archive_leaf", "archive_message"):
        assert await context.pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert await archiver.archive_batch() == 4
    assert await context.pool.fetchval("SELECT array_agg(seq ORDER BY seq) FROM archive_leaf") == [0, 1, 2, 3]


async def test_rows_that_another_holds_are_passed_over(context: Context, archiver: Archiver, deliver: Deliver) -> None:
    """A claim skips what another transaction has claimed, and the log's lock makes the second wait for the first's numbers."""
    await deliver(5)
    async with context.pool.acquire() as first:
        transaction = first.transaction()
        await transaction.start()
        held = await journal.claim(first, 2)
        appended = await evidence.append_messages(first, held, hostname="mail.example.test")
        second = asyncio.create_task(archiver.archive_batch())
        await _until_lock_is_wanted(context)
        assert not second.done()
        await journal.mark_archived(first, appended.archived)
        await transaction.commit()
    assert await second == 3
    seqs = await context.pool.fetch("SELECT archived_seq FROM journal ORDER BY journal_id")
    assert [row[0] for row in seqs] == [0, 1, 2, 3, 4]


async def _until_lock_is_wanted(context: Context) -> None:
    async with asyncio.timeout(30):
        while not await context.pool.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ):
            pass


async def test_several_archivers_at_once_archive_each_message_once(
    context: Context, account: Person, deliver: Deliver
) -> None:
    """Three archivers and a running intake: every message has exactly one leaf, without gaps."""
    archivers = [new_archiver(context) for _ in range(3)]
    delivered = asyncio.Event()

    async def work(archiver: Archiver) -> None:
        while True:
            is_last = delivered.is_set()
            await archiver.archive_batch()
            await archiver.sign_due(everything=True)
            if is_last and not await archiver.archive_batch():
                return

    async def intake() -> None:
        for first in range(0, 120, 6):
            await asyncio.gather(*(deliver(1, first=first + more) for more in range(6)))
        delivered.set()

    await asyncio.gather(intake(), *(work(archiver) for archiver in archivers))
    assert await context.pool.fetchval("SELECT count(*) FROM journal WHERE archived_seq IS NULL") == 0
    assert await context.pool.fetchval("SELECT array_agg(seq ORDER BY seq) FROM archive_leaf") == list(range(120))
    matching = (
        "SELECT count(*) FROM journal AS j JOIN archive_message AS m USING (journal_id) WHERE j.archived_seq = m.seq"
    )
    assert await context.pool.fetchval(matching) == 120


@pytest.mark.parametrize(
    "table", ["archive_key", "archive_log", "archive_leaf", "archive_message", "archive_checkpoint"]
)
@pytest.mark.parametrize("change", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_the_archive_is_append_only(
    context: Context,
    owner: "asyncpg.Connection[asyncpg.Record]",
    archiver: Archiver,
    deliver: Deliver,
    table: str,
    change: str,
) -> None:
    """Neither the daemons' role nor the schema's owner can change or delete a row."""
    await deliver(1)
    await archiver.archive_batch()
    await archiver.sign_due(everything=True)
    column = "public_key" if table == "archive_key" else "tenant_id"
    statement = change.format(table, column, column)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
        await context.pool.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the archive is append-only"):
        await owner.execute(statement)


async def test_a_log_cut_short_is_not_appended_to(
    context: Context, account: Person, owner: "asyncpg.Connection[asyncpg.Record]", archiver: Archiver, deliver: Deliver
) -> None:
    """Leaves that a checkpoint has signed are gone: new messages wait in the journal instead of taking their numbers."""
    await deliver(3)
    await archiver.archive_batch()
    await archiver.sign_due(everything=True)
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")
        await owner.execute("DELETE FROM archive_leaf WHERE seq = 2; DELETE FROM archive_message WHERE seq = 2")
    await deliver(2)
    assert await archiver.archive_batch() == 0
    assert await archiver.archive_batch() == 0
    async with context.pool.acquire() as connection:
        assert await journal.waiting(connection) == 2
        assert await journal.claim(connection, 10, excluded=[account.tenant_id]) == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("UPDATE archive_checkpoint SET note = replace(note, 'postwerk 0', 'postwerk 1')", "no trusted key"),
        ("UPDATE archive_checkpoint SET frontier = set_byte(frontier, 0, get_byte(frontier, 0) # 1)", "frontier"),
        ("UPDATE archive_checkpoint SET frontier = frontier || '\\x00'", "edge of a tree"),
        ("DELETE FROM archive_leaf WHERE seq = 3", "leaf 3 is missing"),
        ("DELETE FROM archive_log", "no log"),
    ],
)
async def test_a_damaged_log_is_not_signed(
    context: Context,
    account: Person,
    owner: "asyncpg.Connection[asyncpg.Record]",
    archiver: Archiver,
    deliver: Deliver,
    damage: str,
    reason: str,
) -> None:
    """A checkpoint that does not verify, or a gap since, is an error: nothing new is signed over it."""
    await deliver(3)
    await archiver.archive_batch()
    await archiver.sign_due(everything=True)
    await deliver(2, first=3)
    await archiver.archive_batch()
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")
        await owner.execute(damage)
    key_file = context.settings.archive_key_file
    async with context.pool.acquire() as connection:
        with pytest.raises(CorruptError, match=reason):
            await evidence.sign_checkpoint(
                connection, account.tenant_id, open_signer(key_file), trusted_keys(key_file), at=datetime.now(UTC)
            )
    await archiver.sign_due(everything=True)
    assert await context.pool.fetchval("SELECT count(*) FROM archive_checkpoint") == 1
