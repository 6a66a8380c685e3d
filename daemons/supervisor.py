"""A small supervisor: starts programs in order, starts them again with back-off when they end, stops them in order.

It knows nothing of mail. Programs live in sessions of their own, so Ctrl-C reaches only us; when we die, however, they
notice and end: daemons by an inherited socket that closes, PostgreSQL by PR_SET_PDEATHSIG.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from daemons.logs import logger
from daemons.runtime import STOP_SECONDS, SUPERVISOR_VARIABLE
from storage.embedded import Cluster
from storage.errors import StorageError

BACKOFF_SECONDS = 0.1  # before the first restart; doubles with each
BACKOFF_LIMIT_SECONDS = 5.0  # mail waits meanwhile: trying again costs less than staying away
HEALTHY_SECONDS = 10.0  # after so long a life the back-off begins anew
READY_SECONDS = 60.0

log = logger("supervisor")

Endpoints = dict[str, tuple[str, int]]


class StartError(Exception):
    """A program did not get ready; the text is one line for the operator."""


class Program(Protocol):
    """Something to keep running."""

    name: str

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it and return at once. Runs in the loop's thread: PR_SET_PDEATHSIG means the thread that forks."""

    def clear(self) -> None:
        """Remove what a process that ended has left, so that it can be started again. Blocking, in a thread."""

    async def until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return when it does its work. Raises StartError when it ends before, or takes too long."""

    async def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End it within bounded time."""

    def hurry(self, process: subprocess.Popen[bytes]) -> None:
        """End it now, conversations or not; what was acknowledged is safe all the same."""


class Daemon:
    """One of our processes, by `python -m daemons serve NAME`."""

    def __init__(
        self, name: str, configuration: Path, metrics: Path | None, on_ready: Callable[[str, Endpoints], None]
    ) -> None:
        self.name = name
        self._configuration = configuration
        self._metrics = metrics
        self._on_ready = on_ready
        self._link: socket.socket | None = None

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it with one end of a socket pair: it reports on it, and sees by it when we die."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        if self._link is not None:
            self._link.close()
        self._link = ours
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        environment[SUPERVISOR_VARIABLE] = str(theirs.fileno())
        if self._metrics is not None:
            environment["PROMETHEUS_MULTIPROC_DIR"] = str(self._metrics)
        command = [sys.executable, "-P", "-m", "daemons", "serve", self.name, "--config", str(self._configuration)]
        with theirs:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )

    async def until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for READY=1 with its endpoints."""
        loop, status = asyncio.get_running_loop(), f"{self.name}: ended before it was ready"
        assert self._link is not None
        try:
            async with asyncio.timeout(READY_SECONDS):
                while message := await loop.sock_recv(self._link, 65536):
                    told = dict(line.partition("=")[::2] for line in message.decode().splitlines())
                    status = told.get("STATUS", status)
                    if told.get("READY") == "1":
                        places = json.loads(told.get("X_POSTWERK_ENDPOINTS", "{}"))
                        self._on_ready(self.name, {key: (host, port) for key, (host, port) in places.items()})
                        return
        except ConnectionError:
            pass
        except TimeoutError:
            status = f"{self.name}: not ready after {READY_SECONDS:.0f} s"
        raise StartError(status)

    async def stop(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM, and SIGKILL when that takes longer than the process itself allows."""
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS + 5.0):
                await until_ended(process)
        except TimeoutError:
            log.warning("killed: it did not stop", program=self.name)
            process.kill()
            await until_ended(process)

    def hurry(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL."""
        process.kill()

    def clear(self) -> None:
        """Nothing is left of a daemon but its share in the metrics, which is part of the sum."""


class Database:
    """The private PostgreSQL."""

    name = "postgresql"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it. The cluster is prepared."""
        return self._cluster.spawn()

    def clear(self) -> None:
        """After a crash: wait for what is left of the old server."""
        self._cluster.recover()

    async def until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it answers, crash recovery included."""
        try:
            await self._cluster.until_ready(process)
        except StorageError as error:
            raise StartError(str(error)) from error

    async def stop(self, process: subprocess.Popen[bytes]) -> None:
        """A fast shutdown, harder with time."""
        await asyncio.to_thread(self._cluster.stop, process)

    def hurry(self, process: subprocess.Popen[bytes]) -> None:
        """Nothing: a fast shutdown is quick, and what is quicker costs crash recovery."""


async def until_ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child's end without a thread and without SIGCHLD (pidfd_open(2)). Returns its exit status."""
    if (code := process.poll()) is not None:
        return code
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    descriptor = os.pidfd_open(process.pid)
    try:
        loop.add_reader(descriptor, _settle, ended)
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


class Keeping:
    """Keeps one program running from start() to stop()."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.restart_count = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises StartError: the first start is not tried twice."""
        self.process = self.program.spawn()
        try:
            await self.program.until_ready(self.process)
        except BaseException:
            await self.program.stop(self.process)
            raise
        self._task = asyncio.create_task(self._keep(self.process), name=f"keep {self.program.name}")

    async def _keep(self, process: subprocess.Popen[bytes]) -> None:
        delay, born = BACKOFF_SECONDS, time.monotonic()
        while True:
            code = await until_ended(process)
            delay = BACKOFF_SECONDS if time.monotonic() - born > HEALTHY_SECONDS else delay
            log.error("ended, starting it again", program=self.program.name, exit_status=code, delay_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, BACKOFF_LIMIT_SECONDS)
            born = time.monotonic()
            self.restart_count += 1
            try:
                await asyncio.to_thread(self.program.clear)
                process = self.process = self.program.spawn()
                await self.program.until_ready(process)
                log.info("runs again", program=self.program.name)
            except StartError as error:
                log.error("not ready", program=self.program.name, reason=str(error))
                await self.program.stop(process)
            except (StorageError, OSError) as error:
                log.error("cannot be started", program=self.program.name, reason=str(error))

    async def stop(self) -> None:
        """End the program and keep it no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self.process is not None and self.process.poll() is None:
            await self.program.stop(self.process)


class Supervisor:
    """Programs in stages: a stage is started when the one before is ready, and stops before that one stops."""

    def __init__(self) -> None:
        self._stages: list[list[Keeping]] = []

    @property
    def kept(self) -> list[Keeping]:
        """All programs, in the order of their stages."""
        return [keeping for stage in self._stages for keeping in stage]

    async def start(self, *programs: Program) -> None:
        """Start one more stage and wait until all of it is ready. Raises StartError; what runs is left for stop()."""
        stage = [Keeping(program) for program in programs]
        self._stages.append(stage)
        outcomes = await asyncio.gather(*(keeping.start() for keeping in stage), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def stop(self) -> None:
        """Stop the stages, the last first, each as a whole; how long that takes is bounded by the programs' limits."""
        while self._stages:
            outcomes = await asyncio.gather(*(keeping.stop() for keeping in self._stages[-1]), return_exceptions=True)
            self._stages.pop()
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    log.error("stopping failed", reason=str(outcome))

    def hurry(self) -> None:
        """While stop() waits: do not wait for conversations."""
        for keeping in self.kept:
            if keeping.process is not None and keeping.process.poll() is None:
                keeping.program.hurry(keeping.process)
