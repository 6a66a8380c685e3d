"""What is worked out without a server: matching numbers of QRESYNC, parts of ranges, the newest ones of a limit."""

from hypothesis import given
from hypothesis import strategies as st

from daemons.access.imap.limiting import part_of
from daemons.access.imap.resyncing import _proven
from protocol.imap.sequence import SequenceSet, absent, ranges_of

UIDS = st.sets(st.integers(1, 60), min_size=1, max_size=30)


@given(theirs=UIDS, gone=st.sets(st.integers(1, 60)), named=st.sets(st.integers(0, 29), min_size=1))
def test_matching_numbers_prove_no_more_than_is_true(theirs: set[int], gone: set[int], named: set[int]) -> None:
    """Up to the UID that is proven, the client has exactly what is there; the last number that fits is found."""
    client = sorted(theirs)
    mine = [uid for uid in client if uid not in gone]
    numbers = [at + 1 for at in sorted(named) if at < len(client)]
    if not numbers:
        return
    pairs = SequenceSet(tuple(ranges_of(numbers))), SequenceSet(tuple(ranges_of(client[at - 1] for at in numbers)))
    proven = _proven(mine, *pairs)
    assert [uid for uid in client if uid <= proven] == [uid for uid in mine if uid <= proven]
    fitting = [client[at - 1] for at in numbers if at <= len(mine) and mine[at - 1] == client[at - 1]]
    assert proven == max(fitting, default=0)


@given(low=st.integers(1, 60), size=st.integers(0, 20), numbers=UIDS)
def test_absent(low: int, size: int, numbers: set[int]) -> None:
    """What is absent and what is there make up the range."""
    found = [number for start, end in absent([(low, low + size)], sorted(numbers)) for number in range(start, end + 1)]
    assert found == [number for number in range(low, low + size + 1) if number not in numbers]


@given(
    wanted=st.sets(st.integers(0, 50), max_size=30),
    first=st.integers(1, 40),
    size=st.integers(0, 40),
    is_from_end=st.booleans(),
)
def test_parts_of_ranges(wanted: set[int], first: int, size: int, is_from_end: bool) -> None:
    """The n-th to the m-th, from either end, are those of the list written out (RFC 9394 §3.1)."""
    whole = sorted(wanted)
    ranges = [(low, high + 1) for low, high in ranges_of(whole)]
    last = first + size
    partial = (-first, -last) if is_from_end else (first, last)
    found = [position for start, end in part_of(ranges, partial) for position in range(start, end)]
    backwards = whole[::-1][first - 1 : last]
    assert found == (sorted(backwards) if is_from_end else whole[first - 1 : last])
