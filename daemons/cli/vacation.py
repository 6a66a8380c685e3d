"""`postwerk vacation`: the autoresponder of an account."""

import os
from datetime import date, datetime
from typing import TextIO

import click
from msgspec.structs import replace

from config.settings import Settings
from daemons import rules as simple
from daemons.cli.common import fail, settings_option, with_account
from daemons.cli.rules import change, condition_options, described
from filters.simple.settings import Condition, Needs, Vacation
from filters.simple.settings import Settings as Simple
from storage import scripts

_DAY = click.DateTime(["%Y-%m-%d"])


@click.group()
def vacation() -> None:
    """The autoresponder. It never answers lists, bulk mail, programs, null senders, spam and itself (RFC 3834)."""


@vacation.command("set")
@click.argument("login")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option("--subject", default="", help='Of the answer. [that of the message, behind "Auto:"]')
@click.option(
    "--from", "starts", type=_DAY, metavar="YYYY-MM-DD", help="The first day, in the account's time zone. [now]"
)
@click.option("--until", "ends", type=_DAY, metavar="YYYY-MM-DD", help="The last day. [until it is switched off]")
@click.option("--days", type=click.IntRange(1, 365), default=7, help="Within which nobody is answered twice. [7]")
@condition_options
@settings_option
def set_vacation(
    settings: Settings,
    login: str,
    file: TextIO,
    subject: str,
    starts: datetime | None,
    ends: datetime | None,
    days: int,
    wanted: list[Condition],
    needs: Needs,
) -> None:
    """Set and switch on the answer, whose text is in FILE; "-" is standard input. With --if only such mail is answered."""
    try:
        answer = Vacation(
            text=file.read(),
            subject=subject,
            starts=_day(starts),
            ends=_day(ends),
            days=days,
            conditions=tuple(wanted),
            needs=needs,
        )
    except UnicodeDecodeError:
        fail("the text is not UTF-8", os.EX_DATAERR)
    except ValueError as error:
        fail(str(error), os.EX_USAGE)
    change(settings, login, lambda current: replace(current, vacation=answer))
    _warn_of_another(settings, login)


@vacation.command("on")
@click.argument("login")
@settings_option
def switch_on(settings: Settings, login: str) -> None:
    """Switch on the answer that was set, with its days and conditions."""
    _switch(settings, login, is_on=True)
    _warn_of_another(settings, login)


@vacation.command("off")
@click.argument("login")
@settings_option
def switch_off(settings: Settings, login: str) -> None:
    """Answer no more; the text is kept."""
    _switch(settings, login, is_on=False)


@vacation.command("show")
@click.argument("login")
@settings_option
def show_vacation(settings: Settings, login: str) -> None:
    """Print the answer, and when and to what it is given."""
    found = with_account(settings, login, simple.settings_of)
    answer = _answer(found, login)
    zone = found.time_zone or settings.rules.time_zone
    times = [f"from {answer.starts}"] * bool(answer.starts) + [f"until {answer.ends}"] * bool(answer.ends)
    click.echo(" ".join(["on" if answer.enabled else "off", *times, f"({zone}), within {answer.days} days once"]))
    if wanted := described(answer.conditions, answer.needs):
        click.echo(wanted.rstrip(": "))
    if answer.subject:
        click.echo(f"Subject: {answer.subject}")
    click.echo(f"\n{answer.text.rstrip()}")


def _switch(settings: Settings, login: str, *, is_on: bool) -> None:
    def edit(current: Simple) -> Simple:
        return replace(current, vacation=replace(_answer(current, login), enabled=is_on))

    change(settings, login, edit)


def _warn_of_another(settings: Settings, login: str) -> None:
    """A message is answered once, and the settings come before the account's own script."""
    own = with_account(settings, login, scripts.active)
    if own is not None and b'"vacation' in own.octets:
        click.echo(f"the active script {own.name} answers, too: it is left out where this one has answered")


def _answer(found: Simple, login: str) -> Vacation:
    if found.vacation is None:
        fail(f"{login} has set no answer: `postwerk vacation set`", os.EX_NOUSER)
    return found.vacation


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()
