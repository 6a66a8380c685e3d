"""What accounts have done with mail of a sender: answered, kept, thrown into Junk. Of the address only a number is stored."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.pool import Connection, Pool, reported

_MASK = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Standing:
    """Messages: written to the sender; of those that came from it, kept and thrown into Junk."""

    answered: int = 0
    kept: int = 0
    junked: int = 0


NOTHING = Standing()

_OF = """
SELECT account_id, answered, kept, junked FROM spam_standing WHERE account_id = ANY ($1::bigint[]) AND sender = $2
"""
# In one order, so that no two transactions wait for each other.
_COUNT = """
INSERT INTO spam_standing AS s (account_id, sender, answered, kept, junked)
SELECT account_id, sender, sum(answered), sum(kept), sum(junked)
  FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::integer[], $5::integer[])
       AS n (account_id, sender, answered, kept, junked)
 WHERE EXISTS (SELECT FROM account AS a WHERE a.account_id = n.account_id)
 GROUP BY account_id, sender ORDER BY account_id, sender
    ON CONFLICT (account_id, sender) DO UPDATE
   SET answered = s.answered + EXCLUDED.answered, kept = s.kept + EXCLUDED.kept,
       junked = s.junked + EXCLUDED.junked, changed_on = current_date
"""
_REDEEM = """
UPDATE spam_standing SET junked = greatest(junked - 1, 0), changed_on = current_date WHERE account_id = $1 AND sender = $2
"""
_ACCOUNTS = "SELECT login, account_id FROM account WHERE login = ANY ($1::text[])"
# What lies in these mailboxes was thrown away, or is the owner's own. OFFSET keeps the planner from joining: each is looked up.
_STAYED = r"""
WITH looked_at AS MATERIALIZED (
    SELECT content_id, header_cache FROM content
     WHERE content_id > $1 AND created_at < now() - make_interval(secs => $2) ORDER BY content_id LIMIT $3)
SELECT c.content_id, c.header_cache, array_agg(k.account_id) FILTER (WHERE k.account_id IS NOT NULL) AS account_ids
  FROM looked_at AS c
  LEFT JOIN LATERAL (
       SELECT DISTINCT b.account_id FROM message AS m JOIN mailbox AS b USING (mailbox_id)
        WHERE m.content_id = c.content_id AND m.flags & 1 <> 0 AND m.flags & 8 = 0
          AND coalesce(b.special_use, '') NOT IN ('\Junk', '\Trash', '\Sent', '\Drafts') OFFSET 0) AS k ON true
 GROUP BY c.content_id, c.header_cache ORDER BY c.content_id
"""
_FORGET = """
DELETE FROM spam_standing WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM spam_standing WHERE changed_on < current_date - make_interval(secs => $1) ORDER BY changed_on LIMIT $2))
"""


def number_of(address: str) -> int:
    """What is stored of an address: 63 bits, the same in every process. Upper and lower case are one sender."""
    return int.from_bytes(hashlib.sha256(address.lower().encode("utf-8", "surrogatepass")).digest()[:8], "big") & _MASK


async def standings(pool: "Pool | Connection", account_ids: Sequence[int], address: str) -> dict[int, Standing]:
    """What accounts have done with mail of the address; who knows nothing of it is left out. Raises UnavailableError."""
    async with reported():
        rows = await pool.fetch(_OF, account_ids, number_of(address))
    return {row["account_id"]: Standing(row["answered"], row["kept"], row["junked"]) for row in rows}


async def count(connection: "Pool | Connection", changes: Iterable[tuple[int, str, Standing]]) -> None:
    """Add to what accounts have done: account, address, messages. Raises UnavailableError."""
    rows = [(account_id, number_of(address), *_counts(more)) for account_id, address, more in changes]
    if rows:
        async with reported():
            await connection.execute(_COUNT, *map(list, zip(*rows, strict=True)))


async def redeem(connection: Connection, account_id: int, address: str) -> None:
    """Take back one message that was thrown into Junk."""
    await connection.execute(_REDEEM, account_id, number_of(address))


async def forget_sender(connection: Connection, account_id: int, address: str) -> None:
    """Forget what an account did with mail of the address."""
    statement = "DELETE FROM spam_standing WHERE account_id = $1 AND sender = $2"
    await connection.execute(statement, account_id, number_of(address))


async def accounts_of(pool: "Pool | Connection", logins: Sequence[str]) -> dict[str, int]:
    """Accounts by login. Raises UnavailableError."""
    async with reported():
        return {row["login"]: row["account_id"] for row in await pool.fetch(_ACCOUNTS, logins)}


@dataclass(frozen=True, slots=True)
class Stayed:
    """One message that came in some time ago, and who has read it and not thrown it away."""

    content_id: int
    header_cache: bytes
    account_ids: tuple[int, ...]


async def progress(connection: Connection) -> int:
    """Up to which content mail that people keep has been counted."""
    found: int = await connection.fetchval("SELECT content_id FROM spam_progress")
    return found


async def stayed(connection: Connection, after: int, limit: int, *, older_than_seconds: float) -> list[Stayed]:
    """The next messages to be counted, in the order of their contents."""
    rows = await connection.fetch(_STAYED, after, older_than_seconds, limit)
    return [Stayed(row["content_id"], row["header_cache"], tuple(row["account_ids"] or ())) for row in rows]


async def advance(connection: Connection, content_id: int) -> None:
    """All contents up to this one have been counted."""
    await connection.execute("UPDATE spam_progress SET content_id = $1", content_id)


async def forget(connection: Connection, limit: int, *, older_than_seconds: float) -> int:
    """Remove senders with whom nothing happened for so long. Returns how many went."""
    status: str = await connection.execute(_FORGET, older_than_seconds, limit)
    return int(status.rpartition(" ")[2])


def _counts(more: Standing) -> tuple[int, int, int]:
    return more.answered, more.kept, more.junked
