"""Strategies for commands of IMAP: all that the grammar has, mostly right, on mailboxes and messages that mostly exist.

A command is its octets behind the tag, cut where the client waits for "+".
"""

from hypothesis import strategies as st

Words = st.SearchStrategy[bytes]
Command = tuple[bytes, ...]

_WAIT = b"\xff\xfe\xff"  # in octets: here the client waits; no value holds it

_NAMES = ["INBOX", "inbox", "A", "A/B", "A/B/C", "Entwürfe", "Trash", "Sent", "gone", "", "A/", "&", '"\\']
_NAMES += [
    "Shared/x",
    "Other Users",
    "Other Users/alice@example.test/INBOX",
    "x" * 300,
    "a\nb",
    "台北/日本語",
    "%",
    "*",
]
_FLAGS = [
    b"\\Seen",
    b"\\Deleted",
    b"\\Flagged",
    b"\\Answered",
    b"\\Draft",
    b"\\Recent",
    b"work",
    b"$Junk",
    b"$Forwarded",
]
_ITEMS = [
    b"FLAGS",
    b"UID",
    b"INTERNALDATE",
    b"RFC822.SIZE",
    b"ENVELOPE",
    b"BODY",
    b"BODYSTRUCTURE",
    b"RFC822",
    b"RFC822.HEADER",
]
_ITEMS += [b"RFC822.TEXT", b"BODY[]", b"BODY.PEEK[HEADER]", b"BODY.PEEK[TEXT]<0.10>", b"BODY[1]", b"BODY.PEEK[1.MIME]"]
_ITEMS += [
    b"BODY.PEEK[2.1]",
    b"BODY.PEEK[HEADER.FIELDS (Subject X-A)]",
    b"BODY.PEEK[1.HEADER.FIELDS.NOT (To)]",
    b"MODSEQ",
]
_ITEMS += [
    b"BODY.PEEK[]<4294967295.1>",
    b"BINARY.PEEK[]",
    b"BINARY[1]<2.3>",
    b"BINARY.PEEK[9]",
    b"BINARY.SIZE[1]",
    b"EMAILID",
]
_ITEMS += [b"BINARY.SIZE[]", b"THREADID", b"SAVEDATE", b"PREVIEW", b"PREVIEW (LAZY)"]
_KEYS = b"ALL ANSWERED DELETED DRAFT FLAGGED SEEN UNANSWERED UNDELETED UNSEEN RECENT OLD NEW SAVEDATESUPPORTED".split()
_KEYS += [
    b"KEYWORD work",
    b"UNKEYWORD $Junk",
    b"UIDAFTER 2",
    b"UIDBEFORE 4",
    b"LARGER 100",
    b"SMALLER 99999999999",
    b"OLDER 1",
]
_KEYS += [
    b"YOUNGER 4294967295",
    b"MODSEQ 1",
    b'MODSEQ "/flags/\\\\seen" all 2',
    b"EMAILID M1",
    b"THREADID T1",
    b"HEADER Subject x",
]
_DATES = [b"1-Feb-1994", b'"22-Nov-2026"', b"31-Dec-9999", b"29-Feb-2024"]
_STATUS = [
    b"MESSAGES",
    b"RECENT",
    b"UIDNEXT",
    b"UIDVALIDITY",
    b"UNSEEN",
    b"SIZE",
    b"HIGHESTMODSEQ",
    b"DELETED",
    b"MAILBOXID",
]
_STATUS += [b"APPENDLIMIT", b"DELETED-STORAGE"]
_CAPABILITIES = [b"CONDSTORE", b"QRESYNC", b"IMAP4rev2", b"UTF8=ACCEPT", b"UIDONLY", b"X-NONE"]
_ENTRIES = [
    b"/private/comment",
    b"/shared/comment",
    b"/shared/vendor/a/b",
    b"/private/specialuse",
    b"/shared/admin",
    b"/x",
]
_EVENTS = [
    b"MessageNew MessageExpunge",
    b"MessageNew (UID FLAGS) MessageExpunge FlagChange",
    b"MailboxName SubscriptionChange",
]
_EVENTS += [b"MessageNew MessageExpunge AnnotationChange", b"MailboxMetadataChange ServerMetadataChange", b"BogusEvent"]
_CHARSETS = [b"UTF-8", b"US-ASCII", b"ISO-8859-1", b"utf-7", b"X-NONE"]
_MAILS = [
    b"Subject: one\r\n\r\nbody\r\n",
    b"",
    b"x",
    b"From: a@b\r\nSubject: =?utf-8?q?=C3=BC?=\r\n\r\n\xc3\xbc\r\n",
    b"\r\n.\r\n",
]
_MAILS += [
    b"Message-ID: <1@x>\r\nReferences: <0@x> <2@x>\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nx\r\n--a--"
]


