"""Our own suite, started as a user starts it: `postwerk up --demo` in a state directory, driven by its command line.

Used by the benchmarks and by tests/end_to_end. Never imports the product: what it knows, a user knows.
"""

import atexit
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.system import DOMAIN, READER, Account, System

POSTWERK = Path(sys.executable).with_name("postwerk")
_PORTS = (2525, 2424, 2587, 2465, 2143, 2993, 2110, 2995, 2419, 2090)  # of `postwerk up`, before --port-offset
_OFFSETS = range(4000, 29000)  # so that they are below the ephemeral range
_SINGLE_PORTS = range(3000, 6000)  # below those
_START_SECONDS = 90.0
_STOP_SECONDS = 60.0


# Mail is stored as it comes: no filter looks at it, and fields that would be taken for forged ones are a forwarder's.
UNFILTERED = """
[smtp]
filters = []

[authenticity]
forwarders = ["127.0.0.0/8"]
"""


_reserved = ExitStack()
atexit.register(_reserved.close)


class SuiteError(Exception):
    """The suite did not start, stop or answer; the text ends with the last lines of its output."""


@dataclass(slots=True)
class Suite:
    """One state directory and, while started, the supervisor process that serves it."""

    state: Path
    port_offset: int = field(default_factory=lambda: free_port_offset())
    configuration: str = UNFILTERED  # "": without a file, as a user tries it first
    is_demo: bool = True  # with its tenant and accounts; the loopback is trusted
    endpoints: dict[str, Any] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def output_file(self) -> Path:
        """Where stdout and stderr of `postwerk up` go."""
        return self.state.with_name(self.state.name + ".output")

    def start(self) -> None:
        """Start `postwerk up` and wait until run/endpoints.json tells where it listens."""
        announced = self.state / "run" / "endpoints.json"
        announced.unlink(missing_ok=True)
        command = [str(POSTWERK), "up", "--state", str(self.state), "--port-offset", str(self.port_offset)]
        command += ["--demo"] if self.is_demo else []
        if self.configuration:
            file = self.state.with_name(self.state.name + ".toml")
            file.write_text(self.configuration)
            command += ["--config", str(file)]
        with self.output_file.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while not announced.exists():
            if self.process.poll() is not None:
                raise SuiteError(f"postwerk up ended with {self.process.returncode}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise SuiteError(f"not ready after {_START_SECONDS} s\n{self.tail()}")
            time.sleep(0.05)
        self.endpoints = json.loads(announced.read_text("utf-8"))

    def interrupt(self) -> int:
        """Send SIGINT as Ctrl-C does, wait for the end; gives the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise SuiteError(f"still running {_STOP_SECONDS} s after SIGINT\n{self.tail()}") from None

    def kill(self) -> None:
        """Kill everything of it at once: the last resort of a test that failed."""
        from bench import processor

        if self.process is not None and self.process.poll() is None:
            for pid in processor.tree([self.process.pid]):
                with _gone_is_fine():
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(10)

    def command(self, *arguments: str, text: str | None = None, within_seconds: float = 120) -> str:
        """Run `postwerk ARGUMENTS --state STATE` with `text` on its standard input; gives its standard output."""
        done = subprocess.run(
            [str(POSTWERK), *arguments, "--state", str(self.state)],
            input=text,
            capture_output=True,
            text=True,
            timeout=within_seconds,
        )
        if done.returncode != 0:
            raise SuiteError(f"postwerk {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def tail(self) -> str:
        """The last lines of the supervisor's output."""
        return self.output_file.read_text("utf-8", "replace")[-4000:] if self.output_file.exists() else ""

    def endpoint(self, name: str) -> tuple[str, int]:
        """(host, port) of a listener: smtp, lmtp, submission, imap, imaps, pop3, pop3s, ..."""
        host, port = self.endpoints[name]
        return host, port

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts the demo's certificate authority and nothing else."""
        return ssl.create_default_context(cafile=self.endpoints["ca"])

    def accounts(self) -> list[Account]:
        """The demo's accounts."""
        return [Account(entry["login"], entry["password"]) for entry in self.endpoints["accounts"]]


def free_port_offset(ports: Sequence[int] = _PORTS, offsets: range = _OFFSETS) -> int:
    """An offset at which every one of the ports, by default those of `postwerk up`, is free on loopback.

    Whoever is to listen there needs a while to begin: until this process ends nobody else who asks here gets one of them.
    """
    chance = random.Random(os.getpid() * 1_000_003 + time.monotonic_ns())
    for _ in range(200):
        offset = chance.choice(offsets)
        if _is_reserved([port + offset for port in ports]) and all(_is_free(port + offset) for port in ports):
            return offset
    raise SuiteError("no free range of ports")


def free_port() -> int:
    """One port as of free_port_offset(): no outgoing connection happens to get it before somebody listens there."""
    return free_port_offset((0,), _SINGLE_PORTS)


def _is_reserved(ports: Sequence[int]) -> bool:
    """Take names for the ports that only one process at a time can have, and that are gone with it."""
    holding: list[socket.socket] = []
    try:
        for port in ports:
            holding.append(socket.socket(socket.AF_UNIX))
            holding[-1].bind(f"\0postwerk port {port}")
    except OSError:
        for each in holding:
            each.close()
        return False
    for each in holding:
        _reserved.enter_context(each)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextmanager
def state_directory() -> Iterator[Path]:
    """A temporary parent for a state directory that PostgreSQL's user can reach; gone afterwards."""
    parent = Path(tempfile.mkdtemp(prefix="postwerk-", dir="/tmp"))
    parent.chmod(0o711)
    try:
        yield parent / "state"
    finally:
        shutil.rmtree(parent, ignore_errors=True)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        return


@contextmanager
def suite_under_load(accounts: list[Account], configuration: str = "") -> Iterator[System]:
    """Our suite as a System for the scenarios, with the accounts that every system under load has."""
    with state_directory() as state:
        suite = Suite(state, configuration=UNFILTERED + configuration)
        suite.start()
        try:
            add_accounts(suite, [*accounts, READER])
            endpoints: dict[str, tuple[str, int] | str] = {
                name: suite.endpoint(name) for name in ("smtp", "lmtp", "submission", "imaps", "pop3s", "metrics")
            }
            assert suite.process is not None
            yield System(
                "postwerk",
                endpoints,
                accounts,
                READER,
                suite.tls(),
                [suite.process.pid],
                holds_by_parameter=True,
                let_go=lambda: _let_go(suite),
                discard=lambda: _discard(suite),
                look=lambda: _look(suite),
            )
        finally:
            code = suite.interrupt()
            if code != 0:
                raise SuiteError(f"postwerk up ended with {code}\n{suite.tail()}")


def _let_go(suite: Suite) -> None:
    suite.command("queue", "retry", "--all")


def _discard(suite: Suite) -> None:
    suite.command("queue", "delete", "--all", "--no-bounce", "--reason", "bench", "--yes")


async def _look(suite: Suite) -> tuple[float, float]:
    """A lease as the relays make it, undone: milliseconds, and pages that it touched."""
    import asyncpg

    settings = tomllib.loads((suite.state / "run" / "postwerk.toml").read_text("utf-8"))
    connection = await asyncpg.connect(settings["database"]["owner_dsn"])
    try:
        transaction = connection.transaction()
        await transaction.start()
        for _ in range(3):  # the last one has its plans
            explained = await connection.fetchval(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT lease_outbound(200, 60, 'bench', '{}', 5)"
            )
        await transaction.rollback()
        (plan,) = json.loads(explained)
        pages = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        return float(plan["Execution Time"]), float(pages)
    finally:
        await connection.close()


def outgoing_configuration(ways: Mapping[str, tuple[str, int]]) -> str:
    """Settings with which mail for these domains goes to these hosts and ports, and nobody is taken for a spammer."""
    caps = [f"{who}_{what}_{when}" for who in ("account", "domain", "tenant") for what in ("messages", "recipients")
            for when in ("hour", "day")]  # fmt: skip
    lines = ["[sending]", *(f"{cap} = 0" for cap in caps), "burst_recipients = 0"]
    for domain, (address, port) in ways.items():
        lines += ["[[transport.routes]]", f'domains = ["{domain}"]', f'host = "{address}"', f"port = {port}"]
    return "\n".join(lines) + "\n"


def add_accounts(suite: Suite, accounts: list[Account]) -> None:
    """Add the accounts with their passwords, below a domain of their own in the demo's tenant."""
    tenant = json.loads(suite.command("tenant", "list", "--json"))[0]["name"]
    suite.command("domain", "add", DOMAIN, "--tenant", tenant)
    for account in accounts:
        suite.command("account", "add", account.login, "--password-stdin", text=account.password + "\n")
