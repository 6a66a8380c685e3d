"""Ingest against a real server: durability's bookkeeping, deduplication, failure of one among many, lost connections."""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from daemons.context import Context
from storage.errors import MailboxNotFoundError
from storage.rows import NewMessage, Placement
from tests.conftest import Owner, Person, add_person
from tests.storage.messages_made import assert_counters_true, facts, fill, journal_entry, mailbox_id, new_message

ATTACHMENT = hashlib.shake_256(b"attachment").digest(60_000)


async def test_what_is_stored_comes_back_octet_for_octet(context: Context, account: Person, owner: Owner) -> None:
    """Head and original are returned as they were given, whole and by range."""
    box = await mailbox_id(owner, account)
    original = b"Subject: a\r\n\r\n" + bytes(range(256)) * 40
    [stored] = await context.ingest.store([new_message(account, box, original, head=b"Received: x\r\n")])
    assert await context.blobs.message(stored.content_id) == b"Received: x\r\n" + original
    assert await context.blobs.read(stored.content_id, 5, 300) == original[5:300]
    assert (stored.placed[0].uid, stored.placed[0].mailbox_id) == (1, box)
    await assert_counters_true(owner)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 5_000_000])
async def test_sizes_around_the_chunk(context: Context, account: Person, owner: Owner, size: int, state: Path) -> None:
    """A message of any size, from memory or from a spool file, is returned exactly."""
    box = await mailbox_id(owner, account)
    octets = os.urandom(size // 2) + b"a" * (size - size // 2)
    original: bytes | Path = octets
    if size > 1 << 20:
        original = state / "spooled"
        original.write_bytes(octets)
    [stored] = await context.ingest.store([NewMessage(account.tenant_id, b"", original, facts(), [Placement(box)])])
    assert await context.blobs.read(stored.content_id) == octets
    assert b"".join([piece async for piece in context.blobs.stream(stored.content_id)]) == octets
    middle = size // 2
    assert (
        await context.blobs.read(stored.content_id, middle - 10 if middle > 10 else 0, middle + 10)
        == octets[max(0, middle - 10) : middle + 10]
    )


async def test_neighbours_are_located_with_what_is_wanted(context: Context, account: Person, owner: Owner) -> None:
    """After prefetch() of one content with its neighbours, where those lie is known without a query."""
    box = await mailbox_id(owner, account)
    messages = [new_message(account, box, b"Subject: %d\r\n\r\n" % number) for number in range(4)]
    wanted, *near, other = [stored.content_id for stored in await context.ingest.store(messages)]
    await context.blobs.prefetch([wanted], neighbours=[wanted, *near])
    async with owner.transaction():
        await owner.execute("LOCK TABLE content, blob")
        async with asyncio.timeout(20):
            assert [(await context.blobs.layout(each)).original_octets for each in (wanted, *near)] == [14] * 3
        unknown = asyncio.create_task(context.blobs.layout(other))
        await asyncio.wait([unknown], timeout=0.1)
        assert not unknown.done()
    assert (await unknown).original_octets == 14


async def test_an_attachment_is_stored_once(context: Context, account: Person, owner: Owner) -> None:
    """Two different messages with the same attachment share its blob, and both come back whole."""
    box = await mailbox_id(owner, account)
    originals = [b"Subject: %d\r\n\r\n" % number + ATTACHMENT + b"\r\n--end" for number in range(2)]
    stored = [
        (await context.ingest.store([new_message(account, box, original, extents=((14, len(ATTACHMENT)),))]))[0]
        for original in originals
    ]
    assert [await context.blobs.read(one.content_id) for one in stored] == originals
    assert await context.blobs.read(stored[1].content_id, 10, 20) == originals[1][10:20]
    assert await context.blobs.read(stored[1].content_id, 60_010, 60_020) == originals[1][60_010:60_020]
    assert await owner.fetchval("SELECT count(*) FROM blob") == 3
    assert await owner.fetchval("SELECT count(*) FROM content_part") == 2


async def test_one_message_to_many_is_one_content(context: Context, account: Person, owner: Owner) -> None:
    """A message to several recipients is one content, one blob and a placement each; sent again, the blob is shared."""
    others = [await add_person(context.settings, owner, f"user{number}@example.test") for number in range(5)]
    boxes = [await mailbox_id(owner, person) for person in (account, *others)]
    for _ in range(2):
        message = NewMessage(
            account.tenant_id, b"", b"x" * 100, facts(), [Placement(box) for box in boxes], journal_entry()
        )
        [stored] = await context.ingest.store([message])
        assert [placed.mailbox_id for placed in stored.placed] == boxes
    counts = [
        await owner.fetchval(f"SELECT count(*) FROM {table}") for table in ("blob", "content", "message", "journal")
    ]
    assert counts == [1, 2, 12, 2]
    await assert_counters_true(owner)


async def test_many_at_once_gather_into_few_transactions(context: Context, account: Person, owner: Owner) -> None:
    """UIDs of concurrent deliveries are dense and each is given once."""
    box = await mailbox_id(owner, account)
    stored = await asyncio.gather(*(
        context.ingest.store([new_message(account, box, b"Subject: %d\r\n\r\n" % number)]) for number in range(200)
    ))  # fmt: skip
    assert sorted(one[0].placed[0].uid for one in stored) == list(range(1, 201))
    assert await owner.fetchval("SELECT count(DISTINCT xmin::text) FROM content") < 20
    await assert_counters_true(owner)


async def test_a_vanished_mailbox_fails_its_message_alone(context: Context, account: Person, owner: Owner) -> None:
    """In a batch, the message whose mailbox is gone fails and the others are stored."""
    box = await mailbox_id(owner, account)
    results = await asyncio.gather(
        context.ingest.store([new_message(account, box, b"first")]),
        context.ingest.store([new_message(account, box, b"second"), new_message(account, 999_999, b"second too")]),
        context.ingest.store([new_message(account, box, b"third")]),
        return_exceptions=True,
    )
    assert isinstance(results[1], MailboxNotFoundError)
    assert not isinstance(results[0], BaseException)
    assert not isinstance(results[2], BaseException)
    assert await owner.fetchval("SELECT count(*) FROM message") == 2, "the group of two is stored whole or not at all"
    assert await owner.fetchval("SELECT count(*) FROM content") == 2
    await assert_counters_true(owner)


async def test_a_batch_that_counted_on_one_that_failed(context: Context, account: Person, owner: Owner) -> None:
    """A message whose blob another one was just committing is stored even when that other one fails."""
    inbox, trash = await mailbox_id(owner, account), await mailbox_id(owner, account, "Trash")
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute("SELECT FROM mailbox WHERE mailbox_id = $1 FOR UPDATE", inbox)
    first = [new_message(account, box, ATTACHMENT) for box in (inbox, 999_999)]
    failing = asyncio.create_task(context.ingest.store(first))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not await owner.fetchval(waiting):
        pass
    following = asyncio.create_task(context.ingest.store([new_message(account, trash, ATTACHMENT)]))
    for _ in range(10):
        await owner.fetchval(waiting)  # meanwhile the second batch is prepared, and finds the blob on its way
    await transaction.rollback()
    with pytest.raises(MailboxNotFoundError):
        await failing
    [stored] = await following
    assert await context.blobs.read(stored.content_id) == ATTACHMENT
    assert await owner.fetchval("SELECT count(*) FROM blob") == 1
    await assert_counters_true(owner)


async def test_killed_connections_lose_and_double_nothing(context: Context, account: Person, owner: Owner) -> None:
    """While backends are killed again and again under the insert, every acknowledged message is there exactly once."""
    box = await mailbox_id(owner, account)
    kills = 0

    async def kill() -> int:
        found = await owner.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%INSERT INTO blob%'"
        )
        return int(found)

    async def deliver(sender: int, number: int) -> bytes:
        original = b"Subject: %d-%d\r\n\r\n" % (sender, number)
        await context.ingest.store([new_message(account, box, original)])
        return original

    acknowledged: list[bytes] = []
    for number in range(20):
        round_ = [asyncio.create_task(deliver(sender, number)) for sender in range(8)]
        kills += await kill()
        kills += await kill()
        acknowledged += await asyncio.gather(*round_)
    assert kills
    contents = [row[0] for row in await owner.fetch("SELECT content_id FROM message ORDER BY content_id")]
    assert sorted([await context.blobs.read(content_id) for content_id in contents]) == sorted(acknowledged)
    await assert_counters_true(owner)


