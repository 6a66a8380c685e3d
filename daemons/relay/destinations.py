"""How much a destination takes: a window of connections that grows with success and shrinks with refusals, and its death.

Nothing here does I/O; moments are those of time.monotonic(), and come in as arguments.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field

from config.relay import Relay
from daemons.relay.attempt import Attempt
from daemons.relay.parcel import Parcel
from daemons.relay.turns import Turns

_DOUBLING_LIMIT = 16  # of the pause; far beyond every sensible limit of it
_CAUTION = 4  # windows full of successes that open the window by one, once there was a refusal
_MEMORY_SECONDS = 3600.0  # for which a failure is remembered without anything waiting


@dataclass(slots=True)
class Destination:
    """One place that mail goes to, as one process sees it.

    The window opens with each success by one, so it doubles while all of it is in use (slow start). A refusal halves it, once
    for all connections that were open by then, and from there on it opens slowly: who has said what is too much need not
    say so again and again. A destination that cannot be reached is dead after a few
    failures in a row: what waits is deferred, and later one transaction at a time probes it.
    """

    name: Hashable
    settings: Relay
    waiting: Turns[Parcel] = field(default_factory=Turns)
    connections: int = 0
    sleepers: list["asyncio.Future[Parcel | None]"] = field(default_factory=list)  # connections without work
    window: float = 0.0
    failures: int = 0  # to connect, in a row
    dead_until: float | None = None
    reason: Attempt | None = None  # why it is dead
    failed_at: float = float("-inf")
    _halved_at: float = float("-inf")
    _known_limit: float = float("inf")  # of the window, by the last refusal

    def __post_init__(self) -> None:
        self.window = float(min(self.settings.destination_connection_start, self.settings.destination_connection_limit))

    def __repr__(self) -> str:
        state = "" if self.dead_until is None else ", dead"
        return f"<Destination {self.connections} of {self.window:.0f} connections, {len(self.waiting)} waiting{state}>"

    def may_open(self) -> bool:
        """Whether one more connection may be opened for what waits.

        A further one is worth its while when there are two messages for each that there is: for less, one comes free before
        it is open. (A dead one has something waiting only to be probed.)
        """
        if self.dead_until is not None:
            return len(self.waiting) > 0 and not self.connections
        least = 0 if self.connections < self.settings.destination_connection_start else 2 * self.connections
        return len(self.waiting) > least and self.connections < int(self.window)

    def is_closed(self, now: float) -> bool:
        """Whether new work is to be deferred at once: the destination is dead, and not to be probed yet, or being probed."""
        if self.dead_until is None:
            return False
        return now < self.dead_until or self.connections > 0 or len(self.waiting) > 0

    def succeeded(self) -> None:
        """A server took a message, or refused it for reasons of its own."""
        step = 1.0 if self.window < self._known_limit else 1.0 / (_CAUTION * self.window)
        self.window = min(self.window + step, float(self.settings.destination_connection_limit))
        self.answered()

    def answered(self) -> None:
        """A server is there, and took nothing yet."""
        self.failures, self.dead_until, self.reason = 0, None, None

    def refused(self, opened_at: float, now: float) -> None:
        """A server said that it is too much, on a connection opened then."""
        if opened_at > self._halved_at:
            self.window = self._known_limit = max(1.0, self.window / 2)
            self._halved_at = now

    def failed(self, attempt: Attempt, opened_at: float, now: float) -> bool:
        """No server could be reached or would talk with us. Returns whether the destination is dead now."""
        self.refused(opened_at, now)
        self.failures, self.failed_at = self.failures + 1, now
        over = self.failures - self.settings.destination_failures
        if over < 0:
            return False
        pause = self.settings.destination_pause * 2 ** min(over, _DOUBLING_LIMIT)
        self.dead_until = now + min(pause, self.settings.destination_pause_limit)
        self.reason = attempt
        self.window, self._known_limit = 1.0, float("inf")
        return True

    def is_forgettable(self, now: float) -> bool:
        """Whether nothing would be lost with it."""
        return not self.connections and not self.waiting and now - self.failed_at > _MEMORY_SECONDS
