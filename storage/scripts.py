"""Sieve scripts of accounts: names and octets. Who puts one here has checked both.

The script that an account's simple settings were made into is among them, to be looked at and not to be changed.
"""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import ExistsError, NotFoundError, OverQuotaError, StorageError, TooManyError
from storage.pool import Connection, Pool, reported
from storage.settings import SCRIPT_NAME

EVENT_SCRIPT = "/shared/imapsieve/script"  # the annotation, RFC 6785 §2.3.1

_ALL = """
SELECT name, is_active, octets, digest, changed_at FROM sieve_script WHERE account_id = $1 AND name <> $2
 UNION ALL
SELECT $2, false, sieve, sha256(sieve), changed_at FROM simple_settings WHERE account_id = $1 AND sieve IS NOT NULL
"""


class ActiveScriptError(StorageError):
    """The active script cannot be deleted."""


class ReadOnlyScriptError(StorageError):
    """The script shows the simple settings; it changes with them and by nothing else."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an account may have."""

    scripts: int
    octets: int  # of all of them together


@dataclass(frozen=True, slots=True)
class ScriptRow:
    """One script, for a listing."""

    name: str
    is_active: bool
    size_octets: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """One script. Those with the same digest have the same octets, whoever they belong to."""

    name: str
    digest: bytes
    octets: bytes


async def list_scripts(connection: "Connection | Pool", account_id: int) -> list[ScriptRow]:
    """The account's scripts by name. That of the simple settings is never the active one: it always runs, before that."""
    async with reported():
        rows = await connection.fetch(
            f"SELECT name, is_active, octet_length(octets), changed_at FROM ({_ALL}) AS script ORDER BY name",
            account_id, SCRIPT_NAME,
        )  # fmt: skip
    return [ScriptRow(*row) for row in rows]


async def read(connection: "Connection | Pool", account_id: int, name: str) -> Stored | None:
    """The script of that name."""
    async with reported():
        row = await connection.fetchrow(
            f"SELECT name, digest, octets FROM ({_ALL}) AS script WHERE name = $3", account_id, SCRIPT_NAME, name
        )
    return None if row is None else Stored(*row)


async def active(connection: "Connection | Pool", account_id: int) -> Stored | None:
    """The script that filters the account's mail."""
    async with reported():
        row = await connection.fetchrow(
            "SELECT name, digest, octets FROM sieve_script WHERE account_id = $1 AND is_active", account_id
        )
    return None if row is None else Stored(*row)


async def event_scripts(connection: "Connection | Pool", tenant_id: int) -> dict[int, str]:
    """The scripts that run after what happens over IMAP (RFC 6785 §2.3.1): their names by mailbox, 0 for all others."""
    async with reported():
        rows = await connection.fetch(
            f"SELECT place, value FROM annotation WHERE tenant_id = $1 AND entry = '{EVENT_SCRIPT}' AND viewer = 0",
            tenant_id,
        )
    return {place: value.decode("utf-8", "replace").strip() for place, value in rows}


async def check_space(
    connection: "Connection | Pool", account_id: int, name: str, size_octets: int, bounds: Bounds
) -> None:
    """Raises TooManyError or OverQuotaError when a script of that name and size would be one or too much, ReadOnlyScriptError."""
    _check_name(name)
    async with reported():
        row = await connection.fetchrow(
            "SELECT count(*), coalesce(sum(octet_length(octets)), 0)::bigint FROM sieve_script "
            "WHERE account_id = $1 AND name <> $2",
            account_id, name,
        )  # fmt: skip
    assert row is not None, "an aggregate has a row"
    others, octets = row
    if others >= bounds.scripts:
        raise TooManyError(f"the account has {others} other scripts")
    if octets + size_octets > bounds.octets:
        raise OverQuotaError(f"the account has {octets} octets in other scripts")


async def put(connection: Connection, account_id: int, name: str, octets: bytes, bounds: Bounds) -> None:
    """Store a script, in place of the one of that name; that stays active if it is. Raises as check_space()."""
    async with reported(), connection.transaction():
        await _lock(connection, account_id)
        await check_space(connection, account_id, name, len(octets), bounds)
        await connection.execute(
            "INSERT INTO sieve_script (account_id, name, octets) VALUES ($1, $2, $3) "
            "ON CONFLICT (account_id, name) DO UPDATE SET octets = excluded.octets, changed_at = now()",
            account_id, name, octets,
        )  # fmt: skip


async def activate(connection: Connection, account_id: int, name: str | None) -> None:
    """Make a script the active one; None: none is. Raises NotFoundError, ReadOnlyScriptError."""
    _check_name(name)
    async with reported(), connection.transaction():
        await _lock(connection, account_id)
        await connection.execute(
            "UPDATE sieve_script SET is_active = false WHERE account_id = $1 AND is_active", account_id
        )
        if name is None:
            return
        statement = "UPDATE sieve_script SET is_active = true WHERE account_id = $1 AND name = $2 RETURNING 1"
        if await connection.fetchval(statement, account_id, name) is None:
            raise NotFoundError("no script of that name")


async def delete(connection: Connection, account_id: int, name: str) -> None:
    """Raises NotFoundError, ActiveScriptError, ReadOnlyScriptError."""
    _check_name(name)
    async with reported(), connection.transaction():
        await _lock(connection, account_id)
        statement = "SELECT is_active FROM sieve_script WHERE account_id = $1 AND name = $2"
        is_active: bool | None = await connection.fetchval(statement, account_id, name)
        if is_active is None:
            raise NotFoundError("no script of that name")
        if is_active:
            raise ActiveScriptError("the script is active")
        await connection.execute("DELETE FROM sieve_script WHERE account_id = $1 AND name = $2", account_id, name)


async def rename(connection: Connection, account_id: int, old: str, new: str) -> None:
    """Give a script another name; it stays active if it is. Raises NotFoundError, ExistsError, ReadOnlyScriptError."""
    _check_name(old)
    _check_name(new)
    statement = "UPDATE sieve_script SET name = $3 WHERE account_id = $1 AND name = $2 RETURNING 1"
    async with reported(), connection.transaction():
        await _lock(connection, account_id)
        if old == new:  # the new name is taken, by itself
            found = await connection.fetchval(
                "SELECT 1 FROM sieve_script WHERE account_id = $1 AND name = $2", account_id, old
            )
            raise ExistsError("a script has that name") if found else NotFoundError("no script of that name")
        try:
            renamed = await connection.fetchval(statement, account_id, old, new)
        except asyncpg.UniqueViolationError as error:
            raise ExistsError("a script has that name") from error
        if renamed is None:
            raise NotFoundError("no script of that name")


def _check_name(name: str | None) -> None:
    if name == SCRIPT_NAME:
        raise ReadOnlyScriptError("the script shows the simple settings, and changes with them")


async def _lock(connection: Connection, account_id: int) -> None:
    """One change of an account's scripts at a time. Raises NotFoundError."""
    if await connection.fetchval("SELECT 1 FROM account WHERE account_id = $1 FOR NO KEY UPDATE", account_id) is None:
        raise NotFoundError("no such account")
