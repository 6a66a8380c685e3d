"""Responses, RFC 3501 §7: octets ready to send, made by joining. Nothing here looks into a message or a mailbox.

Every function that is named after a response ends it with CRLF. The fetch_… functions give the pieces that fetch() joins.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from protocol.imap import names
from protocol.imap.dates import render_date_time
from protocol.imap.match import compress
from protocol.imap.sequence import ranges_of, render_ranges

Status = Literal["OK", "NO", "BAD", "PREAUTH", "BYE"]

_QUOTABLE = re.compile(rb"[\x20\x21\x23-\x5b\x5d-\x7e]*")  # printable ASCII without " and \
_QUOTED = re.compile(rb"[\x20-\x7e]*")
_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_LONGEST_QUOTED = 1024  # ours: longer strings go as literals, which clients read faster and without a line limit


_RANGES_PER_LINE = 1000  # ours: clients have limits for a line

# Strings


def quoted(octets: bytes) -> bytes:
    """A quoted string; the octets hold neither NUL, CR nor LF."""
    if _QUOTABLE.fullmatch(octets):
        return b'"' + octets + b'"'
    return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def literal(octets: bytes) -> bytes:
    """A literal."""
    return b"{%d}\r\n" % len(octets) + octets


def string(octets: bytes) -> bytes:
    """A quoted string if it is short and printable ASCII, else a literal."""
    if len(octets) <= _LONGEST_QUOTED and _QUOTED.fullmatch(octets):
        return quoted(octets)
    return literal(octets)


def nstring(octets: bytes | None) -> bytes:
    """A string, or NIL for None."""
    return b"NIL" if octets is None else string(octets)


def astring(octets: bytes) -> bytes:
    """An atom where one can stand, else a string. NIL is quoted: some clients read the atom as nothing."""
    if _ATOM.fullmatch(octets) and octets.upper() != b"NIL":
        return octets
    return string(octets)


def mailbox_name(name: str, *, is_utf8: bool = False) -> bytes:
    """A mailbox name: modified UTF-7, or UTF-8 in quotes once that is enabled (RFC 6855 §3, RFC 9051 §5.1)."""
    if not is_utf8 or name.isascii():
        return astring(name.encode("ascii") if is_utf8 else names.encode(name))
    octets = name.encode("utf-8")
    return literal(octets) if b"\r" in octets or b"\n" in octets else quoted(octets)


# Status responses, RFC 3501 §7.1


def tagged(tag: bytes | None, status: Status, code: bytes | None, text: str) -> bytes:
    """`tag OK [CODE] text`; None is the untagged form. `text` is ASCII without line ends; an empty one becomes "-"."""
    parts = [tag or b"*", status.encode("ascii")]
    if code is not None:
        parts.append(b"[" + code + b"]")
    parts.append(
        text.encode("ascii", "replace") or b"-"
    )  # resp-text = ["[" resp-text-code "]" SP] text, text = 1*TEXT-CHAR
    return b" ".join(parts) + b"\r\n"


def untagged(status: Status, code: bytes | None, text: str) -> bytes:
    """`* OK [CODE] text`."""
    return tagged(None, status, code, text)


def bye(text: str, code: bytes | None = None) -> bytes:
    """`* BYE text`, RFC 3501 §7.1.5."""
    return tagged(None, "BYE", code, text)


def continuation(text: str = "OK") -> bytes:
    """`+ text`, RFC 3501 §7.5. The space stays even if text is empty: clients wait for it."""
    return b"+ " + text.encode("ascii") + b"\r\n"


def appenduid(uidvalidity: int, uids: Sequence[int]) -> bytes:
    """The code APPENDUID, RFC 4315 §3."""
    return b"APPENDUID %d %b" % (uidvalidity, compress(uids))


def copyuid(uidvalidity: int, source_uids: Sequence[int], target_uids: Sequence[int]) -> bytes:
    """The code COPYUID, RFC 4315 §3: the n-th target UID is the copy of the n-th source UID."""
    return b"COPYUID %d %b %b" % (uidvalidity, compress(source_uids), compress(target_uids))


def in_progress(tag: bytes, done: int | None = None, goal: int | None = None) -> bytes:
    """`* OK [INPROGRESS ("A1" 175 1000)] …`, RFC 9585 §4. A tag with "]" is left out: it would end the code for some clients."""
    words = (
        b"NIL" if b"]" in tag else quoted(tag),
        b"NIL" if done is None else b"%d" % done,
        b"%d" % goal if goal else b"NIL",
    )
    return untagged("OK", b"INPROGRESS " + parenthesized(words), "still at it")


def permanentflags(flags: Iterable[bytes]) -> bytes:
    r"""The code PERMANENTFLAGS, with rb"\*" among the flags where keywords can be made."""
    return b"PERMANENTFLAGS " + flag_list(flags)


# Server and mailbox status, RFC 3501 §7.2


def line(*words: bytes) -> bytes:
    """An untagged response of words."""
    return b"* " + b" ".join(words) + b"\r\n"


def capability(tokens: Iterable[bytes]) -> bytes:
    """`* CAPABILITY IMAP4rev1 …`."""
    return line(b"CAPABILITY", *tokens)


def enabled(tokens: Iterable[bytes]) -> bytes:
    """`* ENABLED …`, RFC 5161 §3.2; an empty one is sent too."""
    return line(b"ENABLED", *tokens)


def identification(parameters: Mapping[bytes, bytes | None] | None) -> bytes:
    """`* ID ("name" "Postwerk")`, RFC 2971 §3.2."""
    if not parameters:
        return line(b"ID", b"NIL")
    words = [word for name, value in parameters.items() for word in (quoted(name), nstring(value))]
    return line(b"ID", parenthesized(words))


def namespace(personal: str | None, others: str | None = None, shared: str | None = None) -> bytes:
    """`* NAMESPACE (("" "/")) NIL NIL`, RFC 2342 §5, with a prefix or None for each of the three kinds."""
    delimiter = quoted(names.DELIMITER.encode())
    kinds = (
        b"NIL" if prefix is None else b"((%b %b))" % (quoted(names.encode(prefix)), delimiter)
        for prefix in (personal, others, shared)
    )
    return line(b"NAMESPACE", *kinds)


def list_line(attributes: Iterable[bytes], name: bytes, *, verb: bytes = b"LIST", extended: bytes = b"") -> bytes:
    r"""`* LIST (\HasNoChildren) "/" name`, of what mailbox_name() gave.

    `extended` are RFC 5258 §3's extended data items, already in parentheses.
    """
    words = (verb, parenthesized(attributes), b'"/"', name)
    return line(*words, extended) if extended else line(*words)


def lsub_line(attributes: Iterable[bytes], name: bytes) -> bytes:
    r"""`* LSUB () "/" name`."""
    return list_line(attributes, name, verb=b"LSUB")


DELIMITER_LINE = b'* LIST (\\Noselect) "/" ""\r\n'
"""The answer to `LIST "" ""`, RFC 3501 §6.3.8."""


def status_line(name: bytes, items: Iterable[tuple[bytes, int | bytes]]) -> bytes:
    """`* STATUS name (MESSAGES 231 UIDNEXT 44292)`, in the order of items; the name as mailbox_name() gave it."""
    words = [b"%b %d" % (item, value) if isinstance(value, int) else b"%b %b" % (item, value) for item, value in items]
    return line(b"STATUS", name, parenthesized(words))


def flags_line(flags: Iterable[bytes]) -> bytes:
    r"""`* FLAGS (\Answered …)`, RFC 3501 §7.2.6."""
    return line(b"FLAGS", flag_list(flags))


def search_line(numbers: Iterable[int], modseq: int | None = None) -> bytes:
    """`* SEARCH 2 84 882`, with (MODSEQ n) behind it where the search named MODSEQ (RFC 7162 §3.1.5)."""
    words = [b"SEARCH"]
    if rendered := " ".join(map(str, numbers)):  # twice as fast as %d of octets
        words.append(rendered.encode("ascii"))
        if modseq is not None:
            words.append(b"(MODSEQ %d)" % modseq)
    return line(*words)


def sort_line(numbers: Iterable[int], modseq: int | None = None) -> bytes:
    """`* SORT 2 84 882`, RFC 5256 §4, with (MODSEQ n) as in search_line (RFC 7162 §3.1.6)."""
    return search_line(numbers, modseq).replace(b"SEARCH", b"SORT", 1)


def thread_line(threads: bytes) -> bytes:
    """`* THREAD (2)(3 6 (4 23)(44 7 96))`, RFC 5256 §4, of rendered thread-lists."""
    return line(b"THREAD", threads) if threads else line(b"THREAD")


def esearch_line(
    tag: bytes, is_uid: bool, items: Iterable[tuple[bytes, bytes]], *, mailbox: bytes = b"", uidvalidity: int = 0
) -> bytes:
    """`* ESEARCH (TAG "A1") UID COUNT 3 ALL 1:3`, RFC 4731 §3.1; items are name and rendered value.

    With a mailbox (its rendered name) it is what RFC 7377 §2.1 answers for each one that was searched.
    """
    correlator = b"TAG " + quoted(tag)
    if mailbox:
        correlator += b" MAILBOX %b UIDVALIDITY %d" % (mailbox, uidvalidity)
    words = [b"ESEARCH", b"(" + correlator + b")", *([b"UID"] if is_uid else [])]
    return line(*words, *[b"%b %b" % item for item in items])


def noupdate(tag: bytes, text: str) -> bytes:
    """`* NO [NOUPDATE "B02"] text`: the result of that search is not kept up to date (RFC 5267 §4.3)."""
    return untagged("NO", b"NOUPDATE " + quoted(tag), text)


# Mailbox size and message status, RFC 3501 §7.3, §7.4


def exists(count: int) -> bytes:
    """`* 23 EXISTS`."""
    return b"* %d EXISTS\r\n" % count


def recent(count: int) -> bytes:
    """`* 5 RECENT`."""
    return b"* %d RECENT\r\n" % count


def expunge(seqnum: int) -> bytes:
    """`* 44 EXPUNGE`."""
    return b"* %d EXPUNGE\r\n" % seqnum


def vanished(uids: Iterable[int]) -> list[bytes]:
    """`* VANISHED 405,407:410`, RFC 7162 §3.2.10, as many lines as it takes; none without UIDs."""
    return vanished_ranges(ranges_of(uids), is_earlier=False)


def vanished_ranges(ranges: Sequence[tuple[int, int]], *, is_earlier: bool = True) -> list[bytes]:
    """`* VANISHED (EARLIER) 41,43:116`: what a client that comes back has missed (RFC 7162 §3.2.10.1)."""
    head = b"VANISHED (EARLIER)" if is_earlier else b"VANISHED"
    steps = range(0, len(ranges), _RANGES_PER_LINE)
    return [line(head, render_ranges(ranges[at : at + _RANGES_PER_LINE])) for at in steps]


def uidbatches(tag: bytes, ranges: Iterable[tuple[int, int]]) -> bytes:
    """`* UIDBATCHES (TAG "A143") 215295:99696,99695:1`: UIDs, from high to low."""
    words = [b",".join([b"%d:%d" % ends for ends in ranges])]
    return line(b"UIDBATCHES", b"(TAG " + quoted(tag) + b")", *filter(None, words))


def modified(numbers: Iterable[int]) -> bytes:
    """The code MODIFIED, RFC 7162 §3.1.3: which messages a conditional STORE left as they were."""
    return b"MODIFIED " + compress(numbers)


def fetch(seqnum: int, pieces: Iterable[bytes]) -> bytes:
    r"""`* 23 FETCH (FLAGS (\Seen) UID 4827313)` from its pieces.

    For a body that is streamed: fetch_head(), pieces with spaces between them, FETCH_TAIL.
    """
    return b"* %d FETCH (%b)\r\n" % (seqnum, b" ".join(pieces))


def fetch_head(seqnum: int) -> bytes:
    """`* 23 FETCH (`."""
    return b"* %d FETCH (" % seqnum


FETCH_TAIL = b")\r\n"


def fetch_uid(uid: int) -> bytes:
    """`UID 4827313`."""
    return b"UID %d" % uid


def fetch_flags(rendered: bytes) -> bytes:
    r"""`FLAGS (\Seen)`, of what flags.render_flags gave."""
    return b"FLAGS " + rendered


def fetch_internaldate(moment: datetime) -> bytes:
    """`INTERNALDATE "17-Jul-1996 02:44:25 -0700"`."""
    return b"INTERNALDATE " + render_date_time(moment)


def fetch_size(size_octets: int) -> bytes:
    """`RFC822.SIZE 44827`."""
    return b"RFC822.SIZE %d" % size_octets


def fetch_modseq(modseq: int) -> bytes:
    """`MODSEQ (65402)`, RFC 7162 §3.1.4.2."""
    return b"MODSEQ (%d)" % modseq


def fetch_rendered(label: bytes, rendered: bytes) -> bytes:
    """`ENVELOPE (…)`, `BODY (…)`, `BODYSTRUCTURE (…)`: what was rendered at intake."""
    return b"%b %b" % (label, rendered)


def fetch_octets(label: bytes, octets: bytes | None) -> bytes:
    """`BODY[TEXT] {342}…`, `RFC822.HEADER {…}…`: always a literal, NIL for None. `label` is FetchAttribute.label."""
    return b"%b NIL" % label if octets is None else b"%b {%d}\r\n%b" % (label, len(octets), octets)


def fetch_binary(label: bytes, octets: bytes) -> bytes:
    """`BINARY[1] {342}…`, or `~{342}…` where there is a NUL, which no other literal may hold (RFC 3516 §4.2)."""
    return b"%b %b{%d}\r\n%b" % (label, b"~" if b"\0" in octets else b"", len(octets), octets)


def fetch_octets_head(label: bytes, size_octets: int, *, is_binary: bool = False) -> bytes:
    """`BODY[] {342}`, or `BINARY[1] ~{342}`, and its line end: exactly so many octets must be sent next."""
    return b"%b %b{%d}\r\n" % (label, b"~" if is_binary else b"", size_octets)


# Lists


def parenthesized(words: Iterable[bytes]) -> bytes:
    """`(a b c)`."""
    return b"(" + b" ".join(words) + b")"


flag_list = parenthesized
