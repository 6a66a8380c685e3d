"""Greylisting as configured, with its memory in the database; networks that are known are remembered here for a while."""

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from config.envelope import Greylisting
from daemons.context import Context
from filters.subject import Account
from storage import greylist
from storage.blobs.keys import KeyRing
from storage.notifications import DIRECTORY, ChangeHub
from storage.pool import Pool
from storage.spam_standing import standings

_KNOWN_SECONDS = 600.0
_KNOWN = 50_000
_DIGEST_OCTETS = 16


def terms_of(settings: Greylisting) -> greylist.Terms:
    """When a source counts as known."""
    return greylist.Terms(settings.delay, settings.window, settings.learned_after, settings.memory)


class StoredGreylist:
    """filters.ports.Greylist. One per process."""

    def __init__(
        self,
        settings: Greylisting,
        pool: Pool,
        hub: ChangeHub,
        keys: KeyRing,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_on = settings.enabled
        self._terms = terms_of(settings)
        self._pool = pool
        self._hub = hub
        self._keys = keys
        self._clock = clock
        self._chosen: dict[int, bool] = {}
        self._digest_keys: dict[int, bytes] = {}
        self._known: OrderedDict[tuple[int, bytes], float] = OrderedDict()  # until when
        self.close: Callable[[], None] = hub.on(DIRECTORY, self._chosen.clear)

    async def is_on(self, tenant_id: int) -> bool:
        """Whether the tenant wants it, or else the configuration. Raises UnavailableError."""
        is_on = self._chosen.get(tenant_id)
        if is_on is None:
            choice = await greylist.choice_of(self._pool, tenant_id)
            is_on = self._is_on if choice is None else choice
            if self._hub.is_connected:  # otherwise nobody would tell us of changes
                self._chosen[tenant_id] = is_on
        return is_on

    async def admits(self, tenant_id: int, source: str, sender: str, recipient: str) -> bool:
        """Whether this try is let in; it is remembered. Raises UnavailableError."""
        digest_key = await self._digest_key(tenant_id)
        known_as = _digest(digest_key, source)
        if self._known.get((tenant_id, known_as), 0.0) > self._clock():
            return True
        key = _digest(digest_key, source, sender, recipient)
        tried = await greylist.try_once(self._pool, tenant_id, known_as, key, self._terms)
        if tried.is_known:
            self._known[tenant_id, known_as] = self._clock() + _KNOWN_SECONDS
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return tried.is_known or tried.has_passed

    async def expects(self, accounts: Sequence[Account], sender: str) -> bool:
        """Whether one of them has written to that address. Raises UnavailableError."""
        found = await standings(self._pool, [each.account_id for each in accounts], sender)
        return any(each.answered for each in found.values())

    async def _digest_key(self, tenant_id: int) -> bytes:
        key = self._digest_keys.get(tenant_id)
        if key is None:
            key = (await self._keys.tenant(self._pool, tenant_id)).derived(b"greylist")
            self._digest_keys[tenant_id] = key
        return key


def _digest(key: bytes, *parts: str) -> bytes:
    """What stands in the database for these parts."""
    return hmac.digest(key, "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256")[:_DIGEST_OCTETS]


def build_greylist(context: Context) -> StoredGreylist:
    """The memory, for the process."""
    made = StoredGreylist(context.settings.greylisting, context.pool, context.changes, context.keys)
    context.closing.callback(made.close)
    return made
