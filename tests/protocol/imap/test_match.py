"""LIST patterns, by cases and by the time they may take."""

from time import process_time

import pytest

from protocol.imap.match import full_pattern, matcher
from protocol.imap.sequence import SequenceSet


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*", ["INBOX", "a", "a/b/c", ""], []),
        ("%", ["INBOX", "a"], ["a/b"]),
        ("%/%", ["a/b", "INBOX/x"], ["a", "a/b/c"]),
        ("a*", ["a", "ab", "a/b"], ["b", "ba"]),
        ("a/%", ["a/", "a/b"], ["a", "a/b/c"]),
        ("*a", ["a", "b/a", "aa"], ["ab"]),
        ("%*", ["a", "a/b"], []),
        ("*%", ["a", "a/b"], []),
        ("", [""], ["a"]),
        ("inbox", ["INBOX"], ["inbox2", "INBOX/a"]),
        ("inb%", ["INBOX"], ["INBOX/a", "in"]),
        ("Inbox/*", ["INBOX/a", "INBOX/a/b"], ["INBOX", "inboxes/a"]),
        ("INBOX/A", ["INBOX/A"], ["INBOX/a"]),
        ("sent", ["sent"], ["Sent"]),
        ("ü%", ["üb"], ["u"]),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_pattern(pattern: str, matching: list[str], other: list[str]) -> None:
    """`*` crosses levels, `%` does not, INBOX has no case (RFC 3501 §6.3.8, §5.1)."""
    assert [name for name in matching if not matcher(pattern)(name)] == []
    assert [name for name in other if matcher(pattern)(name)] == []


def test_reference() -> None:
    """A pattern is read in its reference's context, unless it begins at the root."""
    assert full_pattern("", "*") == "*"
    assert full_pattern("a/", "%") == "a/%"
    assert full_pattern("a/", "/b") == "/b"


def test_hostile_pattern_is_cheap() -> None:
    """A pattern that makes backtracking explode takes time in proportion to the name only."""
    matches = matcher("*a" * 200 + "b")
    started = process_time()
    assert not matches("a" * 2000)
    assert process_time() - started < 1.0


def test_sets_resolve() -> None:
    """ "*" is the greatest number in use, either end of a range may be it, and overlaps are one range (RFC 3501 §9)."""
    sequence = SequenceSet(((7, 3), (None, 9), (4, 5), (20, None), (11, 11)))
    assert sequence.resolve(10) == [(3, 7), (9, 20)]
    assert sequence.resolve(0) == [(3, 7), (11, 11)]
    assert sequence.highest == 20
    assert SequenceSet(((None, None),)).resolve(5) == [(5, 5)]
    assert SequenceSet(((None, None),)).highest == 0
    assert SequenceSet((), is_saved=True).resolve(5) == []
