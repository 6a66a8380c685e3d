"""Client sides of SMTP, LMTP, IMAP and POP3 for load: as little Python per octet as possible, one future per answer.

They understand only what a load needs: where an answer ends and whether it is good. Never a mail client's parser.
"""

import asyncio
import re
import ssl
import time
import zlib
from dataclasses import dataclass
from typing import cast

Endpoint = tuple[str, int] | str  # (host, port), or the path of a Unix socket

_FINAL_REPLY = re.compile(rb"^\d{3}(?=[ \r])[^\n]*\n", re.MULTILINE)


class AnswerError(Exception):
    """The server answered something else than the load expects; the text is its answer."""


class Stream(asyncio.Protocol):
    """Octets collected until the pattern that ends an answer is there."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._lost: Exception | None = None
        self._inflating: zlib._Decompress | None = None
        self._deflating: zlib._Compress | None = None
        self.received_octets = 0  # as they came, compressed or not

    @property
    def transport(self) -> asyncio.Transport:
        """The transport; there is one as soon as connect() has returned."""
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, octets: bytes) -> None:
        self.received_octets += len(octets)
        self._chunks.append(self._inflating.decompress(octets) if self._inflating else octets)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = error or ConnectionResetError("closed by the server")
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def more(self) -> None:
        """Wait until something new arrived. Raises ConnectionError when the server is gone."""
        if self._lost:
            raise ConnectionError(str(self._lost)) from self._lost
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def write(self, octets: bytes) -> None:
        """Send, compressed after compress()."""
        if self._deflating:
            octets = self._deflating.compress(octets) + self._deflating.flush(zlib.Z_SYNC_FLUSH)
        self.transport.write(octets)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """From now on both directions are TLS, after the server has agreed."""
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self.transport, self, context, server_hostname="localhost")
        assert transport is not None
        self._transport = transport

    def compress(self) -> None:
        """From now on both directions are DEFLATE (RFC 4978)."""
        self._inflating = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        self._deflating = zlib.compressobj(wbits=-zlib.MAX_WBITS)

    def take(self) -> bytes:
        """All that arrived and was not taken yet."""
        octets = b"".join(self._chunks)
        self._chunks.clear()
        return octets

    def last(self, count: int) -> bytes:
        """The last `count` octets that arrived, without taking them."""
        tail = b""
        for chunk in reversed(self._chunks):
            tail = chunk[-count:] + tail
            if len(tail) >= count:
                break
        return tail[-count:]

    async def replies(self, count: int) -> list[bytes]:
        """`count` SMTP replies, the last line of each."""
        while True:
            octets = b"".join(self._chunks)
            found = [match.group() for match in _FINAL_REPLY.finditer(octets)]
            if len(found) >= count:
                self._chunks.clear()
                return found
            await self.more()

    def close(self) -> None:
        """Close without ceremony."""
        if self._transport:
            self._transport.close()


async def connect(endpoint: Endpoint, tls: ssl.SSLContext | None = None) -> Stream:
    """Connect a Stream."""
    loop = asyncio.get_running_loop()
    if isinstance(endpoint, str):
        _, stream = await loop.create_unix_connection(Stream, endpoint)
        return stream
    server_hostname = "localhost" if tls else None
    _, stream = await loop.create_connection(Stream, *endpoint, ssl=tls, server_hostname=server_hostname)
    return stream


@dataclass(slots=True)
class Answer:
    """A whole answer and how long it took from the command's first octet to the answer's last."""

    octets: bytes
    seconds: float


class Imap:
    """One IMAP session for load."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._number = 0

    @property
    def received_octets(self) -> int:
        """What the server has sent so far, as it came."""
        return self._stream.received_octets

    @classmethod
    async def login(cls, endpoint: Endpoint, login: str, password: str, tls: ssl.SSLContext | None) -> "Imap":
        """Connect, read the greeting, log in."""
        session = cls(await connect(endpoint, tls))
        while not session._stream.take().endswith(b"\n"):
            await session._stream.more()
        await session.command(f'LOGIN "{login}" "{password}"')
        return session

    async def command(self, text: str) -> Answer:
        """Send a command, wait for its tagged answer. Raises AnswerError unless it is OK."""
        self._number += 1
        tag = b"L%06d" % self._number
        end = re.compile(rb"(?:^|\r\n)%s (OK|NO|BAD)[^\r\n]*\r\n\Z" % tag)
        started = time.perf_counter()
        self._stream.write(tag + b" " + text.encode() + b"\r\n")
        while not (found := end.search(self._stream.last(2048))):
            await self._stream.more()
        taken = time.perf_counter() - started
        octets = self._stream.take()
        if found[1] != b"OK":
            raise AnswerError(f"{text[:60]}: {octets[-200:]!r}")
        return Answer(octets, taken)

    async def compress(self) -> None:
        """COMPRESS DEFLATE (RFC 4978)."""
        await self.command("COMPRESS DEFLATE")
        self._stream.compress()

    async def idle(self) -> None:
        """Begin IDLE (RFC 2177)."""
        self._number += 1
        self._stream.write(b"L%06d IDLE\r\n" % self._number)
        while not self._stream.take().startswith(b"+"):
            await self._stream.more()

    async def told(self, pattern: "re.Pattern[bytes]") -> float:
        """Wait in IDLE until what came matches; gives the time (time.perf_counter)."""
        octets = b""
        while not pattern.search(octets := octets + self._stream.take()):
            await self._stream.more()
        return time.perf_counter()

    async def end_idle(self) -> None:
        """DONE."""
        self._stream.write(b"DONE\r\n")
        await self.told(re.compile(rb"^L%06d OK" % self._number, re.MULTILINE))

    def close(self) -> None:
        """Close without a word."""
        self._stream.close()

    async def messages(self, mailbox: str = "INBOX") -> int:
        """The mailbox's number of messages by STATUS."""
        answer = await self.command(f"STATUS {mailbox} (MESSAGES)")
        found = re.search(rb"MESSAGES (\d+)", answer.octets)
        assert found, answer.octets
        return int(found[1])

    async def logout(self) -> None:
        """End the session."""
        await self.command("LOGOUT")
        self._stream.close()


