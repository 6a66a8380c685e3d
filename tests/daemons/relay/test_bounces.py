"""Reports to senders: who is told of what, in which transaction, and who never is."""

import email
import email.policy
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from config.relay import Relay
from config.units import Octets
from daemons.context import Context
from daemons.forwarding import Forwarding
from daemons.relay.attempt import Attempt, Settled
from daemons.relay.bounces import Bounces
from daemons.relay.settling import Settler
from protocol.address import AddrSpec
from protocol.message.bounces import classify
from protocol.status import enhanced
from storage import outbound
from storage.errors import LeaseLostError
from storage.outbound import Leased
from storage.rows import OutboundRecipient
from tests.conftest import Owner, Person
from tests.storage.queued import queue

ORIGINAL = b"From: alice@example.test\r\nMessage-ID: <1@example.test>\r\nSubject: secret plan\r\n\r\nThe body.\r\n"
FAILED = Attempt(
    "failed", enhanced("5.1.1"), "550 5.1.1 no such user", datetime.now(UTC), is_remote=True, host="mx.example.net"
)
DEFERRED = replace(FAILED, kind="deferred", status=enhanced("4.4.1"), reply="timed out", is_remote=False)
DELIVERED = replace(FAILED, kind="delivered", status=enhanced("2.0.0"), reply="250 2.0.0 ok")


async def leased(context: Context, person: Person, paths: Sequence[str], **changes: Any) -> list[Leased]:
    """One message of the person in the queue, taken for delivery."""
    changes.setdefault("original", ORIGINAL)
    await queue(context, person, paths, **changes)
    async with context.pool.acquire() as connection:
        return await outbound.lease(connection, 100, lease_seconds=60, leased_by="test")


async def inbox_of(context: Context, person: Person) -> list[bytes]:
    """What lies in the person's INBOX, whole messages."""
    rows = await context.pool.fetch(
        "SELECT content_id FROM message JOIN mailbox USING (mailbox_id) WHERE account_id = $1 AND name = 'INBOX' ORDER BY uid",
        person.account_id,
    )
    return [await context.blobs.message(row["content_id"]) for row in rows]


async def states_of(context: Context) -> dict[str, str]:
    rows = await context.pool.fetch("SELECT forward_path, state FROM outbound_recipient")
    return {row["forward_path"]: row["state"] for row in rows}


def recipients_with(notify: tuple[str, ...] | None, *paths: str) -> list[OutboundRecipient]:
    return [OutboundRecipient(path, path.rpartition("@")[2], notify) for path in paths]


async def test_one_report_for_what_failed_together(context: Context, account: Person) -> None:
    """Recipients of a message that fail together are told of in one report, stored with their settlements."""
    taken = await leased(context, account, ["yan@example.net", "zoe@example.net"], envid="id1")
    assert len(taken) == 2
    await Settler(context, Bounces(context)).settle([Settled(each, FAILED) for each in taken])
    assert await states_of(context) == {"yan@example.net": "failed", "zoe@example.net": "failed"}
    (report,) = await inbox_of(context, account)
    assert report.startswith(b"Return-Path: <>\r\nFrom: Mail Delivery System <postmaster@mail.example.test>\r\n")
    found = classify(report)
    assert found is not None
    assert (found.envid, found.message_id) == ("id1", "<1@example.test>")
    assert [(each.address, each.action, str(each.status), each.code) for each in found.recipients] == [
        ("yan@example.net", "failed", "5.1.1", 550),
        ("zoe@example.net", "failed", "5.1.1", 550),
    ]
    assert b"Final-Log-ID: 0123456789abcdef\r\n" in report
    assert b"The body." not in report


@pytest.mark.parametrize(("language", "subject"), [("de", "Nachricht nicht zustellbar"), ("en", "Mail not delivered")])
async def test_the_language_is_the_tenants(
    context: Context, account: Person, owner: Owner, language: str, subject: str
) -> None:
    """The human part is in the language of the sender's tenant."""
    await owner.execute("UPDATE tenant SET language = $1", language)
    (taken,) = await leased(context, account, ["zoe@example.net"])
    await Settler(context, Bounces(context)).settle([Settled(taken, FAILED)])
    (report,) = await inbox_of(context, account)
    assert email.message_from_bytes(report, policy=email.policy.default)["Subject"] == subject


