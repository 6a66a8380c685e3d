"""What the fuzzing begins with: commands of others' test scripts, our transcripts and tables, the mails of the corpora."""

import base64
import contextlib
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from protocol.imap import names as imap_names
from tests.daemons.imap.conformance import imaptest
from tests.feeding import transcripts, turns
from tests.fuzz import transport
from tests.internet.authority import self_signed
from tests.mails import MAILS, as_sent
from tests.protocol.imap.test_commands import COMMANDS, KEYS
from tests.protocol.imap.test_refusals import REFUSED
from tests.protocol.message.test_documents import FILES

SCRIPTS = Path(imaptest.__file__).parent / "scripts" / "imaptest"
_MAX_OCTETS = 3000
_KIND_OF_DOCUMENT = {"docx": 0, "xlsx": 0, "pptx": 0, "odt": 1, "rtf": 2, "html": 3, "csv": 4, "pdf": 5}

# Forms that no script above has.
_MORE = [
    b"a NOTIFY SET STATUS (selected (MessageNew (UID FLAGS) MessageExpunge FlagChange)) (personal (MailboxName))",
    b"a NOTIFY SET (selected-delayed (MessageNew MessageExpunge)) (subtree (A B) (MessageNew MessageExpunge)) (inboxes NONE)",
    b"a NOTIFY SET (mailboxes INBOX (AnnotationChange MailboxMetadataChange)) (subscribed (SubscriptionChange))",
    b"a NOTIFY NONE",
    b"a GETMETADATA (MAXSIZE 1024 DEPTH infinity) INBOX (/private/comment /shared/vendor/x)",
    b'a SETMETADATA INBOX (/private/comment "x" /shared/comment NIL)',
    b"a SETMETADATA INBOX (/private/comment ~{3+}\r\na\0b)",
    b"a SETACL INBOX bob@example.test +lrs",
    b"a LISTRIGHTS INBOX anyone",
    b'a GETQUOTA ""',
    b'a SETQUOTA "" (STORAGE 512 MESSAGE 10)',
    b"a GETQUOTAROOT INBOX",
    b"a SORT (REVERSE DATE SUBJECT DISPLAYFROM) UTF-8 ALL",
    b"a UID SORT RETURN (COUNT PARTIAL 1:10 UPDATE) (ARRIVAL) US-ASCII SINCE 1-Feb-1994",
    b"a THREAD REFERENCES UTF-8 ALL",
    b"a UID THREAD REFS UTF-8 FUZZY TEXT x",
    b"a ESEARCH IN (mailboxes (A B) subtree-one INBOX personal) RETURN (MIN COUNT) UNSEEN",
    b'a CANCELUPDATE "a1" "a2"',
    b"a UID SEARCH RETURN (SAVE CONTEXT) EMAILID M1 THREADID T2 SAVEDBEFORE 1-Feb-1994 UIDBEFORE 7",
    b"a UID FETCH 1:* (UID BINARY.PEEK[1.2]<0.5> BINARY.SIZE[1] PREVIEW (LAZY) EMAILID SAVEDATE) (PARTIAL 1:5)",
    b"a APPEND INBOX (\\Seen) {3+}\r\nabc (\\Draft) {2+}\r\nde",
    b'a APPEND INBOX CATENATE (URL "/INBOX;UIDVALIDITY=1/;UID=2/;SECTION=1" TEXT {2+}\r\nab)',
    b"a APPEND INBOX UTF8 (~{2+}\r\nab)",
    b"a REPLACE 4 INBOX (\\Seen) {3+}\r\nabc",
    b'a LIST (SUBSCRIBED RECURSIVEMATCH) "" * RETURN (MYRIGHTS METADATA (/private/comment) STATUS (SIZE))',
    b"a COMPRESS DEFLATE",
    b"a UNAUTHENTICATE",
]


