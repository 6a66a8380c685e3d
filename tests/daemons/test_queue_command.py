"""`postwerk queue`."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from config.settings import Settings
from daemons.context import Context, open_context
from storage import outbound, traces
from storage.rows import Settlement
from tests.conftest import Person
from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk
from tests.storage.queued import queue

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

ID = "00000000000000aa"
OTHER = "00000000000000bb"


def within(settings: Settings, work: Callable[[Context], Awaitable[Any]]) -> Any:
    """Do it in a process of its own, as it were."""

    async def run() -> Any:
        async with open_context(settings) as context:
            return await work(context)

    return asyncio.run(run())


@pytest.fixture
def filled(populated: Postwerk, settings: Settings) -> Postwerk:
    """Two messages of alice: one to two recipients, of whom one was deferred, and one to elsewhere."""

    async def fill(context: Context) -> None:
        row = await context.pool.fetchrow("SELECT tenant_id, account_id, login FROM account")
        assert row is not None
        alice = Person(row[0], row[1], row[2], "")
        await queue(context, alice, ["bob@example.org", "carol@example.org"], trace_id=ID)
        await queue(context, alice, ["dave@example.net"], trace_id=OTHER)
        async with context.pool.acquire() as connection:
            leased = await outbound.lease(connection, 9, lease_seconds=60, leased_by="relay")
            (bob,) = [each for each in leased if each.forward_path == "bob@example.org"]
            await outbound.settle(
                connection,
                [
                    Settlement(
                        bob.recipient_id,
                        1,
                        "waiting",
                        "451 4.7.1 greylisted",
                        bob.leased_until,
                        "mx.example.org [192.0.2.1]",
                        "TLSv1.3",
                    )
                ],
            )
            await outbound.give_back(connection, [each for each in leased if each is not bob])

    within(settings, fill)
    return populated


def rows(postwerk: Postwerk, *arguments: str) -> list[dict[str, Any]]:
    """The list."""
    found: list[dict[str, Any]] = json.loads(postwerk("queue", "list", *arguments, "--json"))
    return found


def test_list(filled: Postwerk) -> None:
    """A list for people and for programs, narrowed down by filters."""
    text = filled("queue", "list")
    assert "bob@example.org" in text
    assert "451 4.7.1 greylisted" in text
    assert ID in text
    assert [row["forward_path"] for row in rows(filled)] == ["bob@example.org", "carol@example.org", "dave@example.net"]
    assert [row["trace_id"] for row in rows(filled, "--domain", "EXAMPLE.NET")] == [OTHER]
    assert [row["tries"] for row in rows(filled, "--to", "bob@example.org", "--from", "@example.test")] == [1]
    assert len(rows(filled, "--id", ID.upper(), "--tenant", "example", "--limit", "1")) == 1
    assert rows(filled, "--older", "1 h") == rows(filled, "--status", "held") == rows(filled, "--from", "<>") == []


def test_show(filled: Postwerk) -> None:
    """One id shows every attempt in the remote server's words."""
    text = filled("queue", "show", ID)
    assert "mx.example.org [192.0.2.1], TLSv1.3: 451 4.7.1 greylisted" in text
    shown = json.loads(filled("queue", "show", ID, "--json"))
    (message,) = shown["messages"]
    assert [recipient["tries"] for recipient in message["recipients"]] == [1, 0]
    with pytest.raises(Ended, match="nothing in the queue has the id") as ended:
        filled("queue", "show", "f" * 16)
    assert ended.value.code == os.EX_NOUSER


def test_stats(filled: Postwerk) -> None:
    """Sums by destination, or by what is asked for."""
    assert "example.org" in filled("queue", "stats")
    found = json.loads(filled("queue", "stats", "--json"))
    assert [(row["name"], row["waiting"], row["deferred"]) for row in found] == [
        ("example.org", 2, 1),
        ("example.net", 1, 0),
    ]
    assert "alice@example.test" in filled("queue", "stats", "--by", "sender", "--domain", "example.net")


