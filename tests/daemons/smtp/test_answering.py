"""What rules of recipients tell senders: refusals in the reply or by mail, answers of vacation, notifications, copies of them."""

import asyncio
from collections.abc import Sequence
from email.message import EmailMessage

import pytest

from filters.verdict import Junk, Refuse, Verdict
from protocol.smtp.reply import reply
from tests.conftest import Owner, Person, add_person
from tests.daemons.smtp.conftest import Intake
from tests.daemons.smtp.filed import FORGED, LETTER, PROVEN, changed_rules, deliver, lying, notes, parsed, queue, rules
from tests.daemons.smtp.test_reports import read
from tests.daemons.smtp.users import SUBMITTED, Users

ALICE, BOB = "alice@example.test", "bob@example.test"
AWAY = 'vacation :days 7 :subject "Away" "Back in August.";'


async def answers(intake: Intake) -> list[bytes]:
    """What is queued with the null sender."""
    return [
        await intake.context.blobs.message(row["content_id"]) for row in await queue(intake) if not row["reverse_path"]
    ]


def words(report: EmailMessage) -> str:
    """The part of a report that is for people."""
    text = next(report.iter_parts())
    assert isinstance(text, EmailMessage)
    return str(text.get_content())


# -- refusing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["reject", "ereject"])
async def test_refused_in_the_transaction(intake: Intake, account: Person, owner: Owner, command: str) -> None:
    """Of an only recipient the rule's words are the reply, and nothing is accepted."""
    await rules(owner, account, f'{command} "No letters, please.\r\nWrite to bob.";')
    assert await deliver(intake) == [b"550-5.7.1 No letters, please.", b"550 5.7.1 Write to bob."]
    assert (await lying(intake, account), await intake.journal(), await answers(intake)) == ([], [], [])


async def test_words_that_no_reply_can_have(intake: Intake, account: Person, owner: Owner) -> None:
    """A reply is ASCII, in lines that clients take."""
    await rules(owner, account, 'reject "Не пишите!";')
    assert await deliver(intake) == [b"550 5.7.1 message refused by a rule of the recipient"]
    await changed_rules(intake, owner, account, f'reject "Grüße {"x" * 1000}";')
    replies = await deliver(intake)
    assert replies[0].startswith(b"550-5.7.1 Gr??e")
    assert max(map(len, replies)) <= 510