def _one_of(words: list[bytes]) -> Words:
    return st.sampled_from(words)


def _many(words: Words, least: int = 1, most: int = 4) -> Words:
    return st.lists(words, min_size=least, max_size=most).map(b" ".join)


def _listed(words: Words, least: int = 1, most: int = 4) -> Words:
    return _many(words, least, most).map(lambda found: b"(" + found + b")")


def _words(*parts: bytes | Words) -> Words:
    """The parts with spaces between them."""
    return st.tuples(*(st.just(part) if isinstance(part, bytes) else part for part in parts)).map(b" ".join)


def _joined(*parts: bytes | Words) -> Words:
    return st.tuples(*(st.just(part) if isinstance(part, bytes) else part for part in parts)).map(b"".join)


def _optional(words: Words) -> Words:
    """With a space before it, or nothing."""
    return st.just(b"") | words.map(b" ".__add__)


@st.composite
def _literal(draw: st.DrawFn, octets: bytes) -> bytes:
    """A literal of either kind."""
    if draw(st.booleans()):
        return b"{%d+}\r\n%b" % (len(octets), octets)
    return b"{%d}\r\n%b%b" % (len(octets), _WAIT, octets)


@st.composite
def _astring(draw: st.DrawFn, octets: bytes) -> bytes:
    """A string in one of its forms."""
    form = draw(st.integers(0, 5))
    if octets.isalnum() and form < 2:
        return octets
    if form < 4 and not set(octets) & set(b"\r\n\0"):
        return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return draw(_literal(octets))


_TEXTS = st.sampled_from([b"a", b"Subject", "ü".encode(), b"\xff", b"", b"line\r\nline", b"x" * 100])
_STRINGS = _TEXTS.flatmap(_astring)
MAILBOXES: Words = st.one_of(
    _one_of([b"INBOX", b"A", b"A/B", b"Trash"]), st.sampled_from(_NAMES).map(str.encode).flatmap(_astring)
)
_NUMBERS = st.integers(1, 9).map(lambda number: b"%d" % number) | _one_of([b"*", b"4294967295", b"4294967294", b"30"])
_RANGES = _NUMBERS | _joined(_NUMBERS, b":", _NUMBERS)
SETS: Words = st.lists(_RANGES, min_size=1, max_size=3).map(b",".join) | _one_of([b"1:*", b"1:*", b"$"])
_PARTIALS = _one_of([b"1:3", b"2:2", b"-1:-2", b"4294967295:1", b"5:1"])
_PERSONS = _one_of([b"anyone", b"-bob@example.test", b"bob@example.test", b"nobody@example.test", b"authenticated"])


def _keys(inner: Words) -> Words:
    pair = _words(inner, inner)
    return st.one_of(
        _words(b"NOT", inner), _words(b"OR", pair), pair.map(lambda key: b"(%b)" % key), _words(b"FUZZY", inner)
    )


_DAYS = _one_of([b"BEFORE", b"ON", b"SINCE", b"SENTBEFORE", b"SENTON", b"SENTSINCE", b"SAVEDBEFORE", b"SAVEDON"])
SEARCH_KEYS: Words = st.recursive(
    st.one_of(
        _one_of(_KEYS),
        SETS,
        _words(b"UID", SETS),
        _words(_DAYS, _one_of(_DATES)),
        _words(_one_of([b"FROM", b"SUBJECT", b"TO", b"CC", b"BCC", b"BODY", b"TEXT", b"HEADER X-A"]), _STRINGS),
    ),
    _keys,
    max_leaves=6,
)
_OPTIONS = st.one_of(
    _one_of([b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"UPDATE", b"CONTEXT", b"UPDATE (UID FLAGS)"]),
    _words(b"PARTIAL", _PARTIALS),
)
_RETURN = _optional(_words(b"RETURN", _listed(_OPTIONS, 0)))
_SORTS = _one_of([b"ARRIVAL", b"CC", b"DATE", b"FROM", b"SIZE", b"SUBJECT", b"TO", b"DISPLAYFROM", b"DISPLAYTO"])
_CRITERIA = _words(_one_of(_CHARSETS), SEARCH_KEYS)
_SOURCES = _one_of([b"selected", b"inboxes", b"personal", b"subscribed"]) | _words(
    _one_of([b"subtree", b"subtree-one", b"mailboxes"]), MAILBOXES | _listed(MAILBOXES)
)
_UID = st.sampled_from([b"", b"UID "])

