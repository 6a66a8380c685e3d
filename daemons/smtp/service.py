"""smtp: mail from the internet (SMTP), for local delivery (LMTP), and of users (submission). Wires the layers; decides nothing."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import msgspec

from config.smtp import Smtp
from daemons import antivirus, metrics
from daemons.authentication import build_authenticator
from daemons.context import Context
from daemons.envelope import build_policing
from daemons.filtering import build_pipeline
from daemons.forwarding import Forwarding
from daemons.logs import logger
from daemons.postmaster import postmaster_of
from daemons.smtp import replies
from daemons.smtp.acceptance import Acceptance
from daemons.smtp.delivering.planning import Delivering
from daemons.smtp.reports import Reports
from daemons.smtp.session import Session, Shared
from daemons.smtp.submission import Service, Submission
from daemons.smtp.submitted import Submitted
from daemons.smtp.suspensions import open_sending
from daemons.sockets import Networks, serving
from filters.networks import network_of
from filters.pipeline import Pipeline
from protocol.smtp.reply import Reply
from storage.senders import Senders
from storage.sent import SentCopies
from storage.spool import Spool

BACKLOG = 1024

log = logger("smtp")

Ready = Callable[[Mapping[str, tuple[str, int]]], None]


class Admission:
    """Counts connections, all of them and per network, and refuses those above the limits."""

    def __init__(self, limits: Smtp, trusted: Networks) -> None:
        self._limits = limits
        self._trusted = trusted
        self._networks: Counter[str] = Counter()
        self.sessions: set[Session] = set()

    def admit(self, session: Session) -> Reply | None:
        """Let the session in, or give the reply that refuses it."""
        if session.peer not in self._trusted:
            if len(self.sessions) >= self._limits.connection_limit:
                return replies.TOO_MANY_CONNECTIONS
            if self._networks[network_of(session.peer)] >= self._limits.network_connection_limit:
                return replies.TOO_MANY_FROM_NETWORK
        self.sessions.add(session)
        self._networks[network_of(session.peer)] += 1
        return None

    def release(self, session: Session) -> None:
        """Forget a session that was let in."""
        self.sessions.discard(session)
        network = network_of(session.peer)
        self._networks[network] -= 1
        if self._networks[network] <= 0:
            del self._networks[network]


class Listeners:
    """The listening sockets of the process and its sessions."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._servers: list[asyncio.Server] = []
        self.endpoints: dict[str, tuple[str, int]] = {}

    async def open(
        self,
        name: str,
        addresses: Sequence[str] | None,
        make: Callable[[], Session],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listen on the addresses; tls: begin with TLS. Raises OSError naming the address that cannot be had."""
        connections = metrics.connections_accepted.labels(name)

        def session() -> Session:
            connections.inc()
            return make()

        for address in addresses or ():
            async for server, endpoint in serving(address, session, tls, BACKLOG):
                self._servers.append(server)
                self.endpoints.setdefault(name, endpoint)

    async def drain(self, within_seconds: float) -> None:
        """Accept no more; let open transactions end, then cut off what is left."""
        for server in self._servers:
            server.close()
        sessions = self._admission.sessions
        for session in tuple(sessions):
            session.shut_down()
        tasks = [session.task for session in tuple(sessions) if session.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=within_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def pipeline_of(limits: Smtp, context: Context) -> Pipeline:
    """The configured filters. Raises StorageError for a name that no filter has."""
    return build_pipeline(context, limits.filters)


def share(context: Context, admission: Admission, spool: Spool, forwarding: Forwarding) -> Shared:
    """What the sessions of the SMTP listeners share; for LMTP only is_lmtp differs."""
    settings = context.settings
    hostname, limits = settings.hostname, settings.smtp
    postmaster = postmaster_of(limits, hostname)
    reports = Reports(context, postmaster, limits.report_language)
    delivering = Delivering(context, limits, forwarding, reports)
    context.closing.callback(delivering.close)
    return Shared(
        hostname=hostname,
        limits=limits,
        postmaster=postmaster,
        tls=context.tls,
        directory=context.directory,
        spool=spool,
        acceptance=Acceptance(context, limits, pipeline_of(limits, context), reports, delivering),
        forwarding=forwarding,
        is_lmtp=False,
        admit=admission.admit,
        release=admission.release,
        recorder=context.recorder,
    )


@asynccontextmanager
async def open_submission(context: Context, shared: Shared) -> AsyncIterator[Callable[[], Submission]]:
    """What makes sessions of users, with everything that these work on. Raises StorageError, OSError."""
    settings = context.settings
    own = settings.submission
    limits = msgspec.structs.replace(
        settings.smtp, size_limit=own.size_limit, line_limit=own.line_limit, recipient_limit=own.recipient_limit
    )
    authenticator = build_authenticator(context)
    senders, copies = Senders(context.pool, context.changes), SentCopies(context.pool, context.changes)
    try:
        async with open_sending(context, shared.postmaster) as sending:
            submitted = Submitted(
                context,
                limits,
                pipeline_of(limits, context),
                Reports(context, shared.postmaster, limits.report_language),
                shared.acceptance.delivering,
                senders=senders,
                sending=sending,
                copies=copies,
                spool=shared.spool,
            )
            service = Service(own, authenticator, senders, sending, submitted, Networks(settings.trusted_networks))
            of_users = replace(shared, limits=limits, policing=None)
            yield lambda: Submission(of_users, service)
    finally:
        senders.close()
        copies.close()
        await authenticator.close()


async def serve(context: Context, stopping: asyncio.Event, ready: Ready) -> None:
    """Run the process until `stopping` is set.

    Raises OSError when an address cannot be had, StorageError without a spool or with settings that contradict.
    """
    settings = context.settings
    spool = Spool(settings.spool_directory)
    await spool.prepare()
    admission = Admission(settings.smtp, Networks(settings.trusted_networks))
    forwarding = Forwarding(context)
    shared = replace(share(context, admission, spool, forwarding), policing=build_policing(context))
    listeners = Listeners(admission)
    async with AsyncExitStack() as stack:
        stack.callback(forwarding.close)
        if "antivirus" in settings.smtp.filters:
            await stack.enter_async_context(antivirus.watching(settings.antivirus))
        user_session = await stack.enter_async_context(open_submission(context, shared))
        try:
            await listeners.open("smtp", settings.listen.smtp, partial(Session, shared))
            await listeners.open("lmtp", settings.listen.lmtp, partial(Session, replace(shared, is_lmtp=True)))
            if context.tls is not None:
                await listeners.open("submission", settings.listen.submission, user_session)
                await listeners.open("submissions", settings.listen.submissions, user_session, context.tls)
            elif settings.listen.submission or settings.listen.submissions:
                log.warning("no submission: without a certificate nobody could log in")
            ready(listeners.endpoints)
            await stopping.wait()
        finally:
            await listeners.drain(settings.smtp.drain_time if stopping.is_set() else 0)
