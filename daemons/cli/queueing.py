"""`postwerk queue`: what waits to be delivered to the world, and what can be done about it."""

import getpass
import json
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from config.settings import Settings
from config.units import Seconds
from daemons.cli.common import (
    as_owner,
    confirm,
    fail,
    json_option,
    run_async,
    settings_option,
    show,
    size,
    yes_option,
)
from daemons.context import Context, open_context
from daemons.relay.attempt import Attempt, Settled
from daemons.relay.bounces import Bounces, action_of
from protocol.status import enhanced
from storage import outbound, outbound_changes, outbound_listing
from storage.errors import LeaseLostError
from storage.outbound import Leased
from storage.outbound_changes import Changed
from storage.outbound_listing import GROUPS, STATES, QueueRow, Selection
from storage.pool import Connection, reported
from storage.rows import Settlement

_BATCH = 200
_LEASE_SECONDS = 600.0  # of what is being taken out: should the command die, it waits again after this
_DELETED = enhanced("5.7.1")
_REPLY_WIDTH = 60


class Age(click.ParamType[Seconds]):
    """A duration: "2 h", "3d"."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Seconds:
        """click.ParamType."""
        try:
            return value if isinstance(value, Seconds) else Seconds.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the filters; the command gets `selection`."""

    @click.option("--id", "trace_id", help="The id that our reply to the message named.")
    @click.option("--from", "reverse_path", help='Sender: an address, "@domain", or "<>" for reports.')
    @click.option("--to", "forward_path", help='Recipient: an address, or "@domain".')
    @click.option("--domain", help="Where the mail goes.")
    @click.option("--tenant", help="Only this tenant's.")
    @click.option("--status", type=click.Choice(STATES), help="Default: waiting and held.")
    @click.option("--older", type=Age(), help='Accepted at least so long ago: "2 h", "3 d".')
    @wraps(command)
    def with_selection(
        trace_id: str | None,
        reverse_path: str | None,
        forward_path: str | None,
        domain: str | None,
        tenant: str | None,
        status: str | None,
        older: Seconds | None,
        **arguments: Any,
    ) -> Any:
        selection = Selection(
            trace_id=None if trace_id is None else trace_id.lower(),
            reverse_path="" if reverse_path == "<>" else reverse_path,
            forward_path=forward_path,
            domain=None if domain is None else domain.lower(),
            tenant=tenant,
            state=status,
            older_seconds=older,
        )
        return command(selection=selection, **arguments)

    return with_selection


all_option = click.option("--all", "is_all", is_flag=True, help="Without any filter: the whole queue.")


@click.group("queue")
def queue() -> None:
    """Mail on its way out: what waits, why, and since when.

    Filters narrow down what a command is about; several of them must all hold.
    """


@queue.command("list")
@selection_options
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Recipients at most.")
@json_option
@settings_option
def list_queue(settings: Settings, selection: Selection, limit: int, as_json: bool) -> None:
    """List recipients, the oldest first."""
    rows = as_owner(settings, lambda connection: outbound_listing.listed(connection, selection, limit))
    if as_json:
        show([asdict(row) for row in rows], as_json=True)
        return
    now = datetime.now(UTC)
    show([_shown(row, now) for row in rows], as_json=False, empty="nothing in the queue")


def _shown(row: QueueRow, now: datetime) -> dict[str, Any]:
    reason = row.held_reason if row.state == "held" else row.last_reply
    due = "delivering" if row.is_leased else _ago(row.next_attempt_at, now) if row.state == "waiting" else None
    return {
        "id": row.trace_id,
        "state": row.state,
        "age": _ago(row.created_at, now),
        "due": due,
        "tries": row.tries,
        "from": row.reverse_path or "<>",
        "to": row.forward_path,
        "reason": None if reason is None else " ".join(reason.split())[:_REPLY_WIDTH],
    }


def _ago(then: datetime, now: datetime) -> str:
    """For people: "3 min", "in 2 h"."""
    seconds = (now - then).total_seconds()
    amount, name = next(
        (abs(seconds) / unit, name)
        for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
        if abs(seconds) >= unit or name == "s"
    )
    return f"{'in ' if seconds < 0 else ''}{amount:.0f} {name}"


