"""The smtp process on real sockets: its keywords, STARTTLS, both protocols, real clients' habits, and an orderly end."""

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import msgspec
import pytest

from config.settings import Settings
from config.smtp import Smtp
from config.units import Seconds
from daemons.context import Context
from daemons.postmaster import postmaster_of
from daemons.smtp.service import pipeline_of, serve
from storage import mailboxes, messages
from storage.errors import StorageError
from tests.conftest import Person
from tests.daemons.smtp.conftest import MESSAGE, Intake, headless, serving

Answer = TypeVar("Answer")
ENVELOPE = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.test>\r\n"


async def in_thread(talk: Callable[[], Answer]) -> Answer:
    """Run a blocking client."""
    async with asyncio.timeout(60):
        return await asyncio.to_thread(talk)


async def stored(context: Context, person: Person) -> list[bytes]:
    async with context.pool.acquire() as connection:
        inbox = await mailboxes.find(connection, person.account_id, "INBOX")
        assert inbox is not None
        _, rows = await messages.snapshot(connection, inbox.mailbox_id)
    return [await context.blobs.message(row.content_id) for row in rows]


class Wire:
    """A blocking socket and its file."""

    def __init__(self, endpoint: tuple[str, int]) -> None:
        self.socket = socket.create_connection(endpoint, timeout=30)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def ask(self, octets: bytes, line_count: int = 1) -> list[bytes]:
        """Send octets and read so many reply lines."""
        self.socket.sendall(octets)
        return [self.file.readline() for _ in range(line_count)]

    def secure(self, context: ssl.SSLContext) -> None:
        """Go on in TLS."""
        self.file.close()
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.file = self.socket.makefile("rb")


async def test_ehlo_keywords(context: Context) -> None:
    """Exactly the extensions that are proven below and in the transcripts."""

    def talk() -> dict[str, str]:
        with smtplib.SMTP(*endpoints["smtp"]) as client:
            client.ehlo("client.example")
            return client.esmtp_features

    async with serving(context) as endpoints:
        features = await in_thread(talk)
    assert set(features) == {
        "pipelining", "size", "8bitmime", "smtputf8", "chunking", "enhancedstatuscodes", "starttls", "dsn", "limits",
    }  # fmt: skip
    assert features["size"] == str(28 << 20)
    assert features["limits"] == "RCPTMAX=1000"


async def test_mail_over_tls(context: Context, account: Person, client_tls: ssl.SSLContext) -> None:
    """smtplib sends mail over STARTTLS; Received says ESMTPS, the journal the version and cipher."""

    def talk() -> None:
        with smtplib.SMTP(*endpoints["smtp"]) as client:
            client.ehlo("client.example")
            client._host = "localhost"  # type: ignore[attr-defined]
            client.starttls(context=client_tls)
            client.ehlo("client.example")
            assert "starttls" not in client.esmtp_features
            assert client.sendmail("a@client.example", ["alice@example.test"], MESSAGE) == {}

    async with serving(context) as endpoints:
        await in_thread(talk)
    (message,) = await stored(context, account)
    assert b" with ESMTPS id " in message
    assert headless(message) == MESSAGE
    envelope = msgspec.json.decode(await context.pool.fetchval("SELECT envelope FROM journal"))
    assert envelope["tls"]["version"] == "TLSv1.3"
    assert envelope["tls"]["cipher"]


async def test_nothing_passes_from_clear_text_into_tls(
    context: Context, account: Person, client_tls: ssl.SSLContext
) -> None:
    """What comes in the clear behind STARTTLS is discarded (CVE-2011-0411), and what was said before is forgotten."""

    def talk() -> list[bytes]:
        with Wire(endpoints["smtp"]) as wire:
            wire.file.readline()
            wire.ask(b"EHLO client.example\r\n", 10)
            wire.ask(ENVELOPE, 2)
            heard = wire.ask(b"STARTTLS\r\nRSET\r\nNOOP\r\nEHLO injected.example\r\n")
            wire.secure(client_tls)
            heard += wire.ask(b"MAIL FROM:<>\r\n")
            wire.ask(b"EHLO client.example\r\n", 10)
            heard += wire.ask(b"RCPT TO:<alice@example.test>\r\n")
            heard += wire.ask(b"STARTTLS\r\n")
            heard += wire.ask(b"QUIT\r\n")
            return [*heard, wire.file.read()]

    async with serving(context) as endpoints:
        heard = await in_thread(talk)
    assert heard == [
        b"220 2.0.0 ready to start TLS\r\n",
        b"503 5.5.1 send EHLO first\r\n",
        b"503 5.5.1 send MAIL first\r\n",
        b"503 5.5.1 TLS is on already\r\n",
        b"221 2.0.0 closing connection\r\n",
        b"",
    ]


async def test_failed_handshake(context: Context) -> None:
    """A client that breaks off the handshake costs its connection and nothing else."""

    def break_off() -> bytes:
        with Wire(endpoints["smtp"]) as wire:
            wire.file.readline()
            wire.ask(b"EHLO client.example\r\n", 10)
            wire.ask(b"STARTTLS\r\n")
            wire.socket.sendall(b"\x16\x03\x01\x00\x05hello")
            return wire.file.read()

    def talk() -> int:
        with smtplib.SMTP(*endpoints["smtp"]) as client:
            return client.noop()[0]

    async with serving(context) as endpoints:
        assert b"250" not in await in_thread(break_off)
        assert await in_thread(talk) == 250


async def test_without_a_certificate(intake: Intake) -> None:
    """STARTTLS is neither announced nor taken when there is no certificate."""
    client = intake.connect(tls=None)
    await client.hear(1)
    assert b"STARTTLS" not in await client.ask(b"EHLO client.example", 9)
    assert await client.ask(b"STARTTLS") == b"502 5.5.1 TLS is not offered\r\n"


