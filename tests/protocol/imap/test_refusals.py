"""What is refused and with which words: the exact text of every refusal, fed three ways."""

import pytest

from protocol.imap.command import Noop
from protocol.imap.criteria import BADCHARSET
from protocol.imap.events import AppendMessage, AppendStarts, Continue, Rejected
from protocol.imap.limits import Limits
from tests.protocol.imap.feeds import read, read_three_ways

REFUSED = [
    (b"(((", "expected a tag at octet 1"),
    (b"+ OK", "expected a tag at octet 1"),
    (b" NOOP", "expected a tag at octet 1"),
    (b"a", "expected a space at octet 2"),
    (b"a ", "expected a command at octet 3"),
    (b"a \xff", "expected a command at octet 3"),
    (b"a BOGUS", "unknown command"),
    (b"a GET / HTTP/1.1", "unknown command"),
    (b"a UID BOGUS 1", "unknown command"),
    (b"a UID", "expected a space at octet 6"),
    (b"a LOGOUT now", "expected the end of the command at octet 9"),
    (b"a NOOP\r", "expected the end of the command at octet 7"),
    (b"a LOGIN alice", "expected a space at octet 14"),
    (b"a LOGIN  ", "expected a user name at octet 10"),
    (b'a LOGIN "alice', "expected a user name at octet 9"),
    (rb'a LOGIN "DOMAIN\alice" x', "expected a user name at octet 9"),
    (b'a LOGIN alice "a\0b"', "expected a password at octet 15"),
    (b"a LOGIN alice {3+}\r\na\0b", "NUL in a literal"),
    (b"a LOGIN alice ~{3+}\r\nabc", "expected a string that is no literal8 at octet 15"),
    (b"a AUTHENTICATE", "expected a space at octet 15"),
    (b"a AUTHENTICATE PLAIN !", "expected base64"),
    (b"a AUTHENTICATE PLAIN AGE", "expected base64"),
    (b"a ID", "expected a space at octet 5"),
    (b"a ID x", "expected a string or NIL at octet 6"),
    (b'a ID "x"', "expected an ID parameter list at octet 9"),
    (b'a ID ("name")', "expected a space at octet 13"),
    (b"a ID (" + b" ".join([b'"a" "b"'] * 31) + b")", "too many ID parameters"),
    (b'a ID ("a" "' + b"x" * 1025 + b'")', "ID parameter too long"),
    (b"a ENABLE", "expected a space at octet 9"),
    (b"a SELECT", "expected a space at octet 9"),
    (b"a SELECT A (BOGUS)", "expected a SELECT parameter at octet 13"),
    (b"a SELECT A ()", "expected a SELECT parameter at octet 13"),
    (b"a SELECT \xff", "mailbox name is neither modified UTF-7 nor UTF-8"),
    (b"a SELECT &AAA-", "NUL in a mailbox name"),
    (b"a SELECT A*", "expected a space at octet 11"),
    (b"a CREATE A (BOGUS ())", "expected USE at octet 13"),
    (b"a CREATE A (USE (Sent))", "expected '\\' at octet 18"),
    (b"a RENAME A", "expected a space at octet 11"),
    (b'a LIST ""', "expected a space at octet 10"),
    (b'a LIST (BOGUS) "" *', "expected a LIST selection option at octet 9"),
    (b'a LIST (RECURSIVEMATCH REMOTE) "" *', "RECURSIVEMATCH needs SUBSCRIBED"),
    (b'a LIST (SPECIAL-USE RECURSIVEMATCH) "" *', "RECURSIVEMATCH needs SUBSCRIBED"),
    (b'a LIST "" ()', "expected a mailbox pattern at octet 12"),
    (b'a LIST "" * RETURN (BOGUS)', "expected a LIST return option at octet 21"),
    (b'a LIST "" * BOGUS', "expected RETURN at octet 13"),
    (b"a STATUS A ()", "expected a STATUS item at octet 13"),
    (b"a STATUS A (MESSAGES,UNSEEN)", "expected a space at octet 21"),
    (b"a APPEND A", "expected a space at octet 11"),
    (b'a APPEND A "hello"', "expected a date-time at octet 12"),
    (b'a APPEND A "31-Feb-2024 00:00:00 +0000" {1+}\r\nx', "expected a date-time at octet 12"),
    (b'a APPEND A "01-Jan-0001 00:00:00 +1400" {1+}\r\nx', "expected a date-time at octet 12"),
    (b'a APPEND A "01-Jan-2024 00:00:61 +0000" {1+}\r\nx', "expected a date-time at octet 12"),
    (b"a FETCH", "expected a space at octet 8"),
    (b"a FETCH 0 FLAGS", "expected a sequence set at octet 9"),
    (b"a FETCH 01 FLAGS", "expected a sequence set at octet 9"),
    (b"a FETCH 1: FLAGS", "expected a sequence set at octet 9"),
    (b"a FETCH 1,,2 FLAGS", "expected a sequence set at octet 9"),
    (b"a FETCH 1:2:3 FLAGS", "expected a sequence set at octet 9"),
    (b"a FETCH 4294967296 FLAGS", "expected a sequence set at octet 9"),
    (b"a FETCH 1 BOGUS", "expected a FETCH attribute at octet 11"),
    (b"a FETCH 1 ()", "expected a FETCH attribute at octet 12"),
    (b"a FETCH 1 (FLAGS", "expected a space at octet 17"),
    (b"a FETCH 1 BODY[0]", "expected a part number at octet 16"),
    (b"a FETCH 1 BODY[MIME]", "expected a section at octet 16"),
    (b"a FETCH 1 BODY[1.]", "expected a section at octet 18"),
    (b"a FETCH 1 BODY[HEADER.FIELDS]", "expected a space at octet 29"),
    (b'a FETCH 1 BODY[HEADER.FIELDS ("")]', "not a header field name"),
    (b"a FETCH 1 BODY[HEADER.FIELDS ({3+}\r\na\r\n)]", "not a header field name"),
    (b"a FETCH 1 BODY[]<0.0>", "expected a partial range at octet 20"),
    (b"a FETCH 1 BODY[]<5>", "expected '.' at octet 19"),
    (b"a FETCH 1 FLAGS (BOGUS 1)", "expected CHANGEDSINCE at octet 18"),
    (b"a FETCH 1 FLAGS (VANISHED VANISHED)", "a modifier stands there twice"),
    (b"a FETCH 1 FLAGS (PARTIAL -1:5)", "expected '-' at octet 29"),
    (b"a SELECT A (QRESYNC (1 1 1:*))", "expected a set of numbers at octet 26"),
    (b"a SELECT A (QRESYNC (1 1) QRESYNC (1 1))", "QRESYNC stands there twice"),
    (b"a SELECT A (QRESYNC (0 1))", "expected a UIDVALIDITY at octet 22"),
    (b"a UIDBATCHES 0", "expected a number of messages at octet 14"),
    (b"a STORE 1 FLAG (x)", "expected FLAGS or FLAGS.SILENT at octet 15"),
    (b"a STORE 1 FLAGS", "expected a space at octet 16"),
    (rb"a STORE 1 FLAGS (\Bogus)", "unknown system flag"),
    ("a STORE 1 FLAGS (ü)".encode(), "expected a flag at octet 20"),
    (b"a STORE 1 FLAGS " + b"k" * 129, "keyword too long"),
    (b"a COPY 1", "expected a space at octet 9"),
    (b"a SEARCH", "expected a space at octet 9"),
    (b"a SEARCH BOGUS", "expected a search key at octet 10"),
    (b"a SEARCH ()", "expected a search key at octet 11"),
    (b"a SEARCH NOT", "expected a space at octet 13"),
    (b"a SEARCH OR ALL", "expected a space at octet 16"),
    (b"a SEARCH SINCE 1-1-2024", "expected a date at octet 16"),
    (b"a SEARCH SINCE 30-Feb-2024", "expected a date at octet 16"),
    (b'a SEARCH SINCE "1-Feb-2024', "expected a date at octet 16"),
    (b"a SEARCH LARGER -1", "expected a number at octet 17"),
    (b"a SEARCH FROM {1+}\r\n\xff", "search string is not in its charset"),
    (b"a SEARCH RETURN (BOGUS) ALL", "expected a SEARCH return option at octet 18"),
    (b'a SEARCH MODSEQ "/flags/x" bogus 1', "expected an entry type at octet 33"),
    (b"a SEARCH KEYWORD \\Seen", "expected a flag at octet 18"),
]


