"""`postwerk sieve apply`: a script over the mail that is there already."""

import os
from dataclasses import asdict

import click

from config.settings import Settings
from daemons.cli.common import fail, json_option, run_async, settings_option, show
from daemons.context import open_context
from daemons.scripting.applying import Applied, apply_script
from daemons.scripting.owners import AccountOwner
from protocol.imap.names import canonical
from storage import mailboxes, scripts
from storage.pool import reported

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
    applied = run_async(_applied(settings, login, script, mailbox, is_rehearsal=is_rehearsal))
    if as_json:
        show([asdict(each) for each in applied], as_json=True)
        return
    for each in applied:
        told = [*each.actions, *(f"not done: {action}" for action in each.not_done)]
        told += [f"error: {each.error}"] if each.error else []
        if each.is_changed or each.error or each.not_done:
            click.echo(f"{each.uid}: {'; '.join(told)}")
    changed = sum(each.is_changed for each in applied)
    click.echo(f"{changed} of {len(applied)} messages {'would be ' if is_rehearsal else ''}changed")


async def _applied(settings: Settings, login: str, name: str, mailbox: str, *, is_rehearsal: bool) -> list[Applied]:
    async with open_context(settings) as context:
        found = await context.directory.login(login)
        if found is None:
            fail(f"no account {login}", os.EX_NOUSER)
        owner = AccountOwner(found.tenant_id, found.account_id)
        async with reported(), context.pool.acquire() as connection:
            if name == _ACTIVE:
                script = await scripts.active(connection, owner.account_id)
            else:
                script = await scripts.read(connection, owner.account_id, name)
            box = await mailboxes.find(connection, owner.account_id, canonical(mailbox))
        if script is None:
            fail(f"{login} has no {'active script' if name == _ACTIVE else f'script {name}'}", os.EX_NOUSER)
        if box is None or not box.is_selectable:
            fail(f"{login} has no mailbox {mailbox}", os.EX_NOUSER)
        running = apply_script(context, owner, found.login, script, box, is_rehearsal=is_rehearsal)
        return [applied async for applied in running]
