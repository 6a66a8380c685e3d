"""The memory of greylisting, where processes meet."""

import asyncio

from storage import greylist
from storage.greylist import Terms, Tried
from storage.pool import Pool
from tests.conftest import Owner, Person

TERMS = Terms(delay_seconds=0, window_seconds=3600, learned_after=2, memory_seconds=86400)
SOURCE = b"s" * 16


async def test_the_same_try_in_several_processes(pool: Pool, owner: Owner, account: Person) -> None:
    """A client that tries on several connections at once is remembered once, and learned once."""
    waiting = Terms(delay_seconds=60, window_seconds=3600, learned_after=2, memory_seconds=86400)
    first = await asyncio.gather(
        *(greylist.try_once(pool, account.tenant_id, SOURCE, b"k" * 16, waiting) for _ in range(8))
    )
    assert not any(tried.has_passed for tried in first)
    assert await owner.fetchval("SELECT count(*) FROM greylist") == 1
    second = await asyncio.gather(
        *(greylist.try_once(pool, account.tenant_id, SOURCE, b"k" * 16, TERMS) for _ in range(8))
    )
    assert all(tried.has_passed for tried in second)
    assert await owner.fetchval("SELECT passed FROM greylist WHERE key = $1", SOURCE) == 1


async def test_different_tries_of_one_source(pool: Pool, owner: Owner, account: Person) -> None:
    """All are let in, however they cross; then the source is known, and its tries are not written down any more."""
    keys = [bytes([number]) * 16 for number in range(8)]
    for _ in range(2):
        tried = await asyncio.gather(*(greylist.try_once(pool, account.tenant_id, SOURCE, key, TERMS) for key in keys))
    assert all(each.is_known or each.has_passed for each in tried)
    assert 2 <= await owner.fetchval("SELECT passed FROM greylist WHERE key = $1", SOURCE) <= 8
    assert await greylist.try_once(pool, account.tenant_id, SOURCE, b"n" * 16, TERMS) == Tried(
        is_known=True, has_passed=False
    )
    assert await owner.fetchval("SELECT count(*) FROM greylist WHERE key = $1", b"n" * 16) == 0
