"""Each command's octets and the dataclass they are, fed three ways. One row, one form of RFC 3501 §9 or its extensions."""

from datetime import date

import pytest

from protocol.imap import search
from protocol.imap.command import (
    Authenticate,
    Capability,
    Check,
    Close,
    Command,
    Copy,
    Create,
    Delete,
    Enable,
    Examine,
    Expunge,
    Fetch,
    Id,
    Idle,
    List,
    Login,
    Logout,
    Lsub,
    Move,
    Namespace,
    Noop,
    Rename,
    Search,
    Select,
    StartTls,
    Status,
    Store,
    Subscribe,
    UidBatches,
    Unselect,
    Unsubscribe,
)  # fmt: skip
from protocol.imap.fetch import FetchAttribute, Item, Section
from protocol.imap.modifiers import FetchModifiers, Resync
from protocol.imap.sequence import SequenceSet
from tests.protocol.imap.feeds import read_three_ways


def numbers(*ranges: tuple[int | None, int | None]) -> SequenceSet:
    return SequenceSet(ranges)


def body(*path: int, what: str = "", fields: tuple[bytes, ...] = (), peek: bool = False) -> FetchAttribute:
    return FetchAttribute(Item.SECTION, Section(path, what, fields), is_peek=peek)


ONE = numbers((1, 1))
FLAGS = FetchAttribute(Item.FLAGS)
SIZE = FetchAttribute(Item.RFC822_SIZE)
INTERNALDATE = FetchAttribute(Item.INTERNALDATE)
ENVELOPE = FetchAttribute(Item.ENVELOPE)

