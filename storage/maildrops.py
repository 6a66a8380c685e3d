"""An inbox as POP3 sees it: one exclusive session at a time over all processes, and a listing that does not change in it.

The exclusive-access lock of RFC 1939 §4 is an advisory lock of PostgreSQL. All locks of a process are held by one
connection, which is taken from the pool while there are any, so that they end with the process, however it ends.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from storage import messages
from storage.columns import integers
from storage.errors import MailboxNotFoundError, UnavailableError
from storage.pool import AWAY, Pool, reported

_Pooled: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

_LOCK_SPACE = 0x504F5033 << 31  # "POP3": keeps our advisory locks apart from others' in the same database

_OPEN = "SELECT * FROM open_maildrop($1, $2, $3)"
# One statement, so that the columns are of the very state that highestmodseq names. int8send() and not array_agg: a column
# arrives as it lies in memory, and no integer of it is ever an object.
_LISTING = """
SELECT m.uidvalidity, m.highestmodseq, l.uids, l.sizes, l.content_ids
  FROM mailbox m, LATERAL (
    SELECT string_agg(int8send(uid), '') AS uids, string_agg(int8send(size_octets), '') AS sizes,
           string_agg(int8send(content_id), '') AS content_ids
      FROM (SELECT uid, size_octets, content_id FROM message
             WHERE mailbox_id = m.mailbox_id ORDER BY uid) AS placed) AS l
 WHERE m.mailbox_id = $1
"""


@dataclass(frozen=True, slots=True)
class Listing:
    """The messages of an inbox in ascending UID order; message number n is at index n - 1."""

    mailbox_id: int
    uidvalidity: int
    highestmodseq: int
    uids: Sequence[int]
    sizes: Sequence[int]  # octets, as they are sent
    content_ids: Sequence[int]
    size_octets: int

    def __len__(self) -> int:
        return len(self.uids)


@dataclass(frozen=True, slots=True, eq=False)
class Maildrop:
    """One session's hold on an inbox."""

    account_id: int
    listing: Listing
    lock: "_Holder | None"  # None: empty, and not locked
    login_delay: int  # seconds that this user has to wait between logins
    expire_days: int | None  # after which messages may be removed; 0: at the end of the session that retrieved them
    language: str  # the tenant's


@dataclass(frozen=True, slots=True)
class Delayed:
    """The user has logged in a moment ago (RFC 2449 §8.1.1)."""

    seconds: int  # until a login is possible again


@dataclass(slots=True, eq=False)
class _Holder:
    """The connection that holds this process's locks."""

    connection: _Pooled
    keys: set[int]

    @property
    def is_lost(self) -> bool:
        try:
            return self.connection.is_closed()
        except asyncpg.InterfaceError:  # the pool has taken the broken connection back by itself
            return True


