"""`postwerk account` and `postwerk address`."""

import os
import secrets
import sys
from dataclasses import asdict

import click

from config.settings import Settings
from config.units import Octets
from daemons.authentication.passwords import stored_forms
from daemons.cli.common import (
    Quota,
    as_owner,
    checked_address,
    confirm,
    fail,
    json_option,
    settings_option,
    show,
    with_sizes,
    yes_option,
)
from daemons.cli.tenants import tenant_with
from storage import accounts, credentials, forwards
from storage.pool import Connection
from storage.sent import set_copies

_password_options = (
    click.option("--password-stdin", "is_from_stdin", is_flag=True, help="Read the password from standard input."),
    click.option("--generate", "is_generated", is_flag=True, help="Make a password and print it."),
)


@click.group()
def account() -> None:
    """Accounts: a login, a password, mailboxes."""


@account.command("add")
@click.argument("address")
@click.option("--tenant", "owner", help="Default: the tenant of the address's domain.")
@click.option("--quota", type=Quota(), help='Room for mail, e.g. "1G". Default: none.')
@_password_options[0]
@_password_options[1]
@settings_option
def add_account(
    settings: Settings,
    address: str,
    owner: str | None,
    quota: Octets | None,
    is_from_stdin: bool,
    is_generated: bool,
) -> None:
    """Add an account with its address and mailboxes; the address is the login."""
    domain = accounts.domain_name(checked_address(address).rpartition("@")[2])
    password = _new_password(is_from_stdin, is_generated)

    async def run(connection: Connection) -> None:
        tenant = await tenant_with(connection, domain)
        stored, scram = await _stored(settings, connection, address, password)
        await accounts.add_account(connection, owner or tenant, address, stored, quota, scram=scram)

    as_owner(settings, run, missing=f"{domain} is not a domain of {owner}", taken=f"{address} exists already")
    if is_generated:
        click.echo(password)


@account.command("list")
@click.option("--tenant", "owner", help="Only this tenant's.")
@json_option
@settings_option
def list_accounts(settings: Settings, owner: str | None, as_json: bool) -> None:
    """List all accounts."""
    rows = [row for row in as_owner(settings, accounts.list_accounts) if owner in (None, row.tenant)]
    show([with_sizes(row, as_json=as_json) for row in rows], as_json=as_json, empty="no accounts")


@account.command("show")
@click.argument("login")
@json_option
@settings_option
def show_account(settings: Settings, login: str, as_json: bool) -> None:
    """Show one account."""
    rows = [row for row in as_owner(settings, accounts.list_accounts) if row.login == login.lower()]
    if not rows:
        fail(f"no account {login}", os.EX_NOUSER)
    show([with_sizes(row, as_json=as_json) for row in rows], as_json=as_json)


@account.command("passwd")
@click.argument("login")
@_password_options[0]
@_password_options[1]
@settings_option
def set_password(settings: Settings, login: str, is_from_stdin: bool, is_generated: bool) -> None:
    """Give an account a new password; the old one is void at once."""
    password = _new_password(is_from_stdin, is_generated)

    async def run(connection: Connection) -> None:
        stored, scram = await _stored(settings, connection, login, password)
        await accounts.set_password(connection, login, stored, scram=scram)

    as_owner(settings, run, missing=f"no account {login}")
    if is_generated:
        click.echo(password)


@account.command("copy-sent")
@click.argument("login")
@click.argument("choice", type=click.Choice(["on", "off"]))
@settings_option
def copy_sent(settings: Settings, login: str, choice: str) -> None:
    """Store what LOGIN sends in its Sent mailbox, too; a client that does so itself takes the place of our copy."""
    as_owner(
        settings,
        lambda connection: set_copies(connection, accounts.login_name(login), copies_sent=choice == "on"),
        missing=f"no account {login}",
    )


@account.command("remove")
@click.argument("login")
@yes_option
@settings_option
def remove_account(settings: Settings, login: str, is_sure: bool) -> None:
    """Remove an account with its mailboxes and addresses. What is archived stays archived."""
    confirm(f"Remove {login} and all its mail?", is_sure=is_sure)
    as_owner(settings, lambda connection: accounts.remove_account(connection, login), missing=f"no account {login}")


