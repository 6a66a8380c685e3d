"""Envelope senders of forwarded mail (SRS), and the way back for what is returned to them.

Keys are the tenant's whose domain the rewritten senders are of, wrapped by the tenant's key; the keeper brings new ones and removes
old ones. The tenant's first key is made here, when it forwards for the first time.
"""

import os
import time
from dataclasses import dataclass

from config.units import DAY
from daemons.context import Context
from protocol import srs
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.domain import a_labels
from storage import srs as stored
from storage.accounts import domain_name
from storage.blobs.keys import KEY_OCTETS, Wrapper
from storage.errors import NotFoundError
from storage.notifications import DIRECTORY

_CACHED_SECONDS = 60.0  # what keys may be behind when a notification was lost
_CACHED_DOMAINS = 10_000
_STORED_SECONDS = DAY / 2.0  # a stored sender is written again that often at most: its age is counted in days
_STORED_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Returned:
    """Where a bounce to a rewritten sender goes on to."""

    forward_path: AddrSpec
    tenant_id: int  # whose forwarding it was: the bounce is queued for that tenant


@dataclass(frozen=True, slots=True)
class _Keys:
    tenant_id: int
    keys: tuple[bytes, ...]  # the newest first


class Forwarding:
    """One per process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._settings = context.settings.srs
        self._keys: dict[str, tuple[float, _Keys | None]] = {}
        self._stored: dict[tuple[int, str], float] = {}  # until when a stored sender need not be written again
        self._changes = 0  # what was asked before a change is not remembered behind it
        self._forget = context.changes.on(DIRECTORY, self.clear)

    def clear(self) -> None:
        """Forget all keys; called when identities or keys changed anywhere."""
        self._changes += 1
        self._keys.clear()

    async def forwarded(self, reverse_path: AddrSpec | None, domain: str) -> AddrSpec | None:
        """The envelope sender under which an address of our `domain` passes mail on to another host.

        The null reverse-path stays null, and one of a local domain stays as it is: its SPF record names us already.
        Raises NotFoundError when the domain is not local, UnavailableError.
        """
        if reverse_path is None or await self._context.directory.domain_is_local(reverse_path.domain):
            return reverse_path
        name = domain_name(self._settings.domain or domain)
        return await self._rewritten(reverse_path, name)

    async def returning(self, forwarder: AddrSpec) -> AddrSpec:
        """The envelope sender of mail whose own sender must not hear of it: what comes back goes to who forwards it.

        Raises as forwarded() does.
        """
        return await self._rewritten(forwarder, domain_name(self._settings.domain or forwarder.domain))

    async def reverse_of(self, address: AddrSpec) -> Returned | None:
        """Where mail to one of our rewritten senders goes; None for every other address: forged, expired, or none of ours.

        Only for the null reverse-path: anything else sent there is no bounce. Costs no query while keys are known.
        Raises UnavailableError.
        """
        if not srs.is_rewritten(address.local_part):
            return None
        found = await self._keys_of(domain_name(address.domain))
        if found is None:
            return None
        lifetime_days = int(self._settings.lifetime // DAY)
        try:
            original = srs.reversed_path(_plain(address), found.keys, _today(), lifetime_days)
            if isinstance(original, srs.Stored):
                text = await stored.path_of(self._context.pool, found.tenant_id, original.token)
                if text is None:
                    return None
                original = parse_addr_spec(text)
        except (srs.SrsError, AddressError):
            return None
        return Returned(original, found.tenant_id)

    def close(self) -> None:
        """Stop listening for changes."""
        self._forget()

    async def _rewritten(self, reverse_path: AddrSpec, name: str) -> AddrSpec:
        found = await self._keys_of(name)
        if found is None:
            raise NotFoundError(f"domain {name}")
        if not found.keys:
            found = await self._with_first_key(name, found.tenant_id)
        key, day = found.keys[0], _today()
        reverse_path, domain = _plain(reverse_path), _plain(AddrSpec("", name)).domain
        try:
            return srs.rewritten(reverse_path, domain, key, day)
        except srs.SrsLengthError:
            token = srs.token_of(reverse_path, key)
            place, now = (found.tenant_id, token), time.monotonic()
            if self._stored.get(place, 0.0) <= now:
                await stored.store_path(self._context.pool, found.tenant_id, token, str(reverse_path))
                if len(self._stored) >= _STORED_KEPT:
                    self._stored.clear()
                self._stored[place] = now + _STORED_SECONDS
            return srs.rewritten_stored(token, domain, key, day)

    async def _keys_of(self, name: str) -> _Keys | None:
        """None when the domain is not local."""
        known = self._keys.get(name)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        changes = self._changes
        row = await stored.keys_of(self._context.pool, name)
        found = None
        if row is not None:
            wrapper = await self._context.keys.tenant(self._context.pool, row.tenant_id)
            found = _Keys(row.tenant_id, tuple(wrapper.unwrap(wrapped, stored.BOUND_TO) for wrapped in row.wrapped))
        if self._context.changes.is_connected and changes == self._changes:
            if len(self._keys) >= _CACHED_DOMAINS:
                self._keys.clear()
            self._keys[name] = (time.monotonic() + _CACHED_SECONDS, found)
        return found

    async def _with_first_key(self, name: str, tenant_id: int) -> _Keys:
        wrapper = await self._context.keys.tenant(self._context.pool, tenant_id)
        await stored.add_first_key(self._context.pool, tenant_id, new_key(wrapper))
        self._keys.pop(name, None)
        found = await self._keys_of(name)
        if found is None or not found.keys:
            raise NotFoundError(f"domain {name}")
        return found


def new_key(wrapper: Wrapper) -> bytes:
    """A fresh key of rewriting, wrapped."""
    return wrapper.wrap(os.urandom(KEY_OCTETS), stored.BOUND_TO)


def _plain(address: AddrSpec) -> AddrSpec:
    """With its domain in A-labels, so that rewriting needs SMTPUTF8 only where the address itself does."""
    return AddrSpec(address.local_part, a_labels(address.domain))


def _today() -> int:
    return int(time.time() // DAY)
