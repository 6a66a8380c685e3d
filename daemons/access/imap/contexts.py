"""Searches that are kept up to date: contexts, RFC 5267 §4. What joins or leaves a result is told as it happens.

A context knows the UIDs of its result in the order they were told. Only messages that are new or whose flags changed are
looked at again; so a search whose keys change by themselves (OLDER, YOUNGER) is not kept up to date.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace

from daemons.access.imap import fetching
from daemons.access.imap.results import Item
from daemons.access.imap.searcher import Searcher
from daemons.access.imap.selected import Selected
from daemons.access.imap.session import RefusalError, Session, log
from daemons.access.imap.sorter import in_order
from protocol.imap import response, search
from protocol.imap.fetch import FetchAttribute
from protocol.imap.match import compress
from protocol.imap.ordering import SortCriterion
from protocol.imap.search import SearchKey
from protocol.imap.sequence import SequenceSet, ranges_of
from storage.errors import StorageError


class Context:
    """One search with UPDATE."""

    def __init__(
        self,
        tag: bytes,
        key: SearchKey,
        uids: Iterable[int],
        criteria: Sequence[SortCriterion],
        *,
        is_uid: bool,
        attributes: tuple[FetchAttribute, ...] = (),
    ) -> None:
        self.tag = tag
        self.key = key
        self.uids = array("I", uids)  # in the order of the result
        self.criteria = criteria  # () means mailbox order
        self.is_uid = is_uid
        self.attributes = attributes  # fetched of new messages that join, RFC 5465 §7

    def __repr__(self) -> str:
        return f"<Context of {len(self.uids)} messages>"


class Contexts:
    """The contexts of one session's selected mailbox; they end with it."""

    def __init__(self, session: Session, selected: Selected) -> None:
        self._session = session
        self._selected = selected
        self._held: dict[bytes, Context] = {}
        self._last_uid = selected.last_uid  # messages up to this one have been looked at
        self._modseq = selected.reported_modseq  # and changes up to this one

    def add(self, context: Context) -> None:
        """Keep a result up to date from now on, unless there are too many or the keys cannot be (RFC 5267 §4.3)."""
        if search.mentions(context.key, search.Older, search.Younger):
            text = "OLDER and YOUNGER change by themselves"
        elif len(self._held) >= self._session.shared.settings.search_contexts and context.tag not in self._held:
            text = "too many contexts"
        else:
            context.key = settled(context.key, self._selected)
            self._held[context.tag] = context
            return
        self._session.put(response.noupdate(context.tag, text))

    def cancel(self, tags: Sequence[bytes]) -> None:
        """CANCELUPDATE, RFC 5267 §4.5. BAD when one of the tags is none of a context."""
        if not self._held.keys() >= set(tags):
            raise RefusalError.bad("no such context")
        for tag in tags:
            del self._held[tag]

    def tell_expunged(self) -> None:
        """Before EXPUNGE is told: REMOVEFROM with the numbers that still count (RFC 5267 §4.3.2)."""
        if not self._held or self._selected.uids is self._selected.view.rows.uids:
            return
        there = frozenset(self._selected.view.rows.uids)
        for context in self._held.values():
            self._remove(context, {uid for uid in context.uids if uid not in there})

    async def tell_changed(self) -> None:
        """After all else has been told: what joined and left by new flags or as new messages."""
        selected = self._selected
        if not self._held:
            self._modseq, self._last_uid = selected.view.highestmodseq, selected.last_uid
            return
        modseq, last_uid = selected.view.highestmodseq, selected.last_uid
        changed = set(selected.view.changed_since(self._modseq))
        if not changed and last_uid == self._last_uid:
            return
        searcher = Searcher(self._session, selected)
        uids = searcher.rows.uids
        among = [
            at for at, place in enumerate(searcher.places) if uids[place] > self._last_uid or uids[place] in changed
        ]
        before, self._modseq, self._last_uid = self._last_uid, modseq, last_uid
        for context in tuple(self._held.values()):
            try:
                await self._update(context, searcher, among, before)
            except StorageError as error:
                log.warning("a search is not kept up to date any more", reason=str(error))
                del self._held[context.tag]
                self._session.put(response.noupdate(context.tag, "the result cannot be kept up to date"))

    async def _update(self, context: Context, searcher: Searcher, among: Sequence[int], before: int) -> None:
        uids, places = searcher.rows.uids, searcher.places
        found = {uids[places[at]]: at for at in await searcher.match(context.key, among)}
        known = set(context.uids)
        self._remove(context, {uid for at in among if (uid := uids[places[at]]) in known and uid not in found})
        joined = found.keys() - known
        if not joined:
            return
        if context.attributes:  # before ESEARCH, and not for what has joined by its flags (RFC 5465 §7)
            news = [self._selected.position(uid) for uid in sorted(joined) if uid > before]
            await fetching.tell(self._session, [(at, at + 1) for at in news], context.attributes)
        if not context.criteria:
            context.uids = array("I", sorted([*context.uids, *joined]))
            self._tell(context, b"ADDTO", [(0, sorted(joined))])
            return
        members = known & set(context.uids) | joined
        there = [at for at, place in enumerate(places) if uids[place] in members]
        order = await in_order(self._session, searcher, there, context.criteria)
        context.uids = array("I", [uids[places[at]] for at in order])
        # Told in ascending order, each at the position it has in the end.
        self._tell(context, b"ADDTO", _runs([(at, uid) for at, uid in enumerate(context.uids, 1) if uid in joined]))

    def _remove(self, context: Context, gone: set[int]) -> None:
        if not gone:
            return
        if context.criteria:  # the last one first, so that the positions of the others stay
            removed = [(at, [uid]) for at, uid in enumerate(context.uids, 1) if uid in gone]
            self._tell(context, b"REMOVEFROM", removed[::-1])
        else:
            self._tell(context, b"REMOVEFROM", [(0, sorted(gone))])
        context.uids = array("I", [uid for uid in context.uids if uid not in gone])

    def _tell(self, context: Context, name: bytes, changes: Iterable[tuple[int, list[int]]]) -> None:
        """context-position and sequence-set in pairs, RFC 5267 §5; position 0 means mailbox order."""
        selected = self._selected
        words: list[bytes] = []
        for position, uids in changes:
            numbers = uids if context.is_uid else [selected.position(uid) + 1 for uid in uids]
            words.append(b"%d %b" % (position, compress(numbers)))
        item: Item = (name, response.parenthesized(words))
        self._session.put(response.esearch_line(context.tag, context.is_uid, [item]))


