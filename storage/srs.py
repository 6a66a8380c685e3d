"""Keys of rewritten senders, by the tenant whose domain they are of, and the senders that are too long to stand in an address."""

from dataclasses import dataclass

from storage.pool import Connection, Pool, reported

BOUND_TO = b"srs"  # what a wrapped key is bound to

_KEYS = """
SELECT d.tenant_id, k.wrapped_key, k.created_at
  FROM domain AS d LEFT JOIN srs_key AS k
    ON k.tenant_id = d.tenant_id
 WHERE d.name = $1
 ORDER BY k.created_at DESC NULLS LAST, k.srs_key_id DESC
"""
# Two processes may find no key at once: the lock of the tenant's row lets one of them make it. It is taken by a statement of
# its own, so that the next one sees what was committed while it waited; it hinders no reference to the tenant.
_LOCK_TENANT = "SELECT FROM tenant WHERE tenant_id = $1 FOR NO KEY UPDATE"
_ADD_FIRST = """
INSERT INTO srs_key (tenant_id, wrapped_key)
SELECT $1::bigint, $2 WHERE NOT EXISTS (SELECT FROM srs_key WHERE tenant_id = $1)
"""
_STORE_PATH = """
INSERT INTO srs_path (tenant_id, token, reverse_path) VALUES ($1, $2, $3)
    ON CONFLICT (tenant_id, token) DO UPDATE SET used_at = now()
"""
_AGED = """
SELECT tenant_id FROM srs_key GROUP BY tenant_id HAVING max(created_at) < now() - make_interval(secs => $1)
"""
# A key verifies until the last address of it has ended: its successor's age says when it stopped signing.
_FORGET_KEYS = """
DELETE FROM srs_key AS k
 WHERE EXISTS (SELECT FROM srs_key AS n WHERE n.tenant_id = k.tenant_id AND n.srs_key_id > k.srs_key_id
                  AND n.created_at < now() - make_interval(secs => $1))
RETURNING 1
"""
_FORGET_PATHS = """
DELETE FROM srs_path WHERE (tenant_id, token) IN (
    SELECT tenant_id, token FROM srs_path WHERE used_at < now() - make_interval(secs => $1) LIMIT $2)
RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class DomainKeys:
    """Whose a domain is, and the wrapped keys of that tenant, the newest first."""

    tenant_id: int
    wrapped: tuple[bytes, ...]


async def keys_of(pool: Pool, domain: str) -> DomainKeys | None:
    """None for a domain that is not local. Raises UnavailableError."""
    async with reported():
        rows = await pool.fetch(_KEYS, domain)
    if not rows:
        return None
    return DomainKeys(rows[0]["tenant_id"], tuple(row["wrapped_key"] for row in rows if row["wrapped_key"]))


async def add_first_key(pool: Pool, tenant_id: int, wrapped_key: bytes) -> None:
    """Give the tenant its first key, unless it has one by now. Raises UnavailableError."""
    async with reported(), pool.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK_TENANT, tenant_id)
        await connection.execute(_ADD_FIRST, tenant_id, wrapped_key)


async def store_path(pool: Pool, tenant_id: int, token: str, reverse_path: str) -> None:
    """Keep what a token stands for, from now on. Raises UnavailableError."""
    async with reported():
        await pool.execute(_STORE_PATH, tenant_id, token, reverse_path)


async def path_of(pool: Pool, tenant_id: int, token: str) -> str | None:
    """What a token stands for. Raises UnavailableError."""
    async with reported():
        found: str | None = await pool.fetchval(
            "SELECT reverse_path FROM srs_path WHERE tenant_id = $1 AND token = $2", tenant_id, token
        )
    return found


async def tenants_due(connection: Connection, rotation_seconds: float) -> list[int]:
    """Tenants whose newest key is older than that."""
    return [row["tenant_id"] for row in await connection.fetch(_AGED, rotation_seconds)]


async def add_key(connection: Connection, tenant_id: int, wrapped_key: bytes) -> None:
    """Give the tenant one more key, which rewrites from now on."""
    await connection.execute("INSERT INTO srs_key (tenant_id, wrapped_key) VALUES ($1, $2)", tenant_id, wrapped_key)


async def forget(connection: Connection, lifetime_seconds: float, limit: int) -> tuple[int, int]:
    """Remove keys and stored senders that no valid address is of. Returns how many of each."""
    keys = await connection.fetch(_FORGET_KEYS, lifetime_seconds)
    paths = await connection.fetch(_FORGET_PATHS, lifetime_seconds, limit)
    return len(keys), len(paths)
