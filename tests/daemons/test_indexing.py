"""The search index as the archiver's process fills it: everything once, nothing lost, whatever is in the mail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import msgspec
import pytest

from config.search import Search
from config.units import Octets, Seconds
from daemons.archiver import service
from daemons.archiver.indexing import Indexer
from daemons.context import Context
from daemons.delivery import prepare
from protocol.message import scan
from protocol.message.text import TEXT_VERSION, canonical_text
from storage import mailboxes, search_text
from storage.rows import Placement
from tests.conftest import Person

Deliver = Callable[..., Awaitable[list[int]]]
HEAD = b"Return-Path: <>\r\n"


def mail(subject: str, body: str = "Grüße\r\n") -> bytes:
    """A small message."""
    lines = (f"Subject: {subject}", "From: a@example.test", "Content-Type: text/plain; charset=utf-8", "", body)
    return "\r\n".join(lines).encode()


@pytest.fixture
async def store(context: Context, account: Person) -> Deliver:
    """Stores messages in alice's INBOX; gives their content ids."""
    async with context.pool.acquire() as connection:
        found = await mailboxes.find(connection, account.account_id, "INBOX")
    assert found is not None

    async def run(*originals: bytes) -> list[int]:
        placements = [Placement(found.mailbox_id, 0, (), None)]
        group = [await prepare(account.tenant_id, HEAD, original, placements) for original in originals]
        return [stored.content_id for stored in await context.ingest.store(group)]

    return run


@contextlib.asynccontextmanager
async def indexer(context: Context, **changes: object) -> AsyncIterator[Indexer]:
    """An indexer that is not running."""
    made = Indexer(context.pool, context.blobs, msgspec.structs.replace(Search(), **changes))
    try:
        yield made
    finally:
        await made.close()


async def rows(context: Context) -> dict[int, asyncpg.Record]:
    """The index, by content."""
    return {row["content_id"]: row for row in await context.pool.fetch("SELECT * FROM search_text")}


async def waiting(context: Context) -> int:
    """How many contents wait."""
    async with context.pool.acquire() as connection:
        return await search_text.backlog(connection, most=1000)


async def test_what_is_stored_is_indexed(context: Context, store: Deliver) -> None:
    """Every content gets its canonical text, our own head included, its stems and its preview; then none waits."""
    first, second = await store(mail("eins"), mail("zwei", "Die Häuser stehen.\r\n"))
    assert await waiting(context) == 2
    async with indexer(context) as worker:
        assert await worker.index_batch() == 2
        assert await worker.index_batch() == 0
    assert await waiting(context) == 0
    found = await rows(context)
    header, body = canonical_text(HEAD, mail("eins"), scan(mail("eins")))
    assert (found[first]["header"], found[first]["body"]) == (header, body)
    assert "RETURN-PATH: <>" in header
    assert body == "GRU\u0308ßE\n"
    assert found[second]["version"] == TEXT_VERSION
    assert " haus " in found[second]["words"].splitlines()[3]
    assert found[second]["preview"] == "Die Häuser stehen."


async def test_ids_that_commit_out_of_order_are_found(context: Context, store: Deliver) -> None:
    """A content that was committed after one with a higher id was indexed is indexed, too."""
    low, high = await store(mail("low"), mail("high"))
    async with context.pool.acquire() as connection, indexer(context) as worker:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT FROM search_waiting WHERE content_id = $1 FOR UPDATE", low)
        assert await worker.index_batch() == 1
        await transaction.rollback()
        assert (await rows(context)).keys() == {high}
        assert await worker.index_batch() == 1
    assert (await rows(context)).keys() == {low, high}


async def test_several_indexers_share_the_work(context: Context, store: Deliver) -> None:
    """Two of them take different contents, and together all."""
    ids = await store(*(mail(f"number {number}") for number in range(20)))
    async with indexer(context, batch_limit=5) as one, indexer(context, batch_limit=5) as other:
        assert sum(await asyncio.gather(one.index_batch(), other.index_batch())) == 10
        assert sum(await asyncio.gather(one.index_batch(), other.index_batch())) == 10
        assert await one.index_batch() == 0
    assert (await rows(context)).keys() == set(ids)


async def test_what_a_dead_indexer_had_waits_again(context: Context, store: Deliver) -> None:
    """A claim ends with its lease; one that was given back was no attempt."""
    (content_id,) = await store(mail("left behind"))
    async with context.pool.acquire() as connection:
        (claimed,) = await search_text.claim(connection, 10, lease_seconds=3600)
        assert (claimed.content_id, claimed.attempts) == (content_id, 1)
        assert await search_text.claim(connection, 10, lease_seconds=3600) == []
        await search_text.release(connection, [content_id])
        (again,) = await search_text.claim(connection, 10, lease_seconds=0)
        assert again.attempts == 1
    async with indexer(context) as worker:
        assert await worker.index_batch() == 1
    assert (await rows(context))[content_id]["version"] == TEXT_VERSION


