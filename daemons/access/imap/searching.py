"""SEARCH and UID SEARCH, RFC 3501 §6.4.4.

The tree of keys narrows a list of candidates, cheap keys first: what the view knows, then header fields kept at intake,
then whole headers, then bodies. AND stays AND and OR stays OR; a message that is gone matches nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime

from daemons.access.imap.matching import Matcher
from daemons.access.imap.selected import Selected
from daemons.access.imap.selecting import chosen
from daemons.access.imap.session import Completion, RefusalError, Session
from daemons.access.imap.storing import message_ranges
from protocol.imap import command, response, search
from protocol.imap.flags import SYSTEM_FLAGS
from protocol.imap.search import SearchKey
from protocol.imap.sequence import SequenceSet
from protocol.message.header import CACHED_FIELDS

_VIEW, _CACHED, _HEADER, _BODY = range(4)  # what a key costs, by order of magnitude


async def find(session: Session, asked: command.Search) -> Completion:
    """SEARCH."""
    if asked.returns is not None:
        raise RefusalError.bad("ESEARCH is not offered")
    selected = chosen(session)
    searcher = Searcher(session, selected)
    found = await searcher.match(asked.key, range(len(searcher.places)))
    if asked.is_uid:
        uids = searcher.rows.uids
        session.put(response.search_line(uids[searcher.places[at]] for at in found))
        return Completion("searched")
    session.put(response.search_line(searcher.positions[at] + 1 for at in found))
    if len(searcher.positions) < selected.count:
        return Completion("searched, but some of the messages are gone", b"EXPUNGEISSUED")
    return Completion("searched")


def cost(key: SearchKey) -> int:
    """How much one message costs."""
    match key:
        case search.And(keys):
            return max(map(cost, keys), default=_VIEW)
        case search.Or(left, right):
            return max(cost(left), cost(right))
        case search.Not(inner):
            return cost(inner)
        case search.SentBefore() | search.SentOn() | search.SentSince():
            return _CACHED
        case search.Header(name, _):
            return _CACHED if name in CACHED_FIELDS else _HEADER
        case search.Body() | search.Text():
            return _BODY
        case _:
            return _VIEW


class Searcher:
    """One search. Candidates are indices into `positions` and `places`, always ascending."""

    def __init__(self, session: Session, selected: Selected) -> None:
        self.rows = selected.view.rows
        self.positions, self.places = selected.rows_at(self.rows, 0, selected.count)
        self._selected = selected
        self._matcher = Matcher(session, self.rows)
        self._now = datetime.now(UTC).timestamp()

    async def match(self, key: SearchKey, among: Sequence[int]) -> Sequence[int]:
        """Those of the candidates that match. Raises RefusalError, StorageError."""
        if not among:
            return among
        match key:
            case search.All():
                return among
            case search.And(keys):
                for part in sorted(keys, key=cost):
                    among = await self.match(part, among)
                return among
            case search.Or(left, right):
                first, second = sorted((left, right), key=cost)
                found = await self.match(first, among)
                return sorted([*found, *await self.match(second, _without(among, found))])
            case search.Not(inner):
                return _without(among, await self.match(inner, among))
            case search.SentBefore(day):
                return await self._sent(lambda sent: sent < day, among)
            case search.SentOn(day):
                return await self._sent(lambda sent: sent == day, among)
            case search.SentSince(day):
                return await self._sent(lambda sent: sent >= day, among)
            case search.Header(name, text):
                return await self._texts(among, lambda places: self._matcher.with_header(name, text, places))
            case search.Body(text):
                return await self._texts(among, lambda places: self._matcher.with_text(text, places, in_header=False))
            case search.Text(text):
                return await self._texts(among, lambda places: self._matcher.with_text(text, places, in_header=True))
            case _:
                return self._in_view(key, among)

    def _in_view(self, key: SearchKey, among: Sequence[int]) -> Sequence[int]:
        """Keys that the view answers by itself."""
        selected, rows = self._selected, self.rows
        match key:
            case search.HasFlag(flag):
                return self._of_kinds(self._kinds_with(flag), among)
            case search.Recent():
                return self._where(lambda place: selected.is_recent(rows.uids[place]), among)
            case search.SequenceNumbers(sequence):
                return self._in_set(sequence, among, is_uid=False)
            case search.Uids(sequence):
                return self._in_set(sequence, among, is_uid=True)
            case search.Before(day):
                return self._dated(None, _start_of(day), among)
            case search.On(day):
                return self._dated(_start_of(day), _start_of(day) + 86400, among)
            case search.Since(day):
                return self._dated(_start_of(day), None, among)
            case search.Older(seconds):
                return self._dated(None, self._now - seconds + 1, among)
            case search.Younger(seconds):
                return self._dated(self._now - seconds, None, among)
            case search.Larger(size):
                return self._where(lambda place: rows.sizes[place] > size, among)
            case search.Smaller(size):
                return self._where(lambda place: rows.sizes[place] < size, among)
            case _:
                raise RefusalError.bad("CONDSTORE is not offered")

    def _where(self, is_wanted: Callable[[int], bool], among: Sequence[int]) -> list[int]:
        places = self.places
        return [at for at in among if is_wanted(places[at])]

    def _kinds_with(self, flag: bytes) -> frozenset[int]:
        table = self.rows.table
        bit = SYSTEM_FLAGS.get(flag)
        return table.kinds_with(bit) if bit is not None else table.kinds_with_keyword(flag.decode("ascii"))

    def _of_kinds(self, kinds: frozenset[int], among: Sequence[int]) -> list[int]:
        column, places = self.rows.kinds, self.places
        return [at for at in among if column[places[at]] in kinds] if kinds else []

    def _dated(self, start: float | None, end: float | None, among: Sequence[int]) -> list[int]:
        dates, places = self.rows.dates, self.places
        low = -(2**63) if start is None else start
        high = 2**63 if end is None else end
        return [at for at in among if low <= dates[places[at]] < high]

    def _in_set(self, sequence: SequenceSet, among: Sequence[int], *, is_uid: bool) -> list[int]:
        ranges = message_ranges(self._selected, sequence, is_uid=is_uid)
        wanted = {position for start, end in ranges for position in range(start, end)}
        return [at for at in among if self.positions[at] in wanted]

    async def _sent(self, is_wanted: Callable[[date], bool], among: Sequence[int]) -> list[int]:
        places = [self.places[at] for at in among]
        days = await self._matcher.sent_days(places)
        return [at for at, place in zip(among, places, strict=True) if place in days and is_wanted(days[place])]

    async def _texts(self, among: Sequence[int], finder: Callable[[list[int]], Awaitable[set[int]]]) -> list[int]:
        places = [self.places[at] for at in among]
        found = await finder(places)
        return [at for at, place in zip(among, places, strict=True) if place in found]


def _without(among: Sequence[int], found: Sequence[int]) -> list[int]:
    taken = set(found)
    return [at for at in among if at not in taken]


def _start_of(day: date) -> float:
    """INTERNALDATE is told in UTC, so its days are UTC's."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
