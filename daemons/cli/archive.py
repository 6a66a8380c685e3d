"""`postwerk archive`: verify the evidence logs, see where they stand, print a checkpoint."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from config.settings import Settings
from daemons.cli.common import fail, json_option, run_async, settings_option, show, size
from storage import journal
from storage.archive import evidence
from storage.archive.checkpoint import Checkpoint, CheckpointError, open_note, verifier_key
from storage.archive.head import read_head
from storage.archive.keys import trusted_keys
from storage.archive.verify import Report, Verifier, tenants
from storage.blobs.keys import KeyRing
from storage.blobs.store import BlobReader
from storage.pool import Pool, open_pool, reported

tenant_option = click.option("--tenant", "tenant_name", help="This tenant alone.")


@click.group("archive")
def archive() -> None:
    """The tamper-evident archive: what was accepted, and that nothing of it was changed."""


@archive.command("verify")
@tenant_option
@json_option
@settings_option
def verify(settings: Settings, tenant_name: str | None, as_json: bool) -> int:
    """Recompute the logs from all that is stored, and name whatever is not as it was signed. Exit code 1 if anything is."""
    reports, names = run_async(_verify(settings, tenant_name))
    if as_json:
        click.echo(
            json.dumps([_as_json(report, names[report.tenant_id]) for report in reports], indent=1, ensure_ascii=False)
        )
    else:
        _print(reports, names)
    return os.EX_OK if all(report.is_intact for report in reports) else 1


@archive.command("status")
@tenant_option
@json_option
@settings_option
def status(settings: Settings, tenant_name: str | None, as_json: bool) -> None:
    """Show where each tenant's log stands: leaves, newest checkpoint, messages that wait. Verifies nothing but signatures."""
    show(run_async(_status(settings, tenant_name)), as_json=as_json, empty="nothing is archived yet")


@archive.command("checkpoint")
@click.option("--tenant", "tenant_name", required=True, help="The tenant's name.")
@click.option("--key", "with_key", is_flag=True, help="Print the public keys that verify it as well (C2SP vkey).")
@settings_option
def checkpoint(settings: Settings, tenant_name: str, with_key: bool) -> None:
    """Print a tenant's newest signed checkpoint, to be kept outside (mail it, print it)."""
    note = run_async(_checkpoint(settings, tenant_name))
    if note is None:
        fail(f"tenant {tenant_name} has no checkpoint yet", os.EX_UNAVAILABLE)
    click.echo(note, nl=False)
    if with_key:
        origin = note.partition("\n")[0]
        for key in trusted_keys(settings.archive_key_file):
            click.echo(verifier_key(origin, key))


def heads_directory(settings: Settings) -> Path:
    """Where the archiver keeps the copies of the newest checkpoints."""
    return Path(settings.state) / "archive"


@asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[Pool]:
    database = settings.database
    if database.dsn is None:
        fail("database.dsn is not set: only a suite that `postwerk up` runs has its own database", os.EX_CONFIG)
    async with open_pool(database.dsn, size=2, role=database.role) as pool:
        yield pool


async def _chosen(pool: Pool, settings: Settings, tenant_name: str | None) -> dict[int, str]:
    """Tenants by id, with names for people."""
    found = await tenants(pool, heads_directory(settings))
    if tenant_name is not None:
        found = {tenant_id: name for tenant_id, name in found.items() if name == tenant_name}
        if not found:
            fail(f"no tenant {tenant_name}", os.EX_NOUSER)
    return {tenant_id: name or f"(unknown {tenant_id})" for tenant_id, name in found.items()}


async def _verify(settings: Settings, tenant_name: str | None) -> tuple[list[Report], dict[int, str]]:
    trusted = trusted_keys(settings.archive_key_file)
    async with _pool(settings) as pool:
        names = await _chosen(pool, settings, tenant_name)
        blobs = BlobReader(pool, settings.segments_directory, KeyRing(settings.master_key_file))
        try:
            reports = []
            for tenant_id in names:
                head = await asyncio.to_thread(read_head, heads_directory(settings), tenant_id)
                reports.append(await Verifier(pool, blobs, tenant_id, trusted, head).verify())
        finally:
            blobs.close()
    return reports, names


def _as_json(report: Report, name: str) -> dict[str, Any]:
    return {
        "tenant": name,
        "tenant_id": report.tenant_id,
        "intact": report.is_intact,
        "leaves": report.leaves,
        "messages": report.messages,
        "octets": report.octets,
        "checkpoints": report.checkpoints,
        "unsigned": report.unsigned,
        "accepted": report.accepted,
        "waiting": report.waiting,
        "head_copy": report.has_head_copy,
        "finding_count": report.finding_count,
        "findings": [{"seq": finding.seq, "what": finding.what} for finding in report.findings],
    }


def _print(reports: list[Report], names: dict[int, str]) -> None:
    rows = [
        {
            "tenant": names[report.tenant_id],
            "leaves": report.leaves,
            "octets": size(report.octets),
            "checkpoints": report.checkpoints,
            "unsigned": report.unsigned,
            "accepted": report.accepted,
            "archived": report.messages,
            "waiting": report.waiting,
            "head copy": report.has_head_copy,
            "verdict": "intact" if report.is_intact else f"{report.finding_count} FINDINGS",
        }
        for report in reports
    ]
    show(rows, as_json=False, empty="there is no tenant")
    for report in reports:
        for finding in report.findings:
            where = "" if finding.seq is None else f" leaf {finding.seq}:"
            click.echo(f"{names[report.tenant_id]}:{where} {finding.what}")
        if report.finding_count > len(report.findings):
            click.echo(f"{names[report.tenant_id]}: and {report.finding_count - len(report.findings)} more")


async def _status(settings: Settings, tenant_name: str | None) -> list[dict[str, Any]]:
    trusted = trusted_keys(settings.archive_key_file)
    async with _pool(settings) as pool, reported(), pool.acquire() as connection:
        names = await _chosen(pool, settings, tenant_name)
        waiting = await journal.waiting_by_tenant(connection)
        unsigned = await evidence.unsigned(connection)
        rows: list[dict[str, Any]] = []
        for tenant_id, name in names.items():
            note = await evidence.newest_note(connection, tenant_id)
            signed, signature = _signed(note, trusted)
            rows.append(
                {
                    "tenant": name,
                    "leaves": unsigned.get(tenant_id, 0) + (signed.size if signed else 0),
                    "signed": signed.size if signed else None,
                    "checkpoint": signed.number if signed else None,
                    "signature": signature,
                    "waiting": waiting.get(tenant_id, 0),
                }
            )
    return rows


def _signed(note: str | None, trusted: Collection[bytes]) -> tuple[Checkpoint | None, str | None]:
    """What a note says, and what is to be said of its signature."""
    if note is None:
        return None, None
    try:
        return open_note(note, trusted), "good"
    except CheckpointError as error:
        return None, f"BAD: {error}"


async def _checkpoint(settings: Settings, tenant_name: str) -> str | None:
    async with _pool(settings) as pool, reported(), pool.acquire() as connection:
        (tenant_id,) = await _chosen(pool, settings, tenant_name)
        return await evidence.newest_note(connection, tenant_id)
