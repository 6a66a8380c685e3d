"""What commands share: finding the settings, running coroutines, output as table or JSON, errors as one line."""

import asyncio
import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from config.loader import ConfigError, load
from config.units import Octets, spell

if TYPE_CHECKING:
    import asyncpg

    from config.settings import Settings
    from storage.rows import AccountRow, TeamRow, TenantRow

SYSTEM_CONFIGURATION = Path("/etc/postwerk/postwerk.toml")
DEFAULT_STATE = Path("state")

_T = TypeVar("_T")


class Failure(click.ClickException):
    """Ends the command with one line on standard error and an exit code of sysexits.h."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.code = exit_code

    def show(self, file: Any = None) -> None:
        """One line, whatever the text."""
        click.echo(f"postwerk: {' '.join(self.message.split())}", err=True)


def fail(text: str, exit_code: int) -> NoReturn:
    """End the command: fail("no such account", os.EX_NOUSER)."""
    raise Failure(text, exit_code)


def checked_address(text: str) -> str:
    """The address as it was given. Ends the command when it is none."""
    from protocol.address import AddressError, parse_addr_spec

    try:
        parse_addr_spec(text)
    except AddressError as error:
        fail(f"{text} is not an address: {error}", os.EX_DATAERR)
    return text


def trace_id_of(text: str) -> str:
    """An id of a message as people type it. Ends the command when it is none."""
    if re.fullmatch(r"[0-9a-fA-F]{16}", text) is None:
        fail(f"{text} is no id: 16 hexadecimal digits, as in our reply to the message", os.EX_USAGE)
    return text.lower()


def settings_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and --state; the command gets `settings`."""

    @click.option("--config", type=click.Path(path_type=Path), help="Configuration file.")
    @click.option(
        "--state", type=click.Path(path_type=Path), help="State directory of a suite that `postwerk up` runs [./state]."
    )
    @functools.wraps(command)
    def with_settings(config: Path | None, state: Path | None, **arguments: Any) -> Any:
        return command(settings=find_settings(config, state), **arguments)

    return with_settings


def find_settings(config: Path | None, state: Path | None) -> "Settings":
    """From --config; else from the suite that runs in --state, in ./state; else the system's configuration."""
    if config is not None:
        return load(config)
    running = (state or DEFAULT_STATE) / "run" / "postwerk.toml"
    if running.exists() or state is not None:
        if not running.exists():
            fail(f"no suite has run in {state}: start it with `postwerk up --state {state}`", os.EX_UNAVAILABLE)
        return load(running)
    if SYSTEM_CONFIGURATION.exists():
        return load(SYSTEM_CONFIGURATION)
    fail("which suite? Give --config FILE or --state DIR, or start one with `postwerk up`", os.EX_USAGE)


def run_async(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run it on uvloop. StorageError and the like pass through: the main group makes one line of them."""
    import structlog
    import uvloop

    from config.logs import Logs
    from daemons import logs

    if not structlog.is_configured():  # what is logged must not get between the lines of a result
        logs.configure(Logs(level="warning"), "postwerk")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


@contextlib.asynccontextmanager
async def owner_connection(settings: "Settings") -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection as the schema's owner. Raises UnavailableError."""
    import asyncpg

    from storage.errors import UnavailableError
    from storage.pool import AWAY

    dsn = settings.database.owner_dsn or settings.database.dsn
    if dsn is None:
        fail("database.dsn is not set: only a suite that `postwerk up` runs has its own database", os.EX_CONFIG)
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (*AWAY, asyncpg.PostgresError, TimeoutError) as error:
        raise UnavailableError(f"the database is not reachable ({error}): does `postwerk up` run?") from error
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


def as_owner(
    settings: "Settings",
    work: Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[_T]],
    *,
    missing: str | None = None,
    taken: str | None = None,
    about: str | None = None,
) -> _T:
    """What `work` gives with a connection as the schema's owner. Raises what it raises, and UnavailableError.

    missing, taken: how the command ends instead of NotFoundError and ExistsError. about: what NotFoundError is told with.
    """
    from storage.errors import ExistsError, NotFoundError

    async def run() -> _T:
        async with owner_connection(settings) as connection:
            return await work(connection)

    try:
        return run_async(run())
    except NotFoundError as error:
        if missing is None and about is None:
            raise
        fail(missing or f"{error}: {about}", os.EX_NOUSER)
    except ExistsError:
        if taken is None:
            raise
        fail(taken, os.EX_CANTCREAT)


def with_account(
    settings: "Settings",
    login: str,
    work: Callable[["asyncpg.Connection[asyncpg.Record]", int], Awaitable[_T]],
) -> _T:
    """What `work` gives for the account, which must be a person's."""
    from storage import accounts, credentials
    from storage.errors import NotFoundError

    async def run(connection: "asyncpg.Connection[asyncpg.Record]") -> _T:
        try:
            account_id = await credentials.account_of(connection, accounts.login_name(login))
        except NotFoundError:
            fail(f"no account {login}", os.EX_NOUSER)
        return await work(connection, account_id)

    return as_owner(settings, run)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def show(rows: Sequence[dict[str, Any]], *, as_json: bool, empty: str = "none") -> None:
    """Print rows, all with the same keys, as a table with a head or as a JSON array."""
    if as_json:
        click.echo(json.dumps(rows, indent=1, default=str, ensure_ascii=False))
        return
    if not rows:
        click.echo(empty, err=True)
        return
    names = list(rows[0])
    cells = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


class Quota(click.ParamType[Octets | None]):
    """A size: "1G", "500 MiB", or "none"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Octets | None:
        """click.ParamType."""
        if value is None or isinstance(value, Octets):
            return value
        if value == "none":
            return None
        try:
            return Octets.parse(int(value) if value.isascii() and value.isdigit() else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def size(octets: int | None) -> str:
    """For people: "1 GiB", "3.2 MiB"; "-" without one."""
    if octets is None:
        return "-"
    exact = spell(Octets(octets))
    if not exact.endswith(" B") or octets < 10_000:
        return exact
    value, names = float(octets), iter(("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
    name = next(names)
    while value >= 1024 and name != "PiB":
        value, name = value / 1024, next(names)
    return f"{value:.1f} {name}"


def with_sizes(row: "AccountRow | TeamRow | TenantRow", *, as_json: bool) -> dict[str, Any]:
    """The row to show: quota and usage in octets for programs, with units for people."""
    shown = asdict(row)
    if not as_json:
        shown |= {"quota_octets": size(row.quota_octets), "used_octets": size(row.used_octets)}
    return shown


def confirm(question: str, *, is_sure: bool) -> None:
    """Ask before something is lost. Without a terminal --yes must be given."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        fail(f"{question} Say so with --yes.", os.EX_USAGE)
    click.confirm(question, abort=True)


yes_option = click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")


def exit_code_of(error: Exception) -> int | None:
    """The sysexits.h code for an error that we expect to happen; None for a bug."""
    from storage.errors import ExistsError, NotFoundError, StorageError

    if isinstance(error, ConfigError):
        return os.EX_CONFIG
    if isinstance(error, NotFoundError):
        return os.EX_NOUSER
    if isinstance(error, ExistsError):
        return os.EX_CANTCREAT
    if isinstance(error, StorageError):
        return os.EX_UNAVAILABLE
    if isinstance(error, PermissionError):
        return os.EX_NOPERM
    if isinstance(error, FileNotFoundError):
        return os.EX_NOINPUT
    return os.EX_OSERR if isinstance(error, OSError) else None
