"""A user's program: submission over real sockets and real TLS, and a look at what came of it."""

import asyncio
import base64
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec

from daemons.authentication.channel_binding import exporter
from daemons.context import Context
from protocol import sasl
from storage import mailboxes, messages
from tests.conftest import Person

DEADLINE_SECONDS = 20.0
NONCE = "rOprNGfwEbeRWgbNEkqO"
SUBMITTED = (
    b"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nSubject: hello\r\n"
    b"Date: Wed, 17 Jul 1996 02:23:25 -0700\r\nMessage-ID: <1@example.test>\r\n\r\nHello, Bob.\r\n"
)


class Client:
    """Says lines, hears replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, endpoint: tuple[str, int], tls: ssl.SSLContext | None = None) -> "Client":
        """A connection behind its greeting."""
        name = "localhost" if tls is not None else None
        client = cls(*await asyncio.open_connection(*endpoint, ssl=tls, server_hostname=name))
        assert (await client.hear()).startswith(b"220 ")
        return client

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    def say(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.writer.write(octets)

    async def hear(self) -> bytes:
        """One reply, all of its lines."""
        lines = b""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                line = await self.reader.readline()
                lines += line
                if line[3:4] != b"-":
                    return lines

    async def ask(self, line: bytes) -> bytes:
        """Say a line and hear its reply."""
        self.say(line + b"\r\n")
        return await self.hear()

    async def greeted(self) -> list[str]:
        """EHLO; gives the keywords."""
        heard = (await self.ask(b"EHLO client.example")).decode().splitlines()
        assert heard[0] == "250-mail.example.test"
        return [line[4:] for line in heard[1:]]

    async def start_tls(self, tls: ssl.SSLContext) -> None:
        """STARTTLS, and the handshake."""
        assert (await self.ask(b"STARTTLS")).startswith(b"220 ")
        await self.writer.start_tls(tls, server_hostname="localhost")

    async def exchange(self, name: bytes, mechanism: sasl.ClientMechanism, *, starts: bool = True) -> bytes:
        """AUTH, with the initial response in the command or when it is asked for; gives the last reply."""
        command = b"AUTH " + name
        if starts:
            command += b" " + (base64.b64encode(mechanism.respond(None)) or b"=")
        answer = await self.ask(command)
        is_first = not starts
        while answer.startswith(b"334"):
            challenge = base64.b64decode(answer[4:])
            response = mechanism.respond(None if is_first and not challenge else challenge)
            is_first = False
            answer = await self.ask(base64.b64encode(response))
        return answer

    async def log_in(self, person: Person) -> None:
        """EHLO and AUTH PLAIN."""
        await self.greeted()
        answer = await self.exchange(b"PLAIN", sasl.PlainClient(person.login, person.password))
        assert answer == b"235 2.7.0 logged in\r\n", answer

    async def send(self, message: bytes, *forward_paths: str, sender: str = "<alice@example.test>") -> bytes:
        """One transaction with DATA; gives the first refusal, or the reply to the message."""
        answer = await self._envelope(sender, forward_paths)
        if not answer.startswith(b"250 "):
            return answer
        assert (await self.ask(b"DATA")).startswith(b"354 ")
        self.say(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return await self.hear()

    async def send_chunk(self, message: bytes, *forward_paths: str, sender: str = "<alice@example.test>") -> bytes:
        """The same with BDAT."""
        answer = await self._envelope(sender, forward_paths)
        if not answer.startswith(b"250 "):
            return answer
        self.say(b"BDAT %d LAST\r\n" % len(message) + message)
        return await self.hear()

    async def _envelope(self, sender: str, forward_paths: Sequence[str]) -> bytes:
        """MAIL and RCPT, up to the first that is refused; gives the last reply."""
        answer = await self.ask(f"MAIL FROM:{sender}".encode())
        for forward_path in forward_paths:
            if answer.startswith(b"250 "):
                answer = await self.ask(f"RCPT TO:{forward_path}".encode())
        return answer

    @property
    def channel(self) -> bytes:
        """The binding of the TLS channel (RFC 9266)."""
        found = exporter(self.writer.get_extra_info("ssl_object"))
        assert found is not None
        return found


@dataclass
class Users:
    """A running smtp process."""

    context: Context
    endpoints: dict[str, tuple[str, int]]
    tls: ssl.SSLContext

    async def connect(self) -> Client:
        """A connection in TLS."""
        return await Client.connect(self.endpoints["submissions"], self.tls)

    async def logged_in(self, person: Person) -> Client:
        """A connection of somebody."""
        client = await self.connect()
        await client.log_in(person)
        return client

    async def mailbox(self, person: Person, name: str = "INBOX") -> list[bytes]:
        """The messages in one of the person's mailboxes, head and all, oldest first."""
        async with self.context.pool.acquire() as connection:
            mailbox = await mailboxes.find(connection, person.account_id, name)
            assert mailbox is not None
            _, rows = await messages.snapshot(connection, mailbox.mailbox_id)
        return [await self.context.blobs.message(row.content_id) for row in rows]

    async def journal(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Tenant, direction and envelope of each entry, oldest first."""
        rows = await self.context.pool.fetch("SELECT tenant_id, direction, envelope FROM journal ORDER BY journal_id")
        return [(row[0], row[1], msgspec.json.decode(row[2])) for row in rows]

    async def queue(self) -> list[dict[str, Any]]:
        """Every recipient in the queue with what is known of its message, by forward path."""
        rows = await self.context.pool.fetch(
            "SELECT * FROM outbound_message JOIN outbound_recipient USING (outbound_id, tenant_id) ORDER BY forward_path"
        )
        return [dict(row) for row in rows]
