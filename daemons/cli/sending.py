"""`postwerk sending`: who is suspended and why, what becomes of the mail that is held for it, and how much may be sent."""

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from config.settings import Settings
from config.units import Seconds
from daemons.cli.common import as_owner, confirm, fail, json_option, run_async, settings_option, show, yes_option
from daemons.cli.queueing import Age, change, operator, recipients, take_out_all
from daemons.smtp.sending import held_reason
from storage import outbound_changes, senders
from storage import sending as storage
from storage.outbound_listing import Selection
from storage.pool import Connection

_COUNTED = ("messages_hour", "recipients_hour", "messages_day", "recipients_day")


@click.group("sending")
def sending() -> None:
    """How much may be sent, and accounts that may not send for now."""


@sending.command("list")
@click.option("--tenant", "tenant_name", help="Only this tenant's.")
@json_option
@settings_option
def list_suspended(settings: Settings, tenant_name: str | None, as_json: bool) -> None:
    """List suspended accounts: why, by whom, since when, and how much is held of each."""
    rows = as_owner(settings, lambda connection: storage.suspended(connection, tenant_name))
    shown = [
        {
            "login": row.login,
            "tenant": row.tenant,
            "since": f"{row.suspended_at:%Y-%m-%d %H:%M:%S}",
            "by": row.suspended_by,
            "new_mail": "held" if row.is_holding else "refused",
            "held_recipients": row.held_recipients,
            "reason": row.reason,
        }
        for row in rows
    ]
    show(shown, as_json=as_json, empty="nobody is suspended")


@sending.command("show")
@click.argument("login")
@json_option
@settings_option
def show_account(settings: Settings, login: str, as_json: bool) -> None:
    """Show what an account, its domain and its tenant have sent in the last hour and day, of how much they may."""

    async def work(connection: Connection) -> list[dict[str, Any]]:
        await storage.account_of(connection, login)
        own = {(row.scope, row.name.lstrip("@")): row for row in await storage.list_caps(connection)}
        rows = []
        for count in await storage.counts_of(connection, login):
            row: dict[str, Any] = {"scope": count.scope, "name": count.name}
            for name in _COUNTED:
                cap = getattr(own.get((count.scope, count.name)), name, None)
                cap = getattr(settings.sending, f"{count.scope}_{name}") if cap is None else cap
                row[name] = f"{getattr(count, name)}/{cap or 'any'}"
            row["habit"] = round(max(count.habit, count.peak)) if count.scope == "account" else None
            rows.append(row)
        return rows

    show(as_owner(settings, work, about=login), as_json=as_json, empty="nothing was sent lately")


@sending.command("addresses")
@click.argument("login")
@json_option
@settings_option
def list_addresses(settings: Settings, login: str, as_json: bool) -> None:
    """List what an account may send as: its own addresses, and those of teams and others that let it."""

    async def work(connection: Connection) -> list[dict[str, Any]]:
        await storage.account_of(connection, login)
        return [asdict(row) for row in await senders.addresses_of(connection, login)]

    show(as_owner(settings, work, about=login), as_json=as_json, empty="no addresses")


# -- suspensions ----------------------------------------------------------------------------------------------------


@sending.command("suspend")
@click.argument("login")
@click.option("--reason", required=True, help="Why: for whoever looks. The account is not told.")
@click.option("--hold", "is_holding", is_flag=True, help="Take and hold what it sends. Default: refuse it.")
@settings_option
def suspend(settings: Settings, login: str, reason: str, is_holding: bool) -> None:
    """Stop an account's sending, and hold what it has in the queue."""

    async def work(connection: Connection) -> int:
        return await storage.suspend(connection, login, reason, operator(), is_holding=is_holding)

    account_id = as_owner(settings, work, about=login)
    selection, why = Selection(account_id=account_id), held_reason(reason)
    held = change(settings, "held", lambda one: outbound_changes.hold(one, selection, why), reason=why)
    click.echo(f"{recipients(held)} held")


@sending.command("release")
@click.argument("login")
@click.option(
    "--leave",
    type=Age(),
    help="How long no burst is seen in what it sends. Default: as configured (sending.burst_leave).",
)
@settings_option
def release(settings: Settings, login: str, leave: Seconds | None) -> None:
    """Let an account send again, and send all that was held for its suspension."""
    leave_seconds = settings.sending.burst_leave if leave is None else leave

    async def work(connection: Connection) -> int:
        account_id = await storage.account_of(connection, login)
        await storage.resume(connection, account_id, leave_seconds=leave_seconds)
        return account_id

    selection = _held(as_owner(settings, work, about=login))
    released = change(settings, "released", lambda one: outbound_changes.release(one, selection))
    click.echo(f"{recipients(released)} released")


@sending.command("discard")
@click.argument("login")
@click.option("--no-bounce", "is_silent", is_flag=True, help="Do not tell the account.")
@click.option("--reason", default="sending was suspended", show_default=True, help="Kept in the record, and told.")
@yes_option
@settings_option
def discard(settings: Settings, login: str, is_silent: bool, reason: str, is_sure: bool) -> None:
    """Delete all that is held for an account's suspension, with a record. The account stays suspended."""
    selection = _held(as_owner(settings, lambda one: storage.account_of(one, login), about=login))
    confirm(f"Delete all that is held of {login}? Nobody gets it any more.", is_sure=is_sure)
    deleted, _ = run_async(take_out_all(settings, selection, reason, is_silent=is_silent))
    click.echo(f"{recipients(deleted)} deleted")


def _held(account_id: int) -> Selection:
    return Selection(account_id=account_id, state="held", held_reason=storage.HELD_FOR_SUSPENSION)


# -- caps -----------------------------------------------------------------------------------------------------------


@sending.command("limits")
@json_option
@settings_option
def list_limits(settings: Settings, as_json: bool) -> None:
    """List the accounts, domains and tenants whose caps are not those of the configuration. 0: no cap."""
    rows = as_owner(settings, storage.list_caps)
    show([asdict(row) for row in rows], as_json=as_json, empty="nobody differs from the configuration")


def _cap(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(f"--{name}", type=click.IntRange(0), help=f"{text} 0: no cap. Default: as configured.")


@sending.command("limit")
@click.argument("whose", metavar="LOGIN|@DOMAIN|TENANT")
@_cap("messages-hour", "Messages in an hour.")
@_cap("recipients-hour", "Recipients in an hour.")
@_cap("messages-day", "Messages in a day.")
@_cap("recipients-day", "Recipients in a day.")
@_cap("burst", "Recipients in an hour from which on an account's mail may be a burst.")
@settings_option
def limit(settings: Settings, whose: str, burst: int | None, **caps: int | None) -> None:
    """Give an account, a domain or a tenant caps of its own, in place of those it had."""
    wanted = storage.Caps(**caps, burst_recipients=burst)
    if wanted == storage.Caps():
        fail("give at least one cap, or use `postwerk sending reset`", os.EX_USAGE)
    if burst is not None and "@" not in whose.lstrip("@"):
        fail("bursts are seen for single accounts", os.EX_USAGE)
    as_owner(settings, lambda one: storage.set_caps(one, whose, wanted), about=whose)


@sending.command("reset")
@click.argument("whose", metavar="LOGIN|@DOMAIN|TENANT")
@settings_option
def reset(settings: Settings, whose: str) -> None:
    """Let the configuration decide again how much may be sent."""
    as_owner(settings, lambda one: storage.reset_caps(one, whose), about=whose)
