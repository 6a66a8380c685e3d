"""`postwerk rules`: what becomes of an account's mail, set without writing Sieve."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO
from urllib.parse import quote

import click
from msgspec.structs import replace

from config.settings import Settings
from daemons import rules as simple
from daemons.cli.common import as_owner, fail, settings_option, with_account
from filters.simple import conditions
from filters.simple.settings import Condition, Forwarding, Needs, Rule, from_json, to_json
from filters.simple.settings import Settings as Simple
from storage import settings as stored

if TYPE_CHECKING:
    from storage.pool import Connection

_FLAGS = {name: f"\\{name.capitalize()}" for name in ("seen", "answered", "flagged", "deleted", "draft")}
_SPAM = {"none": "marked in the header", "junk": "filed into Junk", "delete": "deleted"}


@click.group()
def rules() -> None:
    """Rules for mail that comes in, without Sieve.

    In this order: spam, the rules, forwarding, the autoresponder (`postwerk vacation`). The first rule that files, forwards or
    discards a message is the last one for it, unless it keeps it, too. What is spam or discarded goes nowhere else.
    """


@rules.command("show")
@click.argument("login")
@click.option("--sieve", "form", flag_value="sieve", help="Print the Sieve script that it is compiled to.")
@click.option("--json", "form", flag_value="json", help="Print JSON, as `postwerk rules load` takes it.")
@settings_option
def show_rules(settings: Settings, login: str, form: str | None) -> None:
    """Print what an account has set."""
    if form == "sieve":
        script = with_account(settings, login, stored.compiled)
        click.echo(script or b"", nl=False)
        return
    found = with_account(settings, login, simple.settings_of)
    click.echo(to_json(found) if form == "json" else "\n".join(_described(found, settings)))


@rules.command("load")
@click.argument("login")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@settings_option
def load(settings: Settings, login: str, file: TextIO) -> None:
    """Replace all that an account has set by what `show --json` has printed. FILE "-" is standard input."""
    try:
        found = from_json(file.read())
    except ValueError as error:
        fail(str(error), os.EX_DATAERR)
    change(settings, login, lambda _: found)


def condition_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --if and --any: `conditions` and `needs` of a Rule or a Vacation."""
    command = click.option("--any", "needs", flag_value="any", default="all", help="One condition is enough.")(command)
    return click.option(
        "--if",
        "wanted",
        multiple=True,
        metavar="CONDITION",
        callback=lambda context, option, texts: [_condition(text) for text in texts],
        help='"[not] from|to|cc|recipient|subject|sender|reply-to|header NAME contains|is|matches TEXT [or TEXT]", '
        '"… exists", "body contains TEXT", "size over|under 5M", "attachment", "contact", "fax".',
    )(command)


@rules.command("put")
@click.argument("login")
@click.argument("name")
@condition_options
@click.option("--file-into", default="", metavar="MAILBOX", help="Made when it is missing.")
@click.option("--forward-to", multiple=True, metavar="ADDRESS", help="May be given several times.")
@click.option("--discard", is_flag=True, help="Throw the message away.")
@click.option("--keep", is_flag=True, help="In the inbox as well, and follow later rules.")
@click.option("--flag", "flags", multiple=True, help="seen, flagged, answered, draft, deleted, or a keyword.")
@click.option("--notify", multiple=True, metavar="TARGET", help="An address, a number (+49…, SMS), or https://….")
@settings_option
def put(
    settings: Settings,
    login: str,
    name: str,
    wanted: list[Condition],
    needs: Needs,
    flags: Sequence[str],
    notify: Sequence[str],
    file_into: str,
    forward_to: tuple[str, ...],
    discard: bool,
    keep: bool,
) -> None:
    """Add a rule at the end, or put it in place of the one of that name. Without --if it is for all mail."""
    try:
        rule = Rule(
            name=name,
            conditions=tuple(wanted),
            needs=needs,
            flags=tuple(_FLAGS.get(flag.lower(), flag) for flag in flags),
            notify=tuple(map(_method, notify)),
            file_into=file_into,
            forward_to=forward_to,
            discard=discard,
            keep=keep,
        )
    except ValueError as error:
        fail(str(error), os.EX_USAGE)

    def edit(current: Simple) -> Simple:
        if any(each.name == name for each in current.rules):
            return replace(current, rules=tuple(rule if each.name == name else each for each in current.rules))
        return replace(current, rules=(*current.rules, rule))

    change(settings, login, edit)


@rules.command("remove")
@click.argument("login")
@click.argument("name")
@settings_option
def remove(settings: Settings, login: str, name: str) -> None:
    """Remove a rule."""

    def edit(current: Simple) -> Simple:
        rule = _named(current, login, name)
        return replace(current, rules=tuple(each for each in current.rules if each is not rule))

    change(settings, login, edit)


@rules.command("move")
@click.argument("login")
@click.argument("name")
@click.argument("position", type=click.IntRange(1))
@settings_option
def move(settings: Settings, login: str, name: str, position: int) -> None:
    """Move a rule to a position; the first is 1."""

    def edit(current: Simple) -> Simple:
        rule = _named(current, login, name)
        others = [each for each in current.rules if each is not rule]
        others.insert(position - 1, rule)
        return replace(current, rules=tuple(others))

    change(settings, login, edit)