async def test_every_message_has_its_journal_row(context: Context, account: Person, owner: Owner) -> None:
    """The journal row is written with the message and carries the digest of the octets as accepted."""
    box = await mailbox_id(owner, account)
    [stored] = await context.ingest.store([new_message(account, box, b"octets", head=b"Received: x\r\n")])
    row = await owner.fetchrow("SELECT * FROM journal")
    assert row is not None
    assert (row["content_id"], row["digest"]) == (stored.content_id, hashlib.sha256(b"octets").digest())
    assert (row["size_octets"], row["archived_seq"]) == (6, None)


async def test_delivery_is_told_to_other_processes(context: Context, account: Person, owner: Owner) -> None:
    """A subscriber of the mailbox is called back after the commit."""
    box = await mailbox_id(owner, account)
    told = asyncio.Event()
    end = context.changes.subscribe(box, lambda _: told.set())
    while not context.changes.is_connected:
        await asyncio.sleep(0)
    told.clear()
    await fill(context, account, box, 1)
    async with asyncio.timeout(30):
        await told.wait()
    end()


async def test_statement_is_one_round_trip(context: Context, account: Person, owner: Owner) -> None:
    """A batch into 700 mailboxes works: notifications are split below PostgreSQL's limit of 8,000 octets."""
    row: Any = await owner.fetchrow("SELECT tenant_id, account_id FROM account")
    await owner.execute(
        "INSERT INTO mailbox (tenant_id, account_id, name) SELECT $1, $2, 'box ' || n FROM generate_series(1, 700) AS n",
        *row,
    )
    boxes = [found[0] for found in await owner.fetch("SELECT mailbox_id FROM mailbox WHERE name LIKE 'box %'")]
    message = NewMessage(account.tenant_id, b"", b"x", facts(), [Placement(box) for box in boxes])
    [stored] = await context.ingest.store([message])
    assert {placed.uid for placed in stored.placed} == {1}
    await assert_counters_true(owner)
