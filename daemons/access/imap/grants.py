"""What accounts may do with which mailboxes, as far as this process has asked: forgotten when any list changes.

While no notifications come nothing is remembered, so rights that are withdrawn are withdrawn at once, or within the moments
that a notification takes. Raises nothing of its own.
"""

import time
from collections.abc import Callable

from storage import sharing
from storage.notifications import SHARING, ChangeHub
from storage.pool import Pool, reported

_KEPT_SECONDS = 30.0  # should a notification be lost
_KEPT_ENTRIES = 50_000


class Grants:
    """Rights by account and mailbox. One per process."""

    def __init__(self, pool: Pool, changes: ChangeHub) -> None:
        self._pool = pool
        self._changes = changes
        self._known: dict[tuple[int, int], tuple[float, frozenset[str]]] = {}
        self.generation = 0  # grows when anything may have changed
        self.close: Callable[[], None] = changes.on(SHARING, self.clear)

    def __repr__(self) -> str:
        return f"<Grants: {len(self._known)} known, generation {self.generation}>"

    def clear(self) -> None:
        """A list has changed somewhere."""
        self._known.clear()
        self.generation += 1

    def remember(self, account_id: int, mailbox_id: int, rights: frozenset[str], generation: int) -> None:
        """Take over what was read from the database while `generation` was in force."""
        if generation != self.generation or not self._changes.is_connected:
            return
        if len(self._known) >= _KEPT_ENTRIES:
            self._known.clear()
        self._known[account_id, mailbox_id] = (time.monotonic() + _KEPT_SECONDS, rights)

    async def rights(self, account_id: int, tenant_id: int, mailbox_id: int) -> frozenset[str]:
        """The account's rights on a mailbox; none on one that is gone. Raises StorageError."""
        known = self._known.get((account_id, mailbox_id))
        if known is not None and known[0] > time.monotonic():
            return known[1]
        generation = self.generation
        async with reported(), self._pool.acquire() as connection:
            rights = await sharing.rights(connection, account_id, tenant_id, mailbox_id)
        self.remember(account_id, mailbox_id, rights, generation)
        return rights
