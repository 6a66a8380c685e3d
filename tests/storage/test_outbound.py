"""Leases of the outbound queue, with several relays at it: each recipient once, settled by who has it, by turns between senders."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from daemons.context import Context
from storage import outbound
from storage.errors import LeaseLostError
from storage.notifications import OUTBOUND
from storage.outbound import Leased
from storage.pool import Connection
from storage.rows import NewMessage, OutboundRecipient, Placement, Settlement
from tests.conftest import Owner, Person, add_person
from tests.storage.messages_made import facts, mailbox_id
from tests.storage.queued import outgoing, queue

TEN = [f"r{n}@example.org" for n in range(10)]


@pytest.fixture
async def ten(context: Context, account: Person) -> None:
    """One message to ten recipients of one domain."""
    await queue(context, account, TEN)


@pytest.fixture
async def one(context: Context, account: Person) -> None:
    """One message to one recipient."""
    await queue(context, account, ["bob@example.org"])


@pytest.fixture
async def connection(context: Context) -> AsyncIterator[Connection]:
    """A connection as a relay has it."""
    async with context.pool.acquire() as acquired:
        yield acquired


async def lease(
    connection: Connection, limit: int = 100, *, by: str = "relay", seconds: float = 60, excluded: tuple[str, ...] = ()
) -> list[Leased]:
    """A lease with what most tests do not care about filled in."""
    return await outbound.lease(connection, limit, lease_seconds=seconds, leased_by=by, excluded_domains=excluded)


def delivered(leased: Leased, reply: str = "250 ok") -> Settlement:
    """The lease ended well."""
    return Settlement(
        leased.recipient_id, leased.attempts, "delivered", reply, host="mx.example.org [192.0.2.1]", tls="TLSv1.3"
    )


def deferred(leased: Leased, seconds: float, reply: str = "451 later") -> Settlement:
    """The lease ended with a reason to try again."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    return Settlement(leased.recipient_id, leased.attempts, "waiting", reply, at)


# ---------------------------------------------------------------- into the queue


async def test_what_is_queued_comes_out_whole(context: Context, account: Person, connection: Connection) -> None:
    """A lease has everything that the transaction said of message and recipient."""
    at = datetime(2030, 1, 1, tzinfo=UTC)
    recipients = [
        OutboundRecipient("Bob@example.org", "example.org", ("SUCCESS", "DELAY"), "rfc822;Bob@example.org"),
        OutboundRecipient("c@example.net", "example.net", (), None),
        OutboundRecipient("d@[192.0.2.1]", "[192.0.2.1]"),
    ]
    new = outgoing(
        account,
        [],
        recipients=recipients,
        reverse_path="alice@example.test",
        trace_id="00ff00ff00ff00ff",
        expires_at=at,
        envid="QQ314159",
        ret="HDRS",
        body="8BITMIME",
        is_smtputf8=True,
        is_requiretls=True,
        priority=3,
        deliver_by=at,
        deliver_by_mode="R",
    )
    (stored,) = await context.ingest.store([new])
    third, second, first = await lease(connection)
    assert (first.forward_path, first.notify, first.orcpt) == (
        "Bob@example.org",
        ("SUCCESS", "DELAY"),
        "rfc822;Bob@example.org",
    )
    assert (second.notify, second.orcpt, third.notify, third.domain) == ((), None, None, "[192.0.2.1]")
    for leased in (first, second, third):
        assert (leased.tenant_id, leased.account_id, leased.content_id) == (
            account.tenant_id,
            account.account_id,
            stored.content_id,
        )
        assert (leased.reverse_path, leased.trace_id, leased.envid, leased.ret) == (
            "alice@example.test",
            "00ff00ff00ff00ff",
            "QQ314159",
            "HDRS",
        )
        assert (leased.body, leased.is_smtputf8, leased.is_requiretls, leased.priority) == ("8BITMIME", True, True, 3)
        assert (leased.expires_at, leased.deliver_by, leased.deliver_by_mode) == (at, at, "R")
        assert (leased.attempts, leased.tries, leased.delay_told_at) == (1, 0, None)


