"""Messages in the order of sort keys: SORT (RFC 5256 §3), SORT=DISPLAY (RFC 5957 §3), RELEVANCY (RFC 6203 §5); and in threads."""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from typing import TypeVar

from daemons.access.imap.searcher import Searcher
from daemons.access.imap.session import Session
from daemons.access.imap.sortkeys import NO_DATE, SortKeys
from protocol.imap.ordering import SortCriterion
from protocol.message.threads import ALGORITHMS, Messages, render

_TEXTS = {
    b"SUBJECT": "subject",
    b"FROM": "sender",
    b"TO": "to",
    b"CC": "cc",
    b"DISPLAYFROM": "display_from",
    b"DISPLAYTO": "display_to",
}
_KEPT = _TEXTS.keys() | {b"DATE"}  # the others come from the view
_INLINE = 20_000  # messages; more are worked on aside, so that the process's other sessions have their turn

Result = TypeVar("Result")


async def in_order(
    session: Session, searcher: Searcher, found: Sequence[int], criteria: Sequence[SortCriterion]
) -> list[int]:
    """What was found, sorted; what is gone meanwhile is left out. Raises StorageError."""
    keys, rows = SortKeys(), list[int]()
    if any(criterion.key in _KEPT for criterion in criteria):
        keys, found, rows = await _known(session, searcher, found)
    return await _done(len(found), lambda: _sorted(searcher, keys, found, rows, criteria))


async def in_threads(
    session: Session, searcher: Searcher, found: Sequence[int], algorithm: bytes, *, is_uid: bool
) -> bytes:
    """The thread-lists of what was found; what is gone meanwhile is left out. Raises StorageError."""
    keys, found, rows = await _known(session, searcher, found)
    uids = array("I", [searcher.rows.uids[searcher.places[at]] for at in found])
    numbers = uids if is_uid else array("I", [searcher.positions[at] + 1 for at in found])

    def make() -> bytes:
        return render(ALGORITHMS[algorithm](_messages(searcher, keys, found, rows)), numbers)

    # A thread depends on nothing that can change: the same messages make the same threads.
    messages = uids.tobytes() + numbers.tobytes()
    return await _done(len(found), lambda: keys.remembered((algorithm, is_uid), messages, make))


async def _done(count: int, work: Callable[[], Result]) -> Result:
    return work() if count <= _INLINE else await asyncio.to_thread(work)


async def _known(
    session: Session, searcher: Searcher, found: Sequence[int]
) -> tuple[SortKeys, Sequence[int], list[int]]:
    """The mailbox's keys, the messages that have some, and for each the row of its keys."""
    column, places = searcher.rows.contents, searcher.places
    contents = [column[places[at]] for at in found]
    keys = session.shared.sort_keys.of(searcher.selected.view)
    await keys.load(session.shared.context.pool, contents)
    rows = list(map(keys.index.get, contents))
    if None in rows:  # expunged a moment ago, and swept
        found = [at for at, row in zip(found, rows, strict=True) if row is not None]
    return keys, found, [row for row in rows if row is not None]


def _sorted(
    searcher: Searcher, keys: SortKeys, found: Sequence[int], rows: list[int], criteria: Sequence[SortCriterion]
) -> list[int]:
    """The last criterion first: sorting is stable, in reverse as well, so that ties stay in mailbox order."""
    order = list(range(len(found)))
    for criterion in reversed(criteria):
        column = _column(searcher, keys, found, rows, criterion.key)
        order.sort(key=column.__getitem__, reverse=criterion.is_reverse)
    return [found[at] for at in order]


def _column(searcher: Searcher, keys: SortKeys, found: Sequence[int], rows: list[int], key: bytes) -> Sequence[int]:
    """A number for each message found, that stands for its sort key."""
    places = searcher.places
    if key in _TEXTS:
        return list(map(keys.ranks(_TEXTS[key]).__getitem__, rows))
    if key == b"DATE":
        return _sent(searcher, keys, found, rows)
    if key == b"RELEVANCY":
        return [-searcher.score(at) for at in found]  # the best comes first
    column = searcher.rows.sizes if key == b"SIZE" else searcher.rows.dates
    return [column[places[at]] for at in found]


def _sent(searcher: Searcher, keys: SortKeys, found: Sequence[int], rows: list[int]) -> list[int]:
    """The sent date, RFC 5256 §2.2: INTERNALDATE where no Date field says when."""
    sent = list(map(keys.sent.__getitem__, rows))
    if NO_DATE in sent:
        dates, places = searcher.rows.dates, searcher.places
        sent = [dates[places[at]] if date == NO_DATE else date for at, date in zip(found, sent, strict=True)]
    return sent


def _messages(searcher: Searcher, keys: SortKeys, found: Sequence[int], rows: list[int]) -> Messages:
    dates, places = searcher.rows.dates, searcher.places
    return Messages(
        _sent(searcher, keys, found, rows),
        [dates[places[at]] for at in found],
        list(map(keys.texts["subject"].__getitem__, rows)),
        list(map(keys.replies.__getitem__, rows)),
        list(map(keys.message_ids.__getitem__, rows)),
        list(map(keys.references.__getitem__, rows)),
    )
