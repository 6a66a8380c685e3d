"""SORT, THREAD, ESEARCH, CANCELUPDATE and the return options: what is taken, what is refused, however it is cut."""

from datetime import date

import pytest

from protocol.imap import search
from protocol.imap.command import Command, Search
from protocol.imap.events import Rejected
from protocol.imap.ordering import CancelUpdate, MultiSearch, Sort, SortCriterion, Thread
from protocol.imap.sources import MailboxFilter
from tests.protocol.imap.feeds import read, read_three_ways

ALL = search.All()
ARRIVAL = (SortCriterion(b"ARRIVAL"),)

COMMANDS: list[tuple[bytes, Command]] = [
    (b"a SORT (ARRIVAL) US-ASCII ALL", Sort(b"a", ARRIVAL, ALL, charset="ascii")),
    (
        b"a UID SORT (reverse Date displayfrom) utf-8 SEEN",
        Sort(
            b"a",
            (SortCriterion(b"DATE", True), SortCriterion(b"DISPLAYFROM")),
            search.HasFlag(rb"\Seen"),
            is_uid=True,
            charset="utf_8",
        ),
    ),
    (
        b"a SORT RETURN (PARTIAL 23500:24000 COUNT) (ARRIVAL) UTF-8 ALL",
        Sort(b"a", ARRIVAL, ALL, returns=(b"PARTIAL", b"COUNT"), charset="utf_8", partial=(23500, 24000)),
    ),
    (b"a THREAD references UTF-8 ALL", Thread(b"a", b"REFERENCES", ALL)),
    (b"a UID THREAD REFS us-ascii ALL", Thread(b"a", b"REFS", ALL, is_uid=True)),
    (b"a ESEARCH ALL", MultiSearch(b"a", (), ALL)),
    (
        b'a ESEARCH IN (mailboxes "folder1" subtree (a b) personal) RETURN (COUNT) CHARSET UTF-8 ALL',
        MultiSearch(
            b"a",
            (
                MailboxFilter(b"MAILBOXES", ("folder1",)),
                MailboxFilter(b"SUBTREE", ("a", "b")),
                MailboxFilter(b"PERSONAL"),
            ),
            ALL,
            (b"COUNT",),
            "utf_8",
        ),
    ),
    (b"a ESEARCH IN (subtree-one x) ALL", MultiSearch(b"a", (MailboxFilter(b"SUBTREE-ONE", ("x",)),), ALL)),
    (b'a CANCELUPDATE "B01" "B02" "B01"', CancelUpdate(b"a", (b"B01", b"B02"))),
    (b"a SEARCH RETURN (PARTIAL -1:-100) ALL", Search(b"a", ALL, returns=(b"PARTIAL",), partial=(-1, -100))),
    (b"a SEARCH RETURN (PARTIAL 4:2 MIN) ALL", Search(b"a", ALL, returns=(b"PARTIAL", b"MIN"), partial=(2, 4))),
    (b"a SEARCH RETURN (UPDATE CONTEXT) ALL", Search(b"a", ALL, returns=(b"UPDATE", b"CONTEXT"))),
    (b"a SEARCH SAVEDBEFORE 1-Jan-2026", Search(b"a", search.SavedBefore(date(2026, 1, 1)))),
    (b"a SEARCH SAVEDON 1-Jan-2026", Search(b"a", search.SavedOn(date(2026, 1, 1)))),
    (b"a SEARCH SAVEDSINCE 1-Jan-2026", Search(b"a", search.SavedSince(date(2026, 1, 1)))),
    (b"a SEARCH SAVEDATESUPPORTED", Search(b"a", ALL)),
    (b"a SEARCH EMAILID M1f", Search(b"a", search.EmailId(b"M1f"))),
    (b"a SEARCH THREADID T-1_a", Search(b"a", search.ThreadId(b"T-1_a"))),
    (b"a SEARCH FUZZY (SUBJECT x ALL)", Search(b"a", search.Fuzzy(search.And((search.Header(b"SUBJECT", "x"), ALL))))),
]


@pytest.mark.parametrize(("octets", "command"), COMMANDS, ids=[repr(octets)[2:40] for octets, _ in COMMANDS])
def test_command(octets: bytes, command: Command) -> None:
    """The octets of one command give that command, however they are cut."""
    assert read_three_ways(octets + b"\r\n") == [command]


@pytest.mark.parametrize(
    "octets",
    [
        b"SORT () UTF-8 ALL",
        b"SORT (REVERSE) UTF-8 ALL",
        b"SORT (MOOD) UTF-8 ALL",
        b"SORT ARRIVAL UTF-8 ALL",
        b"THREAD WHATEVER UTF-8 ALL",
        b"THREAD REFERENCES UTF-8",
        b"UID ESEARCH ALL",
        b"ESEARCH IN () ALL",
        b"ESEARCH IN (selected-delayed) ALL",
        b"ESEARCH IN (mailboxes) ALL",
        b"ESEARCH IN (personal (scope)) ALL",
        b"CANCELUPDATE",
        b"CANCELUPDATE B01",
        b"SEARCH RETURN (PARTIAL 1) ALL",
        b"SEARCH RETURN (PARTIAL 1:*) ALL",
        b"SEARCH RETURN (PARTIAL *:1) ALL",
        b"SEARCH RETURN (PARTIAL 1:-2) ALL",
        b"SEARCH RETURN (PARTIAL 0:2) ALL",
        b"SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL",
        b"SEARCH RETURN (ALL PARTIAL 1:2) ALL",
        b"SEARCH RETURN (EVERYTHING) ALL",
        b"SEARCH EMAILID a.b",
        b"SEARCH FUZZY",
    ],
)
def test_refused(octets: bytes) -> None:
    """What the grammar does not have is a BAD."""
    (refused,) = read(b"a " + octets + b"\r\n")
    assert isinstance(refused, Rejected)
    assert refused.status == "BAD"


def test_unknown_charset() -> None:
    """SORT and THREAD name a charset, and one that is not known is NO [BADCHARSET] (RFC 5256 §3)."""
    for octets in (b"a SORT (DATE) KLINGON ALL\r\n", b"a THREAD REFS KLINGON ALL\r\n"):
        (refused,) = read(octets)
        assert isinstance(refused, Rejected)
        assert refused.status == "NO"
        assert (refused.code or b"").startswith(b"BADCHARSET (")
