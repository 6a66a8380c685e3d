"""`postwerk reports`: what other servers report about our domains, and the mailboxes that it is read out of."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from config.settings import Settings
from daemons.cli.common import as_owner, fail, json_option, settings_option, show
from storage import report_listing as listing
from storage import reports as received
from storage.dmarc import list_sent
from storage.errors import NotFoundError
from storage.report_listing import Wanted

_MOST = 100_000
tenant_option = click.option("--tenant", help="Of this tenant only.")
domain_option = click.option("--domain", help="On this domain only.")
days_option = click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="How far back.")
limit_option = click.option("--limit", type=click.IntRange(1, _MOST), default=1000, show_default=True, help="At most.")


@click.group()
def reports() -> None:
    """DMARC and TLS reports and bounces that were received, and DMARC reports that were sent."""


@reports.command("watch")
@click.argument("login")
@click.option("--mailbox", default="INBOX", show_default=True, help="Another mailbox of the account.")
@settings_option
def watch(settings: Settings, login: str, mailbox: str) -> None:
    """Read reports out of an account's mailbox, old ones included: the address in rua= has to deliver there."""

    try:
        as_owner(settings, lambda connection: received.watch(connection, login, mailbox))
    except NotFoundError as error:
        fail(f"no {error}", os.EX_NOUSER)


@reports.command("unwatch")
@click.argument("login")
@click.option("--mailbox", default="INBOX", show_default=True, help="Another mailbox of the account.")
@settings_option
def unwatch(settings: Settings, login: str, mailbox: str) -> None:
    """Read no more reports out of a mailbox. What was read stays."""
    as_owner(settings, lambda connection: received.unwatch(connection, login, mailbox))


@reports.command("sources")
@json_option
@settings_option
def list_sources(settings: Settings, as_json: bool) -> None:
    """List the mailboxes that are watched, and what was found in them."""
    _show(as_owner(settings, listing.list_sources), as_json=as_json, empty="no mailbox is watched")


@reports.command("dmarc")
@tenant_option
@domain_option
@days_option
@limit_option
@click.option("--failed", "bad_only", is_flag=True, help="Only reports of messages that did not pass.")
@json_option
@settings_option
def list_dmarc(settings: Settings, as_json: bool, **selection: Any) -> None:
    """List DMARC reports: how many messages in a domain's name passed, and how many did not."""
    wanted = _wanted(**selection)
    rows = as_owner(settings, lambda connection: listing.list_dmarc(connection, wanted))
    _show(rows, as_json=as_json, empty="no reports")


@reports.command("dmarc-sent")
@json_option
@settings_option
def list_dmarc_sent(settings: Settings, as_json: bool) -> None:
    """List the days and domains whose mail to us was counted, and what became of our reports to them (RFC 9990)."""
    _show(as_owner(settings, list_sent), as_json=as_json, empty="no mail of domains that ask for reports")


@reports.command("dmarc-sources")
@click.argument("report", type=int)
@tenant_option
@limit_option
@json_option
@settings_option
def list_dmarc_sources(settings: Settings, report: int, tenant: str | None, limit: int, as_json: bool) -> None:
    """Show who sent the messages of a DMARC report, and what they passed."""
    rows = as_owner(settings, lambda connection: listing.list_dmarc_sources(connection, report, tenant, limit))
    shown = [asdict(row) for row in rows]
    for row in shown:
        details = json.loads(row.pop("details"))
        row |= (
            details if as_json else {"authentications": " ".join(_spelled(one) for one in details["authentications"])}
        )
    show(shown, as_json=as_json, empty="no such report, or no sources in it")


@reports.command("tls")
@tenant_option
@domain_option
@days_option
@limit_option
@click.option("--failed", "bad_only", is_flag=True, help="Only reports of failed sessions.")
@json_option
@settings_option
def list_tls(settings: Settings, as_json: bool, **selection: Any) -> None:
    """List TLS reports: how many sessions with a domain's servers were secure, and how many failed."""
    wanted = _wanted(**selection)
    rows = as_owner(settings, lambda connection: listing.list_tls(connection, wanted))
    _show(rows, as_json=as_json, empty="no reports")


@reports.command("tls-failures")
@click.argument("report", type=int)
@tenant_option
@limit_option
@json_option
@settings_option
def list_tls_failures(settings: Settings, report: int, tenant: str | None, limit: int, as_json: bool) -> None:
    """Show what was wrong with the sessions of a TLS report."""
    rows = as_owner(settings, lambda connection: listing.list_tls_failures(connection, report, tenant, limit))
    _show(rows, as_json=as_json, empty="no such report, or no failures in it")


@reports.command("bounces")
@tenant_option
@click.option("--domain", help="Of recipients at this domain only.")
@days_option
@limit_option
@click.option("--hard", "bad_only", is_flag=True, help="Only addresses that will never work.")
@json_option
@settings_option
def list_bounces(settings: Settings, as_json: bool, **selection: Any) -> None:
    """List bounces and complaints, by recipient."""
    wanted = _wanted(**selection)
    rows = as_owner(settings, lambda connection: listing.list_bounces(connection, wanted))
    shown = [asdict(row) for row in rows]
    if not as_json:
        shown = [{name: value for name, value in row.items() if name in _BOUNCE_COLUMNS} for row in shown]
    show(shown, as_json=as_json, empty="no bounces")


_BOUNCE_COLUMNS = {"received_at", "tenant", "kind", "address", "action", "status", "code", "reason", "is_hard"}


def _wanted(tenant: str | None, domain: str | None, days: int, limit: int, bad_only: bool) -> Wanted:
    return Wanted(tenant, domain, datetime.now(UTC) - timedelta(days=days), bad_only, limit)


def _spelled(one: dict[str, str]) -> str:
    return f"{one.get('method')}={one.get('result')}({one.get('domain', '')})"


def _show(rows: list[Any], *, as_json: bool, empty: str) -> None:
    show([asdict(row) for row in rows], as_json=as_json, empty=empty)
