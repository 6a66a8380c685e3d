"""clamd behind the filter `antivirus`: pyclamd in threads of its own, a new connection for each scan, each answer judged.

pyclamd takes a connection that ends without an answer for a clean bill, sends what fits instead of all, and never ends a wait of
its own accord. So the connection is ours: what it sends it sends whole, the answer is kept and judged here, and whoever stops
waiting shuts the connection down, which ends the thread's work at once.
"""

import asyncio
import mmap
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import TypeVar, cast

import pyclamd
from prometheus_client import Counter, Gauge

from config.antivirus import Antivirus as Limits
from config.listen import split_address
from daemons.breakers import build_breaker
from daemons.context import Context
from daemons.logs import logger
from filters.antivirus import Antivirus
from filters.breaker import Breaker
from filters.ports import InfectedAction, TooLargeError
from storage import antivirus as storage

log = logger("antivirus")

scans = Counter("postwerk_antivirus_scans", "Scans, by outcome.", ["outcome"])
signatures_timestamp = Gauge(
    "postwerk_antivirus_signatures_timestamp",
    "Date of clamd's signatures, in seconds since 1970; 0: it does not tell.",
    multiprocess_mode="mostrecent",
)

_CHUNK_OCTETS = 256 << 10  # twice as fast as pyclamd's 4096
_REPLY_OCTETS = 4096
_PING_SECONDS = 2.0
_TOO_LARGE = "INSTREAM size limit exceeded"
_VERSION_DATE = "%a %b %d %H:%M:%S %Y"  # ctime(3)

_Answer = TypeVar("_Answer")


class ClamdError(OSError):
    """clamd gave no answer, or none that says anything about the message."""


class _Stream(socket.socket):
    """A socket whose send() sends all of it."""

    def send(self, octets: bytes, flags: int = 0, /) -> int:  # type: ignore[override]
        self.sendall(octets, flags)
        return len(octets)


class _Octets:
    """What is scanned, as the file that pyclamd wants."""

    def __init__(self, octets: bytes | mmap.mmap) -> None:
        self._octets = octets
        self._at = 0

    def read(self, size: int) -> bytes:
        piece = self._octets[self._at : self._at + size]
        self._at += len(piece)
        return piece


class _Clamd(pyclamd.ClamdUnixSocket):  # type: ignore[misc]
    """pyclamd on a connection that is open already, whatever kind it is. Its own __init__ would try one of its own."""

    def __init__(self, connection: _Stream) -> None:
        self.clamd_socket = connection
        self.answer = ""

    def _init_socket(self) -> None:
        pass

    def _close_socket(self) -> None:
        pass

    def _recv_response(self) -> str:
        """The answer: one line, and then clamd closes. pyclamd asks until there is nothing."""
        if self.answer:
            return ""
        octets = b""
        while not octets.endswith(b"\n") and len(octets) < _REPLY_OCTETS:
            piece = self.clamd_socket.recv(_REPLY_OCTETS)
            if not piece:
                break
            octets += piece
        self.answer = octets.decode("utf-8", "replace").strip()
        return self.answer


class _Call:
    """One connection to clamd, used by a thread, and shut down by whoever stops waiting for it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._connection: _Stream | None = None
        self._is_ended = False

    def end(self) -> None:
        """Whatever the thread waits for, it does not come any more. Harmless when it has come."""
        self._is_ended = True
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def scan(self, octets: bytes | mmap.mmap) -> str | None:
        """What was found. Raises TooLargeError, OSError."""
        with self._connected() as connection:
            clamd = _Clamd(connection)
            try:
                clamd.scan_stream(_Octets(octets), chunk_size=_CHUNK_OCTETS)
            except (BrokenPipeError, ConnectionResetError):
                clamd._recv_response()  # clamd does not read on, but it may have told why
            except (pyclamd.BufferTooLongError, IndexError):
                pass  # what it makes of the answer does not matter: the answer itself is judged
        return _judged(clamd.answer)

    def version(self) -> str:
        """clamd's words. Raises OSError."""
        with self._connected() as connection:
            clamd = _Clamd(connection)
            clamd.version()
        if not clamd.answer.startswith("ClamAV "):
            raise ClamdError("no answer")
        return clamd.answer

    def _connected(self) -> _Stream:
        place = self._limits.clamd
        if place.startswith("/"):
            return self._connect(socket.AF_UNIX, place)
        host, port = split_address(place)
        error: OSError = ClamdError("no address")
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                return self._connect(family, address)
            except OSError as failure:
                error = failure
        raise error

    def _connect(self, family: int, address: object) -> _Stream:
        connection = _Stream(family, socket.SOCK_STREAM)
        try:
            self._connection = connection
            if self._is_ended:
                raise ClamdError("nobody waits")
            connection.settimeout(self._limits.time_limit)
            connection.connect(cast("str", address))
            connection.settimeout(None)
        except BaseException:
            connection.close()
            raise
        return connection


