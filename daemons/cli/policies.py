"""`postwerk pop3`: what accounts that differ from the configuration may do over POP3."""

import math
import os
from dataclasses import asdict

import click

from config.settings import Settings
from config.units import Seconds
from daemons.cli.common import as_owner, fail, json_option, settings_option, show
from storage import policies


@click.group()
def pop3() -> None:
    """POP3 rules of single accounts: login delay and retention."""


@pop3.command("list")
@json_option
@settings_option
def list_policies(settings: Settings, as_json: bool) -> None:
    """List the accounts that differ from the configuration."""
    rows = as_owner(settings, policies.list_policies)
    show([asdict(row) for row in rows], as_json=as_json, empty="no account differs from the configuration")


@pop3.command("set")
@click.argument("login")
@click.option("--login-delay", help='Least time between two logins, e.g. "60 s". Default: as configured.')
@click.option(
    "--expire-days",
    type=click.IntRange(0, 36500),
    help="Days after which messages in the inbox are removed; 0: once retrieved. Default: never.",
)
@settings_option
def set_policy(settings: Settings, login: str, login_delay: str | None, expire_days: int | None) -> None:
    """Give an account rules of its own, in place of those it had."""
    seconds = _seconds(login_delay)
    if seconds is None and expire_days is None:
        fail("give --login-delay or --expire-days, or use `postwerk pop3 reset`", os.EX_USAGE)

    as_owner(
        settings,
        lambda connection: policies.set_policy(connection, login, login_delay_seconds=seconds, expire_days=expire_days),
        missing=f"no account {login}",
    )


@pop3.command("reset")
@click.argument("login")
@settings_option
def reset_policy(settings: Settings, login: str) -> None:
    """Let the configuration decide for an account again."""
    as_owner(
        settings,
        lambda connection: policies.reset_policy(connection, login),
        missing=f"{login} has no rules of its own",
    )


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        seconds = math.ceil(Seconds.parse(float(text) if text.isdigit() else text))
    except ValueError as error:
        fail(str(error), os.EX_USAGE)
    if seconds > 86400:
        fail("a login delay is one day at most", os.EX_USAGE)
    return seconds
