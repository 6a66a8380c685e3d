"""`postwerk quarantine`: what is kept from its recipients, and what becomes of it."""

import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from typing import Any

import click

from config.quarantine import FILTERS
from config.settings import Settings
from config.units import DAY, Seconds, spell
from daemons.cli.common import as_owner, confirm, fail, json_option, run_async, settings_option, show, size, yes_option
from daemons.cli.queueing import operator
from daemons.context import open_context
from daemons.quarantine import release
from daemons.releasing import Releasing
from storage import quarantine as storage
from storage.pool import Connection, reported
from storage.quarantine import Kept, Policy

_MOST_DAYS = 3650
_REASON_WIDTH = 40
_HIDDEN = ("tenant_id", "account_id", "content_id", "header_cache", "inbox_id")
numbers_argument = click.argument("numbers", metavar="NUMBER...", nargs=-1, required=True, type=click.IntRange(1))


@click.group()
def quarantine() -> None:
    """Messages that filters kept from their recipients. The numbers are those that the recipients are told."""


@quarantine.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--account", "login", help="Only this account's.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Messages at most.")
@json_option
@settings_option
def list_kept(settings: Settings, tenant: str | None, login: str | None, limit: int, as_json: bool) -> None:
    """List what is in quarantine, the newest first."""
    retention = settings.quarantine.retention
    login = None if login is None else login.lower()
    rows = as_owner(
        settings, lambda connection: storage.list_kept(connection, retention, limit, tenant=tenant, login=login)
    )
    if as_json:
        show([_facts(row) for row in rows], as_json=True)
        return
    show([_shown(row) for row in rows], as_json=False, empty="nothing in quarantine")


@quarantine.command("show")
@click.argument("number", type=click.IntRange(1))
@click.option("--message", "is_whole", is_flag=True, help="Print the message instead, octet for octet.")
@json_option
@settings_option
def show_kept(settings: Settings, number: int, is_whole: bool, as_json: bool) -> None:
    """Show why a message is in quarantine, and its header. Take care with --message: it may be dangerous."""

    async def run() -> tuple[Kept, bytes]:
        async with open_context(settings) as context, reported(), context.pool.acquire() as connection:
            found = await storage.kept(connection, settings.quarantine.retention, number)
            return found, await context.blobs.message(found.content_id)

    found, message = run_async(run())
    if is_whole:
        click.echo(message, nl=False)
        return
    if as_json:
        click.echo(json.dumps(_facts(found), indent=1, default=str, ensure_ascii=False))
        return
    for name, value in _facts(found).items():
        click.echo(
            f"{name.replace('_', ' ').removesuffix(' octets')}: {size(value) if name == 'size_octets' else value}"
        )
    section = message[: message.find(b"\r\n\r\n") + 2].decode("utf-8", "replace").replace("\r\n", "\n")
    click.echo()
    click.echo("".join(character for character in section if character in "\n\t" or character.isprintable()), nl=False)


@quarantine.command("release")
@numbers_argument
@click.option("--rules", "by_rules", is_flag=True, help="Do what the recipient's rules say, as if it came now.")
@settings_option
def release_kept(settings: Settings, numbers: tuple[int, ...], by_rules: bool) -> None:
    """Deliver messages into the inboxes of their recipients, as they would have come. Rules do not look at them."""

    async def run() -> None:
        async with open_context(settings) as context, AsyncExitStack() as stack:
            releasing = None
            if by_rules:
                releasing = Releasing(context)
                stack.callback(releasing.close)
            for number in dict.fromkeys(numbers):
                async with reported(), context.pool.acquire() as connection:
                    found = await storage.kept(connection, settings.quarantine.retention, number)
                done = [f"delivered to {found.login}"]
                if releasing is not None:
                    done = await releasing.release(found) or done
                else:
                    await release(context, found)
                path = found.forward_path
                context.recorder.note(found.tenant_id, found.trace_id, "released", forward_path=path, by=operator())
                click.echo(f"{number} {'; '.join(done)}")

    run_async(run())


