r"""What one session knows of its selected mailbox: the UIDs behind its sequence numbers, and what it has been told.

RFC 3501 §7.4.1 decides when an EXPUNGE may be told; until then the numbers stay as the client knows them, whatever has
happened to the mailbox (RFC 2180 §4). Sequence numbers never lie. No I/O here.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Protocol

from daemons.access.imap.view import Rows, View
from protocol.imap import response
from protocol.imap.flags import SYSTEM_FLAGS
from protocol.imap.sequence import SequenceSet
from storage.sharing import ALL_RIGHTS

Range = tuple[int, int]

_RIGHTS = {rb"\Seen": "s", rb"\Deleted": "t"}  # RFC 4314 §4; all others need "w"


class Watching(Protocol):
    """Searches that are kept up to date with the mailbox (contexts.py)."""

    def tell_expunged(self) -> None:
        """Before any EXPUNGE is told."""

    async def tell_changed(self) -> None:
        """After all else has been told."""

    def cancel(self, tags: Sequence[bytes]) -> None:
        """Keep these no longer."""


class Selected:
    """A session's side of a view. Positions are sequence numbers less one."""

    def __init__(self, view: View, *, is_read_only: bool, rights: frozenset[str] = ALL_RIGHTS) -> None:
        self.view = view
        self.is_read_only = is_read_only  # by EXAMINE; what rights allow is another matter
        self.rights = rights  # RFC 4314 §2.1; Session.recheck keeps them current
        # The first `count` entries of `uids` are the session's messages. The array is the view's own where possible: it
        # only grows at the end, and an expunge gives the view a new one.
        self.uids = view.rows.uids
        self.count = len(view.rows.uids)
        self.reported_modseq = view.highestmodseq
        self.uidnext = view.uidnext
        self.told_keywords = frozenset[str]()
        self.recent: list[Range] = []  # ranges of UIDs that this session shows as \Recent
        self._known: dict[int, int] = {}  # UID -> MODSEQ of a flag change that the client need not be told of
        self.saved = array("I")  # UIDs of the saved search result "$", ascending (RFC 5182 §2.1)
        self.contexts: Watching | None = None

    def __repr__(self) -> str:
        return f"<Selected {self.view.mailbox_id}: {self.count} messages, MODSEQ {self.reported_modseq}>"

    @property
    def is_current(self) -> bool:
        """Whether the client knows all that the view knows."""
        return (
            self.reported_modseq >= self.view.highestmodseq
            and self.uids is self.view.rows.uids
            and self.count == len(self.uids)
        )

    @property
    def last_uid(self) -> int:
        """The highest UID the session has been told of, or 0."""
        return self.uids[self.count - 1] if self.count else 0

    @property
    def highestmodseq_code(self) -> bytes:
        """The response code HIGHESTMODSEQ (RFC 7162 §3.1.2.1): all changes up to it have been told."""
        return b"HIGHESTMODSEQ %d" % self.reported_modseq

    def take_flag_lines(self) -> bytes:
        """FLAGS and PERMANENTFLAGS as of now."""
        spellings = self.view.table.spellings
        self.told_keywords = frozenset(spellings)
        keywords = [keyword.encode() for keyword in spellings.values()]
        permanent = (
            [] if self.is_read_only else [name for name in SYSTEM_FLAGS if _RIGHTS.get(name, "w") in self.rights]
        )
        if not self.is_read_only and "w" in self.rights:
            permanent += [*keywords, rb"\*"]
        told = response.untagged("OK", response.permanentflags(permanent), "flags that stay")
        return response.flags_line([*SYSTEM_FLAGS, *keywords]) + told

    def keep(self, uid: int, modseq: int) -> None:
        """The client knows this flag change already (its own STORE)."""
        self._known[uid] = modseq

    def add_recent(self, low: int, high: int) -> None:
        r"""Show the messages with low <= UID < high as \Recent for as long as the mailbox stays selected."""
        if self.recent:
            low = max(low, self.recent[-1][1])
        if low < high:
            self.recent.append((low, high))

    def is_recent(self, uid: int) -> bool:
        r"""Whether this session shows the message as \Recent."""
        return any(low <= uid < high for low, high in self.recent)

    def recent_count(self) -> int:
        """For the untagged RECENT."""
        return sum(
            bisect_left(self.uids, high, 0, self.count) - bisect_left(self.uids, low, 0, self.count)
            for low, high in self.recent
        )

    # -- sequence sets ----------------------------------------------------------------------------------------------

    def uid_positions(self, sequence: SequenceSet) -> list[Range]:
        """Half-open position ranges of a UID set. UIDs that do not exist are passed over (RFC 3501 §6.4.8)."""
        if sequence.is_saved:
            return self._saved_positions()
        found = []
        for low, high in sequence.resolve(self.last_uid):
            start = bisect_left(self.uids, low, 0, self.count)
            end = bisect_right(self.uids, high, start, self.count)
            if start < end:
                found.append((start, end))
        return found

    def _saved_positions(self) -> list[Range]:
        """Where the messages of "$" are now: what was expunged and told is not among them any more (RFC 5182 §2.1)."""
        found: list[Range] = []
        at = 0
        for uid in self.saved:
            at = bisect_left(self.uids, uid, at, self.count)
            if at < self.count and self.uids[at] == uid:
                if found and found[-1][1] == at:
                    found[-1] = (found[-1][0], at + 1)
                else:
                    found.append((at, at + 1))
        return found

    def ranges(self, sequence: SequenceSet, *, is_uid: bool) -> list[Range]:
        """Half-open position ranges of a set of UIDs or of sequence numbers, none of which is above the count."""
        if is_uid or sequence.is_saved:
            return self.uid_positions(sequence)
        return [(low - 1, high) for low, high in sequence.resolve(self.count)]

    def position(self, uid: int) -> int:
        """The position of a UID among the session's messages, or -1."""
        at = bisect_left(self.uids, uid, 0, self.count)
        return at if at < self.count and self.uids[at] == uid else -1

    def uids_at(self, ranges: Iterable[Range]) -> list[int]:
        """The UIDs at these position ranges."""
        found: list[int] = []
        for start, end in ranges:
            found.extend(self.uids[start:end])
        return found

    def rows_at(self, rows: Rows, start: int, end: int) -> tuple[Sequence[int], Sequence[int]]:
        """Positions in [start, end) that still exist, and where they stand in `rows`."""
        return self.rows_of(rows, range(start, end))

    def rows_of(self, rows: Rows, wanted: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Those of the positions that still exist, and where they stand in `rows`."""
        if self.uids is rows.uids:
            return wanted, wanted
        positions, places = [], []
        for position in wanted:
            place = rows.position(self.uids[position])
            if place >= 0:
                positions.append(position)
                places.append(place)
        return positions, places

    # -- synchronisation --------------------------------------------------------------------------------------------

    def take_expunged(self) -> list[tuple[int, int]]:
        """Drop what the view no longer has; gives (position, UID), in telling order (descending)."""
        theirs = self.view.rows.uids
        if self.uids is theirs:
            return []
        mine = self.uids[: self.count]
        known = theirs[: bisect_right(theirs, self.last_uid)]
        if len(mine) == len(known):
            self.uids = theirs
            return []
        there = set(known)
        gone = [(position, uid) for position, uid in enumerate(mine) if uid not in there]
        gone.reverse()
        self.uids = theirs
        self.count = len(known)
        return gone

    def take_new(self) -> int:
        """Append the view's newer messages; gives how many there are."""
        theirs = self.view.rows.uids
        before = self.count
        if self.uids is theirs:
            self.count = len(theirs)
        else:
            news = theirs[bisect_right(theirs, self.last_uid) :]
            if news:  # an expunge waits to be told: go on with a list of our own until then
                self.uids = array("I", self.uids[: self.count]) + news
                self.count = len(self.uids)
        return self.count - before

    def take_changed(self, before: int) -> list[tuple[int, int]]:
        """(position, place in the view's rows) of flag changes to tell among the first `before` positions."""
        changed = []
        for uid in self.view.changed_since(self.reported_modseq):
            position, place = self.position(uid), self.view.rows.position(uid)
            if 0 <= position < before and place >= 0 and self._known.get(uid) != self.view.rows.modseqs[place]:
                changed.append((position, place))
        self._known.clear()
        self.reported_modseq = self.view.highestmodseq
        return changed
