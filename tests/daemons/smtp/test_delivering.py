"""Where mail lies when filters and rules of its recipients have decided: mailboxes, flags, edited messages, junk, quarantine."""

from collections.abc import Sequence

import asyncpg
import pytest
from prometheus_client import REGISTRY

from filters.antivirus import Scanned
from filters.pipeline import Pipeline
from filters.spam.findings import SpamFinding, SpamFindings
from filters.spam.score import SpamVerdict, Thresholds
from filters.subject import Envelope, Subject
from filters.verdict import AddField, Drop, Finding, Junk, Quarantine, Verdict
from protocol.imap.objectid import mailbox_id
from storage import mailboxes
from tests.conftest import Owner, Person
from tests.daemons.smtp.conftest import Intake, headless
from tests.daemons.smtp.filed import LETTER, PROVEN, changed_rules, deliver, lying, notes, rules
from tests.daemons.smtp.test_acceptance import ODD, Judge, send

ALICE, BOB = "alice@example.test", "bob@example.test"


async def test_no_rules(intake: Intake, account: Person) -> None:
    """Without rules mail lies in the inbox as it came, and the trace has nothing to tell of rules."""
    (answer,) = await deliver(intake)
    assert [headless(each.octets) for each in await lying(intake, account)] == [LETTER]
    assert await notes(intake, answer, "filtered") == []


async def test_filed_with_flags(intake: Intake, account: Person, owner: Owner) -> None:
    """fileinto takes it to a mailbox, with the flags and keywords of the rule, and the trace says so."""
    async with intake.context.pool.acquire() as connection:
        await mailboxes.create(connection, account.account_id, "Lists/News")
    await rules(owner, account, r'addflag ["\\Seen", "$Later"]; fileinto "Lists/News";')
    (answer,) = await deliver(intake)
    (found,) = await lying(intake, account, "Lists/News")
    assert (headless(found.octets), found.is_seen, found.keywords) == (LETTER, True, ("$Later",))
    assert await lying(intake, account) == []
    assert (await notes(intake, answer, "filtered"))[0] == {
        "forward_path": ALICE,
        "actions": ["filed into 'Lists/News'"],
    }
    (stored,) = await notes(intake, answer, "stored")
    assert stored["uid"] == 1


async def test_unknown_mailbox(intake: Intake, account: Person, owner: Owner) -> None:
    """A mailbox that does not exist is the inbox, unless the rule wants it to be made: then it is there, and subscribed."""
    await rules(owner, account, 'if header "subject" "news" { fileinto :create "New/Ones"; } else { fileinto "Gone"; }')
    await deliver(intake)
    await deliver(intake, message=LETTER.replace(b"news", b"olds"))
    assert len(await lying(intake, account, "New/Ones")) == len(await lying(intake, account)) == 1
    assert await lying(intake, account, "Gone") == []
    async with intake.context.pool.acquire() as connection:
        assert "New/Ones" in await mailboxes.subscriptions(connection, account.account_id)


async def test_by_id_and_special_use(intake: Intake, account: Person, owner: Owner) -> None:
    """:mailboxid finds a mailbox that was renamed, :specialuse the one with that use, whatever it is called."""
    async with intake.context.pool.acquire() as connection:
        made = await mailboxes.create(connection, account.account_id, "Before")
        await mailboxes.rename(connection, account.account_id, "Before", "After")
    identity = mailbox_id(made.mailbox_id).decode()
    await rules(
        owner, account, f'fileinto :copy :mailboxid "{identity}" "Before"; fileinto :specialuse "\\\\Archive" "Old";'
    )
    await deliver(intake)
    assert len(await lying(intake, account, "After")) == len(await lying(intake, account, "Archive")) == 1
    assert await lying(intake, account) == []


async def test_one_copy_per_mailbox(intake: Intake, account: Person, owner: Owner) -> None:
    """The same message lies once in a mailbox, whatever rules say how often, with the flags of all."""
    await rules(owner, account, r'fileinto :flags "$A" "Gone"; fileinto :flags "$B" "Away"; keep :flags "\\Flagged";')
    await deliver(intake)
    (found,) = await lying(intake, account)
    assert (set(found.keywords), found.flags) == ({"$A", "$B"}, 4)


@pytest.mark.parametrize("message", [LETTER, ODD["spooled"]], ids=["small", "spooled"])
async def test_edited(intake: Intake, account: Person, bob: Person, owner: Owner, message: bytes) -> None:
    """What a rule edits is edited for its owner; others, and the archive, have the message as it came."""
    await rules(owner, account, 'addheader "X-Sorted" "yes"; deleteheader "Subject";')
    await deliver(intake, ALICE, BOB, message=message)
    (own,), (others,) = await lying(intake, account), await lying(intake, bob)
    assert headless(others.octets) == message
    assert own.octets.startswith(b"Return-Path: <carol@elsewhere.example>\r\nX-Sorted: yes\r\nReceived: ")
    assert own.octets.endswith(message.partition(b"\r\n\r\n")[2])
    assert b"\r\nSubject:" not in own.octets.partition(b"\r\n\r\n")[0]
    (row,) = await owner.fetch("SELECT content_id FROM journal")
    assert headless(await intake.context.blobs.message(row["content_id"])) == message


