"""`postwerk serve`: one process alone, as systemd runs it."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from bench.suite import free_port
from config.listen import Listen
from config.loader import dump
from config.settings import Settings
from config.tls import Tls
from daemons.certificates import issue
from daemons.runtime import PROCESSES
from tests.sections import with_changes

_SECONDS = 120.0


class Notified:
    """What systemd's side of sd_notify(3) has heard."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(place))
        self._socket.settimeout(_SECONDS)

    def wait_for(self, line: str) -> dict[str, str]:
        """The first message with this line, as names and values."""
        while True:
            lines = self._socket.recv(65536).decode().splitlines()
            if line in lines:
                return dict(told.partition("=")[::2] for told in lines)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@pytest.fixture
def notified(state: Path) -> Iterator[Notified]:
    """A socket for NOTIFY_SOCKET."""
    listener = Notified(state / "notify")
    yield listener
    listener.close()


Serve = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def serve(settings: Settings, state: Path, notified: Notified) -> Iterator[Serve]:
    """Start `postwerk serve NAME` with the test's settings, or with others."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, changed: Settings | None = None, **environment: str) -> "subprocess.Popen[str]":
        configuration = state / f"{name}.toml"
        configuration.write_text(dump(changed or settings))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "daemons", "serve", name, "--config", str(configuration)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"NOTIFY_SOCKET": str(notified.place)} | environment,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=_SECONDS)
    return process.returncode, said


@pytest.mark.parametrize("name", PROCESSES)
def test_every_process_runs_alone(name: str, serve: Serve, notified: Notified) -> None:
    """A process says READY=1 when it serves, STOPPING=1 when told to end, and ends with 0 and without an error."""
    process = serve(name)
    assert notified.wait_for("READY=1")["STATUS"] == "serving"
    code, said = _end(process)
    assert notified.wait_for("STOPPING=1")
    assert code == 0
    assert '"level":"error"' not in said


def test_the_watchdog_hears_of_us(serve: Serve, notified: Notified) -> None:
    """With WatchdogSec= the process tells that its loop turns, twice in that time."""
    process = serve("keeper", WATCHDOG_USEC="200000")
    notified.wait_for("READY=1")
    assert notified.wait_for("WATCHDOG=1")
    assert notified.wait_for("WATCHDOG=1")
    assert _end(process)[0] == 0


def test_metrics_of_one_process(serve: Serve, notified: Notified, settings: Settings) -> None:
    """A process on its own shows its own metrics where listen.metrics says."""
    port = free_port()
    process = serve("keeper", with_changes(settings, listen={"metrics": [f"127.0.0.1:{port}"]}))
    notified.wait_for("READY=1")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_SECONDS) as answer:
        assert b"process_cpu_seconds_total" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=_SECONDS)
    assert _end(process)[0] == 0


def test_sighup_reads_the_certificate_again(serve: Serve, notified: Notified, settings: Settings, state: Path) -> None:
    """After SIGHUP new connections get the certificate that is in the file now."""
    issued = issue(state / "own", now=datetime.now(UTC) - timedelta(days=380))
    tls = Tls(certificate=str(issued.certificate), key=str(issued.key))
    process = serve("access", msgspec.structs.replace(settings, tls=tls, listen=Listen(imaps=["127.0.0.1:0"])))
    port = int(notified.wait_for("READY=1")["X_POSTWERK_ENDPOINTS"].partition(", ")[2].rstrip("]}"))
    before = ssl.get_server_certificate(("127.0.0.1", port))
    issue(state / "own", now=datetime.now(UTC))
    assert process.stderr is not None
    process.send_signal(signal.SIGHUP)
    while "certificate read again" not in (line := process.stderr.readline()):
        assert line, "ended"
    assert ssl.get_server_certificate(("127.0.0.1", port)) != before
    assert _end(process)[0] == 0


def test_without_a_database_it_ends_with_one_event(serve: Serve, settings: Settings) -> None:
    """A database that is away ends the process with EX_TEMPFAIL and one event, for systemd to try again."""
    away = {"dsn": "postgresql://postwerk@/postwerk?host=/nonexistent"}
    process = serve("relay", with_changes(settings, database=away))
    _, said = process.communicate(timeout=_SECONDS)
    assert process.returncode == os.EX_TEMPFAIL
    assert said.count("\n") == 1
    assert '"event":"cannot run"' in said


async def test_pending_migrations_are_named(serve: Serve, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """On a database that is not migrated a process ends and says which files are pending and what to do."""
    await owner.execute("DELETE FROM schema_migration WHERE name = '0001_foundation.sql'")
    process = serve("relay")
    _, said = process.communicate(timeout=_SECONDS)
    assert process.returncode == os.EX_UNAVAILABLE
    assert "migrations are pending (0001_foundation.sql): run `postwerk migrate`" in said


def test_an_address_in_use_is_named(serve: Serve, settings: Settings) -> None:
    """A listener that cannot be had ends the process and is named in its one event."""
    listen = Listen(imap=["192.0.2.1:143"])
    process = serve("access", msgspec.structs.replace(settings, listen=listen))
    _, said = process.communicate(timeout=_SECONDS)
    assert process.returncode == os.EX_UNAVAILABLE
    assert '"event":"cannot run"' in said
