"""What the keeper removes in time of traces and counts, and the mail that it releases because nobody else would."""

import asyncio

import msgspec

from config.keeper import Keeper
from daemons import rules
from daemons.context import Context
from daemons.keeper.expiry import Expiry
from daemons.traces import Recorder
from filters.simple.settings import Settings as Simple
from storage import mailboxes, sending
from tests.conftest import Owner, Person
from tests.storage.messages_made import assert_counters_true, fill, mailbox_id
from tests.storage.queued import queue


async def test_traces_go_in_time(context: Context, owner: Owner, account: Person) -> None:
    """Records and tags that are too old go, in transactions of bounded size; the others stay."""
    recorder = Recorder(context.settings.trace, context.pool, context.keys)
    for number in range(10):
        recorder.note(account.tenant_id, f"{number:016x}", "received", reverse_path="bob@remote.test")
    await recorder.flush()
    await owner.execute(
        "UPDATE trace_record SET happened_at = now() - interval '31 d' WHERE trace_id < '\\x0000000000000007'"
    )
    await owner.execute("UPDATE trace_tag SET day = day - 40 WHERE trace_id < '\\x0000000000000007'")
    expiry = Expiry(msgspec.structs.replace(context.settings, keeper=Keeper(batch_limit=2)))
    done = await expiry.round(owner, asyncio.Event())
    assert done.traces == 14
    assert await owner.fetchval("SELECT count(*) FROM trace_record") == 3
    assert await owner.fetchval("SELECT count(*) FROM trace_tag") == 3


async def test_counts_of_old_are_forgotten(context: Context, owner: Owner, account: Person) -> None:
    """Who sent nothing for half a year has no habit any more."""
    await owner.execute(
        "INSERT INTO sending_count (scope, scope_id, hour_slot, day_slot) "
        "SELECT 'account', days, 0, floor(extract(epoch FROM now()) / 3600) - 24 * days FROM unnest(ARRAY[1, 100, 200]) AS days"
    )
    assert (await Expiry(context.settings).round(owner, asyncio.Event())).counts == 1
    assert await owner.fetchval("SELECT count(*) FROM sending_count") == 2


async def test_junk_goes_in_time(context: Context, owner: Owner, account: Person) -> None:
    r"""What lies in \Junk for longer than its owner wants goes, whatever the mailbox is called; other mailboxes keep theirs."""
    await mailboxes.rename(owner, account.account_id, "Junk", "Verdacht")
    places = {name: await mailbox_id(owner, account, name) for name in ("Verdacht", "Archive")}
    for place in places.values():
        await fill(context, account, place, 5)
    expiry = Expiry(msgspec.structs.replace(context.settings, keeper=Keeper(batch_limit=2)))
    await owner.execute("UPDATE message SET savedate = now() - interval '29 d' WHERE uid = 1")
    await owner.execute(
        "UPDATE message SET savedate = now() - interval '31 d', internaldate = now() WHERE uid IN (2, 3, 4)"
    )
    assert (await expiry.round(owner, asyncio.Event())).junk == 0  # nobody has said that it may
    await rules.change(owner, context.settings, account.account_id, lambda _: Simple(junk_days=30))
    assert (await expiry.round(owner, asyncio.Event())).junk == 3
    left = await owner.fetch("SELECT mailbox_id, array_agg(uid ORDER BY uid) FROM message GROUP BY 1")
    assert {row[0]: row[1] for row in left} == {places["Verdacht"]: [1, 5], places["Archive"]: [1, 2, 3, 4, 5]}
    await assert_counters_true(owner)
    await rules.change(owner, context.settings, account.account_id, lambda _: Simple())
    await owner.execute("UPDATE message SET savedate = now() - interval '9 years'")
    assert (await expiry.round(owner, asyncio.Event())).junk == 0


async def test_mail_held_for_no_suspension_is_released(context: Context, owner: Owner, account: Person) -> None:
    """What came to the queue held, just after its sender was released, goes out; what somebody holds by hand stays."""
    held = f"{sending.HELD_FOR_SUSPENSION}a burst"
    await queue(context, account, ["a@remote.test"], held_reason=held)
    await queue(context, account, ["b@remote.test"], held_reason="by hand")
    assert (await Expiry(context.settings).round(owner, asyncio.Event())).released == 0  # it may be on its way yet
    await owner.execute("UPDATE outbound_message SET created_at = created_at - interval '2 min'")
    await sending.suspend(owner, account.login, "a burst", sending.BURST, is_holding=True)
    assert (await Expiry(context.settings).round(owner, asyncio.Event())).released == 0
    await sending.resume(owner, account.account_id, leave_seconds=0)
    assert (await Expiry(context.settings).round(owner, asyncio.Event())).released >= 1
    assert (
        await owner.fetchval("SELECT state FROM outbound_recipient WHERE forward_path = 'a@remote.test'") == "waiting"
    )


async def test_strangers_are_forgotten_in_time(context: Context, owner: Owner, account: Person) -> None:
    """A first try that was not repeated goes after two days, who was let in after 36, a rate after an hour."""
    await owner.execute(
        "INSERT INTO greylist (tenant_id, key, first_at, seen_at, passed) SELECT $1, decode(to_hex(n), 'hex'), seen, seen, passed "
        "FROM (SELECT row_number() OVER () + 15 AS n, passed, now() - make_interval(days => days) AS seen "
        "FROM (VALUES (0, 1), (0, 3), (0, 40), (1, 3), (1, 40), (7, 35), (7, 37)) AS v (passed, days)) AS rows",
        account.tenant_id,
    )
    await owner.execute(
        "INSERT INTO rate (key, used, granted, seen_at) VALUES ('\\x01', 5, 1, now()), ('\\x02', 5, 1, now() - interval '61 min')"
    )
    expiry = Expiry(msgspec.structs.replace(context.settings, keeper=Keeper(batch_limit=2)))
    assert (await expiry.round(owner, asyncio.Event())).strangers == 5
    rows = await owner.fetch("SELECT passed, now()::date - seen_at::date AS days FROM greylist ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [(0, 1), (1, 3), (7, 35)]
    assert await owner.fetchval("SELECT count(*) FROM rate") == 1


async def test_what_scripts_remember_goes_in_time(context: Context, owner: Owner, account: Person) -> None:
    """Who was answered, and what was seen, is forgotten when its time is over; the rest is kept."""
    await owner.execute(
        "INSERT INTO memory (account_id, kind, digest, expires_at) SELECT $1, 'vacation', sha256(n::text::bytea), "
        "now() + (n - 5) * interval '1 h' FROM generate_series(1, 9) AS n",
        account.account_id,
    )
    expiry = Expiry(msgspec.structs.replace(context.settings, keeper=Keeper(batch_limit=2)))
    assert (await expiry.round(owner, asyncio.Event())).memory == 5
    assert await owner.fetchval("SELECT count(*) FROM memory WHERE expires_at > now()") == 4