@pytest.mark.parametrize(
    ("notify", "attempt", "is_delay_due", "action"),
    [
        (None, FAILED, False, "failed"),
        (("FAILURE",), FAILED, False, "failed"),
        (("SUCCESS", "DELAY"), FAILED, False, None),
        (("NEVER",), FAILED, False, None),
        (None, DEFERRED, False, None),
        (None, DEFERRED, True, "delayed"),
        (("DELAY",), DEFERRED, True, "delayed"),
        (("FAILURE",), DEFERRED, True, None),
        (None, DELIVERED, False, None),
        (("SUCCESS",), DELIVERED, False, "relayed"),
        (("SUCCESS",), replace(DELIVERED, is_reported_by_peer=True), False, None),
        (("SUCCESS",), replace(DELIVERED, is_final=True), False, "delivered"),
        (("FAILURE",), DELIVERED, False, None),
    ],
)
async def test_notify(
    context: Context,
    account: Person,
    notify: tuple[str, ...] | None,
    attempt: Attempt,
    is_delay_due: bool,
    action: str | None,
) -> None:
    """Senders hear what NOTIFY asks for (RFC 3461 §4.1), and without it of failures and delays."""
    recipients = recipients_with(notify, "zoe@example.net")
    (taken,) = await leased(context, account, [], recipients=recipients)
    next_attempt_at = datetime.now(UTC) if attempt.kind == "deferred" else None
    settled = Settled(taken, attempt, next_attempt_at, is_delay_due)
    await Settler(context, Bounces(context)).settle([settled])
    found = [classify(report) for report in await inbox_of(context, account)]
    assert [one.recipients[0].action for one in found if one is not None] == ([action] if action else [])
    told = await context.pool.fetchval("SELECT delay_told_at FROM outbound_recipient")
    assert (told is not None) == is_delay_due


async def test_a_delay_says_until_when(context: Context, account: Person) -> None:
    """A report of delay has the time until which is tried, and status class 4."""
    (taken,) = await leased(context, account, ["zoe@example.net"])
    (message,) = await Bounces(context).of([Settled(taken, DEFERRED, datetime.now(UTC), is_delay_due=True)])
    assert isinstance(message.original, bytes)
    assert b"\r\nAction: delayed\r\nStatus: 4.4.1\r\nRemote-MTA" in message.original
    assert b"\r\nWill-Retry-Until: " in message.original
    assert b"Diagnostic-Code: x-postwerk; timed out\r\n" in message.original


async def test_giving_up_is_permanent(context: Context, account: Person) -> None:
    """A failure for good has status class 5, whatever the last reply was (RFC 3464 §2.3.4)."""
    (taken,) = await leased(context, account, ["zoe@example.net"])
    (message,) = await Bounces(context).of([Settled(taken, replace(FAILED, status=enhanced("4.4.7")))])
    assert isinstance(message.original, bytes)
    assert b"\r\nAction: failed\r\nStatus: 5.4.7\r\n" in message.original


@pytest.mark.parametrize(
    ("ret", "limit", "is_whole"), [("FULL", 1 << 20, True), ("FULL", 10, False), (None, 10, False)]
)
async def test_what_is_given_back(
    context: Context, account: Person, ret: str | None, limit: int, is_whole: bool
) -> None:
    """RET=FULL gives the message back with a failure, unless it is larger than the limit; otherwise its header is given."""
    settings = msgspec.structs.replace(context.settings, relay=Relay(report_message_limit=Octets(limit)))
    context = replace(context, settings=settings)
    (taken,) = await leased(context, account, ["zoe@example.net"], ret=ret)
    (message,) = await Bounces(context).of([Settled(taken, FAILED)])
    assert isinstance(message.original, bytes)
    assert b"Subject: secret plan\r\n" in message.original
    assert (b"The body." in message.original) is is_whole


async def test_a_bounce_is_never_reported_on(context: Context, account: Person) -> None:
    """What fails with a null reverse path makes no report: it is dropped, and the trace says so."""
    (taken,) = await leased(context, account, ["zoe@example.net"], reverse_path="")
    settled = Settled(taken, FAILED)
    assert await Bounces(context).of([settled]) == []
    await Settler(context, Bounces(context)).settle([settled])
    assert await states_of(context) == {"zoe@example.net": "failed"}
    assert await inbox_of(context, account) == []
    notes = [(kind, facts.get("action"), facts.get("reason")) for _, _, _, kind, facts in context.recorder._waiting]
    assert ("bounced", "dropped", "null reverse path") in notes


async def test_a_remote_sender_is_told_through_the_queue(context: Context, account: Person) -> None:
    """A sender elsewhere gets the report by the queue, with the null reverse path and under the same demand for TLS."""
    (taken,) = await leased(
        context, account, ["zoe@example.net"], reverse_path="bob@elsewhere.example", is_requiretls=True
    )
    await Settler(context, Bounces(context)).settle([Settled(taken, FAILED)])
    row = await context.pool.fetchrow(
        "SELECT forward_path, domain, reverse_path, is_requiretls, state, account_id FROM outbound_recipient"
        " JOIN outbound_message USING (outbound_id) WHERE forward_path LIKE 'bob%'"
    )
    assert row is not None
    assert tuple(row) == ("bob@elsewhere.example", "elsewhere.example", "", True, "waiting", None)


