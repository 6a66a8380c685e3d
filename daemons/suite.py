"""The whole suite: what `postwerk up` prepares, starts, publishes and stops, all in one state directory."""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from prometheus_client import CollectorRegistry

from config.listen import Listen, split_address
from config.loader import dump
from config.settings import Settings
from config.smtp import Smtp
from daemons import certificates, metrics
from daemons.antivirus import clamd_answers
from daemons.authentication.passwords import stored_forms
from daemons.certificates import write_atomically
from daemons.logs import logger
from daemons.runtime import PROCESSES, Notifier
from daemons.sockets import Networks, listening
from daemons.supervisor import Daemon, Database, Endpoints, StartError, Supervisor
from storage import accounts, credentials
from storage.blobs.keys import KeyRing, create_key_file
from storage.embedded import Cluster
from storage.errors import ExistsError
from storage.migrate import migrate

DEFAULT_PORTS = {
    "smtp": 2525,
    "lmtp": 2424,
    "submission": 2587,
    "submissions": 2465,
    "imap": 2143,
    "imaps": 2993,
    "pop3": 2110,
    "pop3s": 2995,
    "managesieve": 2419,
    "metrics": 2090,
}
DEMO_TENANT, DEMO_DOMAIN = "demo", "example.test"
DEMO_LOGINS = ("alice@example.test", "bob@example.test")
LOOPBACK = ["127.0.0.0/8", "::1/128"]
FRONT = ("smtp", "access")  # started last and stopped first: they talk to clients

log = logger("suite")


@dataclass(slots=True)
class Running:
    """What a suite that is ready tells about itself: endpoints.json."""

    endpoints: Endpoints = field(default_factory=dict)
    ca: str | None = None
    accounts: list[dict[str, str]] = field(default_factory=list)

    def render(self) -> bytes:
        """{"smtp": [host, port], …, "ca": path, "accounts": [{"login": …, "password": …}]}."""
        told: dict[str, Any] = {name: list(place) for name, place in self.endpoints.items()}
        if self.ca is not None:
            told["ca"] = self.ca
        told["accounts"] = self.accounts
        return json.dumps(told, indent=1).encode() + b"\n"


def adapt(settings: Settings, *, state: Path, port_offset: int = 0, is_demo: bool = False) -> Settings:
    """The settings as `up` runs them: in this state directory, on unprivileged loopback ports when none are configured."""
    listen = settings.listen
    if all(getattr(listen, key) is None for key in listen.__struct_fields__):
        listen = Listen(**{key: [f"127.0.0.1:{port}"] for key, port in DEFAULT_PORTS.items()})
    moved = {key: _moved(getattr(listen, key), port_offset) for key in listen.__struct_fields__}
    settings = msgspec.structs.replace(settings, state=str(state.resolve()), listen=Listen(**moved))
    settings = _with_antivirus(settings)
    if is_demo:
        hostname = settings.hostname if settings.hostname != "localhost" else f"mail.{DEMO_DOMAIN}"
        trusted = list(dict.fromkeys([*settings.trusted_networks, *LOOPBACK]))
        settings = msgspec.structs.replace(settings, hostname=hostname, trusted_networks=trusted)
    return settings


def _with_antivirus(settings: Settings) -> Settings:
    """Where nobody has said which filters there are, clamd is used when it answers on this host."""
    if settings.smtp.filters != Smtp().filters or not clamd_answers(settings.antivirus.clamd):
        return settings
    first, *others = settings.smtp.filters
    smtp = msgspec.structs.replace(settings.smtp, filters=[first, "antivirus", *others])
    return msgspec.structs.replace(settings, smtp=smtp)


def _moved(addresses: list[str] | None, offset: int) -> list[str] | None:
    if addresses is None or not offset:
        return addresses
    moved = []
    for address in addresses:
        _, port = split_address(address)
        moved.append(f"{address.rpartition(':')[0]}:{port + offset if port else 0}")
    return moved


async def run(settings: Settings, *, is_demo: bool, announce: Callable[[Running, Settings], None]) -> None:
    """Run everything until SIGINT or SIGTERM. `announce` is called once, when all listeners answer.

    Raises StartError, StorageError or OSError when the suite cannot start; then nothing of it is left running.
    """
    lay_out(settings)
    supervisor = Supervisor()
    with _locked(settings.run_directory / "lock"):
        probe_ports(settings.listen)
        serving = asyncio.create_task(_serve(supervisor, settings, is_demo, announce))

        def on_signal() -> None:
            if serving.cancelling():
                supervisor.hurry()
            else:
                serving.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def _serve(
    supervisor: Supervisor, settings: Settings, is_demo: bool, announce: Callable[[Running, Settings], None]
) -> None:
    """Start all, then wait to be cancelled, then stop all."""
    published = settings.run_directory / "endpoints.json"
    published.unlink(missing_ok=True)
    running, notifier = Running(), Notifier()
    try:
        settings = await _with_database(supervisor, settings)
        settings, running.ca = _with_certificate(settings)
        if is_demo:
            running.accounts = await populate(settings)
        configuration = settings.run_directory / "postwerk.toml"
        write_atomically(configuration, dump(settings).encode(), 0o600)
        counters = settings.run_directory / "metrics"
        shutil.rmtree(counters, ignore_errors=True)
        counters.mkdir(mode=0o700)

        def on_ready(_name: str, endpoints: Endpoints) -> None:
            running.endpoints.update(endpoints)
            if published.exists():  # a process has come back, perhaps on other ports
                write_atomically(published, running.render(), 0o600)

        back = [name for name in PROCESSES if name not in FRONT]
        await supervisor.start(*(Daemon(name, configuration, counters, on_ready) for name in back))
        await supervisor.start(*(Daemon(name, configuration, counters, on_ready) for name in FRONT))
        async with _metrics(supervisor, settings, counters, running):
            write_atomically(published, running.render(), 0o600)
            announce(running, settings)
            notifier.send(READY="1", STATUS="serving")
            await asyncio.get_running_loop().create_future()
    finally:
        notifier.send(STOPPING="1")
        published.unlink(missing_ok=True)
        await supervisor.stop()


