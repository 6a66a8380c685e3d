"""What people sorted: three levels, once per message, and back again."""

import asyncio

import asyncpg
import pytest

from storage import spam
from storage.errors import NotFoundError
from storage.pool import Pool
from storage.spam import EVERYBODY, Learned, Level, Whose
from tests.conftest import Owner, Person

WORDS = [3, 5, 1 << 62]


async def _learn(pool: Pool, whose: Whose, digest: bytes, *, is_spam: bool, widest: Level = Level.TENANT) -> bool:
    async with pool.acquire() as connection:
        return await spam.learn(connection, whose, digest, WORDS, is_spam=is_spam, version=1, widest=widest)


async def test_account_teaches_itself_and_its_tenant(pool: Pool, owner: Owner, account: Person) -> None:
    """What an account sorts counts for it and its tenant, not for everybody."""
    whose = Whose(account.tenant_id, account.account_id)
    assert await _learn(pool, whose, b"1", is_spam=True)
    counted = Learned(1, 0, dict.fromkeys(WORDS, (1, 0)))
    assert await spam.counts(pool, whose, [*WORDS, 99]) == [counted, counted]
    assert await spam.counts(pool, Whose(account.tenant_id), [3]) == [Learned(1, 0, {3: (1, 0)})]
    assert await spam.counts(pool, EVERYBODY, WORDS) == []


async def test_message_teaches_once(pool: Pool, account: Person) -> None:
    """Said again it changes nothing; said otherwise it moves to the other kind; taken back nothing is left."""
    whose = Whose(account.tenant_id, account.account_id)
    assert await _learn(pool, whose, b"1", is_spam=True)
    assert not await _learn(pool, whose, b"1", is_spam=True)
    assert await _learn(pool, whose, b"1", is_spam=False)
    assert (await spam.counts(pool, whose, [3]))[-1] == Learned(0, 1, {3: (0, 1)})
    async with pool.acquire() as connection:
        assert await spam.unlearn(connection, whose, b"1", WORDS)
        assert not await spam.unlearn(connection, whose, b"1", WORDS)
    assert await spam.counts(pool, whose, WORDS) == [Learned(0, 0, {}), Learned(0, 0, {})]
    assert await pool.fetchval("SELECT count(*) FROM spam_token") == 0


async def test_reach_is_remembered(pool: Pool, account: Person) -> None:
    """What was taught to everybody is taken back from everybody, also when less is taught today."""
    whose = Whose(account.tenant_id, account.account_id)
    assert await _learn(pool, whose, b"1", is_spam=True, widest=Level.EVERYBODY)
    assert len(await spam.counts(pool, whose, WORDS)) == 3
    assert await _learn(pool, whose, b"1", is_spam=True, widest=Level.ACCOUNT)
    assert [each.spam for each in await spam.counts(pool, whose, WORDS)] == [0, 0, 1]


async def test_others_learn_nothing(pool: Pool, owner: Owner, account: Person) -> None:
    """Another tenant sees neither counts nor totals."""
    await _learn(pool, Whose(account.tenant_id, account.account_id), b"1", is_spam=True)
    assert await spam.counts(pool, Whose(account.tenant_id + 1, account.account_id + 1), WORDS) == []


async def test_many_teach_at_once(pool: Pool, account: Person) -> None:
    """At all levels at the same time: nobody waits for ever, and everything is counted."""
    everyone = [Whose(account.tenant_id, account.account_id), Whose(account.tenant_id), EVERYBODY]
    await asyncio.gather(
        *(
            _learn(pool, whose, b"%d" % number, is_spam=bool(number % 2), widest=Level.EVERYBODY)
            for number in range(12)
            for whose in everyone
        )
    )
    assert await spam.counts(pool, everyone[0], [3]) == [
        Learned(18, 18, {3: (18, 18)}),
        Learned(12, 12, {3: (12, 12)}),
        Learned(6, 6, {3: (6, 6)}),
    ]


async def test_account_takes_what_it_learned_with_it(pool: Pool, owner: Owner, account: Person) -> None:
    """With an account its own counts go; its tenant keeps what it was taught."""
    await _learn(pool, Whose(account.tenant_id, account.account_id), b"1", is_spam=True)
    await owner.execute("DELETE FROM spam_corpus WHERE account_id = $1", account.account_id)
    assert await spam.counts(pool, Whose(account.tenant_id, account.account_id), [3]) == [Learned(1, 0, {3: (1, 0)})]


async def test_names(owner: Owner, account: Person) -> None:
    """Accounts and tenants are found by name, in any case."""
    assert await spam.whose(owner) == EVERYBODY
    assert await spam.whose(owner, login=account.login.upper()) == Whose(account.tenant_id, account.account_id)
    assert await spam.whose(owner, tenant="example") == Whose(account.tenant_id)
    for wrong in ({"login": "nobody@example.test"}, {"tenant": "nobody"}):
        with pytest.raises(NotFoundError):
            await spam.whose(owner, **wrong)


async def test_levels_are_counted_apart(owner: Owner, account: Person) -> None:
    """There is one corpus for everybody, and an account without a tenant is none."""
    await owner.execute("INSERT INTO spam_corpus DEFAULT VALUES")
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.execute("INSERT INTO spam_corpus DEFAULT VALUES")
    with pytest.raises(ValueError, match="tenant"):
        Whose(None, account.account_id)


async def test_tokens_are_looked_up_by_their_key(pool: Pool, owner: Owner, account: Person) -> None:
    """Also when what is known of the table is old: a join would read all that a corpus has learned since, for each token."""
    await _learn(pool, Whose(account.tenant_id, account.account_id), b"1", is_spam=True, widest=Level.EVERYBODY)
    await owner.execute(
        "INSERT INTO spam_token SELECT corpus_id, token, 1, 0 FROM spam_corpus, generate_series(1000, 1900) AS token; ANALYZE"
    )
    corpus_ids = [row[0] for row in await owner.fetch("SELECT corpus_id FROM spam_corpus")]
    async with pool.acquire() as connection:
        rows = await connection.fetch(f"EXPLAIN {spam.COUNTS}", corpus_ids, list(range(400)))
    plan = "\n".join(row[0] for row in rows)
    assert "Index Cond: ((corpus_id = c.corpus_id) AND (token = k.token))" in plan, plan