async def test_placements_and_queue_rows_are_one_transaction(context: Context, account: Person, owner: Owner) -> None:
    """When a mailbox of the message is gone, nothing of it is queued."""
    message = outgoing(account, TEN)
    broken = NewMessage(message.tenant_id, b"", b"x", facts(), [Placement(999_999)], outbound=message.outbound)
    with pytest.raises(Exception, match="mailbox of the message is gone"):
        await context.ingest.store([broken])
    assert await owner.fetchval("SELECT count(*) FROM outbound_recipient") == 0
    inbox = await mailbox_id(owner, account)
    whole = NewMessage(message.tenant_id, b"", b"x", facts(), [Placement(inbox)], outbound=message.outbound)
    await context.ingest.store([whole, message])
    assert await owner.fetchval("SELECT count(*) FROM outbound_recipient") == 20
    assert await owner.fetchval("SELECT count(*) FROM message") == 1


async def test_our_own_mail_takes_the_tenants_turn(context: Context, account: Person, owner: Owner) -> None:
    """What nobody's account sends (reports) has the tenant for its sender."""
    await queue(context, account, ["a@example.org"], account_id=None, reverse_path="")
    assert await owner.fetchval("SELECT sender FROM outbound_recipient") == -account.tenant_id


async def test_a_later_release_is_not_due_before(context: Context, account: Person, connection: Connection) -> None:
    """FUTURERELEASE: the recipient waits until then, and next_due says how long."""
    await queue(context, account, ["a@example.org"], release_at=datetime.now(UTC) + timedelta(hours=1))
    assert await lease(connection) == []
    due = await outbound.next_due(connection)
    assert due is not None
    assert 3590 < due <= 3600


async def test_held_mail_waits_for_nobody(context: Context, account: Person, connection: Connection) -> None:
    """A message that is queued as held is not due."""
    await queue(context, account, TEN, held_reason="burst")
    assert await lease(connection) == []
    assert await outbound.next_due(connection) is None