@rules.command("forward")
@click.argument("login")
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
@click.option("--keep/--no-keep", default=True, help="A copy stays here, where the rules put it. [--keep]")
@click.option("--off", "is_off", is_flag=True, help="Forward no more.")
@settings_option
def forward(settings: Settings, login: str, addresses: tuple[str, ...], keep: bool, is_off: bool) -> None:
    """Forward all mail that is no spam and not discarded. `postwerk address forward` does so for a single address."""
    if is_off == bool(addresses):
        fail("give addresses or --off", os.EX_USAGE)
    names = tuple(dict.fromkeys(addresses))
    forwarding = None if is_off else Forwarding(addresses=names, keep=keep)
    change(settings, login, lambda current: replace(current, forwarding=forwarding))


@rules.command("spam")
@click.argument("login")
@click.argument("action", type=click.Choice(list(_SPAM)))
@settings_option
def spam(settings: Settings, login: str, action: str) -> None:
    """Say what becomes of spam: nothing but marks in its header, into Junk, or deleted for good."""
    change(settings, login, lambda current: replace(current, spam=action))


@rules.command("expire-junk")
@click.argument("login")
@click.argument("days", metavar="DAYS|on|off")
@settings_option
def expire_junk(settings: Settings, login: str, days: str) -> None:
    """Delete what has lain in Junk for some days; "on": as many as rules.junk_days says."""
    words = {"on": settings.rules.junk_days, "off": None}
    if days not in words and not re.fullmatch(r"[1-9][0-9]{0,5}", days):
        fail("give a number of days (1 at least), on or off", os.EX_USAGE)
    count = words[days] if days in words else int(days)
    change(settings, login, lambda current: replace(current, junk_days=count))


@rules.command("time-zone")
@click.argument("login")
@click.argument("zone", metavar="ZONE|default")
@settings_option
def time_zone(settings: Settings, login: str, zone: str) -> None:
    """Set an account's time zone, as Europe/Berlin. default: as rules.time_zone says."""
    name = "" if zone == "default" else zone
    change(settings, login, lambda current: replace(current, time_zone=name))


@rules.command("recompile")
@settings_option
def recompile(settings: Settings) -> None:
    """Compile everybody's settings again: after changes of [rules] or [sieve], and after an upgrade."""
    failed = as_owner(settings, lambda connection: simple.recompile(connection, settings))
    for login, fault in failed.items():
        click.echo(f"{login}: {fault}", err=True)
    if failed:
        fail(f"{len(failed)} accounts keep the script that they had", os.EX_DATAERR)


def change(settings: Settings, login: str, edit: simple.Edit) -> None:
    """Store what `edit` makes of what the account has set, or say why not."""

    async def work(connection: "Connection", account_id: int) -> None:
        try:
            await simple.change(connection, settings, account_id, edit)
        except simple.RulesError as error:
            fail(str(error), os.EX_DATAERR)

    with_account(settings, login, work)


def _condition(text: str) -> Condition:
    try:
        return conditions.parse(text)
    except conditions.WordsError as error:
        fail(f"--if {text!r}: {error}", os.EX_USAGE)


def _named(current: Simple, login: str, name: str) -> Rule:
    found = next((rule for rule in current.rules if rule.name == name), None)
    if found is None:
        fail(f"{login} has no rule {name}", os.EX_NOUSER)
    return found


def _method(target: str) -> str:
    """The URI of a target, RFC 5435 §3.1: mailto (RFC 5436), sms (RFC 5724) or what was given."""
    if re.fullmatch(r"\+[0-9 ()/-]+", target):
        return f"sms:+{re.sub(r'[^0-9]', '', target)}"
    if "@" in target and ":" not in target:
        return f"mailto:{quote(target, safe='@+')}"
    return target


def _described(found: Simple, host: Settings) -> Iterator[str]:
    yield f"spam           {_SPAM[found.spam]}"
    yield f"Junk           {f'emptied after {found.junk_days} days' if found.junk_days else 'kept'}"
    if (forwarding := found.forwarding) is not None:
        yield f"forwarding     to {', '.join(forwarding.addresses)}{', and kept' if forwarding.keep else ''}"
    if (vacation := found.vacation) is not None:
        yield f"autoresponder  {'on' if vacation.enabled else 'off'}: see `postwerk vacation show`"
    yield f"time zone      {found.time_zone or host.rules.time_zone}"
    for position, rule in enumerate(found.rules, 1):
        yield f"rule {position:<9} {rule.name}: {described(rule.conditions, rule.needs)}{', '.join(_actions(rule))}"


def described(wanted: Sequence[Condition], needs: Needs) -> str:
    """Conditions in words, with what leads over to what is done then."""
    joined = (" and " if needs == "all" else " or ").join(map(conditions.spell, wanted))
    return f"if {joined}: " if wanted else ""


def _actions(rule: Rule) -> Iterator[str]:
    for flag in rule.flags:
        yield f"flag {flag.removeprefix(chr(92)).lower()}"
    for uri in rule.notify:
        yield f"notify {uri}"
    if rule.file_into:
        yield f"file into {rule.file_into}"
    for address in rule.forward_to:
        yield f"forward to {address}"
    if rule.discard:
        yield "discard"
    if rule.keep:
        yield "keep"
