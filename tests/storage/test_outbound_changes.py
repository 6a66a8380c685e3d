"""What people do to the outbound queue: lists and sums, try now, hold, release, take out; and the keeper's clearing."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemons.context import Context
from storage import outbound, outbound_changes, outbound_listing
from storage.outbound_listing import Selection
from storage.pool import Connection
from storage.rows import Settlement
from tests.conftest import Owner, Person, add_person
from tests.storage.queued import queue

DAY = 86_400.0


@pytest.fixture
async def connection(context: Context) -> AsyncIterator[Connection]:
    """A connection with the rights of the daemons."""
    async with context.pool.acquire() as acquired:
        yield acquired


@pytest.fixture
async def mixed(context: Context, account: Person, owner: Owner) -> None:
    """Mail of two people and a report: waiting, due later, held, delivered."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    later = datetime.now(UTC) + timedelta(hours=1)
    await queue(context, account, ["a@one.example", "B@Two.example"], trace_id="a" * 16)
    await queue(context, bob, ["c@one.example"], trace_id="b" * 16, release_at=later)
    await queue(context, bob, ["d@two.example"], trace_id="c" * 16, held_reason="burst")
    await queue(context, account, ["e_x@one.example"], trace_id="d" * 16, reverse_path="", account_id=None)
    await queue(context, bob, ["f@one.example"], trace_id="e" * 16)
    await owner.execute(
        "UPDATE outbound_recipient SET state = 'delivered', finished_at = now() WHERE forward_path = 'f@one.example'"
    )
    await owner.execute(
        "UPDATE outbound_message SET created_at = now() - interval '2 hours' WHERE trace_id = $1", "b" * 16
    )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "abcde"),
        ({"state": "held"}, "d"),
        ({"state": "delivered"}, "f"),
        ({"domain": "one.example"}, "ace"),
        ({"forward_path": "b@two.example"}, "b"),
        ({"forward_path": "@TWO.example"}, "bd"),
        ({"forward_path": "eyx@one.example"}, ""),
        ({"reverse_path": "bob@example.test"}, "cd"),
        ({"reverse_path": "@example.test"}, "abcd"),
        ({"reverse_path": "@_xample.test"}, ""),
        ({"reverse_path": ""}, "e"),
        ({"tenant": "example"}, "abcde"),
        ({"tenant": "other"}, ""),
        ({"older_seconds": 3600.0}, "c"),
        ({"trace_id": "a" * 16, "domain": "two.example"}, "b"),
    ],
    ids=str,
)
async def test_selections(connection: Connection, mixed: None, wanted: dict[str, Any], found: str) -> None:
    """A list has the recipients for which all holds that was given; finished ones only when their state is named."""
    domains = await connection.fetch("UPDATE outbound_recipient SET domain = lower(domain) RETURNING 1")
    assert len(domains) == 6
    rows = await outbound_listing.listed(connection, Selection(**wanted), 100)
    assert "".join(row.forward_path[0].lower() for row in rows) == found


async def test_a_list_is_limited(connection: Connection, mixed: None) -> None:
    """The oldest come first."""
    (row,) = await outbound_listing.listed(connection, Selection(), 1)
    assert (row.forward_path, row.trace_id, row.tries, row.is_leased) == ("a@one.example", "a" * 16, 0, False)


async def test_sums(connection: Connection, mixed: None) -> None:
    """Sums tell what waits, what is due, leased, held and deferred, the largest group first."""
    await outbound.lease(connection, 1, lease_seconds=60, leased_by="relay")
    rows = await outbound_listing.stats(connection, Selection(), "sender", 10)
    assert [(row.name, row.waiting, row.held) for row in rows] == [
        ("alice@example.test", 2, 0), ("bob@example.test", 1, 1), ("", 1, 0),
    ]  # fmt: skip
    assert sum(row.leased for row in rows) == 1
    assert sum(row.due for row in rows) == 2
    states = await outbound_listing.stats(connection, Selection(), "state", 10)
    assert [(row.name, row.waiting + row.held) for row in states] == [("waiting", 4), ("held", 1)]
    assert len(await outbound_listing.stats(connection, Selection(domain="one.example"), "tenant", 1)) == 1


async def test_one_message_whole(connection: Connection, mixed: None) -> None:
    """An id shows the message, each recipient, and each attempt with the remote server's words."""
    leased = await outbound.lease(connection, 10, lease_seconds=60, leased_by="relay")
    one = next(each for each in leased if each.forward_path == "a@one.example")
    at = datetime.now(UTC) + timedelta(hours=1)
    await outbound.settle(
        connection, [Settlement(one.recipient_id, 1, "waiting", "451 greylisted", at, "mx [::1]", "none")]
    )
    shown = await outbound_listing.shown(connection, "a" * 16)
    (message,) = shown.messages
    assert (message["tenant"], message["account"], message["reverse_path"]) == (
        "example",
        "alice@example.test",
        "alice@example.test",
    )
    first, second = message["recipients"]
    (attempt,) = first["attempts"]
    assert (attempt["host"], attempt["tls"], attempt["reply"], attempt["state"]) == (
        "mx [::1]",
        "none",
        "451 greylisted",
        "waiting",
    )
    assert (second["attempts"], second["leased_by"], shown.removals) == ([], "relay", [])
    assert (await outbound_listing.shown(connection, "0" * 16)).messages == []


async def test_retry(connection: Connection, mixed: None) -> None:
    """What is due later is due now; what is being delivered is left to its relay."""
    assert len(await outbound.lease(connection, 10, lease_seconds=60, leased_by="relay")) == 3
    changed = await outbound_changes.retry(connection, Selection())
    assert [(each.trace_id, each.forward_path) for each in changed] == [("b" * 16, "c@one.example")]
    (again,) = await outbound.lease(connection, 10, lease_seconds=60, leased_by="relay")
    assert again.forward_path == "c@one.example"


