"""`postwerk trace`: what became of a message, from its receipt to its end, by id, by address or by time."""

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from config.settings import Settings
from config.units import Octets, Seconds
from daemons.cli.common import fail, json_option, run_async, settings_option, size, trace_id_of
from storage import traces as storage
from storage.blobs.keys import KeyRing
from storage.pool import Pool, open_pool, reported
from storage.traces import Attempted, Note, QueuedRecipient, Trace, Wanted

_SAME_ATTEMPT = timedelta(seconds=30)  # no two attempts follow each other as quickly
_SAID = ("forward_path", "forward_paths", "reverse_path", "reply")  # facts that stand in a line's text


@dataclass(frozen=True, slots=True)
class Found:
    """A message of a tenant, with what the queue has of it now and the names of its mailboxes."""

    trace: Trace
    tenant: str
    queue: Sequence[QueuedRecipient]
    mailboxes: Mapping[int, str]


@click.command("trace")
@click.argument("trace_id", required=False, metavar="[ID]")
@click.option("--from", "sender", help="Messages of this sender: an address, or a domain.")
@click.option("--to", "recipient", help="Messages to this recipient: an address, or a domain.")
@click.option("--since", help='From then on: "2 h", "3 d", or a date and time. Default: as long as traces are kept.')
@click.option("--until", help='Until then: "1 h" ago, or a date and time. Default: now.')
@click.option("--tenant", "tenant_name", help="Only this tenant's.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Messages of a search at most.")
@json_option
@settings_option
def trace(
    settings: Settings,
    trace_id: str | None,
    sender: str | None,
    recipient: str | None,
    since: str | None,
    until: str | None,
    tenant_name: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show what became of messages: receipt, checks, mailboxes, every attempt with the remote server's reply.

    ID is the one that our reply to the message names, that the Received field, the journal and the logs have.
    """
    is_search = sender is not None or recipient is not None or since is not None
    if (trace_id is None) == (not is_search):
        fail("give an ID, or at least one of --from, --to and --since", os.EX_USAGE)
    if trace_id is not None:
        trace_id = trace_id_of(trace_id)
    now = datetime.now(UTC)
    wanted = Wanted(
        _moment(since, now) if since is not None else datetime.fromtimestamp(0, UTC),
        _moment(until, now) if until is not None else now + timedelta(days=1),
        sender,
        recipient,
    )
    found = run_async(_find(settings, trace_id, wanted, tenant_name, limit))
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], indent=1, default=str, ensure_ascii=False))
        return
    if not found:
        click.echo("nothing found", err=True)
    for one in found:
        _print(one)


async def _find(
    settings: Settings, trace_id: str | None, wanted: Wanted, tenant_name: str | None, limit: int
) -> list[Found]:
    dsn = settings.database.owner_dsn or settings.database.dsn
    if dsn is None:
        fail("database.dsn is not set: only a suite that `postwerk up` runs has its own database", os.EX_CONFIG)
    keys = KeyRing(settings.master_key_file)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(dsn, size=1, role=None))
        await stack.enter_async_context(reported())
        rows = await pool.fetch("SELECT tenant_id, name FROM tenant WHERE $1::text IS NULL OR name = $1", tenant_name)
        names: dict[int, str] = {row[0]: row[1] for row in rows}
        if tenant_name is not None and not names:
            fail(f"no tenant {tenant_name}", os.EX_NOUSER)
        if trace_id is not None:
            traces = await storage.by_id(pool, keys, trace_id)
            known = {one.tenant_id for one in traces}
            # Notes that a crash took are missed here; the queue knows of the message all the same.
            queued = await storage.queued_of(pool, [trace_id])
            traces += [Trace(trace_id, each, ()) for each in {row.tenant_id for row in queued} - known]
        else:
            traces = await _searched(pool, keys, names, wanted, limit)
        traces = [one for one in traces if one.tenant_id in names]
        queue = await storage.queued_of(pool, [one.trace_id for one in traces])
        boxes = await storage.mailboxes_of(pool, traces)
    return [
        Found(
            one,
            names[one.tenant_id],
            [row for row in queue if (row.trace_id, row.tenant_id) == (one.trace_id, one.tenant_id)],
            boxes,
        )
        for one in traces
    ]


async def _searched(pool: Pool, keys: KeyRing, names: Mapping[int, str], wanted: Wanted, limit: int) -> list[Trace]:
    traces: list[Trace] = []
    for tenant_id in names:
        number = 0
        async for one in storage.search(pool, keys, tenant_id, wanted):
            traces.append(one)
            number += 1
            if number >= limit:
                break
    traces.sort(key=lambda one: one.notes[0].at, reverse=True)
    return traces[:limit]


def _moment(text: str, now: datetime) -> datetime:
    """ "2 h" is so long ago; else a date, with a time or without, of UTC unless it says otherwise."""
    try:
        return now - timedelta(seconds=Seconds.parse(text))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f'{text} is no time: "2 h", "3 d", 2026-01-31, 2026-01-31T14:30', os.EX_USAGE)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


# -- output ---------------------------------------------------------------------------------------------------------


def _as_json(one: Found) -> dict[str, Any]:
    return {
        "id": one.trace.trace_id,
        "tenant": one.tenant,
        "notes": [
            {"at": note.at.isoformat(), "kind": note.kind, **_named(note, one.mailboxes)} for note in one.trace.notes
        ],
        "queue": [
            {
                "forward_path": row.forward_path,
                "state": row.state,
                "next_attempt_at": row.next_attempt_at,
                "reply": row.last_reply,
                "attempts": [
                    {"at": attempt.at, "host": attempt.host, "tls": attempt.tls, "reply": attempt.reply}
                    for attempt in row.attempts
                ],
            }
            for row in one.queue
        ],
    }


def _named(note: Note, mailboxes: Mapping[int, str]) -> dict[str, Any]:
    facts = dict(note.facts)
    if "mailbox_id" in facts:
        facts["mailbox"] = mailboxes.get(facts.pop("mailbox_id"), "a mailbox that is gone")
    return facts


def _print(one: Found) -> None:
    click.echo(f"{one.trace.trace_id}  {one.tenant}")
    for (when, kind), facts in _folded(_lines(one)):
        click.echo(f"  {when:<19}  {kind:<9}  {_text(kind, facts)}".rstrip())


def _lines(one: Found) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """When, what and its facts: of each note, then of what the queue has besides, and has now."""
    for note in one.trace.notes:
        yield (f"{note.at:%Y-%m-%d %H:%M:%S}", note.kind), _named(note, one.mailboxes)
    for row in one.queue:
        for attempt in row.attempts:
            if not _is_noted(one.trace, row, attempt):  # its note was lost: the queue has it all the same
                facts = {"host": attempt.host, "tls": attempt.tls, "reply": attempt.reply}
                yield (f"{attempt.at:%Y-%m-%d %H:%M:%S}", "attempt"), {"forward_path": row.forward_path, **facts}
    for row in one.queue:
        if row.state in ("waiting", "held"):
            due = {"next_attempt": f"{row.next_attempt_at:%Y-%m-%d %H:%M:%S}"} if row.state == "waiting" else {}
            yield ("now", row.state), {"forward_path": row.forward_path, **due}


def _folded(
    lines: Iterable[tuple[tuple[str, str], dict[str, Any]]],
) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """What happened to several recipients alike, one after the other, as one line."""

    def likeness(line: tuple[tuple[str, str], dict[str, Any]]) -> object:
        head, facts = line
        return head, {name: fact for name, fact in facts.items() if name != "forward_path"}, "forward_path" in facts

    for _, group in itertools.groupby(lines, key=likeness):
        alike = list(group)
        head, facts = alike[0]
        if len(alike) > 1 and "forward_path" in facts:
            facts = {**facts, "forward_paths": [each["forward_path"] for _, each in alike]}
        yield head, facts


def _is_noted(trace: Trace, row: QueuedRecipient, attempt: Attempted) -> bool:
    """Whether the trace has this attempt. The queue numbers leases and the trace attempts, so the time tells."""
    return any(
        note.kind == "attempt"
        and note.facts.get("forward_path") == row.forward_path
        and abs(note.at - attempt.at) < _SAME_ATTEMPT
        for note in trace.notes
    )


def _text(kind: str, facts: Mapping[str, Any]) -> str:
    """One line for people: who and whom first, the rest by name, and a server's own words last."""
    parts = []
    if "reverse_path" in facts:
        parts.append(f"from <{facts['reverse_path']}>")
    recipients = facts.get("forward_paths") or ([facts["forward_path"]] if facts.get("forward_path") else [])
    if recipients:
        shown = ", ".join(map(str, recipients[:5])) + (
            f" and {len(recipients) - 5} more" if len(recipients) > 5 else ""
        )
        parts.append(f"to {shown}" if kind in ("received", "refused", "queued", "bounced") else shown)
    for name, fact in facts.items():
        if name in _SAID or fact in (None, "", [], {}):
            continue
        called = "told" if name == "to" else name.removesuffix("_octets").replace("_", " ")
        parts.append(f"{called} {_spelled(name, fact)}")
    reply = facts.get("reply")
    return "; ".join(parts) + (f": {' '.join(str(reply).split())}" if reply else "")


def _spelled(name: str, fact: Any) -> str:
    if isinstance(fact, datetime):
        return f"{fact:%Y-%m-%d %H:%M:%S}"
    if name.endswith("_octets") and isinstance(fact, int):
        return size(Octets(fact))
    if isinstance(fact, list | tuple):
        return ", ".join(map(str, fact))
    return str(fact)
