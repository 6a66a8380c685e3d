"""`postwerk tenant` and `postwerk domain`."""

import os
from dataclasses import asdict

import click

from config.settings import Settings
from config.units import Octets, spell
from daemons.cli.common import (
    Quota,
    as_owner,
    confirm,
    fail,
    json_option,
    settings_option,
    show,
    with_sizes,
    yes_option,
)
from storage import accounts, antivirus, greylist, traces
from storage.blobs.keys import KeyRing
from storage.pool import Connection
from storage.rows import TenantRow

_MOST_DAYS = 3650


@click.group()
def tenant() -> None:
    """Tenants: customers, each with its own key, quota and archive."""


@tenant.command("add")
@click.argument("name")
@click.option("--quota", type=Quota(), help='For all its accounts together, e.g. "500G". Default: none.')
@settings_option
def add_tenant(settings: Settings, name: str, quota: Octets | None) -> None:
    """Add a tenant. Its key is made and wrapped by the master key."""
    ring = KeyRing(settings.master_key_file)
    as_owner(settings, lambda connection: accounts.add_tenant(connection, name, ring.new_tenant_key(), quota))


@tenant.command("list")
@json_option
@settings_option
def list_tenants(settings: Settings, as_json: bool) -> None:
    """List all tenants."""
    show(
        [with_sizes(row, as_json=as_json) for row in as_owner(settings, accounts.list_tenants)],
        as_json=as_json,
        empty="no tenants",
    )


@tenant.command("show")
@click.argument("name")
@json_option
@settings_option
def show_tenant(settings: Settings, name: str, as_json: bool) -> None:
    """Show one tenant."""
    rows = [row for row in as_owner(settings, accounts.list_tenants) if row.name == name]
    if not rows:
        fail(f"no tenant {name}", os.EX_NOUSER)
    show([with_sizes(row, as_json=as_json) for row in rows], as_json=as_json)


@tenant.command("trace")
@click.argument("name")
@click.argument("days", required=False, metavar="[DAYS|default]")
@settings_option
def trace_days(settings: Settings, name: str, days: str | None) -> None:
    """Show, or set, for how many days the tenant's delivery trace is kept. 0: nothing is recorded; default: as configured."""
    if days is not None and days != "default" and not (days.isascii() and days.isdigit() and int(days) <= _MOST_DAYS):
        fail(f"give a number of days, {_MOST_DAYS} at most, or default", os.EX_USAGE)

    async def run(connection: Connection) -> int | None:
        if days is not None:
            await traces.set_days(connection, name, None if days == "default" else int(days))
        return await traces.days_of(connection, name)

    own = as_owner(settings, run)
    configured = spell(settings.trace.retention)
    click.echo(f"{own} days" if own is not None else f"{configured}, as configured")


@tenant.command("language")
@click.argument("name")
@click.argument("language", type=click.Choice(["de", "en"]))
@settings_option
def set_language(settings: Settings, name: str, language: str) -> None:
    """Set the language of what is written to the tenant's people: delivery reports above all. A new tenant has German."""
    as_owner(
        settings, lambda connection: accounts.set_language(connection, name, language), missing=f"no tenant {name}"
    )


@tenant.command("antivirus")
@click.argument("name")
@click.argument("action", required=False, type=click.Choice(["reject", "strip", "quarantine", "discard", "default"]))
@settings_option
def antivirus_action(settings: Settings, name: str, action: str | None) -> None:
    """Show, or set, what becomes of infected mail for the tenant's people. default: as configured ([antivirus] infected)."""

    async def run(connection: Connection) -> str | None:
        if action is not None:
            await antivirus.choose(connection, name, None if action == "default" else action)
        return await antivirus.chosen(connection, name)

    own = as_owner(settings, run, missing=f"no tenant {name}")
    click.echo(own or f"{settings.antivirus.infected}, as configured")


@tenant.command("greylisting")
@click.argument("name")
@click.argument("choice", required=False, type=click.Choice(["on", "off", "default"]))
@settings_option
def greylisting(settings: Settings, name: str, choice: str | None) -> None:
    """Show, or set, whether strangers who write to the tenant's people are put off once. default: as configured ([greylisting])."""

    async def run(connection: Connection) -> bool | None:
        if choice is not None:
            await greylist.choose(connection, name, {"on": True, "off": False}.get(choice))
        return await greylist.chosen(connection, name)

    own = as_owner(settings, run)
    configured = "on" if settings.greylisting.enabled else "off"
    click.echo({True: "on", False: "off", None: f"{configured}, as configured"}[own])


@tenant.command("remove")
@click.argument("name")
@yes_option
@settings_option
def remove_tenant(settings: Settings, name: str, is_sure: bool) -> None:
    """Remove a tenant that has no domains, accounts or archive any more."""
    confirm(f"Remove the tenant {name} and destroy its key?", is_sure=is_sure)
    as_owner(settings, lambda connection: accounts.remove_tenant(connection, name))


@click.group()
def domain() -> None:
    """Domains that mail is accepted for."""


@domain.command("add")
@click.argument("name")
@click.option("--tenant", "owner", help="Whose it is. Needed when there are several tenants.")
@settings_option
def add_domain(settings: Settings, name: str, owner: str | None) -> None:
    """Add a domain to a tenant."""
    if not all(name.split(".")) or "@" in name or any(character.isspace() for character in name):
        fail(f"{name} is not a domain", os.EX_DATAERR)

    async def run(connection: Connection) -> None:
        await accounts.add_domain(connection, owner or only_tenant(await accounts.list_tenants(connection)), name)

    as_owner(settings, run)


@domain.command("list")
@click.option("--tenant", "owner", help="Only this tenant's.")
@json_option
@settings_option
def list_domains(settings: Settings, owner: str | None, as_json: bool) -> None:
    """List all domains."""
    rows = [row for row in as_owner(settings, accounts.list_domains) if owner in (None, row.tenant)]
    show([asdict(row) for row in rows], as_json=as_json, empty="no domains")


@domain.command("show")
@click.argument("name")
@json_option
@settings_option
def show_domain(settings: Settings, name: str, as_json: bool) -> None:
    """Show one domain."""
    rows = [row for row in as_owner(settings, accounts.list_domains) if row.name == accounts.domain_name(name)]
    if not rows:
        fail(f"no domain {name}", os.EX_NOUSER)
    show([asdict(row) for row in rows], as_json=as_json)


@domain.command("remove")
@click.argument("name")
@yes_option
@settings_option
def remove_domain(settings: Settings, name: str, is_sure: bool) -> None:
    """Remove a domain with its addresses. Accounts and their mail stay."""
    confirm(f"Remove the domain {name} and all its addresses?", is_sure=is_sure)
    as_owner(settings, lambda connection: accounts.remove_domain(connection, name))


async def tenant_with(connection: Connection, domain: str) -> str:
    """The tenant that has a domain; without one the command fails and tells how to add it."""
    names = [row.tenant for row in await accounts.list_domains(connection) if row.name == domain]
    if not names:
        fail(f"no domain {domain}: postwerk domain add {domain}", os.EX_NOUSER)
    return names[0]


def only_tenant(rows: list[TenantRow]) -> str:
    """The one tenant's name; with several of them the command fails and asks for --tenant."""
    if len(rows) != 1:
        fail("which tenant? Give --tenant" if rows else "no tenant yet: postwerk tenant add NAME", os.EX_USAGE)
    return rows[0].name
