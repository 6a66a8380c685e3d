"""FETCH attributes beyond RFC 3501: identifiers, save dates, previews, and the content of encoded parts."""

import base64
import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves

CONTENT = bytes(range(256)) * 20


def _attached(content: bytes, encoding: str = "base64") -> bytes:
    body = base64.encodebytes(content).replace(b"\n", b"\r\n") if encoding == "base64" else content
    return (
        b"Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nA text.\r\n--b\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n--b--\r\n"
        % (encoding.encode(), body)
    )


async def _value(client: Client, item: bytes, uid: int = 1) -> bytes:
    """What UID FETCH gives for one item."""
    (line,) = await client.ok(b"UID FETCH %d %b" % (uid, item))
    found = re.fullmatch(rb"\* \d+ FETCH \(UID %d (.*)\)" % uid, line, re.DOTALL)
    assert found, line
    return found[1]


@proves(b"OBJECTID")
async def test_objectid(service: Service) -> None:
    """MAILBOXID is told by CREATE, SELECT and STATUS, outlives RENAME and is not given again (RFC 8474 §4)."""
    async with await service.client() as client:
        *_, created = await client.command(b"CREATE A")
        found = re.fullmatch(rb"t OK \[MAILBOXID \((F\w+)\)\] .*", created)
        assert found, created
        await client.ok(b"RENAME A B")
        assert b"* STATUS B (MAILBOXID (%b))" % found[1] in await client.ok(b"STATUS B (MAILBOXID)")
        lines = await client.ok(b"SELECT B")
        assert any(line.startswith(b"* OK [MAILBOXID (%b)] " % found[1]) for line in lines)
        await client.ok(b"UNSELECT")
        await client.ok(b"DELETE B")
        *_, created = await client.command(b"CREATE B")
        assert b"MAILBOXID (F" in created
        assert found[1] + b")" not in created