def lay_out(settings: Settings) -> None:
    """The state directory and what lies in it. Only the database's account may pass through, and only to its own."""
    state = Path(settings.state)
    state.mkdir(mode=0o711, parents=True, exist_ok=True)
    for directory in (settings.segments_directory, settings.spool_directory, settings.run_directory):
        directory.mkdir(mode=0o700, exist_ok=True)
    create_key_file(settings.master_key_file)
    create_key_file(settings.archive_key_file)


def probe_ports(listen: Listen) -> None:
    """Raises OSError naming an address that somebody else listens on.

    The listeners share ports (SO_REUSEPORT), so a second suite of the same user would get half of the connections
    instead of an error.
    """
    for key in listen.__struct_fields__:
        for address in getattr(listen, key) or ():
            host, port = split_address(address)
            for family, kind, protocol, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    try:
                        probe.bind(place)
                    except OSError as error:
                        raise OSError(error.errno, f"{key}: cannot listen on {address}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One suite per state directory: the lock goes with the process, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"another suite runs in {path.parent.parent}") from None
        yield


async def _with_database(supervisor: Supervisor, settings: Settings) -> Settings:
    """Start the private server when no other is configured; migrate in any case."""
    database = settings.database
    if database.dsn is None:
        cluster = Cluster(Path(settings.state), binaries=database.binaries)
        await asyncio.to_thread(cluster.prepare)
        await supervisor.start(Database(cluster))
        database = msgspec.structs.replace(database, dsn=cluster.dsn(), owner_dsn=cluster.dsn())
        settings = msgspec.structs.replace(settings, database=database)
    applied = await migrate(database.owner_dsn or database.dsn or "")
    if applied:
        log.info("migrated", applied=applied)
    return settings


def _with_certificate(settings: Settings) -> tuple[Settings, str | None]:
    """A certificate of our private CA when none is configured, and that CA's path."""
    if settings.tls.certificate:
        return settings, None
    names = tuple(dict.fromkeys([*certificates.NAMES, settings.hostname]))
    issued = certificates.issue(Path(settings.state) / "tls", now=datetime.now(UTC), names=names)
    tls = msgspec.structs.replace(settings.tls, certificate=str(issued.certificate), key=str(issued.key))
    return msgspec.structs.replace(settings, tls=tls), str(issued.authority)


async def populate(settings: Settings) -> list[dict[str, str]]:
    """The demo tenant with its accounts; their passwords are in state/demo.json, so that a second run has the same."""
    kept = Path(settings.state) / "demo.json"
    known: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
    passwords = {login: known.get(login) or secrets.token_urlsafe(12) for login in DEMO_LOGINS}
    write_atomically(kept, json.dumps(passwords, indent=1).encode() + b"\n", 0o600)
    connection = await asyncpg.connect(settings.database.owner_dsn or settings.database.dsn)
    try:
        with contextlib.suppress(ExistsError):
            await accounts.add_tenant(connection, DEMO_TENANT, KeyRing(settings.master_key_file).new_tenant_key())
        with contextlib.suppress(ExistsError):
            await accounts.add_domain(connection, DEMO_TENANT, DEMO_DOMAIN)
        existing = {row.login for row in await accounts.list_accounts(connection)}
        salt_secret = await credentials.salt_secret(connection) if settings.authentication.scram else None
        for login, password in passwords.items():
            if login in existing and login in known:
                continue
            stored, scram = stored_forms(password, login, salt_secret)
            if login not in existing:
                await accounts.add_account(connection, DEMO_TENANT, login, stored, scram=scram)
            else:
                await accounts.set_password(connection, login, stored, scram=scram)
    finally:
        await connection.close()
    return [{"login": login, "password": password} for login, password in passwords.items()]


@contextlib.asynccontextmanager
async def _metrics(supervisor: Supervisor, settings: Settings, counters: Path, running: Running) -> AsyncIterator[None]:
    """The metrics of all processes together."""

    def processes() -> list[tuple[str, int, int]]:
        own = [("supervisor", os.getpid(), 0)]
        return own + [
            (keeping.program.name, keeping.process.pid, keeping.restart_count)
            for keeping in supervisor.kept
            if keeping.process is not None
        ]

    registry = CollectorRegistry()
    registry.register(metrics.ProcessCollector(processes))
    handler = metrics.exposition(lambda: metrics.render_all(counters, registry))
    async with listening(settings.listen.metrics or [], handler, trusted=Networks(LOOPBACK)) as listener:
        if listener.endpoints:
            running.endpoints["metrics"] = listener.endpoints[0]
        yield
