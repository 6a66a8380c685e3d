"""App passwords, SCRAM, guessing at the same time, and what is recorded and offered."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_network

import pytest

from config.authentication import Authentication
from daemons.authentication import (
    Credential,
    Origin,
    hash_password,
    passwords,
)
from protocol import sasl
from storage.errors import UnavailableError
from storage.rows import AppPassword, Attack, Login
from tests.daemons.authentication.stage import ALICE, ATTACK, NOW, SALT_SECRET, STRANGER, Accounts, Stage

# -- app passwords ------------------------------------------------------------------------------------------------------


def app_password(
    password: str,
    *scopes: str,
    networks: Sequence[str] = (),
    expires_at: datetime | None = None,
    login: str = "alice@example.test",
) -> AppPassword:
    """As `postwerk app-password add` stores it."""
    keys = bytes(passwords.verifier_of(password, SALT_SECRET, login).keys)
    digest = passwords.app_password_digest(password)
    allowed = tuple(ip_network(network) for network in networks)
    return AppPassword(11, digest, keys, frozenset(scopes or ("imap",)), allowed, expires_at)


async def test_app_passwords(hashes: list[str]) -> None:
    """An app password logs in without a slow hash, typed in any form; the identity says what it was; its use is noted."""
    accounts = Accounts(alice="secret")
    given = passwords.new_app_password()
    accounts.give("alice@example.test", app_password(given), app_password(passwords.new_app_password()))
    stage = Stage(accounts)
    for typed in (given, given.upper(), " ".join(given[at : at + 4] for at in range(0, 32, 4))):
        identity = await stage.verify(typed)
        assert identity == replace(ALICE, credential=Credential.APP_PASSWORD, app_password_id=11)
    assert hashes == []
    await stage.authenticator.close()
    assert ([1], [11]) in accounts.used
    assert await stage.verify("secret") == ALICE


@pytest.mark.parametrize(
    ("kept", "works"),
    [
        (app_password("x", "imap"), True),
        (app_password("x", "smtp", "imap"), True),
        (app_password("x", "smtp", "pop3", "sieve"), False),
        (app_password("x", networks=["198.51.100.0/24", "2001:db8::/32"]), True),
        (app_password("x", networks=["203.0.113.0/24"]), False),
        (app_password("x", networks=["2001:db8::/32"]), False),
        (app_password("x", expires_at=NOW + timedelta(seconds=1)), True),
        (app_password("x", expires_at=NOW), False),
    ],
)
async def test_what_app_passwords_are_for(kept: AppPassword, works: bool) -> None:
    """Scope, network and expiry are looked at, for the password itself and for a SCRAM proof of it."""
    accounts = Accounts(alice="secret")
    accounts.give("alice@example.test", kept)
    stage = Stage(accounts)
    assert (await stage.verify("x") is not None) == works
    assert (await stage.scram("x") is not None) == works
    assert not works or (await stage.verify("x", peer="::ffff:198.51.100.9")) is not None


async def test_app_passwords_of_a_disabled_account() -> None:
    """A disabled account takes none of its passwords."""
    accounts = Accounts(alice="secret")
    accounts.give("alice@example.test", app_password("x"))
    accounts.rows["alice@example.test"] = replace(accounts.rows["alice@example.test"], is_disabled=True)
    stage = Stage(accounts)
    assert await stage.verify("x") is None
    assert await stage.scram("x") is None


async def test_a_refused_app_password_costs_as_much_as_a_wrong_password(hashes: list[str]) -> None:
    """Whoever finds an app password of another scope cannot tell it from one that does not exist."""
    accounts = Accounts(alice="secret")
    accounts.give("alice@example.test", app_password("x", "smtp"))
    assert await Stage(accounts).verify("x") is None
    assert len(hashes) == 1


def test_app_passwords_are_random() -> None:
    """An app password has 160 bits, in characters that nobody confuses."""
    made = {passwords.new_app_password() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[a-z2-7]{32}", password) for password in made)


# -- SCRAM --------------------------------------------------------------------------------------------------------------


async def test_the_first_password_login_makes_a_verifier() -> None:
    """An account with only a hash gets its verifier when its password was right, and from then on SCRAM works."""
    accounts = Accounts(alice="secret")
    stage = Stage(accounts)
    assert await stage.scram("secret") is None
    assert await stage.verify("wrong", is_trusted=True) is None
    await stage.authenticator.ledger.settle()
    assert accounts.rows["alice@example.test"].scram_sha_256 is None
    assert await stage.verify("secret") == ALICE
    await stage.authenticator.ledger.settle()
    assert await stage.scram("secret") == ALICE
    assert await stage.scram("wrong") is None


async def test_no_verifier_when_scram_is_off() -> None:
    """Without SCRAM in the configuration no verifier is made and no mechanism of it is offered."""
    accounts = Accounts(alice="secret")
    stage = Stage(accounts, Authentication(scram=False))
    assert await stage.verify("secret") == ALICE
    await stage.authenticator.close()
    assert accounts.rows["alice@example.test"].scram_sha_256 is None
    assert stage.authenticator.mechanisms(Origin(STRANGER, "imap", bindings={"tls-exporter": b""})) == (
        b"PLAIN",
        b"LOGIN",
    )


async def test_a_changed_password_ends_the_verifier() -> None:
    """A verifier that is computed while the password is changed is not stored with the new hash."""
    accounts = Accounts(alice="old")
    stage = Stage(accounts)
    assert await stage.verify("old") == ALICE
    accounts.change("alice@example.test", hash_password("new"))
    await stage.authenticator.ledger.settle()
    assert accounts.rows["alice@example.test"].scram_sha_256 is None


async def test_scram_does_not_tell_who_exists() -> None:
    """Salt, iterations and the keys that are tried are of one form for every login, and the same after a restart."""
    accounts = Accounts(alice="secret", bob="secret", carol="secret")
    before = {name: await Stage(accounts).announced(name) for name in ("alice", "nobody")}
    first = Stage(accounts)
    for name in ("alice", "bob", "carol"):
        assert await first.verify("secret", login=f"{name}@example.test") is not None
    await first.authenticator.ledger.settle()
    accounts.give("bob@example.test", app_password("x"))
    accounts.rows["carol@example.test"] = replace(accounts.rows["carol@example.test"], is_disabled=True)
    announced = {name: await Stage(accounts).announced(name) for name in ("alice", "bob", "carol", "nobody", "NoBody")}
    assert {(count, iterations, len(salt)) for salt, iterations, count in announced.values()} == {(31, 15_000, 16)}
    assert announced["alice"] == before["alice"]  # before and after it got its verifier
    assert announced["nobody"] == before["nobody"] == announced["NoBody"]
    assert len({salt for salt, _, _ in announced.values()}) == 4


async def test_failed_proofs_are_slowed_and_recorded() -> None:
    """A wrong proof counts like a wrong password, for the account and for the network."""
    accounts = Accounts(alice="secret")
    stage = Stage(accounts)
    for _ in range(3):
        assert await stage.scram("wrong") is None
    assert stage.waits == [1, 2]
    await stage.authenticator.close()
    assert [(attack.mechanism, attack.reason) for attack in accounts.attacks] == [("SCRAM-SHA-256", "proof")] * 3


# -- guessing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["password", "proof"])
async def test_guesses_at_the_same_time_wait_for_each_other(mechanism: str) -> None:
    """Twenty connections that guess at once get through no faster than one after the other."""
    stage = Stage(Accounts(alice="secret"), Authentication(concurrent_verifications=1))
    guess = stage.verify if mechanism == "password" else stage.scram
    assert await asyncio.gather(*(guess(f"guess {number}") for number in range(20))) == [None] * 20
    assert stage.now >= 1000 + 1 + 2 + 4 + 8 + 16  # what five failures in a row cost


async def test_what_is_computed_for_anybody(hashes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown login, a wrong password, a disabled account and an unusable app password ask and compute the same."""
    accounts = Accounts(alice="secret", bob="secret", carol="secret")
    accounts.give("carol@example.test", app_password("wrong", "smtp", login="carol@example.test"))
    accounts.rows["bob@example.test"] = replace(accounts.rows["bob@example.test"], is_disabled=True)
    asked: list[str] = []
    login = accounts.login
    digests = 0
    digest = passwords.app_password_digest

    async def watched(name: str) -> Login | None:
        asked.append(name)
        return await login(name)

    def counted(password: str) -> bytes:
        nonlocal digests
        digests += 1
        return digest(password)

    monkeypatch.setattr(accounts, "login", watched)
    monkeypatch.setattr(passwords, "app_password_digest", counted)
    work = []
    for name, password in (("alice", "wrong"), ("nobody", "wrong"), ("bob", "secret"), ("carol", "wrong")):
        asked.clear()
        hashes.clear()
        digests = 0
        stage = Stage(accounts)
        assert await stage.verify(password, login=f"{name}@example.test") is None
        parameters = [value.rpartition("$")[0].rpartition("$")[0] for value in hashes]
        work.append((len(asked), digests, parameters, stage.waits))
    assert work == [(1, 1, ["$argon2id$v=19$m=19456,t=2,p=1"], [])] * 4


