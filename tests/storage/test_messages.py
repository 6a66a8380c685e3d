"""Flags, copies, moves and removal on a real server, with sessions stepped against each other."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from daemons.context import Context
from storage import mailboxes, messages
from storage.errors import MailboxExistsError, MailboxNotFoundError
from storage.mailboxes import HasChildrenError, MailboxNameError
from storage.rows import DELETED, FLAGGED, SEEN
from tests.conftest import Owner, Person
from tests.storage.messages_made import assert_counters_true, fill, mailbox_id


@pytest.fixture
async def second(database: str) -> AsyncIterator[Owner]:
    """Another session."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def test_store_flags(context: Context, account: Person, owner: Owner) -> None:
    """Add, remove and replace touch what differs, count unseen, and give all changed messages one higher MODSEQ."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 4)
    added = await messages.store_flags(owner, box, [1, 2, 9], "add", SEEN | FLAGGED, ["$Work"])
    assert [(row.uid, row.flags, row.keywords) for row in added.changed] == [(1, 5, ("$Work",)), (2, 5, ("$Work",))]
    again = await messages.store_flags(owner, box, [1, 2], "add", SEEN, ["$Work"])
    assert again.changed == ()
    removed = await messages.store_flags(owner, box, [1], "remove", FLAGGED, ["$Work"])
    assert [(row.flags, row.keywords, row.modseq > added.modseq) for row in removed.changed] == [(SEEN, (), True)]
    replaced = await messages.store_flags(owner, box, [2], "replace", 0, ["a", "b"])
    assert [(row.flags, row.keywords) for row in replaced.changed] == [(0, ("a", "b"))]
    await assert_counters_true(owner)


async def test_store_unchanged_since(context: Context, account: Person, owner: Owner) -> None:
    """A message changed after UNCHANGEDSINCE is refused and keeps its flags."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 2)
    first = await messages.store_flags(owner, box, [1], "add", SEEN, [])
    result = await messages.store_flags(owner, box, [1, 2], "add", DELETED, [], unchanged_since=first.modseq - 1)
    assert result.refused == (1,)
    assert [row.uid for row in result.changed] == [2]


async def test_copy_move_and_remove(context: Context, account: Person, owner: Owner) -> None:
    """Copies get new UIDs in order; a move leaves vanished UIDs behind; counters stay true."""
    inbox, trash = await mailbox_id(owner, account), await mailbox_id(owner, account, "Trash")
    await fill(context, account, inbox, 5)
    copied = await messages.copy(owner, inbox, [4, 2], trash)
    assert (copied.source_uids, copied.target_uids) == ((2, 4), (1, 2))
    before = (await messages.changes(owner, inbox, 0)).highestmodseq
    moved = await messages.move(owner, inbox, [1, 3], trash)
    assert (moved.source_uids, moved.target_uids) == ((1, 3), (3, 4))
    changes = await messages.changes(owner, inbox, before)
    assert (changes.expunged, changes.changed) == ((1, 3), ())
    await messages.store_flags(owner, inbox, [2, 4], "add", DELETED, [])
    assert await messages.expunge(owner, inbox, [4, 5]) == [4]
    assert await messages.expunge(owner, inbox) == [2]
    assert await messages.remove(owner, inbox, [5]) == [5]
    assert [row.uid for row in (await messages.snapshot(owner, inbox))[1]] == []
    await assert_counters_true(owner)
    with pytest.raises(MailboxNotFoundError):
        await messages.copy(owner, trash, [1], 10**9)


async def test_forgotten_expunges_give_the_whole_mailbox(context: Context, account: Person, owner: Owner) -> None:
    """Who asks from before what is remembered of expunges gets all messages, and is told so."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 3)
    await messages.remove(owner, box, [2])
    await owner.execute("DELETE FROM expunged")
    await owner.execute("UPDATE mailbox SET expunged_forgotten = highestmodseq")
    changes = await messages.changes(owner, box, 1)
    assert (changes.is_whole, [row.uid for row in changes.changed]) == (True, [1, 3])
    assert not (await messages.changes(owner, box, changes.highestmodseq)).is_whole


async def test_copy_into_the_same_mailbox(context: Context, account: Person, owner: Owner) -> None:
    """A copy into its own mailbox places the messages again at the end."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 3)
    assert (await messages.copy(owner, box, [1, 2], box)).target_uids == (4, 5)
    moved = await messages.move(owner, box, [1], box)
    assert moved.target_uids == (6,)
    assert [row.uid for row in (await messages.snapshot(owner, box))[1]] == [2, 3, 4, 5, 6]
    await assert_counters_true(owner)