async def test_a_content_that_crashes_its_reader_is_marked(context: Context, store: Deliver) -> None:
    """After the last attempt a content is not read again: searches scan it."""
    (content_id,) = await store(mail("poison"))
    async with context.pool.acquire() as connection:
        for _ in range(3):
            await search_text.claim(connection, 10, lease_seconds=0)
    async with indexer(context, attempts=3) as worker:
        assert await worker.index_batch() == 1
    row = (await rows(context))[content_id]
    assert (row["version"], row["header"], row["body"]) == (search_text.UNREADABLE, None, None)
    assert await waiting(context) == 0


@pytest.mark.parametrize(
    "changes", [{"text_limit": Octets(10)}, {"memory": Octets(1 << 20)}, {"message_time": Seconds(0)}]
)
async def test_what_exceeds_a_limit_is_marked(context: Context, store: Deliver, changes: dict[str, object]) -> None:
    """Too much text, too little memory, too little time: the content is marked, the next one can be read."""
    (content_id,) = await store(mail("too much", "x" * (8 << 20)))
    async with indexer(context, **changes) as worker:
        assert await worker.index_batch() == 1
    assert (await rows(context))[content_id]["version"] == search_text.UNREADABLE
    async with context.pool.acquire() as connection:
        assert await search_text.unreadable(connection, most=10) == 1


async def test_a_damaged_content_is_marked(context: Context, store: Deliver) -> None:
    """Octets that do not fit their digest end nothing: the content is marked, its neighbour is indexed."""
    broken, good = await store(mail("broken"), mail("good"))
    segment = next(context.settings.segments_directory.iterdir())
    octets = bytearray(segment.read_bytes())
    place = await context.pool.fetchval(
        "SELECT position FROM blob AS b JOIN content AS c ON b.digest = c.skeleton WHERE content_id = $1", broken
    )
    octets[place + 60] ^= 0xFF
    segment.write_bytes(octets)
    async with indexer(context) as worker:
        assert await worker.index_batch() == 2
    found = await rows(context)
    assert (found[broken]["version"], found[good]["version"]) == (search_text.UNREADABLE, TEXT_VERSION)


async def test_text_goes_with_its_content(context: Context, store: Deliver) -> None:
    """Deleting a content deletes its text; one deleted before its turn is dropped from the waiting."""
    indexed, waits = await store(mail("indexed"), mail("waits"))
    async with indexer(context, batch_limit=1) as worker:
        assert await worker.index_batch() == 1
        for content_id in (indexed, waits):
            await context.pool.execute("DELETE FROM message WHERE content_id = $1", content_id)
            await context.pool.execute("DELETE FROM content WHERE content_id = $1", content_id)
        assert await rows(context) == {}
        assert await worker.index_batch() == 1
    assert await waiting(context) == 0
    assert await rows(context) == {}


async def test_a_row_of_another_version_is_replaced(context: Context, store: Deliver) -> None:
    """A content that waits again is indexed anew when its row was written by another version."""
    (content_id,) = await store(mail("old"))
    async with indexer(context) as worker:
        await worker.index_batch()
        await context.pool.execute("UPDATE search_text SET version = 99, header = 'old'")
        await context.pool.execute("INSERT INTO search_waiting (content_id) VALUES ($1)", content_id)
        await worker.index_batch()
    row = (await rows(context))[content_id]
    assert row["version"] == TEXT_VERSION
    assert "SUBJECT: OLD" in row["header"]


async def test_intake_wakes_the_indexer(context: Context, store: Deliver) -> None:
    """Stored mail is indexed long before the next poll, in the archiver's process, which ends in order."""
    search = msgspec.structs.replace(Search(), poll=Seconds(3600), gather=Seconds(0))
    changed = msgspec.structs.replace(context.settings, search=search)
    names = Context.__slots__[1:]
    stopping, is_ready = asyncio.Event(), asyncio.Event()
    running = Context(changed, *(getattr(context, name) for name in names))
    task = asyncio.create_task(service.serve(running, stopping, lambda _: is_ready.set()))
    await is_ready.wait()
    ids = await store(mail("one"))
    async with asyncio.timeout(20):
        while not await rows(context):
            await asyncio.sleep(0)
    ids += await store(mail("two"), mail("three"))
    async with asyncio.timeout(20):
        while len(await rows(context)) < 3:
            await asyncio.sleep(0)
    stopping.set()
    await task
    assert (await rows(context)).keys() == set(ids)