@pytest.mark.parametrize(("octets", "text"), REFUSED, ids=[repr(octets)[2:40] for octets, _ in REFUSED])
def test_refused(octets: bytes, text: str | None) -> None:
    """A command that breaks the grammar is refused with what was expected and where, and the next one is read."""
    events = read_three_ways(octets + b"\r\n")
    rejected = events[-1]
    assert isinstance(rejected, Rejected)
    tag = b"a" if octets.startswith(b"a") else None
    assert rejected == Rejected(tag, "BAD", None, text or "expected the end of the command after the message")


def test_unknown_charset() -> None:
    """A charset that is not known is NO with the list of those that are (RFC 3501 §6.4.4)."""
    for name in (b"X-BOGUS", b"rot13", b"base64", b"os", b"tactis", b"{7+}\r\n../a\xff\x80x"):
        (event,) = read_three_ways(b"a SEARCH CHARSET " + name + b" ALL\r\n")
        assert event == Rejected(b"a", "NO", BADCHARSET, "charset not supported")


def test_strict_refuses_what_lenient_takes() -> None:
    """All leniency hangs on one switch."""
    for octets in (
        b"a NOOP \r\n", b"a  NOOP\r\n", b"a SELECT \xc3\xa4\r\n", b'a LOGIN "\xc3\xa4" x\r\n', b"a NOOP\n",
        b"a FETCH 1 (ALL)\r\n", b'a ID ("a" x)\r\n', b'a ID ("a", "b")\r\n', b"a STATUS A ( MESSAGES )\r\n",
        b'a APPEND A "1-Jan-2024 00:00:00 +0000" {1+}\r\nx\r\n', b"a APPEND A {1+}\r\nx \r\n", b"a SELECT a&b\r\n",
    ):  # fmt: skip
        assert not [event for event in read_three_ways(octets) if isinstance(event, Rejected)], octets
        rejected = read_three_ways(octets, is_strict=True)[-1]
        assert isinstance(rejected, Rejected), octets
        assert rejected.status == "BAD"