def _judged(answer: str) -> str | None:
    """What clamd's answer says of the message: only its own OK is one."""
    said = answer.removeprefix("stream: ")
    if said == "OK":
        return None
    if said.endswith(" FOUND"):
        return said.removesuffix(" FOUND")
    if said.startswith(_TOO_LARGE):
        raise TooLargeError
    raise ClamdError(said or "no answer")


class ClamdScanner:
    """The Scanner of filters/ports.py: scans in a bounded number of threads, none of which outlives its time."""

    def __init__(self, limits: Limits, breaker: Breaker | None = None) -> None:
        self._limits = limits
        self._breaker = breaker or Breaker("clamd")
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="clamd")

    def __repr__(self) -> str:
        return f"<ClamdScanner {self._limits.clamd}>"

    async def scan(self, octets: bytes | mmap.mmap) -> str | None:
        """The name of what was found, or None. Raises TooLargeError without asking clamd, or when it says so; OSError."""
        outcome = "unavailable"
        try:
            if len(octets) > self._limits.stream_limit:
                raise TooLargeError
            found = await self._breaker.call(lambda: self._within_limit(lambda call: call.scan(octets)))
            outcome = "clean" if found is None else "infected"
            return found
        except TooLargeError:
            outcome = "too large"
            raise
        except OSError as error:
            log.warning("clamd gave no answer", reason=type(error).__name__, detail=str(error))
            raise
        finally:
            scans.labels(outcome).inc()

    async def version(self) -> str:
        """What clamd says of itself and its signatures. Raises OSError."""
        return await self._within_limit(_Call.version)

    def close(self) -> None:
        """Begin no more scans."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _within_limit(self, work: Callable[[_Call], _Answer]) -> _Answer:
        call = _Call(self._limits)
        try:
            async with asyncio.timeout(self._limits.time_limit):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work, call)
        finally:
            call.end()


def signatures_date(version: str) -> datetime | None:
    """When the signatures were made: "ClamAV 1.4.6/27500/Mon Nov 16 08:20:11 2026", in the time zone of clamd's host, or None."""
    _, _, told = version.partition("/")
    _, _, date = told.partition("/")
    try:
        return datetime.strptime(date.strip(), _VERSION_DATE).astimezone()
    except ValueError:
        return None


class Freshness:
    """Watches the date of clamd's signatures: clamd never says by itself that nobody updates it any more."""

    def __init__(self, limits: Limits, scanner: ClamdScanner) -> None:
        self._limits = limits
        self._scanner = scanner

    async def run(self) -> None:
        """Look at once and at intervals, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._limits.check_interval)

    async def look(self) -> None:
        """Ask clamd, set the metric, and warn of what is too old."""
        try:
            made_at = signatures_date(await self._scanner.version())
        except OSError as error:
            log.warning("clamd gave no answer", reason=type(error).__name__, detail=str(error))
            return
        signatures_timestamp.set(made_at.timestamp() if made_at is not None else 0)
        if made_at is None:
            log.warning("clamd has no dated signatures: is freshclam running?")
        elif (age := (datetime.now(made_at.tzinfo) - made_at).total_seconds()) > self._limits.signatures_age:
            log.warning("signatures are too old: is freshclam running?", age_days=round(age / 86400, 1))


class TenantActions:
    """The InfectedActions of filters/ports.py: as the tenant has chosen, else as configured."""

    def __init__(self, context: Context) -> None:
        self._pool = context.pool
        self._default: InfectedAction = context.settings.antivirus.infected

    async def action_of(self, tenant_id: int) -> InfectedAction:
        """Asked only when something was found. Raises UnavailableError."""
        return cast("InfectedAction", await storage.action_of(self._pool, tenant_id) or self._default)


def clamd_answers(place: str) -> bool:
    """Whether there is a clamd behind that Unix socket, and we may use it."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PING_SECONDS)
        connection.connect(place)
        connection.sendall(b"zPING\0")
        return connection.recv(16).startswith(b"PONG")
    return False


def build_antivirus(context: Context) -> Antivirus:
    """The filter as configured."""
    limits = context.settings.antivirus
    return Antivirus(
        ClamdScanner(limits, build_breaker(context, "clamd")),
        TenantActions(context),
        unavailable=limits.unavailable,
        too_large=limits.too_large,
        time_limit_seconds=limits.time_limit,
    )


@asynccontextmanager
async def watching(limits: Limits) -> AsyncIterator[None]:
    """Watch the signatures meanwhile."""
    scanner = ClamdScanner(limits)
    task = asyncio.create_task(Freshness(limits, scanner).run(), name="antivirus")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        scanner.close()
