"""Signs of life from commands that take long: the response code INPROGRESS, RFC 9585."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemons.access.imap.session import Session
from protocol.imap import response


class Progress:
    """Tells how far a command has come, every progress_interval. It costs a look at the clock when there is nothing to tell."""

    def __init__(self, session: Session, tag: bytes, goal: int | None = None) -> None:
        self._session = session
        self._tag = tag
        self._goal = goal
        self._due = time.monotonic() + session.shared.settings.progress_interval

    async def tick(self, done: int) -> None:
        """So much is done. Only between two responses. Raises ConnectionError."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._session.shared.settings.progress_interval
            self._session.put(response.in_progress(self._tag, done, self._goal))
            await self._session.flush()


@asynccontextmanager
async def alive(session: Session, tag: bytes) -> AsyncIterator[None]:
    """While the body waits for what tells no progress, such as one long statement. Nothing else may be sent in it."""
    loop = asyncio.get_running_loop()
    interval = session.shared.settings.progress_interval
    octets = response.in_progress(tag)

    timer: asyncio.TimerHandle | None = None

    def wait() -> None:
        nonlocal timer
        timer = loop.call_later(interval, tell)

    def tell() -> None:
        session.connection.write(octets)
        wait()

    wait()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
