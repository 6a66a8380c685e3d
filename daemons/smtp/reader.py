"""The octets of one session as they come in: whole lines and pieces are taken without waiting while there are any.

asyncio's StreamReader makes a task switch, a search from the start and two copies of each line; a pipelining client sends
whole transactions at once. This one keeps its buffer, flow control and end-of-file, which aiosmtpd relies on, and adds
takes that never wait. It relies on four private names of StreamReader: tests/daemons/smtp/test_reader.py holds them.
"""

import asyncio

from daemons.smtp.replies import LINE_TOO_LONG, LINE_WITHOUT_CRLF
from protocol.smtp.parameters import CommandError

UNREAD_OCTETS = 128 * 1024  # reading stops above twice this, and goes on below it


class OctetReader(asyncio.StreamReader):
    """A StreamReader with takes."""

    _buffer: bytearray
    _eof: bool
    _paused: bool

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=UNREAD_OCTETS, loop=loop)
        self._searched = 0  # octets at the start of the buffer that hold no LF
        self._is_skipping = False  # inside a line that is too long

    def take_line(self, limit_octets: int) -> bytes | None:
        """The next line without its CRLF, or None when it has not come whole.

        Raises CommandError for a line above the limit (CRLF included), which is thrown away as it comes, and for a
        line that ends in a bare LF: it was no command, and is not executed (RFC 5321 §2.3.8).
        """
        buffer = self._buffer
        end = buffer.find(b"\n", self._searched) + 1
        if not end:
            self._searched = len(buffer)
            if len(buffer) > limit_octets:
                self._is_skipping = True
                self._drop(len(buffer))
            return None
        line = bytes(buffer[:end])
        self._drop(end)
        if self._is_skipping or end > limit_octets:
            self._is_skipping = False
            raise CommandError(LINE_TOO_LONG)
        if not line.endswith(b"\r\n"):
            raise CommandError(LINE_WITHOUT_CRLF)
        return line[:-2]

    def take(self, limit_octets: int) -> bytes:
        """Up to so many octets of what has come; none when nothing has."""
        buffer = self._buffer
        octets = bytes(buffer) if len(buffer) <= limit_octets else bytes(buffer[:limit_octets])
        self._drop(len(octets))
        return octets

    def put_back(self, octets: bytes) -> None:
        """Return octets to the front."""
        if octets:
            self._buffer[:0] = octets
            self._searched = 0

    def discard(self) -> None:
        """Throw away what has come and was not taken. Reading must be paused by the caller, and is not resumed."""
        self._buffer.clear()
        self._searched = 0
        self._is_skipping = False
        self._paused = False

    def attach(self, transport: asyncio.Transport) -> None:
        """Go on with this transport, after STARTTLS."""
        self._transport = transport

    async def wait(self) -> bool:
        """Wait for octets that have not been there; False when there will be none any more. Raises ConnectionError."""
        if self.exception() is not None or self._eof:
            return False
        await self._wait_for_data("wait")  # type: ignore[attr-defined]
        return not self._eof or bool(self._buffer)

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._searched = 0
        self._maybe_resume_transport()  # type: ignore[attr-defined]
