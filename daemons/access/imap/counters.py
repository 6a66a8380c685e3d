"""The counters of mailboxes, asked for by many sessions at once: one query answers all that ask in one turn of the loop.

A notification wakes every session that watches a mailbox; each asks what has changed. None joins a query that has begun, so
nobody is told what was true before it was woken.
"""

import asyncio
from collections.abc import Collection, Mapping

from storage import mailboxes
from storage.pool import Pool, reported
from storage.rows import Mailbox


class Counters:
    """One per process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._wanted: set[int] = set()
        self._next: asyncio.Task[Mapping[int, Mailbox]] | None = None

    def __repr__(self) -> str:
        return f"<Counters: {len(self._wanted)} wanted>"

    async def get(self, mailbox_ids: Collection[int]) -> list[Mailbox]:
        """These mailboxes as they are now, by their owners' names; those that are gone are left out. Raises StorageError."""
        if not mailbox_ids:
            return []
        self._wanted.update(mailbox_ids)
        if self._next is None:
            self._next = asyncio.create_task(self._read())
        found = await asyncio.shield(self._next)
        return [found[mailbox_id] for mailbox_id in mailbox_ids if mailbox_id in found]

    async def _read(self) -> Mapping[int, Mailbox]:
        await asyncio.sleep(0)  # whoever was woken together asks before this goes on
        wanted, self._wanted, self._next = list(self._wanted), set(), None
        async with reported(), self._pool.acquire() as connection:
            return {found.mailbox_id: found for found in await mailboxes.get_many(connection, wanted)}
