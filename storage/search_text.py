"""The search index: which contents wait for it, what it holds of each, and questions to it.

Rows of another version than the one asked for count as missing: whoever searches scans those contents instead. Every
question names the tenant, and contents that the caller has from a mailbox of that tenant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import asyncpg

from storage.pool import Connection, reported

Text = Literal["header", "body", "words"]

CHANNEL = "postwerk_search"  # notified when contents begin to wait
UNREADABLE = 0  # the version of a content that cannot be read: always scanned
MAX_NEEDLES = 32  # of one question about words

# A limit written into the statement: with a parameter the generic plan must expect a tenth of the table, and sorts it.
_CLAIM = """
WITH free AS MATERIALIZED (
    SELECT content_id FROM search_waiting WHERE not_before <= now()
     ORDER BY content_id LIMIT {limit:d} FOR UPDATE SKIP LOCKED)
UPDATE search_waiting AS w SET attempts = w.attempts + 1, not_before = now() + make_interval(secs => $1)
  FROM free WHERE w.content_id = free.content_id
RETURNING w.content_id, w.attempts
"""
_FACTS = """
SELECT w.content_id, c.tenant_id, c.head, c.structure, c.size_octets
  FROM unnest($1::bigint[]) AS w (content_id) LEFT JOIN content AS c USING (content_id)
 ORDER BY w.content_id
"""
# The content is locked as a foreign key would: the keeper cannot take it from under the row, and one that is gone gets none.
_STORE = """
WITH given AS (
    SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[])
        AS g (content_id, version, header, body, words, preview)),
alive AS MATERIALIZED (
    SELECT c.content_id, c.tenant_id FROM content AS c WHERE c.content_id = ANY ($1::bigint[])
     ORDER BY c.content_id FOR KEY SHARE),
stored AS (
    INSERT INTO search_text (content_id, tenant_id, version, header, body, words, preview)
    SELECT content_id, a.tenant_id, version, header, body, words, preview FROM given JOIN alive AS a USING (content_id)
        ON CONFLICT (content_id) DO UPDATE
       SET version = excluded.version, header = excluded.header, body = excluded.body, words = excluded.words,
           preview = excluded.preview
     WHERE search_text.version <> excluded.version
 RETURNING 1),
done AS (
    DELETE FROM search_waiting AS w USING given AS g WHERE w.content_id = g.content_id)
SELECT count(*) FROM stored
"""
_DROP = "DELETE FROM search_waiting WHERE content_id = ANY ($1::bigint[])"
_RELEASE = (
    "UPDATE search_waiting SET attempts = attempts - 1, not_before = '-infinity' WHERE content_id = ANY ($1::bigint[])"
)
_BACKLOG = "SELECT count(*) FROM (SELECT FROM search_waiting LIMIT $1) AS counted"
_UNREADABLE = "SELECT count(*) FROM (SELECT FROM search_text WHERE version = 0 LIMIT $1) AS counted"

_CONTAINING = """
SELECT w.content_id, s.content_id IS NULL AS is_missing
  FROM unnest($1::bigint[]) AS w (content_id)
  LEFT JOIN search_text AS s ON s.content_id = w.content_id AND s.tenant_id = $2 AND s.version = $3
 WHERE s.content_id IS NULL OR {condition}
"""
_WITH_WORDS = """
SELECT w.content_id, s.words
  FROM unnest($1::bigint[]) AS w (content_id)
  LEFT JOIN search_text AS s ON s.content_id = w.content_id AND s.tenant_id = $2 AND s.version = $3
 WHERE s.content_id IS NULL OR ({condition})
"""
_WITH_FIELD = """
SELECT w.content_id, s.header
  FROM unnest($1::bigint[]) AS w (content_id)
  LEFT JOIN search_text AS s ON s.content_id = w.content_id AND s.tenant_id = $2 AND s.version = $3
 WHERE s.content_id IS NULL OR (strpos(E'\\n' || s.header, $4) > 0 AND strpos(s.header, $5) > 0)
"""
_COLUMN = """
SELECT content_id, convert_to({column}, 'UTF8') AS octets FROM search_text
 WHERE content_id = ANY ($1::bigint[]) AND tenant_id = $2 AND version = $3
