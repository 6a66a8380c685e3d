"""Sessions under strain: limits, time-outs, shutdown, failures behind them, and several of them at once."""

import asyncio
import imaplib
import shutil
import ssl
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec

from config.database import Database
from config.imap import Imap
from config.settings import Settings
from config.units import Octets, Seconds
from daemons.context import open_context
from storage.embedded import Cluster
from storage.migrate import migrate
from tests.conftest import PASSWORD, Person, add_person, new_state
from tests.daemons.imap.conftest import Service, mail, running
from tests.daemons.imap.conversation import Client


async def limited(
    settings: Settings, account: Person, client_tls: ssl.SSLContext, **limits: Any
) -> AsyncIterator[Service]:
    """A service with other limits."""
    changed = msgspec.structs.replace(settings, imap=Imap(**limits))
    async with open_context(changed) as context, running(context) as endpoints:
        yield Service(context, endpoints, account, client_tls)


async def test_silence_before_login_ends(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """Who does not log in in time is told BYE."""
    async for service in limited(settings, account, client_tls, login_timeout=Seconds(0.05)):
        async with await Client.connect(service.endpoints["imap"]) as client:
            assert (await client.line()).startswith(b"* BYE ")
            assert await client.line() == b""


async def test_silence_after_login_ends(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """An inactive session is told BYE, in IDLE too (RFC 3501 §5.4)."""
    async for service in limited(settings, account, client_tls, idle_timeout=Seconds(0.3)):
        async with await Client.connect(service.endpoints["imaps"], client_tls) as client:
            client.write(f'l LOGIN {account.login} "{PASSWORD}"\r\nt IDLE\r\n'.encode())  # no time between them
            assert (await client.until(b"l"))[-1].startswith(b"l OK ")
            assert (await client.line()).startswith(b"+ ")
            assert (await client.line()).startswith(b"* BYE ")


async def test_errors_are_counted(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """One BAD too many ends the session."""
    async for service in limited(settings, account, client_tls, error_limit=2):
        async with await service.client() as client:
            for _ in range(2):
                assert (await client.command(b"NONSENSE"))[-1].startswith(b"t BAD ")
            client.write(b"t NONSENSE\r\n")
            lines = [await client.line(), await client.line()]
            assert any(line.startswith(b"* BYE ") for line in lines)


async def test_failed_logins_are_counted(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """The last failed login ends the connection."""
    async for service in limited(settings, account, client_tls, login_failure_limit=1):
        async with await Client.connect(service.endpoints["imaps"], client_tls) as client:
            assert (await client.command(b"LOGIN alice@example.test wrong"))[-1].startswith(
                b"t NO [AUTHENTICATIONFAILED]"
            )
            assert (await client.line()).startswith(b"* BYE ")


async def test_a_login_counts_as_a_fetch(service: Service) -> None:
    """Whoever logs in over IMAP still fetches mail: the inactivity rules go by it."""
    asked = "SELECT last_fetch_at > now() - interval '1 minute' FROM account WHERE account_id = $1"
    assert await service.context.pool.fetchval(asked, service.person.account_id) is None
    async with await service.client():
        assert await service.context.pool.fetchval(asked, service.person.account_id) is True


async def test_sessions_of_an_account_are_limited(
    settings: Settings, account: Person, client_tls: ssl.SSLContext
) -> None:
    """A session too many is refused at login, and has its place as soon as another has ended."""
    async for service in limited(settings, account, client_tls, connections_per_account=1):
        async with (
            await service.client() as first,
            await Client.connect(service.endpoints["imaps"], client_tls) as second,
        ):
            login = f'LOGIN {account.login} "{PASSWORD}"'.encode()
            assert (await second.command(login))[-1].startswith(b"t NO [LIMIT] ")
            await first.command(b"LOGOUT")
            assert await first.line() == b""
            assert (await second.command(login))[-1].startswith(b"t OK ")


async def test_a_large_message_is_refused_before_it_comes(
    settings: Settings, account: Person, client_tls: ssl.SSLContext
) -> None:
    """APPEND above the limit is answered NO [TOOBIG], with and without a waiting client."""
    async for service in limited(settings, account, client_tls, append_limit=Octets(100)):
        async with await service.client() as client:
            assert (await client.command(b"APPEND INBOX {101}"))[-1].startswith(b"t NO [TOOBIG] ")
            assert (await client.command(b"APPEND INBOX {101+}\r\n" + b"x" * 101))[-1].startswith(b"t NO [TOOBIG] ")
            assert await client.ok(b"STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]


async def test_a_large_message_comes_back_whole(service: Service) -> None:
    """A message of several megabytes is appended through the spool and fetched in chunks, octet for octet."""
    whole = mail("large", "".join(f"{number:076d}\r\n" for number in range(40_000)))
    async with await service.client() as client:
        *_, tagged = await client.command(b"APPEND INBOX {%d+}\r\n%b" % (len(whole), whole))
        assert tagged.startswith(b"t OK [APPENDUID ")
        await client.ok(b"SELECT INBOX")
        (line,) = await client.ok(b"FETCH 1 (BODY.PEEK[] RFC822.SIZE)")
        assert line == b"* 1 FETCH (RFC822.SIZE %d BODY[] {%d}\r\n%b)" % (len(whole), len(whole), whole)
        (line,) = await client.ok(b"FETCH 1 BODY.PEEK[]<1500000.1100000>")
        assert line == b"* 1 FETCH (BODY[]<1500000> {1100000}\r\n%b)" % whole[1_500_000:2_600_000]
    assert list(service.context.settings.spool_directory.iterdir()) == []


async def test_an_append_over_quota_is_refused(service: Service, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """APPEND and COPY without room are answered NO [OVERQUOTA]."""
    await service.deliver(mail())
    await owner.execute("UPDATE account SET quota_octets = 300")
    async with await service.client() as client:
        assert (await client.command(b"APPEND INBOX {300}"))[-1].startswith(b"t NO [OVERQUOTA] ")
        await client.ok(b"SELECT INBOX")
        assert (await client.command(b"COPY 1 Trash"))[-1].startswith(b"t NO [OVERQUOTA] ")


async def test_shutdown_says_bye(service: Service) -> None:
    """A silent session is told BYE when the process ends."""
    async with open_context(service.context.settings) as context, running(context) as endpoints:
        client = await Client.connect(endpoints["imaps"], service.tls)
        await client.login(service.person.login)
        client.write(b"t IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
    assert (await client.line()).startswith(b"* BYE ")
    await client.close()


async def test_an_unexpected_failure_is_no_end(service: Service, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What the code did not expect is answered NO [SERVERBUG] with an id; the session goes on."""
    async with await service.client() as client:
        await owner.execute("ALTER TABLE mailbox RENAME COLUMN uidnext TO gone")
        assert (await client.command(b"SELECT INBOX"))[-1].startswith(b"t NO [SERVERBUG] internal error ")
        await owner.execute("ALTER TABLE mailbox RENAME COLUMN gone TO uidnext")
        await client.ok(b"SELECT INBOX")


async def test_a_database_that_goes_away_and_comes_back(settings: Settings, client_tls: ssl.SSLContext) -> None:
    """While the database is away commands are answered NO [UNAVAILABLE]; the session survives and then goes on."""
    directory = new_state()
    cluster = Cluster(directory, is_durable=False)
    cluster.prepare()
    process = cluster.spawn()
    try:
        await cluster.until_ready(process)
        dsn = cluster.dsn("postgres")
        await migrate(dsn)
        own = msgspec.structs.replace(settings, database=Database(dsn=dsn, owner_dsn=dsn, pool_size=2))
        connection = await asyncpg.connect(dsn)
        account = await add_person(own, connection, "alice@example.test")
        await connection.close()
        async with open_context(own) as context, running(context) as endpoints:
            service = Service(context, endpoints, account, client_tls)
            await service.deliver(mail())
            async with await service.client() as client:
                await client.ok(b"SELECT INBOX")
                cluster.stop(process)
                assert (await client.command(b"STORE 1 +FLAGS (\\Seen)"))[-1].startswith(b"t NO [UNAVAILABLE] ")
                assert await client.ok(b"FETCH 1 (UID FLAGS)") == [b"* 1 FETCH (UID 1 FLAGS (\\Recent))"]
                process = cluster.spawn()
                await cluster.until_ready(process)
                await client.ok(b"STORE 1 +FLAGS (\\Seen)")
    finally:
        cluster.stop(process)
        shutil.rmtree(directory, ignore_errors=True)


async def test_a_client_that_does_not_read_costs_little(service: Service) -> None:
    """Responses wait for the reader: the service does not gather megabytes for it."""
    body = "x" * 70 + "\r\n"
    await service.deliver(*[mail(f"m{number}", body * 3000) for number in range(40)])
    async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
        await client.login(service.person.login)
        await client.ok(b"SELECT INBOX")
        client.write(b"t FETCH 1:* BODY.PEEK[]\r\n")
        async with await service.client() as other:  # the loop is free for others meanwhile
            for _ in range(50):
                await other.ok(b"NOOP")
        lines = await client.until(b"t")
        assert len(lines) == 41
        assert all(len(line) > 200_000 for line in lines[:-1])


async def test_pipelined_commands_are_answered_in_order(service: Service) -> None:
    """Commands sent in one go are answered one after the other, also octet by octet."""
    await service.deliver(mail("one"), mail("two"))
    commands = b"a SELECT INBOX\r\nb FETCH 1:2 UID\r\nc NOOP\r\nd SEARCH ALL\r\ne CLOSE\r\n"
    answers = []
    async with await service.client() as client:
        for pieces in ([commands], [commands[at : at + 1] for at in range(len(commands))]):
            for piece in pieces:
                client.write(piece)
                await asyncio.sleep(0)
            answers.append([line for line in await client.until(b"e") if b"RECENT" not in line])
    assert answers[0] == answers[1]
    assert [line.split()[0] for line in answers[0] if not line.startswith(b"*")] == [b"a", b"b", b"c", b"d", b"e"]


async def test_three_sessions_agree(service: Service) -> None:
    """Three sessions that store, expunge and append at once end with the same list, told by their own responses alone."""
    await service.deliver(*[mail(f"m{number}") for number in range(30)])
    clients = [await service.client() for _ in range(3)]
    for client in clients:
        await client.ok(b"SELECT INBOX")
    counts = [30, 30, 30]

    async def work(index: int) -> None:
        client = clients[index]
        for step in range(12):
            victim = (index * 7 + step * 5) % 30 + 1
            commands = (
                b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % victim,
                b"UID EXPUNGE %d" % victim,
                b"APPEND INBOX {6+}\r\nA: b\r\n",
                b"NOOP",
            )
            for line in await client.ok(commands[(step + index) % 4]):
                word = line.split()[2:3]
                if word == [b"EXPUNGE"]:
                    assert 1 <= int(line.split()[1]) <= counts[index]
                    counts[index] -= 1
                elif word == [b"EXISTS"]:
                    counts[index] = int(line.split()[1])

    await asyncio.gather(*(work(index) for index in range(3)))
    lists = []
    for index, client in enumerate(clients):
        for line in await client.ok(b"NOOP"):
            if line.endswith(b" EXPUNGE"):
                counts[index] -= 1
            elif line.endswith(b" EXISTS"):
                counts[index] = int(line.split()[1])
        lists.append(await client.ok(b"UID SEARCH ALL"))
        await client.close()
    assert lists[0] == lists[1] == lists[2]
    assert counts == [len(lists[0][0].split()) - 2] * 3


async def test_changes_of_another_process_appear(service: Service) -> None:
    """What another process stores and flags is told at NOOP and in IDLE."""
    async with open_context(service.context.settings) as context, running(context) as endpoints:
        there = await Client.connect(endpoints["imaps"], service.tls)
        await there.login(service.person.login)
        async with await service.client() as here:
            await here.ok(b"SELECT INBOX")
            here.write(b"t IDLE\r\n")
            await here.line()
            await there.command(b"APPEND INBOX {6+}\r\nA: b\r\n")
            assert await here.line() == b"* 1 EXISTS"
            assert await here.line() == b"* 1 RECENT"
            await there.ok(b"SELECT INBOX")
            await there.ok(b"STORE 1 +FLAGS (\\Flagged)")
            assert await here.line() == b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Recent))"
            here.write(b"DONE\r\n")
            assert (await here.line()).startswith(b"t OK ")
        await there.close()


async def test_imaplib_can_work_with_it(service: Service) -> None:
    """The standard library's client lists, appends, searches, fetches, stores and expunges."""
    await asyncio.to_thread(_use_imaplib, service)


def _use_imaplib(service: Service) -> None:
    host, port = service.endpoints["imap"]
    with imaplib.IMAP4(host, port) as client:
        client.starttls(service.tls)
        client.login(service.person.login, PASSWORD)
        assert client.create("Work")[0] == "OK"
        assert client.append("Work", r"(\Seen)", imaplib.Time2Internaldate(1), mail("by imaplib"))[0] == "OK"
        assert client.select("Work") == ("OK", [b"1"])
        assert client.search(None, "SUBJECT", '"IMAPLIB"') == ("OK", [b"1"])
        status, parts = client.fetch("1", "(RFC822)")
        assert (status, parts[0][1]) == ("OK", mail("by imaplib"))  # type: ignore[index]
        assert client.store("1", "+FLAGS", r"\Deleted") == ("OK", [rb"1 (FLAGS (\Seen \Deleted \Recent))"])
        assert client.expunge() == ("OK", [b"1"])
        assert client.status("Work", "(MESSAGES)") == ("OK", [b"Work (MESSAGES 0)"])
