"""Facts computed at intake, read from the database for runs of messages: the next run is read while this one is worked on.

At most two runs are in memory. Facts belong to contents, which never change, so reading ahead shows nothing stale; which
messages are still there is for the caller to look up when it comes to a run.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import asyncpg

from storage import messages
from storage.messages import Fact
from storage.pool import Pool, reported

Run = TypeVar("Run")
Facts = Mapping[int, asyncpg.Record]  # by content id


async def facts_of(
    pool: Pool, runs: Iterable[Run], contents_of: Callable[[Run], Sequence[int]], columns: Sequence[Fact]
) -> AsyncGenerator[tuple[Run, Facts], None]:
    """Each run with its facts; contents that are gone have none. Close it (aclosing): a query may be under way.

    `contents_of` is called when the reading of a run begins. Without columns nothing is read. Raises StorageError.
    """
    if not columns:
        for run in runs:
            yield run, {}
        return
    waiting = iter(runs)
    try:
        run = next(waiting)
    except StopIteration:
        return
    found = await _read(pool, contents_of(run), columns)
    for following in waiting:
        ahead = asyncio.create_task(_read(pool, contents_of(following), columns))
        try:
            yield run, found
            found = await ahead
        finally:
            await _end(ahead)
        run = following
    yield run, found


async def _read(pool: Pool, contents: Sequence[int], columns: Sequence[Fact]) -> Facts:
    if not contents:
        return {}
    async with reported(), pool.acquire() as connection:
        return await messages.facts(connection, contents, columns)


async def _end(task: "asyncio.Task[Facts]") -> None:
    """Cancel it if it still runs, and wait for it; whoever still wants its error has had it."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
