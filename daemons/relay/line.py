"""A client's session on its socket: what it wants to say is sent, what comes is given to it, each within its time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from config.relay import Relay
from daemons.sockets import Connection
from protocol.smtp.client import Client, Event, Finished, Outcome, Phase, Transaction

Pieces = AsyncIterator[bytes] | bytes

CHUNK_OCTETS = 64 * 1024  # content is handed on in pieces of at least this size


class Line:
    """One session. Once the client has ended, the socket is closed or about to be."""

    def __init__(self, client: Client, socket: Connection, settings: Relay) -> None:
        self.client = client
        self.socket = socket
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        socket.send_seconds = settings.block_timeout

    def __repr__(self) -> str:
        return f"<Line {self.client!r} {self.socket!r}>"

    @property
    def is_usable(self) -> bool:
        """Whether a transaction may begin: the session has not ended, as far as can be seen without asking."""
        return self.client.is_idle and not self.socket.has_news and not self.socket.is_closing

    async def next_event(self) -> Event:
        """What happens next. There is always something: at the latest, its time runs out."""
        while not self._events:
            await self._advance()
        return self._events.popleft()

    async def deliver(self, transaction: Transaction, pieces: Pieces) -> list[Outcome]:
        """Send one message. Raises what `pieces` raises; then, and when it is cancelled, the socket is closed."""
        self._events.extend(self.client.send(transaction))
        try:
            return await self._deliver(pieces)
        except BaseException:  # the end mark must not follow
            self.socket.abort()
            self.client.abandon("given up")
            raise

    async def _deliver(self, pieces: Pieces) -> list[Outcome]:
        chunks: AsyncIterator[tuple[bytes, bool]] | None = None
        overdue = self._loop.time() + self._settings.message_timeout
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Finished):
                    if self.client.ended is not None:
                        self.socket.abort()
                    return list(event.outcomes)
            if not self.client.is_content_wanted:
                await self._advance()
            elif self._loop.time() > overdue:
                self._events.extend(self.client.abandon("the server took too long"))
            elif isinstance(pieces, bytes):
                self._events.extend(self.client.content(pieces, is_last=True))
            else:
                chunks = chunks or _chunks(pieces)
                octets, is_last = await anext(chunks)
                self._events.extend(self.client.content(octets, is_last=is_last))
                await self._flush()
                if self.socket.has_news:  # the server may say early that it takes no more
                    await self._read(self._settings.block_timeout)

    async def quit(self) -> None:
        """QUIT where that is possible, then close."""
        if self.client.is_idle:
            self.client.quit()
            with suppress(TimeoutError, ConnectionError):
                await self._flush()
                await self.socket.receive(self._settings.quit_timeout)
        self.client.abandon("quit")
        self.socket.close()

    async def _advance(self) -> None:
        """Send what is to be sent, then wait until the reply that is awaited has come, or something happened."""
        await self._flush()
        awaited = self.client.missing
        deadline = self._loop.time() + self._seconds()
        while not self._events and self.client.missing == awaited and self.client.ended is None:
            if self.client.has_output or self.client.is_content_wanted:  # one was answered, so that the next one may go
                return
            await self._read(deadline - self._loop.time())

    async def _read(self, within_seconds: float) -> None:
        try:
            octets = await self.socket.receive(max(within_seconds, 0.0))
        except TimeoutError:
            self._events.extend(self.client.abandon("the server did not answer in time"))
            return
        if octets:
            self._events.extend(self.client.receive(octets))
        else:
            self._events.extend(self.client.receive_eof())

    async def _flush(self) -> None:
        octets = self.client.take_output()
        if not octets:
            return
        try:
            await self.socket.send(octets)
        except ConnectionError:
            # What it said before it went decides, if it said anything: read on, to the end.
            while self.client.ended is None:
                await self._read(0.0)

    def _seconds(self) -> float:
        """RFC 5321 §4.5.3.2."""
        match self.client.awaiting:
            case Phase.GREETING:
                return self._settings.greeting_timeout
            case Phase.DATA:
                return self._settings.data_timeout
            case Phase.CONTENT | Phase.CHUNK:
                return self._settings.final_timeout
            case _:
                return self._settings.command_timeout


async def _chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes, bool]]:
    """The pieces, small ones put together, each with whether it is the last."""
    gathered: list[bytes] = []
    size = 0
    async for piece in pieces:
        if size >= CHUNK_OCTETS:
            yield b"".join(gathered), False
            gathered, size = [], 0
        if piece:
            gathered.append(piece)
            size += len(piece)
    yield b"".join(gathered), True
