"""`postwerk check` and `postwerk migrate`."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import click

from config.settings import Settings
from daemons import certificates
from daemons.cli.common import fail, json_option, owner_connection, run_async, settings_option
from storage import condition, search_text
from storage.errors import StorageError

Finding = tuple[str, bool, str]  # what, whether it is good, in words


@click.command("check")
@click.option("--blobs", "blob_limit", type=click.IntRange(0), default=100, help="How many contents to read [100].")
@click.option("--all-blobs", "is_thorough", is_flag=True, help="Read all contents.")
@json_option
@settings_option
def check(settings: Settings, blob_limit: int, is_thorough: bool, as_json: bool) -> int:
    """Check that all is well: database, migrations, search index, blobs, certificate. Exit code 69 when something is not."""
    findings = run_async(_findings(settings, None if is_thorough else blob_limit))
    findings.append(_certificate(settings))
    if as_json:
        rows = [{"check": what, "good": good, "detail": words} for what, good, words in findings]
        click.echo(json.dumps(rows, indent=1))
    else:
        for what, good, words in findings:
            click.echo(f"{'good' if good else 'BAD ':<5} {what:<12} {words}")
    return os.EX_OK if all(good for _, good, _ in findings) else os.EX_UNAVAILABLE


async def _findings(settings: Settings, blob_limit: int | None) -> list[Finding]:
    findings: list[Finding] = []
    try:
        async with owner_connection(settings) as connection:
            findings.append(("database", True, f"PostgreSQL {await condition.server_version(connection)}"))
            names = await condition.pending_migrations(connection)
            findings.append(("migrations", not names, f"pending: {', '.join(names)}" if names else "current"))
            if not names:
                findings.append(_search(await search_text.condition(connection)))
    except StorageError as error:
        return [*findings, ("migrations" if findings else "database", False, str(error))]
    if not names:
        findings.append(await _blobs(settings, blob_limit))
    return findings


def _search(index: search_text.Condition) -> Finding:
    """Searches are slow while much waits, and right all the same."""
    is_good = index.waiting < index.most
    words = f"{index.waiting}{'' if is_good else ' or more'} contents wait for the search index"
    return "search", is_good, f"{words}, {index.unreadable} are read anew by every search"


async def _blobs(settings: Settings, limit: int | None) -> Finding:
    from storage.blobs.keys import KeyRing
    from storage.blobs.store import BlobReader
    from storage.pool import open_pool

    database = settings.database
    try:
        async with open_pool(database.dsn or "", size=2, role=database.role) as pool:
            blobs = BlobReader(pool, settings.segments_directory, KeyRing(settings.master_key_file))
            try:
                outcome = await condition.read_back(pool, blobs, limit=limit)
            finally:
                blobs.close()
    except StorageError as error:
        return "blobs", False, str(error)
    words = f"{outcome.read} of {outcome.total} contents read"
    if outcome.unreadable:
        first = ", ".join(map(str, outcome.unreadable[:10]))
        return "blobs", False, f"{words}, {len(outcome.unreadable)} of them unreadable: {first}"
    return "blobs", True, words


def _certificate(settings: Settings) -> Finding:
    if not settings.tls.certificate:
        return "certificate", False, "none is configured: no TLS is offered"
    complaint = certificates.complaint(Path(settings.tls.certificate), now=datetime.now(UTC))
    return "certificate", complaint is None, complaint or "valid"


@click.command("migrate")
@settings_option
def migrate_command(settings: Settings) -> None:
    """Bring state directory and database up to date: directories, keys, tables. `postwerk up` does it by itself."""
    from daemons.suite import lay_out
    from storage.migrate import migrate

    dsn = settings.database.owner_dsn or settings.database.dsn
    if dsn is None:
        fail("database.dsn is not set: `postwerk up` migrates its own database", os.EX_CONFIG)
    lay_out(settings)

    async def run() -> list[str]:
        async with owner_connection(settings):  # one line instead of a traceback when there is no database
            return await migrate(dsn)

    for name in run_async(run()):
        click.echo(name)
