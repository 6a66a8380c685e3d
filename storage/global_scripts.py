"""Sieve scripts of the host and of tenants, and which scripts run over an account's mail. Who puts one here has checked it."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from storage.errors import NotFoundError
from storage.pool import Connection, Pool, reported
from storage.scripts import Stored

Place = Literal["before", "after", "library"]

_PLACED = """
SELECT place, tenant_id IS NULL, name, digest, octets FROM sieve_global
 WHERE (tenant_id = $1 OR tenant_id IS NULL) AND place <> 'library'
 ORDER BY name
"""
_OWNER = """
SELECT a.login, array(SELECT r.local_part || '@' || d.name FROM address AS r JOIN domain AS d USING (domain_id)
                       WHERE r.account_id = a.account_id AND r.local_part <> '' ORDER BY r.address_id)
  FROM account AS a WHERE a.account_id = $1 AND a.tenant_id = $2
"""


@dataclass(frozen=True, slots=True)
class GlobalRow:
    """One script, for a listing."""

    tenant: str | None  # None: the host's
    name: str
    place: Place
    size_octets: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Surrounding:
    """What runs before and after the scripts of a tenant's accounts, each in its order."""

    before: tuple[Stored, ...] = ()  # the host's, the tenant's
    after: tuple[Stored, ...] = ()  # the tenant's, the host's


async def surrounding(connection: "Connection | Pool", tenant_id: int) -> Surrounding:
    """What runs around the scripts of the tenant's accounts."""
    async with reported():
        rows = await connection.fetch(_PLACED, tenant_id)
    placed: dict[tuple[str, bool], list[Stored]] = defaultdict(list)
    for place, is_hosts, *stored in rows:
        placed[place, is_hosts].append(Stored(*stored))
    return Surrounding(
        (*placed["before", True], *placed["before", False]), (*placed["after", False], *placed["after", True])
    )


async def addresses_of(connection: "Connection | Pool", tenant_id: int, account_id: int) -> tuple[str, ...]:
    """What reaches the account, its login first; none when it is gone."""
    async with reported():
        row = await connection.fetchrow(_OWNER, account_id, tenant_id)
    return () if row is None else tuple(dict.fromkeys((row[0], *row[1])))


async def find(connection: "Connection | Pool", tenant_id: int, name: str) -> Stored | None:
    """The script that the tenant's scripts include by that name: the tenant's own, or the host's."""
    async with reported():
        row = await connection.fetchrow(
            "SELECT name, digest, octets FROM sieve_global WHERE (tenant_id = $1 OR tenant_id IS NULL) AND name = $2 "
            "ORDER BY tenant_id NULLS LAST LIMIT 1",
            tenant_id, name,
        )  # fmt: skip
    return None if row is None else Stored(*row)


async def list_global(connection: Connection, tenant: str | None = None) -> list[GlobalRow]:
    """All of them or one tenant's, the host's first."""
    async with reported():
        rows = await connection.fetch(
            "SELECT t.name, g.name, place, octet_length(octets), changed_at FROM sieve_global AS g "
            "LEFT JOIN tenant AS t USING (tenant_id) WHERE $1::text IS NULL OR t.name = $1 "
            "ORDER BY t.name NULLS FIRST, place = 'library', place = 'after', g.name",
            tenant,
        )
    return [GlobalRow(*row) for row in rows]


async def read(connection: Connection, tenant: str | None, name: str) -> Stored | None:
    """The tenant's (None: the host's) script of that name. Raises NotFoundError for the tenant."""
    async with reported():
        row = await connection.fetchrow(
            "SELECT name, digest, octets FROM sieve_global WHERE tenant_id IS NOT DISTINCT FROM $1 AND name = $2",
            await _tenant_id(connection, tenant), name,
        )  # fmt: skip
    return None if row is None else Stored(*row)


async def put(connection: Connection, tenant: str | None, name: str, place: Place, octets: bytes) -> None:
    """Store a script, in place of the one of that name. Raises NotFoundError for the tenant."""
    async with reported():
        await connection.execute(
            "INSERT INTO sieve_global (tenant_id, name, place, octets) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, name) "
            "DO UPDATE SET place = excluded.place, octets = excluded.octets, changed_at = now()",
            await _tenant_id(connection, tenant), name, place, octets,
        )  # fmt: skip


async def delete(connection: Connection, tenant: str | None, name: str) -> None:
    """Raises NotFoundError for the tenant and for the script."""
    async with reported():
        done = await connection.fetchval(
            "DELETE FROM sieve_global WHERE tenant_id IS NOT DISTINCT FROM $1 AND name = $2 RETURNING true",
            await _tenant_id(connection, tenant), name,
        )  # fmt: skip
    if done is None:
        raise NotFoundError(f"script {name}")


async def _tenant_id(connection: Connection, tenant: str | None) -> int | None:
    if tenant is None:
        return None
    tenant_id: int | None = await connection.fetchval("SELECT tenant_id FROM tenant WHERE name = $1", tenant)
    if tenant_id is None:
        raise NotFoundError(f"tenant {tenant}")
    return tenant_id
