"""Waiting work, served in turns: whoever has brought much does not delay whoever has brought little."""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

_Work = TypeVar("_Work")


class Turns(Generic[_Work]):
    """A queue for each party; the parties take turns, and each one's work is taken by priority, then in order."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, list[tuple[int, int, _Work]]] = OrderedDict()
        self._numbers = count()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<Turns {self._size} of {len(self._queues)}>"

    def add(self, party: Hashable, work: _Work, *, priority: int = 0) -> None:
        """Let it wait; a party that had nothing waiting comes next but for those that wait already."""
        heapq.heappush(self._queues.setdefault(party, []), (-priority, next(self._numbers), work))
        self._size += 1

    def put_back(self, party: Hashable, work: _Work) -> None:
        """Have it taken next: it was, and could not be done."""
        heapq.heappush(self._queues.setdefault(party, []), (-1000, next(self._numbers), work))
        self._queues.move_to_end(party, last=False)
        self._size += 1

    def take(self, may: Callable[[Hashable], bool] = lambda _: True) -> tuple[Hashable, _Work] | None:
        """The next piece of work and whose it is: of the parties that may have a turn."""
        party = next((each for each in self._queues if may(each)), None)
        if party is None:
            return None
        queue = self._queues[party]
        work = heapq.heappop(queue)[2]
        if queue:
            self._queues.move_to_end(party)
        else:
            del self._queues[party]
        self._size -= 1
        return party, work

    def party(self) -> Hashable | None:
        """Whose turn it is."""
        return next(iter(self._queues), None)

    def clear(self) -> Iterator[_Work]:
        """Take all of it."""
        while (taken := self.take()) is not None:
            yield taken[1]
