"""DKIM keys in the database: who signs with what, and the four states of a key. Private keys are wrapped by the tenant's key."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.blobs.keys import Wrapper
from storage.errors import ExistsError, NotFoundError
from storage.pool import Connection, Pool, reported

_COLUMNS = """
k.key_id, k.tenant_id, k.domain_id, d.name AS domain, k.selector, k.algorithm, k.state, k.public_key, k.target, k.created_at,
k.seen_at, k.activated_at, k.retired_at
"""
_ACTIVE = """
SELECT k.tenant_id, d.name, k.selector, k.algorithm, k.wrapped_key
  FROM dkim_key AS k JOIN domain AS d USING (domain_id)
 WHERE d.name = $2 AND ($1::bigint IS NULL OR k.tenant_id = $1) AND k.state = 'active'
 ORDER BY k.algorithm DESC
"""
_LIST = f"""
SELECT {_COLUMNS} FROM dkim_key AS k JOIN domain AS d USING (domain_id)
 WHERE $1::text IS NULL OR d.name = $1
 ORDER BY d.name, k.created_at, k.algorithm DESC, k.key_id
"""
# A removed key gives way to a new one of its selector: a delegated name serves one key after the other.
_MAKE_ROOM = "DELETE FROM dkim_key WHERE domain_id = $1 AND selector = $2 AND state = 'removed'"
_ADD = """
INSERT INTO dkim_key (tenant_id, domain_id, selector, algorithm, public_key, wrapped_key, target)
SELECT tenant_id, domain_id, $2, $3, $4, $5, $6 FROM domain WHERE domain_id = $1
RETURNING key_id
"""
_RETIRE_ACTIVE = """
UPDATE dkim_key AS k SET state = 'retired', retired_at = now(), wrapped_key = NULL
  FROM dkim_key AS successor
 WHERE successor.key_id = $1 AND successor.state = 'published'
   AND k.domain_id = successor.domain_id AND k.algorithm = successor.algorithm AND k.state = 'active'
"""
_ACTIVATE = """
UPDATE dkim_key SET state = 'active', activated_at = now() WHERE key_id = $1 AND state = 'published' RETURNING 1
"""
_DUE = f"""
SELECT {_COLUMNS} FROM dkim_key AS k JOIN domain AS d USING (domain_id)
 WHERE k.state = 'active' AND k.activated_at < now() - make_interval(secs => $1)
   AND NOT EXISTS (SELECT FROM dkim_key AS n
                    WHERE n.domain_id = k.domain_id AND n.algorithm = k.algorithm AND n.state = 'published')
 ORDER BY k.activated_at
"""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One DKIM key, without its private half."""

    key_id: int
    tenant_id: int
    domain_id: int
    domain: str  # in U-labels, as domains are stored
    selector: str
    algorithm: str
    state: str
    public_key: bytes
    target: (
        str | None
    )  # the name of ours that the domain's CNAME leads to; None: the record stands in the domain itself
    created_at: datetime
    seen_at: datetime | None
    activated_at: datetime | None
    retired_at: datetime | None


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key that signs, as it is stored."""

    tenant_id: int
    domain: str
    selector: str
    algorithm: str
    wrapped_key: bytes

    def unwrap(self, wrapper: Wrapper) -> bytes:
        """The private key, PKCS #8. Raises CorruptError."""
        return wrapper.unwrap(self.wrapped_key, bound_to(self.domain, self.selector))


def bound_to(domain: str, selector: str) -> bytes:
    """What a wrapped private key is bound to: it does not open in another row."""
    return f"dkim {selector} {domain}".encode()


async def active_keys(pool: Pool, tenant_id: int | None, domain: str) -> list[WrappedKey]:
    """The keys that sign for the domain if it is the tenant's (None: whoever's it is); RSA first. Raises UnavailableError."""
    async with reported():
        return [WrappedKey(*row) for row in await pool.fetch(_ACTIVE, tenant_id, domain)]


async def list_keys(connection: Connection, domain: str | None = None) -> list[KeyRow]:
    """All keys, or those of one domain, by domain and age."""
    return [KeyRow(*row) for row in await connection.fetch(_LIST, domain)]


async def domain_of(connection: Connection, name: str) -> tuple[int, int]:
    """domain_id and tenant_id of a local domain. Raises NotFoundError."""
    row = await connection.fetchrow("SELECT domain_id, tenant_id FROM domain WHERE name = $1", name)
    if row is None:
        raise NotFoundError(f"domain {name}")
    return row["domain_id"], row["tenant_id"]


async def add_key(
    connection: Connection,
    domain_id: int,
    selector: str,
    algorithm: str,
    public_key: bytes,
    wrapped_key: bytes,
    target: str | None,
) -> int:
    """A key in state "published". Raises ExistsError: the selector is taken, or another key waits to be seen already."""
    try:
        async with connection.transaction():
            await connection.execute(_MAKE_ROOM, domain_id, selector)
            key_id: int | None = await connection.fetchval(
                _ADD, domain_id, selector, algorithm, public_key, wrapped_key, target
            )
    except asyncpg.UniqueViolationError as error:
        raise ExistsError(f"{selector}: {error.constraint_name}") from error
    if key_id is None:
        raise NotFoundError(f"domain {domain_id}")
    return key_id


async def note_seen(connection: Connection, key_id: int, *, is_right: bool) -> None:
    """Keep since when the record has been right; forget it when it is not any more."""
    await connection.execute(
        "UPDATE dkim_key SET seen_at = CASE WHEN $2 THEN now() END WHERE key_id = $1 AND (seen_at IS NULL) = $2",
        key_id,
        is_right,
    )


async def activate(connection: Connection, key_id: int) -> None:
    """Let a published key sign; the one that signed so far is retired and its private half destroyed. Raises NotFoundError."""
    async with connection.transaction():
        await connection.execute(_RETIRE_ACTIVE, key_id)
        if await connection.fetchval(_ACTIVATE, key_id) is None:
            raise NotFoundError(f"key {key_id} is not waiting")


async def retire(connection: Connection, key_id: int) -> None:
    """Let a key sign no more, whether it has a successor or not. Its private half is destroyed."""
    await connection.execute(
        "UPDATE dkim_key SET state = 'retired', retired_at = now(), wrapped_key = NULL "
        "WHERE key_id = $1 AND state IN ('published', 'active')",
        key_id,
    )


async def delete_key(connection: Connection, key_id: int) -> None:
    """Forget a key."""
    await connection.execute("DELETE FROM dkim_key WHERE key_id = $1", key_id)


async def due_for_rotation(connection: Connection, rotation_seconds: float) -> list[KeyRow]:
    """Active keys that are older than that and have no successor yet."""
    return [KeyRow(*row) for row in await connection.fetch(_DUE, rotation_seconds)]


async def remove_retired(connection: Connection, retirement_seconds: float) -> int:
    """Turn keys that were retired longer ago than that into removed ones. Returns how many."""
    rows = await connection.fetch(
        "UPDATE dkim_key SET state = 'removed' "
        "WHERE state = 'retired' AND retired_at < now() - make_interval(secs => $1) RETURNING 1",
        retirement_seconds,
    )
    return len(rows)
