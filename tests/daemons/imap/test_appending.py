"""APPEND and REPLACE beyond RFC 3501: several messages, parts by URL, binary and UTF-8, all of it or nothing."""

import ssl

import asyncpg
import pytest

from config.settings import Settings
from config.units import Octets
from tests.conftest import Person, add_person
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves
from tests.daemons.imap.test_sessions import limited

ONE, TWO, THREE = mail("one"), mail("two"), mail("three")


def literal(octets: bytes) -> bytes:
    """A literal that does not wait."""
    return b"{%d+}\r\n%b" % (len(octets), octets)


async def _body(client: Client, uid: int, item: bytes = b"BODY.PEEK[]") -> bytes:
    (line,) = await client.ok(b"UID FETCH %d %b" % (uid, item))
    return line.partition(b"}\r\n")[2].removesuffix(b")")


async def _count(client: Client, mailbox: bytes = b"INBOX") -> int:
    (line,) = await client.ok(b"STATUS %b (MESSAGES)" % mailbox)
    return int(line.removesuffix(b")").rsplit(b" ", 1)[1])


@proves(b"MULTIAPPEND")
async def test_multiappend(service: Service) -> None:
    """One APPEND stores several messages with their own flags and dates, and answers with the set of their UIDs (RFC 3502)."""
    async with await service.client() as client:
        words = (
            literal(ONE),
            rb' (\Seen) "17-Jul-1996 02:44:25 -0700" ' + literal(TWO),
            rb" ($Forwarded) " + literal(THREE),
        )
        *_, tagged = await client.command(b"APPEND INBOX " + b"".join(words))
        assert tagged.startswith(b"t OK [APPENDUID ")
        assert tagged.split()[4] == b"1:3]"
        await client.ok(b"SELECT INBOX")
        lines = await client.ok(b"FETCH 1:3 (FLAGS INTERNALDATE)")
        assert [rb"\Seen" in line for line in lines] == [False, True, False]
        assert b'"17-Jul-1996 09:44:25 +0000"' in lines[1]
        assert b"$Forwarded" in lines[2]
        assert [await _body(client, uid) for uid in (1, 2, 3)] == [ONE, TWO, THREE]


async def test_multiappend_waits_for_each_message(service: Service) -> None:
    """Each synchronising literal is asked for on its own, and the command ends behind the last."""
    async with await service.client() as client:
        client.write(b"t APPEND INBOX {%d}\r\n" % len(ONE))
        assert (await client.line()).startswith(b"+ ")
        client.write(ONE + b" {%d}\r\n" % len(TWO))
        assert (await client.line()).startswith(b"+ ")
        client.write(TWO + b"\r\n")
        assert (await client.line()).startswith(b"t OK [APPENDUID ")


@pytest.mark.parametrize(
    ("second", "answer"),
    [
        (b" {0+}\r\n", b"t NO [CANNOT] "),
        (b" (\\Seen", b"t BAD "),
        (b" (\\Nonsense) {1+}\r\nx", b"t BAD "),
        (b" {99999999999}", b"t NO [TOOBIG] "),
        (b" CATENATE (URL /INBOX/;UID=77)", b"t NO [BADURL /INBOX/;UID=77] "),
        (b" ~{3+}\r\n\0\0\0", b"t NO [UNKNOWN-CTE] "),
        (b" UTF8 (~{3+}\r\nA:b)", b"t BAD "),
    ],
)
async def test_multiappend_stores_all_or_nothing(service: Service, second: bytes, answer: bytes) -> None:
    """Whatever is wrong with one message, none of the command is stored, and the session goes on (RFC 3502 §6.3.11)."""
    async with await service.client() as client:
        *_, tagged = await client.command(b"APPEND INBOX " + literal(ONE) + second)
        assert tagged.startswith(answer), tagged
        assert await _count(client) == 0
        *_, tagged = await client.command(b"APPEND INBOX " + literal(ONE))
        assert tagged.startswith(b"t OK [APPENDUID ")


