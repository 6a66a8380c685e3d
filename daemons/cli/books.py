"""`postwerk book`: address books and other lists of addresses, which Sieve scripts name (RFC 6134)."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import click

from config.settings import Settings
from daemons.cli.common import as_owner, confirm, fail, json_option, settings_option, show, yes_option
from storage import accounts, address_lists
from storage.address_lists import ADDRESS_BOOK, Holder
from storage.errors import NotFoundError

if TYPE_CHECKING:
    from storage.pool import Connection

_T = TypeVar("_T")

list_option = click.option(
    "--list", "name", default=ADDRESS_BOOK, show_default=True, help="Which list; default is the address book."
)


@click.group()
def book() -> None:
    """Address books and lists of addresses that Sieve scripts name.

    OWNER is a login: scripts of that account say :addrbook:NAME. Or it is a tenant: scripts of all its accounts say :tenant:NAME.
    """


@book.command("lists")
@click.argument("owner")
@json_option
@settings_option
def show_lists(settings: Settings, owner: str, as_json: bool) -> None:
    """List the lists, each with its number of entries."""
    rows = _with_holder(settings, owner, address_lists.lists)
    show([asdict(row) for row in rows], as_json=as_json, empty="no lists")


@book.command("show")
@click.argument("owner")
@list_option
@json_option
@settings_option
def show_entries(settings: Settings, owner: str, name: str, as_json: bool) -> None:
    """Print what is in a list."""
    rows = _with_holder(settings, owner, lambda connection, holder: address_lists.entries(connection, holder, name))
    show([asdict(row) for row in rows], as_json=as_json, empty="nothing in it")


@book.command("add")
@click.argument("owner")
@click.argument("values", nargs=-1, required=True)
@list_option
@click.option("--label", default="", help="Whose address it is.")
@settings_option
def add(settings: Settings, owner: str, values: tuple[str, ...], name: str, label: str) -> None:
    """Put addresses into a list, which is made if need be. "@example.org" is every address there."""
    if any(not value.strip() for value in values) or not name.strip():
        fail("an address or a name is empty", os.EX_USAGE)
    count = _with_holder(
        settings, owner, lambda connection, holder: address_lists.add(connection, holder, name, values, label)
    )
    click.echo(f"{count} added")


@book.command("remove")
@click.argument("owner")
@click.argument("values", nargs=-1, required=True)
@list_option
@settings_option
def remove(settings: Settings, owner: str, values: tuple[str, ...], name: str) -> None:
    """Take addresses out of a list."""
    count = _with_holder(
        settings, owner, lambda connection, holder: address_lists.remove(connection, holder, name, values)
    )
    click.echo(f"{count} removed")


@book.command("drop")
@click.argument("owner")
@click.argument("name")
@yes_option
@settings_option
def drop(settings: Settings, owner: str, name: str, is_sure: bool) -> None:
    """Remove a list with all that is in it."""
    confirm(f"Remove the list {name} of {owner}?", is_sure=is_sure)
    _with_holder(settings, owner, lambda connection, holder: address_lists.drop(connection, holder, name))


def _with_holder(settings: Settings, owner: str, work: "Callable[[Connection, Holder], Awaitable[_T]]") -> _T:
    """What `work` gives for the account or, where it has no "@", the tenant."""

    async def run(connection: "Connection") -> _T:
        holder = await address_lists.holder(connection, accounts.login_name(owner) if "@" in owner else owner)
        return await work(connection, holder)

    try:
        return as_owner(settings, run)
    except NotFoundError as error:
        fail(f"there is no {error}", os.EX_NOUSER)