async def test_lmtp(context: Context, account: Person) -> None:
    """smtplib's LMTP client delivers; Received says LMTP."""

    def talk() -> dict[str, tuple[int, bytes]]:
        with smtplib.LMTP(endpoints["lmtp"][0], endpoints["lmtp"][1], "client.example") as client:
            return client.sendmail("", ["alice@example.test", "nobody@example.test"], MESSAGE)

    async with serving(context) as endpoints:
        refused = await in_thread(talk)
    assert set(refused) == {"nobody@example.test"}
    (message,) = await stored(context, account)
    assert b" with LMTP id " in message
    assert headless(message) == MESSAGE


async def test_large_message_octet_for_octet(context: Context, account: Person, settings: Settings) -> None:
    """Twenty megabytes by DATA go through the spool and come back as they were; the spool is empty afterwards."""
    message = b"Subject: large\r\n\r\n" + b"".join(b".%07d\r\n" % number for number in range(2_000_000))

    def talk() -> None:
        with smtplib.SMTP(endpoints["smtp"][0], endpoints["smtp"][1], timeout=60) as client:
            client.sendmail("a@client.example", ["alice@example.test"], message)

    async with serving(context) as endpoints:
        await in_thread(talk)
    (found,) = await stored(context, account)
    assert headless(found) == message
    assert not list(settings.spool_directory.iterdir())


async def test_half_closed_connection(context: Context, account: Person) -> None:
    """A client that sends all it has to say and closes its side still gets every answer."""

    def talk() -> bytes:
        with Wire(endpoints["smtp"]) as wire:
            chunk = b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE
            wire.socket.sendall(b"EHLO client.example\r\n" + ENVELOPE + chunk + b"QUIT\r\n")
            wire.socket.shutdown(socket.SHUT_WR)
            return wire.file.read()

    async with serving(context) as endpoints:
        heard = await in_thread(talk)
    assert b"accepted as" in heard
    assert heard.endswith(b"221 2.0.0 closing connection\r\n")
    assert len(await stored(context, account)) == 1


async def test_client_that_never_reads(settings: Settings, context: Context) -> None:
    """A client that sends commands and reads no reply is cut off instead of filling our memory."""
    limits = Smtp(command_timeout=Seconds(0.2), junk_command_limit=10**9, command_limit=10**9)
    changed = msgspec.structs.replace(settings, smtp=limits)

    def talk() -> bool:
        with Wire(endpoints["smtp"]) as wire:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            try:
                for _ in range(10_000):
                    wire.socket.sendall(b"HELP\r\n" * 2000)
            except (ConnectionError, TimeoutError):
                return True
        return False

    async with serving(_with(context, changed)) as endpoints:
        assert await in_thread(talk)


async def test_drain(context: Context, settings: Settings, account: Person) -> None:
    """On shutdown idle sessions are told so, a message on its way is taken, and then the process ends."""
    stopping = asyncio.Event()
    endpoints: dict[str, tuple[str, int]] = {}
    is_ready = asyncio.Event()

    def ready(found: object) -> None:
        endpoints.update(found)  # type: ignore[call-overload]
        is_ready.set()

    service = asyncio.create_task(serve(context, stopping, ready))
    await is_ready.wait()
    idle_reader, idle_writer = await asyncio.open_connection(*endpoints["smtp"])
    assert (await idle_reader.readline()).startswith(b"220 ")
    busy_reader, busy_writer = await asyncio.open_connection(*endpoints["smtp"])
    busy_writer.write(b"HELO client.example\r\n" + ENVELOPE + b"DATA\r\n")
    for _ in range(5):
        last = await busy_reader.readline()
    assert last.startswith(b"354 ")
    stopping.set()
    assert await idle_reader.read() == b"421 4.3.2 shutting down, come back later\r\n"
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*endpoints["smtp"])
    busy_writer.write(MESSAGE + b".\r\n")
    assert (await busy_reader.readline()).startswith(b"250 2.0.0 accepted as ")
    assert await busy_reader.read() == b"421 4.3.2 shutting down, come back later\r\n"
    await service
    for writer in (idle_writer, busy_writer):
        writer.close()
        await writer.wait_closed()
    assert len(await stored(context, account)) == 1


async def test_drain_has_an_end(context: Context, settings: Settings) -> None:
    """A session that does not end in time is cut off."""
    changed = msgspec.structs.replace(settings, smtp=Smtp(drain_time=Seconds(0.05)))
    async with asyncio.timeout(30):
        async with serving(_with(context, changed)) as endpoints:
            reader, writer = await asyncio.open_connection(*endpoints["smtp"])
            writer.write(b"HELO client.example\r\nMAIL FROM:<>\r\n")
            for _ in range(3):
                await reader.readline()
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


def test_postmaster_setting() -> None:
    """The setting must be an address; without it the postmaster is that of our hostname."""
    assert str(postmaster_of(Smtp(), "mx.example.test")) == "postmaster@mx.example.test"
    assert str(postmaster_of(Smtp(postmaster="p@example.test"), "mx")) == "p@example.test"
    with pytest.raises(StorageError, match=r"smtp\.postmaster: expected"):
        postmaster_of(Smtp(postmaster="p"), "mx")


def test_unknown_filter(context: Context) -> None:
    """A filter that does not exist stops the process instead of letting mail by unchecked."""
    with pytest.raises(StorageError, match=r"smtp\.filters: there is no filter 'unknown'"):
        pipeline_of(Smtp(filters=["unknown"]), context)


def _with(context: Context, settings: Settings) -> Context:
    return replace(context, settings=settings)
