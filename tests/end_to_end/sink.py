"""A mail server of the outside world that takes everything and remembers by which connection, and how that ended."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

_END = b"\r\n.\r\n"


@dataclass(slots=True)
class Session:
    """One connection. Its last message is in doubt when it ended without a word behind the reply."""

    number: int
    keys: list[bytes] = field(default_factory=list)
    is_open: bool = True
    is_over: bool = False  # something was said behind the reply to the last message

    @property
    def doubtful(self) -> int | None:
        """The place of the message that the client may not know to have arrived."""
        return len(self.keys) - 1 if self.keys and not self.is_open and not self.is_over else None


class Sink:
    """Runs on a thread of its own. key: what of a message it is known by; two of the same key are the same message."""

    def __init__(self, key: Callable[[bytes], bytes]) -> None:
        self.key = key
        self.port = 0
        self.sessions: list[Session] = []
        self.contents: dict[bytes, bytes] = {}  # by key, as they came first
        self.differing: set[bytes] = set()  # keys of messages that came again with other octets
        self.count = 0  # of messages that were taken
        self.news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._started = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def open_sessions(self) -> int:
        """How many connections there are now."""
        return sum(session.is_open for session in self.sessions)

    def wait_for(self, count: int, within_seconds: float) -> None:
        """Wait until so many messages came in all, doubles included. Raises AssertionError."""
        with self.news:
            assert self.news.wait_for(lambda: self.count >= count, within_seconds), f"{self.count} of {count}"

    def take(self, session: Session, content: bytes) -> None:
        """A message has come whole; it is acknowledged behind this."""
        key = self.key(content)
        session.keys.append(key)
        session.is_over = False
        with self.news:
            if self.contents.setdefault(key, content) != content:
                self.differing.add(key)
            self.count += 1
            self.news.notify_all()

    def _run(self) -> None:
        server = self._loop.run_until_complete(self._loop.create_server(lambda: _Taker(self), "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class _Taker(asyncio.Protocol):
    """Every second connection is offered CHUNKING."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = b""
        self._is_content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._session = Session(len(self._sink.sessions) + 1)
        self._sink.sessions.append(self._session)
        transport.write(b"220 sink.test\r\n")

    def connection_lost(self, error: Exception | None) -> None:
        self._session.is_open = False

    def data_received(self, octets: bytes) -> None:
        self._buffer += octets
        while (answer := self._answer()) is not None:
            self._transport.write(answer)

    def _answer(self) -> bytes | None:
        """Take one command or one message from the buffer; None when neither is there whole."""
        if self._is_content:
            content, found, rest = (b"\r\n" + self._buffer).partition(_END)
            if not found:
                return None
            self._buffer, self._is_content = rest, False
            self._sink.take(self._session, content[2:].replace(b"\r\n..", b"\r\n.") + b"\r\n")
            return b"250 2.0.0 taken\r\n"
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return None
        verb, *words = line.split(b" ")
        if verb == b"BDAT":
            size = int(words[0])
            if len(rest) < size:
                return None
            self._buffer = rest[size:]
            self._sink.take(self._session, rest[:size])
            return b"250 2.0.0 taken\r\n"
        self._buffer = rest
        self._session.is_over = True
        if verb == b"EHLO":
            chunking = b"250-CHUNKING\r\n" if self._session.number % 2 else b""
            return b"250-sink.test\r\n250-8BITMIME\r\n250-SIZE\r\n%b250 PIPELINING\r\n" % chunking
        if verb == b"DATA":
            self._is_content = True
            return b"354 go on\r\n"
        return b"221 2.0.0 bye\r\n" if verb == b"QUIT" else b"250 2.0.0 ok\r\n"
