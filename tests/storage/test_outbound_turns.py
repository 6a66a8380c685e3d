"""Turns of the outbound queue: fair between senders, past domains that are busy or dead, and as quick with 100,000 waiting."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from daemons.context import Context
from storage import outbound
from storage.outbound import Leased
from storage.pool import Connection
from storage.rows import Settlement
from tests.conftest import Owner, Person, add_person
from tests.storage.queued import queue

# Messages of a hundred recipients, without the ingest: what matters here is what waits, not how it came in.
_FILL = """
WITH new_message AS (
    INSERT INTO outbound_message (tenant_id, account_id, content_id, reverse_path, expires_at, priority)
    SELECT $1, $2, (SELECT max(content_id) FROM content), 'x@example.test', now() + interval '5 days', $7
      FROM generate_series(1, ($3::integer + 99) / 100) RETURNING outbound_id),
numbered AS (SELECT outbound_id, row_number() OVER () - 1 AS number FROM new_message)
INSERT INTO outbound_recipient (outbound_id, tenant_id, sender, urgency, forward_path, domain, next_attempt_at)
SELECT outbound_id, $1, $2 + n % $6::integer, sign($7::integer), format('r%s@example.org', n), format($4, n % $5::integer), $8
  FROM generate_series(0, $3::integer - 1) AS n JOIN numbered ON number = n / 100
"""


@pytest.fixture
async def connection(context: Context) -> AsyncIterator[Connection]:
    """A connection as a relay has it."""
    async with context.pool.acquire() as acquired:
        yield acquired


@pytest.fixture
async def bob(context: Context, account: Person, owner: Owner) -> Person:
    """Somebody else, who has sent one message that has been delivered."""
    person = await add_person(context.settings, owner, "bob@example.test")
    await queue(context, person, ["old@example.org"])
    await owner.execute("UPDATE outbound_recipient SET state = 'delivered', finished_at = now()")
    await owner.execute("DELETE FROM outbound_wake")
    return person


async def fill(owner: Owner, person: Person, count: int, domain: str = "example.org", *, domains: int = 1, senders: int = 1,
               priority: int = 0, due_at: datetime | None = None) -> None:  # fmt: skip
    """Have so many recipients wait for the person, or for so many senders from the person's number on."""
    due_at = due_at or datetime.now(UTC) - timedelta(seconds=60)
    template = domain if domains == 1 else "d%s." + domain
    await owner.execute(_FILL, person.tenant_id, person.account_id, count, template, domains, senders, priority, due_at)


async def lease(connection: Connection, limit: int, *, excluded: tuple[str, ...] = ()) -> list[Leased]:
    """A lease of a minute."""
    return await outbound.lease(connection, limit, lease_seconds=60, leased_by="relay", excluded_domains=excluded)


async def later(owner: Owner) -> None:
    """So much time passes that every lane that rests is due."""
    await owner.execute("UPDATE outbound_lane SET turn_at = now()")


async def test_a_mailing_does_not_delay_one_letter(
    context: Context, account: Person, bob: Person, owner: Owner, connection: Connection
) -> None:
    """Behind 50,000 recipients of one account, another's letter is in the next lease, and so is his next one."""
    await fill(owner, account, 50_000, "example.org", domains=5000)
    assert {leased.account_id for leased in await lease(connection, 200)} == {account.account_id}
    for number in range(3):
        await queue(context, bob, [f"letter{number}@example.net"])
        taken = [leased.account_id for leased in await lease(connection, 200)]
        assert taken.count(bob.account_id) == 1
        assert len(taken) == 200


async def test_two_mailings_share(account: Person, bob: Person, owner: Owner, connection: Connection) -> None:
    """Each sender gets his half of each lease, and all of it when the other has no more."""
    await fill(owner, account, 5000)
    await fill(owner, bob, 250)
    senders = [Counter(leased.account_id for leased in await lease(connection, 200)) for _ in range(4)]
    assert [each[account.account_id] for each in senders] == [100, 100, 150, 200]