COMMANDS: list[tuple[bytes, Command]] = [
    (b"a CAPABILITY", Capability(b"a")),
    (b"a.1-x noop", Noop(b"a.1-x")),
    (b"a NOOP ", Noop(b"a")),
    (b"a LOGOUT", Logout(b"a")),
    (b"a STARTTLS", StartTls(b"a")),
    (b"a NAMESPACE", Namespace(b"a")),
    (b"a IDLE", Idle(b"a")),
    (b"a CHECK", Check(b"a")),
    (b"a CLOSE", Close(b"a")),
    (b"a UNSELECT", Unselect(b"a")),
    (b"a EXPUNGE", Expunge(b"a")),
    (b"a UID EXPUNGE 3000:3002", Expunge(b"a", numbers((3000, 3002)))),
    # ID, RFC 2971
    (b"a ID NIL", Id(b"a", None)),
    (b"a ID ()", Id(b"a", {})),
    (b'a ID ("Name" "x" "version" NIL)', Id(b"a", {b"name": b"x", b"version": None})),
    (b'a ID ("name", "x", "version" 102.7.1)', Id(b"a", {b"name": b"x", b"version": b"102.7.1"})),
    # Authentication
    (b"a AUTHENTICATE plain", Authenticate(b"a", b"PLAIN", None)),
    (b"a AUTHENTICATE PLAIN AGEAYg==", Authenticate(b"a", b"PLAIN", b"\0a\0b")),
    (b"a AUTHENTICATE EXTERNAL =", Authenticate(b"a", b"EXTERNAL", b"")),
    (b"a LOGIN alice secret]", Login(b"a", b"alice", b"secret]")),
    (rb'a LOGIN "al ice" "s\"e\\c"', Login(b"a", b"al ice", b's"e\\c')),
    (b'a LOGIN alice ""', Login(b"a", b"alice", b"")),
    (b"a LOGIN {5+}\r\nalice {6+}\r\ns\r\n\xffcr", Login(b"a", b"alice", b"s\r\n\xffcr")),
    ("a LOGIN zoë pässword".encode(), Login(b"a", "zoë".encode(), "pässword".encode())),
    (b"a ENABLE CONDSTORE condstore x-y", Enable(b"a", (b"CONDSTORE", b"X-Y"))),
    # Mailboxes
    (b"a SELECT inbox", Select(b"a", "INBOX")),
    (b"a  SELECT   iNbOx/Sub", Select(b"a", "INBOX/Sub")),
    (b"a SELECT inboxes", Select(b"a", "inboxes")),
    (b'a SELECT "Entw&APw-rfe" (CONDSTORE)', Select(b"a", "Entwürfe", is_condstore=True)),
    (b"a EXAMINE {3+}\r\nA B", Examine(b"a", "A B")),
    (b"a SELECT A (QRESYNC (67890007 20050715))", Select(b"a", "A", resync=Resync(67890007, 20050715))),
    (
        b"a EXAMINE A (QRESYNC (7 20 1:3) CONDSTORE)",
        Examine(b"a", "A", is_condstore=True, resync=Resync(7, 20, SequenceSet(((1, 3),)))),
    ),
    (
        b"a SELECT A (QRESYNC (7 20 1:3 (1,2 4,6)))",
        Select(
            b"a",
            "A",
            resync=Resync(7, 20, SequenceSet(((1, 3),)), (SequenceSet(((1, 1), (2, 2))), SequenceSet(((4, 4), (6, 6))))),
        ),
    ),
    (b"a SELECT A (QRESYNC (7 20 (1 4)))", Select(b"a", "A", resync=Resync(7, 20, None, (ONE, SequenceSet(((4, 4),)))))),
    (b"a CREATE A/", Create(b"a", "A/")),
    (rb"a CREATE Gone (USE (\trash \X-Mine))", Create(b"a", "Gone", (rb"\Trash", rb"\X-Mine"))),
    (b"a CREATE A (USE ())", Create(b"a", "A")),
    (b"a DELETE A&B", Delete(b"a", "A&B")),
    ("a DELETE Entwürfe".encode(), Delete(b"a", "Entwürfe")),
    (b"a RENAME INBOX Old", Rename(b"a", "INBOX", "Old")),
    (b"a SUBSCRIBE ]x]", Subscribe(b"a", "]x]")),
    (b"a UNSUBSCRIBE A", Unsubscribe(b"a", "A")),
    (b'a LIST "" *', List(b"a", "", ("*",))),
    (b'a LIST "" ""', List(b"a", "", ("",))),
    (b'a LIST ~/mail/ "&U,BTFw-/%"', List(b"a", "~/mail/", ("台北/%",))),
    (b"a LSUB {0+}\r\n %", Lsub(b"a", "", "%")),
    (b'a LIST () "" (INBOX "Sent*")', List(b"a", "", ("INBOX", "Sent*"), is_extended=True)),
    (
        b'a LIST (SPECIAL-USE subscribed) "" "*" RETURN (SPECIAL-USE CHILDREN STATUS (MESSAGES unseen))',
        List(
            b"a", "", ("*",), (b"SPECIAL-USE", b"SUBSCRIBED"), (b"SPECIAL-USE", b"CHILDREN", b"STATUS"),
            (b"MESSAGES", b"UNSEEN"), is_extended=True,
        ),
    ),
    (
        b'a LIST (RECURSIVEMATCH SUBSCRIBED) "" % RETURN ()',
        List(b"a", "", ("%",), (b"RECURSIVEMATCH", b"SUBSCRIBED"), is_extended=True),
    ),
    (b"a STATUS inbox (MESSAGES UIDNEXT messages)", Status(b"a", "INBOX", (b"MESSAGES", b"UIDNEXT"))),
    (
        b"a STATUS A (  RECENT UIDVALIDITY UNSEEN SIZE HIGHESTMODSEQ DELETED )",
        Status(b"a", "A", (b"RECENT", b"UIDVALIDITY", b"UNSEEN", b"SIZE", b"HIGHESTMODSEQ", b"DELETED")),
    ),
    # FETCH, RFC 3501 §6.4.5
    (b"a FETCH 1 FLAGS", Fetch(b"a", ONE, (FLAGS,))),
    (b"a FETCH 2:4,9:*,*:7,* FAST", Fetch(b"a", numbers((2, 4), (9, None), (None, 7), (None, None)), (FLAGS, INTERNALDATE, SIZE))),
    (b"a fetch $ all", Fetch(b"a", SequenceSet((), is_saved=True), (FLAGS, INTERNALDATE, SIZE, ENVELOPE))),
    (b"a FETCH 1 FULL", Fetch(b"a", ONE, (FLAGS, INTERNALDATE, SIZE, ENVELOPE, FetchAttribute(Item.BODY)))),
    (b"a FETCH 1 (FAST UID)", Fetch(b"a", ONE, (FLAGS, INTERNALDATE, SIZE, FetchAttribute(Item.UID)))),
    (
        b"a UID FETCH 4294967295 (UID BODYSTRUCTURE RFC822 RFC822.HEADER RFC822.TEXT UID)",
        Fetch(
            b"a", numbers((4294967295, 4294967295)),
            (FetchAttribute(Item.UID), FetchAttribute(Item.BODYSTRUCTURE), FetchAttribute(Item.RFC822),
             FetchAttribute(Item.RFC822_HEADER), FetchAttribute(Item.RFC822_TEXT)), is_uid=True,
        ),
    ),
    (b"a FETCH 1 BODY[]", Fetch(b"a", ONE, (body(),))),
    (b"a FETCH 1 BODY.PEEK[]<0.2048>", Fetch(b"a", ONE, (FetchAttribute(Item.SECTION, Section(), (0, 2048), True),))),
    (b"a FETCH 1 body[header]", Fetch(b"a", ONE, (body(what="HEADER"),))),
    (b"a FETCH 1 BODY[1.2.3]", Fetch(b"a", ONE, (body(1, 2, 3),))),
    (b"a FETCH 1 (BODY[4.1.MIME] BODY[3.TEXT])", Fetch(b"a", ONE, (body(4, 1, what="MIME"), body(3, what="TEXT")))),
    (
        b'a FETCH 1 BODY.PEEK[HEADER.FIELDS (From "X-A B")]',
        Fetch(b"a", ONE, (body(what="HEADER.FIELDS", fields=(b"From", b"X-A B"), peek=True),)),
    ),
    (
        b"a FETCH 1 BODY[2.HEADER.FIELDS.NOT ({2+}\r\nTo)]",
        Fetch(b"a", ONE, (body(2, what="HEADER.FIELDS.NOT", fields=(b"To",)),)),
    ),
    (
        b"a FETCH 1 (MODSEQ) (CHANGEDSINCE 12345)",
        Fetch(b"a", ONE, (FetchAttribute(Item.MODSEQ),), modifiers=FetchModifiers(12345)),
    ),
    (
        b"a UID FETCH 1 (FLAGS) (VANISHED CHANGEDSINCE 9 PARTIAL -1:-30)",
        Fetch(b"a", ONE, (FetchAttribute(Item.FLAGS),), is_uid=True, modifiers=FetchModifiers(9, True, (-1, -30))),
    ),
    (
        b"a UID FETCH 1 FLAGS (PARTIAL 20:11)",
        Fetch(b"a", ONE, (FetchAttribute(Item.FLAGS),), is_uid=True, modifiers=FetchModifiers(partial=(11, 20))),
    ),
    (b"a UIDBATCHES 2000", UidBatches(b"a", 2000)),
    (b"a UIDBATCHES 500 3:4", UidBatches(b"a", 500, (3, 4))),
    # STORE, COPY, MOVE
    (rb"a STORE 1 FLAGS (\seen \Deleted)", Store(b"a", ONE, "replace", (rb"\Seen", rb"\Deleted"))),
    (b"a STORE 1 FLAGS ()", Store(b"a", ONE, "replace", ())),
    (rb"a STORE 1 +FLAGS.SILENT \Flagged $forwarded work", Store(b"a", ONE, "add", (rb"\Flagged", b"$Forwarded", b"work"), True)),
    (rb"a UID STORE 1 -flags (\Answered \Draft \Answered)", Store(b"a", ONE, "remove", (rb"\Answered", rb"\Draft"), is_uid=True)),
    (rb"a STORE 1 +FLAGS (\Recent \Seen)", Store(b"a", ONE, "add", (rb"\Seen",))),
    (
        rb"a UID STORE 1 (UNCHANGEDSINCE 0) +FLAGS (x)",
        Store(b"a", ONE, "add", (b"x",), is_uid=True, unchanged_since=0),
    ),
    (b"a COPY 1 inbox", Copy(b"a", ONE, "INBOX")),
    (b"a UID COPY 1 A", Copy(b"a", ONE, "A", is_uid=True)),
    (b"a MOVE 1 A", Move(b"a", ONE, "A")),
    (b"a UID MOVE 1 A", Move(b"a", ONE, "A", is_uid=True)),
]  # fmt: skip

