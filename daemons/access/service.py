"""The access process: IMAP, POP3 and ManageSieve on their listeners. Wires; decides nothing itself."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from daemons.access.imap.commands import imap_session
from daemons.access.imap.grants import Grants
from daemons.access.imap.session import Shared
from daemons.access.imap.views import Views
from daemons.access.managesieve.service import REFUSAL, ManageSieveService
from daemons.access.pop3.service import Pop3Service
from daemons.authentication import build_authenticator
from daemons.context import Context
from daemons.runtime import Ready
from daemons.sockets import Connection, Listener, Networks, listening
from storage.notifications import ACCOUNT
from storage.quota import Rooms
from storage.spool import Spool

_DRAIN_SECONDS = 5.0
_REFUSAL_IMAP = b"* BYE [UNAVAILABLE] too many connections\r\n"
_REFUSAL_POP3 = b"-ERR [SYS/TEMP] too many connections\r\n"


@dataclass(frozen=True, slots=True)
class _Service:
    """A protocol, and how many may speak it."""

    handler: Callable[[Connection], Awaitable[None]]
    connection_limit: int
    connections_per_network: int
    refusal: bytes


async def open_shared(context: Context) -> Shared:
    """What IMAP sessions have in common. Raises UnavailableError when the spool directory cannot be used."""
    settings = context.settings.imap
    views = Views(
        context.pool,
        context.changes,
        cached_messages=settings.view_cache_messages,
        poll_seconds=settings.poll_interval,
    )
    spool = Spool(context.settings.spool_directory)
    await spool.prepare()
    authenticator = build_authenticator(context)
    context.changes.want(ACCOUNT)  # annotations are told as they change: nothing is compared
    grants, rooms = Grants(context.pool, context.changes), Rooms(context.pool, context.changes)
    return Shared(context, settings, views, authenticator, spool, grants, rooms)


async def serve(context: Context, stopping: asyncio.Event, ready: Ready) -> None:
    """Serve until `stopping` is set, then let commands in progress end."""
    shared = await open_shared(context)
    listen, imap, pop3 = context.settings.listen, context.settings.imap, context.settings.pop3
    imap_service = _Service(
        functools.partial(imap_session, shared), imap.connection_limit, imap.connections_per_network, _REFUSAL_IMAP
    )
    pop3_service = _Service(
        Pop3Service(context, shared.authenticator).converse,
        pop3.connection_limit,
        pop3.connections_per_network,
        _REFUSAL_POP3,
    )
    managesieve, limits = ManageSieveService(context, shared.authenticator), context.settings.managesieve
    trusted = Networks(context.settings.trusted_networks)
    listeners: dict[str, Listener] = {}
    async with AsyncExitStack() as stack:
        stack.callback(managesieve.close)
        stack.callback(shared.views.close)
        stack.push_async_callback(shared.authenticator.close)
        stack.callback(shared.grants.close)
        stack.callback(shared.rooms.close)
        stack.push_async_callback(shared.events.close)

        async def add(name: str, addresses: list[str] | None, service: _Service) -> None:
            is_tls = name.endswith("s")
            if not addresses or (is_tls and context.tls is None):
                return
            listeners[name] = await stack.enter_async_context(
                listening(
                    addresses,
                    service.handler,
                    tls=context.tls if is_tls else None,
                    trusted=trusted,
                    limit=service.connection_limit,
                    limit_per_peer=service.connections_per_network,
                    refusal=service.refusal,
                )
            )

        await add("imap", listen.imap, imap_service)
        await add("imaps", listen.imaps, imap_service)
        await add("pop3", listen.pop3, pop3_service)
        await add("pop3s", listen.pop3s, pop3_service)
        connections, per_network = limits.connection_limit, limits.connections_per_network
        sieve_service = _Service(managesieve.converse, connections, per_network, REFUSAL)
        await add("managesieve", listen.managesieve, sieve_service)
        poller = asyncio.create_task(shared.views.poll(), name="imap views")
        ready({name: listener.endpoints[0] for name, listener in listeners.items() if listener.endpoints})
        try:
            await stopping.wait()
        finally:
            poller.cancel()
        for session in tuple(shared.sessions):
            session.stop()
        await asyncio.gather(*(listener.drain(_DRAIN_SECONDS) for listener in listeners.values()))