SMALL = Limits(
    line_octets=64, literal_octets=16, command_octets=100, append_octets=32, discard_octets=200,
    nesting=3, section_parts=3, list_items=4, set_ranges=3,
)  # fmt: skip
LIMITED = [
    (b"a NOOP " + b" " * 57, None),
    (b"a NOOP " + b" " * 58, "command line too long"),
    (b"a LOGIN x {16+}\r\n" + b"x" * 16, None),
    (b"a LOGIN x {17+}\r\n" + b"x" * 17, "literal too large"),
    (b"a LOGIN x {17}", "literal too large"),
    (b"a LOGIN x {16+}\r\n" + b"x" * 16 + b"{16+}\r\n" + b"x" * 16 + b"{16+}\r\n" + b"x" * 16 + b" " * 30, "command too large"),
    (b"a LOGIN x " + b"{16+}\r\nxxxxxxxxxxxxxxxx" * 4 + b"{16}", "command too large"),
    (b"a SEARCH NOT NOT NOT ALL", None),
    (b"a SEARCH NOT NOT NOT NOT ALL", "nested too deeply"),
    (b"a SEARCH OR OR OR OR ALL", "nested too deeply"),
    (b"a SEARCH ((((ALL", "nested too deeply"),
    (b"a FETCH 1 BODY[1.2.3.4]", "nested too deeply"),
    (b"a SEARCH ALL ALL ALL ALL", None),
    (b"a SEARCH ALL ALL ALL ALL ALL", "too many arguments"),
    (b"a STORE 1 FLAGS (a b c d e)", "too many arguments"),
    (b"a STORE 1 FLAGS a b c d e f", "too many arguments"),
    (b"a ENABLE a b c d e", "too many arguments"),
    (b"a FETCH 1,2,3 FLAGS", None),
    (b"a FETCH 1,2,3,4 FLAGS", "too many ranges in the sequence set"),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "text"), LIMITED, ids=[repr(octets)[2:40] for octets, _ in LIMITED])
