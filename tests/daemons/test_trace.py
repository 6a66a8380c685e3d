"""The delivery trace: written aside, sealed in the database, found by id, address, domain and time, and forgotten in time."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from config.settings import Settings
from config.traces import Trace as TraceSettings
from config.units import Seconds
from daemons.context import Context, open_context
from daemons.traces import Recorder
from protocol.address import AddrSpec
from storage import accounts, traces
from storage.blobs.keys import KeyRing
from storage.errors import CorruptError, UnavailableError
from storage.pool import open_pool
from storage.traces import Trace, Wanted
from tests.conftest import Owner, Person

ID, OTHER_ID = "00112233445566aa", "ff112233445566aa"
DAY = timedelta(days=1)


@pytest.fixture
async def recorder(context: Context) -> Recorder:
    """A recorder that writes when it is told to."""
    return Recorder(context.settings.trace, context.pool, context.keys)


async def found(context: Context, tenant_id: int, **wanted: object) -> list[Trace]:
    now = datetime.now(UTC)
    limits = {"since": now - 30 * DAY, "until": now + DAY} | wanted
    return [one async for one in traces.search(context.pool, context.keys, tenant_id, Wanted(**limits))]  # type: ignore[arg-type]


async def test_notes_come_back_in_order(context: Context, recorder: Recorder, account: Person) -> None:
    """All that was noted of a message comes back by its id, in the order it happened, with its facts."""
    at = datetime(2026, 5, 1, tzinfo=UTC)
    recorder.note(account.tenant_id, ID, "received", reverse_path="a@remote.test", forward_paths=[account.login])
    recorder.note(account.tenant_id, ID, "stored", mailbox_id=7, uid=9, uidvalidity=3)
    await recorder.flush()
    recorder.note(
        account.tenant_id, ID, "attempt", reply="250 2.0.0 ok", next_attempt_at=at, path=AddrSpec("a", "b.test")
    )
    await recorder.flush()
    (one,) = await traces.by_id(context.pool, context.keys, ID)
    assert [(note.kind, dict(note.facts)) for note in one.notes] == [
        ("received", {"reverse_path": "a@remote.test", "forward_paths": [account.login]}),
        ("stored", {"mailbox_id": 7, "uid": 9, "uidvalidity": 3}),
        ("attempt", {"reply": "250 2.0.0 ok", "next_attempt_at": at, "path": "a@b.test"}),
    ]
    assert await context.pool.fetchval("SELECT count(*) FROM trace_record") == 2
    assert await traces.by_id(context.pool, context.keys, OTHER_ID) == []


async def test_nothing_is_legible_in_the_database(
    context: Context, recorder: Recorder, account: Person, owner: Owner
) -> None:
    """Rows hold no address and no word of a server, neither plain nor as a digest that anybody else could make."""
    recorder.note(account.tenant_id, ID, "queued", reverse_path=account.login, forward_path="secret@remote.test")
    recorder.note(account.tenant_id, ID, "attempt", reply="550 no such person")
    await recorder.flush()
    rows = str(await owner.fetch("SELECT *, sealed::text FROM trace_record"))
    for word in ("alice", "secret", "remote", "person", b"secret".hex(), b"person".hex()):
        assert word not in rows
    tags = {row[0] for row in await owner.fetch("SELECT tag FROM trace_tag")}
    mine = traces.Sealer(account.tenant_id, await context.keys.tenant(context.pool, account.tenant_id))
    assert tags == {mine.tag("from", account.login), mine.tag("to", "secret@remote.test")}
    assert mine.tag("to", "a@b.test") != mine.tag("from", "a@b.test")


async def test_rows_cannot_be_moved(context: Context, recorder: Recorder, account: Person, owner: Owner) -> None:
    """A record under another message's id, or another tenant's, does not open."""
    recorder.note(account.tenant_id, ID, "received", helo="x")
    await recorder.flush()
    await owner.execute("UPDATE trace_record SET trace_id = $1", bytes.fromhex(OTHER_ID))
    with pytest.raises(CorruptError):
        await traces.by_id(context.pool, context.keys, OTHER_ID)


async def test_search_by_address_domain_and_time(context: Context, recorder: Recorder, account: Person) -> None:
    """Sender and recipient narrow each other; case, A-labels and a leading @ make no difference; the latest comes first."""
    for number, (sender, recipients) in enumerate(
        [
            ("bob@remote.test", [account.login]),
            ("Bob@Remote.TEST", [account.login, "carol@bücher.test"]),
            ("eve@elsewhere.test", [account.login]),
        ]
    ):
        recorder.note(account.tenant_id, f"{number:016x}", "received", reverse_path=sender, forward_paths=recipients)
        recorder.note(account.tenant_id, f"{number:016x}", "stored", uid=number)

    await recorder.flush()

    async def ids(**wanted: object) -> list[int]:
        return [int(one.trace_id, 16) for one in await found(context, account.tenant_id, **wanted)]

    assert await ids() == [2, 1, 0]
    assert await ids(sender="bob@remote.test") == [1, 0]
    assert await ids(recipient=account.login.upper()) == [2, 1, 0]
    assert await ids(sender="BOB@remote.test", recipient="carol@xn--bcher-kva.test") == [1]
    assert await ids(sender="remote.test") == [1, 0]
    assert await ids(sender="@remote.test", recipient="bücher.test") == [1]
    assert await ids(sender=account.login) == []
    assert await ids(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert await ids(until=datetime.now(UTC) - timedelta(hours=1)) == []


async def test_search_goes_over_pages(
    context: Context, recorder: Recorder, account: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that opens its time page by page finds every message once."""
    monkeypatch.setattr(traces, "_PAGE", 3)
    for number in range(10):
        recorder.note(account.tenant_id, f"{number:016x}", "received", reverse_path="bob@remote.test")
        recorder.note(account.tenant_id, f"{number:016x}", "stored", uid=number)
    await recorder.flush()
    for wanted in ({}, {"sender": "remote.test"}, {"sender": "bob@remote.test"}):
        ids = [int(one.trace_id, 16) for one in await found(context, account.tenant_id, **wanted)]
        assert sorted(ids) == list(range(10))


