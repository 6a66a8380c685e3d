"""The filter `spam` over SMTP and LMTP, on the real storage: what each recipient gets, and what the sender is told."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import msgspec
import pytest

from config.settings import Settings
from config.spam import Spam as Limits
from config.transport import Transport
from config.units import Seconds
from daemons import rules
from daemons.context import Context
from daemons.filtering import build_pipeline
from daemons.spam import AccountMemory, Correspondents, thresholds_of
from filters.simple.settings import Settings as Simple
from filters.simple.settings import SpamAction
from filters.spam.bayes import LEAST_LEARNED
from filters.spam.judging import Known
from filters.spam.score import Thresholds
from filters.spam.sight import Sight, Standing
from filters.spam.tokens import TOKENS_VERSION, tokens_of
from filters.subject import Account
from protocol.address import AddrSpec
from storage import mailboxes, messages, spam, spam_standing, spam_thresholds
from storage.spam import Level, Whose
from storage.spam_thresholds import NEVER
from storage.spam_thresholds import Limits as OwnLimits
from tests.conftest import Person, add_person
from tests.daemons.smtp.conftest import MESSAGE, Intake
from tests.daemons.smtp.memory import MemoryClient
from tests.daemons.smtp.test_acceptance import send, stuffed
from tests.daemons.smtp.test_traces import traced
from tests.filters.spam.letters import letter
from tests.internet.dns import NameServer, name_server

GTUBE = MESSAGE + b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
REFUSED = b"550 5.7.1 message refused: it is spam, or looks very much like it\r\n"
BOTH = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\n"
STRICT = OwnLimits(tag=0.01, junk=0.01, reject=0.01)
DOUBTFUL = letter("Hello.\n", From="winner@client.example", To=None)


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    """client.example is where 192.0.2.1 may send from."""
    async with name_server() as server:
        server.add("client.example", "TXT", '"v=spf1 ip4:192.0.2.1 -all"')
        yield server


def scoring(intake: Intake, *filters: str, resolvers: tuple[str, ...] = (), **limits: Any) -> dict[str, Any]:
    """What sessions need to score mail."""
    settings = intake.context.settings
    smtp = msgspec.structs.replace(settings.smtp, filters=[*filters, "spam"])
    transport = Transport(resolvers=list(resolvers), resolver_timeout=Seconds(10)) if resolvers else settings.transport
    changed = msgspec.structs.replace(settings, smtp=smtp, spam=Limits(**limits), transport=transport)
    context = replace(intake.context, settings=changed)
    return intake.limited(build_pipeline(context, smtp.filters))


async def within(intake: Intake, person: Person, mailbox: str) -> list[bytes]:
    """The messages in one of the person's mailboxes."""
    async with intake.context.pool.acquire() as connection:
        found = await mailboxes.find(connection, person.account_id, mailbox)
        assert found is not None
        _, rows = await messages.snapshot(connection, found.mailbox_id)
    return [await intake.context.blobs.message(row.content_id) for row in rows]


async def limit(owner: "asyncpg.Connection[asyncpg.Record]", person: Person, limits: OwnLimits) -> None:
    await spam_thresholds.set_own(owner, Whose(person.tenant_id, person.account_id), limits)


async def lmtp(client: MemoryClient, message: bytes) -> bytes:
    """Both replies to it."""
    client.say(BOTH + b"DATA\r\n")
    await client.hear(4)
    client.say(stuffed(message))
    return await client.hear(2)


async def test_accepted_mail_tells_its_score(intake: Intake, account: Person) -> None:
    """With its reasons, on top; and in the trace."""
    client = await intake.greeted(**scoring(intake))
    answer = await send(client, DOUBTFUL)
    assert answer.startswith(b"250 ")
    (stored,) = await intake.inbox(account)
    head, _, _ = stored.partition(b"From: ")
    assert b"\r\nX-Spam-Status: No, score=" in head
    assert b"\r\nX-Spam-Reasons: " in head
    assert stored.endswith(DOUBTFUL)
    facts = {note.kind: note.facts for note in (await traced(intake.context, answer.split()[-1].decode())).notes}
    (said,) = [each for each in facts["checked"]["verdicts"] if each.startswith("spam: ")]
    assert f"spam: +{facts['checked']['score']:g} (" in said
    assert "it names no recipient" in said


