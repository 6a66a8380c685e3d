"""`postwerk sending` and the right to send as a team."""

import asyncio
import contextlib
import io
import json
import os
from collections.abc import Awaitable, Callable

import pytest

from config.settings import Settings
from daemons.context import Context, open_context
from daemons.smtp.sending import Held, Sending
from storage import traces
from tests.conftest import Person
from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk
from tests.storage.queued import queue

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

ID = "0123456789abcdef"
ALICE = "alice@example.test"


def served(settings: Settings, work: Callable[[Context, Person], Awaitable[None]]) -> None:
    """Let a daemon work for alice."""

    async def run() -> None:
        async with open_context(settings) as context:
            row = await context.pool.fetchrow("SELECT tenant_id, account_id FROM account WHERE login = $1", ALICE)
            assert row is not None
            await work(context, Person(row["tenant_id"], row["account_id"], ALICE, ""))

    with contextlib.redirect_stdout(io.StringIO()):  # where an unconfigured log goes
        asyncio.run(run())


async def _burst(context: Context, alice: Person) -> None:
    """Two messages are accepted, one of them is a burst; all of it is in the queue."""
    sending = Sending(context.settings.sending, context.pool, context.changes)
    assert await sending.admit(alice, None, 3) is None
    answer = await sending.admit(alice, None, 500)
    assert isinstance(answer, Held)
    await queue(context, alice, ["a@remote.test", "b@remote.test"], held_reason=answer.reason)
    await queue(context, alice, ["c@remote.test"], held_reason="by hand", trace_id="ff" * 8)
    await sending.close()


def states(populated: Postwerk) -> list[tuple[str, str]]:
    """What the queue has, by recipient."""
    rows = json.loads(populated("queue", "list", "--json"))
    return sorted((row["forward_path"], row["state"]) for row in rows)


def test_release(populated: Postwerk, settings: Settings) -> None:
    """One command shows who is suspended and why, one sends all that is held and lets the account send again."""
    served(settings, _burst)
    (row,) = json.loads(populated("sending", "list", "--tenant", "example", "--json"))
    assert (row["login"], row["by"], row["new_mail"], row["held_recipients"]) == (ALICE, "burst", "held", 3)
    assert "503 recipients within an hour" in row["reason"]
    assert populated("sending", "release", ALICE) == "2 recipients released\n"
    assert populated("sending", "list") == ""
    assert states(populated) == [("a@remote.test", "waiting"), ("b@remote.test", "waiting"), ("c@remote.test", "held")]
    kinds = [note["kind"] for note in json.loads(populated("trace", ID, "--json"))[0]["notes"]]
    assert kinds == ["released", "released"]

    async def may_send(context: Context, alice: Person) -> None:
        sending = Sending(context.settings.sending, context.pool, context.changes)
        assert await sending.admit(alice, None, 400) is None
        await sending.close()

    served(settings, may_send)


def test_discard(populated: Postwerk, settings: Settings) -> None:
    """All that is held is deleted with a record, and the account stays suspended; without --yes it asks."""
    served(settings, _burst)
    with pytest.raises(Ended, match="--yes"):
        populated("sending", "discard", ALICE)
    assert (
        populated("sending", "discard", ALICE, "--yes", "--no-bounce", "--reason", "stolen") == "2 recipients deleted\n"
    )
    assert states(populated) == [("c@remote.test", "held")]
    assert len(json.loads(populated("sending", "list", "--json"))) == 1
    shown = json.loads(populated("queue", "show", ID, "--json"))
    assert {removal["reason"] for removal in shown["removals"]} == {"stolen"}
    notes = json.loads(populated("trace", ID, "--json"))[0]["notes"]
    assert [(note["kind"], note["reason"]) for note in notes] == [("deleted", "stolen")] * 2


def test_discard_tells_the_account(populated: Postwerk, settings: Settings) -> None:
    """Unless said otherwise the account gets a bounce for what was deleted."""
    served(settings, _burst)
    populated("sending", "discard", ALICE, "--yes")

    async def is_told(context: Context, alice: Person) -> None:
        count = "SELECT sum(message_count) FROM mailbox WHERE account_id = $1"
        assert await context.pool.fetchval(count, alice.account_id) == 1

    served(settings, is_told)


def test_suspend_by_hand(populated: Postwerk, settings: Settings) -> None:
    """What waits is held; what comes is refused, or held where that is asked for."""

    async def two_waiting(context: Context, alice: Person) -> None:
        await queue(context, alice, ["a@remote.test", "b@remote.test"])

    served(settings, two_waiting)
    assert populated("sending", "suspend", ALICE, "--reason", "complaints") == "2 recipients held\n"
    (row,) = json.loads(populated("sending", "list", "--json"))
    assert (row["reason"], row["new_mail"], row["held_recipients"]) == ("complaints", "refused", 2)
    assert "@" in row["by"]
    populated("sending", "suspend", ALICE, "--reason", "complaints", "--hold")
    assert json.loads(populated("sending", "list", "--json"))[0]["new_mail"] == "held"
    assert populated("sending", "release", ALICE, "--leave", "1 h") == "2 recipients released\n"