"""
_PREVIEWS = """
SELECT content_id, preview FROM search_text WHERE content_id = ANY ($1::bigint[]) AND tenant_id = $2 AND preview IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A content that this process has claimed."""

    content_id: int
    attempts: int  # this one included


@dataclass(frozen=True, slots=True)
class Indexed:
    """What the index holds of one content."""

    content_id: int
    version: int
    header: str | None = None  # canonical
    body: str | None = None
    words: str | None = None
    preview: str | None = None


@dataclass(frozen=True, slots=True)
class Hits:
    """Contents that have a text, and those that the index does not know."""

    found: list[int]
    missing: list[int]


async def claim(connection: Connection, limit: int, *, lease_seconds: float) -> list[Waiting]:
    """Take at most `limit` waiting contents for ourselves, for that time. Other processes take others meanwhile."""
    async with reported():
        rows = await connection.fetch(_CLAIM.format(limit=limit), lease_seconds)
    return sorted((Waiting(*row) for row in rows), key=lambda waiting: waiting.content_id)


async def facts(connection: Connection, content_ids: Sequence[int]) -> list[asyncpg.Record]:
    """content_id, tenant_id, head, structure and size_octets, ascending; tenant_id is NULL for a content that is gone."""
    async with reported():
        return await connection.fetch(_FACTS, list(content_ids))


async def store(connection: Connection, indexed: Sequence[Indexed]) -> int:
    """Keep these and let them wait no more, in one transaction. Returns how many rows were written."""
    columns = [
        [one.content_id for one in indexed], [one.version for one in indexed], [one.header for one in indexed],
        [one.body for one in indexed], [one.words for one in indexed], [one.preview for one in indexed],
    ]  # fmt: skip
    async with reported(), connection.transaction():
        # Losing this transaction in a crash loses nothing: row and mark vanish together, and the content waits again.
        await connection.execute("SET LOCAL synchronous_commit = off")
        return int(await connection.fetchval(_STORE, *columns))


async def drop(connection: Connection, content_ids: Sequence[int]) -> None:
    """Contents that are gone wait no more."""
    async with reported():
        await connection.execute(_DROP, list(content_ids))


async def release(connection: Connection, content_ids: Sequence[int]) -> None:
    """Give claimed contents back: they were not tried."""
    async with reported():
        await connection.execute(_RELEASE, list(content_ids))


@dataclass(frozen=True, slots=True)
class Condition:
    """How the index stands; each number is counted up to `most`."""

    waiting: int
    unreadable: int  # every search has to read these anew
    most: int


async def condition(connection: Connection, *, most: int = 100_000) -> Condition:
    """For whoever asks how the server is."""
    return Condition(await backlog(connection, most=most), await unreadable(connection, most=most), most)


async def backlog(connection: Connection, *, most: int) -> int:
    """How many contents wait, counted up to `most`."""
    async with reported():
        return int(await connection.fetchval(_BACKLOG, most))


async def unreadable(connection: Connection, *, most: int) -> int:
    """How many contents cannot be indexed, counted up to `most`."""
    async with reported():
        return int(await connection.fetchval(_UNREADABLE, most))


async def containing(
    connection: Connection, tenant_id: int, version: int, content_ids: Sequence[int], needle: str, texts: Sequence[Text]
) -> Hits:
    """Which of the contents have the canonical `needle` in one of the texts. It must hold no NUL."""
    condition = " OR ".join(f"strpos(s.{text}, $4) > 0" for text in texts)
    async with reported():
        rows = await connection.fetch(
            _CONTAINING.format(condition=condition), list(content_ids), tenant_id, version, needle
        )
    return Hits([row[0] for row in rows if not row[1]], [row[0] for row in rows if row[1]])


async def with_words(
    connection: Connection, tenant_id: int, version: int, content_ids: Sequence[int], wanted: Sequence[Sequence[str]]
) -> tuple[dict[int, str], list[int]]:
    """Which of the contents have, for each of `wanted`, one of its forms among their words; and those that are not known.

    Gives the words of the former. At most MAX_NEEDLES forms in all.
    """
    conditions: list[str] = []
    forms: list[str] = []
    for alternatives in wanted:
        places = range(4 + len(forms), 4 + len(forms) + len(alternatives))
        conditions.append("(" + " OR ".join(f"strpos(s.words, ${place}) > 0" for place in places) + ")")
        forms += [f" {form} " for form in alternatives]
    assert 0 < len(forms) <= MAX_NEEDLES
    statement = _WITH_WORDS.format(condition=" AND ".join(conditions))
    async with reported():
        rows = await connection.fetch(statement, list(content_ids), tenant_id, version, *forms)
    return {row[0]: row[1] for row in rows if row[1] is not None}, [row[0] for row in rows if row[1] is None]


async def column(
    connection: Connection, tenant_id: int, version: int, content_ids: Sequence[int], text: Text
) -> list[tuple[int, bytes]]:
    """One text of each content, in UTF-8; contents that the index does not know are left out."""
    async with reported():
        rows = await connection.fetch(_COLUMN.format(column=text), list(content_ids), tenant_id, version)
    return [(row[0], row[1]) for row in rows]


async def previews(connection: Connection, tenant_id: int, content_ids: Sequence[int]) -> dict[int, str]:
    """The previews that are there already, by content."""
    async with reported():
        return {row[0]: row[1] for row in await connection.fetch(_PREVIEWS, list(content_ids), tenant_id)}


async def with_field(
    connection: Connection, tenant_id: int, version: int, content_ids: Sequence[int], name: str, needle: str
) -> tuple[dict[int, str], list[int]]:
    """The headers that have a line beginning with the canonical name and, anywhere, the needle; and contents not known."""
    async with reported():
        rows = await connection.fetch(_WITH_FIELD, list(content_ids), tenant_id, version, f"\n{name}: ", needle)
    return {row[0]: row[1] for row in rows if row[1] is not None}, [row[0] for row in rows if row[1] is None]
