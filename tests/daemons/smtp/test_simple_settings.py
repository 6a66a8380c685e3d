"""Simple settings at work: what people have set decides about mail that comes in by SMTP."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from daemons import rules
from filters.pipeline import Pipeline
from filters.simple.conditions import parse
from filters.simple.settings import Forwarding, Rule, SpamAction, Vacation
from filters.simple.settings import Settings as Simple
from filters.spam.findings import SpamFinding, SpamFindings
from filters.spam.score import SpamVerdict, Thresholds
from filters.verdict import Finding
from storage import mailboxes, messages
from storage.accounts import add_address
from tests.conftest import Owner, Person
from tests.daemons.smtp.conftest import MESSAGE, Intake, headless
from tests.daemons.smtp.test_acceptance import Judge, send

SENDER = "sender@client.example"
TODAY = datetime.now(UTC).date()
SPAM = SpamFindings(SpamFinding(SpamVerdict(7.0, ()), Thresholds(tag=3.5, junk=5.0, reject=15.0)))

Mail = Callable[..., Awaitable[bytes]]


@pytest.fixture
def mail(intake: Intake) -> Mail:
    """Send a message to alice from elsewhere; gives the answer."""

    async def send_to(
        octets: bytes = MESSAGE,
        *,
        to: str = "alice@example.test",
        sender: str = SENDER,
        spam: SpamFindings | None = None,
    ) -> bytes:
        pipeline = Pipeline() if spam is None else Pipeline(content=[Judge(Finding(spam))])
        client = await intake.greeted(**intake.limited(pipeline))
        return await send(client, octets, f"MAIL FROM:<{sender}>\r\nRCPT TO:<{to}>\r\n".encode())

    return send_to


async def wants(intake: Intake, owner: Owner, person: Person, settings: Simple) -> None:
    """Set it, before any mail comes."""
    await rules.change(owner, intake.context.settings, person.account_id, lambda _: settings)


async def filed(intake: Intake, person: Person) -> dict[str, list[bytes]]:
    """What lies in which mailbox."""
    found: dict[str, list[bytes]] = {}
    async with intake.context.pool.acquire() as connection:
        for mailbox in await mailboxes.list_mailboxes(connection, person.account_id):
            _, rows = await messages.snapshot(connection, mailbox.mailbox_id)
            if rows:
                found[mailbox.name] = [headless(await intake.context.blobs.message(row.content_id)) for row in rows]
    return found


async def queue(intake: Intake) -> Sequence[asyncpg.Record]:
    return await intake.context.pool.fetch(
        "SELECT * FROM outbound_message JOIN outbound_recipient USING (outbound_id) ORDER BY recipient_id"
    )


async def test_rules(intake: Intake, owner: Owner, account: Person, mail: Mail) -> None:
    """Mail is filed into a mailbox that is made, forwarded, or discarded; what is discarded is in the journal all the same."""
    sorting = (
        Rule(name="hello", conditions=(parse("subject contains hello"),), file_into="Grüße/Neu", flags=("\\Seen",)),
        Rule(name="boss", conditions=(parse("header X-Boss exists"),), forward_to=("chief@remote.example",)),
        Rule(name="pest", conditions=(parse("body contains pest"),), discard=True),
    )
    await wants(intake, owner, account, Simple(rules=sorting))
    assert (await mail()).startswith(b"250 ")
    plain = MESSAGE.replace(b"Subject: hello", b"Subject: other")
    for octets in (b"X-Boss: 1\r\n" + plain, plain + b"A pest.\r\n", plain):
        assert (await mail(octets)).startswith(b"250 ")
    assert await filed(intake, account) == {"Grüße/Neu": [MESSAGE], "INBOX": [plain]}
    assert [row["forward_path"] for row in await queue(intake)] == ["chief@remote.example"]
    assert len([each for each in await intake.journal() if each["reverse_path"] == SENDER]) == 4


@pytest.mark.parametrize("keep", [True, False])
async def test_forwarding(intake: Intake, owner: Owner, account: Person, mail: Mail, *, keep: bool) -> None:
    """A mailbox is forwarded with a local copy or without, under a sender of ours."""
    await wants(intake, owner, account, Simple(forwarding=Forwarding(addresses=("alice@remote.example",), keep=keep)))
    assert (await mail()).startswith(b"250 ")
    assert await filed(intake, account) == ({"INBOX": [MESSAGE]} if keep else {})
    (row,) = await queue(intake)
    assert row["forward_path"] == "alice@remote.example"
    assert row["reverse_path"].endswith("@example.test")


@pytest.mark.parametrize(("action", "place"), [("none", "INBOX"), ("junk", "Junk"), ("delete", None)])
async def test_spam(
    intake: Intake, owner: Owner, account: Person, mail: Mail, *, action: SpamAction, place: str | None
) -> None:
    """Spam is mail like any other until the account wants it in Junk or deleted; then it is not forwarded and not answered."""
    others = Simple(spam=action, vacation=Vacation(text="away"), forwarding=Forwarding(addresses=("a@remote.example",)))
    await wants(intake, owner, account, others)
    assert (await mail(spam=SPAM)).startswith(b"250 ")
    assert await filed(intake, account) == ({place: [MESSAGE]} if place else {})
    assert bool(await queue(intake)) is (action == "none")


async def test_the_autoresponder(intake: Intake, owner: Owner, account: Person, mail: Mail) -> None:
    """Within its days it answers a sender once, keeps the message, and does not answer lists and null senders."""
    answer = Vacation(text="Bin weg.", subject="Urlaub", starts=TODAY - timedelta(1), ends=TODAY + timedelta(1))
    await wants(intake, owner, account, Simple(vacation=answer))
    for octets, sender in (
        (MESSAGE, SENDER),
        (MESSAGE, SENDER),
        (b"List-Id: <x>\r\n" + MESSAGE, "l@x.example"),
        (MESSAGE, ""),
    ):
        assert (await mail(octets, sender=sender)).startswith(b"250 ")
    assert len((await filed(intake, account))["INBOX"]) == 4
    (row,) = await queue(intake)
    assert (row["reverse_path"], row["forward_path"]) == ("", SENDER)
    said = await intake.context.blobs.message(row["content_id"])
    assert b"Subject: Urlaub\r\n" in said
    assert b"Auto-Submitted: auto-replied" in said
    assert b"Bin weg." in said


@pytest.mark.parametrize(("starts", "ends"), [(2, 3), (-3, -2)])
async def test_out_of_time(intake: Intake, owner: Owner, account: Person, mail: Mail, starts: int, ends: int) -> None:
    """Before its first day and after its last the autoresponder is silent."""
    answer = Vacation(text="away", starts=TODAY + timedelta(starts), ends=TODAY + timedelta(ends))
    await wants(intake, owner, account, Simple(vacation=answer))
    assert (await mail()).startswith(b"250 ")
    assert await queue(intake) == []


async def test_whom_it_answers(intake: Intake, owner: Owner, account: Person, mail: Mail) -> None:
    """The account chooses which senders are answered."""
    chosen = (parse("from matches *@client.example"), parse("not subject contains urgent"))
    await wants(intake, owner, account, Simple(vacation=Vacation(text="away", conditions=chosen)))
    await mail(MESSAGE.replace(b"hello", b"urgent"), sender="one@client.example")
    await mail(MESSAGE.replace(b"client.example", b"other.example"), sender="two@other.example")
    await mail(MESSAGE, sender="three@client.example")
    assert [row["forward_path"] for row in await queue(intake)] == ["three@client.example"]


async def test_notifications(intake: Intake, owner: Owner, account: Person, mail: Mail) -> None:
    """A fax is told to another address, and other mail is not."""
    rule = Rule(name="fax", conditions=(parse("fax"),), notify=("mailto:pocket@remote.example",))
    await wants(intake, owner, account, Simple(rules=(rule,)))
    await mail()
    assert await queue(intake) == []
    await mail(MESSAGE.replace(b"Subject: hello", b"Subject: Fax from 0209 123456"))
    assert [row["forward_path"] for row in await queue(intake)] == ["pocket@remote.example"]
    assert len((await filed(intake, account))["INBOX"]) == 2


async def test_the_catch_all(intake: Intake, owner: Owner, account: Person, mail: Mail) -> None:
    """Mail for addresses that nobody has is refused, or goes through the rules of the domain's catch-all."""
    client = await intake.greeted()
    await client.ask(b"MAIL FROM:<sender@client.example>")
    assert (await client.ask(b"RCPT TO:<nobody@example.test>")).startswith(b"550 5.1.1 ")
    await add_address(owner, "@example.test", account.login)
    intake.context.directory.clear()
    rule = Rule(name="info", conditions=(parse("recipient is info@example.test"),), file_into="Info")
    await wants(intake, owner, account, Simple(rules=(rule,)))
    to_info = MESSAGE.replace(b"alice@", b"info@")
    assert (await mail(to_info, to="info@example.test")).startswith(b"250 ")
    assert (await mail(to="nobody@example.test")).startswith(b"250 ")
    assert await filed(intake, account) == {"Info": [to_info], "INBOX": [MESSAGE]}
