"""A ManageSieve service on the loopback, and a client that speaks octets."""

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from config.settings import Settings
from daemons.access.managesieve.service import ManageSieveService
from daemons.authentication import build_authenticator
from daemons.certificates import Issued
from daemons.context import Context, open_context
from daemons.sockets import Networks, listening
from tests.conftest import Person
from tests.daemons.line_client import LineClient
from tests.sections import with_changes

_LITERAL = re.compile(rb"\{([0-9]+)\}\r\n\Z")
_STATUS = re.compile(rb"(OK|NO|BYE)\b")
KEEP = b"keep;\r\n"


def plain(login: str, password: str, authzid: str = "") -> bytes:
    """The message of SASL PLAIN, in base64."""
    return base64.b64encode(f"{authzid}\0{login}\0{password}".encode())


def literal(octets: bytes) -> bytes:
    """literal-c2s."""
    return b"{%d+}\r\n" % len(octets) + octets


class Client(LineClient):
    """A ManageSieve client on octets."""

    async def line(self) -> bytes:
        """The next line with its literals, without its CRLF; b"" at the end."""
        line = await self.reader.readline()
        while announced := _LITERAL.search(line):
            line += await self.reader.readexactly(int(announced[1])) + await self.reader.readline()
        assert not line or line.endswith(b"\r\n")
        return line[:-2]

    async def answer(self) -> list[bytes]:
        """The lines of a response, with the one that ends it."""
        lines = [await self.line()]
        while not _STATUS.match(lines[-1]):
            assert lines[-1], "the connection has ended"
            lines.append(await self.line())
        return lines

    def say(self, *lines: bytes) -> None:
        self.writer.write(b"".join(line + b"\r\n" for line in lines))

    async def ask(self, line: bytes) -> list[bytes]:
        """Send a command and give all lines of its answer."""
        self.say(line)
        return await self.answer()

    async def status(self, line: bytes) -> bytes:
        """Send a command that is answered with a status line alone."""
        (status,) = await self.ask(line)
        return status

    async def login(self, person: Person) -> bytes:
        return await self.status(b'AUTHENTICATE "PLAIN" "' + plain(person.login, person.password) + b'"')

    async def put(self, name: str, script: bytes) -> bytes:
        return await self.status(b'PUTSCRIPT "' + name.encode() + b'" ' + literal(script))

    async def capabilities(self) -> dict[str, str | None]:
        return told(await self.ask(b"CAPABILITY"))

    async def start_tls(self, tls: ssl.SSLContext) -> list[bytes]:
        """STARTTLS and the capabilities that are told behind it."""
        assert await self.status(b"STARTTLS") == b'OK "begin TLS"'
        await self.writer.start_tls(tls, server_hostname="127.0.0.1")
        return await self.answer()


def told(lines: list[bytes]) -> dict[str, str | None]:
    """Capabilities by name."""
    assert lines[-1].startswith(b"OK")
    found: dict[str, str | None] = {}
    for line in lines[:-1]:
        name, *value = re.findall(r'"([^"]*)"', line.decode())
        assert name not in found, "each capability name can appear at most once (RFC 5804 §1.7)"
        found[name] = value[0] if value else None
    return found


@dataclass(slots=True)
class Stage:
    """The service and how to reach it."""

    context: Context
    service: ManageSieveService
    port: int
    tls: ssl.SSLContext

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[Client]:
        """A connection in the clear, whose greeting has been read."""
        opened = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=64 << 20))
        told(await opened.answer())
        try:
            yield opened
        finally:
            await opened.close()

    @asynccontextmanager
    async def client(self, person: Person | None = None) -> AsyncIterator[Client]:
        """A connection in TLS, logged in if there is somebody to log in."""
        async with self.stranger() as opened:
            await opened.start_tls(self.tls)
            if person is not None:
                assert (await opened.login(person)) == b"OK"
            yield opened


@asynccontextmanager
async def staged(context: Context, ca: str) -> AsyncIterator[Stage]:
    """The service on a free port, and a client's view of its certificate."""
    authenticator = build_authenticator(context)
    service = ManageSieveService(context, authenticator)
    trusted = Networks(context.settings.trusted_networks)
    try:
        async with listening(["127.0.0.1:0"], service.converse, trusted=trusted) as listener:
            tls = ssl.create_default_context(cafile=ca)
            yield Stage(context, service, listener.endpoints[0][1], tls)
    finally:
        service.close()
        await authenticator.close()


@asynccontextmanager
async def opened(settings: Settings, certificate: Issued) -> AsyncIterator[Stage]:
    """The service with other settings."""
    async with open_context(settings) as context, staged(context, str(certificate.authority)) as stage:
        yield stage


@pytest.fixture
async def stage(context: Context, certificate: Issued) -> AsyncIterator[Stage]:
    """The service with its default settings."""
    async with staged(context, str(certificate.authority)) as served:
        yield served


def with_managesieve(settings: Settings, **changes: object) -> Settings:
    """The settings with other values in their section managesieve."""
    return with_changes(settings, managesieve=changes)