def test_caps_and_counts(populated: Postwerk, settings: Settings) -> None:
    """Own caps are set, listed, shown beside what was sent, and taken back."""
    populated("sending", "limit", ALICE, "--messages-hour", "7", "--burst", "0")
    populated("sending", "limit", "@example.test", "--recipients-day", "0")
    populated("sending", "limit", "example", "--messages-day", "9")

    async def send(context: Context, alice: Person) -> None:
        sending = Sending(context.settings.sending, context.pool, context.changes)
        for _ in range(2):
            assert await sending.admit(alice, None, 5) is None
        await sending.close()

    served(settings, send)
    rows = json.loads(populated("sending", "limits", "--json"))
    assert {(row["name"], row["messages_hour"], row["recipients_day"], row["messages_day"]) for row in rows} == {
        (ALICE, 7, None, None), ("@example.test", None, 0, None), ("example", None, None, 9)
    }  # fmt: skip
    counts = {row["scope"]: row for row in json.loads(populated("sending", "show", ALICE, "--json"))}
    assert (counts["account"]["messages_hour"], counts["account"]["recipients_hour"]) == ("2/7", "10/1000")
    assert counts["domain"]["recipients_day"] == "10/any"
    assert counts["tenant"]["messages_day"] == "2/9"
    for whose in (ALICE, "@example.test", "example"):
        populated("sending", "reset", whose)
    assert json.loads(populated("sending", "limits", "--json")) == []


def test_right_to_send_as_a_team(populated: Postwerk) -> None:
    """It is granted with the team's other rights or without, listed, and goes with them."""
    populated("team", "add", "sales@example.test")
    populated("team", "grant", "sales@example.test", ALICE)
    assert json.loads(populated("team", "senders", "sales@example.test", "--json")) == []
    populated("team", "grant", "sales@example.test", ALICE, "--send-as")
    assert json.loads(populated("team", "senders", "sales@example.test", "--json")) == [{"sender": ALICE}]
    addresses = json.loads(populated("sending", "addresses", ALICE, "--json"))
    assert [row["address"] for row in addresses] == [ALICE, "sales@example.test"]
    populated("team", "grant", "sales@example.test", ALICE, "lrs", "--no-send-as")
    assert json.loads(populated("team", "senders", "sales@example.test", "--json")) == []
    populated("team", "grant", "sales@example.test", "anyone", "lrs", "--send-as")
    assert json.loads(populated("team", "senders", "sales@example.test", "--json")) == [{"sender": "anyone"}]
    populated("team", "revoke", "sales@example.test", "anyone")
    assert json.loads(populated("team", "senders", "sales@example.test", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["release", "x@example.test"], os.EX_NOUSER, "no such account: x@example.test"),
        (["discard", "x@example.test", "--yes"], os.EX_NOUSER, "no such account: x@example.test"),
        (["suspend", "x@example.test", "--reason", "y"], os.EX_NOUSER, "no such account: x@example.test"),
        (["show", "x@example.test"], os.EX_NOUSER, "no such account: x@example.test"),
        (["addresses", "x@example.test"], os.EX_NOUSER, "no such account: x@example.test"),
        (["limit", "@elsewhere.test", "--messages-day", "1"], os.EX_NOUSER, "@elsewhere.test"),
        (["limit", ALICE], os.EX_USAGE, "give at least one cap"),
        (["limit", "example", "--burst", "3"], os.EX_USAGE, "single accounts"),
        (["reset", ALICE], os.EX_NOUSER, "has no caps of its own"),
    ],
)
def test_refusals(populated: Postwerk, arguments: list[str], code: int, complaint: str) -> None:
    """What cannot be is said in a line, with a code of sysexits.h."""
    with pytest.raises(Ended, match=complaint) as ended:
        populated("sending", *arguments)
    assert ended.value.code == code


def test_trace_knows_the_queue(populated: Postwerk, settings: Settings) -> None:
    """What the queue has now stands below the notes, also of a message whose notes were lost."""

    async def one_waiting(context: Context, alice: Person) -> None:
        await queue(context, alice, ["a@remote.test"])
        await context.pool.execute(
            "INSERT INTO outbound_attempt (recipient_id, attempt, state, host, tls, reply) "
            "SELECT recipient_id, 1, 'waiting', 'mx.remote.test', 'TLSv1.3', '451 later' FROM outbound_recipient"
        )
        assert await traces.by_id(context.pool, context.keys, ID) == []

    served(settings, one_waiting)
    shown = populated("trace", ID)
    assert "a@remote.test; host mx.remote.test; tls TLSv1.3: 451 later" in shown
    assert "waiting    a@remote.test; next attempt" in shown
    (found,) = json.loads(populated("trace", ID, "--json"))
    assert found["queue"][0]["attempts"][0]["reply"] == "451 later"
