"""`postwerk sieve apply`: a script over the mail that is there already."""

import os
from dataclasses import asdict
from typing import Any

import click

from config.settings import Settings
from daemons.cli.common import fail, json_option, run_async, settings_option, show
from daemons.context import Context, open_context
from daemons.scripting.applying import Applied, apply_script
from daemons.scripting.owners import AccountOwner
from protocol.imap.names import canonical
from storage import mailboxes, scripts
from storage.pool import reported
from storage.rows import Mailbox
from storage.scripts import Stored

_ACTIVE = "active"


@click.command("apply")
@click.argument("login")
@click.argument("script")
@click.argument("mailbox")
@click.option(
    "--dry-run", "is_rehearsal", is_flag=True, help="Change nothing, only say what would become of each message."
)
@json_option
@settings_option
def apply(settings: Settings, login: str, script: str, mailbox: str, is_rehearsal: bool, as_json: bool) -> None:
    """Run a script of an account over the messages of one of its mailboxes, as if they came in now.

    SCRIPT is its name, or "active" for the active one. What it keeps stays in MAILBOX, what it files is moved or copied, what it
    discards goes to the trash. Nothing is sent: redirects, answers, rejections and notifications are told and not done.
    """
    run_async(_apply(settings, login, script, mailbox, is_rehearsal=is_rehearsal, as_json=as_json))


async def _apply(settings: Settings, login: str, name: str, mailbox: str, *, is_rehearsal: bool, as_json: bool) -> None:
    count = changed = 0
    rows: list[dict[str, Any]] = []
    async with open_context(settings) as context:
        owner, script, box = await _chosen(context, login, name, mailbox)
        async for applied in apply_script(context, owner, script, box, is_rehearsal=is_rehearsal, is_traced=as_json):
            count += 1
            changed += applied.is_changed
            if as_json:
                rows.append(asdict(applied))
            elif applied.is_changed or applied.error or applied.not_done:
                click.echo(f"{applied.uid}: {'; '.join(_told(applied))}")
    if as_json:
        show(rows, as_json=True)
    else:
        click.echo(f"{changed} of {count} messages {'would be ' if is_rehearsal else ''}changed")


def _told(applied: Applied) -> list[str]:
    told = [*applied.actions, *(f"not done: {action}" for action in applied.not_done)]
    return [*told, f"error: {applied.error}"] if applied.error else told


async def _chosen(context: Context, login: str, name: str, mailbox: str) -> tuple[AccountOwner, Stored, Mailbox]:
    found = await context.directory.login(login)
    if found is None:
        fail(f"no account {login}", os.EX_NOUSER)
    async with reported(), context.pool.acquire() as connection:
        if name == _ACTIVE:
            script = await scripts.active(connection, found.account_id)
        else:
            script = await scripts.read(connection, found.account_id, name)
        box = await mailboxes.find(connection, found.account_id, canonical(mailbox))
    if script is None:
        fail(f"{login} has no {'active script' if name == _ACTIVE else f'script {name}'}", os.EX_NOUSER)
    if box is None or not box.is_selectable:
        fail(f"{login} has no mailbox {mailbox}", os.EX_NOUSER)
    return AccountOwner(found.tenant_id, found.account_id), script, box
