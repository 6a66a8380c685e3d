"""What the keeper may delete, and what it may not, with real contents, blobs and segments."""

import asyncio
import fcntl
import os

import asyncpg
import pytest

from daemons.context import Context
from storage import mailboxes, messages
from storage.blobs import sweep
from storage.blobs.segments import SegmentWriter, segment_path, whole_octets
from storage.errors import NotFoundError
from storage.rows import ContentFacts, JournalEntry, NewMessage, Placement
from tests.conftest import Person

FACTS = ContentFacts(b"()", b"()", b"\x90", b"", None, None, "", ())


@pytest.fixture
async def inbox(context: Context, account: Person) -> int:
    """Alice's inbox."""
    async with context.pool.acquire() as connection:
        found = await mailboxes.find(connection, account.account_id, "INBOX")
    assert found is not None
    return found.mailbox_id


async def store(
    context: Context, account: Person, inbox: int, original: bytes, *, journal: JournalEntry | None = None
) -> int:
    """Store a message that nobody journals, as APPEND does. Returns its content's id."""
    message = NewMessage(account.tenant_id, b"", original, FACTS, [Placement(inbox)], journal)
    return (await context.ingest.store([message]))[0].content_id


async def remove(context: Context, inbox: int, *uids: int) -> None:
    """Expunge placements."""
    async with context.pool.acquire() as connection:
        await messages.remove(connection, inbox, uids)


async def sweep_all(context: Context, *, grace_seconds: float = 0) -> tuple[int, int]:
    """Contents and blobs removed by a whole round with tiny slices."""
    contents = blobs = 0
    async with context.pool.acquire() as connection:
        after: int | None = 0
        while after is not None:
            removed, after = await sweep.sweep_contents(connection, after, 2, grace_seconds=grace_seconds)
            contents += removed
        name: tuple[int, bytes] | None = (0, b"")
        while name is not None:
            removed, name = await sweep.sweep_blobs(connection, name, 2)
            blobs += removed
    return contents, blobs


async def test_only_what_nothing_refers_to_goes(context: Context, account: Person, inbox: int) -> None:
    """Contents without a placement go, with their blobs and keys; the others stay readable."""
    kept = [await store(context, account, inbox, b"kept %d\r\n" % number) for number in range(3)]
    gone = [await store(context, account, inbox, b"gone %d\r\n" % number) for number in range(3)]
    assert await sweep_all(context) == (0, 0)
    await remove(context, inbox, 4, 5, 6)
    assert await sweep_all(context, grace_seconds=3600) == (0, 0)
    assert await sweep_all(context) == (3, 3)
    assert await sweep_all(context) == (0, 0)
    for number, content_id in enumerate(kept):
        assert await context.blobs.read(content_id) == b"kept %d\r\n" % number
    for content_id in gone:
        with pytest.raises(NotFoundError):
            await context.blobs.read(content_id)


async def test_a_blob_that_another_content_is_made_of_stays(context: Context, account: Person, inbox: int) -> None:
    """Two contents of the same octets share a blob; it goes with the last of them."""
    first = await store(context, account, inbox, b"same\r\n")
    second = await store(context, account, inbox, b"same\r\n")
    assert first != second
    await remove(context, inbox, 1)
    assert await sweep_all(context) == (1, 0)
    assert await context.blobs.read(second) == b"same\r\n"
    await remove(context, inbox, 2)
    assert await sweep_all(context) == (1, 1)


async def test_a_part_shared_between_contents_stays(context: Context, account: Person, inbox: int) -> None:
    """A blob that is a part of a remaining content is kept."""
    part = b"x" * 40_000
    originals = [b"%d\r\n" % number + part for number in range(2)]
    facts = ContentFacts(b"()", b"()", b"\x90", b"", None, None, "", ((3, len(part)),))
    stored = [
        (await context.ingest.store([NewMessage(account.tenant_id, b"", original, facts, [Placement(inbox)])]))[0]
        for original in originals
    ]
    await remove(context, inbox, 1)
    assert await sweep_all(context) == (1, 1)  # the first one's skeleton
    assert await context.blobs.read(stored[1].content_id) == originals[1]