@cache
def _commands() -> tuple[bytes, ...]:
    """Commands of IMAP, without a CRLF behind them."""
    found = [octets for octets, _ in COMMANDS] + [octets for octets, _ in REFUSED] + _MORE
    found += [b"a SEARCH " + key for key, _ in KEYS]
    for path in sorted(SCRIPTS.iterdir()):
        if path.suffix == ".mbox" or path.stat().st_size > 20_000:
            continue
        with contextlib.suppress(imaptest.ScriptError, UnicodeDecodeError):
            found += [b"a " + command.octets for group in imaptest.read(path).groups for command in group.commands]
    return tuple(dict.fromkeys(octets for octets in found if len(octets) < _MAX_OCTETS))


def imap_streams() -> Iterator[bytes]:
    """Streams of commands; what the first octet means says grammar.reader()."""
    for index, command in enumerate(_commands()):
        yield bytes([index % 32]) + command + b"\r\n"
    for path in transcripts("imap"):
        yield b"\0" + b"".join(turn.client for turn in turns(path.read_text("utf-8")))


def arguments_of(verbs: tuple[bytes, ...]) -> Callable[[], Iterator[bytes]]:
    """The arguments of the commands with these verbs; the first octet is the verb's number."""

    def found() -> Iterator[bytes]:
        for command in _commands():
            for number, verb in enumerate(verbs):
                if command.upper().startswith((b"A %b " % verb, b"A %b\r" % verb)) or command.upper() == b"A " + verb:
                    yield bytes([number]) + command[len(verb) + 3 :]

    return found


def urls() -> Iterator[bytes]:
    """Of messages, RFC 5092 §11."""
    yield from (
        b"imap://joe;AUTH=PLAIN@example.com:143/INBOX;UIDVALIDITY=785799047/;UID=113330/;SECTION=1.5.9/;PARTIAL=0.1024",
        b"/INBOX;UIDVALIDITY=1/;UID=2/;SECTION=1.2.MIME",
        b";UID=2/;SECTION=HEADER.FIELDS%20(To%20From)",
        b"../Entw%C3%BCrfe/;UID=20/;SECTION=TEXT/;PARTIAL=7",
        b"imap://[::1]/~peter/;UID=1",
    )


def names() -> Iterator[bytes]:
    """Of mailboxes, as they are and in modified UTF-7, and patterns."""
    for name in ("INBOX", "Entwürfe/台北", "a&b", "&", 'q"\\', "\x01", "😀", "inbox/sub", "*a%b*\nxayb"):
        yield name.encode()
        yield imap_names.encode(name)


def pop3_streams() -> Iterator[bytes]:
    """Whole conversations."""
    for index, path in enumerate(transcripts("pop3")):
        yield bytes([index]) + b"".join(turn.client for turn in turns(path.read_text("utf-8")))
    login = b"USER alice\r\nPASS p\r\n"
    yield (
        b"\0"
        + login
        + b"STAT\r\nLIST\r\nLIST 1\r\nUIDL\r\nUIDL 2\r\nRETR 1\r\nTOP 1 5\r\nDELE 1\r\nRSET\r\nNOOP\r\nQUIT\r\n"
    )
    yield b"\1AUTH PLAIN\r\n*\r\nAUTH SCRAM-SHA-256 biwsbj1h\r\nCAPA\r\nLANG\r\nLANG de-AT\r\nLANG *\r\nUTF8\r\nSTLS\r\nQUIT\r\n"


def sasl_exchanges() -> Iterator[bytes]:
    """One exchange of each mechanism."""
    proof = base64.b64encode(bytes(32))
    bound = base64.b64encode(b"p=tls-exporter,,")
    first, last = b"n=user,r=abcdefgh", b"r=abcdefghfedcba9876543210,p=" + proof
    yield b"\x80p=tls-exporter,," + first + b"\nc=" + bound + b"," + last
    yield b"\x01n,a=other," + first + b"\nc=biws," + last
    yield b"\x02n,a=user@example.com,\x01host=x\x01port=143\x01auth=Bearer abc.def=\x01\x01\n\x01"
    yield b"\x03user=alice\x01auth=Bearer abc\x01\x01"
    yield b"\x04\0alice\0secret"
    yield b"\x04other\0alice\0secret"
    yield b"\x05alice\nsecret"


