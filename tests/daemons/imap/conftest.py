"""A running IMAP service for the tests of this directory, on real sockets, with a real database and blob store."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from config.issuers import Issuer
from config.settings import Settings
from config.units import Seconds
from daemons.access.service import serve
from daemons.context import Context
from daemons.delivery import prepare
from protocol.imap.flags import bits_of
from storage import mailboxes
from storage.errors import MailboxExistsError
from storage.rows import NewMessage, Placement
from tests.conftest import Person
from tests.daemons.imap.conversation import Client
from tests.daemons.issuer import with_issuer
from tests.hearing import until_heard
from tests.sections import with_changes

Endpoints = Mapping[str, tuple[str, int]]


def mail(subject: str = "hello", body: str = "The body.\r\n", *fields: str) -> bytes:
    """A small message."""
    lines = [
        "From: Alice <alice@example.test>",
        "To: Bob <bob@example.test>",
        f"Subject: {subject}",
        "Date: Wed, 17 Jul 1996 02:23:25 -0700",
        f"Message-ID: <{subject.replace(' ', '.')}@example.test>",
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@dataclass
class Service:
    """The service and what tests put into it."""

    context: Context
    endpoints: Endpoints
    person: Person
    tls: ssl.SSLContext

    async def client(self) -> Client:
        """A connection in TLS, logged in."""
        client = await Client.connect(self.endpoints["imaps"], self.tls)
        await client.login(self.person.login)
        return client

    async def mailbox_id(self, name: str) -> int:
        """The mailbox of that name, made if it is missing."""
        async with self.context.pool.acquire() as connection:
            with contextlib.suppress(MailboxExistsError):
                await mailboxes.create(connection, self.person.account_id, name)
            found = await mailboxes.find(connection, self.person.account_id, name)
        assert found is not None
        return found.mailbox_id

    async def deliver(
        self, *originals: bytes, mailbox: str = "INBOX", flags: str = "", internaldate: datetime | None = None
    ) -> list[int]:
        """Store messages as SMTP does, and wait until the access process has heard of it; gives their UIDs."""
        mailbox_id = await self.mailbox_id(mailbox)
        bits, keywords = bits_of(flag.encode() for flag in flags.split())
        group: list[NewMessage] = []
        for original in originals:
            placement = Placement(mailbox_id, bits, tuple(keywords), internaldate or datetime(2026, 11, 22, tzinfo=UTC))
            group.append(await prepare(self.person.tenant_id, b"Return-Path: <>\r\n", original, [placement]))
        stored = await self.context.ingest.store(group)
        await until_heard(self.context)
        return [one.placed[0].uid for one in stored]


Start = Callable[[Context], Awaitable[Endpoints]]


@contextlib.asynccontextmanager
async def running(context: Context) -> AsyncIterator[Endpoints]:
    """The access process, in this loop."""
    stopping = asyncio.Event()
    told: asyncio.Future[Endpoints] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(context, stopping, told.set_result))
    try:
        async with asyncio.timeout(30):
            endpoints = await told
        yield endpoints
    finally:
        stopping.set()
        await task


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With an issuer of tokens, so that every mechanism is offered, and with short waits after failed logins.

    The issuer does not answer: see tests/daemons/issuer.py.
    """
    hasty = with_changes(settings, authentication={"failure_delay": Seconds(0.01)})
    return with_issuer(hasty, Issuer(tenant="example", issuer="https://localhost:9", audience=["postwerk"]))


@pytest.fixture
async def service(context: Context, account: Person, client_tls: ssl.SSLContext) -> AsyncIterator[Service]:
    """The access process with alice's account."""
    async with running(context) as endpoints:
        yield Service(context, endpoints, account, client_tls)