SEEN = search.HasFlag(rb"\Seen")
DAY = date(1994, 2, 1)
KEYS: list[tuple[bytes, search.SearchKey]] = [
    (b"ALL", search.All()),
    (b"ANSWERED", search.HasFlag(rb"\Answered")),
    (b"DELETED", search.HasFlag(rb"\Deleted")),
    (b"DRAFT", search.HasFlag(rb"\Draft")),
    (b"FLAGGED", search.HasFlag(rb"\Flagged")),
    (b"seen", SEEN),
    (b"UNANSWERED", search.Not(search.HasFlag(rb"\Answered"))),
    (b"UNDELETED", search.Not(search.HasFlag(rb"\Deleted"))),
    (b"UNDRAFT", search.Not(search.HasFlag(rb"\Draft"))),
    (b"UNFLAGGED", search.Not(search.HasFlag(rb"\Flagged"))),
    (b"UNSEEN", search.Not(SEEN)),
    (b"RECENT", search.Recent()),
    (b"OLD", search.Not(search.Recent())),
    (b"NEW", search.And((search.Recent(), search.Not(SEEN)))),
    (b"KEYWORD $junk", search.HasFlag(b"$Junk")),
    (b"UNKEYWORD x", search.Not(search.HasFlag(b"x"))),
    (b"BEFORE 1-Feb-1994", search.Before(DAY)),
    (b'ON "01-FEB-1994"', search.On(DAY)),
    (b"SINCE 01-feb-1994", search.Since(DAY)),
    (b"SENTBEFORE 1-Feb-1994", search.SentBefore(DAY)),
    (b"SENTON 1-Feb-1994", search.SentOn(DAY)),
    (b"SENTSINCE 1-Feb-1994", search.SentSince(DAY)),
    (b"BCC a", search.Header(b"BCC", "a")),
    (b"CC a", search.Header(b"CC", "a")),
    (b'FROM "a b"', search.Header(b"FROM", "a b")),
    (b"SUBJECT {3+}\r\na\r\n", search.Header(b"SUBJECT", "a\r\n")),
    (b"TO a", search.Header(b"TO", "a")),
    (b'HEADER x-spam ""', search.Header(b"X-SPAM", "")),
    (b"BODY a", search.Body("a")),
    ('TEXT "größe"'.encode(), search.Text("größe")),
    (b"LARGER 10", search.Larger(10)),
    (b"SMALLER 9223372036854775807", search.Smaller(2**63 - 1)),
    (b"OLDER 60", search.Older(60)),
    (b"YOUNGER 60", search.Younger(60)),
    (b"UID 3:*", search.Uids(numbers((3, None)))),
    (b"1,3:5", search.SequenceNumbers(numbers((1, 1), (3, 5)))),
    (b"*", search.SequenceNumbers(numbers((None, None)))),
    (b"MODSEQ 620162338", search.ModSeq(620162338)),
    (rb'MODSEQ "/flags/\\draft" all 7', search.ModSeq(7)),
    (b"NOT SEEN", search.Not(SEEN)),
    (b"OR SEEN ALL", search.Or(SEEN, search.All())),
    (b"SEEN ALL", search.And((SEEN, search.All()))),
    (b"(SEEN)", SEEN),
    (b"( SEEN ALL ) OLD", search.And((search.And((SEEN, search.All())), search.Not(search.Recent())))),
    (b"OR (1 SEEN) NOT (ALL)", search.Or(search.And((search.SequenceNumbers(ONE), SEEN)), search.Not(search.All()))),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "command"), COMMANDS, ids=[repr(octets)[2:40] for octets, _ in COMMANDS])