async def test_queueing_wakes_the_relays(context: Context, account: Person, owner: Owner) -> None:
    """The notification says when the first of the recipients is due; of what is due only later there is none."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    await owner.add_listener(OUTBOUND, lambda _c, _p, _ch, payload: heard.put_nowait(str(payload)))
    await queue(context, account, TEN)
    async with asyncio.timeout(30):
        assert abs(float(await heard.get()) - datetime.now(UTC).timestamp()) < 60
        await queue(context, account, TEN, release_at=datetime.now(UTC) + timedelta(hours=1))
        at = datetime.now(UTC) + timedelta(seconds=50)
        await queue(context, account, TEN, release_at=at)
        assert abs(float(await heard.get()) - at.timestamp()) < 1


# ---------------------------------------------------------------- leases


async def test_each_recipient_is_leased_once(context: Context, ten: None) -> None:
    """Several relays at once lease every recipient, and none twice."""

    async def relay(name: str) -> list[Leased]:
        taken = []
        async with context.pool.acquire() as connection:
            while (due := await outbound.next_due(connection)) is not None and due <= 0:
                taken += await lease(connection, 3, by=name)
        return taken

    taken = [leased for part in await asyncio.gather(*(relay(f"relay {n}") for n in range(4))) for leased in part]
    assert sorted(leased.forward_path for leased in taken) == TEN
    assert {leased.attempts for leased in taken} == {1}


async def test_a_lease_returns_by_time(connection: Connection, ten: None) -> None:
    """A recipient whose relay died is due again when the lease has run out, and not before."""
    assert len(await lease(connection, 9, by="dead", seconds=3600)) == 9
    (last,) = await lease(connection, 9, by="brief", seconds=0)
    (again,) = await lease(connection, 9, by="next", seconds=3600)
    assert (again.recipient_id, again.attempts, again.tries) == (last.recipient_id, 2, 0)
    assert await lease(connection, 9) == []
    due = await outbound.next_due(connection)
    assert due is not None
    assert 3590 < due <= 3600


async def test_only_waiting_recipients_are_leased(connection: Connection, owner: Owner, ten: None) -> None:
    """What is held, delivered, failed or deleted is left alone, and is not counted as waiting."""
    assert (await outbound.standing(connection))[0] == 10
    await owner.execute("""
        UPDATE outbound_recipient SET state = CASE recipient_id % 5 WHEN 0 THEN 'held' WHEN 1 THEN 'delivered'
            WHEN 2 THEN 'failed' WHEN 3 THEN 'deleted' ELSE 'waiting' END
    """)
    assert len(await lease(connection, seconds=60)) == 2
    waiting, next_seconds = await outbound.standing(connection)
    assert waiting == 2
    assert next_seconds is not None
    assert 55 < next_seconds <= 60


async def test_an_empty_queue(connection: Connection) -> None:
    """Nothing waits, nothing is due."""
    assert await outbound.standing(connection) == (0, None)
    assert await lease(connection) == []
    assert await outbound.settle(connection, []) == set()


async def test_recipients_of_one_message_and_domain_come_together(
    context: Context, account: Person, connection: Connection
) -> None:
    """However mixed they were given, a lease has them by domain, so that they can share a transaction."""
    await queue(context, account, [f"{n}@{domain}" for n in range(5) for domain in ("b.org", "a.org", "c.org")])
    taken = [leased.domain for leased in await lease(connection)]
    assert taken == ["a.org"] * 5 + ["b.org"] * 5 + ["c.org"] * 5


# ---------------------------------------------------------------- settlements


async def test_a_delivery_is_final(connection: Connection, owner: Owner, ten: None) -> None:
    """What was delivered is finished, with a record of the attempt, and comes back never."""
    (leased,) = await lease(connection, 1, by="mine", seconds=0)
    assert await outbound.settle(connection, [delivered(leased, "250 2.0.0 got it")]) == {leased.recipient_id}
    row = await owner.fetchrow("SELECT * FROM outbound_recipient WHERE recipient_id = $1", leased.recipient_id)
    assert row is not None
    assert (row["state"], row["tries"], row["last_reply"], row["leased_by"]) == (
        "delivered",
        1,
        "250 2.0.0 got it",
        None,
    )
    assert row["finished_at"] is not None
    attempt = await owner.fetchrow("SELECT * FROM outbound_attempt")
    assert attempt is not None
    assert (attempt["state"], attempt["host"], attempt["tls"], attempt["reply"], attempt["attempt"]) == (
        "delivered", "mx.example.org [192.0.2.1]", "TLSv1.3", "250 2.0.0 got it", 1,
    )  # fmt: skip
    assert leased.recipient_id not in {each.recipient_id for each in await lease(connection)}


async def test_a_deferred_recipient_is_due_when_said(connection: Connection, ten: None) -> None:
    """The next attempt counts, not the rest of the lease: be it sooner or later."""
    first, second, *_ = await lease(connection, seconds=600)
    await outbound.settle(connection, [deferred(first, 0), deferred(second, 3000)])
    (again,) = await lease(connection)
    assert (again.recipient_id, again.attempts, again.tries) == (first.recipient_id, 2, 1)
    await outbound.settle(
        connection,
        [Settlement(again.recipient_id, 2, "waiting", "", datetime.now(UTC), is_delay_told=True, counts=False)],
    )
    (third,) = await lease(connection)
    assert (third.attempts, third.tries) == (3, 1)
    assert third.delay_told_at is not None


async def test_a_late_settlement_changes_nothing(connection: Connection, owner: Owner, one: None) -> None:
    """Who lost his lease neither finishes the recipient nor sets its next attempt, whichever of the two settles first."""
    (late,) = await lease(connection, 1, by="late", seconds=0)
    (mine,) = await lease(connection, 1, by="mine")
    assert mine.recipient_id == late.recipient_id
    assert await outbound.settle(connection, [delivered(late)]) == set()
    assert await outbound.extend(connection, [late], lease_seconds=99) == set()
    assert await outbound.give_back(connection, [late]) == set()
    assert await owner.fetchval("SELECT leased_by FROM outbound_recipient WHERE attempts = 2") == "mine"
    assert await outbound.settle(connection, [deferred(mine, 60)]) == {mine.recipient_id}
    assert await outbound.settle(connection, [delivered(late)]) == set()
    assert await outbound.settle(connection, [delivered(mine)]) == set()  # nor twice by the right one
    assert await owner.fetchval("SELECT count(*) FROM outbound_attempt") == 1
    assert await owner.fetchval("SELECT state FROM outbound_recipient WHERE attempts = 2") == "waiting"


async def test_a_lease_that_ran_out_but_was_not_taken_still_counts(connection: Connection, one: None) -> None:
    """Nobody else has the recipient: what was delivered is not delivered again."""
    (slow,) = await lease(connection, 1, seconds=0)
    assert await outbound.settle(connection, [delivered(slow)]) == {slow.recipient_id}


async def test_long_deliveries_extend_their_lease(connection: Connection, ten: None) -> None:
    """An extended lease runs out later, and is the same lease."""
    leased = await lease(connection, seconds=0)
    assert len(await outbound.extend(connection, leased, lease_seconds=600)) == 10
    assert await lease(connection) == []
    assert len(await outbound.settle(connection, [delivered(each) for each in leased])) == 10


async def test_a_draining_relay_gives_back(connection: Connection, owner: Owner, ten: None) -> None:
    """What is given back is due at once or when said, and was no try."""
    leased = await lease(connection)
    heard: asyncio.Queue[str] = asyncio.Queue()
    await owner.add_listener(OUTBOUND, lambda _c, _p, _ch, payload: heard.put_nowait(str(payload)))
    assert len(await outbound.give_back(connection, leased[:4])) == 4
    async with asyncio.timeout(30):
        await heard.get()
    until = datetime.now(UTC) + timedelta(hours=1)
    assert len(await outbound.give_back(connection, leased[4:], until=until, reply="421 closed")) == 6
    again = await lease(connection)
    assert {(each.attempts, each.tries) for each in again} == {(2, 0)}
    assert {each.recipient_id for each in again} == {each.recipient_id for each in leased[:4]}
    assert await owner.fetchval("SELECT count(*) FROM outbound_recipient WHERE last_reply = '421 closed'") == 6


async def test_a_hold_by_hand_does_not_undo_a_delivery(connection: Connection, owner: Owner, ten: None) -> None:
    """What was held while it was delivered is delivered; what was held while it was deferred stays held."""
    first, second = await lease(connection, 2)
    await owner.execute("UPDATE outbound_recipient SET state = 'held'")
    assert len(await outbound.settle(connection, [delivered(first), deferred(second, 0)])) == 2
    states = await owner.fetch("SELECT state, count(*) FROM outbound_recipient GROUP BY state ORDER BY state")
    assert [tuple(row) for row in states] == [("delivered", 1), ("held", 9)]
    assert await lease(connection) == []


# ---------------------------------------------------------------- reports in the same transaction


def report(person: Person, inbox: int, *settlements: Settlement) -> NewMessage:
    """A message that reports of what is settled with it."""
    return NewMessage(person.tenant_id, b"", b"undelivered\r\n", facts(), [Placement(inbox)], settles=settlements)


async def test_a_report_is_stored_with_its_settlement(
    context: Context, account: Person, owner: Owner, connection: Connection, ten: None
) -> None:
    """Report and settlement are one transaction: both, or neither when the lease was lost."""
    inbox = await mailbox_id(owner, account)
    first, second, third, *_ = await lease(connection, seconds=0)
    failed = Settlement(first.recipient_id, first.attempts, "failed", "550 no such user")
    await context.ingest.store([report(account, inbox, failed)])
    assert (
        await owner.fetchval("SELECT state FROM outbound_recipient WHERE recipient_id = $1", first.recipient_id)
        == "failed"
    )
    assert await owner.fetchval("SELECT count(*) FROM message") == 1
    assert second.recipient_id in {each.recipient_id for each in await lease(connection)}
    settlements = [delivered(second), delivered(third)]
    with pytest.raises(LeaseLostError):
        await context.ingest.store([report(account, inbox, *settlements)])
    assert await owner.fetchval("SELECT count(*) FROM message") == 1
    assert await owner.fetchval("SELECT count(*) FROM outbound_recipient WHERE state = 'delivered'") == 0
    with pytest.raises(LeaseLostError):
        await context.ingest.store([report(account, inbox, failed)])  # told already


async def test_a_lost_lease_fails_alone(
    context: Context, account: Person, owner: Owner, connection: Connection, ten: None
) -> None:
    """Of messages that happen to be stored together, only the one whose lease was lost is not stored."""
    inbox = await mailbox_id(owner, account)
    late, *_ = await lease(connection, 10, seconds=0)
    mine = next(each for each in await lease(connection) if each.recipient_id != late.recipient_id)
    outcomes = await asyncio.gather(
        context.ingest.store([report(account, inbox)]),
        context.ingest.store([report(account, inbox, delivered(late))]),
        context.ingest.store([report(account, inbox, delivered(mine))]),
        context.ingest.store([outgoing(account, ["z@example.net"])]),
        return_exceptions=True,
    )
    assert [isinstance(outcome, LeaseLostError) for outcome in outcomes] == [False, True, False, False]
    assert await owner.fetchval("SELECT count(*) FROM message") == 2
    assert await owner.fetchval("SELECT count(*) FROM outbound_recipient") == 11


# ---------------------------------------------------------------- two relays, stepped by hand


@asynccontextmanager
async def relay(context: Context) -> AsyncIterator[Connection]:
    """A relay that is in the middle of its transaction. What it did is undone at the end unless it commits."""
    async with context.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()


async def test_a_relay_passes_over_whom_another_is_serving(context: Context, account: Person, owner: Owner) -> None:
    """While one relay's lease is not committed, another waits for nothing: it gets other senders' mail."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    await queue(context, account, TEN)
    async with relay(context) as first, context.pool.acquire() as second:
        assert {each.account_id for each in await lease(first, 4)} == {account.account_id}
        await queue(context, bob, ["b@example.net"])
        async with asyncio.timeout(30):
            assert (
                await lease(second) == []
            )  # the first is folding and serving alice; what bob sent is still to be folded
            due = await outbound.next_due(second)
        assert due is not None
        assert due <= 0
    async with context.pool.acquire() as second:
        assert len(await lease(second)) == 11  # the first was rolled back: nothing of it counts


