"""`postwerk up` as an operator meets it: it survives what is killed, ends what it started, and says what is wrong."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from bench.processor import tree
from bench.suite import POSTWERK, Suite, state_directory
from config.antivirus import Antivirus
from config.listen import Listen
from config.settings import Settings
from config.smtp import Smtp
from daemons.suite import DEFAULT_PORTS, adapt
from tests.clamd import Clamd

_SECONDS = 120.0


@pytest.fixture(scope="module")
def suite() -> Iterator[Suite]:
    """A suite of this module's own: its parts get killed."""
    with state_directory() as state:
        running = Suite(state)
        running.start()
        yield running
        assert running.interrupt() == 0, running.tail()
        assert not (state / "run" / "endpoints.json").exists()


def _eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def _greets(endpoint: tuple[str, int]) -> bool:
    try:
        with smtplib.SMTP(*endpoint, timeout=30) as client:
            return client.noop()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def _pid(suite: Suite, *words: str) -> int | None:
    assert suite.process is not None
    for pid in tree([suite.process.pid]):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if all(word in command for word in words):
            return pid
    return None


def _run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([str(POSTWERK), *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_a_killed_process_comes_back(suite: Suite) -> None:
    """After kill -9 of smtp the same port answers again, and endpoints.json is there."""
    old = _pid(suite, "serve", "smtp")
    assert old is not None
    os.kill(old, signal.SIGKILL)
    _eventually(lambda: _pid(suite, "serve", "smtp") not in (None, old) and _greets(suite.endpoint("smtp")))
    assert json.loads((suite.state / "run" / "endpoints.json").read_text())["smtp"] == list(suite.endpoint("smtp"))


def test_a_killed_database_comes_back(suite: Suite) -> None:
    """After kill -9 of PostgreSQL all checks are good again, without a restart of anything else."""
    access = _pid(suite, "serve", "access")
    os.kill(int((suite.state / "postgres" / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    _eventually(lambda: _run("check", "--state", str(suite.state))[0] == 0)
    assert _pid(suite, "serve", "access") == access


def test_metrics_cover_all_processes(suite: Suite) -> None:
    """The metrics port shows CPU time of every process, the database included, and what processes count."""
    host, port = suite.endpoint("metrics")
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    for name in ("postgresql", "smtp", "access", "relay", "archiver", "keeper"):
        assert f'postwerk_process_cpu_seconds_total{{process="{name}"}}' in text
    assert "postwerk_process_restarts_total" in text


def test_managesieve_is_served(suite: Suite) -> None:
    """People can put their scripts on the server without any configuration."""
    with socket.create_connection(suite.endpoint("managesieve"), timeout=30) as client, client.makefile("rb") as lines:
        greeting = list(takewhile(lambda line: not line.startswith(b"OK "), lines))
    assert any(line.startswith(b'"SIEVE" "') and b" vacation" in line for line in greeting)
    assert b'"STARTTLS"\r\n' in greeting


def test_a_state_directory_has_one_suite(suite: Suite) -> None:
    """A second suite in the same state directory is refused in one line."""
    assert _run("up", "--state", str(suite.state)) == (
        os.EX_UNAVAILABLE,
        f"postwerk: another suite runs in {suite.state}\n",
    )


def test_a_port_has_one_suite(suite: Suite) -> None:
    """A second suite on the same ports is refused in one line, though the kernel would let it share them."""
    with state_directory() as other:
        code, said = _run("up", "--state", str(other), "--port-offset", str(suite.port_offset))
    host, port = suite.endpoint("smtp")
    assert (code, said) == (os.EX_OSERR, f"postwerk: smtp: cannot listen on {host}:{port}: Address already in use\n")


def test_nothing_outlives_the_supervisor() -> None:
    """When the supervisor is killed its processes and its database end, and the next start finds all in order."""
    with state_directory() as state:
        suite = Suite(state)
        suite.start()
        assert suite.process is not None
        members = [pid for pid in tree([suite.process.pid]) if pid != suite.process.pid]
        suite.process.kill()
        suite.process.wait()
        suite.start()  # at once: it waits for what is left of the old one
        try:
            _eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in members))
            assert _greets(suite.endpoint("smtp"))
        finally:
            assert suite.interrupt() == 0, suite.tail()


def test_default_ports_are_moved_by_the_offset() -> None:
    """Without configured listeners there are unprivileged ports of the loopback, each moved by the offset."""
    listen = adapt(Settings(), state=Path("/tmp"), port_offset=1000).listen
    assert {key: getattr(listen, key) for key in DEFAULT_PORTS} == {
        key: [f"127.0.0.1:{port + 1000}"] for key, port in DEFAULT_PORTS.items()
    }


def test_configured_ports_are_moved_and_kept_to() -> None:
    """With configured listeners there are those and no others; port 0 stays 0."""
    settings = Settings(listen=Listen(smtp=["[::1]:25", "127.0.0.1:0"]))
    listen = adapt(settings, state=Path("/tmp"), port_offset=7).listen
    assert (listen.smtp, listen.imap) == (["[::1]:32", "127.0.0.1:0"], None)


def test_clamd_is_used_where_it_answers(running_clamd: Clamd) -> None:
    """Viruses are looked for without a setting on a host that can, and never against the operator's word."""
    antivirus = Antivirus(clamd=str(running_clamd.socket))
    found = adapt(Settings(antivirus=antivirus), state=Path("/tmp")).smtp.filters
    assert found == ["authentication", "antivirus", "lists", "mime", "spam"]
    without = adapt(Settings(antivirus=antivirus, smtp=Smtp(filters=["mime"])), state=Path("/tmp"))
    assert without.smtp.filters == ["mime"]
    absent = Antivirus(clamd=str(running_clamd.socket.with_name("absent.sock")))
    assert adapt(Settings(antivirus=absent), state=Path("/tmp")).smtp.filters == Smtp().filters


def test_only_the_demo_trusts_the_loopback() -> None:
    """trusted_networks is empty unless configured, and holds the loopback under --demo."""
    assert adapt(Settings(), state=Path("/tmp")).trusted_networks == []
    demo = adapt(Settings(), state=Path("/tmp"), is_demo=True)
    assert demo.trusted_networks == ["127.0.0.0/8", "::1/128"]
    assert demo.hostname == "mail.example.test"
