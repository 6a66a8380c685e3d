"""Rates that processes share: exact where it matters, and hardly a statement where it does not."""

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from daemons.rates import Allowances
from storage import rates
from storage.pool import Connection, Pool
from tests.conftest import Owner


@dataclass
class Clock:
    """Seconds that pass when told to."""

    seconds: float = 0.0
    processes: list[Allowances] = field(default_factory=list)

    def process(self, pool: Pool) -> Allowances:
        """One more process."""
        self.processes.append(Allowances(pool, clock=lambda: self.seconds))
        return self.processes[-1]

    async def later(self, owner: Connection, seconds: float) -> None:
        """Let time pass, for the database, too."""
        self.seconds += seconds
        await owner.execute("UPDATE rate SET seen_at = seen_at - make_interval(secs => $1)", seconds)


async def taken(process: Allowances, times: int, limit: int, *, whose: str = "192.0.2") -> int:
    """How many of so many tries are let through."""
    return sum([await process.take("messages", whose, 1, limit) for _ in range(times)])


@pytest.mark.parametrize("limit", [1, 5, 15, 16, 100, 1000])
async def test_one_process_is_exact(pool: Pool, limit: int) -> None:
    """Exactly the limit is let through, besides what comes back meanwhile, and others have their own."""
    process = Clock().process(pool)
    began = time.monotonic()
    found = await taken(process, limit + 20, limit)
    assert limit <= found <= limit + int((time.monotonic() - began) * limit / 3600)
    assert await taken(process, 1, limit, whose="198.51.100") == 1
    assert await process.take("recipients", "192.0.2", 1, limit)


async def test_small_limits_are_exact_over_processes(pool: Pool) -> None:
    """Below sixteen no process lets anything through that the others do not know of."""
    clock = Clock()
    processes = [clock.process(pool) for _ in range(4)]
    assert sum([await taken(processes[n % 4], 1, 10) for n in range(40)]) == 10


async def test_large_limits_are_nearly_exact_over_processes(pool: Pool) -> None:
    """Above that each process but one may have let through a sixteenth before it said so, and none stays unused."""
    clock = Clock()
    processes = [clock.process(pool) for _ in range(4)]
    found = sum([await taken(processes[n % 4], 1, 160) for n in range(1000)])
    assert 160 <= found <= 160 + 3 * 10


async def test_it_comes_back_steadily(pool: Pool, owner: Owner) -> None:
    """Half of the hour later half of the limit is there again, and a day later no more than the limit."""
    clock = Clock()
    process = clock.process(pool)
    assert await taken(process, 20, 10) == 10
    await clock.later(owner, 1800)
    assert await taken(process, 20, 10) == 5
    await clock.later(owner, 86400)
    assert await taken(process, 20, 10) == 10


async def test_few_messages_cost_no_statement(pool: Pool, owner: Owner) -> None:
    """Who brings little is not even written down; who is over the limit is not asked about again at once."""
    process = Clock().process(pool)
    assert await taken(process, 6, 100) == 6
    assert await owner.fetchval("SELECT count(*) FROM rate") == 0
    assert await taken(process, 200, 100) == 94
    before = await owner.fetchval("SELECT seen_at FROM rate")
    assert await taken(process, 100, 100) == 0
    assert await owner.fetchval("SELECT seen_at FROM rate") == before


async def test_looking_uses_nothing_up(pool: Pool) -> None:
    """Who asks whether something is left leaves it there."""
    clock = Clock()
    one, other = clock.process(pool), clock.process(pool)
    for _ in range(10):
        assert await one.take("unknown", "192.0.2", 0, 2)
    assert await one.take("unknown", "192.0.2", 1, 2)
    assert await one.take("unknown", "192.0.2", 1, 2)
    assert not await one.take("unknown", "192.0.2", 0, 2)
    assert not await other.take("unknown", "192.0.2", 1, 2)
    assert not await other.take("unknown", "192.0.2", 0, 2)


async def test_tries_at_the_same_time(pool: Pool) -> None:
    """Many connections at once get exactly the limit."""
    process = Clock().process(pool)
    found = await asyncio.gather(*(process.take("connections", "192.0.2", 1, 50) for _ in range(300)))
    assert sum(found) == 50


async def test_the_keeper_removes_what_has_run_out(pool: Pool, owner: Owner) -> None:
    """Buckets that nobody has used for an hour are empty, and gone."""
    clock = Clock()
    await taken(clock.process(pool), 5, 5)
    assert await rates.forget(owner, 100, older_than_seconds=3600) == 0
    await clock.later(owner, 3601)
    assert await rates.forget(owner, 100, older_than_seconds=3600) == 1
