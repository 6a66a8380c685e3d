"""What logins leave behind: attack events, last uses, verifiers. Written after the answer, many rows at a time.

The peer never waits for it, so an answer's time does not tell what was written. What cannot be written, because the
database is away or too much is waiting, is lost, counted and logged without saying whose it was.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from prometheus_client import Counter

from daemons.logs import logger
from storage.errors import StorageError
from storage.rows import Attack

_log = logger("authentication")
_USE_SECONDS = 60.0
_LOST = Counter("postwerk_attack_events_lost", "Attack events that could not be recorded.")


class Records(Protocol):
    """Where it goes, and what comes from there: storage.credentials.Credentials."""

    async def salt_secret(self) -> bytes: ...

    async def tenant_of(self, domain: str) -> str | None: ...

    async def keep_verifiers(
        self, accounts: Sequence[int], hashes: Sequence[str], verifiers: Sequence[str]
    ) -> None: ...

    async def touch(self, accounts: Sequence[int], app_passwords: Sequence[int]) -> None: ...

    async def record(self, attacks: Sequence[Attack]) -> None: ...


class Ledger:
    """One per process. Writes by itself whenever something is waiting; settle() waits until nothing is."""

    def __init__(self, records: Records, *, limit: int, clock: Callable[[], float]) -> None:
        self._records = records
        self._limit = limit
        self._clock = clock
        self._noted: dict[tuple[int, int | None], float] = {}  # account and app password -> when its use was noted
        self._attacks: list[Attack] = []
        self._accounts: set[int] = set()
        self._app_passwords: set[int] = set()
        self._verifiers: dict[int, tuple[str, str]] = {}
        self._writing: asyncio.Task[None] | None = None

    def attack(self, attack: Attack) -> None:
        """Record a failed attempt."""
        if len(self._attacks) >= self._limit:
            _LOST.inc()
            return
        self._attacks.append(attack)
        self._start()

    def use(self, account_id: int, app_password_id: int | None) -> None:
        """Note a login, unless that was done within a minute: nobody asks for it more exactly, and it costs a query."""
        now, name = self._clock(), (account_id, app_password_id)
        if now - self._noted.get(name, -_USE_SECONDS) < _USE_SECONDS:
            return
        if len(self._noted) >= self._limit:
            self._noted.clear()
        self._noted[name] = now
        self._accounts.add(account_id)
        if app_password_id is not None:
            self._app_passwords.add(app_password_id)
        self._start()

    def keep_verifier(self, account_id: int, password_hash: str, verifier: str) -> None:
        """Store the verifier beside the hash of the same password."""
        self._verifiers[account_id] = (password_hash, verifier)
        self._start()

    async def settle(self) -> None:
        """Wait until all is written."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def _start(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="login ledger")
            self._writing.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._writing = None
        if self._attacks or self._accounts or self._app_passwords or self._verifiers:
            self._start()

    async def _write(self) -> None:
        attacks, self._attacks = self._attacks, []
        verifiers, self._verifiers = self._verifiers, {}
        accounts, app_passwords = list(self._accounts), list(self._app_passwords)
        self._accounts.clear()
        self._app_passwords.clear()
        try:
            if attacks:
                await self._records.record(attacks)
                attacks = []
            if verifiers:
                hashes, texts = zip(*verifiers.values(), strict=True)
                await self._records.keep_verifiers(list(verifiers), hashes, texts)
            if accounts:
                await self._records.touch(accounts, app_passwords)
        except StorageError as error:
            _LOST.inc(len(attacks))
            _log.warning("logins not recorded", attacks=len(attacks), reason=str(error))
