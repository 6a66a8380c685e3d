"""IDLE, RFC 2177: changes are told as they happen, by a task that lives only while there is something to tell."""

import asyncio
from contextlib import suppress

from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import command, response
from protocol.imap.events import Line


async def idle(session: Session, _: command.Idle) -> Completion:
    """Wait for DONE. The session itself only waits for input: an idle connection costs no task and no timer more."""
    session.put(response.continuation("idling"))
    session.reader.expect_line()
    if session.selected is None:
        event = await session.next_event()
    else:
        await session.sync(tells_expunges=True)
        teller = Teller(session)
        end = session.listen(teller.wake)
        try:
            event = await session.next_event()
        finally:
            end()
            await teller.finish()
    if not isinstance(event, Line) or event.octets.upper() != b"DONE":
        raise RefusalError.bad("expected DONE")
    return Completion("idle ended")


class Teller:
    """Tells changes during IDLE. One task at a time; what comes while it runs is told by it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._task: asyncio.Task[None] | None = None
        self._is_due = False

    def wake(self) -> None:
        """Something may have changed."""
        self._is_due = True
        if self._task is None:
            self._task = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            with suppress(ConnectionError):  # the session learns of it from its input
                while self._is_due:
                    self._is_due = False
                    await self._session.sync(tells_expunges=True)
                    await self._session.flush()
        finally:
            self._task = None
        if self._session.is_over:
            self._session.connection.close()

    async def finish(self) -> None:
        """Wait until nothing is being told."""
        while self._task is not None:
            await asyncio.wait([self._task])