@queue.command("show")
@click.argument("trace_id", metavar="ID")
@json_option
@settings_option
def show_message(settings: Settings, trace_id: str, as_json: bool) -> None:
    """Show a message with its recipients and every attempt: when, where, over what, and the remote server's words."""
    found = as_owner(settings, lambda connection: outbound_listing.shown(connection, trace_id.lower()))
    if not found.messages and not found.removals:
        fail(f"nothing in the queue has the id {trace_id}", os.EX_NOUSER)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1, default=str, ensure_ascii=False))
        return
    for message in found.messages:
        _print_message(message)
    for removal in found.removals:
        told = "the sender was told" if removal["is_told"] else "the sender was not told"
        click.echo(
            f"{_moment(removal['removed_at'])}  deleted by {removal['removed_by']}: {removal['reason']} "
            f"(to {removal['domain']}; {told})"
        )


def _print_message(message: dict[str, Any]) -> None:
    click.echo(f"id        {message['trace_id']}  ({size(message['size_octets'])}, tenant {message['tenant']})")
    click.echo(f"from      {message['reverse_path'] or '<>'}")
    click.echo(f"subject   {message['subject']}")
    click.echo(f"accepted  {_moment(message['created_at'])}, expires {_moment(message['expires_at'])}")
    for recipient in message["recipients"]:
        state = recipient["state"]
        if state == "waiting":
            state += f", next attempt {_moment(recipient['next_attempt_at'])}"
        elif state == "held":
            state += f": {recipient['held_reason']}"
        click.echo(f"to        {recipient['forward_path']}  ({state})")
        for attempt in recipient["attempts"]:
            where = attempt["host"] or "no server"
            tls = attempt["tls"] or "no TLS"
            click.echo(f"          {_moment(attempt['tried_at'])}  {where}, {tls}: {attempt['reply']}")


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@queue.command("stats")
@click.option("--by", type=click.Choice(sorted(GROUPS)), default="domain", show_default=True, help="What to sum up by.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="Lines at most, the largest first."
)
@selection_options
@json_option
@settings_option
def show_stats(settings: Settings, selection: Selection, by: str, limit: int, as_json: bool) -> None:
    """Sum up what is not finished: waiting, due, leased to a relay, held, deferred before, and since when."""
    rows = as_owner(settings, lambda connection: outbound_listing.stats(connection, selection, by, limit))
    found = [asdict(row) for row in rows]
    if not as_json:
        now = datetime.now(UTC)
        found = [{by: row.pop("name") or "<>"} | row | {"oldest_at": _ago(row["oldest_at"], now)} for row in found]
    show(found, as_json=as_json, empty="nothing in the queue")


# ---------------------------------------------------------------- changes


@queue.command("retry")
@selection_options
@all_option
@settings_option
def retry(settings: Settings, selection: Selection, is_all: bool) -> None:
    """Have waiting mail tried now, whatever its schedule says."""
    _check(selection, is_all)
    _say(change(settings, None, lambda connection: outbound_changes.retry(connection, selection)), "due now")


@queue.command("hold")
@selection_options
@all_option
@click.option("--reason", default="held by hand", show_default=True, help="Kept with the mail, for whoever looks.")
@settings_option
def hold(settings: Settings, selection: Selection, is_all: bool, reason: str) -> None:
    """Keep waiting mail from being tried until it is released. What is just being delivered is not called back."""
    _check(selection, is_all)
    _say(change(settings, "held", lambda one: outbound_changes.hold(one, selection, reason), reason=reason), "held")


@queue.command("release")
@selection_options
@all_option
@settings_option
def release(settings: Settings, selection: Selection, is_all: bool) -> None:
    """Have held mail tried now. It gets the time again that it had when it came."""
    _check(selection, is_all)
    _say(change(settings, "released", lambda one: outbound_changes.release(one, selection)), "released")