async def test_attacks_are_recorded_with_what_identifies() -> None:
    """A failed login is recorded with address, login, service and client; a good one is not, and a control character never."""
    accounts = Accounts(alice="secret")
    stage = Stage(accounts)
    assert await stage.verify("secret") == ALICE
    origin = Origin(STRANGER, "imap", client="Thun\0derbird" + "x" * 1000)
    assert await stage.authenticator.verify("Alice@Example.Test", "wrong", origin) is None
    assert await stage.authenticator.verify("no\ud800body" + "y" * 1000, "wrong", origin) is None
    await stage.authenticator.close()
    known, unknown = accounts.attacks
    assert known == Attack(
        NOW, 7, "imap", "LOGIN", "password", STRANGER, "alice@example.test", "Thun\ufffdderbird" + "x" * 488
    )
    assert unknown.tenant_id is None
    assert unknown.login == "no\ufffdbody" + "y" * 247


async def test_the_record_of_attacks_is_bounded() -> None:
    """While the database does not keep up, only so many attacks wait."""
    accounts = Accounts()
    stage = Stage(accounts, Authentication(attack_backlog=3))
    for number in range(10):
        stage.authenticator.ledger.attack(replace(ATTACK, login=str(number)))
    await stage.authenticator.close()
    assert [attack.login for attack in accounts.attacks] == ["0", "1", "2"]