def deflated() -> Iterator[bytes]:
    """Streams of DEFLATE, and what is none."""
    for octets in (b"a NOOP\r\n", bytes(30_000), b"a SELECT INBOX\r\n" * 50, b""):
        for level in (0, 1, 9):
            deflater = zlib.compressobj(level, zlib.DEFLATED, -15)
            begun = deflater.compress(octets) + deflater.flush(zlib.Z_SYNC_FLUSH)
            yield begun
            yield begun + deflater.compress(b"x") + deflater.flush()
    yield b"a NOOP\r\n"


@cache
def mails() -> tuple[bytes, ...]:
    """The small ones of the corpora."""
    small = [path for path in MAILS if path.stat().st_size < _MAX_OCTETS]
    return tuple(as_sent(path) for path in small)


def headers() -> Iterator[bytes]:
    """The bodies of their fields, each once, and whole headers."""
    found: dict[bytes, None] = {}
    for octets in mails():
        head = octets.partition(b"\r\n\r\n")[0]
        found[head + b"\r\n"] = None
        for line in head.replace(b"\r\n ", b"  ").replace(b"\r\n\t", b" \t").split(b"\r\n"):
            found[line.partition(b":")[2].strip()] = None
    return (octets for octets in found if len(octets) < _MAX_OCTETS)


def threads() -> Iterator[bytes]:
    """Small mailboxes; what the octets are says messages.threads()."""
    yield b"\x01\x01A\x01\n\x02\x02a\x02\x01\n\x03\x03A\x03\x01\x02\n"
    yield b"\x01\x01A\x01\x02\n\x02\x02A\x02\x01\n\x81\x03A\x00\x07"


def documents() -> Iterator[bytes]:
    """One of each kind."""
    for name, octets in FILES.items():
        yield bytes([_KIND_OF_DOCUMENT[name.rpartition(".")[2].lower()]]) + octets


def bounces() -> Iterator[bytes]:
    """Mails of other servers on what became of ours."""
    for path in MAILS:
        if path.parts[-2].startswith("bounces-") and path.stat().st_size <= _MAX_OCTETS:
            yield path.read_bytes()


def reports() -> Iterator[bytes]:
    """DMARC and TLS reports, packed and plain."""
    for path in sorted((Path(__file__).parent.parent / "protocol" / "reports" / "given").rglob("*.*")):
        if path.is_file() and path.stat().st_size <= _MAX_OCTETS:
            yield path.read_bytes()


def transport_policies() -> Iterator[bytes]:
    """What domains publish about their TLS."""
    yield b"v=STSv1; id=20160831085700Z;"
    yield b"v=TLSRPTv1; rua=mailto:reports@example.com,https://reporting.example.com/v1/tlsrpt"
    yield b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"
    yield b"version: STSv1\nmode: none\nmax_age: 86400\n"


def tlsa_records() -> Iterator[bytes]:
    """TLSA records on the wire, with digests and with a whole certificate."""
    certificate = self_signed("mx.example.net").chain[0]
    yield bytes((3, 1, 1)) + bytes(32)
    yield bytes((2, 0, 2)) + bytes(64)
    yield bytes((2, 0, 0)) + certificate
    yield bytes((3, 0, 0)) + certificate[:-1]
    yield bytes((2, 0, 0)) + transport.authority().issue("mx.example.net", "192.0.2.1").chain[0]


def smtp_replies() -> Iterator[bytes]:
    """What the servers of the client's transcripts say, to every kind of session, whole and by octets."""
    for path in transcripts("smtp_client"):
        says = b"".join(turn.server for turn in turns(path.read_text("utf-8")))
        for kind in (0, 1, 2, 4, 6, 0xF6):
            yield bytes([kind]) + says
