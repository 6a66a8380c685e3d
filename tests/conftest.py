"""What tests stand on: one private PostgreSQL per session, a fresh database per test, settings, a context, an account.

The server runs without fsync. State directories lie below the system's temporary directory with mode 0711, not in
pytest's tmp_path: when tests run as root PostgreSQL runs as another account, which must get there.
"""

import asyncio
import itertools
import os
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import hypothesis
import pytest
import structlog
import uvloop

from config.database import Database
from config.listen import Listen
from config.settings import Settings
from config.smtp import Smtp
from config.tls import Tls
from daemons.authentication import hash_password
from daemons.certificates import Issued, issue
from daemons.context import Context, open_context
from storage import accounts
from storage.blobs.keys import KeyRing, create_key_file
from storage.embedded import Cluster
from storage.migrate import migrate
from storage.pool import Pool, open_pool
from tests.clamd import Clamd

structlog.configure()  # its defaults, so that no command under test sets up logs for the whole session
# The same examples in every run, and no word about a busy machine; `make fuzz` looks for others.
_PATIENT = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("postwerk", _PATIENT, derandomize=True)
hypothesis.settings.register_profile("fuzz", _PATIENT, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "1000")))
hypothesis.settings.load_profile("postwerk")

PASSWORD = "correct horse battery"

_numbers = itertools.count(1)
_loop_errors: list[dict[str, Any]] = []


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(lambda _loop, context: _loop_errors.append(context))
    return loop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[..., Any]]:
    """Tests run on the loop that the daemons run on."""
    return {"uvloop": _new_loop}


@pytest.fixture(autouse=True)
def _no_loop_errors() -> Iterator[None]:
    """A test fails when a task or callback of it died unseen."""
    _loop_errors.clear()
    yield
    assert not _loop_errors, _loop_errors


def new_state() -> Path:
    """A directory that the database's account can reach. Whoever asks for it removes it."""
    directory = Path(tempfile.mkdtemp(prefix="postwerk-test-"))
    directory.chmod(0o711)
    return directory


@pytest.fixture
def state() -> Iterator[Path]:
    """An empty state directory."""
    directory = new_state()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


# These two are no coroutines: fixtures that are one hang on the loop of the test that asks first, and pytest-asyncio
# gives tests that are coroutines another loop than those that are not. The server would be started anew at each change.
@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running server, without fsync, for the whole session."""
    directory = new_state()
    private = Cluster(directory, is_durable=False)
    private.prepare()
    process = private.spawn()
    try:
        asyncio.run(private.until_ready(process))
        yield private
    finally:
        private.stop(process)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """The name of a migrated, empty database, from which those of the tests are copied."""

    async def make() -> None:
        connection = await asyncpg.connect(cluster.dsn("postgres"))
        await connection.execute("CREATE DATABASE migrated")
        await connection.close()
        await migrate(cluster.dsn("migrated"))

    asyncio.run(make())
    return "migrated"


@pytest.fixture
async def database(cluster: Cluster, template: str) -> AsyncIterator[str]:
    """The DSN of a database of the test's own, migrated and empty. Its user is the schema's owner."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(cluster.dsn("postgres"))
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield cluster.dsn(name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def owner(database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection as the schema's owner, as the command line uses it."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool with the rights of the daemons. A test that keeps a connection fails."""
    async with open_pool(database, size=4, role="postwerk_daemon") as opened:
        yield opened
        assert opened.get_idle_size() == opened.get_size(), "a connection was not given back"


@pytest.fixture(scope="session")
def certificate() -> Iterator[Issued]:
    """A private CA and a server certificate of it for localhost."""
    directory = new_state()
    yield issue(directory / "tls", now=datetime.now(UTC))
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def client_tls(certificate: Issued) -> ssl.SSLContext:
    """What a client that trusts our CA uses."""
    return ssl.create_default_context(cafile=str(certificate.authority))


@pytest.fixture(scope="session")
def running_clamd() -> Iterator[Clamd]:
    """A virus scanner for the whole session. Who kills it starts it again."""
    directory = new_state()
    daemon = Clamd(directory)
    daemon.start()
    yield daemon
    daemon.kill()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def settings(state: Path, database: str, certificate: Issued) -> Settings:
    """Settings of a whole suite: every protocol on a free port of the loopback, which is no trusted network; no filters."""
    anywhere = ["127.0.0.1:0"]
    made = Settings(
        hostname="mail.example.test",
        state=str(state),
        database=Database(dsn=database, owner_dsn=database, pool_size=4),
        tls=Tls(certificate=str(certificate.certificate), key=str(certificate.key)),
        smtp=Smtp(filters=[]),
        listen=Listen(
            smtp=anywhere,
            lmtp=anywhere,
            submission=anywhere,
            submissions=anywhere,
            imap=anywhere,
            imaps=anywhere,
            pop3=anywhere,
            pop3s=anywhere,
            managesieve=anywhere,
        ),
    )
    for directory in (made.segments_directory, made.spool_directory, made.run_directory):
        directory.mkdir(parents=True, exist_ok=True)
    create_key_file(made.master_key_file)
    create_key_file(made.archive_key_file)
    return made


@pytest.fixture
async def context(settings: Settings) -> AsyncIterator[Context]:
    """What a daemon's service gets."""
    async with open_context(settings) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class Person:
    """An account that exists."""

    tenant_id: int
    account_id: int
    login: str
    password: str


@pytest.fixture
async def account(settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]") -> Person:
    """alice@example.test of the tenant "example", with a password."""
    return await add_person(settings, owner, "alice@example.test")


Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def add_person(settings: Settings, owner: Owner, login: str) -> Person:
    """One more account of the tenant "example"; tenant and domain are made when they are missing."""
    tenant_id = await owner.fetchval("SELECT tenant_id FROM tenant WHERE name = 'example'")
    if tenant_id is None:
        wrapped = KeyRing(settings.master_key_file).new_tenant_key()
        tenant_id = await accounts.add_tenant(owner, "example", wrapped)
        await accounts.add_domain(owner, "example", "example.test")
    account_id = await accounts.add_account(owner, "example", login, _hashed())
    return Person(tenant_id, account_id, login, PASSWORD)


def _hashed(kept: list[str] = []) -> str:  # noqa: B006  # one hash per session: it costs 20 ms
    if not kept:
        kept.append(hash_password(PASSWORD))
    return kept[0]
