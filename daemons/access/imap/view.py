"""One mailbox as all sessions of this process see it: compact arrays, kept current from the change log.

Selecting, FLAGS, NOOP, STATUS and searches by flag, date or size are answered from here without SQL while nothing has
changed (docs/design.md, "IMAP model"). A view knows UIDs only; sequence numbers belong to a session (selected.py).
It is never changed but by what the database has committed.
"""

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import compress

from daemons.access.imap.flags import FlagTable
from storage import messages
from storage.columns import Columns
from storage.pool import Pool, reported
from storage.rows import DELETED, SEEN, Changes, Mailbox, MessageRow, StoredFlags

_LOG_ENTRIES = 20_000  # changes remembered for sessions that have not told them yet; older ones cost a scan
_SPARE_KINDS = 1000  # combinations of flags out of use that are kept: a client can make new ones without end
_FEW = 64  # expunges up to here are taken out one by one, more by one pass over the arrays
JUNK = r"\Junk"  # RFC 6154 §2
_COLUMNS = ("contents", "dates", "kinds", "modseqs", "sizes", "uids")


class Rows:
    """Parallel arrays, ascending by UID, and the flag table that `kinds` points into.

    They only grow at the end and change in place; an expunge makes new Rows. So whoever holds one, with a count, may go on
    reading through a suspension: positions stay what they were.
    """

    __slots__ = ("__weakref__", "contents", "dates", "kinds", "modseqs", "sizes", "table", "uids")

    def __init__(self, table: FlagTable) -> None:
        self.table = table
        self.uids = array("I")
        self.modseqs = array("Q")
        self.sizes = array("Q")
        self.dates = array("q")  # INTERNALDATE, seconds since 1970 (UTC)
        self.contents = array("Q")
        self.kinds = array("I")  # index into the table

    @classmethod
    def of(cls, columns: Columns) -> "Rows":
        """A whole mailbox. Takes the arrays over, and interns what flags there are."""
        rows = cls(FlagTable())
        rows.uids, rows.modseqs, rows.sizes = columns.uids, columns.modseqs, columns.sizes
        rows.dates, rows.contents = columns.dates, columns.contents
        kinds = {bits: rows.table.kind(bits, ()) for bits in sorted(set(columns.flags))}
        rows.kinds = array("I", map(kinds.__getitem__, columns.flags))
        for uid, keywords in columns.keywords.items():
            position = rows.position(uid)
            rows.kinds[position] = rows.table.kind(columns.flags[position], keywords)
        return rows

    def append(self, row: MessageRow) -> None:
        """Add a message with a UID above all others."""
        self.uids.append(row.uid)
        self.modseqs.append(row.modseq)
        self.sizes.append(row.size_octets)
        self.dates.append(int(row.internaldate.timestamp()))
        self.contents.append(row.content_id)
        self.kinds.append(self.table.kind(row.flags, row.keywords))

    def without(self, positions: Sequence[int]) -> "Rows":
        """A copy without these positions (ascending)."""
        rest = Rows(self.table)
        mask = bytearray()
        if len(positions) > _FEW:
            mask = bytearray(b"\1") * len(self.uids)
            for position in positions:
                mask[position] = 0
        for name in _COLUMNS:
            column: array[int] = getattr(self, name)
            if mask:
                column = array(column.typecode, compress(column, mask))
            else:
                column = column[:]
                for position in reversed(positions):
                    del column[position]
            setattr(rest, name, column)
        return rest

    def tidied(self) -> "Rows":
        """The same messages with a table of only those combinations of flags that are in use."""
        rest = Rows(FlagTable())
        for name in _COLUMNS:
            setattr(rest, name, getattr(self, name))
        moved = {kind: rest.table.kind(*self.table.written(kind)) for kind in sorted(set(self.kinds))}
        rest.kinds = array("I", map(moved.__getitem__, self.kinds))
        return rest

    def position(self, uid: int) -> int:
        """Where the message with this UID stands, or -1."""
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else -1


