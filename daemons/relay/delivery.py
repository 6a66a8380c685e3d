"""One connection's life: opened for one transaction, used for those that wait behind it, closed.

An attempt is made with one session. Servers are changed while it is being opened (the next address, the next host), not
behind that: a reply to MAIL or RCPT is the destination's reply, whichever of its servers gave it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import asyncpg

from config.relay import Relay
from daemons.logs import logger
from daemons.relay.attempt import Attempt, Kind, text_of
from daemons.relay.connection import Connection, OpenError, open_connection
from daemons.relay.content import Contents
from daemons.relay.destinations import Destination
from daemons.relay.dispatcher import AWAY_SECONDS, Dispatcher
from daemons.relay.envelope import transaction_of
from daemons.relay.parcel import Parcel
from daemons.relay.route import Route
from protocol.smtp.reply import Reply
from protocol.smtp.transmission import Outcome
from protocol.status import Enhanced, enhanced
from storage.errors import StorageError, UnavailableError
from storage.outbound import Leased

_log = logger("relay")
_NO_REQUIRETLS = enhanced("5.7.30")
_NO_CONTENT = enhanced("4.3.0")
_WHOLE = frozenset({"MAIL", "DATA", "BDAT", "end of message"})  # the replies that speak for the whole transaction

Opened = Callable[[Route, Connection | OpenError], None]
Reroute = Callable[[Leased], Awaitable[Route | None]]


class Courier:
    """Runs connections. One per process.

    on_opened is told of every session and of every failure to get one (for TLS reports); reroute finds another way for a
    message that could not be sent for want of TLS, or None.
    """

    def __init__(
        self, settings: Relay, hostname: str, contents: Contents, *, on_opened: Opened, reroute: Reroute
    ) -> None:
        self._settings = settings
        self._hostname = hostname
        self._contents = contents
        self._on_opened = on_opened
        self._reroute = reroute

    async def carry(self, dispatcher: Dispatcher, destination: Destination, parcel: Parcel) -> None:
        """Open a connection for a transaction and use it for what waits at the destination."""
        work: Parcel | None = parcel
        session: _Session | None = None
        try:
            while work is not None:
                if not dispatcher.still_held(work):
                    work = await dispatcher.next_parcel(destination)
                    continue
                if session is not None and not session.takes(work):
                    await session.connection.quit()
                    session = None
                if session is None:
                    session = await self._open(dispatcher, destination, work)
                    if session is None:
                        return
                await self._send(dispatcher, destination, session, work)
                if not session.connection.is_usable:
                    session.connection.close()
                    session = None
                work = await dispatcher.next_parcel(destination)
            if session is not None:
                ended, session = session, None
                await ended.connection.quit()
        except Exception:  # a fault of ours: its recipients come back when their leases end
            dispatcher.release(work.leased if work is not None else ())
            raise
        finally:
            if session is not None:
                session.connection.close()

    async def _open(self, dispatcher: Dispatcher, destination: Destination, parcel: Parcel) -> "_Session | None":
        """A session for the transaction; None: there is none, and it is settled, or waits again."""
        started_at, route = time.monotonic(), parcel.route
        try:
            connection = await open_connection(
                route.hosts,
                self._settings,
                hostname=self._hostname,
                source=route.source,
                credentials=route.credentials,
            )
        except OpenError as error:
            self._on_opened(route, error)
            await self._unopened(dispatcher, destination, parcel, error, started_at)
            return None
        self._on_opened(route, connection)
        return _Session(connection, self._settings.connection_message_limit, started_at)

    async def _unopened(
        self, dispatcher: Dispatcher, destination: Destination, parcel: Parcel, error: OpenError, started_at: float
    ) -> None:
        now, failure = time.monotonic(), error.telling
        if failure.is_remote and destination.connections > 1 and destination.dead_until is None:
            # Others are being served: it is this connection that is too much, and nothing is wrong with the message.
            destination.refused(started_at, now)
            dispatcher.put_back(destination, parcel)
            return
        if failure.tls is not None and not parcel.ignores_tls:
            route = await self._reroute(parcel.leased[0])
            if route is not None:
                dispatcher.enqueue(parcel.leased, route, ignores_tls=True)
                return
        is_for_good = all(each.reply.enhanced == _NO_REQUIRETLS and not each.is_remote for each in error.failures)
        attempt = Attempt(
            # Whatever the server said, it has not seen the message: a 5yz greeting may be a mistake of the hour. That it does
            # not offer REQUIRETLS is none: the message is given back (RFC 8689 §4.2.1).
            "failed" if is_for_good else "deferred",
            _status(failure.reply)._replace(status_class=5 if is_for_good else 4),
            text_of(failure.reply),
            datetime.now(UTC),
            failure.is_remote,
            failure.host.name,
            failure.address,
        )
        if is_for_good:
            destination.answered()
        elif destination.failed(attempt, started_at, now):
            dispatcher.died(destination)
        await dispatcher.settle(parcel.leased, attempt)

    async def _send(
        self, dispatcher: Dispatcher, destination: Destination, session: "_Session", parcel: Parcel
    ) -> None:
        """Send it, and return when what became of it is durable."""
        connection = session.connection
        limit = connection.capabilities.recipient_limit
        if limit is not None and len(parcel.leased) > limit:
            dispatcher.put_back(destination, Parcel(parcel.leased[limit:], parcel.route, parcel.is_second))
            parcel.leased = parcel.leased[:limit]
        is_fresh = connection.transactions == 0
        try:
            content = await self._contents.load(parcel.leased[0], connection.capabilities)
            transaction = transaction_of(parcel.leased, content, connection.capabilities, datetime.now(UTC))
            outcomes = await connection.deliver(transaction, content.octets or content.pieces())
        except UnavailableError as error:
            # No try of theirs: they stay leased as long as that can be renewed, and are somebody's again when it is over.
            _log.error("content cannot be read yet", trace=parcel.leased[0].trace_id, error=str(error))
            await asyncio.sleep(AWAY_SECONDS)
            dispatcher.put_back(destination, parcel)
            return
        except (StorageError, OSError, asyncpg.PostgresError) as error:
            _log.error(
                "content cannot be read", trace=parcel.leased[0].trace_id, error=f"{type(error).__name__}: {error}"
            )
            text = "451 4.3.0 the message cannot be read now"
            await dispatcher.settle(parcel.leased, Attempt("deferred", _NO_CONTENT, text, datetime.now(UTC)))
            return
        session.domains.add(parcel.leased[0].domain)
        if not is_fresh and not parcel.is_second and all(map(_says_nothing, outcomes)):
            # The server was about to close the connection, as servers do after a while or a number of messages.
            destination.refused(session.opened_at, time.monotonic())
            parcel.is_second = True
            connection.close()
            dispatcher.put_back(destination, parcel)
            return
        settled = self._judged(dispatcher, destination, session, parcel, outcomes)
        await dispatcher.settle_each(settled)

    def _judged(
        self,
        dispatcher: Dispatcher,
        destination: Destination,
        session: "_Session",
        parcel: Parcel,
        outcomes: Sequence[Outcome],
    ) -> list[tuple[Leased, Attempt]]:
        """What the outcomes mean for the recipients, and for the destination."""
        connection, now = session.connection, datetime.now(UTC)
        pairs = list(zip(parcel.leased, outcomes, strict=True))
        if not all(outcome.is_surplus for outcome in outcomes):
            surplus = [leased for leased, outcome in pairs if outcome.is_surplus]
            if surplus:
                dispatcher.put_back(destination, Parcel(surplus, parcel.route, parcel.is_second))
                pairs = [(leased, outcome) for leased, outcome in pairs if not outcome.is_surplus]
        settled = [(leased, attempt_of(connection, outcome, now)) for leased, outcome in pairs]
        clock = time.monotonic()
        if all(map(_ends_session, outcomes)):
            if destination.failed(settled[0][1], session.opened_at, clock):
                dispatcher.died(destination)
        elif any(map(_is_refusal, outcomes)):
            destination.refused(session.opened_at, clock)
        elif any(outcome.state != "deferred" for outcome in outcomes):
            destination.succeeded()
        else:
            destination.answered()
        return settled


class _Session:
    """A connection, and what it has been used for."""

    def __init__(self, connection: Connection, message_limit: int, opened_at: float) -> None:
        self.connection = connection
        self.opened_at = opened_at
        self.domains: set[str] = set()
        self._message_limit = min(message_limit, connection.capabilities.message_limit or message_limit)

    def takes(self, parcel: Parcel) -> bool:
        """Whether the transaction may go over this connection: RFC 9422 §4."""
        if not self.connection.is_usable or self.connection.transactions >= self._message_limit:
            return False
        limit = self.connection.capabilities.domain_limit
        return limit is None or len(self.domains | {parcel.leased[0].domain}) <= limit


def attempt_of(connection: Connection, outcome: Outcome, at: datetime) -> Attempt:
    """What the rest of the relay is told of an outcome."""
    kind: Kind = outcome.state
    return Attempt(
        kind,
        _status(outcome.reply),
        text_of(outcome.reply),
        at,
        is_remote=outcome.is_remote,
        host=connection.host.name,
        address=connection.address,
        tls=str(connection.tls),
        is_uncertain=outcome.is_uncertain,
        is_reported_by_peer=connection.capabilities.has_dsn,
        knows_deadline=connection.capabilities.has_deliverby,
    )


def _status(reply: Reply) -> Enhanced:
    """Its own status code; a server that sends none has said no more than the first digit."""
    return reply.enhanced or Enhanced(min(reply.code // 100, 5), 0, 0)


def _ends_session(outcome: Outcome) -> bool:
    """Whether the server would not go on with us, whatever the message: it went away, or said that it does."""
    return outcome.state == "deferred" and (not outcome.is_remote or outcome.reply.code == 421)


def _says_nothing(outcome: Outcome) -> bool:
    """Whether the session ended before the server could say anything of the message."""
    return _ends_session(outcome) and not outcome.is_uncertain


def _is_refusal(outcome: Outcome) -> bool:
    """Whether the server has enough of us for now. What it says of one recipient, greylisting above all, is no such reply."""
    return outcome.reply.code == 421 or (400 <= outcome.reply.code < 500 and outcome.phase in _WHOLE)
