"""Reports of delivery, from RCPT NOTIFY=SUCCESS to the sender's inbox: who gets one, what it says, what it is stored with."""

import email
import email.message
import email.policy

import asyncpg
import pytest

from config.settings import Settings
from storage import accounts
from storage.blobs.keys import KeyRing
from tests.conftest import Person, add_person
from tests.daemons.smtp.conftest import MESSAGE, Intake
from tests.daemons.smtp.test_acceptance import ODD, send, stuffed
from tests.hearing import until_heard

BOB = b"MAIL FROM:<bob@example.test>"
TO_ALICE = b"RCPT TO:<alice@example.test>"


def is_report(message: bytes) -> bool:
    return b"\r\nContent-Type: multipart/report; report-type=delivery-status;" in message


def read(report: bytes) -> tuple[email.message.EmailMessage, list[dict[str, str]]]:
    """The report, and the groups of fields of its second part."""
    assert report.startswith(b"Return-Path: <>\r\nFrom: ")
    message = email.message_from_bytes(report, policy=email.policy.default)
    _, status, _ = message.iter_parts()
    return message, [dict(group.items()) for group in status.iter_parts()]


async def deliver(intake: Intake, *commands: bytes, message: bytes = MESSAGE, is_lmtp: bool = False) -> bytes:
    """One transaction in a session of its own; gives the transaction's id."""
    client = await intake.greeted(is_lmtp=is_lmtp)
    answer = await send(client, message, b"".join(command + b"\r\n" for command in commands))
    assert answer.startswith(b"250 2.0.0 accepted as ")
    return answer.split()[4]


async def add_zoe(settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]") -> Person:
    """zoe@other.test, of another tenant."""
    tenant_id = await accounts.add_tenant(owner, "other", KeyRing(settings.master_key_file).new_tenant_key())
    await accounts.add_domain(owner, "other", "other.test")
    return Person(tenant_id, await accounts.add_account(owner, "other", "zoe@other.test", "x"), "zoe@other.test", "")