async def test_each_of_many_senders_gets_a_turn(
    account: Person, bob: Person, owner: Owner, connection: Connection
) -> None:
    """With 2,000 senders, nobody gets a second turn before everybody has had the first."""
    await fill(owner, account, 20_000, senders=2000)
    seen: Counter[int] = Counter()
    for _ in range(80):
        taken = [leased.recipient_id for leased in await lease(connection, 200)]
        rows = await owner.fetch("SELECT sender FROM outbound_recipient WHERE recipient_id = ANY ($1)", taken)
        turns = Counter(row["sender"] for row in rows)
        assert len(turns) == 25  # eight recipients a turn
        seen.update(turns.keys())
    assert len(seen) == 2000
    assert set(seen.values()) == {1}


async def test_a_sender_goes_round_his_domains(
    account: Person, bob: Person, owner: Owner, connection: Connection
) -> None:
    """No domain of a mailing is reached only when all before it in the alphabet are done."""
    await fill(owner, account, 10_000, domains=4)
    domains = [{leased.domain for leased in await lease(connection, 200)} for _ in range(5)]
    assert domains == [
        {"d0.example.org"},
        {"d1.example.org"},
        {"d2.example.org"},
        {"d3.example.org"},
        {"d0.example.org"},
    ]


async def test_excluded_domains_are_passed_over(
    context: Context, account: Person, bob: Person, owner: Owner, connection: Connection
) -> None:
    """A busy domain that 20,000 wait for delays neither others' mail nor the sender's own to elsewhere."""
    await fill(owner, account, 20_000, "busy.example")
    await queue(context, account, ["own@example.net"])
    await queue(context, bob, ["letter@example.net", "too@busy.example"])
    taken = await lease(connection, 200, excluded=("busy.example", "dead.example"))
    assert sorted(leased.forward_path for leased in taken) == ["letter@example.net", "own@example.net"]
    due = await outbound.next_due(connection)
    assert due is not None
    assert due <= 0.1  # until a busy domain is tried again
    await later(owner)
    assert len(await lease(connection, 200)) == 200


async def test_a_sender_with_only_excluded_mail_is_let_rest(
    context: Context, account: Person, bob: Person, owner: Owner, connection: Connection
) -> None:
    """Who has nothing else due is looked at again after some seconds, or as soon as he sends more: no lease is lost on him."""
    await fill(owner, account, 4000, "dead.example", senders=2000)
    for seconds in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5):
        await later(owner)
        for _ in range(2):  # a lease looks at a thousand senders at most
            assert await lease(connection, 200, excluded=("dead.example",)) == []
        longest = await owner.fetchval("SELECT extract(epoch FROM max(turn_at - now()))::float8 FROM outbound_lane")
        assert seconds - 1 < longest <= seconds
    await queue(context, account, ["a@alive.example"])
    (leased,) = await lease(connection, 200, excluded=("dead.example",))
    assert leased.domain == "alive.example"


async def test_domains_that_are_due_later_cost_a_step_each(
    account: Person, bob: Person, owner: Owner, connection: Connection
) -> None:
    """A lease looks at a bounded number of them, and the next one goes on from there."""
    await fill(owner, account, 3000, domains=3000, due_at=datetime.now(UTC) + timedelta(hours=1))
    await fill(owner, account, 1, "zzz.example")
    taken: list[Leased] = []
    leases = 0
    while not taken and leases < 9:
        leases += 1
        taken = await lease(connection, 200)
        if taken:
            continue
        due = await outbound.next_due(connection)
        assert due is not None
        assert due <= 0.1
        await later(owner)
    assert leases == 7
    assert [leased.domain for leased in taken] == ["zzz.example"]
    due = await outbound.next_due(connection)
    assert due is not None
    assert 50 < due <= 60  # when the lease runs out: the rest is due later


