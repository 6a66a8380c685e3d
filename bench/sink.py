"""Where mail for the world ends in a benchmark: an SMTP server that takes everything, counts it and forgets it.

A process of its own, so that its CPU is nobody's: `python -m bench.sink PORT ADDRESS…`. Two verbs are for the load: XCOUNT gives
"250 messages recipients first last" (times of the first and the last message since XRESET, in seconds of time.time), XRESET
begins anew. It speaks PIPELINING, 8BITMIME, SMTPUTF8, DSN and CHUNKING, and no TLS.
"""

import asyncio
import sys
import time
from typing import cast

import uvloop

_EHLO = b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-CHUNKING\r\n250 SIZE\r\n"
_END = b"\r\n.\r\n"
_OK = b"250 ok\r\n"


class Count:
    """What has arrived."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.messages = self.recipients = 0
        self.first = self.last = 0.0

    def add(self, recipients: int) -> None:
        """A message is complete."""
        self.last = time.time()
        self.first = self.first or self.last
        self.messages += 1
        self.recipients += recipients


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._buffer = bytearray()
        self._searched = 0
        self._recipients = 0
        self._chunk: tuple[int, bool] | None = None  # of BDAT: octets, whether it is the last one
        self._is_content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, octets: bytes) -> None:
        self._buffer += octets
        answers = bytearray()
        while self._take(answers):
            pass
        if answers:
            self._transport.write(bytes(answers))

    def _take(self, answers: bytearray) -> bool:
        """Take what is next from the buffer, if it is whole."""
        if self._is_content:
            return self._take_content(answers)
        if self._chunk is not None:
            size, is_last = self._chunk
            if len(self._buffer) < size:
                return False
            del self._buffer[:size]
            self._chunk = None
            if is_last:
                self._complete()
            answers += _OK
            return True
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        answers += self._answer(line)
        return True

    def _take_content(self, answers: bytearray) -> bool:
        end = self._buffer.find(_END, self._searched)
        if end < 0:
            self._searched = max(0, len(self._buffer) - len(_END) + 1)
            return False
        del self._buffer[: end + len(_END)]
        self._is_content = False
        self._complete()
        answers += _OK
        return True

    def _complete(self) -> None:
        self._count.add(self._recipients)
        self._recipients = 0

    def _answer(self, line: bytes) -> bytes:
        match line.split(b" ", 1)[0].upper():
            case b"EHLO":
                return _EHLO
            case b"RCPT":
                self._recipients += 1
            case b"DATA":
                self._is_content, self._searched = True, 0
                return b"354 go\r\n"
            case b"BDAT":
                words = line.split()
                self._chunk = int(words[1]), len(words) > 2
                return b""
            case b"QUIT":
                self._transport.write(b"221 bye\r\n")
                self._transport.close()
                return b""
            case b"MAIL" | b"RSET":
                self._recipients = 0
            case b"XRESET":
                self._count.reset()
            case b"XCOUNT":
                count = self._count
                return b"250 %d %d %.6f %.6f\r\n" % (count.messages, count.recipients, count.first, count.last)
        return _OK


async def serve(port: int, addresses: list[str]) -> None:
    """Listen until killed."""
    count, loop = Count(), asyncio.get_running_loop()
    for address in addresses:
        await loop.create_server(lambda: Session(count), address, port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2:]))
