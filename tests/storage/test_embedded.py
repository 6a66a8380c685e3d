"""The private PostgreSQL: made once, reached by a socket and a password only, recovered after a crash."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from storage.embedded import Cluster, EmbeddedError, choose_owner, find_binaries
from tests.conftest import new_state


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A state directory with an initialised cluster."""
    state = new_state()
    Cluster(state, is_durable=False).prepare()
    yield state
    shutil.rmtree(state, ignore_errors=True)


async def test_it_is_reached_by_socket_and_password_only(home: Path) -> None:
    """There is no TCP listener, the socket directory is private, and a wrong password is refused."""
    cluster = Cluster(home, is_durable=False)
    cluster.prepare()
    process = cluster.spawn()
    try:
        await cluster.until_ready(process)
        connection = await asyncpg.connect(cluster.dsn())
        assert await connection.fetchval("SHOW listen_addresses") == ""
        assert await connection.fetchval(
            "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'postwerk'"
        )
        await connection.close()
        assert stat.S_IMODE((home / "postgres" / "socket").stat().st_mode) == 0o700
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(cluster.dsn().replace("postwerk:", "postwerk:x"))
    finally:
        cluster.stop(process)
    assert process.returncode == 0


async def test_it_is_durable_unless_told_otherwise(home: Path) -> None:
    """fsync, synchronous_commit and full_page_writes are on."""
    cluster = Cluster(home)
    cluster.prepare()
    process = cluster.spawn()
    try:
        await cluster.until_ready(process)
        connection = await asyncpg.connect(cluster.dsn())
        settings = [
            await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")
        ]
        await connection.close()
    finally:
        cluster.stop(process)
    assert settings == ["on", "on", "on"]


async def test_it_recovers_after_a_crash(home: Path) -> None:
    """A killed server is started again over what it left, a stale pid file of another process included."""
    cluster = Cluster(home)
    cluster.prepare()
    process = cluster.spawn()
    await cluster.until_ready(process)
    connection = await asyncpg.connect(cluster.dsn())
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (number integer)")
    await connection.execute("INSERT INTO kept VALUES (1)")
    process.kill()
    process.wait()
    connection.terminate()  # nobody is left to say goodbye to
    pid_file = cluster.directory / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    cluster.recover()
    process = cluster.spawn()
    try:
        await cluster.until_ready(process)
        connection = await asyncpg.connect(cluster.dsn())
        assert await connection.fetchval("SELECT count(*) FROM kept") == 1
        await connection.close()
    finally:
        cluster.stop(process)


async def test_a_server_that_still_runs_is_ended_first(home: Path) -> None:
    """When an earlier supervisor has died, its server ends before ours starts."""
    first = Cluster(home)
    first.prepare()
    process = first.spawn()
    await first.until_ready(process)
    Cluster(home).prepare()
    assert process.wait(30) == 0


def test_another_major_version_is_refused(home: Path) -> None:
    """A data directory of another PostgreSQL is named, with what to do, and left as it is."""
    version = home / "postgres" / "data" / "PG_VERSION"
    told = version.read_text()
    try:
        version.write_text("14\n")
        with pytest.raises(EmbeddedError, match=r"holds PostgreSQL 14, the binaries are \d+: .*pg_upgrade"):
            Cluster(home).prepare()
    finally:
        version.write_text(told)


def test_secrets_are_private(home: Path) -> None:
    """Data directory and password are for the database's account alone."""
    assert stat.S_IMODE((home / "postgres" / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "postgres" / "password").stat().st_mode) == 0o600


async def test_a_long_path_gets_a_short_socket(home: Path) -> None:
    """Where the state directory's path exceeds what a socket address holds, the socket lies elsewhere, as private."""
    deep = home / ("d" * 100)
    deep.mkdir(mode=0o711)
    cluster = Cluster(deep, is_durable=False)
    cluster.prepare()
    process = cluster.spawn()
    try:
        await cluster.until_ready(process)
        connection = await asyncpg.connect(cluster.dsn())
        directory = Path(await connection.fetchval("SHOW unix_socket_directories"))
        await connection.close()
        assert not directory.is_relative_to(deep)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    finally:
        cluster.stop(process)
        directory.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: the database runs as ourselves")
async def test_an_unreachable_state_directory_gets_a_home_elsewhere(home: Path) -> None:
    """As root, below a directory that the database's account cannot enter, the cluster lies elsewhere behind a link."""
    hidden = home / "hidden"
    hidden.mkdir(mode=0o700)
    state = hidden / "state"
    state.mkdir(mode=0o711)
    cluster = Cluster(state, is_durable=False)
    cluster.prepare()
    try:
        link = state / "postgres"
        assert link.is_symlink()
        owner = choose_owner()
        assert owner is not None
        assert link.resolve().stat().st_uid == owner.uid
        process = cluster.spawn()
        try:
            await cluster.until_ready(process)
        finally:
            cluster.stop(process)
        assert process.returncode == 0
    finally:
        shutil.rmtree(link.resolve())


def test_configured_binaries_must_exist() -> None:
    """database.binaries without initdb is an error that names it."""
    with pytest.raises(EmbeddedError, match=r"database\.binaries: /nonexistent has no initdb"):
        find_binaries("/nonexistent")
    assert (find_binaries() / "postgres").exists()
