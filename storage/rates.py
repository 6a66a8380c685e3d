"""What networks and senders have used of their rates: leaky buckets that all processes share."""

from dataclasses import dataclass

from storage.pool import Connection, Pool, reported

# The bucket leaks its whole limit ($4) within the period ($5, seconds). What was used already ($2) goes in whether it fits or not;
# of what is wanted ($3), as much as still fits is granted.
_TAKE = """
INSERT INTO rate AS r (key, used, granted, seen_at)
VALUES ($1, $2::double precision + greatest(0, least($3, $4 - $2)), greatest(0, least($3, $4 - $2)), clock_timestamp())
    ON CONFLICT (key) DO UPDATE
   SET (used, granted, seen_at) = (
       SELECT b.used + b.room, b.room, b.now
         FROM (SELECT a.used, a.now, greatest(0, least($3, floor($4 - a.used))) AS room
                 FROM (SELECT greatest(0, r.used - extract(epoch FROM n.now - r.seen_at) * $4 / $5) + $2 AS used, n.now
                         FROM (SELECT greatest(clock_timestamp(), r.seen_at) AS now) AS n) AS a) AS b)
RETURNING granted, used
"""
_FORGET = """
DELETE FROM rate WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM rate WHERE seen_at < now() - make_interval(secs => $1) LIMIT $2))
"""


@dataclass(frozen=True, slots=True)
class Granted:
    """The answer to one request."""

    amount: int
    used: float  # of the limit, by everybody, this included


async def take(pool: Pool, key: bytes, *, used: int, wanted: int, limit: int, period_seconds: float) -> Granted:
    """Tell what was used already and ask for more. Raises UnavailableError."""
    async with reported():
        row = await pool.fetchrow(_TAKE, key, used, wanted, limit, period_seconds)
    assert row is not None
    return Granted(int(row["granted"]), row["used"])


async def forget(connection: Connection, batch_limit: int, *, older_than_seconds: float) -> int:
    """Remove buckets that are empty by now; gives how many these were."""
    status: str = await connection.execute(_FORGET, older_than_seconds, batch_limit)
    return int(status.rpartition(" ")[2])