async def test_a_refusal_passes_over_the_rest(service: Service) -> None:
    """Messages that come behind a refused one are swallowed, and none of their octets is a command."""
    hidden = b"x LOGOUT\r\n"
    async with await service.client() as client:
        words = literal(ONE) + b" CATENATE (URL /none TEXT " + literal(hidden) + b") " + literal(hidden)
        *_, tagged = await client.command(b"APPEND INBOX " + words)
        assert tagged.startswith(b"t NO [BADURL /none] ")
        *_, tagged = await client.command(b"APPEND Nowhere " + literal(hidden) + b" " + literal(hidden))
        assert tagged.startswith(b"t NO [TRYCREATE] ")
        assert await _count(client) == 0


@pytest.mark.parametrize(
    "limits", [{"append_messages": 2}, {"append_total": 900}, {"save_limit": 2, "message_limit": 0}]
)
async def test_limits_of_one_command(
    settings: Settings, account: Person, client_tls: ssl.SSLContext, limits: dict[str, int]
) -> None:
    """Too many messages, or too many octets, in one command are refused, and none is stored."""
    async for service in limited(settings, account, client_tls, **limits):
        async with await service.client() as client:
            *_, tagged = await client.command(b"APPEND INBOX " + b" ".join(map(literal, (ONE * 2, TWO * 2, THREE * 2))))
            assert tagged.startswith((b"t NO [LIMIT] ", b"t NO [TOOBIG] ", b"t NO [MESSAGELIMIT 2] ")), tagged
            assert await _count(client) == 0


@proves(b"CATENATE")
async def test_catenate(service: Service) -> None:
    """A message is made of texts and of parts of others, which URLs name absolutely or from the selected mailbox (RFC 4469)."""
    boundary = b"--b\r\n"
    parted = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + boundary
        + b"\r\nfirst\r\n"
        + boundary
        + b"\r\nsecond\r\n--b--\r\n"
    )
    async with await service.client() as client:
        (line,) = await client.ok(b"STATUS Drafts (UIDVALIDITY)")
        uidvalidity = line.removesuffix(b")").rsplit(b" ", 1)[1]
        await client.command(b"APPEND Drafts " + literal(parted))
        await client.ok(b"SELECT Drafts")
        parts = b" ".join(
            (
                b'URL "/Drafts;UIDVALIDITY=%b/;UID=1/;SECTION=HEADER"' % uidvalidity,
                b"TEXT " + literal(b"--b\r\n\r\nnew\r\n--b\r\n\r\n"),
                b"URL ;UID=1/;SECTION=2",
                b"URL " + literal(b"imap://mail.example.test/Drafts/;UID=1/;SECTION=1/;PARTIAL=1.3"),
                b"TEXT " + literal(b"\r\n--b--\r\n"),
            )
        )
        *_, tagged = await client.command(rb"APPEND INBOX (\Draft) CATENATE (" + parts + b")")
        assert tagged.startswith(b"t OK [APPENDUID "), tagged
        await client.ok(b"SELECT INBOX")
        expected = parted.partition(b"\r\n\r\n")[0] + b"\r\n\r\n--b\r\n\r\nnew\r\n--b\r\n\r\nsecondirs\r\n--b--\r\n"
        assert await _body(client, 1) == expected
        assert await _body(client, 1, b"BODY.PEEK[2]") == b"secondirs"


@pytest.mark.parametrize(
    "url",
    [
        *(b"/INBOX/;UID=2", b"/Nowhere/;UID=1", b"/INBOX;UIDVALIDITY=4000000000/;UID=1", b"/INBOX/;UID=1/;SECTION=9", b";UID=1"),
        *(b"imap://elsewhere.example/INBOX/;UID=1", b"imap://bob@mail.example.test/INBOX/;UID=1", b"nonsense"),
    ],
)  # fmt: skip
async def test_catenate_refuses_urls(service: Service, url: bytes) -> None:
    """What cannot be read is told as BADURL, with the URL (RFC 4469 §4)."""
    await service.deliver(ONE)
    async with await service.client() as client:
        *_, tagged = await client.command(b"APPEND INBOX CATENATE (URL " + literal(url) + b")")
        assert tagged.startswith(b"t NO [BADURL " + url + b"] "), tagged
        assert await _count(client) == 1