async def test_tenants_see_their_own(
    context: Context, recorder: Recorder, settings: Settings, owner: Owner, account: Person
) -> None:
    """A message that went to two tenants has a trace for each; a search of one never finds the other's."""
    wrapped = KeyRing(settings.master_key_file).new_tenant_key()
    other = await accounts.add_tenant(owner, "other", wrapped)
    recorder.note(account.tenant_id, ID, "received", reverse_path="bob@remote.test", forward_paths=[account.login])
    recorder.note(other, ID, "received", reverse_path="bob@remote.test", forward_paths=["eve@other.test"])
    recorder.note(other, OTHER_ID, "received", reverse_path="bob@remote.test", forward_paths=["eve@other.test"])
    await recorder.flush()
    assert {one.tenant_id for one in await traces.by_id(context.pool, context.keys, ID)} == {account.tenant_id, other}
    (mine,) = await found(context, account.tenant_id, sender="bob@remote.test")
    assert mine.addresses("forward_paths") == [account.login]
    assert len(await found(context, other, sender="bob@remote.test")) == 2
    await accounts.remove_tenant(owner, "other")
    assert await owner.fetchval("SELECT count(*) FROM trace_record WHERE tenant_id = $1", other) == 0
    assert await owner.fetchval("SELECT count(*) FROM trace_tag WHERE tenant_id = $1", other) == 0


async def test_notes_are_written_without_being_asked(settings: Settings, account: Person, database: str) -> None:
    """A running process writes within its delay, and what is left when it ends."""
    quick = msgspec.structs.replace(settings, trace=TraceSettings(delay=Seconds(0.01)))
    async with open_context(quick) as context:
        context.recorder.note(account.tenant_id, ID, "received", helo="x")
        async with asyncio.timeout(30):
            while not await traces.by_id(context.pool, context.keys, ID):
                await context.pool.execute("SELECT 1")
    slow = msgspec.structs.replace(settings, trace=TraceSettings(delay=Seconds(1000)))
    async with open_context(slow) as context:
        context.recorder.note(account.tenant_id, OTHER_ID, "received", helo="x")
        keys = context.keys
    async with open_pool(database, size=1, role="postwerk_daemon") as pool:
        assert len(await traces.by_id(pool, keys, OTHER_ID)) == 1