def test_limit(octets: bytes, text: str | None) -> None:
    """Each limit holds exactly at its value, has its own words, and leaves the next command readable."""
    events = read_three_ways(octets + b"\r\n", limits=SMALL)
    refusals = [event for event in events if isinstance(event, Rejected)]
    if text is None:
        grammar = [event for event in refusals if not event.text.startswith("expected the end")]
        assert not grammar
    else:
        assert refusals == [Rejected(b"a", "BAD", None, text)]


def test_message_too_large() -> None:
    """A message above the limit is NO [TOOBIG]; a non-synchronising one is swallowed (RFC 7888 §4)."""
    begins = [AppendStarts(b"a", "A"), AppendMessage((), None)]
    toobig = [*begins, Rejected(b"a", "NO", b"TOOBIG", "message too large")]
    assert read_three_ways(b"a APPEND A {33}\r\n", limits=SMALL) == toobig
    assert read_three_ways(b"a APPEND A {33+}\r\n" + b"x" * 33 + b"\r\n", limits=SMALL) == toobig


def test_endless_refused_literal_is_fatal() -> None:
    """A non-synchronising literal above what we discard ends the connection, and nothing is read behind it."""
    octets = b"a LOGIN {201+}\r\n" + b"x" * 201 + b"\r\nb NOOP\r\n"
    for step in (None, 1):
        assert read(octets, step=step, limits=SMALL) == [
            Rejected(b"a", "BAD", None, "literal too large", is_fatal=True)
        ]


def test_discarding_ends() -> None:
    """A refused command that goes on and on ends the connection: by literals one after the other, or by a line without end."""
    end = Rejected(None, "BAD", None, "too much to discard", is_fatal=True)
    for octets in (
        b"a BOGUS " + b"{90+}\r\n" + b"x" * 90 + b"{90+}\r\n" + b"x" * 90 + b"{90+}\r\n" + b"x" * 90 + b"\r\n",
        b"a BOGUS {150+}\r\n" + b"x" * 400 + b"\r\n",
    ):
        for step in (None, 1):
            assert read(octets, step=step, limits=SMALL) == [Rejected(b"a", "BAD", None, "unknown command"), end]
    for step in (None, 1):
        assert read(b"a " + b"x" * 400, step=step, limits=SMALL) == [
            Rejected(b"a", "BAD", None, "command line too long"),
            end,
        ]


def test_refused_commands_literals_are_no_commands() -> None:
    """The literal of a refused command is never taken for commands: neither after a long line nor behind bad grammar."""
    for head in (b"a BOGUS {10+}", b"a NOOP {10+}", b"a SEARCH " + b"x" * 80 + b" {10+}", b"a APPEND A x {10+}"):
        octets = head + b"\r\nb LOGOUT\r\n tail {4+}\r\nc NO\r\n"
        events = read_three_ways(octets, limits=SMALL)
        assert [type(event) for event in events if not isinstance(event, AppendStarts | AppendMessage)] == [Rejected]


def test_synchronizing_literal_refused() -> None:
    """Instead of "+" comes the refusal, and the client's next line is a command (RFC 3501 §7.5)."""
    events = read_three_ways(b"a BOGUS {3}\r\nb NOOP\r\n")
    assert events == [Rejected(b"a", "BAD", None, "unknown command"), Noop(b"b")]


def test_line_without_its_tag_readable() -> None:
    """A line too long is answered with its tag if that much can be seen, else untagged."""
    assert read_three_ways(b"tag1 " + b"x" * 99 + b"\r\n", limits=SMALL)[0] == Rejected(
        b"tag1", "BAD", None, "command line too long"
    )
    assert read_three_ways(b"x" * 99 + b"\r\n", limits=SMALL)[0] == Rejected(None, "BAD", None, "command line too long")


def test_continue_before_each_synchronizing_literal() -> None:
    """Each synchronising literal gets its own Continue, in its place."""
    assert read_three_ways(b"a LOGIN {1}\r\nx {1}\r\n\0\r\n") == [
        Continue(),
        Continue(),
        Rejected(b"a", "BAD", None, "NUL in a literal"),
    ]