class Maildrops:
    """Opens and closes maildrops. One per process."""

    def __init__(self, pool: Pool, *, cached_messages: int) -> None:
        self._pool = pool
        self._turn = asyncio.Lock()  # the holder's connection runs one statement at a time
        self._holder: _Holder | None = None
        self._open: set[int] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._listings: OrderedDict[int, Listing] = OrderedDict()
        self._listed = 0
        self._cached_messages = cached_messages

    @property
    def held_count(self) -> int:
        """How many maildrops sessions of this process have, those being opened and closed included."""
        return len(self._open)

    async def open(self, account_id: int, login_delay: int | None) -> Maildrop | Delayed | None:
        """Lock the account's inbox, note the login, and list it; None while another session has it. Raises StorageError.

        login_delay: the seconds that hold for accounts without a policy of their own; None exempts from any delay.
        Costs one query when the inbox is empty or has not changed since it was listed last, else two. What is opened
        must be closed.
        """
        if account_id in self._open:
            return None
        self._open.add(account_id)
        opening = asyncio.create_task(self._lock(account_id, login_delay))
        try:
            maildrop = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The lock may have been taken; it must not outlive the session.
            opening.add_done_callback(lambda done: self._abandon(done, account_id))
            raise
        except BaseException:
            self._open.discard(account_id)
            raise
        if not isinstance(maildrop, Maildrop) or maildrop.lock is None:
            self._open.discard(account_id)
        return maildrop

    async def close(self, maildrop: Maildrop) -> None:
        """Let others have the maildrop. Never raises; goes on to its end when the caller is cancelled."""
        if maildrop.lock is not None:
            await asyncio.shield(self._start_closing(maildrop))

    async def remove(self, maildrop: Maildrop, uids: Sequence[int]) -> None:
        """Remove messages, all or none. Raises UnavailableError, also when the lock was lost with its connection."""
        if maildrop.lock is None or maildrop.lock.is_lost:
            raise UnavailableError("the maildrop's lock was lost")
        async with reported(), self._pool.acquire() as connection:
            await messages.remove(connection, maildrop.listing.mailbox_id, uids)

    async def _lock(self, account_id: int, login_delay: int | None) -> Maildrop | Delayed | None:
        async with self._turn, reported():
            holder = await self._held()
            try:
                row = await holder.connection.fetchrow(_OPEN, account_id, _LOCK_SPACE + account_id, login_delay)
                if row is not None and row["is_locked"]:
                    holder.keys.add(account_id)
            except BaseException:
                holder.connection.terminate()  # whether it has the lock is not known: better none than one that stays
                raise
            finally:
                await self._give_back()
        if row is None:
            raise MailboxNotFoundError(f"account {account_id} has no inbox")
        if row["is_locked"] is False:
            return None
        if row["wait_seconds"] is not None:
            return Delayed(row["wait_seconds"])
        rules = row["login_delay"], row["expire_days"], row["language"]
        if not row["is_locked"]:
            nothing = Listing(row["mailbox_id"], row["uidvalidity"], row["highestmodseq"], (), (), (), 0)
            return Maildrop(account_id, nothing, None, *rules)
        try:
            listing = await self._listing(row["mailbox_id"], row["uidvalidity"], row["highestmodseq"])
        except BaseException:
            await self._unlock(account_id, holder)
            raise
        return Maildrop(account_id, listing, holder, *rules)

    async def _listing(self, mailbox_id: int, uidvalidity: int, highestmodseq: int) -> Listing:
        kept = self._listings.get(mailbox_id)
        if kept is not None and (kept.uidvalidity, kept.highestmodseq) == (uidvalidity, highestmodseq):
            self._listings.move_to_end(mailbox_id)
            return kept
        async with reported():
            row = await self._pool.fetchrow(_LISTING, mailbox_id)
        if row is None:
            raise MailboxNotFoundError(f"mailbox {mailbox_id}")
        uids, sizes, content_ids = (integers(row[name]) for name in ("uids", "sizes", "content_ids"))
        listing = Listing(
            mailbox_id, row["uidvalidity"], row["highestmodseq"], uids, sizes, content_ids, sum(sizes)
        )  # fmt: skip
        self._keep(listing)
        return listing

    def _keep(self, listing: Listing) -> None:
        replaced = self._listings.pop(listing.mailbox_id, None)
        self._listed += len(listing) - len(replaced or ())
        self._listings[listing.mailbox_id] = listing
        while self._listed > self._cached_messages:
            self._listed -= len(self._listings.popitem(last=False)[1])

    async def _held(self) -> _Holder:
        """The holder of new locks. Locks of one whose connection was lost are lost with it: see remove()."""
        if self._holder is not None and self._holder.is_lost:
            lost, self._holder = self._holder, None
            await self._pool.release(lost.connection)
        if self._holder is None:
            self._holder = _Holder(await self._pool.acquire(), set())
        return self._holder

    async def _give_back(self) -> None:
        """Return the connection to the pool when it holds no lock any more."""
        if self._holder is not None and not self._holder.keys:
            holder, self._holder = self._holder, None
            await self._pool.release(holder.connection)

    def _start_closing(self, maildrop: Maildrop) -> asyncio.Task[None]:
        assert maildrop.lock is not None
        task = asyncio.create_task(self._unlock(maildrop.account_id, maildrop.lock))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def _abandon(self, opening: asyncio.Task[Maildrop | Delayed | None], account_id: int) -> None:
        failed = opening.cancelled() or opening.exception() is not None
        maildrop = None if failed else opening.result()
        if isinstance(maildrop, Maildrop) and maildrop.lock is not None:
            self._start_closing(maildrop)
        else:
            self._open.discard(account_id)

    async def _unlock(self, account_id: int, holder: _Holder) -> None:
        async with self._turn:
            try:
                if holder is self._holder:
                    await holder.connection.execute("SELECT pg_advisory_unlock($1)", _LOCK_SPACE + account_id)
            except AWAY:
                pass  # the lock has ended with its connection
            finally:
                holder.keys.discard(account_id)
                self._open.discard(account_id)
                await self._give_back()
