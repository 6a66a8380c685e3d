"""What notifications of rules come to: mail, webhooks and SMS, within the account's limits, with the delivery or not at all."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from config.notifier import Gateway, Notifier
from daemons.context import Context
from daemons.delivery import prepare
from daemons.keeper.expiry import Expiry
from daemons.notifying import Notifications, Planned, can_notify, methods_of
from daemons.scripting.owners import AccountOwner
from filters.sieve.actions import Notify
from filters.sieve.message import Message
from filters.sieve.ports import Envelope, Surroundings
from filters.sieve.ports import Owner as ScriptOwner
from storage import notifying
from storage.errors import StorageError
from storage.rows import Placement
from tests.conftest import Owner, Person
from tests.filters.sieve.running import NOW

TRACE = "00000000000000aa"
HOOK = "https://hooks.example.net/services/T0/secret"
MAIL = b"From: =?utf-8?q?B=C3=B6b?= <bob@example.net>\r\nTo: alice@example.test\r\nSubject: Fax von +49 30 1234\r\n\r\nText.\r\n"
SMS = [Gateway(url="https://sms.example.net/", prefixes=["+49"], parts=2, price=75)]


@dataclass
class Stage:
    """An account, and what its rules ask for."""

    context: Context
    owner: Owner
    person: Person
    told: set[str] = field(default_factory=set)

    def configure(self, **notifier: Any) -> None:
        """Change the section [notifier]."""
        settings = msgspec.structs.replace(self.context.settings, notifier=Notifier(**notifier))
        self.context = replace(self.context, settings=settings)

    async def plan(self, method: str, mail: bytes = MAIL, sender: str = "bob@example.net", **action: Any) -> Planned:
        """Plan a notification of a message."""
        owner = ScriptOwner(("alice@example.test", "sales@example.test"), "Alice")
        return await Notifications(self.context).plan(
            AccountOwner(self.person.tenant_id, self.person.account_id),
            Notify(method, **action),
            Message(mail).view,
            Surroundings(Envelope(sender, "alice@example.test"), owner),
            now=NOW,
            trace_id=TRACE,
            told=self.told,
        )

    async def deliver(self, *planned: Planned) -> None:
        """Store the message that is notified of, with what was planned."""
        box = await self.context.pool.fetchval("SELECT mailbox_id FROM mailbox WHERE name = 'INBOX'")
        message = await prepare(self.person.tenant_id, b"", MAIL, [Placement(box)])
        effects = [effect for each in planned for effect in each.effects]
        messages = [message for each in planned for message in each.messages]
        await self.context.ingest.store([replace(message, effects=effects), *messages])

    async def queued(self) -> list[dict[str, Any]]:
        """What waits to be sent over HTTP."""
        rows = await self.owner.fetch("SELECT kind, target, facts, parts, trace_id FROM notification ORDER BY 1, 2")
        return [dict(row) | {"facts": json.loads(row["facts"])} for row in rows]

    async def counts(self) -> list[Sequence[Any]]:
        """Kind, queued and sent, of today."""
        rows = await self.owner.fetch("SELECT kind, queued, sent FROM notification_count ORDER BY kind")
        return [tuple(row) for row in rows]


@pytest.fixture
def stage(context: Context, owner: Owner, account: Person) -> Stage:
    """alice, and no gateway."""
    return Stage(context, owner, account)


async def test_a_mail_goes_out_with_the_delivery(stage: Stage) -> None:
    """It is queued in the account's name, counted, and there for a copy (RFC 8580); the note says who is told."""
    planned = await stage.plan("mailto:boss@example.org?subject=Fax", message="A fax has come", importance=1)
    assert planned.note == "notified by mail: boss@example.org"
    await stage.deliver(planned)
    row = await stage.owner.fetchrow(
        "SELECT reverse_path, account_id, trace_id, forward_path FROM outbound_message JOIN outbound_recipient USING (outbound_id)"
    )
    assert row is not None
    assert tuple(row) == ("alice@example.test", stage.person.account_id, TRACE, "boss@example.org")
    assert planned.copy is not None
    assert b"Subject: Fax\r\n" in planned.copy
    assert b"Auto-Submitted: auto-notified" in planned.copy
    assert planned.copy.endswith(b"\r\n\r\nA fax has come\r\n")
    assert await stage.counts() == [("mail", 1, 1)]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("sales@example.test", "sales@example.test"),
        ("Boss <boss@example.test>", "alice@example.test"),
        (None, "alice@example.test"),
    ],
)
async def test_nobody_notifies_in_the_name_of_others(stage: Stage, given: str | None, shown: str) -> None:
    """RFC 5435 §3.3: :from is taken where it is an address of the owner's."""
    planned = await stage.plan("mailto:boss@example.org", from_address=given)
    assert planned.copy is not None
    assert f"From: {shown}\r\n".encode() in planned.copy