class Pop3:
    """One POP3 session for load."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @classmethod
    async def begin(cls, endpoint: Endpoint, login: str, tls: ssl.SSLContext | None) -> "Pop3":
        """Connect and say who is there; the password is still to come."""
        session = cls(await connect(endpoint, tls))
        await session.line()
        await session.command(f"USER {login}")
        return session

    @classmethod
    async def login(cls, endpoint: Endpoint, login: str, password: str, tls: ssl.SSLContext | None) -> "Pop3":
        """Connect and log in."""
        session = await cls.begin(endpoint, login, tls)
        await session.command(f"PASS {password}")
        return session

    async def line(self) -> bytes:
        """One single-line answer. Raises AnswerError unless it is +OK."""
        while not self._stream.last(2).endswith(b"\n"):
            await self._stream.more()
        octets = self._stream.take()
        if not octets.startswith(b"+OK"):
            raise AnswerError(repr(octets[:200]))
        return octets

    async def command(self, text: str) -> bytes:
        """A command with a single-line answer."""
        self._stream.transport.write(text.encode() + b"\r\n")
        return await self.line()

    async def multi(self, text: str) -> Answer:
        """A command with a multi-line answer."""
        started = time.perf_counter()
        self._stream.transport.write(text.encode() + b"\r\n")
        while self._stream.last(5) != b"\r\n.\r\n":
            await self._stream.more()
        taken = time.perf_counter() - started
        octets = self._stream.take()
        if not octets.startswith(b"+OK"):
            raise AnswerError(repr(octets[:200]))
        return Answer(octets, taken)

    async def quit(self) -> None:
        """End the session."""
        await self.command("QUIT")
        self._stream.close()