async def test_urgent_mail_goes_first_but_holds_up_nobody(
    context: Context, account: Person, bob: Person, owner: Owner, connection: Connection
) -> None:
    """RFC 6710: higher priority goes first; a mailing that claims it gets half of each lease, and low priority a tenth."""
    await fill(owner, account, 1000, priority=9)
    await fill(owner, account, 1000, priority=-9)
    await fill(owner, bob, 1000)
    priorities = Counter(leased.priority for leased in await lease(connection, 200))
    assert priorities == {9: 100, 0: 80, -9: 20}
    await owner.execute("DELETE FROM outbound_recipient WHERE urgency = 1")
    assert Counter(leased.priority for leased in await lease(connection, 200)) == {0: 180, -9: 20}


async def test_settling_wakes_the_lane(account: Person, bob: Person, owner: Owner, connection: Connection) -> None:
    """What is to be tried again before the leases of its sender run out is due then."""
    await fill(owner, account, 100)
    leased = await lease(connection, 200)
    at = datetime.now(UTC) + timedelta(seconds=20)
    await outbound.settle(connection, [Settlement(leased[0].recipient_id, 1, "waiting", "451 later", at)])
    due = await outbound.next_due(connection)
    assert due is not None
    assert 10 < due <= 20


# ---------------------------------------------------------------- 100,000 waiting


@pytest.fixture
async def crowded(account: Person, bob: Person, owner: Owner, connection: Connection) -> None:
    """100,000 recipients of 500 senders at 5,000 domains, every other one deferred. The server knows no statistics of them."""
    await owner.execute("ALTER TABLE outbound_recipient SET (autovacuum_enabled = off)")
    await fill(owner, account, 50_000, domains=5000, senders=500)
    await fill(owner, account, 50_000, domains=5000, senders=500, due_at=datetime.now(UTC) + timedelta(hours=1))
    await lease(connection, 1)  # what follows needs no plan


async def buffers(connection: Connection, statement: str) -> int:
    """How many pages the statement, with all that it calls, touches."""
    (plan,) = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"))
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


async def test_a_lease_touches_what_it_takes(connection: Connection, crowded: None) -> None:
    """Of 100,000 that wait, a lease of 200 touches some pages per recipient that it takes, and none of the others'."""
    touched = await buffers(connection, "SELECT lease_outbound(200, 60, 'relay', '{}', 5)")
    assert touched < 200 * 60
    assert await buffers(connection, f"SELECT {outbound.DUE}") < 50


async def test_no_plan_reads_or_sorts_the_queue(owner: Owner, crowded: None) -> None:
    """The plans of a lease's statements, as auto_explain shows them: index scans in order, whatever the statistics say."""
    plans: list[str] = []
    owner.add_log_listener(lambda _connection, message: plans.append(str(message)))
    await owner.execute(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;"
        "SET client_min_messages = log; SET plan_cache_mode = force_generic_plan"
    )
    leased = await lease(owner, 200)
    await outbound.settle(
        owner, [Settlement(each.recipient_id, each.attempts, "delivered", "250 ok") for each in leased]
    )
    await owner.execute("SET auto_explain.log_min_duration = -1")
    text = "\n".join(plans)
    used = {"outbound_recipient_waiting", "outbound_recipient_next", "outbound_lane_turn", "outbound_recipient_pkey"}
    assert {name for name in used if f"using {name}" in text} == used
    assert not re.findall(r"Seq Scan on outbound_(?:recipient|message|lane)\b", text)
    assert not re.findall(r"Sort Key: .*(?:next_attempt_at|turn_at|domain)", text)


async def test_counting_reads_an_index(connection: Connection, owner: Owner, crowded: None) -> None:
    """`standing` counts what waits from an index of what waits: nothing is sorted, and what is finished is not looked at."""
    await owner.execute("VACUUM ANALYZE outbound_recipient")
    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {outbound.STANDING}"))
    assert "Scan using outbound_recipient_" in plan or "Scan on outbound_recipient_" in plan
    assert "Sort" not in plan
    assert "Seq Scan on outbound_recipient" not in plan
    assert (await outbound.standing(connection))[0] == 100_000
