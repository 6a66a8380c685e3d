"""Which scripts concern an account, compiled: kept in memory until something about them changes anywhere."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from daemons.context import Context
from daemons.logs import logger
from daemons.scripting.owners import AccountOwner
from daemons.sieve import capabilities_of, limits_of
from filters.sieve.ports import Owner
from filters.sieve.script import Script, broken_script, compile_script
from protocol.sieve.errors import SieveError
from storage import global_scripts, scripts, settings
from storage.global_scripts import Surrounding
from storage.notifications import DIRECTORY
from storage.scripts import Stored

_ACCOUNTS = 20_000
_SOURCE_OCTETS = 16 << 20  # of the scripts that are kept compiled
_THREAD_ABOVE_OCTETS = 4 << 10  # compiling more than this would hold up every other session of the process

_log = logger("scripting")


@dataclass(frozen=True, slots=True)
class Known:
    """What runs over an account's mail."""

    scripts: tuple[Script, ...] = ()
    owner: Owner = field(default_factory=Owner)
    version: str = ""  # another one for other scripts


_NOTHING = Known()


class KnownScripts:
    """One per process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._capabilities = capabilities_of(context.settings.sieve)
        self._limits = limits_of(context.settings.sieve)
        self._accounts: dict[int, Known] = {}
        self._tenants: dict[int, Surrounding] = {}
        self._compiled: OrderedDict[tuple[bytes, str], tuple[int, Script]] = OrderedDict()
        self._compiled_octets = 0
        self._changes = 0  # what was asked before a change is not remembered behind it
        self._ends = (
            context.changes.subscribe_scripts(self._forget),
            context.changes.on(DIRECTORY, lambda: self._forget(0)),
        )

    def close(self) -> None:
        """Stop listening for changes."""
        for end in self._ends:
            end()

    async def of(self, owner: AccountOwner) -> Known:
        """What runs over the owner's mail. Raises StorageError."""
        known = self._accounts.get(owner.account_id)
        if known is not None:
            return known
        changes = self._changes
        known = await self._looked_up(owner)
        if self._context.changes.is_connected and changes == self._changes:
            if len(self._accounts) >= _ACCOUNTS:
                self._accounts.clear()
            self._accounts[owner.account_id] = known
        return known

    async def addresses(self, owner: AccountOwner) -> tuple[str, ...]:
        """What reaches the owner, the main one first; none when he is gone. Raises StorageError."""
        return await global_scripts.addresses_of(self._context.pool, owner.tenant_id, owner.account_id)

    async def named(self, owner: AccountOwner, name: str, location: str) -> Script | None:
        """The script that one of the owner's includes, RFC 6609 §3.2; None too when it does not compile. Raises StorageError."""
        pool = self._context.pool
        if location == "global":
            stored = await global_scripts.find(pool, owner.tenant_id, name)
        else:
            stored = await scripts.read(pool, owner.account_id, name)
        if stored is None:
            return None
        try:
            return await self.compiled(stored)
        except SieveError as error:
            _log.info("included script does not compile", account_id=owner.account_id, faults=len(error.faults))
            return None

    async def compiled(self, stored: Stored) -> Script:
        """The script, ready to run; those with the same octets are compiled once. Raises SieveError."""
        key = (stored.digest, stored.name)
        if (kept := self._compiled.get(key)) is not None:
            self._compiled.move_to_end(key)
            return kept[1]
        octets = stored.octets
        if len(octets) > _THREAD_ABOVE_OCTETS:
            script = await asyncio.to_thread(self._compile, stored)
        else:
            script = self._compile(stored)
        if key not in self._compiled:
            self._compiled[key] = (len(octets), script)
            self._compiled_octets += len(octets)
        while self._compiled_octets > _SOURCE_OCTETS:
            _, (size_octets, _) = self._compiled.popitem(last=False)
            self._compiled_octets -= size_octets
        return script

    def _compile(self, stored: Stored) -> Script:
        return compile_script(stored.octets, name=stored.name, capabilities=self._capabilities, limits=self._limits)

    async def _looked_up(self, owner: AccountOwner) -> Known:
        pool = self._context.pool
        around = await self._around(owner.tenant_id)
        own = [stored for stored in (await self._simple(owner), await scripts.active(pool, owner.account_id)) if stored]
        sequence = (*around.before, *own, *around.after)
        if not sequence:
            return _NOTHING
        ready: list[Script] = []
        for stored in sequence:
            try:
                ready.append(await self.compiled(stored))
            except SieveError as error:
                if stored in own:
                    ready.append(broken_script(stored.name, error.faults[0]))
                    break
                _log.error(
                    "global script left out: it does not compile", script=stored.name, fault=str(error.faults[0])
                )
        return Known(tuple(ready), Owner(await self.addresses(owner)), _version(sequence))

    async def _simple(self, owner: AccountOwner) -> Stored | None:
        octets = await settings.compiled(self._context.pool, owner.account_id)
        return None if octets is None else Stored(settings.SCRIPT_NAME, hashlib.sha256(octets).digest(), octets)

    async def _around(self, tenant_id: int) -> Surrounding:
        found = self._tenants.get(tenant_id)
        if found is None:
            changes = self._changes
            found = await global_scripts.surrounding(self._context.pool, tenant_id)
            if self._context.changes.is_connected and changes == self._changes:
                self._tenants[tenant_id] = found
        return found

    def _forget(self, account_id: int) -> None:
        self._changes += 1
        if account_id:
            self._accounts.pop(account_id, None)
        else:
            self._accounts.clear()
            self._tenants.clear()


def _version(sequence: Sequence[Stored]) -> str:
    return hashlib.sha256(b"".join(stored.digest for stored in sequence)).hexdigest()