def test_command(octets: bytes, command: Command) -> None:
    """The octets of one command give that command, however they are cut."""
    assert read_three_ways(octets + b"\r\n") == [command]


@pytest.mark.parametrize(("octets", "key"), KEYS, ids=[repr(octets)[2:40] for octets, _ in KEYS])
def test_search_key(octets: bytes, key: search.SearchKey) -> None:
    """Each search key of RFC 3501 §6.4.4, and what RFC 5032 and RFC 7162 add, becomes its typed key."""
    assert read_three_ways(b"a SEARCH " + octets + b"\r\n") == [Search(b"a", key)]


def test_search_options() -> None:
    """UID, RETURN and CHARSET are kept, and the strings are decoded by the charset."""
    assert read_three_ways(b"a UID SEARCH RETURN (MIN max) CHARSET ISO-8859-1 FROM {1+}\r\n\xe4\r\n") == [
        Search(b"a", search.Header(b"FROM", "ä"), True, (b"MIN", b"MAX"), "latin_1")
    ]
    assert read_three_ways(b"a SEARCH RETURN () ALL\r\n") == [Search(b"a", search.All(), returns=())]
    assert read_three_ways(b'a SEARCH CHARSET "utf-8" ALL\r\n') == [Search(b"a", search.All(), charset="utf_8")]


def test_login_shows_no_password() -> None:
    """A command that is printed does not tell a password."""
    assert "secret" not in repr(Login(b"a", b"alice", b"secret"))
