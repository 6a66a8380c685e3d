"""IDLE, RFC 2177, and the task that tells changes while a session waits: in IDLE, and at any time after NOTIFY (RFC 5465)."""

import asyncio
from contextlib import suppress

from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import command, response
from protocol.imap.events import Line


async def idle(session: Session, _: command.Idle) -> Completion:
    """Wait for DONE. The session itself only waits for input: an idle connection costs no task and no timer more."""
    session.put(response.continuation("idling"))
    session.reader.expect_line()
    notifier = session.notifier
    if session.selected is None and notifier is None:
        event = await session.next_event()
    else:
        teller = session.teller = Teller(session) if notifier is None else notifier.teller
        teller.is_idling = True
        # A notifier that tells at any time listens already. Otherwise listen first: what comes while the changes up to
        # now are told wakes the teller when the session waits.
        listens = session.selected is not None and (notifier is None or not notifier.is_pushing)
        end = session.listen(teller.wake) if listens else None
        try:
            await teller.tell()
            event = await session.next_event()
        finally:
            teller.is_idling = False
            session.teller = None
            if end is not None:
                end()
    if not isinstance(event, Line) or event.octets.upper() != b"DONE":
        raise RefusalError.bad("expected DONE")
    return Completion("idle ended")


class Teller:
    """Tells changes, but only while the session waits for its client: between begin() and hold().

    One task at a time; what comes while it runs is told by it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._task: asyncio.Task[None] | None = None
        self._is_due = False
        self._is_open = False
        self.is_idling = False

    def wake(self) -> None:
        """Something may have changed."""
        self._is_due = True
        if self._is_open and self._task is None:
            self._task = asyncio.create_task(self._run())

    def begin(self) -> None:
        """The session waits for its client, and all its output is sent."""
        self._is_open = True
        if self._is_due:
            self.wake()

    async def hold(self) -> None:
        """Nothing is told any more when this returns; what comes is told after the next begin()."""
        self._is_open = False
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            with suppress(ConnectionError):  # the session learns of it from its input
                while self._is_due and self._is_open:
                    await self.tell()
                    await self._session.flush()
        finally:
            self._task = None
        if self._session.is_over:
            self._session.connection.close()

    async def tell(self) -> None:
        """Put what has changed."""
        self._is_due = False
        notifier = self._session.notifier
        is_immediate = notifier is not None and notifier.is_immediate
        await self._session.sync(tells_expunges=self.is_idling or is_immediate)
        if notifier is not None:
            await notifier.tell()
