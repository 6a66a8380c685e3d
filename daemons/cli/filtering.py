"""`postwerk filter`: which filters there are, and what they and everybody's rules would make of a message now."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.settings import Settings
from daemons.cli.common import fail, json_option, run_async, settings_option, show, size, trace_id_of

if TYPE_CHECKING:
    from daemons.explaining.given import Given
    from daemons.explaining.rehearsal import Check, Explanation, Fate
    from filters.verdict import Verdict
    from protocol.address import AddrSpec

_SHOWN_STEPS = 200
_SHOWN_CHARACTERS = 160  # of a verdict


def _addresses(_context: click.Context, parameter: click.Parameter, value: Any) -> "tuple[AddrSpec | None, ...]":
    """Of one option, or of all that were given; "" is the null reverse path. Nothing given: none."""
    from protocol.address import AddressError, parse_addr_spec

    given = (value,) if isinstance(value, str) else value or ()
    try:
        return tuple(parse_addr_spec(each) if each or parameter.multiple else None for each in given)
    except AddressError as error:
        raise click.BadParameter(f"{' '.join(given)}: {error}") from error


def _network_address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    from ipaddress import ip_address

    try:
        return str(ip_address(value)) if value is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group("filter")
def filter_() -> None:
    """What looks at mail before it is accepted, and why it decides as it does."""


@filter_.command("list")
@json_option
@settings_option
def list_command(settings: Settings, as_json: bool) -> None:
    """Show the content filters that there are, those of other packages among them, and which are in use."""
    from daemons.filtering import available

    used = settings.smtp.filters
    rows = []
    for name, origin in available().items():
        policy = settings.filtering.of(name)
        rows.append(
            {
                "filter": name,
                "from": origin,
                "position": used.index(name) + 1 if name in used else None,
                "on_failure": policy.on_failure if policy is not None else None,
                "time_limit": policy.time_limit if policy is not None else None,
            }
        )
    show(rows, as_json=as_json)


@filter_.command("explain")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "trace_id", help="In place of a file: an accepted message, by the id of our reply to it.")
@click.option(
    "--rcpt",
    "forward_paths",
    multiple=True,
    callback=_addresses,
    metavar="ADDRESS",
    help="A recipient; may be given again.",
)
@click.option(
    "--peer",
    callback=_network_address,
    metavar="IP",
    help="The host that brings it. Without one the envelope filters are not asked.",
)
@click.option("--helo", help="What that host calls itself.")
@click.option(
    "--from",
    "reverse_path",
    callback=_addresses,
    metavar="ADDRESS",
    help='The envelope sender; "" is the null reverse path.',
)
@click.option("--language", type=click.Choice(["en", "de"]), default="en", show_default=True, help="Of the reasons.")
@json_option
@settings_option
def explain_command(
    settings: Settings, file: Path | None, trace_id: str | None, language: Any, as_json: bool, **told: Any
) -> None:
    """Run a message through today's filters and rules: every check, the score with its reasons, each step of Sieve.

    Nothing is stored, sent, learned, counted or remembered. What is not given is taken from the trace fields that this host
    has put on top of a message, and from the journal for --id. The DNS and the services that filters ask are asked.
    """
    if (file is None) == (trace_id is None):
        fail("give a file, or --id with the id of our reply to a message", os.EX_USAGE)
    if trace_id is not None:
        trace_id = trace_id_of(trace_id)
    octets = file.read_bytes() if file is not None else b""
    explanation, accounts = run_async(_explained(settings, octets, trace_id, told))
    if as_json:
        click.echo(json.dumps(_as_json(explanation, accounts, language), indent=1, default=str, ensure_ascii=False))
        return
    for line in _lines(explanation, accounts, language):
        click.echo(line)


async def _explained(
    settings: Settings, octets: bytes, trace_id: str | None, told: Mapping[str, Any]
) -> "tuple[Explanation, dict[int, str]]":
    from daemons.context import open_context
    from daemons.explaining import given as giving
    from daemons.explaining.rehearsal import Rehearsal
    from storage.errors import NotFoundError

    async with open_context(settings, is_rehearsal=True) as context:
        if trace_id is None:
            given = giving.read_file(octets, settings.hostname)
        else:
            try:
                given = await giving.read_stored(context, trace_id)
            except NotFoundError as error:
                fail(str(error), os.EX_DATAERR)
        explanation = await Rehearsal(context).explain(_with(given, told))
    return explanation, {
        fate.account_id: fate.forward_path for fate in explanation.fates if fate.account_id is not None
    }


def _with(given: "Given", told: Mapping[str, Any]) -> "Given":
    """What the command line says goes before what the message says."""
    from dataclasses import replace

    changes = {name: value for name, value in told.items() if value}
    if told["peer"]:
        changes["login"] = ""  # it is as if that host had brought it
    if "reverse_path" in changes:
        changes["reverse_path"] = changes["reverse_path"][0]
    return replace(given, **changes)


# -- for people --------------------------------------------------------------------------------------------------------


def _lines(explanation: "Explanation", accounts: Mapping[int, str], language: Any) -> Iterator[str]:
    given = explanation.given
    yield f"from <{given.reverse_path or ''}>, {size(len(given.octets))}"
    source = f"submitted by {given.login}" if given.login else f"from host {given.peer or 'unknown'}"
    yield f"{source}{f' ({given.helo})' if given.helo else ''}"
    yield ""
    for check in explanation.checks:
        yield from _check_lines(check, accounts)
    if not explanation.checks:
        yield "no filter was asked"
    yield ""
    yield f"reply: {_reply(explanation)}"
    for fate in explanation.fates:
        yield ""
        yield from _fate_lines(fate, language)


def _check_lines(check: "Check", accounts: Mapping[int, str]) -> Iterator[str]:
    """One line for each verdict, the filter's name on the first. What is long stands below, or in the JSON."""
    from filters.words import parts

    result = check.result
    said = [
        text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…" for text in parts(result, accounts)
    ]
    where = f" for {check.forward_path}" if check.forward_path else ""
    head = f"{check.moment:8} {result.name:15}"
    yield f"{head} {said[0]}{where}  [{result.elapsed_seconds * 1000:.1f} ms]"
    for text in said[1:]:
        yield f"{'':24} {text}"