@pytest.mark.parametrize("is_lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("original", [MESSAGE, ODD["spooled"]], ids=["small", "spooled"])
async def test_sender_is_told(original: bytes, is_lmtp: bool, intake: Intake, account: Person, bob: Person) -> None:
    """A local sender gets one report with the envelope id and the original recipient, under the null reverse path."""
    identity = await deliver(
        intake,
        BOB + b" RET=FULL ENVID=QQ+2B314",
        TO_ALICE + b" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Carol+2BX@ivory.example",
        message=original,
        is_lmtp=is_lmtp,
    )
    assert await intake.originals(account) == [original]
    (report,) = await intake.inbox(bob)
    message, (whole, alice) = read(report)
    assert message["From"].addresses[0].addr_spec == "postmaster@mail.example.test"
    assert message["To"].addresses[0].addr_spec == "bob@example.test"
    assert message["Message-ID"] == f"<{identity.decode()}.report@mail.example.test>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert (whole["Original-Envelope-Id"], whole["Reporting-MTA"]) == ("QQ+314", "dns; mail.example.test")
    assert whole["Arrival-Date"] == message["Date"]
    assert alice == {
        "Original-Recipient": "rfc822; Carol+X@ivory.example",
        "Final-Recipient": "rfc822; alice@example.test",
        "Action": "delivered",
        "Status": "2.0.0",
    }
    *_, returned = message.iter_parts()
    assert returned.get_payload(decode=True) == original.partition(b"\r\n\r\n")[0] + b"\r\n"


async def test_report_is_journalled(intake: Intake, account: Person, bob: Person) -> None:
    """The report has a journal entry of its own: internal, from the null reverse path to the sender."""
    identity = await deliver(intake, BOB, TO_ALICE + b" NOTIFY=SUCCESS")
    rows = await intake.context.pool.fetch("SELECT direction, tenant_id FROM journal ORDER BY journal_id")
    assert [tuple(row) for row in rows] == [("in", account.tenant_id), ("internal", bob.tenant_id)]
    delivery, report = await intake.journal()
    assert delivery["reverse_path"] == "bob@example.test"
    assert report.pop("received_at") == delivery["received_at"]
    assert report.pop("id") != delivery["id"] == identity.decode()
    assert report == {
        "body": "7BIT",
        "envid": None,
        "forward_paths": [{"address": "bob@example.test", "notify": None, "orcpt": None}],
        "helo": "mail.example.test",
        "peer": "",
        "protocol": "",
        "ret": None,
        "reverse_path": None,
        "smtputf8": False,
        "tls": None,
    }


async def test_one_report_names_all_who_were_to_be_reported(
    intake: Intake,
    account: Person,
    bob: Person,
    settings: Settings,
    owner: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """One report per transaction, across tenants, with those recipients that asked for it, as the sender named them."""
    zoe = await add_zoe(settings, owner)
    await accounts.add_address(owner, "sales@example.test", "alice@example.test")
    await deliver(
        intake,
        BOB,
        b"RCPT TO:<sales@example.test> NOTIFY=SUCCESS",
        b"RCPT TO:<zoe@other.test> NOTIFY=DELAY,SUCCESS",
        b"RCPT TO:<alice@example.test> NOTIFY=FAILURE",
        b"RCPT TO:<bob@example.test> NOTIFY=SUCCESS",
    )
    delivered, report = await intake.inbox(bob)
    assert not is_report(delivered)
    _, (_, *recipients) = read(report)
    named = [fields["Final-Recipient"] for fields in recipients]
    assert named == ["rfc822; sales@example.test", "rfc822; zoe@other.test", "rfc822; bob@example.test"]
    assert [len(await intake.inbox(person)) for person in (account, zoe)] == [1, 1]


async def test_sender_of_another_tenant(
    intake: Intake,
    account: Person,
    settings: Settings,
    owner: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """A report belongs to the sender's tenant, whoever's the delivery was."""
    zoe = await add_zoe(settings, owner)
    await deliver(intake, b"MAIL FROM:<zoe+dsn@other.test>", TO_ALICE + b" NOTIFY=SUCCESS")
    (report,) = await intake.inbox(zoe)
    assert read(report)[0]["To"] == "zoe+dsn@other.test"
    rows = await intake.context.pool.fetch("SELECT tenant_id, direction FROM journal ORDER BY journal_id")
    assert [tuple(row) for row in rows] == [(account.tenant_id, "in"), (zoe.tenant_id, "internal")]


@pytest.mark.parametrize(
    ("reverse_path", "notify"),
    [
        (b"<bob@example.test>", b""),
        (b"<bob@example.test>", b" NOTIFY=NEVER"),
        (b"<bob@example.test>", b" NOTIFY=FAILURE,DELAY"),
        (b"<>", b" NOTIFY=SUCCESS"),
        (b"<nobody@example.test>", b" NOTIFY=SUCCESS"),
    ],
)
async def test_no_report(reverse_path: bytes, notify: bytes, intake: Intake, account: Person, bob: Person) -> None:
    """Nobody is told who did not ask, does not exist, or is the null reverse path; the message is delivered all the same."""
    await deliver(intake, b"MAIL FROM:" + reverse_path, TO_ALICE + notify)
    assert await intake.originals(account) == [MESSAGE]
    assert await intake.inbox(bob) == []
    assert len(await intake.journal()) == 1


@pytest.mark.parametrize(
    ("sender", "domain"), [("bob@Client.Example", "client.example"), ("b@[192.0.2.1]", "[192.0.2.1]")]
)
async def test_report_to_a_remote_sender(sender: str, domain: str, intake: Intake, account: Person) -> None:
    """A sender elsewhere is told by the queue, in the name of the recipient's tenant, from the null reverse path."""
    await deliver(intake, f"MAIL FROM:<{sender}>".encode(), TO_ALICE + b" NOTIFY=SUCCESS")
    row = await intake.context.pool.fetchrow(
        "SELECT m.tenant_id, m.account_id, m.reverse_path, r.forward_path, r.domain, r.state, m.content_id "
        "FROM outbound_message AS m JOIN outbound_recipient AS r USING (outbound_id)"
    )
    assert row is not None
    *told, content_id = row
    assert told == [account.tenant_id, None, "", sender, domain, "waiting"]
    message, (_, recipient) = read(await intake.context.blobs.message(content_id))
    assert message["To"].addresses[0].domain.lower() == domain
    assert (recipient["Action"], recipient["Final-Recipient"]) == ("delivered", "rfc822; alice@example.test")
    assert [entry["forward_paths"][0]["address"] for entry in await intake.journal()] == ["alice@example.test", sender]


@pytest.mark.parametrize("change", ["is_disabled = true", "quota_octets = 0"])
async def test_senders_that_receive_nothing(
    change: str, intake: Intake, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A reverse path is only a claim: it puts nothing into a mailbox that RCPT would have refused."""
    await owner.execute(f"UPDATE account SET {change} WHERE account_id = $1", bob.account_id)
    intake.context.directory.clear()
    await deliver(intake, BOB, TO_ALICE + b" NOTIFY=SUCCESS")
    assert await intake.originals(account) == [MESSAGE]
    assert await intake.inbox(bob) == []


async def test_refused_message(intake: Intake, account: Person, bob: Person) -> None:
    """No report of a message that was not accepted."""
    client = await intake.greeted()
    circling = b"Received: x\r\n" * 100 + MESSAGE
    answer = await send(client, circling, BOB + b"\r\n" + TO_ALICE + b" NOTIFY=SUCCESS\r\n")
    assert answer.startswith(b"554 5.4.6 ")
    assert (await intake.inbox(account), await intake.inbox(bob)) == ([], [])


async def test_report_of_a_report(intake: Intake, account: Person, bob: Person) -> None:
    """A report that is sent on as reports are, under the null reverse path, leads to no other."""
    await deliver(intake, BOB, TO_ALICE + b" NOTIFY=SUCCESS")
    (report,) = await intake.inbox(bob)
    await deliver(intake, b"MAIL FROM:<>", TO_ALICE + b" NOTIFY=SUCCESS", message=report)
    assert [is_report(message) for message in await intake.inbox(account)] == [False, True]
    assert len(await intake.inbox(bob)) == 1


async def test_postmaster(
    intake: Intake, account: Person, bob: Person, settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """<Postmaster> is reported with the domain that a report cannot do without."""
    await accounts.add_domain(owner, "example", "mail.example.test")
    await add_person(settings, owner, "postmaster@mail.example.test")
    intake.context.directory.clear()
    await deliver(intake, BOB, b"RCPT TO:<Postmaster> NOTIFY=SUCCESS")
    (report,) = await intake.inbox(bob)
    assert read(report)[1][1]["Final-Recipient"] == "rfc822; postmaster@mail.example.test"


async def test_smtputf8(
    intake: Intake, account: Person, settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The report of an SMTPUTF8 transaction has its addresses and the header it returns in UTF-8 (RFC 6533)."""
    joerg = await add_person(settings, owner, "jörg@example.test")
    await deliver(
        intake,
        "MAIL FROM:<jörg@example.test> SMTPUTF8".encode(),
        TO_ALICE + " NOTIFY=SUCCESS ORCPT=utf-8;алиса@example.test".encode(),
        message="Subject: Grüße\r\n\r\nüber\r\n".encode(),
    )
    (report,) = await intake.inbox(joerg)
    assert "\r\nTo: <jörg@example.test>\r\n".encode() in report
    assert b"\r\nContent-Type: message/global-delivery-status\r\n" in report
    assert "\r\nOriginal-Recipient: utf-8; алиса@example.test\r\n".encode() in report
    assert b"\r\nContent-Type: message/global-headers\r\n" in report
    _, journalled = await intake.journal()
    assert (journalled["smtputf8"], journalled["body"]) == (True, "8BITMIME")


async def test_language(
    intake: Intake, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The words for people are in the language of the sender's tenant."""
    for language, subject in (("de", "Nachricht zugestellt"), ("en", "Mail delivered")):
        await owner.execute("UPDATE tenant SET language = $1", language)
        client = await intake.greeted()
        await send(client, MESSAGE, BOB + b"\r\n" + TO_ALICE + b" NOTIFY=SUCCESS\r\n")
        assert read((await intake.inbox(bob))[-1])[0]["Subject"] == subject


async def test_lmtp_reports_whom_it_served(
    intake: Intake,
    account: Person,
    bob: Person,
    settings: Settings,
    owner: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """When LMTP could not serve all, one report names those that were served."""
    carol = await add_person(settings, owner, "carol@example.test")
    await add_person(settings, owner, "dave@example.test")
    client = await intake.greeted(is_lmtp=True)
    names = (b"alice", b"carol", b"dave")
    client.say(BOB + b"\r\n" + b"".join(b"RCPT TO:<%s@example.test> NOTIFY=SUCCESS\r\n" % name for name in names))
    assert (await client.hear(4)).count(b"250 ") == 4
    await owner.execute("DELETE FROM mailbox WHERE account_id = $1 AND name = 'INBOX'", carol.account_id)
    client.say(b"DATA\r\n")
    await client.hear(1)
    client.say(stuffed(MESSAGE))
    assert [line[:9] for line in (await client.hear(3)).splitlines()] == [b"250 2.0.0", b"451 4.2.1", b"250 2.0.0"]
    (report,) = await intake.inbox(bob)
    _, (_, *recipients) = read(report)
    named = [fields["Final-Recipient"] for fields in recipients]
    assert named == ["rfc822; alice@example.test", "rfc822; dave@example.test"]


@pytest.mark.parametrize("is_lmtp", [False, True], ids=["smtp", "lmtp"])
async def test_sender_vanishes(
    is_lmtp: bool,
    intake: Intake,
    account: Person,
    bob: Person,
    settings: Settings,
    owner: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """A sender's mailbox that vanishes unseen puts the delivery off until it is seen; LMTP delivers without the report."""
    await add_person(settings, owner, "carol@example.test")
    client = await intake.greeted(is_lmtp=is_lmtp)
    envelope = BOB + b"\r\n" + TO_ALICE + b" NOTIFY=SUCCESS\r\nRCPT TO:<carol@example.test> NOTIFY=SUCCESS\r\n"
    await until_heard(intake.context)  # of carol: nothing is forgotten any more
    assert await intake.context.directory.resolve("bob", "example.test") is not None  # and remembers it
    await owner.execute("DELETE FROM mailbox WHERE account_id = $1 AND name = 'INBOX'", bob.account_id)
    answer = await send(client, MESSAGE, envelope)
    assert answer.startswith(b"250 2.0.0 " if is_lmtp else b"451 4.2.1 ")
    intake.context.directory.clear()
    if not is_lmtp:
        assert await intake.inbox(account) == []
        assert (await send(client, MESSAGE, envelope)).startswith(b"250 2.0.0 ")
    assert await intake.originals(account) == [MESSAGE]
