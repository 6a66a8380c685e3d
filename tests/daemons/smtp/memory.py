"""A transport in memory: drives a real session octet by octet, and sees exactly what it writes, without a socket."""

import asyncio
from collections.abc import Callable
from typing import Any

from daemons.smtp.session import Session

DEADLINE_SECONDS = 20.0  # a test that waits longer has failed


class MemoryTransport(asyncio.Transport):
    """What the session takes for its connection."""

    def __init__(self, session: Session, peer: str) -> None:
        super().__init__({"peername": (peer, 40000)})
        self._session = session
        self._is_closing = False
        self.changed = asyncio.Event()
        self.written = bytearray()
        self.is_lost = False

    def write(self, octets: Any) -> None:
        """asyncio.WriteTransport."""
        assert not self._is_closing, "written after close"
        self.written += octets
        self.changed.set()

    def get_write_buffer_size(self) -> int:
        """asyncio.WriteTransport."""
        return 0

    def is_closing(self) -> bool:
        """asyncio.BaseTransport."""
        return self._is_closing

    def close(self) -> None:
        """asyncio.BaseTransport."""
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def abort(self) -> None:
        """asyncio.WriteTransport."""
        self.close()

    def pause_reading(self) -> None:
        """asyncio.ReadTransport."""

    def resume_reading(self) -> None:
        """asyncio.ReadTransport."""

    def reset(self) -> None:
        """The network breaks the connection."""
        self._is_closing = True
        self._lose(ConnectionResetError())

    def _lose(self, error: Exception | None = None) -> None:
        self.is_lost = True
        self._session.connection_lost(error)
        self.changed.set()


class MemoryClient:
    """The client's end: say octets, hear replies."""

    def __init__(self, session: Session, peer: str = "192.0.2.1") -> None:
        self.session = session
        self.transport = MemoryTransport(session, peer)
        session.connection_made(self.transport)

    def say(self, octets: bytes) -> None:
        """Hand octets to the session, unless it has hung up."""
        if not self.transport.is_lost:
            self.session.data_received(octets)

    async def hear(self, line_count: int) -> bytes:
        """The next replies: so many lines, or fewer when the session hangs up."""
        await self._until(lambda: self.transport.written.count(b"\r\n") >= line_count or self.transport.is_lost)
        heard = bytes(self.transport.written)
        self.transport.written.clear()
        return heard

    async def ask(self, line: bytes, line_count: int = 1) -> bytes:
        """Say one line and hear its reply."""
        self.say(line + b"\r\n")
        return await self.hear(line_count)

    async def end(self) -> bytes:
        """Send an end of file and hear all that is still said, until the session has ended."""
        if not self.transport.is_lost:
            self.session.eof_received()
        await self._until(lambda: self.transport.is_lost)
        assert self.session.task is not None
        await self.session.task
        return bytes(self.transport.written)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self.transport.changed.clear()
                await self.transport.changed.wait()
