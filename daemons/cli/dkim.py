"""`postwerk dkim`: signing keys of domains, the DNS records they need, and what the DNS shows of them."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from config.settings import Settings
from daemons import signing_keys
from daemons.cli.common import as_owner, confirm, fail, json_option, settings_option, show, yes_option
from daemons.relay.resolver import Resolver
from daemons.signing_keys import Look, Record
from protocol.dkim.record import Finding, zone_line
from protocol.dkim.signature import PrivateKey, load_private_key
from storage import signing
from storage.accounts import domain_name
from storage.blobs.keys import KeyRing
from storage.errors import ExistsError, NotFoundError
from storage.pool import Connection
from storage.signing import KeyRow

_TTL = 3600
_EXIT_WRONG = 1  # of `check`, when something is not as it must be

_Change = Callable[[Connection], Awaitable[None]]


@click.group()
def dkim() -> None:
    """DKIM: signing keys of domains and their DNS records."""


@dkim.command("add")
@click.argument("domain")
@click.option(
    "--delegated",
    "is_delegated",
    is_flag=True,
    help="The customer's DNS points to names in our delegation zone (CNAME).",
)
@click.option("--key", "key_file", type=click.Path(path_type=Path), help="Take over this private key (PEM or PKCS #8).")
@click.option("--selector", help="The selector that the --key is known by.")
@settings_option
def add(settings: Settings, domain: str, is_delegated: bool, key_file: Path | None, selector: str | None) -> None:
    """Make keys for a domain and print the records that they need. They sign once `check` or the keeper has seen those."""
    name = domain_name(domain)
    if (key_file is None) != (selector is None) or (key_file is not None and is_delegated):
        fail("--key and --selector go together, and without --delegated", os.EX_USAGE)

    async def run(connection: Connection) -> None:
        ring = KeyRing(settings.master_key_file)
        if key_file is not None and selector is not None:
            await signing_keys.add_key(connection, ring, name, selector.lower(), _read_key(key_file), None)
        else:
            await _add_missing(connection, ring, settings, name, is_delegated=is_delegated)
        _print_records(signing_keys.records_of(settings.dkim, name, await signing.list_keys(connection, name)))

    _change(settings, name, run)


@dkim.command("rotate")
@click.argument("domain")
@settings_option
def rotate(settings: Settings, domain: str) -> None:
    """Make successors of the keys of a domain now. The old ones sign until the records of the new ones have been seen."""
    name = domain_name(domain)

    async def run(connection: Connection) -> None:
        ring, today = KeyRing(settings.master_key_file), datetime.now(UTC).date()
        rows = await signing.list_keys(connection, name)
        if not any(row.state in ("active", "published") for row in rows):
            fail(f"{name} has no keys: postwerk dkim add {name}", os.EX_NOUSER)
        for algorithm in settings.dkim.algorithms:
            is_delegated = any(row.target is not None for row in rows if row.algorithm == algorithm)
            await signing_keys.add_new_key(
                connection, ring, settings.dkim, name, algorithm, is_delegated=is_delegated, today=today
            )
        _print_records(signing_keys.records_of(settings.dkim, name, await signing.list_keys(connection, name)))

    _change(settings, name, run)


@dkim.command("list")
@click.argument("domain", required=False)
@json_option
@settings_option
def list_keys(settings: Settings, domain: str | None, as_json: bool) -> None:
    """List keys: of one domain, or all."""
    show([_shown(row, as_json=as_json) for row in _keys(settings, domain)], as_json=as_json, empty="no keys")


@dkim.command("records")
@click.argument("domain", required=False)
@click.option("--zone", "is_zone", is_flag=True, help="Only what belongs into our delegation zone.")
@json_option
@settings_option
def records(settings: Settings, domain: str | None, is_zone: bool, as_json: bool) -> None:
    """Print the DNS records that the keys need, as lines of a zone file: of one domain, or all."""
    found = [record for record in _records(settings, _keys(settings, domain)) if record.is_ours or not is_zone]
    if as_json:
        show([asdict(record) for record in found], as_json=True)
    else:
        _print_records(found)


@dkim.command("check")
@click.argument("domain", required=False)
@json_option
@settings_option
def check(settings: Settings, domain: str | None, as_json: bool) -> None:
    """Compare the DNS with what it must have, and let first keys sign whose records are right. Fails if one is not."""

    async def run(connection: Connection) -> list[dict[str, Any]]:
        rows = await signing.list_keys(connection, _name(domain))
        async with _resolver(settings) as resolver:
            looks = await signing_keys.look_at_all(resolver, rows)
            missing = await signing_keys.missing_aliases(resolver, settings.dkim, rows)
        signs = {(row.domain_id, row.algorithm) for row in rows if row.state == "active"}
        activated = await signing_keys.note(connection, looks, lambda key: (key.domain_id, key.algorithm) not in signs)
        for key in activated:
            click.echo(f"{key.selector} signs for {key.domain} now", err=True)
        return [*map(_seen, looks), *map(_unused, missing)]

    shown = as_owner(settings, run)
    show(shown, as_json=as_json, empty="no keys")
    if any(line["is_right"] is not True for line in shown):
        raise SystemExit(_EXIT_WRONG)


@dkim.command("activate")
@click.argument("domain")
@click.argument("selector")
@click.option("--unchecked", is_flag=True, help="Though its record cannot be seen in the DNS from here.")
@settings_option
def activate(settings: Settings, domain: str, selector: str, unchecked: bool) -> None:
    """Let a key sign now, in place of the one that does, without waiting."""
    name = domain_name(domain)

    async def run(connection: Connection) -> None:
        key = await _one(connection, name, selector)
        if not unchecked:
            async with _resolver(settings) as resolver:
                look = await signing_keys.look(resolver, key)
            if look.finding is not Finding.RIGHT:
                fail(
                    f"the record of {selector} is not right: {_said(look)}; --unchecked signs all the same",
                    os.EX_DATAERR,
                )
        await signing.activate(connection, key.key_id)

    _change(settings, name, run)


@dkim.command("remove")
@click.argument("domain")
@click.argument("selector")
@yes_option
@settings_option
def remove(settings: Settings, domain: str, selector: str, is_sure: bool) -> None:
    """Destroy a key. What it signed verifies while its record is in the DNS; a second time forgets the key at all."""
    name = domain_name(domain)
    confirm(f"Destroy the key {selector} of {name}?", is_sure=is_sure)

    async def run(connection: Connection) -> None:
        key = await _one(connection, name, selector)
        if key.state in ("published", "active"):
            await signing.retire(connection, key.key_id)
        else:
            await signing.delete_key(connection, key.key_id)

    _change(settings, name, run)


async def _add_missing(
    connection: Connection, ring: KeyRing, settings: Settings, name: str, *, is_delegated: bool
) -> None:
    """A key of each algorithm that the domain has none of."""
    there = {row.algorithm for row in await signing.list_keys(connection, name) if row.state in ("active", "published")}
    missing = [algorithm for algorithm in settings.dkim.algorithms if algorithm not in there]
    if not missing:
        fail(f"{name} has keys already: postwerk dkim rotate {name}", os.EX_CANTCREAT)
    today = datetime.now(UTC).date()
    for algorithm in missing:
        await signing_keys.add_new_key(
            connection, ring, settings.dkim, name, algorithm, is_delegated=is_delegated, today=today
        )


@asynccontextmanager
async def _resolver(settings: Settings) -> AsyncIterator[Resolver]:
    resolver = Resolver(settings.transport)
    try:
        yield resolver
    finally:
        await resolver.close()


async def _one(connection: Connection, name: str, selector: str) -> KeyRow:
    rows = [row for row in await signing.list_keys(connection, name) if row.selector == selector.lower()]
    if not rows:
        fail(f"{name} has no key {selector}", os.EX_NOUSER)
    return rows[0]


def _change(settings: Settings, name: str, act: _Change) -> None:
    try:
        as_owner(settings, act)
    except NotFoundError as error:
        fail(f"{name}: {error}", os.EX_NOUSER)
    except ExistsError as error:
        fail(str(error), os.EX_CANTCREAT)


def _keys(settings: Settings, domain: str | None) -> list[KeyRow]:
    return as_owner(settings, lambda connection: signing.list_keys(connection, _name(domain)))


def _records(settings: Settings, rows: Sequence[KeyRow]) -> list[Record]:
    found = []
    for name, keys in groupby(rows, key=lambda row: row.domain):
        found += signing_keys.records_of(settings.dkim, name, list(keys))
    return found


def _print_records(found: Sequence[Record]) -> None:
    for is_ours, group in groupby(found, key=lambda record: record.is_ours):
        if is_ours:
            click.echo("; in our delegation zone:")
        for record in group:
            click.echo(zone_line(record.name, record.kind, record.value, _TTL))


def _shown(row: KeyRow, *, as_json: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "domain": row.domain,
        "selector": row.selector,
        "algorithm": row.algorithm,
        "state": row.state,
    }
    moments = {"created": row.created_at, "seen": row.seen_at, "activated": row.activated_at, "retired": row.retired_at}
    for name, moment in moments.items():
        fields[name] = moment if as_json or moment is None else f"{moment:%Y-%m-%d %H:%M}"
    return fields | {"target": row.target}


def _seen(look: Look) -> dict[str, Any]:
    key = look.key
    is_right = look.finding is Finding.RIGHT
    if key.state == "removed":
        is_right = look.finding is not None and not is_right
    return {
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm,
        "state": key.state,
        "is_right": is_right,
        "record": _said(look),
    }


def _unused(alias: Record) -> dict[str, Any]:
    """A CNAME that is missing for a selector without a key, in the columns of _seen()."""
    selector, _, domain = alias.name.partition("._domainkey.")
    shown = {"domain": domain, "selector": selector, "algorithm": None, "state": "unused", "is_right": False}
    return shown | {"record": f"missing: {alias.name} is no CNAME of {alias.value}"}


def _said(look: Look) -> str:
    finding = "no answer" if look.finding is None else look.finding.value
    return f"{finding}: {look.detail}" if look.detail else finding


def _name(domain: str | None) -> str | None:
    return None if domain is None else domain_name(domain)


def _read_key(path: Path) -> PrivateKey:
    try:
        return load_private_key(path.read_bytes())
    except ValueError as error:
        fail(f"{path}: {error}", os.EX_DATAERR)
