"""What people sorted into spam and other mail, counted by token at three levels: everybody, a tenant, an account.

A message teaches once, whoever says it again and again; said otherwise, it is moved from one kind to the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import asyncpg

from storage.accounts import login_name
from storage.errors import NotFoundError
from storage.pool import Connection, Pool, reported


class Level(IntEnum):
    """How far what is learned goes; the widest is 0."""

    EVERYBODY = 0
    TENANT = 1
    ACCOUNT = 2


@dataclass(frozen=True, slots=True)
class Whose:
    """An account, a tenant (no account), or everybody (neither)."""

    tenant_id: int | None = None
    account_id: int | None = None

    def __post_init__(self) -> None:
        if self.account_id is not None and self.tenant_id is None:
            raise ValueError("an account belongs to a tenant")

    @property
    def level(self) -> Level:
        """Its own."""
        if self.tenant_id is None:
            return Level.EVERYBODY
        return Level.TENANT if self.account_id is None else Level.ACCOUNT

    def levels(self, widest: Level = Level.EVERYBODY) -> list["Whose"]:
        """Itself and those above it, the widest first."""
        chain = [Whose(), Whose(self.tenant_id), self][: self.level + 1]
        chain[-1] = self
        return chain[min(widest, self.level) :]


EVERYBODY = Whose()


@dataclass(frozen=True, slots=True)
class Learned:
    """The counts of one level for the tokens that were asked for."""

    spam: int
    ham: int
    counts: dict[int, tuple[int, int]]  # by token: spam, ham


_CORPUS = """
WITH found AS (
    SELECT corpus_id FROM spam_corpus WHERE tenant_id IS NOT DISTINCT FROM $1::bigint AND account_id IS NOT DISTINCT FROM $2::bigint
), made AS (
    INSERT INTO spam_corpus (tenant_id, account_id) SELECT $1::bigint, $2::bigint WHERE NOT EXISTS (SELECT FROM found)
        ON CONFLICT (tenant_id, account_id) DO NOTHING
    RETURNING corpus_id
)
SELECT corpus_id FROM found UNION ALL SELECT corpus_id FROM made
"""
_FIND = (
    "SELECT corpus_id FROM spam_corpus WHERE tenant_id IS NOT DISTINCT FROM $1 AND account_id IS NOT DISTINCT FROM $2"
)
_LOCK = "SELECT FROM spam_corpus WHERE corpus_id = $1 FOR NO KEY UPDATE"
_CORPORA = """
SELECT corpus_id, tenant_id, account_id, spam, ham FROM spam_corpus
 WHERE (tenant_id IS NULL OR (tenant_id = ANY ($1::bigint[]) AND account_id IS NULL)
        OR (tenant_id = ANY ($1::bigint[]) AND account_id = ANY ($2::bigint[])))
   AND spam >= $3 AND ham >= $3
 ORDER BY tenant_id IS NOT NULL, account_id IS NOT NULL
"""
# LIMIT keeps the planner from joining: each token is looked up by its key, whatever is known of the table when this is planned.
COUNTS = """
SELECT t.corpus_id, array_agg(t.token) AS tokens, array_agg(t.spam) AS spam, array_agg(t.ham) AS ham
  FROM unnest($1::bigint[]) AS c (corpus_id), unnest($2::bigint[]) AS k (token)
  JOIN LATERAL (SELECT * FROM spam_token AS s WHERE s.corpus_id = c.corpus_id AND s.token = k.token LIMIT 1) AS t ON true
 GROUP BY t.corpus_id
"""
_TOTALS = "UPDATE spam_corpus SET spam = greatest(spam + $2, 0), ham = greatest(ham + $3, 0) WHERE corpus_id = $1"
_COUNT = """
INSERT INTO spam_token AS t (corpus_id, token, spam, ham)
SELECT $1, k.token, greatest($3, 0), greatest($4, 0) FROM unnest($2::bigint[]) AS k (token) ORDER BY k.token
    ON CONFLICT (corpus_id, token) DO UPDATE SET spam = greatest(t.spam + $3, 0), ham = greatest(t.ham + $4, 0)
"""
_EMPTY = "DELETE FROM spam_token WHERE corpus_id = $1 AND token = ANY($2::bigint[]) AND spam = 0 AND ham = 0"
_KNOWN = "SELECT is_spam, reach, version FROM spam_learned WHERE corpus_id = $1 AND digest = $2"
_IS_SPAM = """
SELECT is_spam FROM spam_learned JOIN spam_corpus USING (corpus_id)
 WHERE tenant_id IS NOT DISTINCT FROM $1 AND account_id IS NOT DISTINCT FROM $2 AND digest = $3
"""
_NOTE = """
INSERT INTO spam_learned (corpus_id, digest, is_spam, reach, version) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (corpus_id, digest) DO UPDATE
   SET is_spam = EXCLUDED.is_spam, reach = EXCLUDED.reach, version = EXCLUDED.version, learned_at = now()
"""
_FORGET = "DELETE FROM spam_learned WHERE corpus_id = $1 AND digest = $2"
_LIST = """
SELECT t.name AS tenant, a.login, c.spam, c.ham, (SELECT count(*) FROM spam_token AS k WHERE k.corpus_id = c.corpus_id) AS tokens
  FROM spam_corpus AS c LEFT JOIN tenant AS t USING (tenant_id) LEFT JOIN account AS a USING (account_id)
 ORDER BY t.name NULLS FIRST, a.login NULLS FIRST
