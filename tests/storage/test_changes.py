"""What changed since a MODSEQ: exactly what a look at every message would find, whatever was done before and forgotten since."""

import random

import asyncpg
import pytest

from daemons.context import Context
from storage import messages
from storage.blobs import sweep
from storage.columns import read_columns
from storage.messages import Operation
from storage.rows import DELETED, FLAGGED, SEEN
from tests.conftest import Owner, Person, add_person
from tests.storage.messages_made import assert_counters_true, fill, mailbox_id


async def assert_exact(owner: Owner, box: int, viewer: int) -> None:
    """For every MODSEQ that ever was: the changed messages with their rows, and the expunged UIDs."""
    mailbox, rows = await messages.snapshot(owner, box, viewer)
    expunged = await owner.fetch("SELECT modseq, uid FROM expunged WHERE mailbox_id = $1", box)
    for since in range(mailbox.highestmodseq + 1):
        found = await messages.changes(owner, box, since, viewer)
        assert list(found.changed) == [row for row in rows if row.modseq > since], since
        assert list(found.expunged) == sorted(row["uid"] for row in expunged if row["modseq"] > since)
        assert (found.highestmodseq, found.uidnext, found.is_whole) == (mailbox.highestmodseq, mailbox.uidnext, False)


@pytest.mark.parametrize("seed", range(4))
async def test_changes_are_exact(context: Context, account: Person, owner: Owner, seed: int) -> None:
    """After random deliveries, STOREs, copies, moves and expunges by an owner and a viewer with a \\Seen of its own."""
    inbox, other = await mailbox_id(owner, account), await mailbox_id(owner, account, "Trash")
    viewer = (await add_person(context.settings, owner, "bob@example.test")).account_id
    await owner.execute("UPDATE mailbox SET is_seen_shared = false WHERE mailbox_id = $1", inbox)
    chance = random.Random(seed)
    for _ in range(40):
        uids = [row["uid"] for row in await owner.fetch("SELECT uid FROM message WHERE mailbox_id = $1", inbox)]
        some = chance.sample(uids, chance.randint(0, len(uids)))
        whose = chance.choice((0, viewer))
        operation: Operation = chance.choice(("add", "remove", "replace"))
        match chance.randrange(8):
            case 0 | 1:
                await fill(context, account, inbox, chance.randint(1, 4))
            case 2 | 3 | 4:
                keywords = chance.choice(([], ["$A"], ["$B", "c"]))
                await messages.store_flags(
                    owner,
                    inbox,
                    some,
                    operation,
                    chance.choice((0, SEEN, SEEN | FLAGGED, DELETED)),
                    keywords,
                    viewer=whose,
                )
            case 5:
                await messages.copy(owner, inbox, some, chance.choice((inbox, other)))
            case 6:
                await messages.move(owner, inbox, some[:2], chance.choice((inbox, other)))
            case 7:
                await messages.expunge(owner, inbox, chance.choice((None, some)))
    for whose in (0, viewer):
        await assert_exact(owner, inbox, whose)
    await assert_counters_true(owner)
    await sweep.forget_changes(owner, 3)
    assert await owner.fetchval("SELECT count(*) FROM message_change WHERE mailbox_id = $1", inbox) == 3
    for whose in (0, viewer):
        await assert_exact(owner, inbox, whose)


async def test_uids_as_ranges(context: Context, account: Person, owner: Owner) -> None:
    """UIDs in any order, doubled, with gaps, and some that do not exist: each message that exists changes once."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 9)
    stored = await messages.store_flags(owner, box, [8, 2, 3, 3, 1, 99, 6, 5], "add", FLAGGED, [])
    assert [row.uid for row in stored.changed] == [1, 2, 3, 5, 6, 8]
    assert await messages.remove(owner, box, []) == []
    assert await messages.remove(owner, box, [5, 4]) == [4, 5]
    assert (await messages.copy(owner, box, [9, 1, 4], box)).source_uids == (1, 9)


async def test_a_change_of_flags_touches_no_index(context: Context, account: Person, owner: Owner) -> None:
    """A changed row stays in its page and in no index anew: this is what makes STORE quick."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 3)
    before = await owner.fetch("SELECT ctid::text, uid FROM message ORDER BY uid")
    await messages.store_flags(owner, box, [1, 2, 3], "add", FLAGGED | DELETED, ["$Work"])
    indexed = await owner.fetch(
        "SELECT DISTINCT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid "
        "AND a.attnum = ANY (i.indkey) WHERE i.indrelid = 'message'::regclass"
    )
    assert {row["attname"] for row in indexed} == {"mailbox_id", "uid", "content_id"}
    assert not await owner.fetchval(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'message'::regclass AND indpred IS NOT NULL"
    )
    after = await owner.fetch("SELECT ctid::text, uid FROM message ORDER BY uid")
    pages = [{row["ctid"].partition(",")[0] for row in rows} for rows in (before, after)]
    assert pages[0] == pages[1]