def _runs(placed: Sequence[tuple[int, int]]) -> list[tuple[int, list[int]]]:
    """Neighbours with ascending UIDs as one set: it reads the same whether its order counts or not."""
    runs: list[tuple[int, list[int]]] = []
    for position, uid in placed:
        if runs and runs[-1][0] + len(runs[-1][1]) == position and runs[-1][1][-1] < uid:
            runs[-1][1].append(uid)
        else:
            runs.append((position, [uid]))
    return runs


def settled(key: SearchKey, selected: Selected) -> SearchKey:
    """The key with sequence numbers and "$" as the UIDs they mean now: both will mean others later."""
    match key:
        case search.And(keys):
            return search.And(tuple(settled(part, selected) for part in keys))
        case search.Or(left, right):
            return search.Or(settled(left, selected), settled(right, selected))
        case search.Not(inner):
            return search.Not(settled(inner, selected))
        case search.Fuzzy(inner):
            return search.Fuzzy(settled(inner, selected))
        case search.SequenceNumbers(sequence):
            return search.Uids(_uids_of(sequence, selected, is_uid=False))
        case search.Uids(sequence) if sequence.is_saved:
            return search.Uids(_uids_of(sequence, selected, is_uid=True))
    return key


def _uids_of(sequence: SequenceSet, selected: Selected, *, is_uid: bool) -> SequenceSet:
    ranges = selected.ranges(sequence, is_uid=is_uid)
    found = ranges_of(selected.uids_at((start, min(end, selected.count)) for start, end in ranges))
    return replace(sequence, ranges=tuple(found), is_saved=False)
