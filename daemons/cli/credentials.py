"""`postwerk app-password` and `postwerk attack-events`."""

import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import click

from config.settings import Settings
from config.units import Seconds
from daemons.authentication import passwords
from daemons.cli.common import as_owner, fail, json_option, settings_option, show
from storage import accounts, credentials
from storage.errors import ExistsError, NotFoundError
from storage.pool import Connection

_SCOPES = ("imap", "pop3", "smtp", "sieve")


@click.group()
def app_password() -> None:
    """App passwords: one for each program or device, which can do less than the account's own and be taken back."""


@app_password.command("add")
@click.argument("login")
@click.argument("label")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(_SCOPES), help="What it is good for [all].")
@click.option("--network", "networks", multiple=True, help="From where, as CIDR [anywhere].")
@click.option("--expires", "lifetime", help='How long it lives, e.g. "90 d" [for ever].')
@settings_option
def add_app_password(
    settings: Settings,
    login: str,
    label: str,
    scopes: tuple[str, ...],
    networks: tuple[str, ...],
    lifetime: str | None,
) -> None:
    """Make an app password and print it, this once. LABEL says where it is used."""
    name = accounts.login_name(login)
    allowed = [_network(network) for network in networks]
    expires_at = datetime.now(UTC) + timedelta(seconds=_seconds(lifetime)) if lifetime is not None else None
    password = passwords.new_app_password()

    async def run(connection: Connection) -> None:
        try:
            account_id = await credentials.account_of(connection, name)
            secret = await credentials.salt_secret(connection)
            await credentials.add_app_password(
                connection,
                account_id,
                label,
                passwords.app_password_digest(password),
                bytes(passwords.verifier_of(password, secret, name).keys),
                scopes=scopes or _SCOPES,
                networks=allowed,
                expires_at=expires_at,
                limit=settings.authentication.app_password_limit,
            )
        except NotFoundError:
            fail(f"no account {login}", os.EX_NOUSER)
        except ExistsError as error:
            fail(f"{login}: {error}", os.EX_CANTCREAT)

    as_owner(settings, run)
    click.echo(password)


@app_password.command("list")
@click.option("--account", "login", help="Only this account's.")
@json_option
@settings_option
def list_app_passwords(settings: Settings, login: str | None, as_json: bool) -> None:
    """List app passwords, with their last use to the minute. The passwords themselves are not known any more."""
    name = None if login is None else accounts.login_name(login)
    rows = as_owner(settings, lambda connection: credentials.list_app_passwords(connection, name))
    shown = [asdict(row) for row in rows]
    if not as_json:
        shown = [
            row | {"scopes": " ".join(row["scopes"]), "networks": " ".join(row["networks"]) or "-"} for row in shown
        ]
    show(shown, as_json=as_json, empty="no app passwords")


@app_password.command("remove")
@click.argument("login")
@click.argument("label")
@settings_option
def remove_app_password(settings: Settings, login: str, label: str) -> None:
    """Take an app password back. Sessions that have logged in with it go on."""
    as_owner(
        settings,
        lambda connection: credentials.remove_app_password(connection, accounts.login_name(login), label),
        missing=f"{login} has no app password {label}",
    )


@click.group()
def attack_events() -> None:
    """Failed logins, with address and login: kept for seven days at most, and nowhere else."""


@attack_events.command("list")
@click.option("--tenant", help="Only what was tried with this tenant's accounts.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many at most.")
@json_option
@settings_option
def list_attacks(settings: Settings, tenant: str | None, limit: int, as_json: bool) -> None:
    """List the latest failed logins, newest first."""
    memory = settings.keeper.attack_memory
    rows = as_owner(
        settings,
        lambda connection: credentials.list_attacks(connection, tenant, limit, younger_than_seconds=memory),
    )
    show([asdict(row) for row in rows], as_json=as_json, empty="no failed logins")


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        fail(f"--network: {error}", os.EX_DATAERR)


def _seconds(text: str) -> Seconds:
    try:
        return Seconds.parse(text)
    except ValueError as error:
        fail(f"--expires: {error}", os.EX_DATAERR)
