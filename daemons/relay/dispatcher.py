"""Who is served next: leased recipients become transactions, transactions wait at their destinations, connections take them.

Nothing is decided here about a single delivery (delivery.py), nor about what a destination takes (destinations.py).
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import Gauge

from config.relay import Relay
from daemons.logs import logger
from daemons.relay.attempt import Attempt, Kind, Settled
from daemons.relay.destinations import Destination
from daemons.relay.parcel import Parcel
from daemons.relay.route import Route, RouteError
from daemons.relay.schedule import settle
from daemons.relay.turns import Turns
from protocol.status import enhanced
from storage.errors import StorageError, UnavailableError
from storage.outbound import Leased

_log = logger("relay")
AWAY_SECONDS = 1.0  # until the database is asked again when it was away
_ROUTING_AT_ONCE = 100  # domains that are looked up at a time
# Whoever holds so many times of what is free gets no more: one alone three quarters of all, two three sevenths each, and
# there is always something free for the next one.
_SENDER_SHARE = 3  # recipients and connections
_DOMAIN_SHARE = 1  # recipients
_FORGET_ABOVE = 1000  # destinations, from which on those without work are forgotten

_NO_DATABASE, _NO_DATABASE_TEXT = enhanced("4.3.0"), "451 4.3.0 not delivered yet"

_CONNECTIONS = Gauge("postwerk_relay_connections", "Connections to other servers.", multiprocess_mode="livesum")
_HELD = Gauge("postwerk_relay_recipients", "Recipients that relay processes hold.", multiprocess_mode="livesum")

_Key = TypeVar("_Key")
FindRoute = Callable[[Leased], Awaitable[Route | None]]
DeliverLocally = Callable[["Dispatcher", Sequence[Leased]], Awaitable[None]]
Settle = Callable[[Sequence[Settled]], Awaitable[None]]
Carry = Callable[["Dispatcher", Destination, Parcel], Awaitable[None]]


class Dispatcher:
    """One per process.

    find_route gives None for domains of our own; carry runs one connection until it has nothing to do, and asks for more
    with next_parcel().
    """

    def __init__(
        self,
        settings: Relay,
        find_route: FindRoute,
        deliver_locally: DeliverLocally,
        settle_all: Settle,
        carry: Carry,
    ) -> None:
        self.settings = settings
        self._find_route = find_route
        self._deliver_locally = deliver_locally
        self._settle = settle_all
        self._carry = carry
        self._destinations: dict[Hashable, Destination] = {}
        self._ready: Turns[Destination] = Turns()  # those that may open a connection, by the sender who is next there
        self._is_ready: set[int] = set()
        self._idle: OrderedDict[asyncio.Future[Parcel | None], Destination] = OrderedDict()
        self._connections = 0
        self._connections_of: Counter[Hashable] = Counter()  # by the sender they were opened for
        self._held: dict[int, tuple[Leased, float]] = {}  # until when, on our clock
        self._held_of: Counter[str] = Counter()  # by domain
        self._held_by: Counter[int] = Counter()  # by sender
        self._is_short = False
        self._worthwhile = max(1, min(settings.batch_limit // 4, settings.recipient_limit // 8))
        self._released = 0  # since the last lease
        self._tasks: set[asyncio.Task[None]] = set()
        self._unrouted: Turns[list[Leased]] = Turns()
        self._routing = 0
        self._is_stopping = False
        self.on_room: Callable[[], None] = lambda: None  # called when there may be room for more

    def __repr__(self) -> str:
        return f"<Dispatcher {len(self._held)} recipients, {self._connections} connections>"

    # What is held

    @property
    def room(self) -> int:
        """How many more recipients may be taken."""
        return max(0, self.settings.recipient_limit - len(self._held))

    def full_domains(self) -> list[str]:
        """Domains of which so many recipients are held that others might have no room."""
        most = self.room * _DOMAIN_SHARE
        return [domain for domain, count in self._held_of.items() if count >= most]

    def full_senders(self) -> list[int]:
        """Senders of whom so many recipients are held that others might have no room."""
        most = self.room * _SENDER_SHARE
        return [sender for sender, count in self._held_by.items() if count >= most]

    def wants_more(self, *, is_short: bool) -> None:
        """What was leased last has been all there was; is_short: all there was room for, so that on_room is to be called."""
        self._is_short, self._released = is_short, 0

    @property
    def destinations(self) -> list[Destination]:
        """Those that are remembered."""
        return list(self._destinations.values())

    @property
    def held(self) -> list[Leased]:
        """Everything that is leased and not settled."""
        return [leased for leased, _ in self._held.values()]

    def renewed(self, recipients: Iterable[int], until: float) -> None:
        """These leases were extended."""
        for recipient_id in recipients:
            if (held := self._held.get(recipient_id)) is not None:
                self._held[recipient_id] = held[0], until

    def lost(self, recipients: Iterable[int]) -> None:
        """These leases are somebody else's: what has not begun never will."""
        for recipient_id in recipients:
            if (held := self._held.get(recipient_id)) is not None:
                self._held[recipient_id] = held[0], float("-inf")

    def still_held(self, parcel: Parcel) -> bool:
        """Drop recipients from it whose lease has run out. Returns whether any are left."""
        parcel.leased = self._still_leased(parcel.leased)
        return bool(parcel.leased)

    def _still_leased(self, leased: list[Leased]) -> list[Leased]:
        now = time.monotonic()
        over = [each for each in leased if self._held.get(each.recipient_id, (each, 0.0))[1] < now]
        if not over:
            return leased
        self.release(over)
        return [each for each in leased if each not in over]

    # In

    def take(self, leased: Sequence[Leased], until: float) -> None:
        """Deliver to these, leased until then. Returns at once."""
        groups: dict[tuple[object, ...], list[Leased]] = {}
        for each in leased:
            self._held[each.recipient_id] = each, until
            self._held_of[each.domain] += 1
            self._held_by[each.sender] += 1
            way = (each.domain, each.tenant_id, each.reverse_path, each.is_requiretls)
            groups.setdefault(way, []).append(each)
        _HELD.set(len(self._held))
        for group in groups.values():
            self._unrouted.add(group[0].sender, group)
        self._route_more()

    def _route_more(self) -> None:
        while self._routing < _ROUTING_AT_ONCE and (taken := self._unrouted.take()) is not None:
            self._routing += 1
            self._spawn(self._route(taken[1]))

    async def _route(self, group: list[Leased]) -> None:
        """Find the way for recipients that go the same way, and queue them there."""
        try:
            route = await self._find_route(group[0])
            if route is None:
                await self._deliver_locally(self, group)
            elif not self._is_stopping:  # otherwise they are given back with what is held
                self.enqueue(group, route)
        except RouteError as error:
            await self.settle(group, no_route(error))
        except UnavailableError as error:  # the database is away: no try of theirs
            _log.error("no route can be looked for yet", error=str(error))
            await asyncio.sleep(AWAY_SECONDS)
            if not self._is_stopping and (rest := self._still_leased(group)):
                self._unrouted.put_back(rest[0].sender, rest)
        except (StorageError, OSError) as error:
            _log.error("no route can be looked for", error=f"{type(error).__name__}: {error}")
            await self.settle(group, Attempt("deferred", _NO_DATABASE, _NO_DATABASE_TEXT, datetime.now(UTC)))
        except Exception:  # a fault of ours: they come back when their leases end
            self.release(group)
            raise
        finally:
            self._routing -= 1
            self._route_more()

    def enqueue(self, group: Sequence[Leased], route: Route, *, ignores_tls: bool = False) -> None:
        """Queue recipients at the destination of a route, one transaction per message."""
        destination = self._destination(route, group[0].is_requiretls)
        by_message: dict[int, list[Leased]] = {}
        for each in group:
            by_message.setdefault(each.outbound_id, []).append(each)
        limit = self.settings.transaction_recipient_limit
        for recipients in by_message.values():
            for at in range(0, len(recipients), limit):
                self._offer(destination, Parcel(recipients[at : at + limit], route, ignores_tls=ignores_tls))

    def _offer(self, destination: Destination, parcel: Parcel) -> None:
        if destination.is_closed(time.monotonic()):
            self._suspend(destination, [parcel])
            return
        while destination.sleepers and not destination.waiting:
            sleeper = destination.sleepers.pop()
            del self._idle[sleeper]
            if not sleeper.done():  # it may be about to give up waiting
                sleeper.set_result(parcel)
                return
        destination.waiting.add(parcel.sender, parcel, priority=parcel.leased[0].priority)
        self._wish(destination)

    def put_back(self, destination: Destination, parcel: Parcel) -> None:
        """Have it tried again before anything else, on whatever connection there is."""
        if self._is_stopping:
            return  # it is given back with what is held
        if destination.is_closed(time.monotonic()):
            self._suspend(destination, [parcel])
        else:
            destination.waiting.put_back(parcel.sender, parcel)
            self._wish(destination)

    def _destination(self, route: Route, is_requiretls: bool) -> Destination:
        name = route.key, is_requiretls
        found = self._destinations.get(name)
        if found is None:
            if len(self._destinations) >= _FORGET_ABOVE:
                self._forget()
            found = self._destinations[name] = Destination(name, self.settings)
        return found

    def _forget(self) -> None:
        now = time.monotonic()
        for name in [name for name, each in self._destinations.items() if each.is_forgettable(now)]:
            del self._destinations[name]

    # Connections

    def _wish(self, destination: Destination) -> None:
        """Have a connection opened for what waits there, when it may be."""
        if id(destination) not in self._is_ready and destination.may_open():
            self._is_ready.add(id(destination))
            self._ready.add(destination.waiting.party(), destination)
        self._open_more()

    def _open_more(self) -> None:
        while len(self._ready) and not self._is_stopping:
            if self._connections >= self.settings.connection_limit:
                self._end_an_idle_one()
                return
            taken = self._ready.take(self._may_have_connection)
            if taken is None:  # what is free is kept for others, but what is idle need not be
                self._end_an_idle_one()
                return
            sender, destination = taken
            self._is_ready.discard(id(destination))
            if destination.may_open():
                self._open(sender, destination)
                self._wish_again(destination)

    def _may_have_connection(self, sender: Hashable) -> bool:
        free = self.settings.connection_limit - self._connections
        return self._connections_of[sender] < free * _SENDER_SHARE

    def _wish_again(self, destination: Destination) -> None:
        if destination.may_open() and id(destination) not in self._is_ready:
            self._is_ready.add(id(destination))
            self._ready.add(destination.waiting.party(), destination)

    def _open(self, sender: Hashable, destination: Destination) -> None:
        taken = destination.waiting.take()
        assert taken is not None
        destination.connections += 1
        self._connections += 1
        self._connections_of[sender] += 1
        _CONNECTIONS.set(self._connections)
        self._spawn(self._connection(sender, destination, taken[1]))

    async def _connection(self, sender: Hashable, destination: Destination, parcel: Parcel) -> None:
        try:
            await self._carry(self, destination, parcel)
        finally:
            destination.connections -= 1
            self._connections -= 1
            _discount(self._connections_of, sender)
            _CONNECTIONS.set(self._connections)
            self._wish(destination)

    def _end_an_idle_one(self) -> None:
        """Have the connection closed that has been idle for longest: there is one for somebody else when it is."""
        if self._idle:
            _dismiss(*self._idle.popitem(last=False))

    async def next_parcel(self, destination: Destination) -> Parcel | None:
        """What a connection is to send next, waited for as long as connections may be idle; None: close it."""
        if self._is_stopping or destination.connections > max(1, int(destination.window)):
            return None
        while (taken := destination.waiting.take()) is not None:
            if self.still_held(taken[1]):
                self._wish(destination)  # the window may have opened
                return taken[1]
        if self._ready:  # another destination waits for a connection to be free
            return None
        sleeper: asyncio.Future[Parcel | None] = asyncio.get_running_loop().create_future()
        destination.sleepers.append(sleeper)
        self._idle[sleeper] = destination
        try:
            async with asyncio.timeout(self.settings.connection_idle_time):
                return await sleeper
        except TimeoutError:
            return sleeper.result() if sleeper.done() and not sleeper.cancelled() else None
        finally:
            if self._idle.pop(sleeper, None) is not None:
                destination.sleepers.remove(sleeper)

    # Out

    async def settle(self, leased: Sequence[Leased], attempt: Attempt) -> None:
        """The same outcome for all of them."""
        await self.settle_each([(each, attempt) for each in leased])

    async def settle_each(self, outcomes: Sequence[tuple[Leased, Attempt]]) -> None:
        """Make outcomes durable, then let go of the recipients."""
        try:
            await self._settle([settle(self.settings, leased, attempt) for leased, attempt in outcomes])
        except Exception:  # they come back when their leases end
            self.release([leased for leased, _ in outcomes])
            raise
        self.release([leased for leased, _ in outcomes])

    def died(self, destination: Destination) -> None:
        """A destination has just been found dead: defer what waits there."""
        self._suspend(destination, list(destination.waiting.clear()))

    def _suspend(self, destination: Destination, parcels: Sequence[Parcel]) -> None:
        """Defer without a try of their own: the destination's state speaks for all."""
        reason = destination.reason
        assert reason is not None
        if leased := [each for parcel in parcels for each in parcel.leased]:
            told = Attempt("deferred", reason.status, reason.reply, datetime.now(UTC), reason.is_remote, reason.host)
            self._spawn(self.settle(leased, told))

    def release(self, leased: Iterable[Leased]) -> None:
        """Let go of what is settled, or not ours any more."""
        for each in leased:
            if self._held.pop(each.recipient_id, None) is not None:
                _discount(self._held_of, each.domain)
                _discount(self._held_by, each.sender)
                self._released += 1
        _HELD.set(len(self._held))
        if self._is_short and (self._released >= self._worthwhile or not self._held):
            self._is_short = False
            self.on_room()

    # The end

    async def drain(self) -> list[Leased]:
        """Let running deliveries end, for as long as the settings say. Returns at once what has not begun; see ended()."""
        self._is_stopping = True
        unbegun = [each for group in self._unrouted.clear() for each in group]
        for destination in self._destinations.values():
            for parcel in destination.waiting.clear():
                unbegun += parcel.leased
        self.release(unbegun)
        while self._idle:
            _dismiss(*self._idle.popitem())
        return unbegun

    async def ended(self) -> list[Leased]:
        """Wait for what runs, cut off what takes too long. Returns what is still held: its outcome is not known."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.settings.drain_time)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await asyncio.wait(self._tasks)
        return self.held

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("delivery failed unexpectedly", exc_info=error)


def _dismiss(sleeper: "asyncio.Future[Parcel | None]", destination: Destination) -> None:
    """Tell a connection without work to close."""
    destination.sleepers.remove(sleeper)
    if not sleeper.done():
        sleeper.set_result(None)


def _discount(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def no_route(error: RouteError) -> Attempt:
    """There is no way to the domain, or none now."""
    kind: Kind = "failed" if error.permanent else "deferred"
    code = 550 if error.permanent else 450
    return Attempt(kind, error.enhanced, f"{code} {error.enhanced} {error.text}", datetime.now(UTC))