async def test_catenate_has_the_limit_of_a_message(
    settings: Settings, account: Person, client_tls: ssl.SSLContext
) -> None:
    """Parts that are too large together are TOOBIG (RFC 4469 §4), whether they are texts or come by URL."""
    async for service in limited(settings, account, client_tls, append_limit=Octets(1000)):
        await service.deliver(mail("large", "x" * 600))
        text, url = b"TEXT " + literal(b"x" * 600), b"URL /INBOX/;UID=1"
        async with await service.client() as client:
            for parts in (text + b" " + text, url + b" " + url):
                *_, tagged = await client.command(b"APPEND INBOX CATENATE (" + parts + b")")
                assert tagged.startswith(b"t NO [TOOBIG] "), tagged
            assert await _count(client) == 1


@proves(b"URL-PARTIAL")
async def test_url_partial(service: Service) -> None:
    """;PARTIAL= takes octets of a message or of a section, with a length or to the end (RFC 5550)."""
    await service.deliver(ONE)
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        whole = await _body(client, 1)
        parts = b"URL /INBOX/;UID=1/;PARTIAL=0.5 URL /INBOX/;UID=1/;PARTIAL=100 URL /INBOX/;UID=1/;SECTION=TEXT/;PARTIAL=4.4"
        *_, tagged = await client.command(b"APPEND INBOX CATENATE (" + parts + b")")
        assert tagged.startswith(b"t OK ")
        assert await _body(client, 2) == whole[:5] + whole[100:] + b"body"


@proves(b"BINARY")
async def test_binary(service: Service) -> None:
    """A literal8 is taken; parts with NUL in it come back as they were from BINARY, and in base64 from BODY (RFC 3516)."""
    content = bytes(range(256)) * 300
    text = b"--b\r\n\r\nplain\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n" + content
    whole = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + text + b"\r\n--b--\r\n"
    async with await service.client() as client:
        *_, tagged = await client.command(b"APPEND INBOX ~" + literal(whole))
        assert tagged.startswith(b"t OK [APPENDUID "), tagged
        *_, tagged = await client.command(b"APPEND INBOX ~" + literal(ONE))
        assert tagged.startswith(b"t OK [APPENDUID "), tagged
        await client.ok(b"SELECT INBOX")
        (line,) = await client.ok(b"UID FETCH 1 BINARY.PEEK[2]")
        assert line == b"* 1 FETCH (UID 1 BINARY[2] ~{%d}\r\n%b)" % (len(content), content)
        stored = await _body(client, 1)
        assert b"\0" not in stored
        assert b"Content-Transfer-Encoding: base64\r\nContent-Type: image/png\r\n\r\nAAECAwQF" in stored
        assert stored.startswith(
            b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nplain\r\n--b\r\n"
        )
        assert await _body(client, 2) == ONE


async def test_binary_changes_nothing_signed(service: Service) -> None:
    """NUL in a header, or in what is signed, is refused with UNKNOWN-CTE: no encoding could be given to it."""
    signed = b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\0\r\n--b--\r\n"
    async with await service.client() as client:
        for octets in (signed, b"Subject: \0\r\n\r\n", b"Content-Transfer-Encoding: base64\r\n\r\n\0"):
            *_, tagged = await client.command(b"APPEND INBOX ~" + literal(octets))
            assert tagged.startswith(b"t NO [UNKNOWN-CTE] "), tagged
        assert await _count(client) == 0


