"""Changes of simple settings: checked, compiled, one after the other."""

import asyncio

import pytest
from msgspec import structs

from config.notifier import Gateway, Notifier
from config.rules import Rules
from config.settings import Settings
from config.sieve import Sieve
from daemons import rules
from daemons.rules import RulesError
from filters.simple.settings import Forwarding, Rule, Vacation
from filters.simple.settings import Settings as Simple
from storage import settings as stored
from storage.accounts import add_address
from storage.errors import NotFoundError
from storage.pool import Pool
from tests.conftest import Owner, Person, add_person


async def test_settings_and_their_script(pool: Pool, settings: Settings, owner: Owner, account: Person) -> None:
    """What is set is there when it is read again, with its script; what is taken back leaves none."""
    assert await rules.settings_of(pool, account.account_id) == Simple()
    assert await stored.compiled(pool, account.account_id) is None
    wanted = Simple(rules=(Rule(name="Größe", file_into="Größe"),))
    assert await rules.change(owner, settings, account.account_id, lambda _: wanted) == wanted
    assert await rules.settings_of(pool, account.account_id) == wanted
    assert 'fileinto :create "Größe";' in ((await stored.compiled(pool, account.account_id)) or b"").decode()
    await rules.change(owner, settings, account.account_id, lambda _: Simple())
    assert await stored.compiled(pool, account.account_id) is None


async def test_changes_at_the_same_time(pool: Pool, settings: Settings, account: Person) -> None:
    """Of many who add a rule at once none loses his."""

    def add(number: int) -> rules.Edit:
        rule = Rule(name=f"rule {number}", flags=("x",))
        return lambda current: structs.replace(current, rules=(*current.rules, rule))

    async def change(number: int) -> None:
        async with pool.acquire() as connection:
            await rules.change(connection, settings, account.account_id, add(number))

    await asyncio.gather(*(change(number) for number in range(8)))
    found = await rules.settings_of(pool, account.account_id)
    assert {rule.name for rule in found.rules} == {f"rule {number}" for number in range(8)}


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Simple(rules=tuple(Rule(name=str(number), discard=True) for number in range(3))), "rules.rule_limit is 2"),
        (
            Simple(rules=(Rule(name="x", notify=("mailto:a@b.test",) * 11),)),
            "11 notifications: sieve.notifications is 10",
        ),
        (Simple(rules=(Rule(name="", discard=True),)), "length >= 1"),
        (Simple(rules=(Rule(name="x", flags=("x y",)),)), r"rules\[0\].flags"),
        (Simple(forwarding=Forwarding(addresses=("alias@example.test",))), "it would forward to itself"),
        (Simple(vacation=Vacation(text="x" * 30_000)), "length <= 20000"),
        (Simple(time_zone="../../etc/passwd"), "is no time zone"),
        (Simple(spam="junk"), "spamtest"),
    ],
)
async def test_what_is_not_stored(
    settings: Settings, owner: Owner, account: Person, wanted: Simple, reason: str
) -> None:
    """What breaks a limit, or cannot run here, is not stored, and what was there stays."""
    before = Simple(junk_days=3)
    await add_address(owner, "alias@example.test", account.login)
    await rules.change(owner, settings, account.account_id, lambda _: before)
    host = structs.replace(settings, rules=Rules(rule_limit=2), sieve=Sieve(without=["spamtest"]))
    with pytest.raises(RulesError, match=reason):
        await rules.change(owner, host, account.account_id, lambda _: wanted)
    assert await rules.settings_of(owner, account.account_id) == before


async def test_short_messages(settings: Settings, owner: Owner, account: Person) -> None:
    """They are possible where there is a gateway for the number."""
    wanted = Simple(rules=(Rule(name="x", notify=("sms:+49209123456",)),))
    with pytest.raises(RulesError, match="nobody can be notified here by sms:"):
        await rules.change(owner, settings, account.account_id, lambda _: wanted)
    gateway = Gateway(url="https://sms.example.net/", prefixes=["+49"])
    host = structs.replace(settings, notifier=Notifier(gateways=[gateway]))
    assert await rules.change(owner, host, account.account_id, lambda _: wanted) == wanted


async def test_nobodys_settings(settings: Settings, owner: Owner, account: Person) -> None:
    """An account that is not there has none."""
    with pytest.raises(NotFoundError):
        await rules.change(owner, settings, account.account_id + 1, lambda _: Simple())


async def test_recompiling(settings: Settings, owner: Owner, account: Person) -> None:
    """Scripts follow the host's settings; of accounts that do not fit any more they stay as they are, and that is told."""
    wanted = Simple(vacation=Vacation(text="away", starts=None), rules=(Rule(name="x", flags=("x",)),))
    await rules.change(owner, settings, account.account_id, lambda _: wanted)
    before = await stored.compiled(owner, account.account_id)
    host = structs.replace(settings, sieve=Sieve(without=["vacation"]))
    failed = await rules.recompile(owner, host)
    assert list(failed) == [account.login]
    assert "vacation" in failed[account.login]
    assert await stored.compiled(owner, account.account_id) == before
    await owner.execute("UPDATE simple_settings SET sieve = 'keep;'")
    assert await rules.recompile(owner, settings) == {}
    assert await stored.compiled(owner, account.account_id) == before
    changed_at = await owner.fetchval("SELECT changed_at FROM simple_settings")
    assert await rules.recompile(owner, settings) == {}
    assert await owner.fetchval("SELECT changed_at FROM simple_settings") == changed_at


async def test_one_that_cannot_be_read_keeps_nobody_from_recompiling(
    settings: Settings, owner: Owner, account: Person
) -> None:
    """A document of another version is told like any other misfit."""
    bob = await add_person(settings, owner, "bob@example.test")
    wanted = Simple(rules=(Rule(name="x", flags=("x",)),))
    for person in (account, bob):
        await rules.change(owner, settings, person.account_id, lambda _: wanted)
    before = await stored.compiled(owner, bob.account_id)
    await owner.execute("UPDATE simple_settings SET sieve = 'keep;'")
    await owner.execute(
        "UPDATE simple_settings SET document = '{\"rules\": 7}' WHERE account_id = $1", account.account_id
    )
    assert list(await rules.recompile(owner, settings)) == [account.login]
    assert await stored.compiled(owner, bob.account_id) == before
