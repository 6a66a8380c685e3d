"""Sessions over memory and services over loopback, on the real directory and the real storage."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
import pytest

from config.settings import Settings
from config.smtp import Smtp
from daemons.certificates import Issued
from daemons.context import Context
from daemons.forwarding import Forwarding
from daemons.smtp.acceptance import Acceptance
from daemons.smtp.reports import Reports
from daemons.smtp.service import Admission, serve, share
from daemons.smtp.session import Session, Shared
from daemons.sockets import Networks
from filters.pipeline import Pipeline
from storage import mailboxes, messages
from storage.ingest import Ingest
from storage.spool import Spool
from tests.daemons.smtp.memory import MemoryClient
from tests.daemons.smtp.users import Users

if TYPE_CHECKING:
    from tests.conftest import Person

MESSAGE = b"From: sender@client.example\r\nTo: alice@example.test\r\nSubject: hello\r\n\r\nHello, Alice.\r\n"


@dataclass
class Intake:
    """The smtp process without its listeners, and a look into what it stored."""

    context: Context
    shared: Shared
    admission: Admission
    clients: list[MemoryClient] = field(default_factory=list)

    def connect(self, *, peer: str = "192.0.2.1", is_lmtp: bool = False, **changed: Any) -> MemoryClient:
        """A new session; keyword arguments change fields of what sessions share."""
        client = MemoryClient(Session(replace(self.shared, is_lmtp=is_lmtp, **changed)), peer)
        self.clients.append(client)
        return client

    async def greeted(self, *, peer: str = "192.0.2.1", is_lmtp: bool = False, **changed: Any) -> MemoryClient:
        """A new session behind its greeting and EHLO or LHLO."""
        client = self.connect(peer=peer, is_lmtp=is_lmtp, **changed)
        assert (await client.hear(1)).startswith(b"220 ")
        greeting = (b"LHLO client.example", 9) if is_lmtp else (b"EHLO client.example", 10)
        assert b"\r\n250 " in await client.ask(*greeting)
        return client

    def limited(self, pipeline: Pipeline | None = None, **changed: Any) -> dict[str, Any]:
        """What greeted() and connect() need for other limits, or other filters."""
        limits: Smtp = msgspec.structs.replace(self.shared.limits, **changed)
        acceptance = self.acceptance(limits, self.context.ingest, pipeline or Pipeline())
        admission = Admission(limits, Networks())
        return {"limits": limits, "acceptance": acceptance, "admit": admission.admit, "release": admission.release}

    def acceptance(self, limits: Smtp, ingest: Ingest, pipeline: Pipeline) -> Acceptance:
        """An acceptance of other limits, storage or filters."""
        context = replace(self.context, ingest=ingest)
        reports = Reports(context, self.shared.postmaster, limits.report_language)
        return Acceptance(context, limits, pipeline, reports, self.shared.acceptance.delivering)

    async def inbox(self, person: "Person") -> list[bytes]:
        """The messages in the person's inbox as a client reads them, head and all, oldest first."""
        async with self.context.pool.acquire() as connection:
            inbox = await mailboxes.find(connection, person.account_id, "INBOX")
            assert inbox is not None
            _, rows = await messages.snapshot(connection, inbox.mailbox_id)
        return [await self.context.blobs.message(row.content_id) for row in rows]

    async def originals(self, person: "Person") -> list[bytes]:
        """The same without our trace head."""
        return [headless(message) for message in await self.inbox(person)]

    async def journal(self) -> list[dict[str, Any]]:
        """The envelopes of the journal, oldest first."""
        rows = await self.context.pool.fetch("SELECT envelope FROM journal ORDER BY journal_id")
        return [msgspec.json.decode(row["envelope"]) for row in rows]


def headless(message: bytes) -> bytes:
    """The message without Return-Path and Received on top of it."""
    assert message.startswith(b"Return-Path: <")
    _, _, rest = message.partition(b"\r\nReceived: ")
    while rest:
        _, _, rest = rest.partition(b"\r\n")
        if rest[:1] not in (b"\t", b" "):
            return rest
    raise AssertionError("no Received field")


@pytest.fixture
async def intake(context: Context, account: "Person") -> AsyncIterator[Intake]:
    """Intake for alice@example.test; sessions still open at the end are hung up."""
    spool = Spool(context.settings.spool_directory)
    await spool.prepare()
    admission = Admission(context.settings.smtp, Networks())
    forwarding = Forwarding(context)
    made = Intake(context, share(context, admission, spool, forwarding), admission)
    yield made
    forwarding.close()
    for client in made.clients:
        await client.end()
    assert not list(context.settings.spool_directory.iterdir()), "a spool file was left"
    assert not admission.sessions


@asynccontextmanager
async def serving(context: Context) -> AsyncIterator[dict[str, tuple[str, int]]]:
    """The whole service on loopback sockets; gives its endpoints."""
    stopping = asyncio.Event()
    endpoints: asyncio.Future[dict[str, tuple[str, int]]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(context, stopping, lambda found: endpoints.set_result(dict(found))))
    task.add_done_callback(lambda ended: None if endpoints.done() else endpoints.cancel())
    try:
        yield await endpoints
    finally:
        stopping.set()
        await task


@pytest.fixture
async def users(context: Context, certificate: Issued) -> AsyncIterator[Users]:
    """A running smtp process for users."""
    async with serving(context) as endpoints:
        yield Users(context, endpoints, ssl.create_default_context(cafile=str(certificate.authority)))


@pytest.fixture
async def bob(settings: Settings, account: "Person", owner: "asyncpg.Connection[asyncpg.Record]") -> "Person":
    """A second account of the tenant."""
    from tests.conftest import add_person

    return await add_person(settings, owner, "bob@example.test")
