"""Limits of a session that are told or felt: MESSAGELIMIT and SAVELIMIT (RFC 9738), INPROGRESS (RFC 9585), pace, pipelining."""

import asyncio
import functools
import ssl

from config.settings import Settings
from config.units import Seconds
from daemons.access.imap.commands import imap_session
from daemons.access.service import open_shared
from daemons.sockets import listening
from tests.conftest import Person
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves
from tests.daemons.imap.test_sessions import limited


@proves(b"MESSAGELIMIT=")
async def test_messagelimit(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """A command on too many messages does the newest and says how far down it came; COPY does nothing (RFC 9738 §3.1)."""
    async for service in limited(settings, account, client_tls, message_limit=3):
        await service.deliver(*[mail(f"m{number}") for number in range(6)])
        async with await service.client() as client:
            (line,) = await client.ok(b"CAPABILITY")
            assert b"MESSAGELIMIT=3" in line.split()
            assert b"SAVELIMIT" not in line
            await client.ok(b"SELECT INBOX")
            *lines, tagged = await client.command(b"FETCH 1:2,4:6 UID")
            assert lines == [b"* %d FETCH (UID %d)" % (uid, uid) for uid in (4, 5, 6)]
            assert tagged.startswith(b"t OK [MESSAGELIMIT 3 4] ")
            *lines, tagged = await client.command(b"UID STORE 1:6 +FLAGS (\\Deleted)")
            assert [line.split()[1] for line in lines] == [b"4", b"5", b"6"]
            assert tagged.startswith(b"t OK [MESSAGELIMIT 3 4] ")
            assert (await client.command(b"FETCH 1:3 UID"))[-1].startswith(b"t OK fetched")
            assert (await client.command(b"COPY 1:4 Trash"))[-1].startswith(b"t NO [MESSAGELIMIT 3] ")
            await client.ok(b"UID STORE 1:3 +FLAGS.SILENT (\\Deleted)")
            *lines, tagged = await client.command(b"UID EXPUNGE 1:*")
            assert lines == [b"* 6 EXPUNGE", b"* 5 EXPUNGE", b"* 4 EXPUNGE"]
            assert tagged.startswith(b"t OK [MESSAGELIMIT 3 4] ")
            await service.deliver(mail("m7"), mail("m8"))
            await client.ok(b"NOOP")
            *lines, tagged = await client.command(b"UID MOVE 1:* Trash")
            assert lines[0].startswith(b"* OK [COPYUID ")
            assert len(lines) == 4
            assert tagged.startswith(b"t OK [MESSAGELIMIT 3 3] ")
            assert (await client.command(b"UID FETCH 1:* UID (PARTIAL 1:4)"))[-1].startswith(b"t NO [MESSAGELIMIT 3] ")


async def test_a_search_of_many(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """SEARCH looks at the newest messages its sets allow; UIDBEFORE goes on from there, SORT does nothing (RFC 9738 §3.2)."""
    async for service in limited(settings, account, client_tls, message_limit=3):
        await service.deliver(*[mail(f"m{number}") for number in range(8)])
        async with await service.client() as client:
            await client.ok(b"SELECT INBOX")
            for keys, found, lowest in (
                (b"ALL", b" 6 7 8", 6),
                (b"UIDBEFORE 6 ALL", b" 3 4 5", 3),
                (b"UIDBEFORE 3", b" 1 2", None),
                (b"UIDBEFORE 1", b"", None),
                (b"UID 2:6 UIDAFTER 2", b" 4 5 6", 4),
                (b"UIDAFTER 5", b" 6 7 8", None),
                (b"UIDAFTER 8", b"", None),
                (b"1:3 UNSEEN", b" 1 2 3", None),
            ):
                *lines, tagged = await client.command(b"UID SEARCH " + keys)
                assert lines == [b"* SEARCH" + found], keys
                assert tagged.startswith(b"t OK [MESSAGELIMIT 3 %d] " % lowest if lowest else b"t OK searched"), keys
            assert (await client.command(b"SORT (SUBJECT) UTF-8 ALL"))[-1].startswith(b"t NO [MESSAGELIMIT 3] ")
            assert (await client.command(b"SORT (SUBJECT) UTF-8 1:3"))[-1].startswith(b"t OK ")
            await client.ok(b"UID SEARCH RETURN (SAVE) ALL")
            assert len(await client.ok(b"UID FETCH $ UID")) == 3


async def test_messagelimit_beside_another_code(
    settings: Settings, account: Person, client_tls: ssl.SSLContext
) -> None:
    """Where the tagged response has a code already, MESSAGELIMIT comes before it, untagged (RFC 9738 §3.1)."""
    async for service in limited(settings, account, client_tls, message_limit=2):
        await service.deliver(*[mail(f"m{number}") for number in range(3)])
        async with await service.client() as client:
            await client.ok(b"SELECT INBOX")
            *lines, tagged = await client.command(b"UID STORE 1:3 (UNCHANGEDSINCE 0) FLAGS.SILENT (\\Seen)")
            assert lines[-1].startswith(b"* NO [MESSAGELIMIT 2 2] ")
            assert tagged.startswith(b"t OK [MODIFIED 2:3] ")


async def test_savelimit(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """Where only COPY and APPEND are limited, SAVELIMIT is told instead, and nothing else is cut (RFC 9738 §3)."""
    async for service in limited(settings, account, client_tls, message_limit=0, save_limit=2):
        await service.deliver(*[mail(f"m{number}") for number in range(3)])
        async with await service.client() as client:
            (line,) = await client.ok(b"CAPABILITY")
            assert b"SAVELIMIT=2" in line.split()
            assert b"MESSAGELIMIT" not in line
            await client.ok(b"SELECT INBOX")
            assert len(await client.ok(b"FETCH 1:3 UID")) == 3
            assert (await client.command(b"UID COPY 1:3 Trash"))[-1].startswith(b"t NO [MESSAGELIMIT 2] ")
            assert (await client.command(b"UID COPY 2:3 Trash"))[-1].startswith(b"t OK [COPYUID ")


@proves(b"INPROGRESS")
async def test_inprogress(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """A command that has to wait says that it is at work; one that goes on message by message says how far it is (RFC 9585)."""
    async for service in limited(settings, account, client_tls, progress_interval=Seconds(0.02)):
        await service.deliver(mail("one"))
        async with await service.client() as client, service.context.pool.acquire() as connection:
            await client.ok(b"SELECT INBOX")
            async with connection.transaction():
                await connection.execute("SELECT FROM mailbox WHERE name = 'INBOX' FOR UPDATE")
                client.write(b"a1 STORE 1 +FLAGS (\\Seen)\r\n")
                assert (await client.line()).startswith(b'* OK [INPROGRESS ("a1" NIL NIL)] ')
                assert (await client.line()).startswith(b'* OK [INPROGRESS ("a1" NIL NIL)] ')
            assert (await client.until(b"a1"))[-1].startswith(b"a1 OK ")
    async for service in limited(settings, account, client_tls, progress_interval=Seconds(1e-9)):
        async with await service.client() as client:
            await client.ok(b"SELECT INBOX")
            fetched, told = await client.ok(b"FETCH 1 UID")
            assert fetched == b"* 1 FETCH (UID 1)"
            assert told.startswith(b'* OK [INPROGRESS ("t" 1 1)] ')


async def test_commands_read_ahead_are_limited(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """However many commands come at once, few are read ahead, and all are answered in order."""
    async for service in limited(settings, account, client_tls, pipeline_limit=2):
        async with await service.client() as client:
            client.write(b"".join(b"n%d NOOP\r\n" % number for number in range(50)))
            assert [(await client.line()).split()[0] for _ in range(50)] == [b"n%d" % number for number in range(50)]


async def test_commands_too_fast_wait(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """Beyond its burst a session gets so many commands a second and no more."""
    async for service in limited(settings, account, client_tls, command_rate=100, command_burst=5):
        async with await service.client() as client:
            clock = asyncio.get_running_loop().time
            began = clock()
            client.write(b"".join(b"n%d NOOP\r\n" % number for number in range(25)))
            await client.until(b"n24")
            assert clock() - began > 0.15


async def test_answers_to_a_pipeline_do_not_gather(service: Service) -> None:
    """Long answers to commands sent at once wait for the client to read: they do not gather in memory."""
    async with await service.client() as client:
        for number in range(60):
            await client.ok(b"CREATE %b%d" % (b"x" * 900, number))
    shared = await open_shared(service.context)
    handler = functools.partial(imap_session, shared)
    async with listening(["127.0.0.1:0"], handler, tls=service.context.tls) as listener:
        client = await Client.connect(listener.endpoints[0], service.tls)
        await client.login(service.person.login)
        (session,) = shared.sessions
        kept: list[int] = []
        put = session.put

        def noting(octets: bytes) -> None:
            put(octets)
            kept.append(session.unsent_octets)

        session.put = noting  # type: ignore[method-assign]
        client.write(b'l LIST "" *\r\n' * 400)
        for _ in range(400):
            assert (await client.until(b"l"))[-1].startswith(b"l OK ")
        await client.close()
    assert 60_000 < max(kept) < service.context.settings.imap.response_batch + 200_000
    shared.views.close()