@click.group()
def address() -> None:
    """Addresses of accounts, beyond the login, and addresses that forward. "@example.org" catches what has no other address."""


@address.command("add")
@click.argument("address")
@click.argument("login")
@settings_option
def add_address(settings: Settings, address: str, login: str) -> None:
    """Deliver mail for ADDRESS to the account LOGIN."""
    checked_address(address if not address.startswith("@") else f"x{address}")

    as_owner(
        settings,
        lambda connection: accounts.add_address(connection, address, login),
        taken=f"{address} exists already",
        missing=f"no account {login}, or its tenant has not the domain of {address}",
    )


@address.command("list")
@click.option("--account", "login", help="Only this account's.")
@json_option
@settings_option
def list_addresses(settings: Settings, login: str | None, as_json: bool) -> None:
    """List all addresses."""
    rows = [row for row in as_owner(settings, accounts.list_addresses) if login is None or row.login == login.lower()]
    show([asdict(row) for row in rows], as_json=as_json, empty="no addresses")


@address.command("show")
@click.argument("address")
@json_option
@settings_option
def show_address(settings: Settings, address: str, as_json: bool) -> None:
    """Show where mail for an address goes."""
    rows = [row for row in as_owner(settings, accounts.list_addresses) if row.address == address.lower()]
    if not rows:
        fail(f"no address {address}", os.EX_NOUSER)
    show([asdict(row) for row in rows], as_json=as_json)


@address.command("remove")
@click.argument("address")
@settings_option
def remove_address(settings: Settings, address: str) -> None:
    """Accept no more mail for an address."""
    as_owner(settings, lambda connection: accounts.remove_address(connection, address), missing=f"no address {address}")


@address.command("forward")
@click.argument("address")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@click.option("--keep/--no-keep", "keeps", default=True, help="The account of ADDRESS, if any, gets a copy. [--keep]")
@settings_option
def forward_address(settings: Settings, address: str, targets: tuple[str, ...], keeps: bool) -> None:
    """Pass mail for ADDRESS on to each TARGET, here or on other hosts, in place of what it forwarded to before."""
    checked_address(address if not address.startswith("@") else f"x{address}")
    names = list(dict.fromkeys(map(checked_address, targets)))
    if accounts.login_name(address) in map(accounts.login_name, names):
        fail(f"{address} would forward to itself: --keep keeps a copy", os.EX_DATAERR)
    if len(names) >= settings.smtp.forward_limit:
        fail(f"{len(names)} targets: smtp.forward_limit is {settings.smtp.forward_limit}", os.EX_DATAERR)

    as_owner(
        settings,
        lambda connection: forwards.set_forward(connection, address, names, keeps=keeps),
        missing=f"the domain of {address} is none of ours",
    )


@address.command("forwards")
@json_option
@settings_option
def list_forwards(settings: Settings, as_json: bool) -> None:
    """List addresses that forward, with whose account they are and whether it keeps a copy."""
    rows = [asdict(row) for row in as_owner(settings, forwards.list_forwards)]
    if not as_json:
        rows = [row | {"forward_paths": " ".join(row["forward_paths"])} for row in rows]
    show(rows, as_json=as_json, empty="no address forwards")


@address.command("unforward")
@click.argument("address")
@settings_option
def unforward_address(settings: Settings, address: str) -> None:
    """Pass mail for ADDRESS on no more; its account, if it has one, gets all of it."""
    as_owner(
        settings, lambda connection: forwards.remove_forward(connection, address), missing=f"{address} does not forward"
    )


async def _stored(settings: Settings, connection: Connection, login: str, password: str) -> tuple[str, str | None]:
    """The hash and, unless the configuration says otherwise, the SCRAM verifier."""
    secret = await credentials.salt_secret(connection) if settings.authentication.scram else None
    return stored_forms(password, accounts.login_name(login), secret)


def _new_password(is_from_stdin: bool, is_generated: bool) -> str:
    if is_from_stdin and is_generated:
        fail("--password-stdin and --generate exclude each other", os.EX_USAGE)
    if is_generated:
        return secrets.token_urlsafe(15)
    if is_from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        fail("no terminal to ask for a password: give --password-stdin or --generate", os.EX_USAGE)
    if not password:
        fail("the password is empty", os.EX_DATAERR)
    return password
