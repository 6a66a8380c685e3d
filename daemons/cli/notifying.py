"""`postwerk notifier`: notifications of accounts over HTTP, what they cost, and how many an account may cause."""

import json
import os
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

import click

from config.settings import Settings
from daemons.cli.common import as_owner, fail, json_option, run_async, settings_option, show
from daemons.context import open_context
from daemons.notifying import can_notify
from daemons.outgoing import new_transaction_id
from daemons.relay.notices import Notices, Outcome, target_of
from daemons.relay.resolver import Resolver
from protocol.sms import parse_sms
from storage import notifying as storage
from storage.notifying import Kind, LeasedNotification
from storage.pool import Connection

_MOST = 1_000_000
tenant_option = click.option("--tenant", help="Only this tenant's.")


class Limit(click.ParamType[int | str]):
    """A number, or "default"."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """click.ParamType."""
        text = str(value)
        if text == "default":
            return text
        if not (text.isascii() and text.isdigit() and int(text) <= _MOST):
            self.fail(f"a number, {_MOST} at most, or default", param, ctx)
        return int(text)


@click.group()
def notifier() -> None:
    """Notifications that rules of accounts cause: by mail, to web servers, and by SMS gateways."""


@notifier.command("list")
@tenant_option
@click.option("--account", "login", help="Only this account's.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Notifications at most.")
@json_option
@settings_option
def list_notifications(settings: Settings, tenant: str | None, login: str | None, limit: int, as_json: bool) -> None:
    """List notifications over HTTP that wait, and those that ended lately, the newest first."""
    login = None if login is None else login.lower()
    rows = as_owner(
        settings, lambda connection: storage.list_notifications(connection, limit, tenant=tenant, login=login)
    )
    shown = [asdict(row) | {"target": target_of(row.kind, row.target)} for row in rows]
    if not as_json:
        for row in shown:
            row |= {name: f"{row[name]:%Y-%m-%d %H:%M:%S}" for name in ("created_at", "next_attempt_at")}
            row["next_attempt_at"] = row["next_attempt_at"] if row["state"] == "waiting" else None
            del row["notification_id"]
    show(shown, as_json=as_json, empty="no notifications")


@notifier.command("costs")
@click.argument("month", required=False, metavar="[YYYY-MM]")
@tenant_option
@json_option
@settings_option
def list_costs(settings: Settings, month: str | None, tenant: str | None, as_json: bool) -> None:
    """Count what accounts caused in a month (default: this one), and what it cost."""
    first, end = _month(month)
    rows = as_owner(settings, lambda connection: storage.list_costs(connection, first, end, tenant=tenant))
    shown = [asdict(row) for row in rows]
    if not as_json:
        for row in shown:
            row["cost"] = f"{row['cost'] / 1000:.3f}"
    show(shown, as_json=as_json, empty="no notifications")


@notifier.command("limit")
@click.argument("login", required=False)
@click.option("--mail", type=Limit(), help="Mails in a day.")
@click.option("--web", type=Limit(), help="Webhooks in a day.")
@click.option("--sms", type=Limit(), help="SMS in a day.")
@json_option
@settings_option
def limit(
    settings: Settings,
    login: str | None,
    mail: int | str | None,
    web: int | str | None,
    sms: int | str | None,
    as_json: bool,
) -> None:
    """Give an account limits of its own, or list those that differ. default: as configured."""
    given: dict[Kind, int | str | None] = {"mail": mail, "web": web, "sms": sms}
    wanted = {kind: most for kind, most in given.items() if most is not None}
    if bool(wanted) != (login is not None):
        fail("give LOGIN and a limit, or neither", os.EX_USAGE)
    if login is None:
        rows = as_owner(settings, storage.list_limits)
        show([asdict(row) for row in rows], as_json=as_json, empty="no account differs from the configuration")
        return
    account = login.lower()

    async def run(connection: Connection) -> None:
        async with connection.transaction():
            for kind, most in wanted.items():
                await storage.set_limit(connection, account, kind, most if isinstance(most, int) else None)

    as_owner(settings, run, missing=f"no account {login}")


@notifier.command("test")
@click.argument("target", metavar="NUMBER|URL")
@click.argument("text", default="Test", required=False)
@settings_option
def test(settings: Settings, target: str, text: str) -> None:
    """Send one SMS or webhook now, and show what is said to it. It is neither counted nor tried again."""
    uri = target if target.lower().startswith("https:") else f"sms:{''.join(target.split())}"
    if not can_notify(settings.notifier, uri):
        fail(f"{target}: nothing can be sent there", os.EX_USAGE)
    kind: Kind = "web" if uri == target else "sms"
    numbers = (target,) if kind == "web" else parse_sms(uri).numbers

    async def run() -> list[Outcome]:
        resolver = Resolver(settings.transport)
        async with open_context(settings) as context:
            notices, now = Notices(context, resolver), datetime.now(UTC)
            try:
                facts = json.dumps({"id": new_transaction_id(), "text": text, "message": text})
                return [
                    await notices.attempt(LeasedNotification(0, 0, 0, kind, each, facts, 1, "", 1, now))
                    for each in numbers
                ]
            finally:
                await notices.close()
                await resolver.close()

    outcomes = run_async(run())
    for outcome in outcomes:
        click.echo(f"{'sent' if outcome.is_sent else 'not sent'}: {outcome.reply}")
    if not all(outcome.is_sent for outcome in outcomes):
        fail("not sent", os.EX_UNAVAILABLE)


def _month(text: str | None) -> tuple[date, date]:
    """Its first day, and that of the next one."""
    try:
        first = datetime.strptime(text, "%Y-%m").date() if text else datetime.now(UTC).date().replace(day=1)
    except ValueError:
        fail(f"{text} is no month: 2026-01", os.EX_USAGE)
    return first, (
        first.replace(year=first.year + 1, month=1) if first.month == 12 else first.replace(month=first.month + 1)
    )
