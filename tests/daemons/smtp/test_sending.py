"""Caps: exact over all processes, for messages and recipients apart, by account, domain and tenant; bursts; suspensions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from config.sending import Sending as Settings
from config.settings import Settings as AllSettings
from daemons.context import Context
from daemons.smtp.sending import SUSPENDED, Held, Sending
from protocol.address import AddrSpec
from protocol.smtp.reply import Reply
from storage import sending as storage
from storage.sending import Caps
from tests.clock import Clock
from tests.conftest import Owner, Person, add_person

_NO_CAPS = {name: 0 for name in Settings.__struct_fields__ if name.endswith(("_hour", "_day"))}
OPEN = msgspec.structs.replace(Settings(), burst_recipients=0, **_NO_CAPS)
FROM = AddrSpec("alice", "example.test")

Start = Callable[..., Sending]
Age = Callable[[int], Awaitable[None]]


@pytest.fixture
async def started() -> AsyncIterator[list[Sending]]:
    """The "processes" of a test; all are closed at the end."""
    made: list[Sending] = []
    yield made
    for one in made:
        await one.close()


@pytest.fixture
def age(owner: Owner, started: list[Sending]) -> Age:
    """Lets so many seconds go by for what was counted. What is reserved and not used is given back first."""

    async def go_by(seconds: int) -> None:
        for one in started:
            await one.close()
        await owner.execute(
            "UPDATE sending_count SET hour_slot = hour_slot - $1, day_slot = day_slot - $2",
            seconds // 300,
            seconds // 3600,
        )

    return go_by


@pytest.fixture
def start(context: Context, started: list[Sending]) -> Start:
    """Starts one "process" with caps."""

    def begin(clock: Callable[[], float] | None = None, **caps: object) -> Sending:
        settings = msgspec.structs.replace(OPEN, **caps)
        arguments = (settings, context.pool, context.changes)
        started.append(Sending(*arguments, clock) if clock else Sending(*arguments))
        return started[-1]

    return begin


async def until(true: Callable[[], Awaitable[bool]], context: Context) -> None:
    async with asyncio.timeout(20):
        while not await true():
            await context.pool.execute("SELECT 1")


async def admitted(sending: Sending, account: Person, count: int, recipients: int = 1) -> int:
    answers = [await sending.admit(account, FROM, recipients) for _ in range(count)]
    return answers.count(None)


async def test_nothing_is_capped_without_caps(start: Start, account: Person) -> None:
    """Zero everywhere admits everything."""
    assert await admitted(start(), account, 500, 100) == 500


@pytest.mark.parametrize(
    ("name", "recipients", "expected", "code"),
    [
        ("account_messages_hour", 3, 10, 450),
        ("account_messages_day", 1, 10, 450),
        ("account_recipients_hour", 3, 3, 452),
        ("account_recipients_day", 5, 2, 452),
        ("domain_messages_hour", 1, 10, 450),
        ("domain_recipients_hour", 3, 3, 452),
        ("domain_messages_day", 1, 10, 450),
        ("domain_recipients_day", 10, 1, 452),
        ("tenant_messages_hour", 1, 10, 450),
        ("tenant_recipients_hour", 1, 10, 452),
        ("tenant_messages_day", 1, 10, 450),
        ("tenant_recipients_day", 3, 3, 452),
    ],
)
async def test_cap(start: Start, account: Person, name: str, recipients: int, expected: int, code: int) -> None:
    """Each cap of 10 admits exactly what fits, and answers 450 4.7.1 for messages, 452 4.7.1 for recipients."""
    sending = start(**{name: 10})
    assert await admitted(sending, account, 20, recipients) == expected
    answer = await sending.admit(account, FROM, recipients)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.enhanced)) == (code, "4.7.1")
    assert "10" in answer.lines[0]


async def test_message_that_can_never_be_sent(start: Start, account: Person) -> None:
    """More recipients than the cap are refused for good: trying again would not help."""
    answer = await start(account_recipients_hour=10).admit(account, FROM, 11)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.enhanced)) == (550, "5.7.1")


async def test_caps_are_exact_over_processes(start: Start, account: Person, context: Context) -> None:
    """Three processes with eight sessions each, all at once: together they admit the cap, and nothing above it."""
    processes = [start(account_messages_hour=100, tenant_recipients_hour=100_000) for _ in range(3)]

    async def session(sending: Sending) -> int:
        return await admitted(sending, account, 10)

    total = sum(await asyncio.gather(*(session(process) for process in processes for _ in range(8))))
    assert total <= 100
    for process in processes:  # what they had reserved and not used is free again for whoever asks
        await process.close()
    rest = start(account_messages_hour=100)
    assert total + await admitted(rest, account, 200) == 100


async def test_accounts_share_the_caps_of_domain_and_tenant(
    start: Start, settings: AllSettings, owner: Owner, account: Person
) -> None:
    """What one account has sent, the others of its domain cannot send any more; another domain still can."""
    bob = await add_person(settings, owner, "bob@example.test")
    sending = start(domain_messages_hour=10)
    assert await admitted(sending, account, 7) == 7
    await sending.close()
    assert await admitted(start(domain_messages_hour=10), bob, 7) == 3
    elsewhere = [await start(domain_messages_hour=10).admit(bob, AddrSpec("bob", "another.test"), 1) for _ in range(5)]
    assert elsewhere == [None] * 5


async def test_unused_room_is_given_back(start: Start, account: Person, owner: Owner) -> None:
    """What a process reserved and did not use does not stay counted once its time is over. One message reserves one."""
    sending = start(account_messages_hour=800)

    async def counted() -> int:
        return (await storage.counts_of(owner, account.login))[0].messages_hour

    for reserved in (1, 3, 3, 7, 7, 7, 7, 15):
        assert await admitted(sending, account, 1) == 1
        assert await counted() == reserved
    await sending.close()
    assert await counted() == 8
    (row, *_) = await storage.counts_of(owner, account.login)
    assert (row.messages_day, row.recipients_hour, row.recipients_day) == (8, 8, 8)


async def test_withdrawn_message_does_not_count(start: Start, account: Person, owner: Owner) -> None:
    """A message that could not be stored is as if it had never been."""
    sending = start()
    assert await admitted(sending, account, 2, 3) == 2
    sending.withdraw(account, FROM, 3)
    await sending.close()
    counted = (await storage.counts_of(owner, account.login))[0]
    assert (counted.messages_hour, counted.recipients_hour) == (1, 3)


async def test_busy_account_asks_seldom(start: Start, account: Person, context: Context) -> None:
    """A thousand messages of an account take fifty questions at most."""
    sending = start(account_messages_hour=1_000_000)
    asked = 0
    reserve = sending._reserve

    async def counting(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        return await reserve(*arguments)  # type: ignore[arg-type]

    sending._reserve = counting  # type: ignore[method-assign, assignment]
    assert await admitted(sending, account, 1000) == 1000
    assert asked <= 50


async def test_hour_and_day_go_by(start: Start, account: Person, age: Age) -> None:
    """An hour later the hour's cap has room again, and the day's has not; a day later both have."""
    caps = {"account_messages_hour": 10, "account_messages_day": 15}
    assert await admitted(start(**caps), account, 20) == 10
    await age(50 * 60)  # of an hour in twelfths, one of which may end right now
    assert await admitted(start(**caps), account, 20) == 0
    await age(15 * 60)
    assert await admitted(start(**caps), account, 20) == 5
    await age(22 * 3600)
    assert await admitted(start(**caps), account, 20) == 0
    await age(3 * 3600)
    assert await admitted(start(**caps), account, 20) == 10


async def test_own_caps_replace_those_of_the_configuration(
    start: Start, settings: AllSettings, owner: Owner, account: Person
) -> None:
    """An account, a domain or a tenant may have more or less than is configured, or no cap at all."""
    bob = await add_person(settings, owner, "bob@example.test")
    await storage.set_caps(owner, account.login, Caps(messages_hour=3))
    assert await admitted(start(account_messages_hour=10), account, 20) == 3
    assert await admitted(start(account_messages_hour=10), bob, 20) == 10
    await storage.set_caps(owner, account.login, Caps(messages_hour=0))
    assert await admitted(start(account_messages_hour=10), account, 50) == 50
    await storage.set_caps(owner, "@example.test", Caps(messages_day=70))
    assert await admitted(start(), account, 20) == 20
    await storage.set_caps(owner, "example", Caps(recipients_day=80))
    assert await admitted(start(), account, 20, 10) == 8
    assert [(row.scope, row.name) for row in await storage.list_caps(owner)] == [
        ("tenant", "example"), ("domain", "@example.test"), ("account", account.login)
    ]  # fmt: skip
    await storage.reset_caps(owner, account.login)
    assert len(await storage.list_caps(owner)) == 2


async def test_burst_is_held_and_suspends(start: Start, account: Person, owner: Owner, context: Context) -> None:
    """Far above its habit an account's mail is taken and held, in all processes, until it is released."""
    sending, other = start(burst_recipients=20), start(burst_recipients=20)
    assert await admitted(sending, account, 15) == 15
    first = await sending.admit(account, FROM, 30)
    assert isinstance(first, Held)
    assert "recipients within an hour" in first.reason
    assert isinstance(await sending.admit(account, FROM, 1), Held)
    assert isinstance(await other.admit(account, FROM, 1), Held)
    (suspension,) = await storage.suspended(owner)
    assert (suspension.login, suspension.suspended_by, suspension.held_messages) == (account.login, storage.BURST, 3)
    assert await storage.resume(owner, account.account_id, leave_seconds=3600)
    assert await admitted(start(burst_recipients=20), account, 50) == 50
    assert await storage.suspended(owner) == []


