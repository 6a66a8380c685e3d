"""What a client that comes back has missed, RFC 7162 §3.2: VANISHED (EARLIER), and which messages have changed.

The table of expunges is trimmed by the keeper. Where it does not reach back far enough, every UID that is not there counts
as vanished, which the client can take as well (§3.2.5.2), but for those the client's matching numbers prove to be there.
"""

from bisect import bisect_right
from collections.abc import Iterable

from daemons.access.imap.selected import Range, Selected
from daemons.access.imap.session import RefusalError, Session
from protocol.imap import response
from protocol.imap.modifiers import Resync
from protocol.imap.sequence import SequenceSet, absent, positions, ranges_of
from storage import messages

_BATCH = 1000  # responses between two looks at how much waits to be sent


def check(session: Session, wanted: Resync) -> None:
    """BAD for parameters that may not stand here."""
    if not session.has(b"QRESYNC"):
        raise RefusalError.bad("enable QRESYNC first")
    if wanted.matches is not None:
        if session.has(b"UIDONLY"):  # RFC 9586 §3.7
            raise RefusalError("BAD", b"UIDREQUIRED", "no message sequence numbers after UIDONLY")
        numbers, uids = wanted.matches
        if _size(numbers) != _size(uids):
            raise RefusalError.bad("as many sequence numbers as UIDs are needed")


async def vanished(
    session: Session,
    selected: Selected,
    modseq: int,
    among: SequenceSet | None = None,
    matches: tuple[SequenceSet, SequenceSet] | None = None,
) -> list[bytes]:
    """The VANISHED (EARLIER) responses for what was expunged after `modseq`. Raises StorageError.

    What the session still has a sequence number for is left out: its VANISHED is told when it may be.
    """
    if modseq >= selected.reported_modseq:
        return []
    async with session.database() as connection:
        uids = await messages.expunged_since(connection, selected.view.mailbox_id, modseq)
    last = selected.uidnext - 1
    ranges = [(1, last)] if among is None else among.resolve(last)
    if uids is None:
        mine = selected.uids[: selected.count]
        low = _proven(mine, *matches) if matches else 0
        gone = absent([(max(start, low + 1), min(end, last)) for start, end in ranges if min(end, last) > low], mine)
    else:
        gone = ranges_of(
            uid for start, end in positions(ranges, uids) for uid in uids[start:end] if selected.position(uid) < 0
        )
    return response.vanished_ranges(gone)


async def tell_changed(session: Session, selected: Selected, wanted: Resync) -> None:
    """FETCH responses for what has changed since (RFC 7162 §3.2.5.1)."""
    ranges = [(0, selected.count)] if wanted.known_uids is None else selected.uid_positions(wanted.known_uids)
    found = changed_after(selected, ranges, wanted.modseq)
    rows = selected.view.rows
    for start, end in found:
        for at in range(start, end, _BATCH):
            session.tell_flags(zip(*selected.rows_at(rows, at, min(end, at + _BATCH)), strict=True))
            await session.room()


def changed_after(selected: Selected, ranges: Iterable[Range], modseq: int) -> list[Range]:
    """The positions in these ranges whose messages have a MODSEQ above `modseq`; what is gone is left out."""
    if modseq >= selected.view.highestmodseq:
        return []
    rows = selected.view.rows
    found: list[int] = []
    for start, end in ranges:
        at, places = selected.rows_at(rows, start, end)
        modseqs = rows.modseqs
        found.extend([position for position, place in zip(at, places, strict=True) if modseqs[place] > modseq])
    return [(low, high + 1) for low, high in ranges_of(found)]


def _proven(mine: "Iterable[int]", numbers: SequenceSet, uids: SequenceSet) -> int:
    """The highest UID that has the sequence number the client knows it by: nothing has vanished up to it."""
    held = list(mine)
    proven = 0
    for number, uid, length in _pairs(numbers, uids):
        known = range(number, min(number + length, len(held) + 1))
        # the distance of UID and number grows with the number, so those that fit lie together
        end = bisect_right(known, uid - number, key=lambda at: held[at - 1] - at)
        if end and held[known[end - 1] - 1] - known[end - 1] == uid - number:
            proven = max(proven, held[known[end - 1] - 1])
    return proven


def _pairs(numbers: SequenceSet, uids: SequenceSet) -> Iterable[tuple[int, int, int]]:
    """(first number, first UID, how many) of stretches in which both sets go on by one."""
    theirs = iter(uids.resolve(0))
    low, high = 1, 0
    for first, last in numbers.resolve(0):
        at = first
        while at <= last:
            if low > high:
                low, high = next(theirs)
            length = min(last - at, high - low) + 1
            yield at, low, length
            at, low = at + length, low + length


def _size(numbers: SequenceSet) -> int:
    return sum(high - low + 1 for low, high in numbers.resolve(0))