async def test_hold_and_release(connection: Connection, owner: Owner, mixed: None) -> None:
    """What is held waits until it is released, and then has as much time as it had when it came."""
    assert len(await outbound_changes.hold(connection, Selection(reverse_path="alice@example.test"), "looked at")) == 2
    assert [row.held_reason for row in await outbound_listing.listed(connection, Selection(state="held"), 9)] == [
        "looked at"
    ] * 2 + ["burst"]
    (only,) = await outbound.lease(connection, 10, lease_seconds=600, leased_by="relay")
    assert only.reverse_path == ""
    await owner.execute(
        "UPDATE outbound_message SET created_at = now() - interval '9 days', expires_at = now() - interval '4 days'"
        " WHERE trace_id = $1",
        "a" * 16,
    )
    assert len(await outbound_changes.release(connection, Selection(trace_id="a" * 16))) == 2
    due = await outbound.next_due(connection)
    assert due is not None
    assert due <= 0
    leased = await outbound.lease(connection, 10, lease_seconds=60, leased_by="relay")
    assert [each.forward_path for each in leased] == ["B@Two.example", "a@one.example"]
    assert timedelta(days=4.9) < leased[0].expires_at - datetime.now(UTC) < timedelta(days=5.1)


async def test_what_was_held_in_delivery_is_released_without_a_second_one(connection: Connection, mixed: None) -> None:
    """A recipient that was held while its relay delivered, and released, stays that relay's until its lease ends."""
    leased = await outbound.lease(connection, 10, lease_seconds=60, leased_by="relay")
    await outbound_changes.hold(connection, Selection(), "looked at")
    await outbound_changes.release(connection, Selection())
    rest = await outbound.lease(connection, 10, lease_seconds=60, leased_by="other")
    assert {each.forward_path for each in rest} == {"c@one.example", "d@two.example"}
    assert (
        len(
            await outbound.settle(
                connection, [Settlement(each.recipient_id, 1, "delivered", "250 ok") for each in leased]
            )
        )
        == 3
    )


async def test_taking_out(connection: Connection, owner: Owner, mixed: None) -> None:
    """What waits or is held can be taken, due or not, but not from under a relay; its end makes a record."""
    (theirs, *_) = await outbound.lease(connection, 1, lease_seconds=60, leased_by="relay")
    taken = await outbound_changes.take(connection, Selection(), 10, lease_seconds=60, leased_by="operator")
    assert len(taken) == 4
    assert theirs.recipient_id not in {each.recipient_id for each in taken}
    assert await outbound_changes.take(connection, Selection(), 10, lease_seconds=60, leased_by="operator") == []
    settlements = [
        Settlement(
            each.recipient_id,
            each.attempts,
            "deleted",
            "spam run",
            counts=False,
            removed_by="root@mail",
            is_told=each.tries > 9,
        )
        for each in taken
    ]
    assert len(await outbound.settle(connection, settlements)) == 4
    records = await owner.fetch("SELECT * FROM outbound_removal")
    assert {(row["removed_by"], row["reason"], row["is_told"]) for row in records} == {("root@mail", "spam run", False)}
    assert {row["recipient_id"] for row in records} == {each.recipient_id for each in taken}
    assert await owner.fetchval("SELECT count(*) FROM outbound_attempt") == 0
    removals = (await outbound_listing.shown(connection, "c" * 16)).removals
    assert [(row["domain"], row["tenant"]) for row in removals] == [("two.example", "example")]


async def test_the_keeper_clears_what_is_finished(
    context: Context, connection: Connection, owner: Owner, mixed: None
) -> None:
    """A recipient goes some time after its end, a message with its last recipient; a record of removal after its own time."""
    leased = await outbound.lease(connection, 10, lease_seconds=60, leased_by="relay")
    done = [
        Settlement(each.recipient_id, 1, "deleted", "x", counts=False, removed_by="root")
        for each in leased
        if each.domain == "one.example"
    ]
    assert len(await outbound.settle(connection, done)) == 2
    assert await outbound_changes.forget_finished(connection, 10, older_than_seconds=DAY) == 0
    await owner.execute("UPDATE outbound_recipient SET finished_at = finished_at - interval '2 days'")
    assert await outbound_changes.forget_finished(connection, 2, older_than_seconds=DAY) == 2
    assert await outbound_changes.forget_finished(connection, 2, older_than_seconds=DAY) == 1
    rows = await owner.fetch(
        "SELECT m.trace_id, count(r.recipient_id) FROM outbound_message AS m"
        " LEFT JOIN outbound_recipient AS r USING (outbound_id) GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("a" * 16, 1), ("b" * 16, 1), ("c" * 16, 1)]
    assert await outbound_changes.forget_removals(connection, 10, older_than_seconds=DAY) == 0
    await owner.execute("UPDATE outbound_removal SET removed_at = removed_at - interval '2 days'")
    assert await outbound_changes.forget_removals(connection, 10, older_than_seconds=DAY) == 2


async def test_a_lane_that_vanished_is_mended(connection: Connection, owner: Owner, mixed: None) -> None:
    """Should a sender be forgotten by whatever hand, a round of the keeper brings his mail back."""
    await owner.execute("DELETE FROM outbound_wake")
    assert await outbound.lease(connection, 10, lease_seconds=60, leased_by="relay") == []
    await outbound_changes.mend(connection)
    await outbound_changes.mend(connection)  # the second finds nothing missing
    assert await owner.fetchval("SELECT count(*) FROM outbound_wake") == 3
    assert len(await outbound.lease(connection, 10, lease_seconds=60, leased_by="relay")) == 3
