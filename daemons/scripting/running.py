"""Runs over a message whatever scripts concern an account: the host's and the tenant's, its simple settings, its own."""

import mmap
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version

from daemons.context import Context
from daemons.scripting.known import KnownScripts
from daemons.scripting.listed import holder_of
from daemons.scripting.owners import AccountOwner
from daemons.scripting.ports import DatabasePorts
from daemons.sieve import limits_of
from filters.sieve import interpreter
from filters.sieve.actions import Keep, Result
from filters.sieve.addresses import mailbox_of
from filters.sieve.ports import Envelope, Owner, Surroundings
from protocol.sieve.errors import SieveError
from storage import address_lists
from storage.errors import NotFoundError
from storage.scripts import Stored

_VERSION = version("postwerk")


class Scripting:
    """One per process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known = KnownScripts(context)
        self._limits = limits_of(context.settings.sieve)

    def close(self) -> None:
        """Stop listening for changes."""
        self._known.close()

    async def concerns(self, owner: AccountOwner) -> bool:
        """Whether run() would run anything: asked before a large message is made ready for it. Raises StorageError."""
        return bool((await self._known.of(owner)).scripts)

    async def run(
        self,
        owner: AccountOwner,
        octets: bytes | mmap.mmap,
        envelope: Envelope,
        *,
        spam_score: float | None = None,
        virus: int = 0,
        now: datetime,
        is_traced: bool = False,
        remote: Mapping[str, str] | None = None,
    ) -> Result | None:
        """What becomes of the message for its owner; None when no script concerns him, which costs no query.

        `remote` are items of the environment test that only the caller knows: "remote-ip", "remote-host". Raises StorageError.
        """
        known = await self._known.of(owner)
        if not known.scripts:
            return None
        surroundings = await self.surroundings(owner, envelope, spam_score=spam_score, virus=virus, remote=remote)
        ports = DatabasePorts(self._context, self._known, owner)
        return await interpreter.run(
            known.scripts, octets, surroundings, ports, now=now, limits=self._limits, is_traced=is_traced
        )

    async def surroundings(
        self,
        owner: AccountOwner,
        envelope: Envelope,
        *,
        spam_score: float | None = None,
        virus: int = 0,
        remote: Mapping[str, str] | None = None,
    ) -> Surroundings:
        """What a run is told, and what outgoing.vacation_reply and the notifier want to know. Raises StorageError."""
        addresses = (await self._known.of(owner)).owner.addresses or await self._known.addresses(owner)
        host = self._context.settings.hostname
        environment = {
            "name": "Postwerk",
            "version": _VERSION,
            "host": host,
            "domain": host.partition(".")[2] or host,
            "location": "MDA",
            "phase": "during",
            **(remote or {}),
        }
        return Surroundings(envelope, Owner(addresses), environment, spam_score, virus)

    async def run_one(
        self,
        owner: AccountOwner,
        script: Stored,
        octets: bytes | mmap.mmap,
        surroundings: Surroundings,
        *,
        now: datetime,
        is_traced: bool = False,
    ) -> Result:
        """What one script makes of a message. Raises StorageError."""
        try:
            compiled = await self._known.compiled(script)
        except SieveError as error:
            return Result((Keep(is_implicit=True),), error=error.faults[0], error_script=script.name)
        ports = DatabasePorts(self._context, self._known, owner)
        return await interpreter.run(
            compiled, octets, surroundings, ports, now=now, limits=self._limits, is_traced=is_traced
        )

    async def version(self, owner: AccountOwner) -> str:
        """Changes when any script of the owner does: what `Remember(…, "error", …)` takes as its key. Raises StorageError."""
        return (await self._known.of(owner)).version

    async def members(self, owner: AccountOwner, list_name: str) -> list[str]:
        """The addresses in one of the owner's lists, for Redirect.list_name; none when there is none. Raises StorageError."""
        found = holder_of(owner, list_name)
        if found is None:
            return []
        try:
            entries = await address_lists.entries(self._context.pool, *found)
        except NotFoundError:
            return []
        return [entry.value for entry in entries if mailbox_of(entry.value) is not None]