def _fate_lines(fate: "Fate", language: Any) -> Iterator[str]:
    yield fate.forward_path
    if fate.spam is not None:
        thresholds = fate.spam.thresholds
        limits = f"tagged from {thresholds.tag:g}, junk from {thresholds.junk:g}, refused from {thresholds.reject:g}"
        yield f"  spam score {fate.spam.score:g}: {fate.spam.action} ({limits})"
        for reason in fate.spam.reasons:
            yield f"    {reason.points:+7.1f}  {reason.name:26}  {reason.text(language)}"
    if fate.script is not None:
        yield "  rules"
        for step in fate.script.steps[:_SHOWN_STEPS]:
            yield f"    {step.script or 'script'}:{step.line:<4} {step.text}"
        if fate.script.error is not None:
            yield f"    mistake in {fate.script.error_script or 'the script'}: {fate.script.error}"
    for text in fate.done:
        yield f"  {text}"
    if fate.reply is not None:
        yield f"  refused: {_text(fate.reply)}"


def _reply(explanation: "Explanation") -> str:
    if explanation.reply is not None:
        return _text(explanation.reply)
    fates = explanation.fates
    if fates and all(fate.reply is not None for fate in fates):
        return "none: every recipient is refused"
    return "250, accepted" if fates else "250, accepted: no filter objects (say for whom with --rcpt)"


def _text(reply: Any) -> str:
    return f"{reply.code} {reply.enhanced or ''} {' '.join(reply.lines)}"


# -- for programs ------------------------------------------------------------------------------------------------------


def _as_json(explanation: "Explanation", accounts: Mapping[int, str], language: Any) -> dict[str, Any]:
    given = explanation.given
    return {
        "message": {
            "id": given.trace_id if given.trace_id.strip("0") else None,
            "size_octets": len(given.octets),
            "peer": given.peer or None,
            "helo": given.helo or None,
            "reverse_path": str(given.reverse_path or ""),
            "forward_paths": [str(path) for path in given.forward_paths],
            "login": given.login or None,
        },
        "checks": [
            {
                "moment": check.moment,
                "filter": check.result.name,
                "recipient": check.forward_path or None,
                "milliseconds": round(check.result.elapsed_seconds * 1000, 2),
                "failure": check.result.failure or None,
                "verdicts": [
                    told for verdict in check.result.verdicts if (told := _verdict(verdict, accounts)) is not None
                ],
            }
            for check in explanation.checks
        ],
        "reply": _text(explanation.reply) if explanation.reply is not None else None,
        "recipients": [_fate(fate, language) for fate in explanation.fates],
    }


def _verdict(verdict: "Verdict", accounts: Mapping[int, str]) -> dict[str, Any] | None:
    from filters.verdict import AddField, Finding, Refuse, Score
    from filters.words import kind_of

    kind = kind_of(verdict)
    if not kind or isinstance(verdict, Finding):
        return None
    account_id = getattr(verdict, "account_id", None)
    told: dict[str, Any] = {"verdict": kind, "recipient": accounts.get(account_id) if account_id else None}
    if isinstance(verdict, AddField):
        return told | {"name": verdict.name, "value": " ".join(verdict.value.split())}
    if isinstance(verdict, Score):
        told |= {"points": verdict.points}
    if isinstance(verdict, Refuse):
        told |= {"reply": _text(verdict.reply)}
    return told | {"reason": verdict.reason}


def _fate(fate: "Fate", language: Any) -> dict[str, Any]:
    spam, script = fate.spam, fate.script
    return {
        "address": fate.forward_path,
        "reply": _text(fate.reply) if fate.reply is not None else None,
        "delivery": fate.done,
        "spam": None
        if spam is None
        else {
            "score": spam.score,
            "action": spam.action,
            "thresholds": {name: getattr(spam.thresholds, name) for name in ("tag", "junk", "reject")},
            "reasons": [
                {"name": each.name, "points": each.points, "reason": each.text(language)} for each in spam.reasons
            ],
        },
        "rules": None
        if script is None
        else {
            "steps": [{"script": step.script, "line": step.line, "text": step.text} for step in script.steps],
            "mistake": str(script.error) if script.error is not None else None,
        },
    }