@proves(b"REPLACE")
async def test_replace(service: Service) -> None:
    """REPLACE stores the new message and removes the old one: APPENDUID goes before the EXPUNGE (RFC 8508 §3.3)."""
    await service.deliver(ONE, TWO, mailbox="Drafts")
    async with await service.client() as client, await service.client() as other:
        for each in (client, other):
            await each.ok(b"SELECT Drafts")
        lines = await client.ok(rb"REPLACE 1 Drafts (\Seen \Draft) " + literal(THREE))
        assert lines[0].startswith(b"* OK [APPENDUID ")
        assert lines[0].split()[4] == b"3]"
        assert lines[1:4] == [b"* 1 EXPUNGE", b"* 2 EXISTS", lines[3]]
        assert await client.ok(b"UID SEARCH ALL") == [b"* SEARCH 2 3"]
        assert await _body(client, 3) == THREE
        assert (await other.ok(b"NOOP"))[:2] == [b"* 1 EXPUNGE", b"* 2 EXISTS"]
        lines = await other.ok(b"UID REPLACE 2 Archive " + literal(ONE))
        assert b"* 1 EXPUNGE" in lines
        assert await client.ok(b"NOOP") == [b"* 1 EXPUNGE"]
        assert await _count(client, b"Archive") == 1
        lines = await client.ok(b"REPLACE * Drafts " + literal(TWO))
        assert await client.ok(b"UID SEARCH ALL") == [b"* SEARCH 4"]


async def test_replace_is_all_or_nothing(service: Service) -> None:
    """What cannot be replaced or stored leaves both messages as they are (RFC 8508 §3.3)."""
    await service.deliver(ONE, TWO)
    async with await service.client() as client, await service.client() as other:
        assert (await client.command(b"REPLACE 1 INBOX " + literal(THREE)))[-1].startswith(b"t BAD ")
        await client.ok(b"EXAMINE INBOX")
        assert (await client.command(b"REPLACE 1 INBOX " + literal(THREE)))[-1].startswith(b"t NO ")
        await client.ok(b"SELECT INBOX")
        for words, answer in (
            (b"REPLACE 3 INBOX", b"t BAD "),
            (b"UID REPLACE 3 INBOX", b"t NO "),
            (b"REPLACE 1 Nowhere", b"t NO [TRYCREATE] "),
        ):
            assert (await client.command(words + b" " + literal(THREE)))[-1].startswith(answer)
        assert (await client.command(b"REPLACE 1 INBOX {0+}\r\n"))[-1].startswith(b"t NO [CANNOT] ")
        await other.ok(b"SELECT INBOX")
        client.write(b"t UID REPLACE 1 INBOX {%d}\r\n" % len(THREE))
        assert (await client.line()).startswith(b"+ ")
        await other.ok(rb"STORE 1 +FLAGS.SILENT (\Deleted)")
        await other.ok(b"EXPUNGE")
        client.write(THREE + b"\r\n")
        assert (await client.until(b"t"))[-1].startswith(b"t NO [EXPUNGEISSUED] ")
        assert await client.ok(b"UID SEARCH ALL") == [b"* SEARCH 2"]


