"""All that finds ways to other hosts and remembers what they were like, opened and closed together.

async with open_transport(context) as transport:
    route = await transport.routes.of("example.net", tenant_id, "alice@example.org")
    ...
    if route.is_reported:
        transport.reports.note(route.domain, host.policy, connection.tls, host=host.name, address=...)
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from config.settings import Settings
from daemons.context import Context
from daemons.daily_reports import Send
from daemons.dmarc_reports import DmarcReports
from daemons.logs import logger
from daemons.names import Names
from daemons.outgoing import compose
from daemons.relay.exchangers import Exchangers
from daemons.relay.mta_sts import StsPolicies
from daemons.relay.reach import Reach
from daemons.relay.resolver import Resolver
from daemons.relay.routes import Routes
from daemons.relay.tls_policy import load_anchors
from daemons.relay.tls_reports import TlsReports
from daemons.relay.web import Web
from protocol.address import AddrSpec
from storage.pool import Pool
from storage.transport import Sources

_log = logger("transport")


@dataclass(frozen=True, slots=True)
class TransportSecurity:
    """One per process."""

    routes: Routes
    reports: TlsReports
    resolver: Resolver


@asynccontextmanager
async def open_transport(context: Context) -> AsyncIterator[TransportSecurity]:
    """Open it, and send reports meanwhile. Counts that are not kept yet are kept at the end. Raises OSError for authorities."""
    settings, post = context.settings, _Post(context)
    async with open_routes(settings, context.pool, post.send) as opened:
        aggregates = DmarcReports(
            settings.authenticity, settings.hostname, context.pool, Names(opened.resolver), post.send
        )
        sending = [
            asyncio.create_task(opened.reports.run(), name="tls-reports"),
            asyncio.create_task(aggregates.run(), name="dmarc-reports"),
        ]
        try:
            yield opened
        finally:
            for task in sending:
                task.cancel()
            await asyncio.wait(sending)
            await opened.reports.close()


@asynccontextmanager
async def open_routes(settings: Settings, pool: Pool, send: Send) -> AsyncIterator[TransportSecurity]:
    """Open it for looking at routes. Raises OSError for authorities."""
    transport = settings.transport
    async with AsyncExitStack() as stack:
        resolver = Resolver(transport)
        stack.push_async_callback(resolver.close)
        reach = Reach(transport)
        web = Web(resolver, reach, timeout=transport.sts_timeout, authority=transport.sts_authority)
        stack.push_async_callback(web.close)
        receivers = Web(resolver, reach, timeout=transport.report_timeout, authority=transport.report_authority)
        stack.push_async_callback(receivers.close)
        policies = StsPolicies(transport, pool, resolver, web)
        stack.push_async_callback(policies.close)
        reports = TlsReports(transport, settings.hostname, pool, resolver, receivers, send)
        stack.callback(reports.drop)  # who only looks at routes has had no session
        for authority in {"", transport.authority, *(route.authority for route in transport.routes)}:
            await load_anchors(authority)
        exchangers = Exchangers(settings, resolver, reach)
        routes = Routes(settings, exchangers, reach, Sources(pool), policies, reports)
        yield TransportSecurity(routes, reports, resolver)


class _Post:
    """Sends reports like any other mail of a tenant: that of the address they come from."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def send(self, author: AddrSpec, to: AddrSpec, octets: bytes, trace_id: str) -> bool:
        """Queue one. Returns whether it is on its way. Raises StorageError."""
        found = await self._context.directory.resolve(author.local_part, author.domain)
        if found is None:
            _log.error("report_from is no address of this host: reports are not sent by mail", domain=author.domain)
            return False
        messages = await compose(self._context, found.tenant_id, author, [to], octets, trace_id=trace_id)
        if not messages:
            return False
        await self._context.ingest.store(messages)
        return True
