"""What people do in their mailboxes teaches the spam filter, durably, and only what they mean."""

import asyncio

import asyncpg
import pytest

from config.settings import Settings
from daemons.spam_lessons import Lessons, learning
from storage import spam, spam_lessons, spam_standing
from storage.spam import Whose
from storage.spam_standing import Standing
from tests.conftest import add_person
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client

SENDER = "alice@example.test"  # of the mails


async def learn(service: Service) -> int:
    """Learn from all that waits, as the keeper does."""
    async with service.context.pool.acquire() as connection:
        return await Lessons(service.context).learn_waiting(connection)


async def learned(service: Service) -> tuple[int, int]:
    """How much spam and other mail alice has taught."""
    me = Whose(service.person.tenant_id, service.person.account_id)
    corpora = await spam.corpora_of(service.context.pool, [me])
    return next(((each.spam, each.ham) for each in corpora if each.whose == me), (0, 0))


async def standing(service: Service) -> Standing:
    account_id = service.person.account_id
    return (await spam_standing.standings(service.context.pool, [account_id], SENDER)).get(account_id, Standing())


@pytest.mark.parametrize("asked", ["UID MOVE 1:2 Junk", "MOVE 1:2 Junk", "UID COPY 1:2 Junk", "COPY 1:2 Junk"])
async def test_mail_that_is_put_into_junk_is_spam(service: Service, asked: str) -> None:
    """Moved or copied, by UID or number: it teaches once, its sender is thrown into Junk, and nothing waits any more."""
    await service.deliver(mail("one"), mail("two"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(asked.encode())
        assert await spam_lessons.count_waiting(service.context.pool) == 2
    assert await learn(service) == 2
    assert await learned(service) == (2, 0)
    assert await standing(service) == Standing(junked=2)
    assert await learn(service) == 0


async def test_the_keeper_learns_at_once(service: Service, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """It hears of the move; nobody calls it. A second one waits its turn."""
    await service.deliver(mail("one"), mail("two"))
    learned_one = asyncio.Event()
    await owner.execute(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN PERFORM pg_notify('told', ''); RETURN NULL; END$$; "
        "CREATE TRIGGER tell AFTER DELETE ON spam_lesson FOR EACH ROW EXECUTE FUNCTION tell()"
    )
    await owner.add_listener("told", lambda *_: learned_one.set())
    async with learning(service.context), learning(service.context), await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for uid in (b"1", b"2"):
            await client.ok(b"UID MOVE %b Junk" % uid)
            async with asyncio.timeout(20):
                await learned_one.wait()
            learned_one.clear()
    await owner.remove_listener("told", lambda *_: None)
    assert await learned(service) == (2, 0)


async def test_mail_that_is_fetched_out_of_junk_is_wanted(service: Service) -> None:
    """What had been taught is turned round, and so is what is thought of the sender."""
    await service.deliver(mail("one"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"UID MOVE 1 Junk")
        await learn(service)
        await client.ok(b"SELECT Junk")
        await client.ok(b"UID MOVE 1 Archive")
    await learn(service)
    assert await learned(service) == (0, 1)
    assert await standing(service) == Standing(kept=1)


async def test_the_last_word_counts(service: Service) -> None:
    """What is moved there and back before anybody learned from it is wanted."""
    await service.deliver(mail("one"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"UID MOVE 1 Junk")
        await client.ok(b"SELECT Junk")
        await client.ok(b"UID MOVE 1 INBOX")
    assert await learn(service) == 2
    assert await learned(service) == (0, 1)


async def test_a_rescued_message_does_not_excuse_others(service: Service) -> None:
    """What was never learned as spam takes nothing back of what the sender did before."""
    await service.deliver(mail("one"), mail("two"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"UID MOVE 1 Junk")
        await client.ok(b"UID STORE 2 +FLAGS ($NotJunk)")
    await learn(service)
    assert await learned(service) == (1, 1)
    assert await standing(service) == Standing(kept=1, junked=1)


@pytest.mark.parametrize(("source", "target"), [("INBOX", "Archive"), ("INBOX", "Trash"), ("Junk", "Trash")])
async def test_other_moves_teach_nothing(service: Service, source: str, target: str) -> None:
    """Whoever tidies up, or empties Junk, says nothing about spam."""
    await service.deliver(mail("one"), mailbox=source)
    async with await service.client() as client:
        await client.ok(f"SELECT {source}".encode())
        await client.ok(f"UID MOVE 1 {target}".encode())
    assert await spam_lessons.count_waiting(service.context.pool) == 0


async def test_keywords_teach(service: Service) -> None:
    """$Junk and $NotJunk teach wherever the message lies; taking them away, other keywords, and both at once do not."""
    await service.deliver(mail("one"), mail("two"), mail("three"), mail("four"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"UID STORE 1 +FLAGS ($JUNK \\Seen)")
        await client.ok(b"UID STORE 2 FLAGS.SILENT ($NotJunk)")
        await client.ok(b"UID STORE 3 +FLAGS (NonJunk \\Flagged)")
        await client.ok(b"UID STORE 4 +FLAGS ($Junk $NotJunk)")
        await client.ok(b"UID STORE 2 -FLAGS ($NotJunk)")
    assert await learn(service) == 2
    assert await learned(service) == (1, 1)


async def test_a_message_that_is_gone_teaches_nothing(
    service: Service, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Whoever empties Junk at once leaves a lesson that nobody can learn, and the next ones are learned all the same."""
    await service.deliver(mail("one"), mail("two"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"UID MOVE 1:2 Junk")
    await owner.execute("DELETE FROM message WHERE uid = 1")
    await owner.execute("DELETE FROM content WHERE content_id NOT IN (SELECT content_id FROM message)")
    assert await learn(service) == 2
    assert await learned(service) == (1, 0)


async def test_learning_that_is_cut_off(service: Service, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What was half learned is not learned at all; the lesson waits on, and teaches once."""
    await service.deliver(mail("one"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"UID MOVE 1 Junk")
    await owner.execute(
        "CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'cut off'; END$$; "
        "CREATE TRIGGER cut_off BEFORE DELETE ON spam_lesson FOR EACH ROW EXECUTE FUNCTION cut_off()"
    )
    with pytest.raises(asyncpg.RaiseError):
        await learn(service)
    assert (await learned(service), await standing(service)) == ((0, 0), Standing())
    await owner.execute("DROP TRIGGER cut_off ON spam_lesson")
    assert await learn(service) == 1
    assert (await learned(service), await standing(service)) == ((1, 0), Standing(junked=1))


async def test_others_teach_the_owner(
    service: Service, settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Whoever may move mail in a shared mailbox says what is spam for whom it came to."""
    bob = await add_person(settings, owner, "bob@example.test")
    await service.deliver(mail("one"))
    async with await service.client() as client:
        for mailbox in (b"INBOX", b"Junk"):
            await client.ok(b"SETACL %b bob@example.test lrswite" % mailbox)
    async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
        await client.login(bob.login)
        await client.ok(b'SELECT "Other Users/alice@example.test/INBOX"')
        await client.ok(b'UID MOVE 1 "Other Users/alice@example.test/Junk"')
    await learn(service)
    assert await learned(service) == (1, 0)
    assert await spam_standing.standings(service.context.pool, [bob.account_id], SENDER) == {}


async def test_an_undone_move_teaches_nothing(service: Service) -> None:
    """By sequence number one that is gone undoes the move, and the lesson with it."""
    await service.deliver(mail("one"), mail("two"))
    async with await service.client() as client, await service.client() as other:
        await client.ok(b"SELECT INBOX")
        await other.ok(b"SELECT INBOX")
        async with service.context.pool.acquire() as connection:
            mailbox_id = await service.mailbox_id("INBOX")
            await connection.execute("SELECT remove_messages($1, '{1}', '{1}', false)", mailbox_id)
        assert b"EXPUNGEISSUED" in b"".join(await client.command(b"MOVE 1:2 Junk"))
    assert await spam_lessons.count_waiting(service.context.pool) == 0


async def test_what_people_keep_speaks_for_its_sender(
    service: Service, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Some days after it came: read, and neither thrown away nor in Junk. It is counted once."""
    await service.deliver(mail("read"), flags="\\Seen")
    await service.deliver(mail("unread"))
    await service.deliver(mail("deleted"), flags="\\Seen \\Deleted")
    for mailbox in ("Junk", "Trash", "Sent"):
        await service.deliver(mail(mailbox), mailbox=mailbox, flags="\\Seen")
    lessons = Lessons(service.context)
    async with service.context.pool.acquire() as connection:
        assert await lessons.count_kept(connection) == 0  # it is too early
        await owner.execute("UPDATE content SET created_at = now() - interval '4 days'")
        assert await lessons.count_kept(connection) == 6
        assert await lessons.count_kept(connection) == 0
    assert await standing(service) == Standing(kept=1)


async def test_senders_are_forgotten(service: Service, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """When nothing came for so long."""
    account_id = service.person.account_id
    async with service.context.pool.acquire() as connection:
        await spam_standing.count(connection, [(account_id, SENDER, Standing(answered=1))])
        assert await spam_standing.forget(connection, 10, older_than_seconds=86400) == 0
        await owner.execute("UPDATE spam_standing SET changed_on = current_date - 10")
        assert await spam_standing.forget(connection, 10, older_than_seconds=86400) == 1
    assert await standing(service) == Standing()