def test_retry_hold_and_release(filled: Postwerk) -> None:
    """What waits is made due, held with a reason, and released."""
    assert filled("queue", "retry", "--domain", "example.org") == "2 recipients due now\n"
    assert filled("queue", "hold", "--id", OTHER, "--reason", "looks odd") == "1 recipient held\n"
    (held,) = rows(filled, "--status", "held")
    assert (held["forward_path"], held["held_reason"]) == ("dave@example.net", "looks odd")
    assert "looks odd" in filled("queue", "list")
    assert "held: looks odd" in filled("queue", "show", OTHER)
    assert filled("queue", "release", "--all") == "1 recipient released\n"
    assert rows(filled, "--status", "held") == []


def test_delete_tells_the_sender(filled: Postwerk, settings: Settings) -> None:
    """What is deleted leaves a record of who, when and why, and its sender gets one report of all recipients of a message."""
    assert (
        filled("queue", "delete", "--domain", "example.org", "--reason", "wrong list", "--yes")
        == "2 recipients deleted\n"
    )
    assert [row["forward_path"] for row in rows(filled)] == ["dave@example.net"]
    removals = json.loads(filled("queue", "show", ID, "--json"))["removals"]
    assert [(each["reason"], each["is_told"], "@" in each["removed_by"]) for each in removals] == [
        ("wrong list", True, True)
    ] * 2
    assert "wrong list (to example.org; the sender was told)" in filled("queue", "show", ID)

    async def reports(context: Context) -> list[bytes]:
        found = await context.pool.fetch(
            "SELECT content_id FROM message JOIN mailbox USING (mailbox_id) WHERE name = 'INBOX'"
        )
        return [await context.blobs.read(row[0]) for row in found]

    (report,) = within(settings, reports)
    assert b"wrong list" in report
    assert b"bob@example.org" in report
    assert b"carol@example.org" in report


def test_delete_without_a_bounce(filled: Postwerk, settings: Settings) -> None:
    """The record stays, and the trace has it, but nobody is told."""
    assert (
        filled("queue", "delete", "--all", "--reason", "spam run", "--no-bounce", "--yes") == "3 recipients deleted\n"
    )
    assert rows(filled) == []

    async def found(context: Context) -> tuple[int, list[Any], list[str]]:
        messages = await context.pool.fetchval("SELECT count(*) FROM message")
        removals = await context.pool.fetch("SELECT is_told, domain FROM outbound_removal ORDER BY domain")
        notes = [note.kind for one in await traces.by_id(context.pool, context.keys, OTHER) for note in one.notes]
        return messages, [tuple(row) for row in removals], notes

    messages, removals, notes = within(settings, found)
    assert messages == 0
    assert removals == [(False, "example.net"), (False, "example.org"), (False, "example.org")]
    assert "deleted" in notes


def test_what_is_being_delivered_stays(
    filled: Postwerk, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A relay's lease is not taken from it; the command says how much is left."""

    async def lease(context: Context) -> int:
        async with context.pool.acquire() as connection:
            return len(await outbound.lease(connection, 9, lease_seconds=600, leased_by="relay"))

    assert within(settings, lease) == 2
    assert filled("queue", "delete", "--all", "--reason", "x", "--no-bounce", "--yes") == "1 recipient deleted\n"
    assert {row["is_leased"] for row in rows(filled)} == {True}
    assert "delivering" in filled("queue", "list")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["retry"], "which mail"),
        (["hold"], "which mail"),
        (["release"], "which mail"),
        (["delete", "--reason", "x"], "which mail"),
        (["delete", "--all"], "Missing option '--reason'"),
        (["delete", "--all", "--reason", "x"], "--yes"),
        (["list", "--older", "tomorrow"], "time span"),
        (["list", "--status", "lost"], "lost"),
    ],
)
def test_refusals(filled: Postwerk, arguments: list[str], complaint: str) -> None:
    """Nothing is done to the whole queue by omission."""
    with pytest.raises(Ended, match=complaint) as ended:
        filled("queue", *arguments)
    assert ended.value.code == os.EX_USAGE
    assert len(rows(filled)) == 3