"""


async def whose(connection: Connection, *, login: str | None = None, tenant: str | None = None) -> Whose:
    """By name. Raises NotFoundError."""
    if login is not None:
        row = await connection.fetchrow("SELECT tenant_id, account_id FROM account WHERE login = $1", login_name(login))
        if row is None:
            raise NotFoundError(login)
        return Whose(row["tenant_id"], row["account_id"])
    if tenant is not None:
        tenant_id = await connection.fetchval("SELECT tenant_id FROM tenant WHERE name = $1", tenant)
        if tenant_id is None:
            raise NotFoundError(tenant)
        return Whose(tenant_id)
    return EVERYBODY


async def learn(
    connection: Connection,
    whose: Whose,
    digest: bytes,
    tokens: Sequence[int],
    *,
    is_spam: bool,
    version: int,
    widest: Level = Level.TENANT,
) -> bool:
    """Count a message, for whom it concerns and for those above up to `widest`. False: it was counted so already."""
    async with connection.transaction():
        corpora = [await _corpus(connection, each) for each in whose.levels(widest)]
        known = await _locked(connection, whose, digest, corpora)
        if known is not None:
            if known["is_spam"] == is_spam and known["reach"] == corpora and known["version"] == version:
                return False
            await _take_back(connection, known["reach"], tokens, is_spam=known["is_spam"])
        await _count(connection, corpora, tokens, is_spam=is_spam, by=1)
        await connection.execute(_NOTE, corpora[-1], digest, is_spam, corpora, version)
    return True


async def taught_as_spam(connection: Connection, whose: Whose, digest: bytes) -> bool | None:
    """Whether they have taught that this message is spam, or is not; None: they have taught nothing by it."""
    is_spam: bool | None = await connection.fetchval(_IS_SPAM, whose.tenant_id, whose.account_id, digest)
    return is_spam


async def unlearn(connection: Connection, whose: Whose, digest: bytes, tokens: Sequence[int]) -> bool:
    """Take back what a message taught. False: it taught nothing."""
    async with connection.transaction():
        own = await _corpus(connection, whose)
        known = await _locked(connection, whose, digest, [own])
        if known is None:
            return False
        await _take_back(connection, known["reach"], tokens, is_spam=known["is_spam"])
        await connection.execute(_FORGET, own, digest)
    return True


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was learned for one account, tenant, or everybody."""

    corpus_id: int
    whose: Whose
    spam: int
    ham: int


async def corpora_of(pool: "Pool | Connection", everyone: Sequence[Whose], least_learned: int = 0) -> list[Corpus]:
    """Where something was learned that concerns these, so many messages of each kind at least; the widest level first.

    Raises UnavailableError.
    """
    tenant_ids = list({each.tenant_id for each in everyone if each.tenant_id is not None})
    account_ids = [each.account_id for each in everyone if each.account_id is not None]
    async with reported():
        rows = await pool.fetch(_CORPORA, tenant_ids, account_ids, least_learned)
    return [Corpus(row[0], Whose(row[1], row[2]), row[3], row[4]) for row in rows]


async def counts_in(
    pool: "Pool | Connection", corpora: Sequence[Corpus], tokens: Sequence[int]
) -> dict[Whose, Learned]:
    """What is known of these tokens in each corpus. Raises UnavailableError."""
    if not corpora:
        return {}
    async with reported():
        rows = await pool.fetch(COUNTS, [corpus.corpus_id for corpus in corpora], tokens)
    found = {
        row["corpus_id"]: dict(zip(row["tokens"], zip(row["spam"], row["ham"], strict=True), strict=True))
        for row in rows
    }
    return {each.whose: Learned(each.spam, each.ham, found.get(each.corpus_id, {})) for each in corpora}


async def counts(pool: "Pool | Connection", whose: Whose, tokens: Sequence[int]) -> list[Learned]:
    """What is known of these tokens, the widest level first. Raises UnavailableError."""
    return list((await counts_in(pool, await corpora_of(pool, [whose]), tokens)).values())


@dataclass(frozen=True, slots=True)
class CorpusRow:
    """How much was learned by whom; neither tenant nor login: for everybody."""

    tenant: str | None
    login: str | None
    spam: int
    ham: int
    tokens: int


async def list_corpora(connection: Connection) -> list[CorpusRow]:
    """All levels that have learned something."""
    return [CorpusRow(*row) for row in await connection.fetch(_LIST)]


async def _corpus(connection: Connection, whose: Whose) -> int:
    corpus_id: int | None = None
    while corpus_id is None:  # another one may have made it just now, unseen by this statement
        corpus_id = await connection.fetchval(_CORPUS, whose.tenant_id, whose.account_id)
    return corpus_id


async def _locked(connection: Connection, whose: Whose, digest: bytes, corpora: Sequence[int]) -> asyncpg.Record | None:
    """Lock the corpora that will change, the widest first, so that nobody waits in a circle; give what was learned before."""
    known = await connection.fetchrow(_KNOWN, corpora[-1], digest)
    change = {*corpora, *(known["reach"] if known else ())}
    for each in whose.levels():
        corpus_id = await connection.fetchval(_FIND, each.tenant_id, each.account_id)
        if corpus_id in change:
            await connection.execute(_LOCK, corpus_id)
    return await connection.fetchrow(_KNOWN, corpora[-1], digest)


async def _take_back(connection: Connection, corpora: Sequence[int], tokens: Sequence[int], *, is_spam: bool) -> None:
    await _count(connection, corpora, tokens, is_spam=is_spam, by=-1)
    for corpus_id in corpora:
        await connection.execute(_EMPTY, corpus_id, tokens)


async def _count(
    connection: Connection, corpora: Sequence[int], tokens: Sequence[int], *, is_spam: bool, by: int
) -> None:
    spam, ham = (by, 0) if is_spam else (0, by)
    for corpus_id in corpora:
        await connection.execute(_TOTALS, corpus_id, spam, ham)
    for corpus_id in corpora:
        await connection.execute(_COUNT, corpus_id, tokens, spam, ham)
