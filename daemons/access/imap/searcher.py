"""Search keys, RFC 3501 §6.4.4: which messages of a mailbox match.

The tree of keys narrows a list of candidates, cheap keys first: what the view knows, then header fields kept at intake,
then whole headers, then bodies. AND stays AND and OR stays OR; a message that is gone matches nothing.
"""

from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, date, datetime
from itertools import chain, compress

from daemons.access.imap.matching import Matcher
from daemons.access.imap.reading import facts_of
from daemons.access.imap.selected import Selected
from daemons.access.imap.session import RefusalError, Session
from protocol.imap import search
from protocol.imap.flags import SYSTEM_FLAGS
from protocol.imap.objectid import content_of, thread_id
from protocol.imap.search import SearchKey
from protocol.imap.sequence import SequenceSet
from protocol.message.header import CACHED_FIELDS
from storage import messages

_VIEW, _QUERY, _CACHED, _HEADER, _BODY = range(5)  # what a key costs, by order of magnitude
_FACTS = 1000  # messages whose facts are read at once
_FEW = 64  # ranges up to here are looked for one by one, more in one pass over the messages


def cost(key: SearchKey) -> int:
    """How much one message costs."""
    match key:
        case search.And(keys):
            return max(map(cost, keys), default=_VIEW)
        case search.Or(left, right):
            return max(cost(left), cost(right))
        case search.Not(inner) | search.Fuzzy(inner):
            return cost(inner)
        case search.SavedBefore() | search.SavedOn() | search.SavedSince():
            return _QUERY
        case search.SentBefore() | search.SentOn() | search.SentSince() | search.ThreadId():
            return _CACHED
        case search.Header(name, _):
            return _CACHED if name in CACHED_FIELDS else _HEADER
        case search.Body() | search.Text():
            return _BODY
        case _:
            return _VIEW


def check_cost(session: Session, key: SearchKey) -> None:
    """NO [LIMIT] for more keys beyond the view than one search may have: each may read the whole mailbox."""
    if _costly(key) > session.shared.settings.search_keys:
        raise RefusalError.no(b"LIMIT", "too many keys that read messages")


def _costly(key: SearchKey) -> int:
    match key:
        case search.And(keys):
            return sum(map(_costly, keys))
        case search.Or(left, right):
            return _costly(left) + _costly(right)
        case search.Not(inner) | search.Fuzzy(inner):
            return _costly(inner)
        case _:
            return int(cost(key) > _VIEW)