@queue.command("delete")
@selection_options
@all_option
@click.option("--reason", required=True, help="Why: kept in the record, and told to the sender.")
@click.option("--no-bounce", "is_silent", is_flag=True, help="Do not tell the senders.")
@yes_option
@settings_option
def delete(settings: Settings, selection: Selection, is_all: bool, reason: str, is_silent: bool, is_sure: bool) -> None:
    """Take mail out of the queue, with a record of who did it, when and why, and a report to its sender.

    What is being delivered at the moment stays: a relay that takes it on says so itself.
    """
    _check(selection, is_all)
    confirm("What this takes out is not delivered to anybody any more.", is_sure=is_sure)
    deleted, left = run_async(take_out_all(settings, selection, reason, is_silent=is_silent))
    _say(deleted, "deleted")
    if left:
        click.echo(f"{recipients(left)} being delivered now: see what comes of it, and ask again", err=True)


def _check(selection: Selection, is_all: bool) -> None:
    if not is_all and selection == Selection():
        fail("which mail? Give a filter, or --all", os.EX_USAGE)


def _say(count: int, done: str) -> None:
    click.echo(f"{recipients(count)} {done}")


def recipients(count: int) -> str:
    """So many of them."""
    return f"{count} recipient{'' if count == 1 else 's'}"


def operator() -> str:
    """Who gives the command, for the record."""
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"


def change(
    settings: Settings, kind: Any, change: Callable[[Connection], Awaitable[list[Changed]]], **facts: object
) -> int:
    """Do it, note it in the trace, and count."""

    async def run() -> int:
        async with open_context(settings) as context:
            async with reported(), context.pool.acquire() as connection:
                changed = await change(connection)
            for each in changed if kind is not None else ():
                _note(context, each.tenant_id, each.trace_id, kind, each.forward_path, **facts)
            return len(changed)

    return run_async(run())


def _note(context: Context, tenant_id: int, trace_id: str, kind: Any, forward_path: str, **facts: object) -> None:
    context.recorder.note(tenant_id, trace_id, kind, forward_path=forward_path, by=operator(), **facts)


async def take_out_all(settings: Settings, selection: Selection, reason: str, *, is_silent: bool) -> tuple[int, int]:
    """Take out what can be had. Returns how many recipients, and how many were not to be had."""
    deleted = 0
    async with open_context(settings) as context:
        bounces = None if is_silent else Bounces(context)
        try:
            while True:
                async with reported(), context.pool.acquire() as connection:
                    taken = await outbound_changes.take(
                        connection,
                        selection,
                        _BATCH,
                        lease_seconds=_LEASE_SECONDS,
                        leased_by=f"delete by {operator()}",
                    )
                if not taken:
                    break
                groups: dict[int, list[Leased]] = {}
                for leased in taken:  # a report is of one message
                    groups.setdefault(0 if bounces is None else leased.outbound_id, []).append(leased)
                for group in groups.values():
                    deleted += await _take_out(context, bounces, group, reason)
        finally:
            if bounces is not None:
                bounces.close()
        async with reported(), context.pool.acquire() as connection:
            left = await outbound_listing.stats(connection, selection, "state", len(STATES))
    return deleted, sum(row.waiting + row.held for row in left)


async def _take_out(context: Context, bounces: Bounces | None, group: Sequence[Leased], reason: str) -> int:
    """End the delivery to these recipients, of one message if it is reported: record and report are in the transaction."""
    reply = f"{_DELETED} deleted by the administrator: {reason}"
    attempt = Attempt("failed", _DELETED, reply, datetime.now(UTC))
    settled = [Settled(leased, attempt) for leased in group]
    reports = [] if bounces is None else await bounces.of(settled)
    settlements = [
        Settlement(
            each.leased.recipient_id,
            each.leased.attempts,
            "deleted",
            reason,
            counts=False,
            removed_by=operator(),
            is_told=bool(reports) and action_of(each) is not None,
        )
        for each in settled
    ]
    if reports:
        try:
            await context.ingest.store([replace(reports[0], settles=settlements), *reports[1:]])
        except LeaseLostError:  # finished by a relay that held it for longer than its lease
            return 0
    else:
        async with reported(), context.pool.acquire() as connection:
            counted = await outbound.settle(connection, settlements)
        settled = [each for each in settled if each.leased.recipient_id in counted]
    for each in settled:
        leased = each.leased
        _note(context, leased.tenant_id, leased.trace_id, "deleted", leased.forward_path, reason=reason)
    return len(settled)
