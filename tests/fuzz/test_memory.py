"""Input made to cost memory: however much of it comes, what the reader and a session keep stays within a few MiB."""

import asyncio
import ssl
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from config.units import KIB, MIB
from protocol.imap.events import AppendLiteral, AppendStarts
from protocol.imap.reader import CommandReader
from protocol.pop3.session import ServerSession
from tests.daemons.imap.conftest import Service
from tests.daemons.imap.conversation import Client

_TOTAL, _BLOCK = 1 * MIB, 64 * KIB
_BOUND = 4 * MIB  # the largest command is 256 KiB, in octets; what it is parsed into is some times as much


def _repeated(octets: bytes) -> bytes:
    return octets * (_TOTAL // len(octets))


HOSTILE = {
    "parentheses": _repeated(b"a SEARCH " + b"(" * 60_000 + b"\r\n"),
    "NOT": _repeated(b"a SEARCH " + b"NOT " * 16_000 + b"ALL\r\n"),
    "OR": _repeated(b"a SEARCH " + b"OR ALL " * 9000 + b"ALL\r\n"),
    "keys": _repeated(b"a SEARCH" + b" ALL" * 16_000 + b"\r\n"),
    "literals": (b"a SEARCH" + b" TEXT {3+}\r\nabc" * 1023 + b"\r\n") * 10,
    "many-literals": b"a SEARCH" + _repeated(b" TEXT {3+}\r\nabc"),
    "large-literals": _repeated(b"a LOGIN {65536+}\r\n" + b"x" * 65536 + b" {65536+}\r\n" + b"y" * 65536 + b"\r\n"),
    "huge-literal": b"a LOGIN {99999999999999999999+}\r\n" + b"x" * _TOTAL,
    "unknown": b"a BOGUS\r\n" * 20_000,
    "no-tag": b"\r\n*\r\n" * 20_000,
    "sets": _repeated(b"a FETCH " + b"1," * 16_000 + b"1 FLAGS\r\n"),
    "overlapping-sets": _repeated(b"a FETCH " + b"1:4294967295," * 4000 + b"* FLAGS\r\n"),
    "numbers": _repeated(b"a FETCH " + b"9" * 60_000 + b" FLAGS\r\n"),
    "sections": _repeated(b"a FETCH 1 BODY[" + b"1." * 30_000 + b"]\r\n"),
    "fields": _repeated(b"a FETCH 1 BODY[HEADER.FIELDS (" + b"a " * 30_000 + b"a)]\r\n"),
    "endless-line": b"a LOGIN " + b"x" * _TOTAL,
    "endless-tag": b"x" * _TOTAL,
    "appends": b"a APPEND INBOX {3+}\r\nabc (\\Seen) {3+}\r\nabc\r\n" * 4000,
    "notify": _repeated(b"a NOTIFY SET " + b"(personal NONE) " * 4000 + b"\r\n"),
    "metadata": _repeated(b"a GETMETADATA INBOX (" + b"/private/a " * 5000 + b")\r\n"),
}


@contextmanager
def _bounded(most: int) -> Iterator[None]:
    """What is allocated within stays below `most` at every moment."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MIB:.1f} MiB"


@pytest.mark.parametrize("name", HOSTILE)
def test_reader(name: str) -> None:
    """The reader keeps no more than a command of the largest size, parsed."""
    reader = CommandReader()
    with _bounded(_BOUND):
        for start in range(0, len(HOSTILE[name]), _BLOCK):
            events = reader.receive(HOSTILE[name][start : start + _BLOCK])
            while events:
                if isinstance(events[-1], AppendStarts | AppendLiteral):
                    reader.accept()
                events = reader.receive(b"")


@pytest.mark.parametrize(
    "octets", [b"x" * _TOTAL, _repeated(b"NOOP\r\n"), _repeated(b"AUTH PLAIN " + b"x" * 230 + b"\r\n")]
)
def test_pop3(octets: bytes) -> None:
    """POP3 keeps a line at most, and ends after some errors."""
    session = ServerSession()
    with _bounded(1 * MIB):
        for start in range(0, len(octets), _BLOCK):
            session.receive(octets[start : start + _BLOCK])
            while session.next_event() is not None:
                session.refuse("no")
            session.take_output()


@pytest.mark.parametrize("is_known", [False, True], ids=["stranger", "logged-in"])
async def test_sessions(service: Service, is_known: bool) -> None:
    """A session that gets all of it costs no more, and ends with BYE or by itself; others are served on."""
    async with await service.client() as other:
        for name in ("parentheses", "many-literals", "huge-literal", "unknown", "overlapping-sets", "endless-line"):
            client = await Client.connect(service.endpoints["imaps"], service.tls)
            if is_known:
                await client.login(service.person.login)
            reader, writer = client.streams
            with _bounded(2 * _BOUND):
                reading = asyncio.create_task(_drop(reader))
                with suppress(ConnectionError, ssl.SSLError):
                    for start in range(0, len(HOSTILE[name]), _BLOCK):
                        writer.write(HOSTILE[name][start : start + _BLOCK])
                        await writer.drain()
                assert await other.ok(b"NOOP") == []
                await client.close()
                await reading


async def _drop(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while await reader.read(_BLOCK):
            pass
