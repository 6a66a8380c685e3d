"""relay: delivers the outbound queue to the world, and notifications over HTTP. Any number of processes, on any number of hosts."""

import asyncio

from daemons.context import Context
from daemons.relay.assembly import open_relay
from daemons.relay.connection import Connection, Failure, OpenError
from daemons.relay.notices import Notices
from daemons.relay.route import Route
from daemons.relay.tls_policy import TlsFailure, TlsResult
from daemons.relay.tls_reports import TlsReports
from daemons.relay.transport import open_transport
from daemons.runtime import Ready


async def serve(context: Context, stopping: asyncio.Event, ready: Ready) -> None:
    """Deliver until `stopping` is set."""
    async with open_transport(context) as transport:
        noted = _Noted(transport.reports)
        async with open_relay(context, transport.routes, noted.opened) as leasing:
            ready({})
            async with asyncio.TaskGroup() as workers:
                workers.create_task(leasing.run(stopping), name="relay")
                workers.create_task(Notices(context, transport.resolver).run(stopping), name="notifier")


class _Noted:
    """Sessions with domains that want reports of TLS (RFC 8460)."""

    def __init__(self, reports: TlsReports) -> None:
        self._reports = reports

    def opened(self, route: Route, opened: Connection | OpenError) -> None:
        """Count what was tried, and what came of it."""
        if not route.is_reported:
            return
        for failure in opened.failures:
            if failure.tls is not None:
                self._note(route, failure, failure.tls)
        given_up = {(failure.host.name, failure.address) for failure in opened.failures if failure.tls is not None}
        if isinstance(opened, Connection) and (opened.host.name, opened.address) not in given_up:
            self._note(route, opened, opened.tls)

    def _note(self, route: Route, session: Failure | Connection, outcome: TlsFailure | TlsResult) -> None:
        self._reports.note(
            route.domain,
            session.host.policy,
            outcome,
            host=session.host.name,
            address=session.address,
            source=session.local_address,
        )
