"""A small internet on the loopback with a relay of ours in it: names, mail servers, a queue, and time that can be moved on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from config.relay import Relay
from config.transport import Transport
from config.units import Seconds
from daemons.context import Context
from daemons.delivery import prepare
from daemons.relay import service
from storage.rows import Outbound, OutboundRecipient
from tests.conftest import Person
from tests.internet.dns import NameServer, name_server
from tests.internet.mx import Mx, mx_server
from tests.sections import with_changes

HEAD = b"Return-Path: <alice@example.test>\r\nReceived: from client by mail.example.test; Sun, 22 Nov 2026 10:00:00 +0000\r\n"
ORIGINAL = (
    b"From: alice@example.test\r\nTo: bob@example.net\r\nSubject: greetings\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.test>\r\n\r\nHello.\r\n.dot\r\n"
)
Row = asyncpg.Record


def quick(**values: Any) -> Relay:
    """Settings of a relay that waits for nothing longer than a moment."""
    times = {key: _in_seconds(value) for key, value in values.items()}
    made: dict[str, Any] = {
        "retry_waits": [Seconds(0.05)],
        "retry_jitter": 0.0,
        "poll": Seconds(1),
        "drain_time": Seconds(5),
        "destination_pause": Seconds(0.2),
        "connection_idle_time": Seconds(0.2),
    }
    return Relay(**(made | times))


def _in_seconds(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_seconds(each) for each in value]
    return Seconds(value) if type(value) is float else value


@dataclass
class World:
    """Made by open_world()."""

    context: Context
    person: Person
    owner: "asyncpg.Connection[asyncpg.Record]"
    names: NameServer
    port: int
    stack: AsyncExitStack
    running: dict[asyncio.Task[None], asyncio.Event] = field(default_factory=dict)
    servers: int = 0

    async def mx(self, domain: str, *, host: str | None = None, preference: int = 10, **options: Any) -> Mx:
        """Start a mail server for a domain, at an address and the port of all of them."""
        self.servers += 1
        address = host or f"127.1.0.{self.servers}"
        name = f"mx{self.servers}.{domain}"
        server = await self.stack.enter_async_context(mx_server(name, host=address, port=self.port, **options))
        self.point(domain, {name: preference})
        self.names.add(name, "AAAA" if ":" in address else "A", address)
        return server

    def point(self, domain: str, exchangers: dict[str, int]) -> None:
        """Give a domain its mail exchangers."""
        self.names.add(domain, "MX", *(f"{preference} {name}." for name, preference in exchangers.items()))

    def configure(self, **transport: Any) -> None:
        """Change the section [transport] for relays that are started from now on."""
        self.context = replace(self.context, settings=with_changes(self.context.settings, transport=transport))

    async def queue(self, *forward_paths: str, original: bytes = ORIGINAL, notify: tuple[str, ...] | None = None,
                    account_id: int | None = 0, **options: Any) -> str:  # fmt: skip
        """Put a message into the queue; returns its trace id."""
        self.servers += 1
        trace_id = f"{self.servers:016x}"
        lifetime = options.pop("lifetime", timedelta(days=5))
        outbound = Outbound(
            self.person.account_id if account_id == 0 else account_id,
            options.pop("reverse_path", self.person.login),
            trace_id,
            [OutboundRecipient(path, path.rpartition("@")[2], notify, None) for path in forward_paths],
            datetime.now(UTC) + lifetime,
            **options,
        )
        message = await prepare(self.person.tenant_id, HEAD, original, [])
        await self.context.ingest.store([replace(message, outbound=outbound)])
        return trace_id

    def start(self, **relay: Any) -> None:
        """Run a relay process, as far as one loop can hold several."""
        settings = msgspec.structs.replace(self.context.settings, relay=quick(**relay))
        stopping, ready = asyncio.Event(), lambda _: None
        task = asyncio.create_task(service.serve(replace(self.context, settings=settings), stopping, ready))
        self.running[task] = stopping

    async def stop(self) -> None:
        """Tell all of them to stop, and wait until they have."""
        for stopping in self.running.values():
            stopping.set()
        async with asyncio.timeout(20):
            await asyncio.gather(*self.running)
        self.running.clear()

    async def rows(self) -> list[Row]:
        """The recipients of the queue, in order."""
        return await self.owner.fetch("SELECT * FROM outbound_recipient ORDER BY recipient_id")

    async def states(self) -> list[str]:
        """Their states."""
        return [row["state"] for row in await self.rows()]

    async def attempts(self) -> list[Row]:
        """What was tried, in order."""
        return await self.owner.fetch("SELECT * FROM outbound_attempt ORDER BY tried_at, recipient_id")

    async def until(self, condition: str, within_seconds: float = 20.0) -> None:
        """Wait until a condition of SQL holds."""
        async with asyncio.timeout(within_seconds):
            while not await self.owner.fetchval(f"SELECT {condition}"):
                await asyncio.sleep(0.01)

    async def until_done(self, count: int | None = None) -> Sequence[Row]:
        """Wait until so many recipients, or all, wait no more. Returns the queue."""
        if count is None:
            await self.until("count(*) FILTER (WHERE state = 'waiting') = 0 FROM outbound_recipient")
        else:
            await self.until(f"count(*) FILTER (WHERE state <> 'waiting') >= {count} FROM outbound_recipient")
        return await self.rows()

    async def inbox(self, person: Person | None = None) -> list[bytes]:
        """What lies in somebody's inbox."""
        account_id = (person or self.person).account_id
        contents = await self.owner.fetch(
            "SELECT content_id FROM message JOIN mailbox USING (mailbox_id) WHERE account_id = $1 ORDER BY uid",
            account_id,
        )
        return [await self.context.blobs.message(row["content_id"]) for row in contents]


@asynccontextmanager
async def open_world(
    context: Context, person: Person, owner: "asyncpg.Connection[asyncpg.Record]", **transport: Any
) -> AsyncIterator[World]:
    """The loopback is no forbidden network here, and the resolver is one of the test's own."""
    async with AsyncExitStack() as stack:
        names = await stack.enter_async_context(name_server())
        first = await stack.enter_async_context(mx_server("port.invalid", host="127.0.0.1"))
        made: dict[str, Any] = {
            "resolvers": [names.address],
            "port": first.port,
            "private_networks": ["127.0.0.0/8", "::1/128"],
        }
        settings = msgspec.structs.replace(context.settings, transport=Transport(**(made | transport)))
        world = World(replace(context, settings=settings), person, owner, names, first.port, stack)
        try:
            yield world
        finally:
            await world.stop()
