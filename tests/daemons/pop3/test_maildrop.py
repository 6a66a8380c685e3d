"""POP3 over TLS with a real database: what the maildrop holds, what is read, and when messages go away."""

import asyncio
import contextlib
import poplib

import asyncpg
import pytest

from config.settings import Settings
from daemons.certificates import Issued
from daemons.context import open_context
from storage import messages
from tests.conftest import Person, add_person
from tests.daemons.pop3.conftest import Stage, staged
from tests.hearing import until_heard

HELLO = b"Subject: hello\r\nFrom: bob@example.test\r\n\r\nLine one\r\n.\r\n..two dots\r\n.three\r\n"
NAKED = b"Subject: no line end at the end\r\n\r\nlast line"
BARE = b"Subject: bare\n\nbare\n.\nline ends\r\n\r.\r\n"
EMPTY_BODY = b"Subject: nothing\r\n\r\n"
OPENING = "SELECT * FROM open_maildrop($1, $2, $3)"


def mail(number: int, size_octets: int = 0) -> bytes:
    line = b"x" * 70 + b"\r\n"
    return b"Subject: %d\r\n\r\nbody %d\r\n" % (number, number) + line * (size_octets // len(line))


async def retrieve(stage: Stage, person: Person, number: int) -> tuple[int, bytes]:
    """The size that RETR announces, and the octets on the wire with the stuffing undone."""
    async with stage.client() as client:
        await client.login(person)
        client.say(f"RETR {number}")
        status = await client.line()
        assert status.startswith(b"+OK "), status
        lines = []
        while (line := await client.reader.readline()) != b".\r\n":
            lines.append(line.removeprefix(b"."))
        return int(status.split()[1]), b"".join(lines)


@pytest.mark.parametrize("original", [HELLO, EMPTY_BODY, b"\r\nno header\r\n", mail(1, 300_000), mail(2, 3_000_000)])
async def test_a_message_comes_back_to_the_octet(stage: Stage, account: Person, original: bytes) -> None:
    """RETR gives head and original as they were stored, dots and all, and announces exactly their size."""
    head = b"Return-Path: <>\r\nReceived: from test\r\n"
    await stage.deliver(account, original, head=head)
    assert await retrieve(stage, account, 1) == (len(head + original), head + original)


@pytest.mark.parametrize("original", [NAKED, BARE[:-2]])
async def test_a_message_without_last_line_end(stage: Stage, account: Person, original: bytes) -> None:
    """A message whose last line is not ended gets a CRLF on the wire, which the announced size does not count."""
    await stage.deliver(account, original)
    assert await retrieve(stage, account, 1) == (len(original), original + b"\r\n")


async def test_listing(stage: Stage, account: Person) -> None:
    """STAT, LIST and UIDL agree about number, size and identity of the messages."""
    await stage.deliver(account, HELLO, mail(2), mail(3))
    sizes = [len(HELLO), len(mail(2)), len(mail(3))]

    def work(client: poplib.POP3) -> None:
        assert client.stat() == (3, sum(sizes))
        assert client.list()[1] == [b"%d %d" % (number, size) for number, size in enumerate(sizes, 1)]
        assert client._shortcmd("LIST 2") == b"+OK 2 %d" % sizes[1]  # type: ignore[attr-defined]
        uidls = client.uidl()[1]
        assert [line.split()[0] for line in uidls] == [b"1", b"2", b"3"]
        assert client.uidl(3) == b"+OK " + uidls[2]
        assert len({line.split()[1] for line in uidls}) == 3

    await stage.poplib(account, work)


async def test_an_empty_maildrop(stage: Stage, account: Person) -> None:
    """An empty maildrop lists nothing, and every message number is unknown."""

    def work(client: poplib.POP3) -> None:
        assert client.stat() == (0, 0)
        assert client.list()[1] == client.uidl()[1] == []
        for command in (client.retr, client.dele, client.list, client.uidl):
            with pytest.raises(poplib.error_proto, match="no such message"):
                command(1)

    await stage.poplib(account, work)


async def test_top(stage: Stage, account: Person) -> None:
    """TOP gives the header and the first lines of the body, also of a message that is read in pieces."""
    await stage.deliver(account, HELLO, mail(2, 600_000))

    def work(client: poplib.POP3) -> None:
        assert client.top(1, 0)[1] == [b"Subject: hello", b"From: bob@example.test", b""]
        assert client.top(1, 2)[1][3:] == [b"Line one", b"."]
        assert client.top(1, 99)[1] == HELLO.split(b"\r\n")[:-1]
        assert client.top(2, 1)[1] == [b"Subject: 2", b"", b"body 2"]
        assert client.top(2, 5000)[1] == mail(2, 600_000).split(b"\r\n")[:5002]

    await stage.poplib(account, work)


async def test_deleting_at_quit(stage: Stage, account: Person) -> None:
    """DELE hides a message at once, RSET brings it back, and QUIT removes what is marked then."""
    await stage.deliver(account, mail(1), mail(2), mail(3))

    def work(client: poplib.POP3) -> None:
        client.dele(1)
        client.rset()
        client.dele(2)
        assert client.stat() == (2, len(mail(1)) + len(mail(3)))
        assert [line.split()[0] for line in client.list()[1]] == [b"1", b"3"]
        assert [line.split()[0] for line in client.uidl()[1]] == [b"1", b"3"]
        for command in (client.retr, client.dele, client.list, client.uidl):
            with pytest.raises(poplib.error_proto, match="no such message"):
                command(2)

    await stage.poplib(account, work)
    assert await stage.message_count(account) == 2
    assert await stage.poplib(account, lambda client: client.retr(2)[1]) == mail(3).split(b"\r\n")[:-1]


async def test_a_dropped_connection_deletes_nothing(stage: Stage, account: Person) -> None:
    """When the connection ends without QUIT, every message stays, and the maildrop is free again."""
    await stage.deliver(account, mail(1), mail(2))
    async with stage.client() as client:
        await client.login(account)
        assert await client.ask("DELE 1", "DELE 2") == [b"+OK message 1 deleted", b"+OK message 2 deleted"]
        client.writer.transport.abort()
    while stage.service.maildrops.held_count:
        await asyncio.sleep(0)
    assert await stage.poplib(account, lambda client: client.stat()) == (2, len(mail(1)) + len(mail(2)))


async def test_unique_ids_are_stable(stage: Stage, account: Person) -> None:
    """A message keeps its unique-id over sessions, deletions and new mail, and no unique-id comes twice."""
    await stage.deliver(account, mail(1), mail(2))
    before = await stage.poplib(account, lambda client: [line.split()[1] for line in client.uidl()[1]])
    await stage.poplib(account, lambda client: client.dele(1))
    await stage.deliver(account, mail(3))
    after = await stage.poplib(account, lambda client: [line.split()[1] for line in client.uidl()[1]])
    assert after[0] == before[1]
    assert after[1] not in before


async def test_one_session_at_a_time(stage: Stage, account: Person, settings: Settings, certificate: Issued) -> None:
    """While a session has the maildrop, another is told so, in the same process and in any other (RFC 1939 §4)."""
    await stage.deliver(account, mail(1))
    in_use = b"-ERR [IN-USE] another session has this maildrop"
    async with (
        open_context(settings) as other,
        staged(other, str(certificate.authority)) as process,
        stage.client() as first,
        stage.client() as second,
        process.client() as third,
    ):
        assert (await first.login(account))[1].startswith(b"+OK 1 messages")
        assert (await second.login(account))[1] == in_use
        assert (await third.login(account))[1] == in_use
        assert await first.ask("QUIT") == [b"+OK bye"]
        assert (await third.login(account))[1].startswith(b"+OK")
        assert (await second.login(account))[1] == in_use
        assert await third.ask("QUIT") == [b"+OK bye"]
        assert (await second.login(account))[1].startswith(b"+OK")


async def test_other_accounts_are_not_locked(
    stage: Stage, account: Person, settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A session holds its own maildrop only, and one connection of the pool carries all locks."""
    bob = await add_person(settings, owner, "bob@example.test")
    await stage.deliver(account, mail(1))
    await stage.deliver(bob, mail(2))
    async with stage.client() as first, stage.client() as second:
        assert (await first.login(account))[1].startswith(b"+OK 1 ")
        assert (await second.login(bob))[1].startswith(b"+OK 1 ")
        pool = stage.context.pool
        await stage.service.authenticator.ledger.settle()  # it writes down logins, on a connection of its own
        assert pool.get_size() - pool.get_idle_size() == 1
        await first.ask("QUIT")
        await second.ask("QUIT")
        assert pool.get_size() == pool.get_idle_size()


async def test_a_lost_lock_deletes_nothing(
    stage: Stage, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """When the database connection that holds the lock breaks, QUIT says so and removes nothing."""
    await stage.deliver(account, mail(1))
    async with stage.client() as client:
        await client.login(account)
        await client.ask("DELE 1")
        await owner.fetch("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        holder = stage.service.maildrops._holder
        assert holder is not None
        while not holder.is_lost:
            await asyncio.sleep(0)
        (reply,) = await client.ask("QUIT")
        assert reply.startswith(b"-ERR [SYS/TEMP] the deleted messages were not removed")
        assert await client.at_end()
    assert await stage.message_count(account) == 1
    assert await stage.poplib(account, lambda client: client.stat()[0]) == 1


async def test_a_refused_update_removes_nothing(
    stage: Stage, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """When the database cannot be written at QUIT, all messages stay: nothing is half done."""
    await stage.deliver(account, mail(1), mail(2))
    async with stage.client() as client:
        await client.login(account)
        await client.ask("DELE 1", "DELE 2")
        await stage.context.pool.execute("SELECT 1")
        await owner.execute(
            "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '53100'; END $$;"
            "CREATE TRIGGER away BEFORE DELETE ON message FOR EACH ROW WHEN (OLD.uid = 2) EXECUTE FUNCTION away()"
        )
        (reply,) = await client.ask("QUIT")
        assert reply.startswith(b"-ERR [SYS/TEMP]")
    assert await stage.message_count(account) == 2


async def test_a_message_removed_meanwhile(stage: Stage, account: Person) -> None:
    """What IMAP has expunged since the login keeps its number; deleting it again at QUIT is no error."""
    await stage.deliver(account, mail(1), mail(2))
    async with stage.client() as client:
        await client.login(account)
        async with stage.context.pool.acquire() as connection:
            mailbox_id = await connection.fetchval("SELECT DISTINCT mailbox_id FROM message")
            await messages.remove(connection, mailbox_id, [1])
        assert await client.ask("DELE 1", "DELE 2", "QUIT") == [
            b"+OK message 1 deleted",
            b"+OK message 2 deleted",
            b"+OK bye",
        ]
    assert await stage.message_count(account) == 0


async def test_mail_that_comes_during_the_session(stage: Stage, account: Person) -> None:
    """New mail is not seen before the next session, and is no part of what QUIT removes."""
    await stage.deliver(account, mail(1))
    async with stage.client() as client:
        await client.login(account)
        await stage.deliver(account, mail(2))
        assert (await client.ask("STAT"))[0] == b"+OK 1 %d" % len(mail(1))
        await client.ask("DELE 1", "QUIT")
    assert await stage.poplib(account, lambda client: client.retr(1)[1]) == mail(2).split(b"\r\n")[:-1]


async def test_an_unchanged_maildrop_is_not_listed_again(stage: Stage, account: Person) -> None:
    """A poll of an unchanged maildrop costs one query to open it and none for the listing; so does an empty one."""
    queries: list[str] = []

    @contextlib.asynccontextmanager
    async def watched():  # type: ignore[no-untyped-def]
        pool = stage.context.pool
        connections = [await pool.acquire() for _ in range(pool.get_size())]
        for connection in connections:
            connection.add_query_logger(lambda record: queries.append(record.query))
        for connection in connections:
            await pool.release(connection)
        yield

    await until_heard(stage.context)
    assert await stage.poplib(account, lambda client: client.stat()[0]) == 0
    async with watched():
        await stage.poplib(account, lambda client: client.stat())
    assert [query for query in queries if "maildrop" in query or "size_octets" in query] == [OPENING]


async def test_pipelined_download(stage: Stage, account: Person) -> None:
    """A client may ask for everything at once; the answers come in order and whole."""
    mails = [mail(number, number * 100) for number in range(1, 301)]
    await stage.deliver(account, *mails)
    async with stage.client() as client:
        await client.login(account)
        client.say(*(f"RETR {number}" for number in range(1, 301)), "QUIT")
        for original in mails:
            assert await client.line() == b"+OK %d octets" % len(original)
            assert await client.lines() == original.split(b"\r\n")[:-1]
        assert await client.line() == b"+OK bye"
        assert await client.at_end()