async def test_a_mailbox_with_messages_stays(context: Context, account: Person, owner: Owner) -> None:
    """A mailbox cannot be deleted below its messages; with the last one gone, it takes its memory along."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 2)
    await messages.store_flags(owner, box, [1], "add", FLAGGED, [])
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await owner.execute("DELETE FROM mailbox WHERE mailbox_id = $1", box)
    await messages.remove(owner, box, [1, 2])
    await owner.execute("DELETE FROM mailbox WHERE mailbox_id = $1", box)
    for table in ("expunged", "message_change"):
        assert await owner.fetchval(f"SELECT count(*) FROM {table} WHERE mailbox_id = $1", box) == 0


async def test_columns_are_the_rows(context: Context, account: Person, owner: Owner) -> None:
    """A mailbox read as columns has the same messages as one read row by row, for its owner and for a viewer."""
    box = await mailbox_id(owner, account)
    viewer = (await add_person(context.settings, owner, "bob@example.test")).account_id
    await owner.execute("UPDATE mailbox SET is_seen_shared = false WHERE mailbox_id = $1", box)
    for count, whose in ((0, 0), (5, 0), (2, viewer)):
        await fill(context, account, box, count) if count else None
        await messages.store_flags(owner, box, [1, 3, 4], "add", SEEN | DELETED, [], viewer=whose)
        await messages.store_flags(owner, box, [2, 3], "add", FLAGGED, ["$Work", "b"], viewer=whose)
        for eyes in (0, viewer):
            expected, rows = await messages.snapshot(owner, box, eyes)
            mailbox, columns = await read_columns(owner, box, eyes)
            assert mailbox == expected
            assert list(columns.uids) == [row.uid for row in rows]
            assert list(columns.modseqs) == [row.modseq for row in rows]
            assert list(columns.sizes) == [row.size_octets for row in rows]
            assert list(columns.dates) == [int(row.internaldate.timestamp()) for row in rows]
            assert list(columns.contents) == [row.content_id for row in rows]
            assert list(columns.flags) == [row.flags for row in rows]
            assert columns.keywords == {row.uid: row.keywords for row in rows if row.keywords}


async def test_little_is_read_for_little(context: Context, account: Person, owner: Owner) -> None:
    """One message of a large mailbox is changed, copied, removed and found by reading a few rows, also before any ANALYZE."""
    box, other = await mailbox_id(owner, account), await mailbox_id(owner, account, "Trash")
    await fill(context, account, box, 1)
    await owner.execute(
        "INSERT INTO message (mailbox_id, uid, modseq, content_id, flags, size_octets, internaldate) "
        "SELECT mailbox_id, n, modseq, content_id, flags, size_octets, internaldate "
        "FROM message, generate_series(2, 5000) AS n WHERE mailbox_id = $1",
        box,
    )
    await owner.execute("UPDATE mailbox SET uidnext = 5001, message_count = 5000 WHERE mailbox_id = $1", box)
    read = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'message'"
    async with context.pool.acquire() as connection:
        for viewer in (0, account.account_id):
            async with connection.transaction(isolation="repeatable_read"):
                before = (await messages.changes(connection, box, 0, viewer)).highestmodseq
                start = await connection.fetchval(read)
                await messages.store_flags(connection, box, [2500], "add", FLAGGED | SEEN, ["$Work"], viewer=viewer)
                await messages.copy(connection, box, [2500], other)
                await messages.remove(connection, box, [2500 + bool(viewer)])
                changed = await messages.changes(connection, box, before, viewer)
                assert changed.expunged == (2500 + bool(viewer),)
                assert await connection.fetchval(read) - start < 50