async def test_gtube_is_refused(intake: Intake, account: Person) -> None:
    """In the transaction, with the reason; nothing is stored."""
    client = await intake.greeted(**scoring(intake))
    assert await send(client, GTUBE) == REFUSED
    assert await intake.inbox(account) == []
    assert await intake.journal() == []
    assert (await send(client, MESSAGE)).startswith(b"250 ")


async def test_gtube_over_lmtp(intake: Intake, account: Person, bob: Person) -> None:
    """Each recipient's reply."""
    client = await intake.greeted(is_lmtp=True, **scoring(intake))
    assert await lmtp(client, GTUBE) == REFUSED * 2


async def test_each_recipient_by_its_own_thresholds(
    intake: Intake, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """One reply is for both: for who would refuse it, it goes into Junk; each copy has its recipient's fields."""
    await limit(owner, account, STRICT)
    client = await intake.greeted(**scoring(intake))
    assert (await send(client, DOUBTFUL, BOTH)).startswith(b"250 ")
    (junked,) = await within(intake, account, "Junk")
    (stored,) = await intake.inbox(bob)
    assert await intake.inbox(account) == []
    assert b"\r\nX-Spam-Status: Yes, " in junked
    assert b"\r\nX-Spam-Status: No, " in stored


async def test_each_recipient_of_lmtp_has_its_own_reply(
    intake: Intake, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Who refuses it gets nothing, the other one gets it."""
    await limit(owner, account, STRICT)
    client = await intake.greeted(is_lmtp=True, **scoring(intake))
    answers = await lmtp(client, DOUBTFUL)
    assert answers.startswith(REFUSED + b"250 ")
    assert (await intake.inbox(account), len(await intake.inbox(bob))) == ([], 1)


async def test_a_lone_recipient_refuses_in_the_transaction(
    intake: Intake, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Its thresholds are what the sender hears of."""
    await limit(owner, account, STRICT)
    client = await intake.greeted(**scoring(intake))
    assert await send(client, DOUBTFUL) == REFUSED


@pytest.mark.parametrize(("filing", "mailbox"), [("wanted", "INBOX"), ("always", "Junk")])
async def test_spam_that_is_not_refused(intake: Intake, account: Person, filing: str, mailbox: str) -> None:
    """It goes into Junk where the operator says so for all; otherwise each account decides."""
    client = await intake.greeted(**scoring(intake, tag=0.01, junk=0.01, filing=filing))
    assert (await send(client, DOUBTFUL)).startswith(b"250 ")
    assert len(await within(intake, account, mailbox)) == 1


@pytest.mark.parametrize(("action", "inbox", "junk"), [("none", 1, 0), ("junk", 0, 1), ("delete", 0, 0)])
async def test_what_an_account_wants_of_spam(
    intake: Intake, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]",
    action: SpamAction, inbox: int, junk: int,
) -> None:  # fmt: skip
    """From its own threshold on, and nobody else's: what others get stays in their inboxes."""
    for person in (account, bob):
        await rules.change(owner, intake.context.settings, person.account_id, lambda _: Simple(spam=action))
    await limit(owner, account, OwnLimits(tag=0.01, junk=0.01))
    client = await intake.greeted(**scoring(intake))
    assert (await send(client, DOUBTFUL, BOTH)).startswith(b"250 ")
    assert (len(await intake.inbox(account)), len(await within(intake, account, "Junk"))) == (inbox, junk)
    assert len(await intake.inbox(bob)) == 1
    assert len(await intake.journal()) == 1


async def test_what_an_account_has_sorted_counts_for_it(intake: Intake, account: Person, bob: Person) -> None:
    """The next such message has another score in its copy than in those of others."""
    pool = intake.context.pool
    async with pool.acquire() as connection:
        whose = Whose(account.tenant_id, account.account_id)
        for number in range(LEAST_LEARNED):
            for is_spam, text in ((True, "cheap pills"), (False, "minutes of the meeting")):
                octets = letter(f"{text} {number}\n", Message_ID=f"<{number}@example.org>")
                await spam.learn(
                    connection, whose, octets[:32] + bytes([number, is_spam]), list(tokens_of(Sight(octets))),
                    is_spam=is_spam, version=TOKENS_VERSION, widest=Level.ACCOUNT,
                )  # fmt: skip
    client = await intake.greeted(**scoring(intake))
    assert (await send(client, letter("cheap pills, again cheap pills\n"), BOTH)).startswith(b"250 ")
    (hers,), (his,) = await intake.inbox(account), await intake.inbox(bob)
    assert b"bayes_spam" in hers
    assert b"bayes" not in his


async def test_who_was_written_to_is_welcome(intake: Intake, account: Person, bob: Person, names: NameServer) -> None:
    """With the one who wrote, and when SPF proves the name; what users write is noted soon after."""
    correspondents = Correspondents(intake.context.pool)
    correspondents.note(account.login, [AddrSpec("Winner", "client.example")])
    correspondents.note("nobody@example.test", [AddrSpec("winner", "client.example")])
    await correspondents.close()
    client = await intake.greeted(**scoring(intake, "authentication", resolvers=(names.address,)))
    assert (await send(client, DOUBTFUL, BOTH)).startswith(b"250 ")
    (hers,), (his,) = await intake.inbox(account), await intake.inbox(bob)
    assert b"sender_answered" in hers
    assert b"sender_answered" not in his


async def test_who_writes_to_many_knows_them_less(context: Context, account: Person) -> None:
    """A circular is no correspondence, and while the database is away what was noted stays noted."""
    correspondents = Correspondents(context.pool)
    correspondents.note(account.login, [AddrSpec(f"a{number}", "example.org") for number in range(51)])
    correspondents.note(account.login, [AddrSpec("b", "example.org")])
    await correspondents.flush()
    await correspondents.close()
    known = [
        await spam_standing.standings(context.pool, [account.account_id], f"{name}@example.org") for name in ("a1", "b")
    ]
    assert known == [{}, {account.account_id: spam_standing.Standing(answered=1)}]


async def test_what_is_known_of_each_recipient(
    context: Context, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Thresholds of account and tenant over the configuration's, standing, and nothing for those who have nothing."""
    await spam_thresholds.set_own(owner, Whose(account.tenant_id), OwnLimits(junk=4.0))
    await limit(owner, account, OwnLimits(reject=NEVER))
    await spam_standing.count(context.pool, [(bob.account_id, "a@example.org", spam_standing.Standing(kept=2))])
    accounts = [Account(each.tenant_id, each.account_id, AddrSpec("x", "example.test")) for each in (account, bob)]
    knowledge = await AccountMemory(context.pool, Limits()).recall(accounts, "a@example.org", [1, 2, 3])
    assert knowledge.common == Known(Thresholds(), [])
    assert knowledge.accounts == {
        account.account_id: Known(Thresholds(3.5, 4.0, NEVER), []),
        bob.account_id: Known(Thresholds(3.5, 4.0, 15.0), [], Standing(kept=2)),
    }


async def test_mail_to_many_who_have_taught(
    context: Context, account: Person, owner: "asyncpg.Connection[asyncpg.Record]", settings: Settings
) -> None:
    """To more than a few at once, mail is judged by what their tenant was taught: it must not take its time from others."""
    people = [account, *[await add_person(settings, owner, f"user{number}@example.test") for number in range(20)]]
    taught = [Whose(account.tenant_id), *[Whose(each.tenant_id, each.account_id) for each in people]]
    for whose in taught:
        for is_spam in (True, False):
            digest = bytes([is_spam])
            await spam.learn(owner, whose, digest, [7], is_spam=is_spam, version=1, widest=whose.level)
    memory = AccountMemory(context.pool, Limits(least_learned=1))
    accounts = [Account(each.tenant_id, each.account_id, AddrSpec("x", "example.test")) for each in people]
    few, many = await memory.recall(accounts[:20], "", [7]), await memory.recall(accounts, "", [7])
    assert {len(known.levels) for known in few.accounts.values()} == {2}
    assert {len(known.levels) for known in many.accounts.values()} == {1}


@pytest.mark.parametrize(
    ("own", "holds"),
    [
        (OwnLimits(), Thresholds(3.5, 5.0, 15.0)),
        (OwnLimits(junk=2.0), Thresholds(2.0, 2.0, 15.0)),
        (OwnLimits(junk=20.0), Thresholds(3.5, 20.0, 20.0)),
        (OwnLimits(tag=7.0), Thresholds(7.0, 7.0, 15.0)),
        (OwnLimits(reject=4.0), Thresholds(3.5, 4.0, 4.0)),
        (OwnLimits(reject=1.0), Thresholds(1.0, 1.0, 1.0)),
    ],
)
def test_what_is_inherited_gives_way(own: OwnLimits, holds: Thresholds) -> None:
    """Thresholds ascend whatever is set."""
    assert thresholds_of(Limits(), own) == holds
