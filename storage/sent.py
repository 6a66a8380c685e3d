"""Copies of sent mail in the Sent mailbox, for accounts that want them; and how they make room for what a client stores itself.

Clients differ: most store a copy of their own after they have sent, some before, some none. What they store is recognised by its
Message-ID among the last messages of the mailbox; ours by the trace fields on top, which only mail that came by SMTP has.
"""

import time
from collections.abc import Callable

from storage.errors import NotFoundError
from storage.notifications import DIRECTORY, ChangeHub
from storage.pool import Connection, Pool, reported

_CACHED_SECONDS = 60.0  # should the notification of a change be lost
_CACHED_ACCOUNTS = 20_000

_TARGET = r"""
SELECT b.mailbox_id
  FROM account AS a JOIN mailbox AS b USING (account_id)
 WHERE a.account_id = $1 AND a.copies_sent AND b.special_use = '\Sent' AND b.is_selectable
   AND NOT EXISTS (
       SELECT FROM message AS m JOIN content AS c USING (content_id)
        WHERE m.mailbox_id = b.mailbox_id AND m.uid >= b.uidnext - 100 AND c.message_id = $2
          AND m.savedate > now() - make_interval(secs => $3))
"""
_OURS = r"""
SELECT m.uid
  FROM mailbox AS b JOIN account AS a USING (account_id)
  JOIN message AS m ON m.mailbox_id = b.mailbox_id AND m.uid >= b.uidnext - 100
  JOIN content AS c USING (content_id)
 WHERE b.mailbox_id = $1 AND b.special_use = '\Sent' AND a.copies_sent
   AND c.message_id = $2 AND octet_length(c.head) > 0 AND m.savedate > now() - make_interval(secs => $3)
 ORDER BY m.uid DESC LIMIT 1
"""


class SentCopies:
    """Who wants copies, from memory while nothing changed. One per process."""

    def __init__(self, pool: Pool, hub: ChangeHub) -> None:
        self._pool = pool
        self._hub = hub
        self._wanting: dict[int, tuple[float, bool]] = {}
        self.close: Callable[[], None] = hub.on(DIRECTORY, self._wanting.clear)

    async def target(self, account_id: int, message_id: bytes, within_seconds: float) -> int | None:
        """The mailbox for a copy; None: it is not wanted, or a client has stored its own lately. Raises UnavailableError."""
        if not await self._wants(account_id):
            return None
        async with reported():
            found: int | None = await self._pool.fetchval(_TARGET, account_id, message_id, within_seconds)
        return found

    async def _wants(self, account_id: int) -> bool:
        known = self._wanting.get(account_id)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        async with reported():
            wants = bool(await self._pool.fetchval("SELECT copies_sent FROM account WHERE account_id = $1", account_id))
        if self._hub.is_connected:  # otherwise nobody would tell us of changes
            if len(self._wanting) >= _CACHED_ACCOUNTS:
                self._wanting.clear()
            self._wanting[account_id] = (time.monotonic() + _CACHED_SECONDS, wants)
        return wants


async def copy_of(connection: Connection, mailbox_id: int, message_id: bytes, within_seconds: float) -> int | None:
    """The UID of our copy of that message in a Sent mailbox, when it is so new that a client may be storing the same."""
    async with reported():
        found: int | None = await connection.fetchval(_OURS, mailbox_id, message_id, within_seconds)
    return found


async def set_copies(connection: Connection, login: str, *, copies_sent: bool) -> None:
    """Copy what the account sends into its Sent mailbox, or stop it. Raises NotFoundError."""
    async with reported():
        found = await connection.fetchval(
            "UPDATE account SET copies_sent = $2 WHERE login = $1 AND kind = 'person' RETURNING true",
            login,
            copies_sent,
        )
    if found is None:
        raise NotFoundError("no such account")
