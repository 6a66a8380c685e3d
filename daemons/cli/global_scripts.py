"""`postwerk sieve global`: scripts that run for all accounts of the host or of a tenant, or that their scripts include."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click

from config.settings import Settings
from daemons.cli.common import as_owner, fail, json_option, settings_option, show
from daemons.cli.script_files import checked, named
from storage import global_scripts
from storage.errors import NotFoundError
from storage.global_scripts import Place

if TYPE_CHECKING:
    from storage.pool import Connection

_T = TypeVar("_T")

tenant_option = click.option("--tenant", help="Whose accounts it is for. Without it: all accounts of the host.")


@click.group("global")
def global_() -> None:
    """Scripts for many accounts: before their own one, after it, or to be included by it."""


@global_.command("list")
@click.option("--tenant", help="Of this tenant only.")
@json_option
@settings_option
def list_scripts(settings: Settings, tenant: str | None, as_json: bool) -> None:
    """List them: the host's, then those of tenants. Those of one place run in the order of their names."""
    rows = as_owner(settings, lambda connection: global_scripts.list_global(connection, tenant))
    show([asdict(row) for row in rows], as_json=as_json, empty="no scripts")


@global_.command("put")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.option("--before", "place", flag_value="before", help="It runs before the account's own script.")
@click.option(
    "--after", "place", flag_value="after", help="It runs after that, unless the message is not kept any more."
)
@click.option("--library", "place", flag_value="library", help="It runs only where a script includes it.")
@tenant_option
@settings_option
def put(settings: Settings, name: str, file: BinaryIO, place: Place | None, tenant: str | None) -> None:
    """Check a script and store it in place of the one of that name. FILE "-" is standard input."""
    if place is None:
        fail("say --before, --after or --library", os.EX_USAGE)
    octets = file.read()
    checked(settings, octets, file.name)
    wanted = named(name)
    _changed(settings, lambda connection: global_scripts.put(connection, tenant, wanted, place, octets))


@global_.command("get")
@click.argument("name")
@tenant_option
@settings_option
def get(settings: Settings, name: str, tenant: str | None) -> None:
    """Print a script, octet for octet."""
    wanted = named(name)
    found = _changed(settings, lambda connection: global_scripts.read(connection, tenant, wanted))
    if found is None:
        fail(f"there is no global script {name}", os.EX_NOUSER)
    click.echo(found.octets, nl=False)


@global_.command("delete")
@click.argument("name")
@tenant_option
@settings_option
def delete(settings: Settings, name: str, tenant: str | None) -> None:
    """Delete a script; it does not run any more from the next message on."""
    wanted = named(name)
    _changed(settings, lambda connection: global_scripts.delete(connection, tenant, wanted))


def _changed(settings: Settings, work: "Callable[[Connection], Awaitable[_T]]") -> _T:
    """What `work` gives; it may not find the tenant or the script."""
    try:
        return as_owner(settings, work)
    except NotFoundError as error:
        fail(f"there is no {error}", os.EX_NOUSER)
