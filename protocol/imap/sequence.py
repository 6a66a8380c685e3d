"""Sequence sets, RFC 3501 §9 "sequence-set": of message sequence numbers or UIDs, "*" not yet resolved."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocol.imap.cursor import Cursor, expect_number


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """The ranges as the client wrote them: (low, high), either end None for "*", reversed ones as they came."""

    ranges: tuple[tuple[int | None, int | None], ...]
    is_saved: bool = False  # "$", the saved search result of RFC 5182 §2.1; ranges is then empty

    def resolve(self, maximum: int) -> list[tuple[int, int]]:
        """Ascending, disjoint, non-adjacent (low, high) pairs, with `maximum` (the greatest in use) for "*".

        Numbers above maximum stay in: whether they are an error (sequence numbers) or not (UIDs) is the caller's to say.
        In an empty mailbox (maximum 0) a range with "*" names nothing. "9:*" with maximum 5 is 5:9 (RFC 3501 §9).
        """
        pairs = []
        for first, last in self.ranges:
            if maximum == 0 and (first is None or last is None):
                continue
            low = maximum if first is None else first
            high = maximum if last is None else last
            pairs.append((low, high) if low <= high else (high, low))
        return _merged(pairs)

    @property
    def highest(self) -> int:
        """The greatest number written out, 0 if only "*" stands there: a sequence number above the count is a BAD."""
        return max((end for ends in self.ranges for end in ends if end is not None), default=0)


def _merged(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if len(pairs) < 2:
        return pairs
    pairs.sort()
    merged = [pairs[0]]
    for low, high in pairs:
        last_low, last_high = merged[-1]
        if low > last_high + 1:
            merged.append((low, high))
        elif high > last_high:
            merged[-1] = (last_low, high)
    return merged


def ranges_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (low, high) pairs."""
    found: list[tuple[int, int]] = []
    low = high = -1
    for number in numbers:
        if number != high + 1 or low < 0:
            if low >= 0:
                found.append((low, high))
            low = number
        high = number
    if low >= 0:
        found.append((low, high))
    return found


def render_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    """`1:3,7` for (1, 3), (7, 7)."""
    return b",".join([b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in ranges])


def absent(ranges: Iterable[tuple[int, int]], numbers: Sequence[int]) -> list[tuple[int, int]]:
    """What of resolved ranges is not among ascending `numbers`."""
    found = []
    for low, high in ranges:
        for number in numbers[bisect_left(numbers, low) : bisect_right(numbers, high)]:
            if low < number:
                found.append((low, number - 1))
            low = number + 1
        if low <= high:
            found.append((low, high))
    return found


def positions(ranges: Iterable[tuple[int, int]], numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Where resolved ranges lie in ascending `numbers`: half-open (start, end) index pairs, none empty."""
    found = []
    for low, high in ranges:
        start = bisect_left(numbers, low)
        end = bisect_right(numbers, high, start)
        if start < end:
            found.append((start, end))
    return found


# sequence-set = (seq-number / seq-range) *("," sequence-set)
# seq-range    = seq-number ":" seq-number
# seq-number   = nz-number / "*"
# sequence-set =/ seq-last-command, seq-last-command = "$"   (RFC 5182 §3)
def sequence_set(cursor: Cursor) -> SequenceSet:
    """Expect a sequence set."""
    start = cursor.position
    written = cursor.take_while_set()
    if written is None:
        cursor.fail("a sequence set")
    if written == b"$":
        return _SAVED
    parts = written.split(b",")
    if len(parts) > cursor.limits.set_ranges:
        cursor.refuse("too many ranges in the sequence set")
    ranges: list[tuple[int | None, int | None]] = []
    for part in parts:
        first, colon, last = part.partition(b":")
        low = _seq_number(cursor, first, start)
        ranges.append((low, _seq_number(cursor, last, start) if colon else low))
    return SequenceSet(tuple(ranges))


def _seq_number(cursor: Cursor, digits: bytes, start: int) -> int | None:
    if digits == b"*":
        return None
    if digits.isdigit() and digits[0] != 0x30 and len(digits) <= 10:
        number = int(digits)
        if number <= 0xFFFFFFFF:
            return number
    cursor.position = start
    return cursor.fail("a sequence set")


# partial-range       = partial-range-first / partial-range-last        (RFC 9394 §4)
# partial-range-first = nz-number ":" nz-number
# partial-range-last  = MINUS nz-number ":" MINUS nz-number
def partial_range(cursor: Cursor) -> tuple[int, int]:
    """Two positions counted from 1, the lower one first; negative ones count from the end, -1 being the last."""
    is_from_end = cursor.take(b"-")
    first = expect_number(cursor, "a range of positions", least=1)
    cursor.expect(b":")
    if is_from_end:
        cursor.expect(b"-")
    last = expect_number(cursor, "a range of positions", least=1)
    low, high = min(first, last), max(first, last)
    return (-low, -high) if is_from_end else (low, high)


_SAVED = SequenceSet((), is_saved=True)
