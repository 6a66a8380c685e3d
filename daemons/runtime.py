"""What every process has in common: loop, logs, signals, readiness, watchdog, metrics, and an end within bounded time.

It tells whoever started it how it stands: systemd over NOTIFY_SOCKET (sd_notify(3)), our supervisor over an inherited socket.
"""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import structlog
import uvloop

from config.settings import Settings
from daemons import logs, metrics
from daemons.context import Context, open_context
from daemons.sockets import Networks, listening
from storage.errors import StorageError, UnavailableError
from storage.migrate import pending
from storage.pool import Pool, reported

Ready = Callable[[Mapping[str, tuple[str, int]]], None]
Serve = Callable[[Context, asyncio.Event, Ready], Awaitable[None]]

PROCESSES = ("smtp", "access", "relay", "archiver", "keeper")
STOP_SECONDS = 30.0  # from SIGTERM to the end, conversations included
SUPERVISOR_VARIABLE = "POSTWERK_SUPERVISOR_FD"


class Notifier:
    """Sends "NAME=value" lines to systemd and to our supervisor, when they are there."""

    def __init__(self) -> None:
        place = os.environ.pop("NOTIFY_SOCKET", "")
        self._systemd = f"\0{place[1:]}" if place.startswith("@") else place
        descriptor = os.environ.pop(SUPERVISOR_VARIABLE, "")
        self.supervisor = socket.socket(fileno=int(descriptor)) if descriptor else None
        if self.supervisor is not None:
            self.supervisor.setblocking(False)

    def send(self, **states: str) -> None:
        """Best effort, as sd_notify(3): nobody may be listening."""
        message = "\n".join(f"{name}={value}" for name, value in states.items()).encode()
        if self._systemd:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(message, self._systemd)
        if self.supervisor is not None:
            with contextlib.suppress(OSError):
                self.supervisor.send(message)


def run(name: str, settings: Settings) -> int:
    """Run one process until it is told to stop. Returns its exit code; what went wrong is logged in one event."""
    logs.configure(settings.logs, name)
    log = logs.logger("runtime")
    notifier = Notifier()
    try:
        serve: Serve = importlib.import_module(f"daemons.{name}.service").serve
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(name, serve, settings, notifier))
    except (StorageError, OSError) as error:
        notifier.send(STATUS=f"{name}: {error}")
        log.error("cannot run", reason=str(error))
        return os.EX_TEMPFAIL if isinstance(error, UnavailableError) else os.EX_UNAVAILABLE
    except Exception:
        notifier.send(STATUS=f"{name}: internal error, see the log")
        log.exception("process failed")
        return os.EX_SOFTWARE
    return os.EX_OK


async def _run(name: str, serve: Serve, settings: Settings, notifier: Notifier) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_loop_error)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if notifier.supervisor is not None:
        loop.add_reader(notifier.supervisor, _watch_supervisor, notifier.supervisor, stopping)
    async with open_context(settings) as context:
        await require_current_schema(context.pool)
        if context.tls is not None:
            loop.add_signal_handler(signal.SIGHUP, _reload_certificate, context)

        def ready(endpoints: Mapping[str, tuple[str, int]]) -> None:
            told = json.dumps({key: list(place) for key, place in endpoints.items()})
            notifier.send(READY="1", STATUS="serving", X_POSTWERK_ENDPOINTS=told)
            logs.logger("runtime").info("serving", endpoints={key: place[1] for key, place in endpoints.items()})

        async with _metrics(settings), _watchdog(notifier):
            await _serve(serve, context, stopping, ready, notifier)
    if notifier.supervisor is not None:
        loop.remove_reader(notifier.supervisor)


async def _serve(serve: Serve, context: Context, stopping: asyncio.Event, ready: Ready, notifier: Notifier) -> None:
    """Run the service to its end; cut it off when it does not end within STOP_SECONDS of being asked to."""
    service = asyncio.ensure_future(serve(context, stopping, ready))
    asked = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({service, asked}, return_when=asyncio.FIRST_COMPLETED)
        notifier.send(STOPPING="1")
        if not service.done():
            await asyncio.wait({service}, timeout=STOP_SECONDS)
        if not service.done():
            logs.logger("runtime").warning("did not stop in time, cut off")
            service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service
    finally:
        asked.cancel()
    if not stopping.is_set():
        raise StorageError("the service ended by itself")


async def require_current_schema(pool: Pool) -> None:
    """Raises StorageError when the database is not migrated to what this program needs."""
    async with reported(), pool.acquire() as connection:
        try:
            names = await pending(connection)
        except asyncpg.PostgresError as error:
            raise StorageError(f"the database's state cannot be read: {error}") from error
    if names:
        raise StorageError(f"migrations are pending ({', '.join(names)}): run `postwerk migrate`")


def _watch_supervisor(link: socket.socket, stopping: asyncio.Event) -> None:
    """The supervisor never sends; when it has gone, we end."""
    with contextlib.suppress(BlockingIOError):
        if not link.recv(1):
            asyncio.get_running_loop().remove_reader(link)
            stopping.set()


def _reload_certificate(context: Context) -> None:
    """SIGHUP: new connections get the certificate that is in the files now."""
    log, tls = logs.logger("runtime"), context.settings.tls
    try:
        if context.tls is not None:
            context.tls.load_cert_chain(tls.certificate, tls.key)
        log.info("certificate read again")
    except OSError as error:
        log.error("certificate not usable, keeping the old one", reason=str(error))


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    log: structlog.typing.FilteringBoundLogger = logs.logger("loop")
    if isinstance(error, ConnectionError | TimeoutError | OSError):
        log.debug("connection error", reason=type(error).__name__)
        return
    log.error("callback or task failed", reason=context.get("message"), exc_info=error)


@contextlib.asynccontextmanager
async def _watchdog(notifier: Notifier) -> AsyncIterator[None]:
    """Tell systemd that the loop turns, as often as it wants to hear it (WatchdogSec=)."""
    usec = int(os.environ.get("WATCHDOG_USEC") or 0)
    if not usec:
        yield
        return

    async def beat() -> None:
        while True:
            notifier.send(WATCHDOG="1")
            await asyncio.sleep(usec / 2e6)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()


@contextlib.asynccontextmanager
async def _metrics(settings: Settings) -> AsyncIterator[None]:
    """Serve our own metrics, unless the supervisor serves those of all processes."""
    addresses = [] if metrics.is_multiprocess() else settings.listen.metrics or []
    async with listening(addresses, metrics.exposition(metrics.render), trusted=Networks(settings.trusted_networks)):
        yield
