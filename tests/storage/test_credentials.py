"""App passwords, verifiers and attack events in the database."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import asyncpg
import pytest

from storage import accounts, credentials
from storage.accounts import Directory
from storage.credentials import Credentials
from storage.errors import ExistsError, NotFoundError
from storage.notifications import ChangeHub
from storage.pool import Pool
from storage.rows import AppPassword, Attack
from tests.conftest import Owner, Person

NOW = datetime.now(UTC).replace(microsecond=0)


async def added(owner: Owner, account: Person, label: str, digest: bytes, **options: object) -> int:
    """One app password, for IMAP unless options say otherwise."""
    known: dict[str, object] = {"scopes": ["imap"], "networks": [], "expires_at": None, "limit": 30}
    return await credentials.add_app_password(
        owner,
        account.account_id,
        label,
        digest,
        b"k" * 64,
        **known | options,  # type: ignore[arg-type]
    )


async def test_a_login_with_its_app_passwords(pool: Pool, database: str, owner: Owner, account: Person) -> None:
    """A login comes with its tenant, its verifier and all app passwords of the account, and of no other."""
    bob = await add_person_like(owner, account)
    first = await added(
        owner, account, "phone", b"1", scopes=["imap", "smtp"], networks=["192.0.2.0/24", "2001:db8::/32"]
    )
    second = await added(owner, account, "printer", b"2", scopes=["smtp"], expires_at=NOW)
    await added(owner, bob, "phone", b"3")
    await accounts.set_password(owner, account.login, "hash", scram="verifier")
    found = await Directory(pool, ChangeHub(database, None)).login(account.login)
    assert found is not None
    assert (found.tenant, found.password_hash, found.scram_sha_256) == ("example", "hash", "verifier")
    networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert found.app_passwords == (
        AppPassword(first, b"1", b"k" * 64, frozenset({"imap", "smtp"}), networks, None),
        AppPassword(second, b"2", b"k" * 64, frozenset({"smtp"}), (), NOW),
    )


async def add_person_like(owner: Owner, account: Person) -> Person:
    """Bob, of the same tenant."""
    identity = await accounts.add_account(owner, "example", "bob@example.test", "x")
    return Person(account.tenant_id, identity, "bob@example.test", "")


async def test_app_passwords_are_listed_and_removed(owner: Owner, account: Person) -> None:
    """A label is taken once per account; what is removed is gone; the limit holds."""
    await added(owner, account, "phone", b"1", limit=2)
    with pytest.raises(ExistsError, match="label"):
        await added(owner, account, "phone", b"2", limit=2)
    await added(owner, account, "tablet", b"3", limit=2)
    with pytest.raises(ExistsError, match="2 app passwords"):
        await added(owner, account, "printer", b"4", limit=2)
    assert [row.label for row in await credentials.list_app_passwords(owner)] == ["phone", "tablet"]
    assert await credentials.list_app_passwords(owner, "bob@example.test") == []
    await credentials.remove_app_password(owner, account.login, "phone")
    with pytest.raises(NotFoundError):
        await credentials.remove_app_password(owner, account.login, "phone")
    with pytest.raises(NotFoundError):
        await added(owner, Person(1, 0, "", ""), "phone", b"5")
    await accounts.remove_account(owner, account.login)
    assert await credentials.list_app_passwords(owner) == []


async def test_last_uses(pool: Pool, owner: Owner, account: Person) -> None:
    """A login is noted with the account and the app password; a fetch with the account; not again at once."""
    identity = await added(owner, account, "phone", b"1")
    known = Credentials(pool)
    await known.touch([account.account_id], [identity])
    await credentials.note_fetch(owner, account.account_id)
    query = "SELECT a.last_login_at, a.last_fetch_at, p.last_used_at FROM account AS a JOIN app_password AS p USING (account_id)"
    first = await owner.fetchrow(query)
    assert first is not None
    assert all(first)
    await known.touch([account.account_id], [identity])
    await credentials.note_fetch(owner, account.account_id)
    assert await owner.fetchrow(query) == first
    await owner.execute("UPDATE account SET last_login_at = now() - interval '2 hours'")
    await known.touch([account.account_id], [])
    assert await owner.fetchval("SELECT last_login_at > now() - interval '1 minute' FROM account")


async def test_verifiers_are_kept_with_their_hash(pool: Pool, owner: Owner, account: Person) -> None:
    """A verifier is stored only beside the hash of the password that it was made of."""
    await owner.execute("UPDATE account SET password_hash = 'new'")
    known = Credentials(pool)
    await known.keep_verifiers([account.account_id], ["old"], ["verifier"])
    assert await owner.fetchval("SELECT scram_sha_256 FROM account") is None
    await known.keep_verifiers([account.account_id], ["new"], ["verifier"])
    assert await owner.fetchval("SELECT scram_sha_256 FROM account") == "verifier"


async def test_a_new_password_ends_the_verifier(owner: Owner, account: Person) -> None:
    """A password that is set without a verifier leaves none of the old one."""
    await accounts.set_password(owner, account.login, "hash", scram="verifier")
    await accounts.set_password(owner, account.login, "hash")
    assert await owner.fetchval("SELECT scram_sha_256 FROM account") is None


async def test_the_salt_secret_is_one(pool: Pool, owner: Owner) -> None:
    """There is one secret, which daemons can read and not change."""
    secret = await Credentials(pool).salt_secret()
    assert len(secret) == 32
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute("UPDATE salt_secret SET secret = ''")
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.execute("INSERT INTO salt_secret (secret) VALUES ('')")


async def test_attacks_are_kept_for_their_time(pool: Pool, owner: Owner, account: Person) -> None:
    """Attack events are listed newest first, by tenant, and forgotten when they are old, a batch at a time."""
    known = Credentials(pool)
    attack = Attack(NOW, account.tenant_id, "imap", "PLAIN", "password", "192.0.2.1", account.login, "client")
    old = [
        Attack(NOW - timedelta(days=8, seconds=number), None, "pop3", "LOGIN", "password", "192.0.2.2", "x", "")
        for number in range(3)
    ]
    await known.record([*old, attack])
    week = 7 * 86400
    listed = await credentials.list_attacks(owner, None, 10, younger_than_seconds=week)
    assert [(row.tenant, row.login, row.peer) for row in listed] == [("example", account.login, "192.0.2.1")]
    everything = await credentials.list_attacks(owner, None, 10, younger_than_seconds=week * 2)
    assert [row.service for row in everything] == ["imap", "pop3", "pop3", "pop3"]
    assert await credentials.list_attacks(owner, "other", 10, younger_than_seconds=week) == []
    async with pool.acquire() as daemon:
        assert [await credentials.forget_attacks(daemon, 2, older_than_seconds=week) for _ in range(3)] == [2, 1, 0]
    assert await owner.fetchval("SELECT count(*) FROM attack_event") == 1


async def test_tenants_by_domain(pool: Pool, account: Person) -> None:
    """The tenant of a domain is known by name; of others none."""
    known = Credentials(pool)
    assert await known.tenant_of("example.test") == "example"
    assert await known.tenant_of("elsewhere.test") is None
