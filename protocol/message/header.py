"""Header fields as octets, RFC 5322 §2.2: where they lie, what they are called, what stands behind the colon.

Tolerant: bare LF ends a line as CRLF does, lines that are no field are passed over, and a header section that ends
without a blank line is whole. Nothing is decoded here; words.decode does that.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

MAX_HEADER_OCTETS = 1 << 20  # of one header section; fields that start behind it are not looked at
MAX_FIELDS = 10_000  # of one header section; later ones are not looked at

CACHED_FIELDS: frozenset[bytes] = frozenset(
    name.upper().encode()
    for name in (
        *(
            "Date",
            "From",
            "Sender",
            "Reply-To",
            "To",
            "Cc",
            "Bcc",
            "Subject",
            "Message-ID",
            "In-Reply-To",
            "References",
        ),
        *("Resent-Message-ID", "Newsgroups", "Content-Type", "Content-Description", "Lines", "Priority", "X-Priority"),
        *("Importance", "X-Label", "X-Mailer", "List-Id", "List-Post", "List-Subscribe", "List-Unsubscribe"),
        *("Disposition-Notification-To", "X-Original-To", "X-Spam-Flag", "X-Spam-Status", "Chat-Version"),
        *("X-Uniform-Type-Identifier", "X-Universally-Unique-Identifier", "X-K9mail-Identity", "X-Mozilla-Draft-Info"),
    )
)
"""What mail clients ask for in their message lists, upper case: Thunderbird, Apple Mail, K-9, Roundcube, mutt."""

_FIELD = re.compile(rb"^(([!-9;-~\x80-\xff]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)\n?)", re.MULTILINE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"\r?\n")


RawField = tuple[bytes, bytes, bytes]  # name in upper case, body as in Field.body save for a last CR, the whole lines


@dataclass(frozen=True, slots=True)
class Field:
    """One header field; offsets are into the header section it was read from."""

    name: bytes  # as written
    start: int  # first octet of the name
    end: int  # behind the last line end
    body: bytes  # raw octets behind the colon: folded, with leading white space, without the last line end


def fields(header: bytes) -> Iterator[Field]:
    """Iterate over the fields of a header section, up to its blank line if it has one."""
    matches = _FIELD.finditer(_without_blank_line(header), 0, MAX_HEADER_OCTETS)
    for field in islice(matches, MAX_FIELDS):
        body = field[3]
        yield Field(field[2], field.start(), field.end(), body[:-1] if body.endswith(b"\r") else body)


def read(section: bytes) -> list[RawField]:
    """Give every field of a header section, in order, to be looked through more than once. No blank line inside."""
    if len(section) > 1 << 16:
        matches = islice(_FIELD.finditer(section, 0, MAX_HEADER_OCTETS), MAX_FIELDS)
        return [(match[2].upper(), match[3], match[1]) for match in matches]
    return [(name.upper(), body, lines) for lines, name, body in _FIELD.findall(section)]


def cached(found: Iterable[RawField]) -> bytes:
    """What select_fields() gives for CACHED_FIELDS, from fields that were read already."""
    return _ended(b"".join([lines for name, _, lines in found if name in CACHED_FIELDS])) + b"\r\n"


def unfold(body: bytes) -> bytes:
    """Take the line ends out of a field body, RFC 5322 §2.2.3, and the white space in front of its first word.

    White space alone on the first line keeps all but its first octet, so that rendered values equal Dovecot's.
    """
    if body.endswith(b"\r"):
        body = body[:-1]
    if b"\n" not in body:
        return body.lstrip(b" \t") or body[1:]
    first, rest = body.split(b"\n", 1)
    first = first.removesuffix(b"\r")
    return (first.lstrip(b" \t") or first[1:]) + _FOLD.sub(b"", rest)


def select_fields(header: bytes, names: frozenset[bytes], *, negate: bool = False) -> bytes:
    """Give the raw lines of the fields named (upper case), in order, and a blank line, RFC 3501 §6.4.5.

    With negate, everything but those fields: lines that are no field stay. This is HEADER.FIELDS and HEADER.FIELDS.NOT.
    """
    text = _without_blank_line(header)
    spans = [match.span() for match in _FIELD.finditer(text) if match[2].upper() in names]
    if not negate:
        return _ended(b"".join([text[start:stop] for start, stop in spans])) + b"\r\n"
    kept = []
    position = 0
    for start, stop in spans:
        kept.append(text[position:start])
        position = stop
    kept.append(text[position:])
    return _ended(b"".join(kept)) + b"\r\n"


def _without_blank_line(header: bytes) -> bytes:
    """The lines of a header section in front of its blank line; all when there is none."""
    if header.startswith((b"\n", b"\r\n")):
        return b""
    blank = _BLANK_LINE.search(header)
    return header if blank is None else header[: blank.start() + 1]


def _ended(lines: bytes) -> bytes:
    return lines if not lines or lines.endswith(b"\n") else lines + b"\r\n"