async def test_habit_is_what_a_burst_is_measured_by(start: Start, account: Person, age: Age) -> None:
    """An account that sends as much every day may send some times more at once; that fades when it stops."""
    caps = {"burst_recipients": 20, "burst_factor": 4.0}
    for _ in range(2):
        assert await admitted(start(**caps), account, 20) == 20
        await age(24 * 3600)
    assert await admitted(start(**caps), account, 70) == 70
    await age(400 * 24 * 3600)
    assert await admitted(start(**caps), account, 21) == 20


async def test_burst_is_no_habit(start: Start, account: Person, owner: Owner, age: Age) -> None:
    """What was held does not make the next day's burst an ordinary one; what was released does."""
    sending = start(burst_recipients=20)
    for _ in range(5):
        assert isinstance(await sending.admit(account, FROM, 50), Held)
    await owner.execute("DELETE FROM sending_suspension")
    await age(24 * 3600)
    assert isinstance(await start(burst_recipients=20).admit(account, FROM, 50), Held)
    await storage.resume(owner, account.account_id, leave_seconds=1)
    await age(24 * 3600)
    await owner.execute("UPDATE sending_count SET leave_until = now() - interval '1 s'")
    assert await start(burst_recipients=20).admit(account, FROM, 50) is None


async def test_held_mail_is_bounded(start: Start, account: Person) -> None:
    """Of a suspended account so many messages are held, then it is told to try again later."""
    sending = start(burst_recipients=10, held_messages=3)
    answers = [await sending.admit(account, FROM, 20) for _ in range(5)]
    assert [type(answer) for answer in answers] == [Held, Held, Held, Reply, Reply]
    assert answers[3].octets.startswith(b"450 4.7.1 ")  # type: ignore[union-attr]


