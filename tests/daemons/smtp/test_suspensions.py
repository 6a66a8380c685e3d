"""A burst: queued mail is held with the rest, and the tenant's administrators and the operator are told, once."""

import asyncio
import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage

import msgspec
import pytest

from config.settings import Settings
from daemons.context import Context
from daemons.smtp.sending import Held, Sending
from daemons.smtp.suspensions import Suspensions, notice, open_sending
from protocol.address import AddrSpec
from storage import mailboxes, messages, quota
from storage import sending as storage
from storage.sending import Suspension
from tests.conftest import Owner, Person, add_person
from tests.storage.queued import queue

OPERATOR = AddrSpec("root", "example.test")
FROM = AddrSpec("alice", "example.test")


@pytest.fixture
async def boss(settings: Settings, owner: Owner, account: Person) -> Person:
    """An administrator of the tenant."""
    person = await add_person(settings, owner, "boss@example.test")
    await quota.set_administrator(owner, person.login, is_granted=True)
    return person


@pytest.fixture
async def root(settings: Settings, owner: Owner, account: Person) -> Person:
    """The operator."""
    return await add_person(settings, owner, str(OPERATOR))


async def inbox(context: Context, person: Person) -> list[EmailMessage]:
    async with context.pool.acquire() as connection:
        box = await mailboxes.find(connection, person.account_id, "INBOX")
        assert box is not None
        _, rows = await messages.snapshot(connection, box.mailbox_id)
    octets = [await context.blobs.message(row.content_id) for row in rows]
    return [email.message_from_bytes(each, policy=email.policy.default) for each in octets]


async def burst(context: Context, account: Person) -> Sending:
    """Have the account send far more than it used to."""
    settings = msgspec.structs.replace(context.settings.sending, burst_recipients=10)
    sending = Sending(settings, context.pool, context.changes)
    assert isinstance(await sending.admit(account, FROM, 50), Held)
    return sending


async def test_everybody_is_told_once(
    context: Context, owner: Owner, account: Person, boss: Person, root: Person
) -> None:
    """Administrators read it in the tenant's language, however full, the operator in that of reports; the account does not."""
    await owner.execute("UPDATE account SET quota_octets = 0 WHERE account_id = $1", boss.account_id)
    sending = await burst(context, account)
    await asyncio.gather(*(Suspensions(context, sending, OPERATOR).look() for _ in range(3)))
    (to_boss,) = await inbox(context, boss)
    (to_root,) = await inbox(context, root)
    assert to_boss["Subject"] == f"Versand von {account.login} angehalten"
    assert to_root["Subject"] == f"Sending of {account.login} is suspended"
    assert "50 recipients within an hour" in to_root.get_content()
    assert f"postwerk sending release {account.login}" in to_boss.get_content()
    assert to_boss["Return-Path"] == "<>"
    assert to_boss["Auto-Submitted"] == "auto-generated"
    assert await inbox(context, account) == []
    assert await owner.fetchval("SELECT told_at IS NOT NULL FROM sending_suspension")
    await sending.close()


async def test_what_was_queued_is_held(context: Context, owner: Owner, account: Person, boss: Person) -> None:
    """Mail of the account that waits in the queue is held with its later mail; another's goes out."""
    await queue(context, account, ["a@remote.test", "b@remote.test"])
    await queue(context, boss, ["c@remote.test"])
    sending = await burst(context, account)
    await Suspensions(context, sending, OPERATOR).look()
    rows = await owner.fetch("SELECT forward_path, state, held_reason FROM outbound_recipient ORDER BY forward_path")
    assert [row["state"] for row in rows] == ["held", "held", "waiting"]
    assert rows[0]["held_reason"].startswith(storage.HELD_FOR_SUSPENSION)
    await sending.close()


async def test_suspension_is_told_of_by_a_running_process(
    context: Context, owner: Owner, account: Person, root: Person
) -> None:
    """A process that serves submission tells of a burst as soon as it happens, in whatever process."""
    async with open_sending(context, OPERATOR) as sending:
        other = await burst(context, account)
        async with asyncio.timeout(20):
            while not await inbox(context, root):
                await asyncio.sleep(0)
        await storage.suspend(owner, account.login, "enough", "operator", is_holding=False)
        async with asyncio.timeout(20):
            while sending.check(account) is None:
                await asyncio.sleep(0)
        await other.close()


async def test_nobody_to_tell(context: Context, owner: Owner, account: Person) -> None:
    """Without administrators and operator the log has it, and it is not tried for ever."""
    sending = await burst(context, account)
    await Suspensions(context, sending, AddrSpec("nobody", "example.test")).look()
    assert await owner.fetchval("SELECT told_at IS NOT NULL FROM sending_suspension")
    await sending.close()


def test_notice_of_an_internationalised_account() -> None:
    """Names beyond ASCII stand as they are: the message says that it needs SMTPUTF8 by being so."""
    at = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
    suspension = Suspension(1, 1, "jörg@bücher.test", "Bücher", "much", "burst", True, at, 1, 1)
    octets = notice(suspension, "de", AddrSpec("root", "x.test"), [AddrSpec("chefin", "bücher.test")], at)
    assert "Versand von jörg@bücher.test angehalten".encode() in octets
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert b"2026-05-01 12:00 UTC" in octets


async def test_telling_is_taken_over(context: Context, owner: Owner, account: Person, root: Person) -> None:
    """Who claimed a suspension and died over it is replaced when its time is over, not before; mail is held meanwhile."""
    sending = await burst(context, account)
    claimed = await storage.claim_untold(owner, lease_seconds=60)
    assert claimed is not None
    suspensions = Suspensions(context, sending, OPERATOR)
    await suspensions.look()
    assert await inbox(context, root) == []
    assert isinstance(await sending.admit(account, FROM, 1), Held)
    await owner.execute("UPDATE sending_suspension SET telling_until = now() - interval '1 s'")
    await suspensions.look()
    assert len(await inbox(context, root)) == 1
    await sending.close()