async def test_queue_is_bounded(context: Context, account: Person) -> None:
    """What comes when too much waits is dropped: mail never waits for its record."""
    recorder = Recorder(TraceSettings(queue_limit=100), context.pool, context.keys)
    for number in range(150):
        recorder.note(account.tenant_id, f"{number:016x}", "received", helo="x")
    await recorder.flush()
    assert await context.pool.fetchval("SELECT count(*) FROM trace_record") == 100


async def test_notes_survive_a_database_that_was_away(
    context: Context, recorder: Recorder, account: Person, owner: Owner
) -> None:
    """Notes that could not be written wait, in order, and are written once when the database is back."""
    for uid in range(5):
        recorder.note(account.tenant_id, ID, "stored", uid=uid)
    async with owner.transaction():
        await owner.execute("LOCK TABLE trace_record")
        writing = asyncio.create_task(recorder.flush())
        blocked = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not await owner.fetch(f"SELECT pg_terminate_backend(pid) {blocked}"):
            await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            await writing
    await recorder.flush()
    (one,) = await traces.by_id(context.pool, context.keys, ID)
    assert [note.facts["uid"] for note in one.notes] == list(range(5))


async def test_one_bad_note_costs_no_other(context: Context, recorder: Recorder, account: Person) -> None:
    """An id that is none, and a tenant that is gone, lose their own notes only."""
    recorder.note(account.tenant_id, "no id", "received", helo="x")
    recorder.note(99999, ID, "received", helo="x")
    recorder.note(account.tenant_id, ID, "received", helo="y")
    await recorder.flush()
    (one,) = await traces.by_id(context.pool, context.keys, ID)
    assert one.notes[0].facts == {"helo": "y"}


async def test_retention(context: Context, recorder: Recorder, owner: Owner, account: Person) -> None:
    """Records and tags go when their time is over, which a tenant may have of its own; 0 days record nothing."""
    for number in range(5):
        recorder.note(account.tenant_id, f"{number:016x}", "received", reverse_path="bob@remote.test")
    await recorder.flush()
    await owner.execute("UPDATE trace_record SET happened_at = happened_at - interval '10 d'")
    await owner.execute("UPDATE trace_tag SET day = day - 10")
    month, week = 30 * 86400.0, 7 * 86400.0
    async with context.pool.acquire() as connection:
        assert await traces.forget(connection, 1000, older_than_seconds=month) == 0
        await traces.set_days(owner, "example", 20)
        assert await traces.forget(connection, 1000, older_than_seconds=week) == 0
        await traces.set_days(owner, "example", None)
        assert await traces.forget(connection, 2, older_than_seconds=week) == 4
        assert await traces.forget(connection, 1000, older_than_seconds=week) == 6
    await traces.set_days(owner, "example", 0)
    assert await traces.days_of(owner, "example") == 0
    recorder.note(account.tenant_id, ID, "received", reverse_path="bob@remote.test")
    await recorder.flush()
    assert await owner.fetchval("SELECT (SELECT count(*) FROM trace_record) + (SELECT count(*) FROM trace_tag)") == 0


async def test_plans(context: Context, owner: Owner, account: Person) -> None:
    """Searches and the keeper's removal follow the indexes, whatever the number of rows."""
    await owner.execute(
        "INSERT INTO trace_record SELECT $1, int8send(n), now() - n * interval '1 s', '' FROM generate_series(1, 20000) AS n",
        account.tenant_id,
    )
    await owner.execute(
        "INSERT INTO trace_tag SELECT $1, n / 1000, n % 100, int8send(n) FROM generate_series(1, 20000) AS n",
        account.tenant_id,
    )
    await owner.execute("ANALYZE trace_record, trace_tag")
    questions: list[tuple[str, tuple[object, ...]]] = [
        (traces._TAGGED, (account.tenant_id, 5, 20, 0)),
        (traces._BETWEEN, (account.tenant_id, datetime.now(UTC) - DAY, datetime.now(UTC), 500)),
        (traces._RECORDS, ([b"12345678"], [account.tenant_id])),
        (traces._FORGET_RECORDS, (3600.0, 1000)),
        (traces._FORGET_TAGS, (3600.0, 1000)),
    ]
    for statement, arguments in questions:
        plan = "\n".join(row[0] for row in await context.pool.fetch(f"EXPLAIN {statement}", *arguments))
        assert "Seq Scan on trace" not in plan, plan
        assert "Sort" not in plan, plan
