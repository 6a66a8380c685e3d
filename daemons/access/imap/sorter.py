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
) -> Sequence[int]:
    """What was found, sorted; what is gone meanwhile is left out. Raises StorageError.

    But for RELEVANCY nothing that sorts can change: the same messages have the same order.
    """
    held = session.shared.sort_keys.of(searcher.selected.view)
    kind, messages = tuple(criteria), searcher.column(searcher.rows.uids, found).tobytes()
    order = array("I", held.recall(kind, messages) or b"")
    if not order:
        there, rows = found, list[int]()
        if any(criterion.key in _KEPT for criterion in criteria):
            there, rows = await _known(session, searcher, held, found)
        order = await _done(len(there), lambda: _order(searcher, held, there, rows, criteria))
        if len(there) < len(found):
            return [there[at] for at in order]
        if all(criterion.key != b"RELEVANCY" for criterion in criteria):
            held.keep(kind, messages, order.tobytes())
    return order if isinstance(found, range) and not found.start else [found[at] for at in order]


async def in_threads(
    session: Session, searcher: Searcher, found: Sequence[int], algorithm: bytes, *, is_uid: bool
) -> bytes:
    """The thread-lists of what was found; what is gone meanwhile is left out. Raises StorageError."""
    held = session.shared.sort_keys.of(searcher.selected.view)
    uids = searcher.column(searcher.rows.uids, found)
    numbers = uids if is_uid else array("I", [searcher.positions[at] + 1 for at in found])
    kind, messages = (algorithm, is_uid), uids.tobytes() + numbers.tobytes()
    threads = held.recall(kind, messages)
    if threads is None:
        there, rows = await _known(session, searcher, held, found)
        if len(there) < len(found):
            return await in_threads(session, searcher, there, algorithm, is_uid=is_uid)
        threads = await _done(
            len(found), lambda: render(ALGORITHMS[algorithm](_messages(searcher, held, found, rows)), numbers)
        )
        held.keep(kind, messages, threads)
    return threads


async def _done(count: int, work: Callable[[], Result]) -> Result:
    return work() if count <= _INLINE else await asyncio.to_thread(work)


async def _known(
    session: Session, searcher: Searcher, keys: SortKeys, found: Sequence[int]
) -> tuple[Sequence[int], list[int]]:
    """The messages whose keys are there, all but those swept a moment ago, and for each the row of its keys."""
    contents = searcher.column(searcher.rows.contents, found)
    await keys.load(session.shared.context.pool, contents)
    rows = list(map(keys.index.get, contents))
    if None in rows:
        found = [at for at, row in zip(found, rows, strict=True) if row is not None]
    return found, [row for row in rows if row is not None]


def _order(
    searcher: Searcher, keys: SortKeys, found: Sequence[int], rows: list[int], criteria: Sequence[SortCriterion]
) -> "array[int]":
    """Indices into `found`. The last criterion first: sorting is stable, in reverse as well, so that ties stay in mailbox order."""
    order = list(range(len(found)))
    for criterion in reversed(criteria):
        column = _column(searcher, keys, found, rows, criterion.key)
        order.sort(key=column.__getitem__, reverse=criterion.is_reverse)
    return array("I", order)


def _column(searcher: Searcher, keys: SortKeys, found: Sequence[int], rows: list[int], key: bytes) -> Sequence[int]:
    """A number for each message found, that stands for its sort key."""
    if key in _TEXTS:
        return list(map(keys.ranks(_TEXTS[key]).__getitem__, rows))
    if key == b"DATE":
        return _sent(searcher, keys, found, rows)
    if key == b"RELEVANCY":
        return [-searcher.score(at) for at in found]  # the best comes first
    return searcher.column(searcher.rows.sizes if key == b"SIZE" else searcher.rows.dates, found)


def _sent(searcher: Searcher, keys: SortKeys, found: Sequence[int], rows: list[int]) -> list[int]:
    """The sent date, RFC 5256 §2.2: INTERNALDATE where no Date field says when."""
    sent = list(map(keys.sent.__getitem__, rows))
    if NO_DATE in sent:
        arrived = searcher.column(searcher.rows.dates, found)
        sent = [arrival if date == NO_DATE else date for arrival, date in zip(arrived, sent, strict=True)]
    return sent


def _messages(searcher: Searcher, keys: SortKeys, found: Sequence[int], rows: list[int]) -> Messages:
    return Messages(
        _sent(searcher, keys, found, rows),
        searcher.column(searcher.rows.dates, found),
        list(map(keys.texts["subject"].__getitem__, rows)),
        list(map(keys.replies.__getitem__, rows)),
        list(map(keys.message_ids.__getitem__, rows)),
        list(map(keys.references.__getitem__, rows)),
    )