async def test_discarded(intake: Intake, account: Person, owner: Owner) -> None:
    """Discarded mail is in no mailbox, and in the archive all the same."""
    await rules(owner, account, "discard;")
    (answer,) = await deliver(intake)
    assert answer.startswith(b"250 2.0.0 accepted as ")
    assert await lying(intake, account) == []
    assert [entry["forward_paths"][0]["address"] for entry in await intake.journal()] == [ALICE]
    assert (await notes(intake, answer, "filtered"))[0]["actions"] == ["discarded"]


async def test_rules_see_the_envelope(intake: Intake, account: Person, owner: Owner) -> None:
    """Scripts know sender and recipient of the transaction, the peer, and the fields that filters added."""
    await rules(
        owner,
        account,
        """if allof (envelope "from" "carol@elsewhere.example", envelope "to" "alice+shop@example.test",
                     header "x-checked" "yes", environment "remote-ip" "192.0.2.1") { fileinto :create "Seen"; }""",
    )
    await deliver(intake, "alice+shop@example.test", verdicts=(PROVEN, AddField("X-Checked", "yes")))
    assert len(await lying(intake, account, "Seen")) == 1


def spam(score: float, **own: float) -> Finding:
    thresholds = Thresholds(tag=4.0, junk=5.0, reject=15.0)
    made = {name: SpamFinding(SpamVerdict(points, ()), thresholds) for name, points in {"all": score, **own}.items()}
    return Finding(
        SpamFindings(made["all"], tuple((int(name[1:]), each) for name, each in made.items() if name != "all"))
    )


