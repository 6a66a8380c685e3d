"""Facts read ahead: in order, as wanted, and without a trace when nobody wants the rest."""

import asyncio
from contextlib import aclosing

import pytest

from daemons.access.imap import fetching, matching
from daemons.access.imap.reading import facts_of
from storage.errors import UnavailableError
from tests.daemons.imap.conftest import Service, mail


async def _contents(service: Service, count: int) -> list[int]:
    await service.deliver(*(mail(f"message {number}") for number in range(count)))
    rows = await service.context.pool.fetch("SELECT content_id FROM message ORDER BY uid")
    return [row["content_id"] for row in rows]


async def test_runs_come_in_order(service: Service) -> None:
    """Every run comes in turn with the facts of its contents; what is gone has none."""
    contents = await _contents(service, 5)
    runs = [contents[:2], contents[2:4], [], [*contents[4:], 2**40]]
    async with aclosing(facts_of(service.context.pool, runs, lambda run: run, ["envelope"])) as reading:
        found = [(run, set(facts)) async for run, facts in reading]
    assert found == [(run, set(run) - {2**40}) for run in runs]


async def test_leaving_early_leaves_nothing_behind(service: Service) -> None:
    """Whoever stops after the first run leaves no task and no connection in use."""
    contents = await _contents(service, 4)
    pool, before = service.context.pool, asyncio.all_tasks()
    runs = [[content] for content in contents]
    async with aclosing(facts_of(pool, runs, lambda run: run, ["envelope"])) as reading:
        async for _ in reading:
            break
    assert asyncio.all_tasks() <= before
    assert await pool.fetchval("SELECT 1") == 1


async def test_an_error_ahead_comes_in_its_turn(service: Service) -> None:
    """When the database goes away, what was read before is still given, then the error is raised."""
    contents = await _contents(service, 2)
    reading = facts_of(service.context.pool, [[content] for content in contents], lambda run: run, ["envelope"])
    async with aclosing(reading):
        _, facts = await anext(reading)
        assert set(facts) == {contents[0]}
        service.context.pool.terminate()
        with pytest.raises(UnavailableError):
            await anext(reading)


async def test_batches_join_without_a_seam(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """FETCH and SEARCH over many batches give every message once, in order, whatever another session expunged."""
    monkeypatch.setattr(fetching, "_BATCH", 2)
    monkeypatch.setattr(matching, "_FACTS", 2)
    await service.deliver(*(mail(f"message {number}") for number in range(1, 8)))
    async with await service.client() as client, await service.client() as other:
        await client.ok(b"SELECT INBOX")
        await other.ok(b"SELECT INBOX")
        await other.ok(b"STORE 3 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        lines = await client.ok(b"FETCH 1:* (ENVELOPE)")
        wanted = [b"* %d FETCH " % number for number in (1, 2, 4, 5, 6, 7)]
        assert [line[:10] for line in lines if b"(ENVELOPE " in line] == wanted
        assert (await client.ok(b"SEARCH SUBJECT message"))[0] == b"* SEARCH 1 2 4 5 6 7"
