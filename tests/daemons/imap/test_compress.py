"""COMPRESS=DEFLATE (RFC 4978): both ways, below IMAP, flushed with every answer, in bounded memory."""

import asyncio
import os
import pty
import random
import shutil
import ssl
import subprocess
import threading
import zlib
from contextlib import suppress
from pathlib import Path

import pytest

from config.settings import Settings
from config.units import MIB, Octets
from daemons.context import open_context
from tests.conftest import Person
from tests.daemons.imap.conftest import Service, mail, running
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves
from tests.sections import with_changes


class Compressed(Client):
    """A client that goes on in DEFLATE."""

    received = 0

    async def start(self) -> None:
        """Say COMPRESS, and go on in it."""
        assert await self.ok(b"COMPRESS DEFLATE") == []
        self._raw, self._reader = self._reader, asyncio.StreamReader(limit=1 << 26)
        self._deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        self._pump = asyncio.create_task(self._inflate())

    async def _inflate(self) -> None:
        inflater = zlib.decompressobj(-15)
        with suppress(ConnectionError, ssl.SSLError):
            while block := await self._raw.read(65536):
                self.received += len(block)
                self._reader.feed_data(inflater.decompress(block))
        self._reader.feed_eof()

    def write(self, octets: bytes) -> None:
        if hasattr(self, "_deflater"):
            octets = self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        super().write(octets)

    async def close(self) -> None:
        await super().close()
        if hasattr(self, "_pump"):
            await self._pump


async def compressed(service: Service, endpoint: str = "imaps") -> Compressed:
    """A session in DEFLATE, logged in."""
    tls = service.tls if endpoint == "imaps" else None
    client = Compressed(*(await Client.connect(service.endpoints[endpoint], tls)).streams)
    await client.login(service.person.login)
    await client.start()
    return client


