"""Counts that are kept in memory for a while and then brought to the database together: who counts never waits.

A process that is killed loses the last of them, and while the database is away the oldest go first.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import asyncpg

from daemons.logs import logger
from storage.errors import StorageError

_Kind = TypeVar("_Kind", bound=Hashable)

_log = logger("tally")


class Tally(Generic[_Kind]):
    """Counts by kind."""

    def __init__(
        self, name: str, write: Callable[[Counter[_Kind]], Awaitable[object]], *, limit: int, seconds: float
    ) -> None:
        """write adds the counts to those in the database; limit is of kinds in memory, seconds how long they stay there."""
        self._name = name
        self._write = write
        self._limit = limit
        self._seconds = seconds
        self._counted: Counter[_Kind] = Counter()
        self._flushing: asyncio.Task[None] | None = None

    def add(self, kind: _Kind) -> None:
        """Count one more."""
        self._counted[kind] += 1
        while len(self._counted) > self._limit:
            del self._counted[next(iter(self._counted))]
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_soon(), name=self._name)

    async def flush(self) -> None:
        """Bring to the database what was counted. What that raises (StorageError) leaves it counted here."""
        if not self._counted:
            return
        counted, self._counted = self._counted, Counter()
        try:
            await self._write(counted)
        except BaseException:
            counted.update(self._counted)
            self._counted = counted
            raise

    async def close(self) -> None:
        """Bring to the database what is counted, if that can be done now."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait([self._flushing])
        await self._try_flush()

    def drop(self) -> None:
        """Forget what is not in the database."""
        self._counted.clear()
        if self._flushing is not None:
            self._flushing.cancel()

    async def _flush_soon(self) -> None:
        while self._counted:  # more may be counted while it is written
            await asyncio.sleep(self._seconds)
            await self._try_flush()

    async def _try_flush(self) -> None:
        try:
            await self.flush()
        except (StorageError, asyncpg.PostgresError) as error:
            _log.error("counts cannot be kept", name=self._name, error=f"{type(error).__name__}: {error}")
