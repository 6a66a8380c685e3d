"""What happens together with storing a message, and what is remembered so."""

import asyncio
from dataclasses import dataclass, replace

import asyncpg
import pytest

from daemons.context import Context, open_context
from storage.effects import Effect
from storage.errors import StorageError
from storage.memory import AlreadyRememberedError, Kind, Remember, forget, is_remembered
from storage.pool import Connection
from storage.rows import NewMessage
from tests.conftest import Owner, Person, add_person
from tests.storage.messages_made import assert_counters_true, mailbox_id, new_message

HOUR = 3600


async def message_with(owner: Owner, person: Person, *effects: Effect, subject: str = "x") -> NewMessage:
    """A message to the person's inbox."""
    box = await mailbox_id(owner, person)
    return replace(new_message(person, box, f"Subject: {subject}\r\n\r\n".encode()), effects=effects)


def once(person: Person, key: str, kind: Kind = "vacation", seconds: int = HOUR) -> Remember:
    """What can be remembered by one only."""
    return Remember(person.account_id, kind, key, seconds, is_exclusive=True)


async def stored_messages(owner: Owner) -> int:
    """How many there are."""
    return int(await owner.fetchval("SELECT count(*) FROM message"))


async def test_what_is_remembered_is_asked_by_account_and_kind(context: Context, account: Person, owner: Owner) -> None:
    """It is there once the message is stored, for this account and this kind alone."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    assert not await is_remembered(context.pool, account.account_id, "vacation", "key")
    await context.ingest.store([await message_with(owner, account, once(account, "key"))])
    assert await is_remembered(context.pool, account.account_id, "vacation", "key")
    assert not await is_remembered(context.pool, account.account_id, "duplicate", "key")
    assert not await is_remembered(context.pool, bob.account_id, "vacation", "key")


async def test_of_two_that_would_answer_one_is_stored(context: Context, account: Person, owner: Owner) -> None:
    """What many processes do at the same time happens once; the others learn it, and nothing of theirs is stored."""
    tries = [await message_with(owner, account, once(account, "bob"), subject=str(number)) for number in range(8)]
    outcomes = await asyncio.gather(*(context.ingest.store([each]) for each in tries), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 7
    assert all(isinstance(each, AlreadyRememberedError) for each in refused)
    assert await stored_messages(owner) == 1
    await assert_counters_true(owner)


async def test_a_refused_effect_takes_its_group_along_and_no_other(
    context: Context, account: Person, owner: Owner
) -> None:
    """All messages of the group are stored or none; what was committed with it in one batch is not touched."""
    await context.ingest.store([await message_with(owner, account, once(account, "bob"))])
    group = [await message_with(owner, account, subject="a"), await message_with(owner, account, once(account, "bob"))]
    outcomes = await asyncio.gather(
        context.ingest.store(group),
        context.ingest.store([await message_with(owner, account, once(account, "carol"))]),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], AlreadyRememberedError)
    assert not isinstance(outcomes[1], BaseException)
    assert await stored_messages(owner) == 2


async def test_memory_ends(context: Context, account: Person, owner: Owner) -> None:
    """After its time a key counts as forgotten, may be remembered anew, and is removed in the end."""
    await context.ingest.store([await message_with(owner, account, once(account, "short", seconds=0))])
    assert not await is_remembered(context.pool, account.account_id, "vacation", "short")
    await context.ingest.store([await message_with(owner, account, once(account, "short"))])
    assert await is_remembered(context.pool, account.account_id, "vacation", "short")
    await owner.execute("UPDATE memory SET expires_at = now()")
    assert await forget(owner, 10) == 1
    assert await forget(owner, 10) == 0


async def test_a_longer_memory_stays(context: Context, account: Person, owner: Owner) -> None:
    """What is remembered again for a shorter time is not forgotten sooner."""
    for seconds in (HOUR, 0):
        effect = Remember(account.account_id, "duplicate", "id", seconds)
        await context.ingest.store([await message_with(owner, account, effect)])
    assert await is_remembered(context.pool, account.account_id, "duplicate", "id")


async def test_accounts_in_any_order(context: Context, account: Person, owner: Owner) -> None:
    """Processes that remember the same keys in different orders do not wait for each other."""
    people = [account] + [await add_person(context.settings, owner, f"p{number}@example.test") for number in range(3)]
    keys = [Remember(person.account_id, "redirect", "id", HOUR) for person in people]
    one, other = await message_with(owner, account, *keys), await message_with(owner, account, *reversed(keys))
    async with open_context(context.settings) as second, asyncio.timeout(20):
        for _ in range(20):
            await asyncio.gather(context.ingest.store([one]), second.ingest.store([other]))
    assert await owner.fetchval("SELECT count(*) FROM memory") == 4
    assert await stored_messages(owner) == 40


async def test_killed_connections_neither_double_nor_lose_effects(
    context: Context, account: Person, owner: Owner
) -> None:
    """Whenever the server's process dies, in the effect or in the commit, each message is stored once, with its effect."""
    kills = 0
    for number in range(30):
        message = await message_with(owner, account, once(account, str(number)), subject=str(number))
        storing = asyncio.create_task(context.ingest.store([message]))
        for _ in range(3):
            kills += await owner.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND (query LIKE '%INSERT INTO memory%' OR query = 'COMMIT;')"
            )
        await storing
    assert kills
    assert await stored_messages(owner) == 30
    assert await owner.fetchval("SELECT count(*) FROM memory") == 30
    await assert_counters_true(owner)


@dataclass(frozen=True, slots=True)
class _Broken(Effect):
    """Violates a constraint."""

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect."""
        await connection.execute("INSERT INTO memory VALUES (0, 'none', sha256(''), now())")


async def test_an_effect_with_a_mistake_fails_alone(context: Context, account: Person, owner: Owner) -> None:
    """The error is storage's, and nothing is stored."""
    with pytest.raises(StorageError):
        await context.ingest.store([await message_with(owner, account, _Broken())])
    assert await stored_messages(owner) == 0
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await _Broken().apply(owner, 0)
