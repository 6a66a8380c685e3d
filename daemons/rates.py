"""What is left of a rate, in all processes together, and seldom a question to the database.

A process lets everybody have a sixteenth of the limit before it says so to the others, and takes further sixteenths from the bucket
that all share. So a sender of a few messages costs no statement, one who comes near the limit some sixteen within an hour, and more
than the limit is let through only by what processes have not said yet: a sixteenth for each but one. A limit below 16 is exact.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from config.units import HOUR
from storage import rates
from storage.pool import Pool

_KEPT = 50_000  # of whom something is known; whoever was not seen for longest is forgotten first
_SHARE = 16
_DIGEST_OCTETS = 16


@dataclass(slots=True)
class _Own:
    """What this process knows of one bucket."""

    begun_at: float
    untold: int = 0  # used up, and not said to the others
    granted: int = 0  # by the bucket, and not used up
    is_told: bool = False  # since begun_at the bucket has been asked: nothing is free any more
    empty_until: float = 0.0


class Allowances:
    """filters.ports.Allowances. One per process."""

    def __init__(
        self, pool: Pool, *, period_seconds: float = HOUR, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._period = period_seconds
        self._clock = clock
        self._own: OrderedDict[tuple[str, str], _Own] = OrderedDict()

    async def take(self, what: str, whose: str, amount: int, limit: int) -> bool:
        """Use up so much of it, if there is as much; 0: whether there is anything. Raises UnavailableError."""
        own, now = self._of(what, whose), self._clock()
        if own.empty_until > now:
            return False
        if own.granted >= max(amount, 1) or (amount == 0 and not own.is_told):
            own.granted -= amount
            return True
        if not own.is_told and own.untold + amount <= limit // _SHARE:
            own.untold += amount
            return True
        return await self._ask(own, f"{what}\0{whose}", amount, limit)

    async def _ask(self, own: _Own, name: str, amount: int, limit: int) -> bool:
        told, own.untold, own.is_told = own.untold, 0, True
        key = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_OCTETS).digest()
        wanted = max(amount, limit // _SHARE, 1)
        answer = await rates.take(self._pool, key, used=told, wanted=wanted, limit=limit, period_seconds=self._period)
        own.granted += answer.amount
        if own.granted < max(amount, 1):
            missing = max(amount, 1) - own.granted
            own.empty_until = self._clock() + (answer.used + missing - limit) * self._period / limit
            return False
        own.granted -= amount
        return True

    def _of(self, what: str, whose: str) -> _Own:
        own, now = self._own.get((what, whose)), self._clock()
        if own is None or now - own.begun_at >= self._period:
            own = self._own[what, whose] = _Own(begun_at=now)
        self._own.move_to_end((what, whose))
        while len(self._own) > _KEPT:
            self._own.popitem(last=False)
        return own