async def test_an_absent_database_loses_records_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written down is lost; logins go on, and later ones are recorded again."""
    accounts = Accounts(alice="secret")
    stage = Stage(accounts)

    async def away(attacks: Sequence[Attack]) -> None:
        raise UnavailableError("no database")

    with monkeypatch.context() as patch:
        patch.setattr(accounts, "record", away)
        assert await stage.verify("wrong") is None
        await stage.authenticator.ledger.settle()
    assert await stage.verify("secret") == ALICE
    assert await stage.verify("wrong") is None
    await stage.authenticator.close()
    assert len(accounts.attacks) == 1


# -- what is offered ----------------------------------------------------------------------------------------------------


def test_what_is_offered_where() -> None:
    """Nothing without TLS; -PLUS where the channel can be bound; tokens where somebody issues them."""
    authenticator = Stage(Accounts()).authenticator
    assert authenticator.mechanisms(Origin(STRANGER, "imap", is_protected=False)) == ()
    assert authenticator.mechanisms(Origin(STRANGER, "imap")) == (b"SCRAM-SHA-256", b"PLAIN", b"LOGIN")
    bound = Origin(STRANGER, "imap", bindings={"tls-exporter": b"x"})
    assert authenticator.mechanisms(bound)[0] == b"SCRAM-SHA-256-PLUS"
    assert authenticator.exchange(b"OAUTHBEARER", bound) is None
    assert authenticator.exchange(b"plain", bound) is not None
    assert authenticator.exchange(b"PLAIN", Origin(STRANGER, "imap", is_protected=False)) is None


async def test_an_exchange_is_over_when_it_is_over() -> None:
    """After the server's proof only an empty response is taken."""
    accounts = Accounts(alice="secret")
    stage = Stage(accounts)
    assert await stage.verify("secret") == ALICE
    await stage.authenticator.ledger.settle()
    with pytest.raises(sasl.SaslError):
        await stage.scram("secret", last=b"and more")
