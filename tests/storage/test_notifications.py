"""What the database tells of accounts: in the transaction that changed them, to who asked for that account."""

import asyncio

from daemons.context import Context
from storage import mailboxes, messages, metadata
from storage.metadata import SERVER, Bounds
from storage.notifications import AccountEvent
from storage.rows import FLAGGED
from tests.conftest import Owner, Person, add_person
from tests.storage.messages_made import fill, mailbox_id

BOUNDS = Bounds(entries=10, octets=1000)
PROBE = AccountEvent("probe")


class Heard:
    """What one subscriber was told."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[AccountEvent | None] = asyncio.Queue()

    async def next(self) -> AccountEvent | None:
        async with asyncio.timeout(30):
            while (event := await self.events.get()) == PROBE:
                pass
            return event


async def subscribed(context: Context, owner: Owner, account_id: int) -> Heard:
    """A subscriber to an account whose subscription is in force."""
    heard = Heard()
    context.changes.subscribe_account(account_id, heard.events.put_nowait)
    async with asyncio.timeout(30):
        # Anything may have changed before the hub listened, which it may begin with other channels and say so twice.
        while await heard.events.get() is None:
            await owner.execute("SELECT pg_notify('postwerk_account', $1)", f"account {account_id} {PROBE.kind}")
    return heard


async def test_mailboxes_and_subscriptions(context: Context, account: Person, owner: Owner) -> None:
    """Creating, renaming and deleting mailboxes and subscribing are told to the account's subscribers only."""
    heard = await subscribed(context, owner, account.account_id)
    bob = await add_person(context.settings, owner, "bob@example.test")
    await mailboxes.create(owner, bob.account_id, "Secret")
    await mailboxes.create(owner, account.account_id, "A")
    assert await heard.next() == AccountEvent("mailboxes")
    await mailboxes.rename(owner, account.account_id, "A", "B")
    assert await heard.next() == AccountEvent("mailboxes")
    await mailboxes.subscribe(owner, account.account_id, "B")
    assert await heard.next() == AccountEvent("subscriptions")
    await fill(context, account, await mailbox_id(owner, account), 1)  # messages are told by mailbox
    await mailboxes.delete(owner, account.account_id, "B")
    assert await heard.next() == AccountEvent("mailboxes")
    assert heard.events.empty()


async def test_messages_with_their_modseq(context: Context, account: Person, owner: Owner) -> None:
    """Deliveries, changes of flags, copies and removals are told with the MODSEQ that they gave the mailbox."""
    heard: asyncio.Queue[int] = asyncio.Queue()
    source, target = await mailbox_id(owner, account), await mailbox_id(owner, account, "Trash")
    for box in (source, target):  # 0: anything may have changed before the hub listened
        context.changes.subscribe(box, lambda modseq: heard.put_nowait(modseq) if modseq else None)
    async with asyncio.timeout(20):
        while not context.changes.is_connected:
            await asyncio.sleep(0)

    async def told(box: int) -> bool:
        async with asyncio.timeout(20):
            modseq = await heard.get()
        now: int = await owner.fetchval("SELECT highestmodseq FROM mailbox WHERE mailbox_id = $1", box)
        return modseq == now

    await fill(context, account, source, 1)
    assert await told(source)
    await messages.store_flags(owner, source, [1], "add", FLAGGED, ())
    assert await told(source)
    await messages.copy(owner, source, [1], target)
    assert await told(target)
    await messages.remove(owner, source, [1])
    assert await told(source)
    assert heard.empty()


async def test_annotations(context: Context, account: Person, owner: Owner) -> None:
    """A changed annotation is told with its mailbox, entry and origin; one that stays as it was is not."""
    heard = await subscribed(context, owner, account.account_id)
    box = await mailbox_id(owner, account)

    async def write(place: int, entry: str, value: bytes | None) -> None:
        await metadata.write(
            owner, account.tenant_id, account.account_id, place, {entry: value}, bounds=BOUNDS, origin="s1"
        )

    await write(box, "/private/a b", b"1")
    assert await heard.next() == AccountEvent("metadata", box, "/private/a b", "s1")
    await write(box, "/private/a b", b"1")
    await write(box, "/shared/comment", b"2")
    assert await heard.next() == AccountEvent("metadata", box, "/shared/comment", "s1")
    await write(box, "/shared/comment", None)
    assert await heard.next() == AccountEvent("metadata", box, "/shared/comment", "s1")
    await write(SERVER, "/private/c", b"3")
    assert await heard.next() == AccountEvent("metadata", SERVER, "/private/c", "s1")
    end = context.changes.subscribe_tenant(account.tenant_id, heard.events.put_nowait)
    await write(SERVER, "/shared/comment", b"4")
    assert await heard.next() == AccountEvent("metadata", SERVER, "/shared/comment", "s1")
    end()
    end()
