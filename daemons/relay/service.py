"""relay: delivers the outbound queue. The claim loop is in place; what it claims is delivered from the relay's own issue on.

Until then a claimed recipient is left to its lease: it comes back, and nothing is lost. Idle cost: one small query a minute.
"""

import asyncio
from contextlib import suppress

import asyncpg
from prometheus_client import Gauge

from daemons.context import Context
from daemons.logs import logger
from daemons.runtime import Ready
from storage import outbound
from storage.errors import StorageError
from storage.notifications import OUTBOUND
from storage.pool import Pool, reported

_log = logger("relay")
_POLL_SECONDS = 60.0  # a lost wake-up costs this much
_WAITING = Gauge("postwerk_outbound_waiting", "Recipients that wait for delivery.", multiprocess_mode="mostrecent")


async def look(pool: Pool) -> float:
    """Note how the queue stands. Returns the seconds until it has to be looked at again."""
    async with reported(), pool.acquire() as connection:
        waiting, next_seconds = await outbound.standing(connection)
    _WAITING.set(waiting)
    return _POLL_SECONDS if next_seconds is None else min(max(next_seconds, 1.0), _POLL_SECONDS)


async def serve(context: Context, stopping: asyncio.Event, ready: Ready) -> None:
    """Watch the queue until `stopping` is set."""
    wake = asyncio.Event()
    forget = context.changes.on(OUTBOUND, wake.set)
    waker = asyncio.create_task(_wake_when(stopping, wake))
    ready({})
    try:
        while not stopping.is_set():
            wake.clear()
            pause = _POLL_SECONDS
            try:
                pause = await look(context.pool)
            except (StorageError, asyncpg.PostgresError) as error:
                _log.error("queue cannot be read", error=str(error))
            if not stopping.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await wake.wait()
    finally:
        waker.cancel()
        forget()


async def _wake_when(stopping: asyncio.Event, wake: asyncio.Event) -> None:
    await stopping.wait()
    wake.set()