@pytest.mark.parametrize("reference", ["journal", "archive_message", "outbound_message"])
async def test_every_reference_keeps_a_content(
    context: Context, account: Person, inbox: int, owner: "asyncpg.Connection[asyncpg.Record]", reference: str
) -> None:
    """What the journal, the archive or the outbound queue refers to is never deleted."""
    content_id = await store(context, account, inbox, b"mail\r\n")
    await owner.execute(
        {
            "journal": "INSERT INTO journal (tenant_id, content_id, direction, envelope, digest, size_octets, accepted_at)"
            " SELECT tenant_id, content_id, 'in', '', digest, size_octets, now() FROM content",
            "archive_message": "INSERT INTO archive_message"
            " SELECT tenant_id, 0, 1, content_id, 'in', '', sha256(''), digest FROM content",
            "outbound_message": "INSERT INTO outbound_message (tenant_id, content_id, reverse_path, expires_at)"
            " SELECT tenant_id, content_id, '', now() FROM content",
        }[reference]
    )
    await remove(context, inbox, 1)
    assert await sweep_all(context) == (0, 0)
    assert await context.blobs.read(content_id) == b"mail\r\n"


async def test_a_reference_that_commits_meanwhile_keeps_the_content(
    context: Context, account: Person, inbox: int, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The sweep waits for a transaction that is adding a reference, looks again, and leaves the content alone."""
    content_id = await store(context, account, inbox, b"mail\r\n")
    await remove(context, inbox, 1)
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute(
        "INSERT INTO outbound_message (tenant_id, content_id, reverse_path, expires_at) VALUES ($1, $2, '', now())",
        account.tenant_id,
        content_id,
    )
    swept = asyncio.create_task(sweep_all(context))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while not await owner.fetchval(waits):
            await asyncio.sleep(0)
    await transaction.commit()
    assert await swept == (0, 0)
    assert await context.blobs.read(content_id) == b"mail\r\n"


async def test_intake_and_sweep_at_once_lose_nothing(context: Context, account: Person, inbox: int) -> None:
    """The same octets are stored, removed and swept again and again: whatever was acknowledged is readable."""
    done = asyncio.Event()

    async def sweeping() -> None:
        while not done.is_set():
            await sweep_all(context)

    task = asyncio.create_task(sweeping())
    for uid in range(1, 41):
        content_id = await store(context, account, inbox, b"again and again\r\n")
        assert await context.blobs.read(content_id) == b"again and again\r\n"
        await remove(context, inbox, uid)
    done.set()
    await task


async def test_old_expunges_are_forgotten_after_a_round(context: Context, account: Person, inbox: int) -> None:
    """Beyond the limit the oldest go, never those above where the mailbox stood a round ago, and the mailbox tells how far."""
    for number in range(6):
        await store(context, account, inbox, b"%d\r\n" % number)
        await remove(context, inbox, number + 1)
    async with context.pool.acquire() as connection:
        assert await sweep.forget_expunged(connection, 2, up_to={}) == 0
        assert await sweep.long_histories(connection, 6) == {}
        stood = await sweep.long_histories(connection, 2)
        (highest,) = stood.values()
        assert await sweep.forget_expunged(connection, 2, up_to={inbox: 3}) == 1
        rest = await connection.fetch("SELECT modseq FROM expunged ORDER BY modseq")
        assert all(row["modseq"] > 3 for row in rest)
        assert await connection.fetchval("SELECT expunged_forgotten FROM mailbox WHERE mailbox_id = $1", inbox) == 3
        assert await sweep.forget_expunged(connection, 2, up_to=stood) == 1
        rest = await connection.fetch("SELECT uid, modseq FROM expunged ORDER BY uid")
        assert [row["uid"] for row in rest] == [5, 6]
        forgotten = await connection.fetchval("SELECT expunged_forgotten FROM mailbox WHERE mailbox_id = $1", inbox)
        assert forgotten < rest[0]["modseq"] <= highest


async def test_segments_go_with_their_last_blob(context: Context, account: Person, inbox: int) -> None:
    """A sealed segment without a blob goes, row and file, after the grace; one with a blob or a writer stays."""
    directory = context.settings.segments_directory
    await store(context, account, inbox, b"mail\r\n")
    segment_id = await context.pool.fetchval("SELECT segment_id FROM segment")
    async with context.pool.acquire() as connection:
        await connection.execute("UPDATE segment SET sealed_at = now(), size_octets = 100")
        assert await sweep.sweep_segments(connection, directory, 10, grace_seconds=0) == 0
        await remove(context, inbox, 1)
        assert await sweep_all(context) == (1, 1)
        assert await sweep.sweep_segments(connection, directory, 10, grace_seconds=3600) == 0
        assert segment_path(directory, segment_id).exists()
        assert await sweep.sweep_segments(connection, directory, 10, grace_seconds=0) == 100
        assert not segment_path(directory, segment_id).exists()
        assert await connection.fetchval("SELECT count(*) FROM segment") == 0


async def test_a_segment_whose_file_has_gone_already_is_deleted(context: Context) -> None:
    """A round that died between file and row is finished by the next."""
    async with context.pool.acquire() as connection:
        await connection.execute("INSERT INTO segment (segment_id, size_octets, sealed_at) VALUES (77, 5, now())")
        directory = context.settings.segments_directory
        assert await sweep.sweep_segments(connection, directory, 10, grace_seconds=0) == 5
        assert await connection.fetchval("SELECT count(*) FROM segment") == 0


async def test_only_a_dead_writers_segment_is_sealed(context: Context, account: Person, inbox: int) -> None:
    """An open segment is sealed, at the end of its last whole record, when nobody holds its file and it is old enough."""
    directory = context.settings.segments_directory
    await store(context, account, inbox, b"mail\r\n")
    segment_id = await context.pool.fetchval("SELECT segment_id FROM segment")
    path = segment_path(directory, segment_id)
    async with context.pool.acquire() as connection:
        assert await sweep.seal_abandoned(connection, directory, grace_seconds=0) == 0  # the ingest task lives
        writer = SegmentWriter(directory, context.pool)
        await writer.ready()
        dead_id = await connection.fetchval("SELECT max(segment_id) FROM segment")
        dead = segment_path(directory, dead_id)
        dead.write_bytes(path.read_bytes() + b"half a record")
        assert await sweep.seal_abandoned(connection, directory, grace_seconds=0) == 0
        writer._abandon()  # what the kernel does for a process that dies
        assert await sweep.seal_abandoned(connection, directory, grace_seconds=3600) == 0
        assert await sweep.seal_abandoned(connection, directory, grace_seconds=0) == 1
        size = await connection.fetchval("SELECT size_octets FROM segment WHERE segment_id = $1", dead_id)
        assert size == whole_octets(path) == path.stat().st_size
        await connection.execute("INSERT INTO segment (segment_id) VALUES (78)")  # its file is on another host
        assert await sweep.seal_abandoned(connection, directory, grace_seconds=0) == 0


async def test_a_file_lock_ends_with_its_process(context: Context) -> None:
    """What sealing relies on: a second descriptor cannot lock a segment that a writer holds."""
    writer = SegmentWriter(context.settings.segments_directory, context.pool)
    await writer.ready()
    segment_id = await context.pool.fetchval("SELECT max(segment_id) FROM segment")
    descriptor = os.open(segment_path(context.settings.segments_directory, segment_id), os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await writer.seal()
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)