class View:
    """The state of one mailbox as of highestmodseq. Made and released by Views."""

    def __init__(self, pool: Pool, mailbox: Mailbox, rows: Rows, now: float, viewer: int = 0) -> None:
        self._pool = pool
        self._lock = asyncio.Lock()
        self.mailbox_id = mailbox.mailbox_id
        self.account_id = mailbox.account_id  # the owner
        self.viewer = viewer  # the account whose own \Seen this is, 0 for the mailbox's
        self.is_junk = mailbox.special_use == JUNK  # when the view was made
        self.uidvalidity = mailbox.uidvalidity
        self.rows = rows
        self.uidnext = mailbox.uidnext
        self.highestmodseq = mailbox.highestmodseq
        self.recent_uid = mailbox.recent_uid  # UIDs below have been told as \Recent to some session
        self.listeners: set[Callable[[], None]] = set()  # sessions in IDLE
        self.is_stale = False
        self._told_modseq = 0  # a change of this MODSEQ has been told
        self.checked_at = now
        self._first_unseen: int | None = None  # None: to be looked for
        self._changed_modseqs = array("Q")
        self._changed_uids = array("I")
        self._log_start = mailbox.highestmodseq  # changes after this MODSEQ are all in the log

    def __repr__(self) -> str:
        return f"<View {self.mailbox_id}: {len(self.rows.uids)} messages, MODSEQ {self.highestmodseq}>"

    @property
    def table(self) -> FlagTable:
        """The combinations of flags of `rows`."""
        return self.rows.table

    @property
    def is_behind(self) -> bool:
        """Whether the database is to be asked before anybody reads."""
        return self.is_stale or self._told_modseq > self.highestmodseq

    def touch(self, modseq: int = 0) -> None:
        """The mailbox may have changed: whoever reads next asks the database first.

        modseq: that of the change, where it is known. What this process has done itself is told to it, too, and by then, or
        soon after, the view has it: then nobody asks.
        """
        if not modseq:
            self.is_stale = True
        elif modseq > self.highestmodseq:
            self._told_modseq = max(modseq, self._told_modseq)
        else:
            return
        for listener in tuple(self.listeners):
            listener()

    async def refresh(self, now: float) -> None:
        """Catch up with the database. Concurrent callers share one query. Raises StorageError."""
        asked_at = self.checked_at
        async with self._lock:
            if not self.is_behind and self.checked_at > asked_at:
                return
            self.is_stale, self._told_modseq = False, 0  # before the query: a notification during it means another one
            try:
                async with reported(), self._pool.acquire() as connection:
                    changes = await messages.changes(connection, self.mailbox_id, self.highestmodseq, self.viewer)
            except BaseException:
                self.is_stale = True
                raise
            self.checked_at = now
            self.apply(changes)

    async def absorb(self, stored: StoredFlags, now: float) -> None:
        """Take over a STORE of this process, without asking the database where nothing else came in between."""
        if not stored.changed:
            return
        if stored.modseq == self.highestmodseq + 1 and not self._lock.locked():
            self.apply(Changes(stored.modseq, self.uidnext, stored.changed, ()))
        elif stored.modseq > self.highestmodseq:
            self.is_stale = True
            await self.refresh(now)

    def apply(self, changes: Changes) -> None:
        """Take over what happened after highestmodseq."""
        if changes.is_whole:
            there = {row.uid for row in changes.changed}
            gone = [at for at, uid in enumerate(self.rows.uids) if uid not in there]
        else:
            gone = [at for uid in changes.expunged if (at := self.rows.position(uid)) >= 0]
        if gone:
            self.rows = self.rows.without(gone)
            self._first_unseen = None
        self.note(changes.changed)
        if changes.highestmodseq > self.highestmodseq:
            self.highestmodseq = changes.highestmodseq
            self.uidnext = max(self.uidnext, changes.uidnext)
            for listener in tuple(self.listeners):
                listener()

    def note(self, changed: Sequence[MessageRow]) -> None:
        """Take over rows that are new or have other flags; older ones than those held are passed over."""
        rows = self.rows
        self._first_unseen = None
        last = rows.uids[-1] if rows.uids else 0
        news: list[tuple[int, int]] = []
        for row in changed:
            if row.uid > last:
                rows.append(row)
                last = row.uid
                continue
            at = rows.position(row.uid)
            if at >= 0 and rows.modseqs[at] < row.modseq:
                rows.modseqs[at] = row.modseq
                rows.kinds[at] = rows.table.kind(row.flags, row.keywords)
                news.append((row.modseq, row.uid))
        news.sort()
        for modseq, uid in news:
            self._changed_modseqs.append(modseq)
            self._changed_uids.append(uid)
        if len(rows.table.sets) > 2 * len(rows.uids) + _SPARE_KINDS:
            self.rows = rows.tidied()
        if len(self._changed_uids) > 2 * _LOG_ENTRIES:
            self._log_start = self._changed_modseqs[_LOG_ENTRIES - 1]
            del self._changed_modseqs[:_LOG_ENTRIES], self._changed_uids[:_LOG_ENTRIES]

    def changed_since(self, modseq: int) -> list[int]:
        """UIDs, ascending, of messages whose flags changed after this MODSEQ (new messages need not be among them)."""
        if modseq >= self.highestmodseq:
            return []
        if modseq < self._log_start:
            return [uid for uid, changed in zip(self.rows.uids, self.rows.modseqs, strict=True) if changed > modseq]
        return sorted(set(self._changed_uids[bisect_right(self._changed_modseqs, modseq) :]))

    def first_unseen(self) -> int:
        r"""The position of the first message without \Seen, or -1."""
        if self._first_unseen is None:
            seen = self.table.kinds_with(SEEN)
            self._first_unseen = next((at for at, kind in enumerate(self.rows.kinds) if kind not in seen), -1)
        return self._first_unseen

    def has_deleted(self) -> bool:
        r"""Whether any message has \Deleted, as far as known."""
        return any(kind in self.rows.kinds for kind in self.table.kinds_with(DELETED))

    def unseen_count(self) -> int:
        r"""How many messages are without \Seen."""
        kinds = self.rows.kinds
        return len(kinds) - sum(kinds.count(kind) for kind in self.table.kinds_with(SEEN))

    def recent_count(self) -> int:
        """How many messages no session has been told of as recent."""
        return len(self.rows.uids) - bisect_left(self.rows.uids, self.recent_uid)
