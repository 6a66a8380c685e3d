"""The loop of a worker that takes waiting rows batch by batch: work, rest until woken, try again after failures."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg

from storage.errors import StorageError

_RETRY_SECONDS = (0.2, 1.0, 5.0, 15.0)  # between attempts while the database is away
_EXPECTED = (StorageError, asyncpg.PostgresError, OSError)


async def work(
    stopping: asyncio.Event,
    wake: asyncio.Event,
    step: Callable[[], Awaitable[bool]],
    rest: Callable[[], Awaitable[None]],
    failed: Callable[[Exception, int], None],
) -> None:
    """Until `stopping` is set: step() as long as it says that more may wait, then rest(), which ends when `wake` is set.

    What storage raises goes to failed() with the number of failures in a row, and step() is tried again later.
    """
    waker = asyncio.create_task(_wake_when(stopping, wake))
    failures = 0
    try:
        while not stopping.is_set():
            try:
                has_more = await step()
            except _EXPECTED as error:
                failed(error, failures + 1)
                await is_set_within(stopping, _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1
                continue
            failures = 0
            if not has_more:
                await rest()
    finally:
        waker.cancel()


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event was set within that time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def _wake_when(stopping: asyncio.Event, wake: asyncio.Event) -> None:
    await stopping.wait()
    wake.set()
