"""`postwerk senders`: whom accounts and tenants allow or block."""

import ipaddress
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click

from config.settings import Settings
from daemons.cli.common import as_owner, fail, json_option, settings_option, show
from filters.sender_lists import Entry, Identity, PatternError, SenderList, normal
from storage import listed_senders
from storage.pool import Connection

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group()
def senders() -> None:
    """Senders that are always let in, or never: of accounts, and of tenants for all their accounts.

    PATTERN is an address (bob@example.net), a domain with those below it (example.net), only those below it (*.example.net),
    something with wildcards (news-*@example.net), or a network (192.0.2.0/24).
    """


def _whose(command: _Command) -> _Command:
    command = click.option("--account", "login", help="The list of this account.")(command)
    return click.option("--tenant", help="The list of this tenant, for all its accounts.")(command)


@senders.command("allow")
@click.argument("pattern")
@_whose
@click.option("--note", default="", help="For whoever reads the list.")
@settings_option
def allow(settings: Settings, pattern: str, login: str | None, tenant: str | None, note: str) -> None:
    """Let PATTERN in whatever its spam score is. A name counts only when SPF, DKIM or DMARC proves it; viruses stay out."""
    _add(settings, pattern, login, tenant, note, is_allowed=True)


@senders.command("block")
@click.argument("pattern")
@_whose
@click.option("--note", default="", help="For whoever reads the list.")
@settings_option
def block(settings: Settings, pattern: str, login: str | None, tenant: str | None, note: str) -> None:
    """Refuse whatever PATTERN sends."""
    _add(settings, pattern, login, tenant, note, is_allowed=False)


@senders.command("remove")
@click.argument("pattern")
@_whose
@settings_option
def remove(settings: Settings, pattern: str, login: str | None, tenant: str | None) -> None:
    """Take PATTERN off the list."""
    _check_whose(login, tenant)
    wanted = _normal(pattern)

    async def run(connection: Connection) -> bool:
        owner = await listed_senders.owner_of(connection, tenant=tenant, login=login)
        return await listed_senders.remove(connection, owner, wanted)

    if not as_owner(settings, run):
        fail(f"{wanted} is not on the list", os.EX_NOUSER)


@senders.command("list")
@_whose
@json_option
@settings_option
def list_senders(settings: Settings, login: str | None, tenant: str | None, as_json: bool) -> None:
    """List what is allowed and blocked: by an account, by a tenant and its accounts, or by all."""

    async def query(connection: Connection) -> list[listed_senders.ListedRow]:
        return await listed_senders.entries(connection, tenant=tenant, login=login)

    rows = [asdict(row) for row in as_owner(settings, query)]
    if not as_json:
        rows = [row | {"created_at": f"{row['created_at']:%Y-%m-%d}"} for row in rows]
    show(rows, as_json=as_json, empty="nobody is listed")


@senders.command("check")
@click.argument("sender")
@click.option("--account", "login", required=True, help="Whose mail it would be.")
@click.option("--peer", default="", help="The IP address of the host that would bring it.")
@settings_option
def check(settings: Settings, sender: str, login: str, peer: str) -> None:
    """Say what SENDER, an address, is listed as when it is proven, and by which entry."""
    if peer:
        try:
            ipaddress.ip_address(peer)
        except ValueError:
            fail(f"{peer} is not an IP address", os.EX_USAGE)
    address = _normal(sender)
    if "@" not in address or "*" in address:
        fail(f"{sender} is not an address", os.EX_USAGE)

    async def query(connection: Connection) -> list[listed_senders.Listed]:
        owner = await listed_senders.owner_of(connection, login=login)
        return await listed_senders.of_account(connection, owner)

    entries = as_owner(settings, query)
    compiled = SenderList(
        Entry(each.pattern, "allowed" if each.is_allowed else "blocked", each.is_own) for each in entries
    )
    match = compiled.judge(peer, [Identity(address, is_proven=True)])
    click.echo(f"{match.standing}: {match.reason}" if match is not None else "not listed")


def _add(
    settings: Settings, pattern: str, login: str | None, tenant: str | None, note: str, *, is_allowed: bool
) -> None:
    _check_whose(login, tenant)
    wanted = _normal(pattern)

    async def run(connection: Connection) -> None:
        owner = await listed_senders.owner_of(connection, tenant=tenant, login=login)
        await listed_senders.add(connection, owner, wanted, is_allowed=is_allowed, note=note)

    as_owner(settings, run)


def _check_whose(login: str | None, tenant: str | None) -> None:
    if (login is None) == (tenant is None):
        fail("whose list? Give --account LOGIN or --tenant NAME", os.EX_USAGE)


def _normal(pattern: str) -> str:
    try:
        return normal(pattern)
    except PatternError as error:
        fail(f"{pattern}: {error}", os.EX_USAGE)
