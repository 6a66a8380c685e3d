"""Listeners and connections: time limits, back-pressure, limits, STARTTLS, the end."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from config.tls import Tls
from daemons.certificates import Issued
from daemons.sockets import UNREAD_OCTETS, UNSENT_OCTETS, Connection, Networks, listening, server_tls_context

Handler = Callable[[Connection], Awaitable[None]]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(endpoint: tuple[str, int], context: ssl.SSLContext | None = None) -> AsyncIterator[Stream]:
    """A client's connection."""
    reader, writer = await asyncio.open_connection(
        *endpoint, ssl=context, server_hostname="localhost" if context else None
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


@pytest.fixture
def server_context(certificate: Issued) -> ssl.SSLContext:
    """The server's side."""
    return server_tls_context(Tls(certificate=str(certificate.certificate), key=str(certificate.key)))


async def echo(connection: Connection) -> None:
    """Send back what comes."""
    while octets := await connection.receive(30):
        await connection.send(octets)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
async def test_octets_go_both_ways(address: str) -> None:
    """What a client sends, the handler receives, whole and in order, over IPv4 and IPv6; peer and local are known."""
    peers = []

    async def handler(connection: Connection) -> None:
        peers.append((connection.peer, connection.local, connection.is_secure, connection.is_trusted))
        await echo(connection)

    octets = bytes(range(256)) * 4096
    async with listening([address], handler) as listener, connected(listener.endpoints[0]) as (reader, writer):
        writer.write(octets)
        assert await reader.readexactly(len(octets)) == octets
        writer.write_eof()
        assert await reader.read() == b""
    assert peers[0] in [("127.0.0.1", "127.0.0.1", False, False), ("::1", "::1", False, False)]


async def test_silence_is_a_timeout() -> None:
    """receive() raises TimeoutError when nothing comes in time, also after a longer wait that was cut short by octets."""
    outcomes: list[object] = []

    async def handler(connection: Connection) -> None:
        outcomes.append(await connection.receive(30))
        try:
            await connection.receive(0.01)
        except TimeoutError as error:
            outcomes.append(error)

    async with listening(["127.0.0.1:0"], handler) as listener, connected(listener.endpoints[0]) as (reader, writer):
        writer.write(b"x")
        assert await reader.read() == b""
    assert outcomes[0] == b"x"
    assert isinstance(outcomes[1], TimeoutError)


async def test_reading_pauses_while_nobody_consumes() -> None:
    """A client that floods a busy session fills the kernel's buffers, not our memory."""
    seen: list[Connection] = []
    go_on = asyncio.Event()

    async def handler(connection: Connection) -> None:
        seen.append(connection)
        await go_on.wait()
        total = 0
        while octets := await connection.receive(30):
            total += len(octets)
        await connection.send(str(total).encode())

    async with listening(["127.0.0.1:0"], handler) as listener, connected(listener.endpoints[0]) as (reader, writer):
        writer.write(bytes(20_000_000))
        while not (seen and seen[0]._is_paused):
            await asyncio.sleep(0)
        assert seen[0]._unread <= UNREAD_OCTETS + 65536
        go_on.set()
        await writer.drain()
        writer.write_eof()
        assert await reader.read() == b"20000000"


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    """send() raises ConnectionError when the peer takes nothing for send_seconds."""
    ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def handler(connection: Connection) -> None:
        connection.send_seconds = 0.05
        try:
            while True:
                await connection.send(bytes(UNSENT_OCTETS))
        except ConnectionError as error:
            ended.set_result(error)

    async with listening(["127.0.0.1:0"], handler) as listener, connected(listener.endpoints[0]):
        assert isinstance(await ended, ConnectionAbortedError)


async def test_limits_refuse_strangers_only() -> None:
    """Above the limit a connection gets the refusal and is closed; a trusted network is let in."""
    async with (
        listening(["127.0.0.1:0"], echo, limit=1, refusal=b"421 busy\r\n") as listener,
        connected(listener.endpoints[0]) as (first_reader, first_writer),
    ):
        first_writer.write(b"x")
        await first_reader.readexactly(1)
        async with connected(listener.endpoints[0]) as (reader, _):
            assert await reader.read() == b"421 busy\r\n"
    trusted = Networks(["127.0.0.0/8"])
    async with (
        listening(["127.0.0.1:0"], echo, trusted=trusted, limit=0, limit_per_peer=0) as listener,
        connected(listener.endpoints[0]) as (reader, writer),
    ):
        writer.write(b"y")
        assert await reader.readexactly(1) == b"y"


async def test_limit_per_peer_counts_open_connections() -> None:
    """One address gets no more than its share at a time, and gets it again when it has closed."""
    async with listening(["127.0.0.1:0"], echo, limit_per_peer=1, refusal=b"no\r\n") as listener:
        for _ in range(3):
            async with connected(listener.endpoints[0]) as (reader, writer):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                async with connected(listener.endpoints[0]) as (second, _writer):
                    assert await second.read() == b"no\r\n"
                writer.write_eof()
                assert await reader.read() == b""
            while listener._peers:
                await asyncio.sleep(0)


async def test_implicit_tls(server_context: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    """A TLS listener speaks TLS 1.2 or later from the first octet, and the connection knows it."""
    secure = []

    async def handler(connection: Connection) -> None:
        secure.append((connection.is_secure, connection.tls is not None))
        await echo(connection)

    octets = bytes(1_000_000)
    async with (
        listening(["127.0.0.1:0"], handler, tls=server_context) as listener,
        connected(listener.endpoints[0], client_tls) as (reader, writer),
    ):
        writer.write(octets)
        assert await reader.readexactly(len(octets)) == octets
    assert secure == [(True, True)]


async def starttls(connection: Connection, context: ssl.SSLContext, received: list[bytes]) -> None:
    """A session of one command: STARTTLS, then an echo."""
    while b"STARTTLS\r\n" not in (command := await connection.receive(30)):
        received.append(command)
    await connection.start_tls(context, b"220 go on\r\n")
    while octets := await connection.receive(30):
        received.append(octets)
        await connection.send(octets)


async def test_starttls(server_context: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    """After start_tls() both sides speak TLS on the same connection."""
    received: list[bytes] = []
    async with (
        listening(["127.0.0.1:0"], lambda connection: starttls(connection, server_context, received)) as listener,
        connected(listener.endpoints[0]) as (reader, writer),
    ):
        writer.write(b"STARTTLS\r\n")
        assert await reader.readline() == b"220 go on\r\n"
        await writer.start_tls(client_tls, server_hostname="localhost")
        writer.write(b"secret")
        assert await reader.readexactly(6) == b"secret"
    assert received == [b"secret"]


async def test_octets_behind_starttls_are_dropped(server_context: ssl.SSLContext) -> None:
    """What a man in the middle injects behind STARTTLS is never seen by the session (CVE-2011-0411)."""
    received: list[bytes] = []
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    tls = trusting.wrap_bio(incoming, outgoing)
    async with (
        listening(["127.0.0.1:0"], lambda connection: starttls(connection, server_context, received)) as listener,
        connected(listener.endpoints[0]) as (reader, writer),
    ):
        writer.write(b"STARTTLS\r\nRCPT TO:<injected@example.test>\r\n")
        assert await reader.readline() == b"220 go on\r\n"
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        tls.write(b"honest")
        writer.write(outgoing.read())
        incoming.write(await reader.read(65536))
    assert received == [b"honest"]


async def test_drain_waits_for_conversations_and_then_cuts_them_off() -> None:
    """drain() accepts no more and lets conversations end; those that do not end in time are cut off."""
    async with listening(["127.0.0.1:0"], echo) as listener:
        endpoint = listener.endpoints[0]
        async with connected(endpoint) as (reader, writer), connected(endpoint) as (idle_reader, idle_writer):
            for stream in ((reader, writer), (idle_reader, idle_writer)):
                stream[1].write(b"x")
                await stream[0].readexactly(1)
            draining = asyncio.create_task(listener.drain(2.0))
            await asyncio.sleep(0)
            writer.write(b"y")
            writer.write_eof()
            assert await reader.read() == b"y"
            with pytest.raises(ConnectionError):
                await asyncio.open_connection(*endpoint)
            await draining
            assert listener.connection_count == 0


async def test_a_failing_handler_closes_its_connection(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that leaves the handler ends the conversation, not the listener, and tells the peer nothing."""

    async def handler(connection: Connection) -> None:
        if await connection.receive(30) == b"die":
            raise ValueError("a bug")
        connection.write(b"well")

    async with listening(["127.0.0.1:0"], handler) as listener:
        for octets, answer in ((b"die", b""), (b"live", b"well")):
            async with connected(listener.endpoints[0]) as (reader, writer):
                writer.write(octets)
                assert await reader.read() == answer
    assert "error_id" in capsys.readouterr().out


async def test_an_address_in_use_is_named() -> None:
    """Listening on what cannot be had is an OSError that names the address."""
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:25"):
        async with listening(["192.0.2.1:25"], echo):
            pass


@pytest.mark.parametrize(
    ("address", "is_inside"),
    [("10.1.2.3", True), ("11.1.2.3", False), ("::1", True), ("fe80::1%eth0", False), ("", False), ("nonsense", False)],
)
def test_networks(address: str, is_inside: bool) -> None:
    """Networks contain addresses, whatever the family, and never what is no address."""
    networks = Networks(["10.0.0.0/8", "::1/128"])
    assert (address in networks) is is_inside
    assert (address in networks) is is_inside