async def test_a_rewritten_sender_stands_for_another(context: Context, account: Person) -> None:
    """A failure of forwarded mail is told to who sent it, not to the address that forwarding had made."""
    forwarding = Forwarding(context)
    rewritten = await forwarding.forwarded(AddrSpec("bob", "elsewhere.example"), "example.test")
    forwarding.close()
    (taken,) = await leased(context, account, ["zoe@example.net"], reverse_path=str(rewritten), account_id=None)
    (message,) = await Bounces(context).of([Settled(taken, FAILED)])
    assert message.outbound is not None
    assert [recipient.forward_path for recipient in message.outbound.recipients] == ["bob@elsewhere.example"]
    assert isinstance(message.original, bytes)
    assert b"\r\nTo: <bob@elsewhere.example>\r\n" in message.original


async def test_a_full_mailbox_gets_reports_on_what_it_sent(context: Context, account: Person, owner: Owner) -> None:
    """Who logged in to send is told although his mailbox is full; who only claims to be the sender is not, with a record."""
    await owner.execute("UPDATE account SET quota_octets = 0")
    context.directory.clear()
    bounces = Bounces(context)
    for account_id in (account.account_id, None):
        (taken,) = await leased(context, account, ["zoe@example.net"])
        await Settler(context, bounces).settle([Settled(replace(taken, account_id=account_id), FAILED)])
    (report,) = await inbox_of(context, account)
    assert b"zoe@example.net" in report
    assert [facts.get("reason") for _, _, _, kind, facts in context.recorder._waiting if kind == "bounced"] == [
        None,
        "sender cannot receive",
    ]


async def test_a_sender_who_is_gone_leaves_a_record(context: Context, account: Person) -> None:
    """A local sender who does not exist any more is told nothing; the failure counts, and the trace has it."""
    (taken,) = await leased(context, account, ["zoe@example.net"], reverse_path="gone@example.test")
    await Settler(context, Bounces(context)).settle([Settled(taken, FAILED)])
    assert await states_of(context) == {"zoe@example.net": "failed"}
    assert [facts.get("reason") for _, _, _, kind, facts in context.recorder._waiting if kind == "bounced"] == [
        "sender cannot receive"
    ]


async def test_a_lost_lease_makes_no_report(context: Context, account: Person) -> None:
    """When another process has the recipient by now, neither outcome nor report is stored."""
    (taken,) = await leased(context, account, ["zoe@example.net"])
    settled = Settled(taken, FAILED)
    messages = await Bounces(context).of([settled])
    await context.pool.execute("UPDATE outbound_recipient SET attempts = attempts + 1")
    with pytest.raises(LeaseLostError):
        await Settler(context, Bounces(context)).store([settled], messages)
    assert await states_of(context) == {"zoe@example.net": "waiting"}
    assert await inbox_of(context, account) == []


async def test_the_trace_names_the_report(context: Context, account: Person) -> None:
    """The trace of the message has the id of the report, which is in the report's own Message-ID."""
    (taken,) = await leased(context, account, ["zoe@example.net"])
    (message,) = await Bounces(context).of([Settled(taken, FAILED)])
    (facts,) = [facts for _, _, _, kind, facts in context.recorder._waiting if kind == "bounced"]
    assert (facts["to"], facts["action"], facts["forward_path"]) == (account.login, "failed", "zoe@example.net")
    assert isinstance(message.original, bytes)
    assert f"Message-ID: <{facts['report']}.report@".encode() in message.original
    (own,) = [
        (kind, facts["forward_path"])
        for _, trace_id, _, kind, facts in context.recorder._waiting
        if trace_id != taken.trace_id
    ]
    assert own == ("stored", account.login)


async def test_the_report_is_journaled(context: Context, account: Person) -> None:
    """A report is mail like any other: the archive gets it."""
    (taken,) = await leased(context, account, ["zoe@example.net"])
    (message,) = await Bounces(context).of([Settled(taken, FAILED)])
    assert message.journal is not None
    assert message.journal.direction == "internal"


async def test_a_message_that_cannot_be_read_is_reported_on(context: Context, account: Person, owner: Owner) -> None:
    """Damage to what was sent does not keep the sender from hearing that it failed."""
    (taken,) = await leased(context, account, ["zoe@example.net"], ret="FULL")
    gone = replace(taken, content_id=taken.content_id + 1_000_000)
    (message,) = await Bounces(context).of([Settled(gone, FAILED)])
    assert isinstance(message.original, bytes)
    assert b"Final-Recipient: rfc822; zoe@example.net\r\n" in message.original