async def test_a_writer_waits_for_the_mailbox(context: Context, account: Person, owner: Owner, second: Owner) -> None:
    """While one session's change is uncommitted, another's waits and then builds on it: no update is lost."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 1)
    transaction = owner.transaction()
    await transaction.start()
    first = await messages.store_flags(owner, box, [1], "add", SEEN, ["one"])
    waiting = asyncio.create_task(messages.store_flags(second, box, [1], "add", FLAGGED, ["two"]))
    delivery = asyncio.create_task(fill(context, account, box, 1))
    while await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") < 2:
        await asyncio.sleep(0)
    assert not waiting.done()
    await transaction.commit()
    changed = (await waiting).changed[0]
    assert (changed.flags, changed.keywords) == (SEEN | FLAGGED, ("one", "two"))
    assert changed.modseq > first.modseq
    assert await delivery == [2]
    _, rows = await messages.snapshot(owner, box)
    assert len({row.modseq for row in rows}) == 2, "each transaction has a MODSEQ of its own"
    await assert_counters_true(owner)


async def test_concurrent_moves_do_not_deadlock(context: Context, account: Person, owner: Owner, second: Owner) -> None:
    """Moves between two mailboxes in both directions at once finish, and no message is lost or doubled."""
    inbox, trash = await mailbox_id(owner, account), await mailbox_id(owner, account, "Trash")
    await fill(context, account, inbox, 20)
    await fill(context, account, trash, 20)
    for uid in range(1, 21):
        await asyncio.gather(messages.move(owner, inbox, [uid], trash), messages.move(second, trash, [uid], inbox))
    assert await owner.fetchval("SELECT count(*) FROM message") == 40
    assert await owner.fetchval("SELECT count(DISTINCT content_id) FROM message") == 40
    await assert_counters_true(owner)


async def test_facts_by_content(context: Context, account: Person, owner: Owner) -> None:
    """Facts are given by content id; contents that are gone are left out."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 3)
    contents = [row["content_id"] for row in await owner.fetch("SELECT content_id FROM message ORDER BY uid")]
    found = await messages.facts(owner, [*contents, 2**40], ["envelope", "head"])
    assert {key: (row["envelope"], row["head"]) for key, row in found.items()} == dict.fromkeys(
        contents, (b"(env)", b"")
    )


async def test_mailbox_names(account: Person, owner: Owner) -> None:
    """Creating makes superior names, renaming takes inferiors along, deleting keeps a parent as a name only."""
    who = account.account_id
    await mailboxes.create(owner, who, "a/b/c")
    with pytest.raises(MailboxExistsError):
        await mailboxes.create(owner, who, "a/b")
    with pytest.raises(MailboxNameError):
        await mailboxes.create(owner, who, "a//b")
    await mailboxes.rename(owner, who, "a", "x/y")
    names = [box.name for box in await mailboxes.list_mailboxes(owner, who)]
    assert [name for name in names if name[0] in "ax"] == ["x", "x/y", "x/y/b", "x/y/b/c"]
    old = await mailboxes.find(owner, who, "x/y/b")
    await mailboxes.delete(owner, who, "x/y/b")
    with pytest.raises(HasChildrenError):
        await mailboxes.delete(owner, who, "x/y/b")
    new = await mailboxes.create(owner, who, "x/y/b")
    assert old is not None
    assert (new.mailbox_id != old.mailbox_id, new.is_selectable) == (True, True)
    assert new.uidvalidity > old.uidvalidity
    with pytest.raises(MailboxNotFoundError):
        await mailboxes.delete(owner, who, "nowhere")
    with pytest.raises(MailboxNameError):
        await mailboxes.rename(owner, who, "x", "x/z")


async def test_renaming_inbox_moves_its_messages(context: Context, account: Person, owner: Owner) -> None:
    """INBOX stays, empty; its messages are in the new mailbox."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 3)
    await mailboxes.rename(owner, account.account_id, "INBOX", "old mail")
    inbox, new = await mailboxes.get(owner, box), await mailboxes.find(owner, account.account_id, "old mail")
    assert inbox is not None
    assert new is not None
    assert (inbox.message_count, new.message_count) == (0, 3)
    await assert_counters_true(owner)


async def test_recent_is_told_once(context: Context, account: Person, owner: Owner) -> None:
    """The first session to select is told of new messages as recent, the next one is not."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 2)
    assert await mailboxes.claim_recent(owner, box) == 1
    assert await mailboxes.claim_recent(owner, box) == 3