@pytest.mark.parametrize(
    ("method", "mail", "reason"),
    [
        ("mailto:boss@example.org", b"Auto-Submitted: auto-generated\r\n" + MAIL, "submitted automatically"),
        ("mailto:nobody@example.test", MAIL, "nobody can be told"),
        ("https:///x", MAIL, "not an address of a web server"),
        ("https://user:password@hooks.example.net/", MAIL, "not an address of a web server"),
        ("https://hooks.ex\u00e4mple.net/", MAIL, "not an address of a web server"),
        ("sms:+491701234567", MAIL, "no gateway for +491701234567"),
        ("sms:0170", MAIL, "a number must begin with + and its country's code"),
        ("xmpp:a@b", MAIL, "no such method"),
    ],
)
async def test_what_cannot_be_sent_is_noted(stage: Stage, method: str, mail: bytes, reason: str) -> None:
    """Nothing is stored, and the delivery goes on."""
    planned = await stage.plan(method, mail)
    assert planned == Planned(note=f"not notified: {reason}")
    await stage.deliver(planned)
    assert not await stage.queued()


async def test_a_webhook_is_told_the_facts(stage: Stage) -> None:
    """Who wrote to whom, about what, and what the rule says; the address in full only in the queue."""
    planned = await stage.plan(HOOK, message="A fax\0 has come", importance=1)
    assert planned.note == "notified by webhook: hooks.example.net"
    await stage.deliver(planned)
    (queued,) = await stage.queued()
    assert (queued["kind"], queued["target"], queued["trace_id"]) == ("web", HOOK, TRACE)
    assert len(queued["facts"].pop("id")) == 16
    assert queued["facts"] == {
        "account": "alice@example.test",
        "from": "Böb <bob@example.net>",
        "to": "alice@example.test",
        "subject": "Fax von +49 30 1234",
        "message": "A fax has come",
        "importance": 1,
        "received_at": "2026-01-02T03:04:05+00:00",
    }


@pytest.mark.parametrize(
    ("method", "message", "text"),
    [
        ("sms:+491701234567", "Neue Post", "Neue Post"),
        ("sms:+491701234567?body=Ein%20Fax", None, "Ein Fax"),
        ("sms:+491701234567", None, "Böb <bob@example.net>: Fax von +49 30 1234"),
    ],
)
async def test_an_sms_says_what_the_rule_says(stage: Stage, method: str, message: str | None, text: str) -> None:
    """The rule's words, those of the URI, or else who wrote and about what."""
    stage.configure(gateways=SMS)
    planned = await stage.plan(method, message=message)
    assert planned.note == "notified by SMS: +491701234567"
    await stage.deliver(planned)
    (queued,) = await stage.queued()
    assert (queued["target"], queued["facts"]["text"], queued["parts"]) == ("+491701234567", text, 1)


async def test_an_sms_is_cut_to_what_may_be_charged(stage: Stage) -> None:
    """A long text is as many messages as the gateway's setting allows, and charged as those."""
    stage.configure(gateways=SMS)
    await stage.deliver(await stage.plan("sms:+491701234567", message="x" * 1000))
    (queued,) = await stage.queued()
    assert (len(queued["facts"]["text"]), queued["parts"]) == (306, 2)


async def test_nobody_is_told_twice_of_one_message(stage: Stage) -> None:
    """Several rules with the same target notify once (RFC 5435 §3.8)."""
    stage.configure(gateways=SMS)
    first = [await stage.plan(each) for each in ("mailto:a@example.org", HOOK, "sms:+491701234567,+491701234568")]
    again = [await stage.plan(each) for each in ("mailto:A@example.org", HOOK, "sms:+491701234568")]
    await stage.deliver(*first, *again)
    assert [queued["target"] for queued in await stage.queued()] == ["+491701234567", "+491701234568", HOOK]
    assert await stage.owner.fetchval("SELECT count(*) FROM outbound_recipient") == 1
    assert all(planned.note.startswith("not notified") for planned in again)


