"""A POP3 service on the loopback, mail for alice, and clients that speak octets or through poplib."""

import asyncio
import poplib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import pytest

from config.settings import Settings
from config.units import Seconds
from daemons.access.pop3.service import Pop3Service
from daemons.authentication import build_authenticator
from daemons.certificates import Issued
from daemons.context import Context
from daemons.delivery import prepare
from daemons.sockets import Networks, listening
from storage import mailboxes
from storage.rows import Placement
from tests.conftest import Person
from tests.daemons.line_client import LineClient
from tests.sections import with_changes

Result = TypeVar("Result")


class Client(LineClient):
    """A POP3 client on octets."""

    async def line(self) -> bytes:
        """The next line without its CRLF; b"" at the end."""
        line = await self.reader.readline()
        assert not line or line.endswith(b"\r\n")
        return line[:-2]

    async def lines(self) -> list[bytes]:
        """The lines of a multi-line response after its status line, unstuffed."""
        found = []
        while (line := await self.line()) != b".":
            found.append(line.removeprefix(b"."))
        return found

    def say(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())

    async def ask(self, *lines: str) -> list[bytes]:
        """Send lines at once and give the status line of each."""
        self.say(*lines)
        return [await self.line() for _ in lines]

    async def login(self, person: Person) -> list[bytes]:
        return await self.ask(f"USER {person.login}", f"PASS {person.password}")


@dataclass(slots=True)
class Stage:
    """The service and how to reach it."""

    context: Context
    service: Pop3Service
    port: int
    tls_port: int
    tls: ssl.SSLContext

    @asynccontextmanager
    async def client(self, *, secure: bool = True) -> AsyncIterator[Client]:
        """A connection whose greeting has been read."""
        port, tls = (self.tls_port, self.tls) if secure else (self.port, None)
        opened = Client(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=64 << 20))
        assert (await opened.line()).startswith(b"+OK ")
        try:
            yield opened
        finally:
            await opened.close()

    async def poplib(self, person: Person, work: Callable[[poplib.POP3], Result]) -> Result:
        """Let Python's own client log in, work, and quit."""

        def run() -> Result:
            client = poplib.POP3_SSL("127.0.0.1", self.tls_port, context=self.tls, timeout=20)
            try:
                client.user(person.login)
                client.pass_(person.password)
                result = work(client)
                client.quit()
            finally:
                client.close()
            return result

        return await asyncio.to_thread(run)

    async def deliver(self, person: Person, *originals: bytes, head: bytes = b"") -> None:
        """Put messages into the person's inbox, in order."""
        async with self.context.pool.acquire() as connection:
            inbox = await mailboxes.find(connection, person.account_id, "INBOX")
        assert inbox is not None
        for original in originals:
            message = await prepare(person.tenant_id, head, original, [Placement(inbox.mailbox_id)])
            await self.context.ingest.store([message])

    async def message_count(self, person: Person) -> int:
        async with self.context.pool.acquire() as connection:
            inbox = await mailboxes.find(connection, person.account_id, "INBOX")
        assert inbox is not None
        return inbox.message_count


@asynccontextmanager
async def staged(context: Context, ca: str) -> AsyncIterator[Stage]:
    """The service on two free ports, and a client's view of its certificate."""
    authenticator = build_authenticator(context)
    service = Pop3Service(context, authenticator)
    trusted = Networks(context.settings.trusted_networks)
    try:
        async with (
            listening(["127.0.0.1:0"], service.converse, trusted=trusted) as plain,
            listening(["127.0.0.1:0"], service.converse, tls=context.tls, trusted=trusted) as secure,
        ):
            tls = ssl.create_default_context(cafile=ca)
            yield Stage(context, service, plain.endpoints[0][1], secure.endpoints[0][1], tls)
    finally:
        await authenticator.close()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As everywhere, but that a test may log in as often as it likes."""
    return with_pop3(settings, login_delay=Seconds(0), surrogates=True)


@pytest.fixture
async def stage(context: Context, certificate: Issued) -> AsyncIterator[Stage]:
    """The service with its default settings."""
    async with staged(context, str(certificate.authority)) as opened:
        yield opened


def with_pop3(settings: Settings, **changes: object) -> Settings:
    """The settings with other values in their section pop3."""
    return with_changes(settings, pop3=changes)
