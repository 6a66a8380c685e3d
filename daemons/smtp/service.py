"""smtp: mail from the internet over SMTP, and local delivery over LMTP. Wires the layers; decides nothing itself."""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from config.smtp import Smtp
from daemons import metrics
from daemons.context import Context
from daemons.smtp import replies
from daemons.smtp.acceptance import Acceptance
from daemons.smtp.reports import Reports
from daemons.smtp.session import Session, Shared
from daemons.sockets import Networks, bind
from filters.pipeline import Pipeline
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.smtp.reply import Reply
from storage.errors import StorageError
from storage.spool import Spool

BACKLOG = 1024

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


def network_of(peer: str) -> str:
    """The network that shares one limit: IPv4 /24, IPv6 /64; a local socket is its own."""
    if ":" not in peer:
        return peer.rpartition(".")[0]
    address = ipaddress.IPv6Address(peer.partition("%")[0])
    return network_of(str(address.ipv4_mapped)) if address.ipv4_mapped else str(int(address) >> 64)


class Listeners:
    """The listening sockets of the process and its sessions."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._servers: list[asyncio.Server] = []
        self.endpoints: dict[str, tuple[str, int]] = {}

    async def open(self, name: str, addresses: Sequence[str] | None, shared: Shared) -> None:
        """Listen on the addresses. Raises OSError naming the address that cannot be had."""
        connections = metrics.connections_accepted.labels(name)

        def session() -> Session:
            connections.inc()
            return Session(shared)

        for address in addresses or ():
            for bound in bind(address, BACKLOG):
                self._servers.append(
                    await asyncio.get_running_loop().create_server(session, sock=bound, backlog=BACKLOG)
                )
                self.endpoints.setdefault(name, bound.getsockname()[:2])

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


def postmaster_of(limits: Smtp, hostname: str) -> AddrSpec:
    """Who gets the mail for <Postmaster>. Raises StorageError when the setting is no address."""
    try:
        return parse_addr_spec(limits.postmaster) if limits.postmaster else AddrSpec("postmaster", hostname)
    except AddressError as error:
        raise StorageError(f"smtp.postmaster: {error}") from error


def pipeline_of(limits: Smtp) -> Pipeline:
    """The configured filters. Raises StorageError for a name that no filter has; none exists yet."""
    for name in limits.filters:
        raise StorageError(f"smtp.filters: there is no filter {name!r}")
    return Pipeline()


def share(context: Context, admission: Admission, spool: Spool) -> Shared:
    """What the sessions of the SMTP listeners share; for LMTP only is_lmtp differs."""
    settings = context.settings
    hostname, limits = settings.hostname, settings.smtp
    postmaster = postmaster_of(limits, hostname)
    reports = Reports(hostname, postmaster, context.directory, limits.report_language)
    return Shared(
        hostname=hostname,
        limits=limits,
        postmaster=postmaster,
        tls=context.tls,
        directory=context.directory,
        spool=spool,
        acceptance=Acceptance(hostname, limits, context.ingest, pipeline_of(limits), reports),
        is_lmtp=False,
        admit=admission.admit,
        release=admission.release,
    )


async def serve(context: Context, stopping: asyncio.Event, ready: Ready) -> None:
    """Run the process until `stopping` is set.

    Raises OSError when an address cannot be had, StorageError without a spool or with settings that contradict.
    """
    settings = context.settings
    spool = Spool(settings.spool_directory)
    await spool.prepare()
    admission = Admission(settings.smtp, Networks(settings.trusted_networks))
    shared = share(context, admission, spool)
    listeners = Listeners(admission)
    try:
        await listeners.open("smtp", settings.listen.smtp, shared)
        await listeners.open("lmtp", settings.listen.lmtp, replace(shared, is_lmtp=True))
        ready(listeners.endpoints)
        await stopping.wait()
    finally:
        await listeners.drain(settings.smtp.drain_time if stopping.is_set() else 0)
