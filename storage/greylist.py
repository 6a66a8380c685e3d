"""Who has tried before: the memory of greylisting, tenant by tenant, in digests."""

from dataclasses import dataclass

from storage import choices
from storage.pool import Connection, Pool, reported

# $2 is the key of the source, $3 that of the try: source, sender and recipient. A source that has repeated $4 tries in time is
# known, and its tries are not written down any more. A try counts that comes between $5 and $6 seconds after the first one.
_TRY = """
WITH source AS MATERIALIZED (
    SELECT passed >= $4 AND seen_at > now() - make_interval(secs => $7) AS is_known, seen_at
      FROM greylist WHERE tenant_id = $1 AND key = $2),
tried AS (
    INSERT INTO greylist AS g (tenant_id, key, first_at, seen_at, passed)
    SELECT $1, $3, now(), now(), 0 WHERE NOT coalesce((SELECT is_known FROM source), false)
        ON CONFLICT (tenant_id, key) DO UPDATE
       SET passed = CASE WHEN g.passed > 0 AND g.seen_at > now() - make_interval(secs => $7) THEN 2
                         WHEN g.passed = 0 AND g.first_at BETWEEN now() - make_interval(secs => $6)
                                                              AND now() - make_interval(secs => $5) THEN 1
                         ELSE 0 END,
           first_at = CASE WHEN g.passed > 0 AND g.seen_at > now() - make_interval(secs => $7) THEN g.first_at
                           WHEN g.passed = 0 AND g.first_at >= now() - make_interval(secs => $6) THEN g.first_at
                           ELSE now() END,
           seen_at = now()
    RETURNING passed),
learned AS (
    INSERT INTO greylist AS g (tenant_id, key, first_at, seen_at, passed)
    SELECT $1, $2, now(), now(), 1 FROM tried WHERE passed = 1
        ON CONFLICT (tenant_id, key) DO UPDATE
       SET passed = CASE WHEN g.seen_at > now() - make_interval(secs => $7) THEN g.passed + 1 ELSE 1 END, seen_at = now()),
seen AS (
    UPDATE greylist AS g SET seen_at = now() FROM source
     WHERE g.tenant_id = $1 AND g.key = $2 AND source.is_known AND source.seen_at < now() - interval '1 day')
SELECT coalesce((SELECT is_known FROM source), false) AS is_known, coalesce((SELECT passed > 0 FROM tried), false) AS has_passed
"""
_FORGET = """
DELETE FROM greylist WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM greylist
     WHERE seen_at < now() - make_interval(secs => $1)
       AND (seen_at < now() - make_interval(secs => $2) OR passed = 0) LIMIT $3))
"""


@dataclass(frozen=True, slots=True)
class Terms:
    """When a source counts as known."""

    delay_seconds: float
    window_seconds: float
    learned_after: int
    memory_seconds: float


@dataclass(frozen=True, slots=True)
class Tried:
    """What the memory says to one try."""

    is_known: bool  # the source is let in, whoever it writes for
    has_passed: bool  # this try is let in


async def choice_of(pool: Pool, tenant_id: int) -> bool | None:
    """Whether the tenant wants greylisting; None: as configured. Raises UnavailableError."""
    async with reported():
        is_on: bool | None = await pool.fetchval("SELECT greylisting FROM tenant WHERE tenant_id = $1", tenant_id)
    return is_on


async def try_once(pool: Pool, tenant_id: int, source: bytes, key: bytes, terms: Terms) -> Tried:
    """Remember a try. Raises UnavailableError."""
    async with reported():
        row = await pool.fetchrow(
            _TRY, tenant_id, source, key, terms.learned_after, terms.delay_seconds, terms.window_seconds,
            terms.memory_seconds,
        )  # fmt: skip
    assert row is not None
    return Tried(*row)


async def forget(connection: Connection, batch_limit: int, *, terms: Terms) -> int:
    """Remove what is remembered no longer; gives how much that was."""
    status: str = await connection.execute(_FORGET, terms.window_seconds, terms.memory_seconds, batch_limit)
    return int(status.rpartition(" ")[2])


async def chosen(connection: Connection, tenant: str) -> bool | None:
    """Whether the tenant wants greylisting; None: as configured. Raises NotFoundError."""
    is_on: bool | None = await choices.chosen(connection, "greylisting", tenant)
    return is_on


async def choose(connection: Connection, tenant: str, is_on: bool | None) -> None:
    """Set the tenant's choice. Raises NotFoundError."""
    await choices.choose(connection, "greylisting", tenant, is_on)
