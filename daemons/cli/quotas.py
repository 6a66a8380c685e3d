"""`postwerk quota`: how much accounts and tenants may store, and who may say so over IMAP (RFC 9208)."""

from collections.abc import Awaitable, Callable

import click

from config.settings import Settings
from config.units import Octets
from daemons.cli.common import Quota, as_owner, settings_option
from storage import quota as limits
from storage.pool import Connection

Change = Callable[[Connection], Awaitable[None]]


@click.group()
def quota() -> None:
    """Room for mail: of single accounts, and of a tenant's accounts together."""


@quota.command("set")
@click.argument("login")
@click.option("--size", type=Quota(), help='Room for mail, e.g. "1G". Default: no limit.')
@click.option("--messages", type=click.IntRange(0), help="How many messages at most. Default: no limit.")
@settings_option
def set_limits(settings: Settings, login: str, size: Octets | None, messages: int | None) -> None:
    """Give an account limits, in place of those it had."""
    _change(settings, f"no account {login}", lambda owner: limits.limit_account(owner, login, size, messages))


@quota.command("pool")
@click.argument("tenant")
@click.argument("size", type=Quota())
@settings_option
def set_pool(settings: Settings, tenant: str, size: Octets | None) -> None:
    """Limit what all accounts of a tenant may store together, e.g. "500G", or "none"."""
    _change(settings, f"no tenant {tenant}", lambda owner: limits.limit_pool(owner, tenant, size))


@quota.command("administrator")
@click.argument("login")
@click.option("--revoke", "is_revoked", is_flag=True, help="Not any more.")
@settings_option
def set_administrator(settings: Settings, login: str, is_revoked: bool) -> None:
    """Let an account set the limits of its tenant's accounts (SETQUOTA) and the tenant's shared annotations (SETMETADATA)."""
    _change(
        settings, f"no account {login}", lambda owner: limits.set_administrator(owner, login, is_granted=not is_revoked)
    )


def _change(settings: Settings, complaint: str, change: Change) -> None:
    as_owner(settings, change, missing=complaint)