class Searcher:
    """One search. Candidates are indices into `positions` and `places`, always ascending."""

    def __init__(self, session: Session, selected: Selected, start: int = 0) -> None:
        self.rows = selected.view.rows
        self.positions, self.places = selected.rows_at(self.rows, start, selected.count)
        self.start = start  # positions below are not looked at
        self.limit = session.shared.settings.message_limit
        self.missing = selected.count - start - len(self.positions)  # messages that others have expunged
        self.selected = selected
        self._session = session
        self._matcher = Matcher(session, self.rows, selected.view)
        self._scores: dict[int, int] = {}  # by place, of what fuzzy keys have found
        self._now = datetime.now(UTC).timestamp()

    def column(self, of: "array[int]", found: Sequence[int]) -> "array[int]":
        """What one array of the view has for the messages found."""
        places = self.places
        if isinstance(places, range) and isinstance(found, range):
            return of[places.start + found.start : places.start + found.stop]
        return array(of.typecode, map(of.__getitem__, map(places.__getitem__, found)))

    def score(self, at: int) -> int:
        """How well a message that was found matches, 1 to 100 (RFC 6203 §4); without fuzzy keys all match alike."""
        return self._scores.get(self.places[at], 100)

    async def match(self, key: SearchKey, among: Sequence[int], *, is_fuzzy: bool = False) -> Sequence[int]:
        """Those of the candidates that match. Raises RefusalError, StorageError."""
        if not among:
            return among
        match key:
            case search.All():
                return among
            case search.And(keys):
                for part in sorted(keys, key=cost):
                    among = await self.match(part, among, is_fuzzy=is_fuzzy)
                return among
            case search.Or(left, right):
                first, second = sorted((left, right), key=cost)
                found = await self.match(first, among, is_fuzzy=is_fuzzy)
                rest = await self.match(second, _without(among, found), is_fuzzy=is_fuzzy)
                return sorted([*found, *rest])
            case search.Not(search.HasFlag(flag)):
                others = frozenset(range(len(self.rows.table.sets))) - self._kinds_with(flag)
                return self._of_kinds(others, among)
            case search.Not(inner):
                return _without(among, await self.match(inner, among, is_fuzzy=is_fuzzy))
            case search.Fuzzy(inner):
                return await self.match(inner, among, is_fuzzy=True)
            case search.Header() | search.Body() | search.Text():
                return await self._texts(among, lambda places: self._with_text(key, places, is_fuzzy=is_fuzzy))
            case search.SentBefore(day):
                return await self._sent(lambda sent: sent < day, among)
            case search.SentOn(day):
                return await self._sent(lambda sent: sent == day, among)
            case search.SentSince(day):
                return await self._sent(lambda sent: sent >= day, among)
            case search.SavedBefore(day):
                return await self._saved(None, _start_of(day), among)
            case search.SavedOn(day):
                return await self._saved(_start_of(day), _start_of(day) + 86400, among)
            case search.SavedSince(day):
                return await self._saved(_start_of(day), None, among)
            case search.ThreadId(objectid):
                return await self._texts(among, lambda places: self._in_thread(objectid, places))
            case _:
                await self._matcher.breathe()
                return self._in_view(key, among)

    def _in_view(self, key: SearchKey, among: Sequence[int]) -> Sequence[int]:
        """Keys that the view answers by itself."""
        selected, rows = self.selected, self.rows
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
            case search.ModSeq(modseq):
                return self._where(lambda place: rows.modseqs[place] >= modseq, among)
            case search.EmailId(objectid):
                content = content_of(objectid)
                return self._where(lambda place: rows.contents[place] == content, among)
            case _:
                raise RefusalError.bad("this search key is not known here")

    def _where(self, is_wanted: Callable[[int], bool], among: Sequence[int]) -> list[int]:
        places = self.places
        return [at for at in among if is_wanted(places[at])]

    def _kinds_with(self, flag: bytes) -> frozenset[int]:
        table = self.rows.table
        bit = SYSTEM_FLAGS.get(flag)
        return table.kinds_with(bit) if bit is not None else table.kinds_with_keyword(flag.decode("ascii"))

    def _of_kinds(self, kinds: frozenset[int], among: Sequence[int]) -> Sequence[int]:
        column = self.column(self.rows.kinds, among)
        used = set(column)
        if used.isdisjoint(kinds):
            return []
        return among if used <= kinds else list(compress(among, map(kinds.__contains__, column)))

    def _dated(self, start: float | None, end: float | None, among: Sequence[int]) -> list[int]:
        dates, places = self.rows.dates, self.places
        low = -(2**63) if start is None else start
        high = 2**63 if end is None else end
        return [at for at in among if low <= dates[places[at]] < high]

    def _in_set(self, sequence: SequenceSet, among: Sequence[int], *, is_uid: bool) -> Sequence[int]:
        """Numbers above the count match nothing: RFC 9051 §6.4.4 has them so, and others' tests of RFC 3501 do."""
        ranges = self.selected.ranges(sequence, is_uid=is_uid)
        if len(ranges) > _FEW:
            wanted = {position for start, end in ranges for position in range(start, min(end, self.selected.count))}
            return [at for at in among if self.positions[at] in wanted]
        parts = []
        for start, end in ranges:
            low, high = bisect_left(self.positions, start), bisect_left(self.positions, end)
            parts.append(among[bisect_left(among, low) : bisect_left(among, high)])
        return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))

    async def _sent(self, is_wanted: Callable[[date], bool], among: Sequence[int]) -> list[int]:
        places = [self.places[at] for at in among]
        days = await self._matcher.sent_days(places)
        return [at for at, place in zip(among, places, strict=True) if place in days and is_wanted(days[place])]

    async def _saved(self, start: float | None, end: float | None, among: Sequence[int]) -> list[int]:
        """When a message came into the mailbox stands in the database only; days are UTC's, as INTERNALDATE's are."""
        uids = [self.rows.uids[self.places[at]] for at in among]
        async with self._session.database() as connection:
            saved = await messages.savedates(connection, self.selected.view.mailbox_id, uids[0], uids[-1])
        low = -(2**63) if start is None else start
        high = 2**63 if end is None else end
        return [at for at, uid in zip(among, uids, strict=True) if uid in saved and low <= saved[uid] < high]

    async def _with_text(
        self, key: search.Header | search.Body | search.Text, places: Sequence[int], *, is_fuzzy: bool
    ) -> set[int]:
        if is_fuzzy:
            scores = await self._matcher.fuzzy(key, places)
            for place, score in scores.items():
                self._scores[place] = min(score, self._scores.get(place, 100))
            return set(scores)
        match key:
            case search.Header(name, text):
                return await self._matcher.with_header(name, text, places)
            case search.Body(text):
                return await self._matcher.with_text(text, places, in_header=False)
            case search.Text(text):
                return await self._matcher.with_text(text, places, in_header=True)

    async def _in_thread(self, objectid: bytes, places: Sequence[int]) -> set[int]:
        contents = self.rows.contents
        found: set[int] = set()
        runs = (places[start : start + _FACTS] for start in range(0, len(places), _FACTS))
        pool = self._session.shared.context.pool
        columns = facts_of(pool, runs, lambda run: [contents[place] for place in run], ["header_cache"])
        async with aclosing(columns) as read:
            async for run, facts in read:
                for place in run:
                    content = contents[place]
                    if content in facts and thread_id(facts[content]["header_cache"], content) == objectid:
                        found.add(place)
        return found

    async def _texts(self, among: Sequence[int], finder: Callable[[Sequence[int]], Awaitable[set[int]]]) -> list[int]:
        is_all = len(among) == len(self.places)  # both ascend, without one twice
        places = self.places if is_all else list(map(self.places.__getitem__, among))
        found = await finder(places)
        return list(compress(among, map(found.__contains__, places)))


def _without(among: Sequence[int], found: Sequence[int]) -> list[int]:
    taken = set(found)
    return [at for at in among if at not in taken]


def _start_of(day: date) -> float:
    """INTERNALDATE is told in UTC, so its days are UTC's."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
