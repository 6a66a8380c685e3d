"""Listeners and connections: octets in, octets out, with time limits, back-pressure and STARTTLS. No protocol here.

The session code owns the conversation: it awaits `receive` and `send` of a Connection and returns when it is done.
Works on uvloop and asyncio alike.
"""

import asyncio
import secrets
import socket
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from config.listen import split_address
from config.tls import Tls
from daemons.compression import Deflate
from daemons.logs import logger

CHUNK_OCTETS = 64 * 1024  # what one read takes from the kernel, and what receive() gives at most
UNREAD_OCTETS = 256 * 1024  # received and not yet consumed by the session: above this we stop reading
UNSENT_OCTETS = 64 * 1024  # written and not yet taken by the kernel: above this send() waits
SEND_SECONDS = 60.0  # how long a peer may refuse to read before it is cut off
TLS_HANDSHAKE_SECONDS = 30.0
TLS_SHUTDOWN_SECONDS = 3.0

log = logger("sockets")

Handler = Callable[["Connection"], Awaitable[None]]

# One read buffer for all connections of the process: the loop fills it and hands it over within one call.
_SHARED = memoryview(bytearray(CHUNK_OCTETS))


class Networks:
    """A set of networks that can be asked for an address, e.g. settings.trusted_networks."""

    def __init__(self, cidrs: Sequence[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(cidr, strict=False) for cidr in cidrs]
        self._known: dict[str, bool] = {}

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        known = self._known.get(address)
        if known is None:
            try:
                parsed = ip_address(address)
                known = any(parsed in network for network in self._networks)
            except ValueError:
                known = False
            if len(self._known) >= 4096:
                self._known.clear()
            self._known[address] = known
        return known

    def __repr__(self) -> str:
        return f"Networks({[str(network) for network in self._networks]})"


class Connection(asyncio.BufferedProtocol):
    """One accepted connection.

    peer and local are IP addresses in text form. is_trusted: peer lies in trusted_networks. is_secure: TLS is on.
    """

    peer = ""
    local = ""
    is_secure = False
    is_trusted = False

    def __init__(self, accepted: Callable[["Connection"], None], closed: Callable[["Connection"], None]) -> None:
        self.send_seconds = SEND_SECONDS
        self._loop = asyncio.get_running_loop()
        self._accepted = accepted
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._is_paused = False
        self._is_eof = False
        self._is_lost = False
        self._is_blocked = False
        self._coding: Deflate | None = None
        self._reading: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __repr__(self) -> str:
        state = "lost" if self._is_lost else "eof" if self._is_eof else "open"
        return f"<Connection {state}{' secure' if self.is_secure else ''} unread={self._unread}>"

    # -- what sessions use ------------------------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._is_lost or self._transport is None or self._transport.is_closing()

    @property
    def has_news(self) -> bool:
        """Whether receive() would give something at once: octets, or the end."""
        return bool(self._chunks) or self._is_eof

    async def receive(self, within_seconds: float) -> bytes:
        """The next octets, at most 64 KiB; b"" at the end.

        Raises TimeoutError when none come in time, CompressionError when they cannot be inflated.
        """
        if self._coding is None:
            return await self._receive(within_seconds)
        while not (octets := self._coding.take(CHUNK_OCTETS)):
            if self._coding.is_over or not (block := await self._receive(within_seconds)):
                return b""
            self._coding.give(block)
        return octets

    async def _receive(self, within_seconds: float) -> bytes:
        """The next octets as they came."""
        if not self._chunks:
            if self._is_eof:
                return b""
            await self._wait_for_octets(within_seconds)
            if not self._chunks:
                return b""
        chunk = self._chunks.popleft()
        self._unread -= len(chunk)
        if self._is_paused and self._unread <= UNREAD_OCTETS // 4:
            self._is_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
        return chunk

    async def send(self, octets: bytes) -> None:
        """Write; wait only while more than 64 KiB are unsent. Raises ConnectionError when the peer is gone or stuck."""
        self.write(octets)
        if self._is_lost:
            raise ConnectionResetError("connection lost")
        if not self._is_blocked:
            return
        self._writing = self._loop.create_future()
        try:
            async with asyncio.timeout(self.send_seconds):
                await self._writing
        except TimeoutError:
            self.abort()
            raise ConnectionAbortedError("peer does not read") from None
        finally:
            self._writing = None

    def write(self, octets: bytes) -> None:
        """Write without waiting: for small replies. After the connection is gone it does nothing."""
        if self._transport is not None and octets and not self._is_lost:
            self._transport.write(octets if self._coding is None else self._compressed(self._coding, octets))

    def _compressed(self, coding: Deflate, octets: bytes) -> bytes:
        compressed = coding.outgoing(octets)
        if self._reading is not None:  # said while we wait for the peer, as in IDLE: there is nothing to follow
            coding.rest()
        return compressed

    def start_compression(self, inflate_limit: int) -> None:
        """Go on in DEFLATE, both ways (RFC 4978 §3). inflate_limit: octets that one received block may become."""
        self._coding = Deflate(inflate_limit)

    @property
    def is_compressed(self) -> bool:
        """Whether start_compression() was called."""
        return self._coding is not None

    async def start_tls(self, context: ssl.SSLContext, answer: bytes = b"") -> None:
        """Send `answer` in the clear, then go on in TLS. Raises ConnectionError or ssl.SSLError if the handshake fails.

        Whatever came in the clear and was not consumed is thrown away: it may be an attacker's (CVE-2011-0411).
        `answer` is sent here, after reading has stopped, so that no part of the handshake is taken for plain text.
        """
        await self._secure(context, answer, TLS_HANDSHAKE_SECONDS, server_side=True)

    async def start_tls_as_client(
        self, context: ssl.SSLContext, server_name: str | None, within_seconds: float = TLS_HANDSHAKE_SECONDS
    ) -> None:
        """The same from the other side. server_name: for SNI. Raises ConnectionError or ssl.SSLError."""
        await self._secure(context, b"", within_seconds, server_side=False, server_name=server_name)

    async def _secure(
        self,
        context: ssl.SSLContext,
        answer: bytes,
        within_seconds: float,
        *,
        server_side: bool,
        server_name: str | None = None,
    ) -> None:
        transport = self._transport
        if transport is None or self.is_closing:
            raise ConnectionResetError("connection lost")
        transport.pause_reading()
        self._chunks.clear()
        self._unread, self._is_paused = 0, False
        transport.write(answer)
        try:
            secured = await self._loop.start_tls(
                transport,
                self,
                context,
                server_side=server_side,
                server_hostname=server_name,
                ssl_handshake_timeout=within_seconds,
                ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS,
            )
        except TimeoutError:
            self.abort()
            raise ConnectionAbortedError("TLS handshake took too long") from None
        if secured is None or self._is_lost:
            raise ConnectionResetError("connection lost")
        self._transport = secured
        secured.set_write_buffer_limits(high=UNSENT_OCTETS)
        self.is_secure = True

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS state, for its version, cipher and channel binding."""
        found = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return found if isinstance(found, ssl.SSLObject) else None

    def close(self) -> None:
        """Send what is unsent, then close."""
        if self._transport is not None:
            self._transport.close()
        self._chunks.clear()
        self._is_eof = True
        self._wake_reader()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
        self._chunks.clear()
        self._is_eof = True
        self._wake_reader()

    # -- what the loop calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio.BaseProtocol."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports are no subclass
        self.peer = _host(transport.get_extra_info("peername"))
        self.local = _host(transport.get_extra_info("sockname"))
        self.is_secure = transport.get_extra_info("sslcontext") is not None
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=UNSENT_OCTETS)
        self._accepted(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio.BufferedProtocol."""
        return _SHARED

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio.BufferedProtocol."""
        self._chunks.append(bytes(_SHARED[:nbytes]))
        self._unread += nbytes
        if self._unread > UNREAD_OCTETS and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        """asyncio.BufferedProtocol. What is unsent can still go out, except in TLS, where the loop closes both ways."""
        self._is_eof = True
        self._wake_reader()
        return not self.is_secure

    def pause_writing(self) -> None:
        """asyncio.BaseProtocol."""
        self._is_blocked = True

    def resume_writing(self) -> None:
        """asyncio.BaseProtocol."""
        self._is_blocked = False
        if self._writing is not None and not self._writing.done():
            self._writing.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio.BaseProtocol."""
        self._is_eof = self._is_lost = True
        self._transport = None
        self._wake_reader()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None and not self._writing.done():
            self._writing.set_exception(ConnectionResetError("connection lost"))
        self._closed(self)

    # -- waiting ----------------------------------------------------------------------------------------------------

    async def _wait_for_octets(self, within_seconds: float) -> None:
        if self._reading is not None:
            raise RuntimeError("two tasks receive from one connection")
        if self._coding is not None:
            self._coding.rest()
        self._deadline = self._loop.time() + within_seconds
        # The timer is not moved for each read: when it fires early it is set anew. A busy session sets none at all.
        if self._timer is None or self._timer_at > self._deadline:
            self._set_timer()
        self._reading = self._loop.create_future()
        try:
            await self._reading
        finally:
            self._reading = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Not asked of the handle: for a moment that is now, uvloop gives one without when().
        self._timer, self._timer_at = self._loop.call_at(self._deadline, self._check_deadline), self._deadline

    def _check_deadline(self) -> None:
        self._timer = None
        if self._reading is None or self._reading.done():
            return
        if self._loop.time() >= self._deadline:
            self._reading.set_exception(TimeoutError("peer is silent"))
        else:
            self._set_timer()

    def _wake_reader(self) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(None)


def _host(name: object) -> str:
    return str(name[0]) if isinstance(name, tuple) and name else ""


class Listener:
    """Some listening sockets that share one handler and one set of limits."""

    def __init__(
        self, handler: Handler, trusted: Networks, limit: int | None, limit_per_peer: int | None, refusal: bytes
    ) -> None:
        self.endpoints: list[tuple[str, int]] = []
        self._handler = handler
        self._trusted = trusted
        self._limit = limit
        self._limit_per_peer = limit_per_peer
        self._refusal = refusal
        self._servers: list[asyncio.Server] = []
        self._tasks: dict[Connection, asyncio.Task[None]] = {}
        self._peers: Counter[str] = Counter()

    @property
    def connection_count(self) -> int:
        """How many conversations are going on."""
        return len(self._tasks)

    async def open(self, addresses: Sequence[str], tls: ssl.SSLContext | None, backlog: int) -> None:
        """Listen on every address. Raises OSError naming the address that cannot be had."""

        def connection() -> Connection:
            return Connection(self._accept, self._forget)

        for address in addresses:
            async for server, endpoint in serving(address, connection, tls, backlog):
                self._servers.append(server)
                self.endpoints.append(endpoint)

    async def drain(self, within_seconds: float) -> None:
        """Accept no more, wait for the conversations to end, cut off those that have not ended in time."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        tasks = list(self._tasks.values())
        if tasks and within_seconds > 0:
            await asyncio.wait(tasks, timeout=within_seconds)
        for connection, task in list(self._tasks.items()):
            task.cancel()
            connection.abort()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, connection: Connection) -> None:
        connection.is_trusted = connection.peer in self._trusted
        self._peers[connection.peer] += 1
        if not connection.is_trusted and self._is_full(connection.peer):
            connection.write(self._refusal)
            connection.close()
            return
        self._tasks[connection] = asyncio.create_task(self._converse(connection))

    def _is_full(self, peer: str) -> bool:
        return (self._limit is not None and len(self._tasks) >= self._limit) or (
            self._limit_per_peer is not None and self._peers[peer] > self._limit_per_peer
        )

    def _forget(self, connection: Connection) -> None:
        self._peers[connection.peer] -= 1
        if self._peers[connection.peer] <= 0:
            del self._peers[connection.peer]

    async def _converse(self, connection: Connection) -> None:
        try:
            await self._handler(connection)
        except (ConnectionError, TimeoutError, ssl.SSLError) as error:
            log.debug("connection ended", reason=type(error).__name__)
        except Exception:
            log.exception("conversation failed", error_id=secrets.token_hex(6))
        finally:
            self._tasks.pop(connection, None)
            connection.close()


def bind(address: str, backlog: int = 1024) -> list[socket.socket]:
    """Listening sockets for "host:port": one per address family of the name. Raises OSError naming the address.

    SO_REUSEPORT lets several processes share the port; the kernel spreads connections over them.
    """
    host, port = split_address(address)
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, place in found:
            listening_socket = socket.socket(family, kind, protocol)
            bound.append(listening_socket)
            listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listening_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening_socket.bind(place)
            listening_socket.listen(backlog)
            listening_socket.setblocking(False)
    except OSError as error:
        for opened in bound:
            opened.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
    return bound


async def serving(
    address: str, protocol: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext | None, backlog: int
) -> AsyncIterator[tuple[asyncio.Server, tuple[str, int]]]:
    """Servers for "host:port", each with where it listens; tls: begin with it. Raises OSError naming the address."""
    for bound in bind(address, backlog):
        server = await asyncio.get_running_loop().create_server(
            protocol,
            sock=bound,
            ssl=tls,
            backlog=backlog,
            ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS if tls else None,
            ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS if tls else None,
        )
        yield server, bound.getsockname()[:2]


@asynccontextmanager
async def listening(
    addresses: Sequence[str],
    handler: Handler,
    *,
    tls: ssl.SSLContext | None = None,
    trusted: Networks | None = None,
    backlog: int = 1024,
    limit: int | None = None,
    limit_per_peer: int | None = None,
    refusal: bytes = b"",
) -> AsyncIterator[Listener]:
    """Listen on `addresses` and run `handler` for each connection, as its own task, until the block is left.

    tls: begin with TLS. limit: connections at a time over all addresses; limit_per_peer: from one IP address. A
    connection above them gets the octets of `refusal` and is closed; trusted peers always get in. An exception that
    leaves the handler is logged with an id and closes its connection. Leaving the block without drain() cuts
    conversations off.
    """
    listener = Listener(handler, trusted or Networks(), limit, limit_per_peer, refusal)
    try:
        await listener.open(addresses, tls, backlog)
        yield listener
    finally:
        await listener.drain(0)


def server_tls_context(tls: Tls) -> ssl.SSLContext:
    """The server side's TLS context: one per process. Raises OSError or ssl.SSLError when the files are unusable.

    Session tickets stay on: a resumed handshake costs a fraction. Names of clients are not asked for.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.minimum == "TLSv1.3" else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.load_cert_chain(tls.certificate, tls.key or None)
    return context