@pytest.mark.parametrize(
    ("method", "kind"), [("mailto:boss@example.org", "mail"), (HOOK, "web"), ("sms:+491701234567", "sms")]
)
async def test_limits_of_the_day(stage: Stage, method: str, kind: notifying.Kind) -> None:
    """Beyond the limit nothing is sent and the note says why; an account may have a limit of its own; tomorrow is another day."""
    stage.configure(mail_limit=2, web_limit=2, sms_limit=2, gateways=SMS)

    async def sent() -> bool:
        stage.told.clear()
        planned = await stage.plan(method)
        await stage.deliver(planned)
        return not planned.note.startswith("not notified: the day's limit")

    assert [await sent() for _ in range(3)] == [True, True, False]
    await notifying.set_limit(stage.owner, stage.person.login, kind, 3)
    assert [await sent() for _ in range(2)] == [True, False]
    await stage.owner.execute("UPDATE notification_count SET day = day - 1")
    assert await sent()
    await notifying.set_limit(stage.owner, stage.person.login, kind, 0)
    assert not await sent()
    await notifying.set_limit(stage.owner, stage.person.login, kind, None)
    assert await sent()
    assert not await sent()


async def test_what_is_not_delivered_is_not_notified_of(stage: Stage) -> None:
    """Notification and count stand and fall with the delivery: a mailbox that is gone takes both with it."""
    planned = await stage.plan(HOOK)
    message = await prepare(stage.person.tenant_id, b"", MAIL, [Placement(987654321)])
    with pytest.raises(StorageError):
        await stage.context.ingest.store([replace(message, effects=planned.effects)])
    assert not await stage.queued()
    assert not await stage.counts()
    await stage.deliver(planned)
    assert await stage.counts() == [("web", 1, 0)]


async def test_strangers_words_do_no_harm(stage: Stage) -> None:
    """Octets that are no text, in any field, hinder neither the notification nor the delivery."""
    stage.configure(gateways=SMS)
    mail = b"From: \xff\xfe\x00 <b@c>\r\nSubject: \x00 \xed\xa0\x80 =?utf-8?q?=ED=A0=80=00?=\r\n\r\n"
    for method in (HOOK, "sms:+491701234567", "mailto:boss@example.org"):
        await stage.deliver(await stage.plan(method, mail, message="\udcff"))
    assert len(await stage.queued()) == 2


async def test_two_at_once_do_not_block_each_other(stage: Stage) -> None:
    """Deliveries that notify in another order wait for nobody for ever, and all are counted."""
    stage.configure(gateways=SMS, web_limit=100, sms_limit=100)
    deliveries = []
    for number in range(10):
        stage.told = set()
        both = [await stage.plan(HOOK), await stage.plan("sms:+491701234567")]
        deliveries.append(stage.deliver(*(both if number % 2 else reversed(both))))
    async with asyncio.timeout(20):
        await asyncio.gather(*deliveries)
    assert await stage.counts() == [("sms", 10, 0), ("web", 10, 0)]


async def test_the_keeper_forgets_in_time(stage: Stage) -> None:
    """What ended a day ago goes, what waits stays; counts stay as long as bills may need them."""
    stage.configure(gateways=SMS)
    await stage.deliver(await stage.plan(HOOK), await stage.plan("sms:+491701234567"))
    await stage.owner.execute(
        "UPDATE notification SET state = 'sent', finished_at = now() - interval '25 h' WHERE kind = 'web'"
    )
    async with stage.context.pool.acquire() as connection:  # with the keeper's rights
        assert (await Expiry(stage.context.settings).round(connection, asyncio.Event())).notifications == 1
        assert [queued["kind"] for queued in await stage.queued()] == ["sms"]
        await stage.owner.execute("UPDATE notification_count SET day = day - 402 WHERE kind = 'web'")
        await Expiry(stage.context.settings).round(connection, asyncio.Event())
    assert await stage.counts() == [("sms", 1, 0)]


def test_what_is_possible_is_told() -> None:
    """RFC 5435 §5: a method is possible where there is something to send it by."""
    without, with_sms = Notifier(), Notifier(gateways=SMS)
    assert methods_of(without) == ("mailto", "https")
    assert methods_of(with_sms) == ("mailto", "https", "sms")
    assert can_notify(without, HOOK)
    assert not can_notify(Notifier(web_limit=0), HOOK)
    assert not can_notify(without, "sms:+491701234567")
    assert can_notify(with_sms, "sms:+491701234567")
    assert not can_notify(with_sms, "sms:+431234567")
    assert not can_notify(with_sms, "http://hooks.example.net/")
