"""`postwerk sieve`: the Sieve scripts of accounts."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import click

from config.settings import Settings
from daemons.cli.applying import apply
from daemons.cli.common import fail, json_option, settings_option, show, with_account
from daemons.cli.global_scripts import global_
from daemons.cli.script_files import checked, named
from storage import scripts
from storage.errors import NotFoundError, OverQuotaError, TooManyError
from storage.scripts import ActiveScriptError, Bounds
from storage.settings import SCRIPT_NAME

if TYPE_CHECKING:
    from storage.pool import Connection


@click.group()
def sieve() -> None:
    """Sieve scripts of accounts, as ManageSieve clients see them."""


sieve.add_command(global_)
sieve.add_command(apply)


@sieve.command("list")
@click.argument("login")
@json_option
@settings_option
def list_scripts(settings: Settings, login: str, as_json: bool) -> None:
    """List an account's scripts."""
    rows = with_account(settings, login, scripts.list_scripts)
    show([asdict(row) for row in rows], as_json=as_json, empty="no scripts")


@sieve.command("get")
@click.argument("login")
@click.argument("name")
@settings_option
def get(settings: Settings, login: str, name: str) -> None:
    """Print a script, octet for octet."""
    wanted = named(name)
    found = with_account(settings, login, lambda connection, account: scripts.read(connection, account, wanted))
    if found is None:
        _fail_missing(login, name)
    click.echo(found.octets, nl=False)


@sieve.command("put")
@click.argument("login")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.option("--activate", "is_active", is_flag=True, help="Make it the active one.")
@settings_option
def put(settings: Settings, login: str, name: str, file: BinaryIO, is_active: bool) -> None:
    """Check a script and store it in place of the one of that name. FILE "-" is standard input."""
    octets = file.read()
    checked(settings, octets, file.name)
    wanted = _own(name)
    limits = settings.managesieve
    bounds = Bounds(limits.script_count_limit, limits.script_total_limit)

    async def work(connection: "Connection", account_id: int) -> None:
        try:
            async with connection.transaction():
                await scripts.put(connection, account_id, wanted, octets, bounds)
                if is_active:
                    await scripts.activate(connection, account_id, wanted)
        except (TooManyError, OverQuotaError) as error:
            fail(f"{login}: {error}", os.EX_CANTCREAT)

    with_account(settings, login, work)


@sieve.command("activate")
@click.argument("login")
@click.argument("name", required=False)
@click.option("--none", "is_none", is_flag=True, help="Let no script be active.")
@settings_option
def activate(settings: Settings, login: str, name: str | None, is_none: bool) -> None:
    """Make a script the account's active one, of which there is at most one."""
    if (name is None) != is_none:
        fail("give either a script's name or --none", os.EX_USAGE)
    wanted = _own(name) if name is not None else None

    async def work(connection: "Connection", account_id: int) -> None:
        try:
            await scripts.activate(connection, account_id, wanted)
        except NotFoundError:
            _fail_missing(login, name or "")

    with_account(settings, login, work)


@sieve.command("delete")
@click.argument("login")
@click.argument("name")
@settings_option
def delete(settings: Settings, login: str, name: str) -> None:
    """Delete a script that is not active."""
    wanted = _own(name)

    async def work(connection: "Connection", account_id: int) -> None:
        try:
            await scripts.delete(connection, account_id, wanted)
        except NotFoundError:
            _fail_missing(login, name)
        except ActiveScriptError:
            fail(f"{name} is active: `postwerk sieve activate {login} --none` first", os.EX_USAGE)

    with_account(settings, login, work)


@sieve.command("check")
@click.argument("file", type=click.File("rb"))
@settings_option
def check(settings: Settings, file: BinaryIO) -> None:
    """Tell what is wrong with a script, by line and column. FILE "-" is standard input."""
    checked(settings, file.read(), file.name)


def _own(name: str) -> str:
    """The name of a script that may be changed."""
    wanted = named(name)
    if wanted == SCRIPT_NAME:
        fail(f"{SCRIPT_NAME} shows what `postwerk rules` and the like have set, and changes with them", os.EX_USAGE)
    return wanted


def _fail_missing(login: str, name: str) -> NoReturn:
    fail(f"{login} has no script {name}", os.EX_NOUSER)
