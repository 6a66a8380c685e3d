"""A whole relay, put together from its parts, for whatever finds its routes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from daemons.context import Context
from daemons.forwarding import Forwarding
from daemons.postmaster import postmaster_of
from daemons.relay.bounces import Bounces
from daemons.relay.connection import Connection, OpenError
from daemons.relay.content import Contents
from daemons.relay.delivery import Courier
from daemons.relay.dispatcher import Dispatcher
from daemons.relay.leasing import Leasing
from daemons.relay.local import LocalDelivery
from daemons.relay.route import Route, RouteError
from daemons.relay.settling import Settler
from daemons.relay.signing import Signer
from daemons.smtp.delivering.planning import Delivering
from daemons.smtp.reports import Reports
from storage.errors import StorageError
from storage.outbound import Leased

_POLICY = 7  # the subject of status codes that speak of security, RFC 3463 §3.8


class FindsRoutes(Protocol):
    """daemons/relay/routes.py's Routes, or the like."""

    async def of(
        self, domain: str, tenant_id: int, sender: str, *, is_requiretls: bool = False, ignores_tls: bool = False
    ) -> Route:
        """See Routes.of."""


class Ways:
    """Where recipients go: to ourselves, to a route, or, for want of TLS, past a policy that their message waives."""

    def __init__(self, routes: FindsRoutes, local: LocalDelivery, contents: Contents) -> None:
        self._routes = routes
        self._local = local
        self._contents = contents

    async def of(self, leased: Leased) -> Route | None:
        """The route; None: the domain is ours. Raises RouteError, StorageError."""
        if await self._local.takes(leased.domain):
            return None
        try:
            return await self._find(leased)
        except RouteError as error:
            if error.enhanced.subject != _POLICY or (route := await self.without_policy(leased)) is None:
                raise
            return route

    async def without_policy(self, leased: Leased) -> Route | None:
        """The route of a message that says "TLS-Required: No" (RFC 8689 §4.1); None for any other, and where there is none."""
        try:
            if leased.is_requiretls or not await self._contents.waives_tls(leased.content_id):
                return None
            return await self._find(leased, ignores_tls=True)
        except (RouteError, StorageError):
            return None

    async def _find(self, leased: Leased, *, ignores_tls: bool = False) -> Route:
        return await self._routes.of(
            leased.domain,
            leased.tenant_id,
            leased.reverse_path,
            is_requiretls=leased.is_requiretls,
            ignores_tls=ignores_tls,
        )


@asynccontextmanager
async def open_relay(
    context: Context, routes: FindsRoutes, on_opened: Callable[[Route, Connection | OpenError], None]
) -> AsyncIterator[Leasing]:
    """A relay that works as soon as its queue is."""
    settings = context.settings.relay
    bounces, signer, forwarding = Bounces(context), Signer(context), Forwarding(context)
    limits = context.settings.smtp
    reports = Reports(context, postmaster_of(limits, context.settings.hostname), limits.report_language)
    delivering = Delivering(context, limits, forwarding, reports)
    try:
        contents = Contents(context.blobs, signer, settings.buffer_limit)
        settler = Settler(context, bounces)
        local = LocalDelivery(context, settler, bounces, delivering)
        ways = Ways(routes, local, contents)
        courier = Courier(
            settings, context.settings.hostname, contents, on_opened=on_opened, reroute=ways.without_policy
        )
        yield Leasing(context, Dispatcher(settings, ways.of, local.deliver, settler.settle, courier.carry))
    finally:
        delivering.close()
        forwarding.close()
        signer.close()
        bounces.close()
