"""Runs the scripts that what happened over IMAP starts and that nobody has run: their process was killed, or the database away.

Any number of processes may do so: each event is one's, until its lease ends, and what its script does is stored only by that one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from daemons.context import Context
from daemons.logs import logger
from daemons.scripting.events import EventScripts
from storage import mailbox_events
from storage.errors import StorageError
from storage.pool import reported
from storage.quota import Rooms

_log = logger("scripting")
_BATCH = 100
_LOOK_SECONDS = 30.0


@asynccontextmanager
async def running_left(context: Context) -> AsyncIterator[None]:
    """Run them meanwhile."""
    task = asyncio.create_task(_keep_running(context), name="left-events")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def run_left(context: Context, events: EventScripts) -> int:
    """Run all that are due. Returns how many. Raises StorageError."""
    settings, number = context.settings.sieve, 0
    if forgotten := await mailbox_events.forget(context.pool, _BATCH, older_than_seconds=settings.event_memory):
        _log.error("scripts of IMAP events could not be run for too long: they are not run any more", events=forgotten)
    while taken := await mailbox_events.take(context.pool, _BATCH, lease_seconds=settings.event_lease):
        for left in taken:
            try:
                await events.run(left.happening, left.changed)
            except Exception:  # they come back when their lease ends; the others have their turn now
                _log.exception("script of an IMAP event", mailbox_id=left.happening.mailbox_id)
            number += len(left.changed)
    return number


async def _keep_running(context: Context) -> None:
    rooms = Rooms(context.pool, context.changes)
    events = EventScripts(context, rooms)
    try:
        while True:
            try:
                async with reported():
                    await run_left(context, events)
            except (StorageError, asyncpg.PostgresError) as error:
                _log.error("scripts of IMAP events", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(min(_LOOK_SECONDS, context.settings.sieve.event_lease))
    finally:
        rooms.close()
        await events.close()
