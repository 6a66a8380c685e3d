"""Passwords: hashed with argon2id, verified off the event loop, remembered briefly, guessed slowly.

An unknown login costs the same work and time as a wrong password, so neither text nor timing tells whether it exists.
Nothing here logs a login, a password or an address.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from config.authentication import Authentication
from storage.rows import Login

# OWASP's second choice for argon2id: 21 ms and 19 MiB a verification; the library's default takes 102 ms and 64 MiB.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16)
# Nobody's password: what an unknown login is verified against, with the same parameters and so the same cost.
_NOBODY = _HASHER.hash(secrets.token_hex(16))
_LOGIN_LIMIT = 254  # characters of a login that failures are counted by: the longest address (RFC 5321 §4.5.3.1.3)


class Logins(Protocol):
    """Where logins come from: storage.accounts.Directory."""

    async def login(self, name: str) -> Login | None: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has logged in."""

    account_id: int
    tenant_id: int
    login: str


class Authenticator:
    """Judges logins. One per process: the cache, the failures and the bound on concurrent hashing live in it."""

    def __init__(
        self,
        directory: Logins,
        settings: Authentication,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._wait = wait
        self._free = asyncio.Semaphore(settings.concurrent_verifications)
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, float] = OrderedDict()  # MAC of a right password -> when it expires
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._failures = Failures(settings, clock)

    async def verify(self, login: str, password: str, *, peer: str, is_trusted: bool) -> Identity | None:
        """The identity when login exists, is enabled and has this password, else None.

        login is an address in any case; peer is the client's IP address. Waits first when the account or the peer's
        network has failed lately, unless is_trusted or the very password was verified a moment ago. Raises
        StorageError when accounts cannot be read.
        """
        name = login.casefold()
        account, network = f"account {name[:_LOGIN_LIMIT]}", f"network {network_of(peer)}"
        if not is_trusted:
            await self._pause(self._failures.delay(network))
        row = await self._directory.login(name)
        secret = _prepared(password)
        proof = self._proof(name, row, secret)
        if self._remembers(proof):
            is_right = True
        else:
            if not is_trusted:  # the owner, whose password is remembered, does not wait for those who guess it
                await self._pause(self._failures.delay(account))
            is_right = await self._check(proof, row, secret)
        if not is_right or row is None or row.is_disabled:
            self._failures.add(account, network)
            return None
        self._remember(proof)
        self._failures.forget(account)
        return Identity(row.account_id, row.tenant_id, row.login)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self._wait(seconds)

    def _proof(self, name: str, row: Login | None, secret: bytes) -> bytes:
        """A MAC over login, stored hash and password: a new hash makes every older proof worthless."""
        stored = "" if row is None else row.password_hash
        fields = (name.encode(errors="surrogatepass"), stored.encode(), secret)
        message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
        return hmac.digest(self._key, message, hashlib.sha256)

    def _remembers(self, proof: bytes) -> bool:
        expires_at = self._verified.get(proof)
        return expires_at is not None and self._clock() < expires_at

    def _remember(self, proof: bytes) -> None:
        if proof in self._verified and self._remembers(proof):
            return  # the lifetime counts from the verification, not from the last use
        self._verified[proof] = self._clock() + self._settings.cache_lifetime
        self._verified.move_to_end(proof)
        while len(self._verified) > self._settings.cache_entries:
            self._verified.popitem(last=False)

    async def _check(self, proof: bytes, row: Login | None, secret: bytes) -> bool:
        """Verify off the loop; the same attempt on several connections at once is computed once."""
        task = self._running.get(proof)
        if task is None:
            task = asyncio.create_task(self._hash(row, secret))
            self._running[proof] = task
            task.add_done_callback(lambda _: self._running.pop(proof, None))
        return await asyncio.shield(task)

    async def _hash(self, row: Login | None, secret: bytes) -> bool:
        is_usable = row is not None and 0 < len(secret) <= self._settings.password_limit
        async with self._free:
            if row is None or not is_usable:
                await asyncio.to_thread(_matches, _NOBODY, b"")
                return False
            return await asyncio.to_thread(_matches, row.password_hash, secret)


class Failures:
    """Recent failed attempts per account and per network, bounded in number and time."""

    def __init__(self, settings: Authentication, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()  # subject -> failures, time of the last

    def delay(self, subject: str) -> float:
        """Seconds the next attempt of this account or network has to wait."""
        count = self._count(subject)
        if not count:
            return 0.0
        return min(self._settings.failure_delay * 2.0 ** min(count - 1, 30), self._settings.failure_delay_limit)

    def add(self, *subjects: str) -> None:
        """Count one failure for each."""
        for subject in subjects:
            self._counts[subject] = (self._count(subject) + 1, self._clock())
            self._counts.move_to_end(subject)
        while len(self._counts) > self._settings.failure_entries:
            self._counts.popitem(last=False)

    def forget(self, subject: str) -> None:
        """Forgive an account that has logged in; its network keeps its record, or one good login would hide a scan."""
        self._counts.pop(subject, None)

    def _count(self, subject: str) -> int:
        count, last = self._counts.get(subject, (0, 0.0))
        return count if self._clock() - last < self._settings.failure_memory else 0


def network_of(peer: str) -> str:
    """The unit that is slowed: one IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer  # a Unix socket or nothing: all such peers are one
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


def hash_password(password: str) -> str:
    """The argon2id hash to store, in PHC string format. Takes 20 ms of CPU. Raises ValueError for an empty password."""
    secret = _prepared(password)
    if not secret:
        raise ValueError("the password is empty")
    return _HASHER.hash(secret)


def _prepared(password: str) -> bytes:
    """RFC 8265 §4.2.2: other spaces become SPACE, then NFC, so that all spellings of one password are equal."""
    if password.isascii():
        return password.encode()
    mapped = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    return unicodedata.normalize("NFC", mapped).encode(errors="surrogatepass")


def _matches(password_hash: str, secret: bytes) -> bool:
    try:
        return _HASHER.verify(password_hash, secret)
    except (Argon2Error, InvalidHashError):  # a mismatch, or a stored value that is no argon2 hash: never a way in
        return False