async def test_spamtest_and_virustest(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Each account's script hears of its own score, and of what the scanner found."""
    source = """if spamtest :value "ge" :comparator "i;ascii-numeric" "6" { fileinto :create "Spam"; }
                elsif virustest :value "eq" :comparator "i;ascii-numeric" "1" { fileinto :create "Clean"; }"""
    for person in (account, bob):
        await rules(owner, person, source)
    found = spam(0.5, **{f"_{account.account_id}": 7.0})
    await deliver(intake, ALICE, BOB, verdicts=(PROVEN, found, Finding(Scanned(None))))
    assert len(await lying(intake, account, "Spam")) == len(await lying(intake, bob, "Clean")) == 1


@pytest.mark.parametrize("has_mailbox", [True, False])
async def test_junk(intake: Intake, account: Person, owner: Owner, has_mailbox: bool) -> None:
    r"""What filters call junk goes to the mailbox with the use \Junk, made when it is missing."""
    await owner.execute("UPDATE mailbox SET name = 'Spam' WHERE name = 'Junk'")
    if not has_mailbox:
        await owner.execute("DELETE FROM mailbox WHERE name = 'Spam'")
    await deliver(intake, verdicts=(PROVEN, Junk("looks bad")))
    assert len(await lying(intake, account, "Spam" if has_mailbox else "Junk")) == 1
    assert await lying(intake, account) == []
    use = await owner.fetchval("SELECT name FROM mailbox WHERE special_use = '\\Junk'")
    assert use == ("Spam" if has_mailbox else "Junk")


async def test_rules_overrule_junk(intake: Intake, account: Person, owner: Owner) -> None:
    """Where a rule of the recipient says what becomes of it, that counts."""
    await rules(owner, account, 'if header "subject" "news" { fileinto "Archive"; }')
    await deliver(intake, verdicts=(Junk("looks bad"),))
    await deliver(intake, verdicts=(Junk("looks bad"),), message=LETTER.replace(b"news", b"olds"))
    assert len(await lying(intake, account, "Archive")) == len(await lying(intake, account, "Junk")) == 1


async def test_verdicts_for_one_account(intake: Intake, account: Person, bob: Person) -> None:
    """Fields, junk and discarding that filters want for one account are not for the others; all have it in the archive."""
    verdicts: list[Verdict] = [
        AddField("X-Spam-Score", "9", account.account_id),
        AddField("X-Spam-Score", "1", bob.account_id),
        Junk("spam there", account_id=account.account_id),
    ]
    await deliver(intake, ALICE, BOB, verdicts=verdicts)
    (own,), (other,) = await lying(intake, account, "Junk"), await lying(intake, bob)
    assert b"\r\nX-Spam-Score: 9\r\n" in own.octets
    assert b"\r\nX-Spam-Score: 1\r\n" in other.octets
    assert headless(own.octets) == headless(other.octets) == LETTER
    assert len(await intake.journal()) == 1
    await deliver(intake, ALICE, BOB, verdicts=[Drop("unwanted", account_id=account.account_id)])
    assert (len(await lying(intake, account)), len(await lying(intake, bob))) == (0, 2)
    assert len((await intake.journal())[1]["forward_paths"]) == 2


async def quarantined(owner: Owner) -> list[asyncpg.Record]:
    return list(await owner.fetch("SELECT * FROM quarantine ORDER BY quarantine_id"))


def counted(outcome: str) -> float:
    """How often a message came to that in this process."""
    return REGISTRY.get_sample_value("postwerk_deliveries_total", {"outcome": outcome}) or 0.0


async def test_metrics(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """What became of messages is counted once for each account."""
    await rules(owner, account, "discard;")
    before = {outcome: counted(outcome) for outcome in ("stored", "dropped", "quarantined")}
    await deliver(intake, ALICE, BOB)
    await deliver(intake, BOB, verdicts=[Quarantine("odd")])
    assert {outcome: counted(outcome) - count for outcome, count in before.items()} == {
        "stored": 1,
        "dropped": 1,
        "quarantined": 1,
    }


async def test_quarantine(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """What filters want kept apart is in no mailbox but in the quarantine of whom it concerns, as it would have come."""
    await rules(owner, account, 'fileinto "Archive";')
    answers = await deliver(intake, ALICE, BOB, verdicts=[Quarantine("odd", account_id=account.account_id)])
    (row,) = await quarantined(owner)
    assert (row["account_id"], row["reason"], row["forward_path"]) == (account.account_id, "odd", ALICE)
    assert row["trace_id"].encode() == answers[0].split()[-1]
    assert (await lying(intake, account), await lying(intake, account, "Archive")) == ([], [])
    (others,) = await lying(intake, bob)
    assert await intake.context.blobs.message(row["content_id"]) == others.octets


async def test_quarantine_for_all(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Without accounts named it is for everybody, and the archive has it."""
    await deliver(intake, ALICE, BOB, verdicts=[Quarantine("odd")])
    assert {row["account_id"] for row in await quarantined(owner)} == {account.account_id, bob.account_id}
    assert (await lying(intake, account), await lying(intake, bob)) == ([], [])
    assert len(await intake.journal()) == 1


async def test_a_mistake_keeps_the_message(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """A script that fails leaves the message in the inbox as it came; its owner is told once, others never notice."""
    fault = 'addheader "X-Sorted" "yes"; fileinto "Archive"; redirect "${subject}";'
    await rules(owner, account, fault)
    (answer,) = await deliver(intake, ALICE, BOB)
    await deliver(intake, ALICE, BOB)
    assert await lying(intake, account, "Archive") == []
    inbox = [each.octets for each in await lying(intake, account)]
    told = [each for each in inbox if b"Auto-Submitted: auto-generated" in each]
    assert [headless(each) for each in inbox if each not in told] == [LETTER, LETTER]
    (notice,) = told
    assert b'"rules"' in notice or b"cnVsZXM" in notice
    assert len(await lying(intake, bob)) == 2
    (fact,) = await notes(intake, answer, "filtered")
    assert fact["error"].startswith("rules: line 2")


async def test_told_again_of_another_version(intake: Intake, account: Person, owner: Owner) -> None:
    """Who has changed the script is told of its mistakes again."""
    for name in ("first", "second"):
        await changed_rules(intake, owner, account, f'redirect "no address {name}${{x}}";')
        await deliver(intake)
        await deliver(intake)
    inbox = [each.octets for each in await lying(intake, account)]
    assert sum(b"Auto-Submitted: auto-generated" in each for each in inbox) == 2


async def test_duplicates(intake: Intake, account: Person, owner: Owner) -> None:
    """An id counts as seen once a message with it was delivered, not when a delivery failed."""
    await rules(owner, account, 'if duplicate { fileinto :create "Again"; }')
    await owner.execute("ALTER TABLE message ADD CONSTRAINT broken CHECK (false) NOT VALID")
    (answer,) = await deliver(intake)
    assert answer.startswith(b"451 ")
    await owner.execute("ALTER TABLE message DROP CONSTRAINT broken")
    await deliver(intake)
    await deliver(intake)
    assert (len(await lying(intake, account)), len(await lying(intake, account, "Again"))) == (1, 1)


class Watching(Judge):
    """A filter that remembers envelopes."""

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[Envelope] = []

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        self.envelopes.append(subject.envelope)
        return ()


async def test_envelope_names_accounts(intake: Intake, account: Person, bob: Person) -> None:
    """Content filters know which accounts get the message, each once, by the address that was given."""
    watching = Watching()
    client = await intake.greeted(**intake.limited(Pipeline(content=[watching])))
    paths = b"".join(b"RCPT TO:<%s@example.test>\r\n" % name for name in (b"alice+x", b"alice", b"bob"))
    await send(client, LETTER, b"MAIL FROM:<carol@elsewhere.example>\r\n" + paths)
    (envelope,) = watching.envelopes
    assert [(each.account_id, str(each.address)) for each in envelope.accounts] == [
        (account.account_id, "alice+x@example.test"),
        (bob.account_id, BOB),
    ]
    assert envelope.login == ""
