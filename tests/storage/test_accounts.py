"""Identities: what resolves, what is refused, and that caches hear of changes."""

import asyncio

import pytest

from daemons.context import Context
from storage import accounts
from storage.errors import ExistsError, NotFoundError
from tests.conftest import Owner, Person, add_person


async def test_resolving(context: Context, account: Person, owner: Owner) -> None:
    """Addresses resolve without regard to case, with +detail, by alias and by catch-all; unknown ones do not."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    await accounts.add_address(owner, "sales@example.test", "bob@example.test")
    resolve = context.directory.resolve
    for local_part in ("alice", "ALICE", "alice+news", "Alice+a+b"):
        found = await resolve(local_part, "Example.TEST")
        assert found is not None
        assert found.account_id == account.account_id
    sales = await resolve("sales", "example.test")
    assert sales is not None
    assert sales.account_id == bob.account_id
    assert await resolve("nobody", "example.test") is None
    assert await resolve("alice", "elsewhere.test") is None
    await accounts.add_address(owner, "@example.test", "bob@example.test")
    async with asyncio.timeout(30):
        while (caught := await resolve("nobody", "example.test")) is None:
            await asyncio.sleep(0)
    assert caught.account_id == bob.account_id


async def test_a_changed_password_is_seen_at_once(context: Context, account: Person, owner: Owner) -> None:
    """The cache of logins is dropped when an account changes in another process."""
    assert await context.directory.login("ALICE@example.test") is not None
    await accounts.set_password(owner, account.login, "new hash")
    async with asyncio.timeout(30):
        while (login := await context.directory.login(account.login)) is None or login.password_hash != "new hash":
            await asyncio.sleep(0)
    await accounts.remove_account(owner, account.login)
    async with asyncio.timeout(30):
        while await context.directory.login(account.login) is not None:
            await asyncio.sleep(0)


async def test_what_cannot_be_added_or_removed(account: Person, owner: Owner) -> None:
    """Doubles, missing owners and tenants in use are refused with our errors."""
    with pytest.raises(ExistsError):
        await accounts.add_domain(owner, "example", "EXAMPLE.test")
    with pytest.raises(ExistsError):
        await accounts.add_account(owner, "example", account.login, "x")
    with pytest.raises(NotFoundError):
        await accounts.add_account(owner, "example", "x@elsewhere.test", "x")
    with pytest.raises(NotFoundError):
        await accounts.add_address(owner, "x@example.test", "nobody@example.test")
    with pytest.raises(ExistsError):
        await accounts.remove_tenant(owner, "example")
    with pytest.raises(NotFoundError):
        await accounts.remove_domain(owner, "elsewhere.test")


async def test_an_address_stays_within_its_tenant(account: Person, owner: Owner) -> None:
    """An account cannot take an address of another tenant's domain."""
    await accounts.add_tenant(owner, "other", b"key")
    await accounts.add_domain(owner, "other", "other.test")
    with pytest.raises(NotFoundError):
        await accounts.add_address(owner, "alice@other.test", account.login)
    with pytest.raises(NotFoundError):
        await accounts.add_account(owner, "other", "carol@example.test", "x")


async def test_lists(account: Person, owner: Owner) -> None:
    """Lists name what exists."""
    assert [row.name for row in await accounts.list_tenants(owner)] == ["example"]
    assert [(row.name, row.tenant, row.addresses) for row in await accounts.list_domains(owner)] == [
        ("example.test", "example", 1)
    ]
    assert [(row.login, row.message_count) for row in await accounts.list_accounts(owner)] == [(account.login, 0)]
    assert [row.address for row in await accounts.list_addresses(owner)] == [account.login]