async def test_emailid_and_threadid(service: Service) -> None:
    """A copy has the EMAILID of its original, an answer its THREADID, and other messages have their own (RFC 8474 §5)."""
    await service.deliver(mail("one"), mail("two", "x", "In-Reply-To: <one@example.test>"), mail("three"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"COPY 1 Archive")
        lines = await client.ok(b"FETCH 1:* (EMAILID THREADID)")
        found = [re.fullmatch(rb"\* \d FETCH \(EMAILID \((M\w+)\) THREADID \((T\w+)\)\)", line) for line in lines]
        emails, threads = zip(*[one.groups() for one in found if one], strict=True)
        assert len(set(emails)) == 3
        assert threads[0] == threads[1] != threads[2]
        assert await client.ok(b"SEARCH EMAILID " + emails[1]) == [b"* SEARCH 2"]
        assert await client.ok(b"SEARCH THREADID " + threads[0]) == [b"* SEARCH 1 2"]
        assert await client.ok(b"SEARCH OR EMAILID X THREADID T-1") == [b"* SEARCH"]
        await client.ok(b"SELECT Archive")
        assert await _value(client, b"(EMAILID THREADID)") == b"EMAILID (%b) THREADID (%b)" % (emails[0], threads[0])


@proves(b"SAVEDATE")
async def test_savedate(service: Service) -> None:
    """SAVEDATE is when the message came into this mailbox, whatever its INTERNALDATE, and a copy has its own (RFC 8514)."""
    began = datetime.now(UTC) - timedelta(seconds=1)
    await service.deliver(mail(), internaldate=datetime(2001, 2, 3, tzinfo=UTC))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        value = await _value(client, b"SAVEDATE")
        saved = datetime.strptime(value.decode(), 'SAVEDATE "%d-%b-%Y %H:%M:%S %z"')
        assert began - timedelta(seconds=1) <= saved <= datetime.now(UTC)
        async with service.context.pool.acquire() as connection:
            await connection.execute("UPDATE message SET savedate = '2002-03-04 05:06:07.9+00'")
        assert await _value(client, b"SAVEDATE") == b'SAVEDATE " 4-Mar-2002 05:06:07 +0000"'
        await client.ok(b"COPY 1 Archive")
        await client.ok(b"SELECT Archive")
        assert b"2002" not in await _value(client, b"SAVEDATE")
        await client.ok(b"SELECT INBOX")
        assert await client.ok(b"SEARCH SAVEDON 4-Mar-2002") == [b"* SEARCH 1"]
        assert await client.ok(b"SEARCH SAVEDBEFORE 4-Mar-2002") == [b"* SEARCH"]
        assert await client.ok(b"SEARCH SAVEDATESUPPORTED SAVEDSINCE 4-Mar-2002") == [b"* SEARCH 1"]


@proves(b"PREVIEW")
async def test_preview(service: Service) -> None:
    """PREVIEW gives the first words, in a literal where they are not ASCII; a client that asks LAZY may get NIL (RFC 8970)."""
    await service.deliver(mail("a", "Hello,\r\n\r\nWorld\r\n"), mail("b", "Grüße\r\n"), mail("c", ""))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        assert await _value(client, b"PREVIEW") == b'PREVIEW "Hello, World"'
        assert await _value(client, b"(PREVIEW)", 2) == b"PREVIEW {7}\r\n" + "Grüße".encode()
        assert await _value(client, b"PREVIEW", 3) == b'PREVIEW ""'
        assert await _value(client, b"(PREVIEW (LAZY) FLAGS)") in (
            b'PREVIEW "Hello, World" FLAGS (\\Recent)',
            b"PREVIEW NIL FLAGS (\\Recent)",
        )
        *_, refused = await client.command(b"FETCH 1 (PREVIEW (EAGER))")
        assert refused.startswith(b"t BAD ")


async def test_binary_gives_the_content_of_a_part(service: Service) -> None:
    r"""BINARY undoes the transfer encoding, in a literal8 where a NUL is in it, by octets of the content; peeking sets no \Seen."""
    await service.deliver(_attached(CONTENT))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        whole = b"BINARY[2] ~{%d}\r\n%b" % (len(CONTENT), CONTENT)
        assert await _value(client, b"BINARY.PEEK[2]") == whole
        assert await _value(client, b"BINARY.PEEK[2]<10.20>") == b"BINARY[2]<10> {20}\r\n" + CONTENT[10:30]
        assert await _value(client, b"BINARY.PEEK[2]<9999.20>") == b"BINARY[2]<9999> {0}\r\n"
        assert await _value(client, b"BINARY.SIZE[2]") == b"BINARY.SIZE[2] %d" % len(CONTENT)
        assert await _value(client, b"BINARY.PEEK[1]") == b"BINARY[1] {7}\r\nA text."
        assert await _value(client, b"BINARY.PEEK[3]") == b"BINARY[3] NIL"
        assert await client.ok(b"SEARCH SEEN") == [b"* SEARCH"]
        assert whole in await _value(client, b"BINARY[2]")
        assert await client.ok(b"SEARCH SEEN") == [b"* SEARCH 1"]
        (line,) = await client.ok(b"FETCH 1 (BINARY.PEEK[] BODY.PEEK[])")
        binary, _, body = line.partition(b" BODY[]")
        assert binary.removeprefix(b"* 1 FETCH (BINARY[]") + b")" == body


@pytest.mark.parametrize(
    "item", [b"BINARY[HEADER]", b"BINARY.SIZE[1.MIME]", b"BINARY.MORE[1]", b"BINARY", b"BINARY.SIZE[1]<0.1>"]
)
async def test_binary_has_parts_only(service: Service, item: bytes) -> None:
    """BINARY takes part numbers and nothing else (RFC 3516 §7)."""
    await service.deliver(mail())
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        *_, refused = await client.command(b"FETCH 1 " + item)
        assert refused.startswith(b"t BAD "), refused


async def test_binary_refuses_unknown_encodings(service: Service) -> None:
    """What we cannot decode is refused with UNKNOWN-CTE (RFC 3516 §4.3), and BODY gives it as it is."""
    await service.deliver(_attached(b"begin 644 x\r\n#0V%T\r\nend", "x-uuencode"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for item in (b"BINARY.PEEK[2]", b"BINARY.SIZE[2]"):
            *_, refused = await client.command(b"FETCH 1 " + item)
            assert refused.startswith(b"t NO [UNKNOWN-CTE] ")
        assert b"#0V%T" in await _value(client, b"BODY.PEEK[2]")


async def test_binary_streams_large_parts(service: Service) -> None:
    """A part of several megabytes comes whole, by size, and by its end."""
    content = CONTENT * 600
    await service.deliver(_attached(content))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        assert await _value(client, b"BINARY.SIZE[2]") == b"BINARY.SIZE[2] %d" % len(content)
        assert await _value(client, b"BINARY.PEEK[2]") == b"BINARY[2] ~{%d}\r\n%b" % (len(content), content)
        start = len(content) - 2_000_000
        assert await _value(client, b"BINARY.PEEK[2]<%d.1000000>" % start) == (
            b"BINARY[2]<%d> ~{1000000}\r\n%b" % (start, content[start : start + 1_000_000])
        )
        tail = await _value(client, b"BINARY.PEEK[2]<%d.99>" % (len(content) - 9))
        assert tail.endswith(b"~{9}\r\n" + content[-9:])