@proves(b"COMPRESS=DEFLATE")
async def test_compress(service: Service) -> None:
    """Behind the OK everything is DEFLATE: commands, literals, answers, IDLE; much of it in few octets (RFC 4978)."""
    words = random.Random(1).choices(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"], k=60_000)
    text = mail("long", " ".join(words) + "\r\n")
    async with await compressed(service) as client, await service.client() as other:
        client.write(b"t APPEND INBOX {%d}\r\n" % len(text))
        assert (await client.line()).startswith(b"+ ")
        client.write(text + b"\r\n")
        assert (await client.line()).startswith(b"t OK [APPENDUID ")
        await client.ok(b"SELECT INBOX")
        (fetched,) = await client.ok(b"FETCH 1 BODY.PEEK[]")
        assert fetched.endswith(text + b")")
        assert client.received < len(text) / 2
        client.write(b"i IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        await other.command(b"APPEND INBOX {6+}\r\nA: b\r\n")
        assert await client.line() == b"* 2 EXISTS"


async def test_when_compression_begins(service: Service) -> None:
    """COMPRESS is for logged-in clients, knows DEFLATE only, and begins once; STARTTLS is no more below it."""
    async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
        assert (await client.command(b"COMPRESS DEFLATE"))[-1].startswith(b"t BAD ")
        await client.login(service.person.login)
        assert (await client.command(b"COMPRESS LZ4"))[-1] == b"t BAD DEFLATE is the only algorithm"
        assert (await client.command(b"COMPRESS"))[-1].startswith(b"t BAD ")
    async with await compressed(service) as client:
        assert (await client.command(b"compress deflate"))[-1].startswith(b"t NO [COMPRESSIONACTIVE] ")
        assert await client.ok(b"NOOP") == []


async def test_what_comes_before_the_ok_is_forgotten(service: Service) -> None:
    """Commands behind COMPRESS that did not wait for its OK are not carried out: they were to be DEFLATE."""
    async with await service.client() as client:
        client.write(b"a COMPRESS DEFLATE\r\nb CREATE never\r\n")
        assert (await client.line()).startswith(b"a OK ")
    async with await service.client() as client:
        assert await client.ok(b'LIST "" never') == []


async def test_no_deflate_ends_the_session(service: Service) -> None:
    """Octets that are no DEFLATE stream end the session with BYE."""
    async with await compressed(service) as client:
        Client.write(client, b"\xff\xff\xff\xff a NOOP\r\n" * 10)
        assert await client.line() == b"* BYE this is no DEFLATE stream"
        assert await client.line() == b""


async def test_bombs(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """Limits of commands hold for what is inflated, and a block that becomes too much ends the session with BYE."""
    changed = with_changes(settings, imap={"inflate_limit": Octets(4 * MIB)})
    async with open_context(changed) as context, running(context) as endpoints:
        service = Service(context, endpoints, account, client_tls)
        async with await compressed(service) as client:
            client.write(b"a NOOP " + b"x" * (1 * MIB))
            client.write(b"\r\n")
            assert (await client.line()).startswith(b"a BAD ")
            assert await client.ok(b"NOOP") == []
        async with await compressed(service) as client:
            client.write(b"a NOOP " + b"x" * (32 * MIB))
            lines = [await client.line() for _ in range(2)]
            assert b"* BYE compressed data becomes too much" in lines


async def test_mutt(settings: Settings, account: Person, client_tls: ssl.SSLContext, tmp_path: Path) -> None:
    """A real client that asks for COMPRESS reads its mail through it."""
    if shutil.which("mutt") is None:
        assert "CI" not in os.environ
        pytest.skip("no mutt")
    changed = with_changes(settings, imap={"cleartext_authentication": True})
    async with open_context(changed) as context, running(context) as endpoints:
        service = Service(context, endpoints, account, client_tls)
        await service.deliver(mail("for mutt", "Through DEFLATE.\r\n"))
        wire = Wire(endpoints["imap"])
        async with await asyncio.start_server(wire.carry, "127.0.0.1", 0) as between:
            port = between.sockets[0].getsockname()[1]
            url = f"imap://{account.login.replace('@', '%40')}@127.0.0.1:{port}/"
            commands = [
                *("set ssl_starttls=no", "set ssl_force_tls=no", "set imap_deflate", "set wait_key=no", "set quit=yes"),
                "set imap_authenticators=plain",
                *(f'set imap_pass="{account.password}"', f"set folder={tmp_path}"),
                f"push '<pipe-message>cat > {tmp_path}/read<enter><quit>'",
            ]
            await asyncio.to_thread(_mutt, commands, url)
        assert "Through DEFLATE." in (tmp_path / "read").read_text()
        said, behind = bytes(wire.said).split(b"COMPRESS DEFLATE\r\n")
        assert b"LOGIN" in said or b"AUTHENTICATE" in said
        assert behind
        assert b"FETCH" not in behind


class Wire:
    """Carries octets between a client and the server, and keeps what the client says."""

    def __init__(self, endpoint: tuple[str, int]) -> None:
        self.endpoint = endpoint
        self.said = bytearray()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self.endpoint)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray | None) -> None:
            while octets := await source.read(65536):
                if kept is not None:
                    kept += octets
                sink.write(octets)
            sink.close()

        with suppress(ConnectionError):
            await asyncio.gather(pass_on(reader, server_writer, self.said), pass_on(server_reader, writer, None))


def _mutt(commands: list[str], url: str) -> None:
    """Run mutt in a terminal of its own until it ends."""
    ours, its = pty.openpty()
    arguments = [word for text in commands for word in ("-e", text)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30", "HOME": "/nonexistent"}
    command = ["mutt", "-n", "-F", "/dev/null", *arguments, "-f", url]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True) as mutt:
        os.close(its)
        watchdog = threading.Timer(20, mutt.kill)
        watchdog.start()
        with suppress(OSError):  # the terminal's other side is gone
            while os.read(ours, 65536):
                pass
        mutt.wait()
        watchdog.cancel()
    os.close(ours)