async def test_account_suspended_by_hand_is_refused(
    start: Start, account: Person, owner: Owner, context: Context
) -> None:
    """Nothing of it is taken: 550 5.7.1, at once and in every process, also where room was reserved before."""
    while not context.changes.is_connected:
        await context.pool.execute("SELECT 1")
    sending = start()
    assert await admitted(sending, account, 1) == 1
    await storage.suspend(owner, account.login, "complaints", "operator", is_holding=False)

    async def is_refused() -> bool:
        return await sending.admit(account, FROM, 1) == SUSPENDED

    await until(is_refused, context)
    assert sending.check(account) == SUSPENDED
    assert await storage.resume(owner, account.account_id, leave_seconds=0)

    async def is_admitted() -> bool:
        return await sending.admit(account, FROM, 1) is None

    await until(is_admitted, context)
    assert sending.check(account) is None


async def test_check_knows_what_was_refused(start: Start, account: Person) -> None:
    """After a refusal MAIL and RCPT refuse without a question, for a moment."""
    clock = Clock()
    sending = start(clock, account_messages_hour=2)
    assert sending.check(account) is None
    assert await admitted(sending, account, 3) == 2
    answer = sending.check(account)
    assert answer is not None
    assert answer.code == 450
    clock.now += 10
    assert sending.check(account) is None


async def test_null_reverse_path_counts_for_the_logins_domain(start: Start, account: Person) -> None:
    """A receipt with the null reverse path is somebody's mail all the same."""
    sending = start(domain_messages_hour=2)
    answers = [await sending.admit(account, None, 1) for _ in range(3)]
    assert answers[:2] == [None, None]
    assert isinstance(answers[2], Reply)
