"""An authenticator on accounts in memory, with a clock that only waiting moves."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from config.authentication import Authentication
from daemons.authentication import (
    Authenticator,
    DeniedError,
    Identity,
    Origin,
    hash_password,
)
from protocol import sasl
from storage.rows import AppPassword, Attack, Login

ALICE = Identity(1, 7, "alice@example.test")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
STRANGER = "198.51.100.7"
SALT_SECRET = b"s" * 32
ATTACK = Attack(NOW, None, "imap", "PLAIN", "password", STRANGER, "x", "")


class Accounts:
    """Logins in memory: what the authenticator needs of storage.accounts.Directory and storage.credentials.Credentials."""

    def __init__(self, **passwords: str) -> None:
        self.attacks: list[Attack] = []
        self.used: list[tuple[list[int], list[int]]] = []
        self.rows = {
            f"{name}@example.test": Login(number, 7, f"{name}@example.test", hash_password(password), False)
            for number, (name, password) in enumerate(passwords.items(), 1)
        }

    async def login(self, name: str) -> Login | None:
        return self.rows.get(name.lower())

    async def salt_secret(self) -> bytes:
        return SALT_SECRET

    async def tenant_of(self, domain: str) -> str | None:
        return "example" if domain == "example.test" else None

    async def keep_verifiers(self, accounts: Sequence[int], hashes: Sequence[str], verifiers: Sequence[str]) -> None:
        for account_id, password_hash, verifier in zip(accounts, hashes, verifiers, strict=True):
            for login, row in self.rows.items():
                if (row.account_id, row.password_hash) == (account_id, password_hash):
                    self.rows[login] = replace(row, scram_sha_256=verifier)

    async def touch(self, accounts: Sequence[int], app_passwords: Sequence[int]) -> None:
        self.used.append((list(accounts), list(app_passwords)))

    async def record(self, attacks: Sequence[Attack]) -> None:
        self.attacks += attacks

    def change(self, login: str, password_hash: str, *, is_disabled: bool = False) -> None:
        row = self.rows[login]
        self.rows[login] = Login(row.account_id, row.tenant_id, row.login, password_hash, is_disabled)

    def give(self, login: str, *app_passwords: AppPassword) -> None:
        self.rows[login] = replace(self.rows[login], app_passwords=app_passwords)


class Stage:
    """An authenticator with a clock that only waiting moves."""

    def __init__(self, accounts: Accounts, settings: Authentication | None = None) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self.authenticator = Authenticator(
            accounts,
            accounts,
            settings or Authentication(),
            clock=lambda: self.now,
            now=lambda: NOW,
            wait=self.wait,
        )

    async def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def scram(self, password: str, *, last: bytes | None = None) -> Identity | None:
        """Go through SCRAM-SHA-256 as a client."""
        origin = Origin(STRANGER, "imap")
        exchange = self.authenticator.exchange(b"SCRAM-SHA-256", origin)
        assert exchange is not None
        client = sasl.ScramClient("alice@example.test", password, nonce="rOprNGfwEbeRWgbNEkqO")
        outcome: sasl.Challenge | Identity = sasl.Challenge(b"")
        try:
            while isinstance(outcome, sasl.Challenge):
                response = client.respond(outcome.octets)
                outcome = await exchange.step(last if client.is_verified and last is not None else response)
        except DeniedError:
            assert not client.is_verified
            return None
        assert client.is_verified
        return outcome

    async def announced(self, name: str) -> tuple[bytes, int, int]:
        """Salt, iterations and the number of keys that SCRAM has for a login."""
        found = await self.authenticator.challenge(f"{name}@example.test", Origin(STRANGER, "imap"))
        return found.verifier.salt, found.verifier.iterations, len(found.keys)

    async def verify(
        self, password: str, *, login: str = "alice@example.test", peer: str = STRANGER, is_trusted: bool = False
    ) -> Identity | None:
        return await self.authenticator.verify(login, password, Origin(peer, "imap", is_trusted))