_SEARCHES = st.one_of(
    _joined(_UID, b"SEARCH", _RETURN, _optional(_words(b"CHARSET", _one_of(_CHARSETS))), b" ", SEARCH_KEYS),
    _joined(_UID, b"SORT", _RETURN, b" ", _listed(_SORTS | _words(b"REVERSE", _SORTS)), b" ", _CRITERIA),
    _joined(_UID, b"THREAD ", _one_of([b"ORDEREDSUBJECT", b"REFERENCES", b"REFS"]), b" ", _CRITERIA),
    _joined(b"ESEARCH", _optional(_words(b"IN", _listed(_SOURCES, 1, 2))), _RETURN, b" ", SEARCH_KEYS),
    _words(b"CANCELUPDATE", _one_of([b'"t1"', b'"t2" "t3"', b'"none"'])),
)

_MODIFIERS = _one_of(
    [b"(CHANGEDSINCE 1)", b"(CHANGEDSINCE 3 VANISHED)", b"(PARTIAL 1:2)", b"(PARTIAL -1:-2 CHANGEDSINCE 1)"]
)
_ATTRIBUTES = st.one_of(_one_of([b"ALL", b"FAST", b"FULL"]), _one_of(_ITEMS), _listed(_one_of(_ITEMS)))
_MESSAGES = st.one_of(
    _joined(_UID, b"FETCH ", SETS, b" ", _ATTRIBUTES, _optional(_MODIFIERS)),
    _joined(
        _UID, b"STORE ", SETS, _optional(_one_of([b"(UNCHANGEDSINCE 0)", b"(UNCHANGEDSINCE 3)"])), b" ",
        _one_of([b"", b"+", b"-"]), _one_of([b"FLAGS ", b"FLAGS.SILENT "]), _listed(_one_of(_FLAGS), 0),
    ),
    _joined(_UID, _one_of([b"COPY ", b"MOVE "]), SETS, b" ", MAILBOXES),
    _words(b"EXPUNGE") | _words(b"UID EXPUNGE", SETS),
    _words(b"UIDBATCHES", _one_of([b"500", b"1", b"1000", b"500 1:2", b"501 2:1"])),
)  # fmt: skip

_MAIL = st.sampled_from(_MAILS)
_APPENDED = _optional(_listed(_one_of(_FLAGS), 0)).flatmap(
    lambda flags: _optional(st.just(b'"17-Jul-1996 02:44:25 -0700"')).map(flags.__add__)
)
_URLS = _one_of(
    [b'"/INBOX/;UID=1"', b'";UID=2/;SECTION=TEXT"', b'"/A;UIDVALIDITY=1/;UID=1/;PARTIAL=0.5"', b'"imap://x/"']
)
_PARTS = st.one_of(_words(b"URL", _URLS), _words(b"TEXT", _MAIL.flatmap(_literal)))
_DATA = st.one_of(
    _MAIL.flatmap(_literal),
    _MAIL.flatmap(_literal).map(b"~".__add__),
    _MAIL.flatmap(_literal).map(lambda literal: b"UTF8 (~%b)" % literal),
    _words(b"CATENATE", _listed(_PARTS, 1, 3)),
)
_ONE_MESSAGE = _joined(_APPENDED, b" ", _DATA)
_APPENDS = st.one_of(
    _joined(b"APPEND ", MAILBOXES, _ONE_MESSAGE),
    _joined(b"APPEND ", MAILBOXES, _ONE_MESSAGE, _ONE_MESSAGE),
    _joined(_UID, b"REPLACE ", _NUMBERS, b" ", MAILBOXES, _ONE_MESSAGE),
)

