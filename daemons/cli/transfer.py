"""`postwerk import` and `postwerk export`: mail of an account from and to files."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import click

from config.settings import Settings
from daemons.cli import exporting, importing
from daemons.cli.common import fail, run_async, settings_option, size
from daemons.cli.exporting import EmlFiles, MaildirFolders, MboxFiles, Target
from daemons.cli.importing import Importer, Source
from daemons.context import Context, open_context
from protocol.imap.names import canonical
from storage import mailboxes, teams
from storage.rows import Login, Mailbox
from storage.spool import Spool

account_option = click.option("--account", required=True, help="The account's login, an address.")
place = click.Path(path_type=Path, allow_dash=True)
existing = click.Path(path_type=Path, exists=True)
existing_or_dash = click.Path(path_type=Path, exists=True, allow_dash=True)

MakeSource = Callable[[Spool], tuple[Source, int | None]]


@click.group("import")
def import_() -> None:
    """Put existing mail into an account.

    Messages are stored as they are, to the octet, with one exception: where the first line of a message ends in a bare LF,
    as in files that Unix programs keep, every bare LF in it becomes CRLF, because that is what IMAP and POP3 clients must
    get. Mailboxes are made when they are missing. Importing twice gives everything twice.
    """


@import_.command("eml")
@click.argument("path", type=existing_or_dash)
@account_option
@click.option("--mailbox", default=mailboxes.INBOX, show_default=True, help="Where the messages go.")
@settings_option
def import_eml(settings: Settings, path: Path, account: str, mailbox: str) -> int:
    """Import a file with one message, all files below a directory, or a message from standard input ("-").

    The internal date is that of the topmost Received field, else of the Date field, else of the file.
    """
    if str(path) == "-":
        return _import(settings, account, lambda spool: (importing.eml_stream(sys.stdin.buffer, mailbox, spool), 1))
    count = sum(1 for _ in importing.eml_files(path))
    return _import(settings, account, lambda spool: (importing.eml(path, mailbox, spool), count))


@import_.command("mbox")
@click.argument("path", type=existing_or_dash)
@account_option
@click.option("--mailbox", help="Where the messages go [INBOX]; for a directory, below which mailbox.")
@settings_option
def import_mbox(settings: Settings, path: Path, account: str, mailbox: str | None) -> int:
    """Import an mbox file, a directory of them (each becomes a mailbox), or one from standard input ("-").

    The internal date is that of the From_ line; flags come from Status, X-Status and X-Keywords; ">From " is unquoted.
    """
    if str(path) == "-":
        name = mailbox or mailboxes.INBOX
        return _import(settings, account, lambda spool: (importing.mbox(sys.stdin.buffer, "-", name, spool), None))
    octets = sum(file_path.stat().st_size for file_path, _ in importing.mbox_files(path, mailbox))
    return _import(settings, account, lambda spool: (_mbox_source(path, mailbox, spool), octets))


@import_.command("maildir")
@click.argument("path", type=existing)
@account_option
@click.option("--mailbox", help="Where the Maildir's own messages go [INBOX]; its folders go below it.")
@settings_option
def import_maildir(settings: Settings, path: Path, account: str, mailbox: str | None) -> int:
    """Import a Maildir with its folders: Maildir++ (".Work.2024") or nested directories.

    The internal date is that of the file; flags and keywords come from file names and dovecot-keywords.
    """
    folders = list(importing.maildir_folders(path, mailbox))
    if not folders:
        fail(f"{path} is no Maildir: it has no directory named cur", os.EX_DATAERR)
    count = sum(1 for folder, _ in folders for _ in importing.maildir_files(folder))
    return _import(settings, account, lambda spool: (importing.maildir_messages(path, mailbox, spool), count))


def _mbox_source(path: Path, mailbox: str | None, spool: Spool) -> Source:
    for file_path, name in importing.mbox_files(path, mailbox):
        try:
            with file_path.open("rb") as stream:
                yield from importing.mbox(stream, str(file_path), name, spool)
        except OSError as error:
            yield importing.Unusable(str(file_path), error.strerror or str(error))


def _import(settings: Settings, account: str, make_source: MakeSource) -> int:
    """Run an import with its progress bar. Returns EX_DATAERR when something could not be imported."""
    outcome = run_async(_imported(settings, account, make_source))
    for item in outcome.unusable:
        click.echo(f"postwerk: {item.name}: {item.reason}", err=True)
    click.echo(f"{outcome.messages} messages ({size(outcome.octets)}) imported into {account}")
    return os.EX_DATAERR if outcome.unusable else os.EX_OK


async def _imported(settings: Settings, account: str, make_source: MakeSource) -> importing.Outcome:
    async with open_context(settings) as context:
        login = await _login(context, account)
        spool = Spool(settings.spool_directory)
        await spool.prepare()
        source, length = make_source(spool)
        with ExitStack() as stack:
            return await Importer(context, login, _progress(stack, "Importing", length)).run(source)


@click.command("export")
@click.argument("path", type=place)
@account_option
@click.option("--mailbox", help="This mailbox alone.")
@click.option(
    "--format", "format_", type=click.Choice(["eml", "mbox", "maildir"]), required=True, help="What to write."
)
@settings_option
def export(settings: Settings, path: Path, account: str, mailbox: str | None, format_: str) -> int:
    """Write an account's mail into files.

    \b
    eml      PATH/MAILBOX/UID.eml, or PATH/UID.eml with --mailbox
    mbox     PATH/MAILBOX.mbox, or PATH itself ("-": standard output) with --mailbox; mboxrd with Unix line ends
    maildir  a Maildir++ with flags and keywords; with --mailbox that mailbox alone, without folders

    eml and maildir hold each message to the octet, with CRLF as it is stored, dated by its internal date: importing them
    again gives the same messages. mbox cannot: it keeps no flags, and its messages end in a line end.
    """
    if str(path) == "-" and (format_ != "mbox" or mailbox is None):
        fail("standard output takes one mailbox as mbox: --mailbox NAME --format mbox", os.EX_USAGE)
    try:
        outcome = run_async(_exported(settings, account, mailbox, lambda: _target(format_, path, mailbox)))
    except FileExistsError as error:
        fail(f"{error.filename} exists already", os.EX_CANTCREAT)
    for line in outcome.unreadable:
        click.echo(f"postwerk: {line}", err=True)
    click.echo(f"{outcome.messages} messages ({size(outcome.octets)}) exported from {account}", err=str(path) == "-")
    return os.EX_DATAERR if outcome.unreadable else os.EX_OK


def _target(format_: str, path: Path, mailbox: str | None) -> Target:
    is_single = mailbox is not None
    if format_ == "eml":
        return EmlFiles(path, is_single=is_single)
    if format_ == "maildir":
        return MaildirFolders(path, is_single=is_single)
    place: Path | BinaryIO = sys.stdout.buffer if str(path) == "-" else path
    return MboxFiles(place, is_single=is_single)


async def _exported(
    settings: Settings, account: str, mailbox: str | None, make_target: Callable[[], Target]
) -> exporting.Outcome:
    async with open_context(settings) as context:
        login = await _login(context, account)
        chosen = await _chosen(context, login, mailbox)
        with ExitStack() as stack:
            progressed = _progress(stack, "Exporting", sum(each.message_count for each in chosen))
            return await exporting.export_mailboxes(context, chosen, make_target(), progressed)


async def _chosen(context: Context, login: Login, name: str | None) -> Sequence[Mailbox]:
    name = None if name is None else canonical(name)
    async with context.pool.acquire() as connection:
        found = await mailboxes.list_mailboxes(connection, login.account_id)
    chosen = [each for each in found if each.is_selectable and name in (None, each.name)]
    if not chosen:
        fail(f"{login.login} has no mailbox {name}", os.EX_NOINPUT)
    return chosen


async def _login(context: Context, account: str) -> Login:
    login = await context.directory.login(account)
    if login is None:
        async with context.pool.acquire() as connection:
            login = await teams.find_team(connection, account)
    if login is None:
        fail(f"no account {account}", os.EX_NOUSER)
    return login


def _progress(stack: ExitStack, label: str, length: int | None) -> Callable[[int], Any]:
    """A progress bar on standard error, where that is a terminal and there is anything to show."""
    if not length or not sys.stderr.isatty():
        return lambda _: None
    bar = stack.enter_context(click.progressbar(length=length, label=label, file=sys.stderr, show_pos=True))
    return bar.update