async def test_mail_that_comes_in_during_a_lease_is_not_forgotten(context: Context, account: Person, ten: None) -> None:
    """What is committed after the lease has looked at its sender, and before it commits, is due all the same."""
    async with context.pool.acquire() as first, context.pool.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        assert len(await lease(first)) == 10
        await queue(context, account, ["late@example.net"])  # waits for no lock of the lease
        await transaction.commit()
        due = await outbound.next_due(second)
        assert due is not None
        assert due <= 0
        (late,) = await lease(second)
        assert late.forward_path == "late@example.net"


async def test_a_settlement_that_waits_for_a_theft_loses(context: Context, owner: Owner, one: None) -> None:
    """A lease that ran out is being taken by another when its holder settles: the holder waits, and then loses."""
    async with context.pool.acquire() as first, context.pool.acquire() as second:
        (old,) = await lease(first, 1, by="first", seconds=0)
        transaction = second.transaction()
        await transaction.start()
        (new,) = await lease(second, 1, by="second")
        assert (new.recipient_id, new.attempts) == (old.recipient_id, 2)
        settling = asyncio.create_task(outbound.settle(first, [delivered(old)]))
        await until_blocked(owner)
        await transaction.commit()
        async with asyncio.timeout(30):
            assert await settling == set()
        assert await outbound.settle(second, [delivered(new)]) == {new.recipient_id}


async def test_a_theft_passes_over_what_is_being_settled(context: Context, owner: Owner, ten: None) -> None:
    """A lease that ran out is being settled when another looks: it takes the rest, waits for nothing, and the settlement counts."""
    async with context.pool.acquire() as first, context.pool.acquire() as second:
        (old,) = await lease(first, 1, by="first", seconds=0)
        transaction = first.transaction()
        await transaction.start()
        assert await outbound.settle(first, [delivered(old)]) == {old.recipient_id}
        async with asyncio.timeout(30):
            taken = await lease(second, by="second")
        assert len(taken) == 9
        await transaction.commit()
        assert (
            await owner.fetchval("SELECT state FROM outbound_recipient WHERE recipient_id = $1", old.recipient_id)
            == "delivered"
        )


async def until_blocked(owner: Owner) -> None:
    """Return when a session of this database waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while not await owner.fetchval(query):
            await asyncio.sleep(0)
