"""Caps, bursts and suspensions as users meet them, in sessions; and the trace of what they send."""

import asyncio

import pytest

from storage import sending, traces
from storage.sending import Caps
from tests.conftest import Owner, Person
from tests.daemons.smtp.users import SUBMITTED, Users
from tests.hearing import until_heard

ELSEWHERE = [f"<x{number}@elsewhere.example>" for number in range(6)]


@pytest.fixture
async def listening(users: Users) -> Users:
    """The process has heard of everything that happened before: what happens now reaches it at once."""
    await until_heard(users.context)
    return users


async def test_cap_of_messages(users: Users, account: Person, owner: Owner) -> None:
    """Above the cap a message gets 450 4.7.1, and the next one gets it at MAIL already; nothing of them is kept."""
    await sending.set_caps(owner, account.login, Caps(messages_hour=2))
    async with await users.logged_in(account) as client:
        for _ in range(2):
            assert (await client.send(SUBMITTED, *ELSEWHERE[:2])).startswith(b"250 ")
        refused = b"450 4.7.1 this account has sent 2 messages an hour, which is the limit: try again later\r\n"
        assert await client.send(SUBMITTED, ELSEWHERE[0]) == refused
        assert await client.ask(b"MAIL FROM:<alice@example.test>") == refused
    assert len(await users.queue()) == 4


async def test_cap_of_recipients(users: Users, account: Person, owner: Owner) -> None:
    """Recipients count apart from messages, local ones like others; what can never go is refused for good."""
    await sending.set_caps(owner, account.login, Caps(recipients_day=4))
    async with await users.logged_in(account) as client:
        assert (await client.send(SUBMITTED, "<alice@example.test>", *ELSEWHERE[:2])).startswith(b"250 ")
        answer = await client.send(SUBMITTED, *ELSEWHERE[:2])
        assert (
            answer == b"452 4.7.1 this account has reached 4 recipients a day, which is the limit: try again later\r\n"
        )
        assert (await client.send(SUBMITTED, *ELSEWHERE[:5])).startswith(b"550 5.7.1 ")
        assert (await client.send(SUBMITTED, ELSEWHERE[3])).startswith(b"250 ")


async def test_message_that_was_not_stored_does_not_count(users: Users, account: Person, owner: Owner) -> None:
    """What the client has to send again counts once."""
    await sending.set_caps(owner, account.login, Caps(messages_hour=1))
    async with await users.logged_in(account) as client:
        await owner.execute("REVOKE INSERT ON journal FROM postwerk_daemon")
        assert (await client.send(SUBMITTED, ELSEWHERE[0])).startswith(b"451 ")
        await owner.execute("GRANT INSERT ON journal TO postwerk_daemon")
        assert (await client.send(SUBMITTED, ELSEWHERE[0])).startswith(b"250 ")


async def test_burst(users: Users, account: Person, bob: Person, owner: Owner) -> None:
    """A burst is accepted and held, with what was queued before and what comes after; the trace says why."""
    await sending.set_caps(owner, account.login, Caps(burst_recipients=4))
    async with await users.logged_in(account) as client:
        assert (await client.send(SUBMITTED, ELSEWHERE[0])).startswith(b"250 ")
        answer = await client.send(SUBMITTED, "<bob@example.test>", *ELSEWHERE)
        assert answer.startswith(b"250 2.0.0 accepted as ")
        assert (await client.send(SUBMITTED, ELSEWHERE[0])).startswith(b"250 ")
    assert await users.mailbox(bob) == []
    own = "SELECT state FROM outbound_recipient JOIN outbound_message USING (outbound_id) WHERE account_id IS NOT NULL"
    async with asyncio.timeout(20):
        while [row["state"] for row in await owner.fetch(own)] != ["held"] * (1 + 7 + 1):
            await asyncio.sleep(0)
    context = users.context
    await context.recorder.flush()
    (found,) = await traces.by_id(context.pool, context.keys, answer.split()[-1].decode())
    facts = {note.kind: note.facts for note in found.notes}
    assert list(facts) == ["received", "queued", "held"]
    assert facts["received"]["login"] == account.login
    assert facts["received"]["forward_paths"] == ["bob@example.test", *(path.strip("<>") for path in ELSEWHERE)]
    assert "8 recipients within an hour" in facts["held"]["reason"]
    async with context.pool.acquire() as connection:
        assert [row.login for row in await sending.suspended(connection)] == [account.login]


async def test_suspended_by_hand(listening: Users, account: Person, owner: Owner) -> None:
    """Who is suspended by hand is refused at MAIL, with a reply that says whom to ask."""
    async with await listening.logged_in(account) as client:
        assert (await client.send(SUBMITTED, ELSEWHERE[0])).startswith(b"250 ")
        await sending.suspend(owner, account.login, "complaints", "operator", is_holding=False)
        answer = b"250 "
        async with asyncio.timeout(20):
            while answer.startswith(b"250 "):
                await client.ask(b"RSET")
                answer = await client.ask(b"MAIL FROM:<alice@example.test>")
        assert answer == b"550 5.7.1 sending is suspended for this account: ask your administrator\r\n"
