"""Who may send as what: own addresses, +detail, teams with the right granted; never the catch-all."""

import asyncio

import pytest

from config.settings import Settings
from daemons.context import Context
from storage import accounts, senders, teams
from storage.errors import NotFoundError
from storage.senders import Senders
from tests.conftest import Owner, Person, add_person
from tests.hearing import until_heard


@pytest.fixture
def asked(context: Context) -> Senders:
    """Whom the tests ask."""
    return Senders(context.pool, context.changes)


async def test_own_addresses_aliases_and_details(
    context: Context, asked: Senders, owner: Owner, account: Person
) -> None:
    """An account sends as its address and its aliases, in any case, with any +detail."""
    await accounts.add_address(owner, "info@example.test", account.login)
    for local_part in ("alice", "ALICE", "alice+lists", "info", "info+x+y"):
        assert await asked.may_send(account.account_id, local_part, "Example.TEST"), local_part
    for local_part, domain in (
        ("bob", "example.test"),
        ("alice", "elsewhere.test"),
        ("", "example.test"),
        ("+x", "example.test"),
    ):
        assert not await asked.may_send(account.account_id, local_part, domain), local_part


async def test_catch_all_makes_nobody_a_sender(context: Context, asked: Senders, owner: Owner, account: Person) -> None:
    """Who receives for a whole domain may not send as every address in it."""
    await accounts.add_address(owner, "@example.test", account.login)
    assert not await asked.may_send(account.account_id, "anything", "example.test")
    assert not await asked.may_send(account.account_id, "", "example.test")


async def test_detail_that_is_somebody_elses_address(
    context: Context, asked: Senders, settings: Settings, owner: Owner, account: Person
) -> None:
    """An address belongs to whom its mail goes to: the exact one before the one without its detail."""
    bob = await add_person(settings, owner, "bob@example.test")
    await accounts.add_address(owner, "alice+sales@example.test", bob.login)
    assert not await asked.may_send(account.account_id, "alice+sales", "example.test")
    assert await asked.may_send(bob.account_id, "alice+sales", "example.test")


async def test_team_that_lets_somebody_send(
    context: Context, asked: Senders, settings: Settings, owner: Owner, account: Person
) -> None:
    """A team's addresses are open to whom the right was granted, to nobody else, and not any more when it is withdrawn."""
    bob = await add_person(settings, owner, "bob@example.test")
    await teams.add_team(owner, "example", "sales@example.test", "Sales")
    assert not await asked.may_send(account.account_id, "sales", "example.test")
    await senders.grant(owner, "sales@example.test", account.login)
    await senders.grant(owner, "Sales@example.test", account.login)  # again: no error, and no second row
    fresh = Senders(context.pool, context.changes)
    assert await fresh.may_send(account.account_id, "sales+de", "example.test")
    assert not await fresh.may_send(bob.account_id, "sales", "example.test")
    assert await senders.grants(owner) == [senders.SendAs("sales@example.test", account.login)]
    assert [found.address for found in await senders.addresses_of(owner, account.login)] == [
        account.login,
        "sales@example.test",
    ]
    assert await senders.revoke(owner, "sales@example.test", account.login)
    assert not await senders.revoke(owner, "sales@example.test", account.login)
    assert not await Senders(context.pool, context.changes).may_send(account.account_id, "sales", "example.test")


async def test_anyone_stays_within_the_tenant(
    context: Context, asked: Senders, settings: Settings, owner: Owner, account: Person
) -> None:
    """What is granted to anyone is granted to the tenant's accounts, and to no other tenant's."""
    await accounts.add_tenant(owner, "other", b"\0" * 60)
    await accounts.add_domain(owner, "other", "other.test")
    stranger = await accounts.add_account(owner, "other", "eve@other.test", "!")
    await teams.add_team(owner, "example", "sales@example.test", "Sales")
    await senders.grant(owner, "sales@example.test", senders.ANYONE)
    assert await asked.may_send(account.account_id, "sales", "example.test")
    assert not await asked.may_send(stranger, "sales", "example.test")
    with pytest.raises(NotFoundError):
        await senders.grant(owner, "sales@example.test", "eve@other.test")
    assert await senders.revoke(owner, "sales@example.test", senders.ANYONE)


async def test_answers_are_remembered_until_something_changes(
    context: Context, asked: Senders, owner: Owner, account: Person
) -> None:
    """A second question costs no statement; a change of addresses anywhere makes it be asked again."""
    await until_heard(context)
    assert not await asked.may_send(account.account_id, "info", "example.test")
    await owner.execute("ALTER TABLE address DISABLE TRIGGER directory_changed")
    await accounts.add_address(owner, "info@example.test", account.login)
    assert not await asked.may_send(account.account_id, "info", "example.test")
    await owner.execute("ALTER TABLE address ENABLE TRIGGER directory_changed")
    await accounts.add_address(owner, "more@example.test", account.login)
    async with asyncio.timeout(30):
        while not await asked.may_send(account.account_id, "info", "example.test"):
            await context.pool.execute("SELECT 1")
