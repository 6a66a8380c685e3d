"""LMTP answers for each recipient by itself (RFC 2033 §4.2), addresses that forward among them."""

import pytest

from filters.verdict import Refuse
from protocol.smtp.reply import reply
from storage.forwards import set_forward
from tests.conftest import Owner, Person
from tests.daemons.smtp.conftest import MESSAGE, Intake
from tests.daemons.smtp.filed import LETTER, PROVEN, deliver, lying, notes, queue, rules
from tests.daemons.smtp.test_acceptance import stuffed
from tests.daemons.smtp.test_reports import read

ALICE, BOB, DAVE = "alice@example.test", "bob@example.test", "dave@remote.example"
SALES, ALL, OUT = "sales@example.test", "all@example.test", "out@example.test"
RELAYED = b"Received: from mail.example.test by mx.remote.example; Sun, 22 Nov 2026 10:00:00 +0000\r\n"


@pytest.fixture(autouse=True)
async def addresses(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """One that leads to bob, one to alice and bob, one to another host."""
    for address, targets in ((SALES, [BOB]), (ALL, [ALICE, BOB]), (OUT, [DAVE])):
        await set_forward(owner, address, targets, keeps=False)
    intake.context.directory.clear()


async def test_whose_rules_refuse(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """An address whose only account refuses is refused; the others have the message, and answers come in the order of RCPT."""
    await rules(owner, bob, 'reject "not me";')
    replies = await deliver(intake, SALES, ALICE, OUT, BOB, is_lmtp=True)
    assert [line[:9] for line in replies] == [b"550 5.7.1", b"250 2.0.0", b"250 2.0.0", b"550 5.7.1"]
    assert len(await lying(intake, account)) == 1
    assert await lying(intake, bob) == []
    assert [row["forward_path"] for row in await queue(intake)] == [DAVE]
    refused = await notes(intake, replies[1], "refused")
    assert [fact["forward_paths"] for fact in refused] == [[BOB], [SALES]]


async def test_whose_filter_refuses(intake: Intake, account: Person, bob: Person) -> None:
    """What the lists of an account refuse is refused for the address that leads there alone."""
    blocked = Refuse(reply(550, "5.7.1", "blocked"), "blocked", account_id=bob.account_id)
    replies = await deliver(intake, OUT, SALES, ALICE, verdicts=(PROVEN, blocked), is_lmtp=True)
    assert [line[:9] for line in replies] == [b"250 2.0.0", b"550 5.7.1", b"250 2.0.0"]


async def test_circles(intake: Intake, account: Person) -> None:
    """An address that has forwarded the message before is refused; the others have it."""
    await deliver(intake, OUT, is_lmtp=True)
    back = RELAYED + await intake.context.blobs.message((await queue(intake))[0]["content_id"])
    first, second = await deliver(intake, OUT, ALICE, message=back, is_lmtp=True)
    assert first.startswith(b"550 5.4.6 mailbox forwards in circles")
    assert second.startswith(b"250 ")
    assert len(await lying(intake, account)) == len(await queue(intake)) == 1


async def test_each_account_has_it_once(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Named itself, behind one address, behind another, or sent it by a rule."""
    await rules(owner, account, f'redirect :copy "{BOB}";')
    replies = await deliver(intake, ALL, ALICE, SALES, ALL, is_lmtp=True)
    assert [line[:4] for line in replies] == [b"250 "] * 4
    assert (len(await lying(intake, account)), len(await lying(intake, bob))) == (1, 1)
    replies = await deliver(intake, SALES, ALL, message=LETTER.replace(b"<1@", b"<2@"), is_lmtp=True)
    assert [line[:4] for line in replies] == [b"250 "] * 2
    assert (len(await lying(intake, account)), len(await lying(intake, bob))) == (2, 2)


@pytest.mark.parametrize(("address", "told"), [(SALES, ("delivered", BOB)), (ALL, ("expanded", ALL))])
async def test_success_of_who_has_it_already(intake: Intake, bob: Person, address: str, told: tuple[str, str]) -> None:
    """The report names the one behind the address, though he was named himself, too, or the address that stands for several."""
    await deliver(intake, BOB, f"<{address}> NOTIFY=SUCCESS", is_lmtp=True)
    (report,) = await queue(intake)
    _, (_, recipient) = read(await intake.context.blobs.message(report["content_id"]))
    assert (recipient["Action"], recipient["Final-Recipient"]) == (told[0], f"rfc822; {told[1]}")
    assert len(await lying(intake, bob)) == 1


async def test_a_mailbox_that_vanishes(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """The address that leads there is put off; the others have their mail."""
    client = await intake.greeted(is_lmtp=True)
    client.say(
        b"MAIL FROM:<carol@elsewhere.example>\r\nRCPT TO:<sales@example.test>\r\nRCPT TO:<alice@example.test>\r\n"
        b"RCPT TO:<out@example.test>\r\n"
    )
    assert (await client.hear(4)).count(b"250 ") == 4
    await owner.execute("DELETE FROM mailbox WHERE account_id = $1 AND name = 'INBOX'", bob.account_id)
    client.say(b"DATA\r\n")
    await client.hear(1)
    client.say(stuffed(MESSAGE))
    heard = (await client.hear(3)).splitlines()
    assert [line[:9] for line in heard] == [b"451 4.2.1", b"250 2.0.0", b"250 2.0.0"]
    assert await intake.originals(account) == [MESSAGE]
    named = [[path["address"] for path in entry["forward_paths"]] for entry in await intake.journal()]
    assert named == [[ALICE], [OUT], [DAVE]]
