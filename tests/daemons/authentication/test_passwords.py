"""Passwords: right, wrong and unknown, remembered and slowed."""

import asyncio

import pytest

from config.authentication import Authentication
from config.units import Seconds
from daemons.authentication import (
    hash_password,
    network_of,
)
from tests.daemons.authentication.stage import ALICE, Accounts, Stage


async def test_right_and_wrong() -> None:
    """The right password gives the identity, in any case of the login; a wrong or empty one nothing."""
    stage = Stage(Accounts(alice="secret"))
    assert await stage.verify("secret", login="Alice@EXAMPLE.test") == ALICE
    assert await stage.verify("Secret") is None
    assert await stage.verify("") is None


def test_hashes_are_argon2id_with_salt() -> None:
    """Two hashes of one password differ, and their parameters are the documented ones."""
    first, second = hash_password("secret"), hash_password("secret")
    assert first != second
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_no_hash_of_an_empty_password() -> None:
    """An empty password cannot be set."""
    with pytest.raises(ValueError, match="empty"):
        hash_password("")


async def test_spellings_of_one_password_are_equal() -> None:
    """A password is compared after NFC and with plain spaces, as RFC 8265 asks."""
    stage = Stage(Accounts(alice="pa\u0308ss wort"))
    assert await stage.verify("p\u00e4ss\u00a0wort") == ALICE


@pytest.mark.parametrize("password", ["\ud800", "x" * 5000, "\0"])
async def test_odd_passwords_are_wrong_passwords(password: str) -> None:
    """Lone surrogates, NUL and excessive length are refused like any wrong password."""
    assert await Stage(Accounts(alice="secret")).verify(password) is None


async def test_a_broken_stored_hash_lets_nobody_in() -> None:
    """A stored value that is no argon2 hash matches no password."""
    accounts = Accounts(alice="secret")
    accounts.change("alice@example.test", "secret")
    assert await Stage(accounts).verify("secret") is None


async def test_unknown_logins_cost_one_hash_too(hashes: list[str]) -> None:
    """An unknown login, a too long password and a disabled account each compute exactly one hash of the same cost."""
    accounts = Accounts(alice="secret", bob="secret")
    accounts.change("bob@example.test", accounts.rows["bob@example.test"].password_hash, is_disabled=True)
    stage = Stage(accounts)
    assert await stage.verify("secret", login="nobody@example.test") is None
    assert await stage.verify("x" * 5000) is None
    assert await stage.verify("secret", login="bob@example.test") is None
    assert [value.rpartition("$")[0].rpartition("$")[0] for value in hashes] == ["$argon2id$v=19$m=19456,t=2,p=1"] * 3


async def test_a_verified_password_is_remembered_for_its_lifetime(hashes: list[str]) -> None:
    """Within the lifetime a second login computes nothing; after it, or with another password, it does."""
    stage = Stage(Accounts(alice="secret"), Authentication(cache_lifetime=Seconds(60)))
    assert await stage.verify("secret") == ALICE
    stage.now += 59
    assert await stage.verify("secret") == ALICE
    assert len(hashes) == 1
    assert await stage.verify("other", is_trusted=True) is None
    assert len(hashes) == 2
    stage.now += 1
    assert await stage.verify("secret", is_trusted=True) == ALICE
    assert len(hashes) == 3


async def test_a_changed_password_ends_what_is_remembered() -> None:
    """The old password stops working at once, though it was verified a moment ago; so does a disabled account."""
    accounts = Accounts(alice="old")
    stage = Stage(accounts)
    assert await stage.verify("old") == ALICE
    changed = hash_password("new")
    accounts.change("alice@example.test", changed)
    assert await stage.verify("old", is_trusted=True) is None
    assert await stage.verify("new", is_trusted=True) == ALICE
    accounts.change("alice@example.test", changed, is_disabled=True)
    assert await stage.verify("new", is_trusted=True) is None


async def test_the_cache_is_bounded(hashes: list[str]) -> None:
    """The oldest remembered password makes room for the newest."""
    stage = Stage(Accounts(alice="a", bob="b"), Authentication(cache_entries=1))
    for _ in range(2):
        assert await stage.verify("a") == ALICE
        assert await stage.verify("b", login="bob@example.test") is not None
    assert len(hashes) == 4


async def test_simultaneous_logins_compute_once(hashes: list[str]) -> None:
    """A client that opens many connections at once costs one hash."""
    stage = Stage(Accounts(alice="secret"))
    assert await asyncio.gather(*(stage.verify("secret") for _ in range(10))) == [ALICE] * 10
    assert len(hashes) == 1


async def test_failures_slow_the_account_and_the_network() -> None:
    """Each failure doubles the wait of the next attempt from that network or on that account, up to the limit."""
    stage = Stage(Accounts(alice="secret", bob="secret"), Authentication(failure_delay_limit=Seconds(4)))
    for _ in range(5):
        assert await stage.verify("wrong", login="bob@example.test") is None
    assert stage.waits == [1, 2, 4, 4]  # for network and account at the same time
    stage.waits.clear()
    assert await stage.verify("secret") == ALICE
    assert stage.waits == [4]  # another account, the same network
    stage.waits.clear()
    assert await stage.verify("wrong", login="bob@example.test", peer="203.0.113.9") is None
    assert stage.waits == [4]  # the same account, another network


async def test_trusted_networks_never_wait() -> None:
    """Failures of a trusted peer are answered at once."""
    stage = Stage(Accounts(alice="secret"))
    for _ in range(5):
        assert await stage.verify("wrong", is_trusted=True) is None
    assert stage.waits == []


async def test_a_remembered_owner_does_not_wait_for_guessers() -> None:
    """Guessing from elsewhere does not delay the client whose password was verified lately."""
    stage = Stage(Accounts(alice="secret"))
    assert await stage.verify("secret", peer="192.0.2.1") == ALICE
    for _ in range(3):
        assert await stage.verify("wrong") is None
    stage.waits.clear()
    assert await stage.verify("secret", peer="192.0.2.1") == ALICE
    assert stage.waits == []


async def test_failures_are_forgotten() -> None:
    """A success forgives the account, time forgives the network."""
    stage = Stage(Accounts(alice="secret"), Authentication(failure_memory=Seconds(900)))
    assert await stage.verify("wrong") is None
    assert await stage.verify("secret") == ALICE
    stage.waits.clear()
    assert await stage.verify("wrong", peer="203.0.113.9") is None
    assert stage.waits == []
    stage.now += 900
    assert await stage.verify("wrong") is None
    assert stage.waits == []


async def test_a_login_cannot_be_mistaken_for_a_network() -> None:
    """Failing with somebody's address as login name does not slow that address."""
    stage = Stage(Accounts(alice="secret"))
    assert await stage.verify("wrong", login="203.0.113.9") is None
    assert await stage.verify("secret", peer="203.0.113.9") == ALICE
    assert stage.waits == []


async def test_remembered_failures_are_bounded() -> None:
    """Thousands of invented logins do not grow memory beyond the limit."""
    stage = Stage(Accounts(), Authentication(failure_entries=10))
    failures = stage.authenticator.failures
    for number in range(1000):
        failures.add(f"account {number}", f"network {number}")
    assert len(failures._counts) == 10


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_network_of(peer: str, network: str) -> None:
    """IPv4 counts per address, however written; IPv6 per /64."""
    assert network_of(peer) == network