_QRESYNC = _joined(b"(QRESYNC (", _one_of([b"1", b"2", b"999"]), b" 1", _optional(SETS), b"))")
_PARAMETERS = _optional(_one_of([b"(CONDSTORE)"]) | _QRESYNC)
_SELECTS = _joined(_one_of([b"SELECT ", b"EXAMINE "]), MAILBOXES, _PARAMETERS)
_PATTERNS = _one_of([b"*", b"%", b'""', b"A/%", b"INBOX", b'"*&APw-*"', b'"Other Users/*"'])
_LISTS = st.one_of(
    _joined(
        b"LIST", _optional(_listed(_one_of([b"SUBSCRIBED", b"REMOTE", b"SPECIAL-USE", b"SUBSCRIBED RECURSIVEMATCH"]), 0, 2)), b" ",
        _one_of([b'""', b"A", b"A/"]), b" ", _PATTERNS | _listed(_PATTERNS),
        _optional(_words(b"RETURN", _listed(st.one_of(
            _one_of([b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"MYRIGHTS"]),
            _words(b"STATUS", _listed(_one_of(_STATUS))), _words(b"METADATA", _listed(_one_of(_ENTRIES))),
        ), 0))),
    ),
    _words(b"LSUB", b'""', _PATTERNS),
    _words(b"STATUS", MAILBOXES, _listed(_one_of(_STATUS))),
)  # fmt: skip
_MANAGED = st.one_of(
    _joined(b"CREATE ", MAILBOXES, _optional(_one_of([b"(USE (\\Archive))", b"(USE ())", b"(USE (\\Sent \\Junk))"]))),
    _words(_one_of([b"DELETE", b"SUBSCRIBE", b"UNSUBSCRIBE"]), MAILBOXES),
    _words(b"RENAME", MAILBOXES, MAILBOXES),
)
_SHARED = st.one_of(
    _words(b"SETACL", MAILBOXES, _PERSONS, _one_of([b"lrswipkxtea", b"+lr", b"-w", b'""', b"lrd", b"q"])),
    _words(b"DELETEACL", MAILBOXES, _PERSONS),
    _words(b"LISTRIGHTS", MAILBOXES, _PERSONS),
    _words(_one_of([b"GETACL", b"MYRIGHTS", b"GETQUOTAROOT"]), MAILBOXES),
    _words(b"GETQUOTA", _one_of([b'""', b"user", b'"none"'])),
    _words(b"SETQUOTA", _one_of([b'""', b"user"]), _one_of([b"(STORAGE 100000)", b"()", b"(MESSAGE 100 STORAGE 1)"])),
    _joined(
        b"GETMETADATA", _optional(_one_of([b"(MAXSIZE 3)", b"(DEPTH infinity)", b"(DEPTH 1 MAXSIZE 9)"])), b" ",
        MAILBOXES | st.just(b'""'), b" ", _one_of(_ENTRIES) | _listed(_one_of(_ENTRIES)),
    ),
    _words(b"SETMETADATA", MAILBOXES | st.just(b'""'), _listed(_words(_one_of(_ENTRIES), st.just(b"NIL") | _STRINGS))),
)  # fmt: skip
_GROUPS = _joined(
    b"(",
    _one_of([b"selected", b"selected-delayed", b"inboxes"]) | _SOURCES,
    b" ",
    _one_of(_EVENTS).map(lambda events: b"(%b)" % events) | st.just(b"NONE"),
    b")",
)
_NOTIFIES = _joined(b"NOTIFY SET", _optional(st.just(b"STATUS")), b" ", _many(_GROUPS, 1, 2)) | st.just(b"NOTIFY NONE")
_ENABLES = _words(b"ENABLE", _many(_one_of(_CAPABILITIES), 1, 3))
_PLAIN = [b"CAPABILITY", b"NOOP", b"NAMESPACE", b"CHECK", b"CLOSE", b"UNSELECT", b"ID NIL", b'ID ("name" "x" "os" NIL)']
_PLAIN += [b"STARTTLS", b"COMPRESS DEFLATE", b"UNAUTHENTICATE", b"LOGOUT"]
_SASL = _one_of([b"PLAIN", b"LOGIN", b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS", b"OAUTHBEARER", b"XOAUTH2", b"X-NONE"])
_RESPONSES = _one_of(
    [b"*", b"", b"=", b"AGEAYg==", b"YWxpY2U=", b"biwsbj1hLHI9YWJjZGVmZ2g=", b"not base64", b"A" * 300]
)
_ASKED = _joined(
    b"AUTHENTICATE ", _SASL, _optional(_RESPONSES.filter(bool)), b"\r\n" + _WAIT, _RESPONSES, b"\r\n" + _WAIT, b"*"
)
_IDLES = _joined(b"IDLE\r\n" + _WAIT, _one_of([b"DONE", b"done", b"a NOOP", b"", b"x" * 300]))


def _command(octets: bytes) -> Command:
    return tuple(octets.split(_WAIT))


SELECTS = _SELECTS.map(_command)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    _SELECTS, _LISTS, _MANAGED, _MESSAGES, _MESSAGES, _MESSAGES, _SEARCHES, _SEARCHES, _APPENDS, _APPENDS, _SHARED,
    _NOTIFIES, _NOTIFIES, _ENABLES, _ENABLES, _IDLES, _ASKED, _one_of(_PLAIN), _one_of(_PLAIN), _one_of(_PLAIN),
    _words(b"LOGIN", _STRINGS, _STRINGS),
).map(_command)  # fmt: skip


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    """A command with octets cut out, doubled or put in; no literal, so that the line is all of it."""
    octets = draw(COMMANDS.filter(lambda command: len(command) == 1))[0]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(octets)))
        put = draw(
            _one_of([b"", b" ", b"(", b")", b'"', b"\\", b"NOT ", b"\xff", b"\0", b"1:", b"*", b"9" * 30, b"[", b"%"])
        )
        octets = octets[:at] + put + octets[at + draw(st.integers(0, 3)) :]
    return octets


GARBAGE: Words = st.one_of(
    _broken(), st.binary(max_size=60), st.binary(min_size=1, max_size=4).map(lambda some: some * 3000)
).map(lambda octets: octets.translate(None, b"\r\n{"))