@proves(b"APPENDLIMIT=")
async def test_appendlimit(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """The limit is in the capability line and in STATUS (RFC 7889 §3), and what is larger is TOOBIG."""
    async for service in limited(settings, account, client_tls, append_limit=Octets(1000)):
        async with await service.client() as client:
            (line,) = await client.ok(b"CAPABILITY")
            assert b"APPENDLIMIT=1000" in line.split()
            assert await client.ok(b"STATUS INBOX (APPENDLIMIT)") == [b"* STATUS INBOX (APPENDLIMIT 1000)"]
            *_, tagged = await client.command(b"APPEND INBOX {1001}")
            assert tagged.startswith(b"t NO [TOOBIG] ")
            *_, tagged = await client.command(b"APPEND INBOX " + literal(mail("x", "x" * 700)))
            assert tagged.startswith(b"t OK ")


@proves(b"UTF8=ACCEPT")
async def test_utf8_accept(service: Service) -> None:
    """Once enabled, names are UTF-8, APPEND takes UTF8 (~{...}), and SEARCH no charset (RFC 9755 §3, §4)."""
    message = "Subject: Grüße\r\nFrom: Jörg <jörg@bücher.example>\r\n\r\nText\r\n".encode()
    async with await service.client() as client, await service.client() as legacy:
        *_, tagged = await client.command(b"APPEND INBOX UTF8 (~" + literal(message) + b")")
        assert tagged.startswith(b"t BAD ")
        assert await client.ok(b"ENABLE UTF8=ACCEPT") == [b"* ENABLED UTF8=ACCEPT"]
        await client.ok('CREATE "Entwürfe"'.encode())
        assert any('"Entwürfe"'.encode() in line for line in await client.ok(b'LIST "" *'))
        *_, tagged = await client.command('APPEND "Entwürfe" UTF8 (~'.encode() + literal(message) + b")")
        assert tagged.startswith(b"t OK [APPENDUID "), tagged
        *_, tagged = await client.command('APPEND "Entwürfe" '.encode() + literal(message))
        assert tagged.startswith(b"t OK [APPENDUID "), tagged
        await client.ok('SELECT "Entwürfe"'.encode())
        assert [await _body(client, uid) for uid in (1, 2)] == [message, message]
        assert await client.ok('SEARCH SUBJECT "GRÜ"'.encode()) == [b"* SEARCH 1 2"]
        *_, tagged = await client.command(b"SEARCH CHARSET UTF-8 ALL")
        assert tagged.startswith(b"t BAD ")
        # A client that has not enabled it sees the message as it is: 8-bit octets travel in literals, which every client reads.
        await legacy.ok(b"SELECT Entw&APw-rfe")
        assert await _body(legacy, 1) == message
        (line,) = await legacy.ok(b"UID FETCH 1 ENVELOPE")
        for text in ("Grüße", "Jörg", "jörg", "bücher.example"):
            assert b"{%d}\r\n%b" % (len(text.encode()), text.encode()) in line


async def test_flags_and_rights(
    service: Service, settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    r"""In a mailbox of another only those flags are set that may be, and \Seen is the appender's own (RFC 4314 §4)."""
    bob = await add_person(settings, owner, "bob@example.test")
    their = b'"Other Users/bob@example.test/Team"'
    url = literal(b"/Other%20Users/bob@example.test/Team/;UID=1")
    async with await service.client() as alice, await Client.connect(service.endpoints["imaps"], service.tls) as client:
        await client.login(bob.login)
        await client.ok(b"CREATE Team")
        await owner.execute("UPDATE mailbox SET is_seen_shared = false WHERE name = 'Team'")
        await client.ok(b"SETACL Team alice@example.test lrsi")
        *_, tagged = await alice.command(b"APPEND " + their + rb" (\Seen \Flagged $Forwarded) " + literal(ONE))
        assert tagged.startswith(b"t OK [APPENDUID "), tagged
        await client.ok(b"SELECT Team")
        assert await client.ok(b"FETCH 1 FLAGS") == [rb"* 1 FETCH (FLAGS (\Recent))"]
        await alice.ok(b"SELECT " + their)
        assert await alice.ok(b"FETCH 1 FLAGS") == [rb"* 1 FETCH (FLAGS (\Seen))"]
        await alice.ok(b"UNSELECT")
        await client.ok(b"SETACL Team alice@example.test li")
        *_, tagged = await alice.command(b"APPEND " + their + rb" (\Seen) " + literal(TWO))
        assert tagged.startswith(b"t OK appended"), tagged
        *_, tagged = await alice.command(b"APPEND INBOX CATENATE (URL " + url + b")")
        assert tagged.startswith(b"t NO [BADURL "), tagged
        await client.ok(b"SETACL Team alice@example.test lr")
        *_, tagged = await alice.command(b"APPEND " + their + b" " + literal(TWO))
        assert tagged.startswith(b"t NO [NOPERM] "), tagged
        *_, tagged = await alice.command(b"APPEND INBOX CATENATE (URL " + url + b")")
        assert tagged.startswith(b"t OK [APPENDUID "), tagged


async def test_one_message_is_replaced_once(service: Service) -> None:
    """Of two sessions that replace the same message one succeeds, and the other stores nothing."""
    await service.deliver(ONE)
    async with await service.client() as first, await service.client() as second:
        for client in (first, second):
            await client.ok(b"SELECT INBOX")
        for client, message in ((first, TWO), (second, THREE)):
            client.write(b"t UID REPLACE 1 INBOX " + literal(message) + b"\r\n")
        answers = [(await client.until(b"t"))[-1] for client in (first, second)]
        assert sorted(answer.split()[1] for answer in answers) == [b"NO", b"OK"], answers
        await first.ok(b"NOOP")
        assert await _count(first) == 1