async def test_all_refuse(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """When every recipient refuses, by rule or by filter, the one reply refuses."""
    await rules(owner, account, 'reject "not me";')
    blocked = Refuse(reply(550, "5.7.1", "blocked"), "blocked", account_id=bob.account_id)
    (answer,) = await deliver(intake, ALICE, BOB, verdicts=(PROVEN, blocked))
    assert answer == b"550 5.7.1 not me"
    assert (await lying(intake, bob), await lying(intake, bob, "Junk")) == ([], [])


@pytest.mark.parametrize(
    ("verdicts", "is_told"),
    [((PROVEN,), True), ((), True), ((FORGED,), False), ((PROVEN, Junk("bad")), False)],
    ids=["proven", "unknown", "forged", "spam"],
)
async def test_rejected_by_mail(
    intake: Intake, account: Person, bob: Person, owner: Owner, verdicts: Sequence[Verdict], is_told: bool
) -> None:
    """Where others take it the sender gets a report with the rule's words, unless it is spam or the sender is forged."""
    await rules(owner, account, 'reject "Keine Grüße.";')
    (answer,) = await deliver(intake, ALICE, BOB, verdicts=verdicts)
    assert answer.startswith(b"250 ")
    assert await lying(intake, account) == []
    assert len(await lying(intake, bob)) + len(await lying(intake, bob, "Junk")) == 1
    assert len(await answers(intake)) == int(is_told)
    if is_told:
        report, (_, recipient) = read((await answers(intake))[0])
        assert "Keine Grüße." in words(report)
        assert (recipient["Action"], recipient["Status"]) == ("failed", "5.7.1")
        assert recipient["Final-Recipient"] == f"rfc822; {ALICE}"


async def test_null_sender_is_never_told(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Nothing answers a bounce, and nobody who asked for no report gets one."""
    await rules(owner, account, 'reject "no";')
    await deliver(intake, ALICE, BOB, sender="")
    await deliver(intake, f"<{ALICE}> NOTIFY=NEVER", BOB)
    assert await answers(intake) == []


async def test_lmtp_answers_for_each(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Over LMTP each recipient has its own reply, whether its rule refuses or a filter does for it."""
    carol = await add_person(intake.context.settings, owner, "carol@example.test")
    await rules(owner, account, 'reject "not me";')
    blocked = Refuse(reply(550, "5.7.1", "blocked"), "blocked", account_id=carol.account_id)
    replies = await deliver(intake, ALICE, BOB, "carol@example.test", verdicts=(PROVEN, blocked), is_lmtp=True)
    assert (replies[0], replies[2]) == (b"550 5.7.1 not me", b"550 5.7.1 blocked")
    assert replies[1].startswith(b"250 ")
    (entry,) = await intake.journal()
    assert [each["address"] for each in entry["forward_paths"]] == [BOB]
    assert await answers(intake) == []
    kinds = await notes(intake, replies[1], "refused")
    assert [fact["forward_paths"] for fact in kinds] == [[ALICE], ["carol@example.test"]]


async def test_refused_for_one_is_junk_there(intake: Intake, account: Person, bob: Person) -> None:
    """SMTP has one reply: what one account refuses and another takes is junk for the first."""
    blocked = Refuse(reply(550, "5.7.1", "blocked"), "blocked", account_id=account.account_id)
    (answer,) = await deliver(intake, ALICE, BOB, verdicts=(blocked,))
    assert answer.startswith(b"250 ")
    assert (len(await lying(intake, account, "Junk")), len(await lying(intake, bob))) == (1, 1)
    assert await deliver(intake, ALICE, verdicts=(blocked,)) == [b"550 5.7.1 blocked"]


# -- vacation -------------------------------------------------------------------------------------------------------------


async def test_answered_once(intake: Intake, account: Person, owner: Owner) -> None:
    """The sender is answered once within the period, in the same thread, and the message is kept."""
    await rules(owner, account, AWAY)
    for number in range(3):
        await deliver(intake, message=LETTER.replace(b"<1@", b"<%d@" % number))
    assert len(await lying(intake, account)) == 3
    (answer,) = await answers(intake)
    mail = parsed(answer)
    assert (mail["Subject"], mail["To"], mail["From"]) == ("Away", "carol@elsewhere.example", ALICE)
    assert mail["Auto-Submitted"] == "auto-replied (vacation)"
    assert mail["In-Reply-To"] == "<0@elsewhere.example>"
    assert "Received" not in mail
    (row,) = await queue(intake)
    assert (row["forward_path"], row["reverse_path"]) == ("carol@elsewhere.example", "")


async def test_answered_at_the_same_moment(intake: Intake, account: Person, owner: Owner) -> None:
    """Messages of a sender that come at the same time get one answer together, and all are kept."""
    await rules(owner, account, AWAY)
    messages = [LETTER.replace(b"<1@", b"<%d@" % number) for number in range(8)]
    replies = await asyncio.gather(*(deliver(intake, message=message) for message in messages))
    assert all(answer.startswith(b"250 ") for (answer,) in replies)
    assert len(await lying(intake, account)) == 8
    assert len(await answers(intake)) == 1


async def test_who_is_not_answered(intake: Intake, account: Person, owner: Owner) -> None:
    """RFC 3834: no lists, no bulk mail, no programs, no bounces, nobody who wrote to somebody else, no spam, no forged sender."""
    await rules(owner, account, AWAY)
    for field in (b"List-Id: <x.example>", b"Precedence: bulk", b"Auto-Submitted: auto-generated"):
        await deliver(intake, message=field + b"\r\n" + LETTER)
    await deliver(intake, sender="")
    await deliver(intake, sender="owner-list@elsewhere.example")
    await deliver(intake, sender=ALICE)
    await deliver(intake, message=LETTER.replace(b"alice@", b"others@"))
    await deliver(intake, verdicts=(PROVEN, Junk("bad")))
    await deliver(intake, verdicts=(FORGED,))
    assert await answers(intake) == []
    assert len(await lying(intake, account)) == 8
    assert len(await lying(intake, account, "Junk")) == 1


async def test_addresses_of_the_account(intake: Intake, account: Person, owner: Owner) -> None:
    """Mail to any address of the account is answered, from that address."""
    await owner.execute(
        "INSERT INTO address (tenant_id, domain_id, local_part, account_id) SELECT tenant_id, domain_id, 'sales', account_id "
        "FROM address WHERE local_part = 'alice'"
    )
    intake.context.directory.clear()
    await rules(owner, account, AWAY)
    await deliver(intake, "sales@example.test", message=LETTER.replace(b"alice@", b"Sales@"))
    (answer,) = await answers(intake)
    assert parsed(answer)["From"] == "Sales@example.test"


async def test_a_failed_delivery_answers_nobody(intake: Intake, account: Person, owner: Owner) -> None:
    """When a message cannot be stored, there is no answer and no memory of one: the next try answers."""
    await rules(owner, account, AWAY)
    await owner.execute("ALTER TABLE message ADD CONSTRAINT broken CHECK (false) NOT VALID")
    assert (await deliver(intake))[0].startswith(b"451 ")
    assert (await answers(intake), await owner.fetchval("SELECT count(*) FROM memory")) == ([], 0)
    await owner.execute("ALTER TABLE message DROP CONSTRAINT broken")
    assert (await deliver(intake))[0].startswith(b"250 ")
    assert len(await answers(intake)) == 1


async def test_copies_of_answers(intake: Intake, account: Person, owner: Owner) -> None:
    """:fcc leaves a copy of the answer in a mailbox, with flags; one that is not there is made when the rule says so."""
    await rules(owner, account, r'vacation :fcc "Answers" :create :flags "\\Seen" "Away.";')
    await deliver(intake)
    (copy,) = await lying(intake, account, "Answers")
    (answer,) = await answers(intake)
    assert copy.is_seen
    assert answer.endswith(copy.octets)


async def test_answer_to_a_user(users: Users, account: Person, owner: Owner) -> None:
    """A user of this host who writes to one that is away has the answer in the inbox."""
    bob = await add_person(users.context.settings, owner, BOB)
    await rules(owner, bob, AWAY)
    async with await users.logged_in(account) as client:
        assert (await client.send(SUBMITTED, f"<{BOB}>")).startswith(b"250 ")
    (answer,) = await users.mailbox(account)
    assert parsed(answer)["Subject"] == "Away"
    assert len(await users.mailbox(bob)) == 1


async def test_users_are_refused_by_rules(users: Users, account: Person, owner: Owner) -> None:
    """A user who writes to nobody but one that rejects it reads the rule's words; with others there is a report."""
    bob = await add_person(users.context.settings, owner, BOB)
    await rules(owner, bob, 'reject "No, thanks.";')
    async with await users.logged_in(account) as client:
        assert await client.send(SUBMITTED, f"<{BOB}>") == b"550 5.7.1 No, thanks.\r\n"
        assert (await client.send(SUBMITTED, f"<{BOB}>", "<dave@remote.example>")).startswith(b"250 ")
    (report,) = await users.mailbox(account)
    assert "No, thanks." in words(read(report)[0])


# -- notifications --------------------------------------------------------------------------------------------------------


async def test_notified(intake: Intake, account: Person, owner: Owner) -> None:
    """notify sends mail about the message, which is kept all the same."""
    await rules(owner, account, 'notify :message "You have mail." "mailto:dave@remote.example";')
    (answer,) = await deliver(intake)
    (row,) = await queue(intake)
    assert row["forward_path"] == "dave@remote.example"
    mail = parsed(await intake.context.blobs.message(row["content_id"]))
    assert mail["Auto-Submitted"].startswith("auto-notified")
    assert len(await lying(intake, account)) == 1
    assert len(await notes(intake, answer, "filtered")) == 1