@quarantine.command("delete")
@numbers_argument
@click.option("--reason", default="by hand", show_default=True, help="For the trace.")
@yes_option
@settings_option
def delete_kept(settings: Settings, numbers: tuple[int, ...], reason: str, is_sure: bool) -> None:
    """Delete messages from quarantine. Nobody is told; the archive keeps them."""
    confirm(f"Delete {len(set(numbers))} from quarantine?", is_sure=is_sure)

    async def run() -> None:
        async with open_context(settings) as context:
            for number in dict.fromkeys(numbers):
                async with reported(), context.pool.acquire() as connection:
                    gone = await storage.delete(connection, number)
                facts = {"forward_path": gone.forward_path, "by": operator(), "reason": reason}
                context.recorder.note(gone.tenant_id, gone.trace_id, "deleted", **facts)

    run_async(run())


@quarantine.command("policy")
@click.argument("tenant")
@click.option("--junk", metavar="FILTER,…|none|default", help="Filters for which quarantine means the Junk mailbox.")
@click.option("--keep", metavar="DAYS|default", help="How long a message waits for a decision.")
@click.option("--notice", metavar="TIME|off|default", help='Least time between two notices to an account: "1 d".')
@settings_option
def policy(settings: Settings, tenant: str, junk: str | None, keep: str | None, notice: str | None) -> None:
    """Show, or change, what a tenant wants of the quarantine. default: as configured."""
    changes: dict[str, Any] = {}
    if junk is not None:
        changes["junk"] = _junk(junk, [*FILTERS, *settings.smtp.filters])
    if keep is not None:
        changes["days"] = _days(keep)
    if notice is not None:
        changes["notice_seconds"] = _notice(notice)

    async def run(connection: Connection) -> Policy:
        chosen = replace(await storage.chosen(connection, tenant), **changes)
        if changes:
            await storage.choose(connection, tenant, chosen)
        return chosen

    chosen, configured = as_owner(settings, run, missing=f"no tenant {tenant}"), settings.quarantine
    own = ", ".join(sorted(chosen.junk)) or "none" if chosen.junk is not None else None
    _print("junk", own, ", ".join(configured.junk) or "none")
    _print("keep", None if chosen.days is None else f"{chosen.days} d", spell(configured.retention))
    seconds = chosen.notice_seconds
    _print("notice", None if seconds is None else _spelled(Seconds(seconds)), _spelled(configured.notice))


def _print(name: str, own: str | None, configured: str) -> None:
    click.echo(f"{name}: {own}" if own is not None else f"{name}: {configured}, as configured")


def _spelled(seconds: Seconds) -> str:
    return spell(seconds) if seconds else "off"


def _junk(text: str, known: Sequence[str]) -> frozenset[str] | None:
    if text == "default":
        return None
    names = frozenset() if text == "none" else frozenset(name.strip() for name in text.split(","))
    if unknown := sorted(names - set(known)):
        fail(f"{', '.join(unknown)}: the filters are {', '.join(dict.fromkeys(known))}", os.EX_USAGE)
    return names


def _days(text: str) -> int | None:
    if text == "default":
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_DAYS):
        fail(f"give a number of days, {_MOST_DAYS} at most, or default", os.EX_USAGE)
    return int(text)


def _notice(text: str) -> int | None:
    if text in ("default", "off"):
        return None if text == "default" else 0
    try:
        seconds = int(Seconds.parse(text))
    except ValueError as error:
        fail(str(error), os.EX_USAGE)
    if seconds > _MOST_DAYS * DAY:
        fail(f"{_MOST_DAYS} d at most", os.EX_USAGE)
    return seconds


def _facts(row: Kept) -> dict[str, Any]:
    return {
        "number" if name == "quarantine_id" else name: value
        for name, value in asdict(row).items()
        if name not in _HIDDEN
    }


def _shown(row: Kept) -> dict[str, Any]:
    return {
        "number": row.quarantine_id,
        "at": f"{row.received_at:%Y-%m-%d %H:%M}",
        "account": row.login,
        "from": row.reverse_path or "<>",
        "subject": _line(row.subject),
        "reason": _line(row.reason),
        "until": f"{row.expires_at:%Y-%m-%d}",
    }


def _line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:_REASON_WIDTH]
