"""The MIME scanner, RFC 2045 and RFC 2046: the octets of a message in, a tree of parts with octet offsets out.

One pass, and it never fails: what is malformed becomes the nearest sensible structure. It reads nothing but header
sections and delimiter lines, and never decodes or copies a body. A bare LF ends a line just as CRLF does.

Time is linear: each open multipart remembers where its next delimiter line stands and looks only as far as the
next one of those around it, so every octet is searched at most once per level, and levels are limited.
"""

import mmap
import re

import msgspec

from protocol.message import content, envelope, header
from protocol.message.content import ContentType, Parameters
from protocol.message.header import RawField

Buffer = bytes | mmap.mmap

MAX_DEPTH = 100  # parts within each other, the root counted; a deeper multipart or message is one opaque leaf
MAX_PARTS = 10_000  # of one message; the last one reaches to the end
MAX_HEADERS_OCTETS = 4 << 20  # of all header sections together; parts whose header lies behind are plain text
MAX_BOUNDARY_OCTETS = 1_000  # RFC 2046 §5.1.1 allows 70; a longer one than ours delimits nothing

_BLANK_LINE = re.compile(rb"\n\r?\n")
_COUNT_OCTETS = 1 << 20
_COMPOSITE = frozenset({b"rfc822", b"global"})  # of message/*, RFC 9051 §7.5.2: these carry a message


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One body part: where it lies, and what its header says of it. Offsets are into the octets scanned."""

    header_start: int
    body_start: int  # behind the blank line of the header section
    end: int  # behind the body, in front of the line end that belongs to the next delimiter line
    lines: int = 0  # line ends in the body; counted for text/* and message/rfc822 only, which are those that show it
    type: bytes = b"text"  # as written; "text" when there is no Content-Type field
    subtype: bytes = b"plain"
    parameters: Parameters = ()
    encoding: bytes | None = None  # Content-Transfer-Encoding
    id: bytes | None = None  # Content-ID
    description: bytes | None = None  # Content-Description
    md5: bytes | None = None  # Content-MD5
    disposition: tuple[bytes, Parameters] | None = None
    language: tuple[bytes, ...] | None = None
    location: bytes | None = None
    children: tuple["Part", ...] = ()  # of a multipart its parts; of message/rfc822 the root of the message in it
    envelope: bytes | None = None  # rendered, on the root of a message within message/rfc822

    @property
    def is_multipart(self) -> bool:
        """Whether this is multipart/*, with or without parts."""
        return self.type.lower() == b"multipart"

    @property
    def is_message(self) -> bool:
        """Whether this holds a message, which is then its only child."""
        return bool(self.children) and not self.is_multipart

    @property
    def is_text(self) -> bool:
        """Whether this is text/*."""
        return self.type.lower() == b"text"


def scan(octets: Buffer) -> Part:
    """Scan a message into its tree of parts. Never raises."""
    return Scanner(octets).root


class Scanner:
    """One scan: `root` is the tree, `fields` are the root's header fields as header.read() gives them."""

    __slots__ = ("_ahead", "_at", "_count", "_header_octets", "_length", "_needles", "_octets", "fields", "root")

    def __init__(self, octets: Buffer) -> None:
        self._octets = octets
        self._length = len(octets)
        self._needles: list[bytes] = []  # LF "--" boundary of the open multiparts, outermost first
        self._ahead: list[int] = []  # for each, where its next delimiter stands, or how far there is none
        self._at = 0  # the LF in front of the delimiter line that ended the last part
        self._count = 0
        self._header_octets = MAX_HEADERS_OCTETS  # that may still be read
        self.fields: list[RawField] = []
        self.root = self._part(0, 0, is_digest=False, is_message=False)

    def _part(self, start: int, depth: int, *, is_digest: bool, is_message: bool) -> Part:
        """Scan the part whose header section begins at start, in front of which a line ends."""
        self._count += 1
        stop = self._next_delimiter(start - 1)
        body_start = self._end_of_header(start, stop)
        if stop <= body_start and stop < self._length and self._level(stop) < len(self._needles) - 1:
            # The line end there belongs to the delimiter line, and that is outside the multipart this part is in.
            body_start = self._line_end(stop)
            start = min(start, body_start)
        size = min(body_start - start, header.MAX_HEADER_OCTETS, self._header_octets)
        self._header_octets -= size
        fields = header.read(self._octets[start : start + size])
        if not start and not depth:
            self.fields = fields
        kind, found = _read_content(fields)
        rendered = envelope.render(fields) if is_message else None
        if kind is None:
            kind = _MESSAGE if is_digest else content.TEXT_PLAIN
        main, type_, subtype = kind.main, kind.type, kind.subtype
        children: tuple[Part, ...] = ()
        lines = 0
        is_last = depth + 1 >= MAX_DEPTH or self._count >= MAX_PARTS
        if main == b"multipart" and not is_last:
            children = self._multipart(body_start, depth, kind)
            end = self._end_of_body(body_start)
        elif main == b"message" and not is_last and subtype.lower() in _COMPOSITE:
            children = (self._part(body_start, depth + 1, is_digest=False, is_message=True),)
            end = max(self._end_of_body(body_start), children[0].end)
            lines = self._count_lines(body_start, end)
        else:
            self._at = stop
            end = self._end_of_body(body_start)
            if main == b"text":
                lines = self._count_lines(body_start, end)
            elif main == b"multipart" or (main == b"message" and subtype.lower() in _COMPOSITE):
                type_, subtype = b"application", b"octet-stream"  # too deep; RFC 3501 §9 has no such body without parts
        return Part(start, body_start, end, lines, type_, subtype, kind.parameters, *found, children, rendered)

    def _multipart(self, body_start: int, depth: int, kind: ContentType) -> tuple[Part, ...]:
        """Scan the parts of a multipart, RFC 2046 §5.1.1, and its epilogue; leaves _at behind it."""
        at = body_start - 1
        children: list[Part] = []
        if kind.boundary is not None and len(kind.boundary) <= MAX_BOUNDARY_OCTETS:
            needle = b"\n--" + kind.boundary
            level = len(self._needles)
            self._needles.append(needle)
            self._ahead.append(-2)
            is_digest = kind.subtype.lower() == b"digest"
            at = self._next_delimiter(at)
            while at < self._length and self._count < MAX_PARTS and self._level(at) == level:
                behind = at + len(needle)
                if self._octets[behind : behind + 2] == b"--":
                    at = behind
                    break
                line_end = self._octets.find(b"\n", behind)
                if line_end < 0:  # cut off within the delimiter line: nothing begins behind it
                    at = self._length
                    break
                children.append(self._part(line_end + 1, depth + 1, is_digest=is_digest, is_message=False))
                at = self._at
            del self._needles[level:], self._ahead[level:]
        self._at = self._next_delimiter(at)
        return tuple(children)

    def _next_delimiter(self, position: int) -> int:
        """The LF in front of the next delimiter line of any open multipart, at or behind position; else the end."""
        nearest = self._length
        if self._count >= MAX_PARTS:
            return nearest
        ahead = self._ahead
        for level, needle in enumerate(self._needles):
            found = ahead[level]
            if found < position:
                found = self._octets.find(needle, max(position, 0), nearest + len(needle))
                ahead[level] = found = found if found >= 0 else nearest
            if found < nearest:
                nearest = found
        return nearest

    def _level(self, at: int) -> int:
        """Which open multipart the delimiter line behind the LF at `at` belongs to.

        Only its beginning needs to match (RFC 2046 §5.1.1). Where several do, the longest boundary counts, and of
        equal ones the innermost; a line that is exactly an inner one's delimiter is that one's.
        """
        octets = self._octets
        best, best_size = -1, 0
        for level in range(len(self._needles) - 1, -1, -1):
            needle = self._needles[level]
            size = len(needle)
            if size > best_size and octets[at : at + size] == needle:
                best, best_size = level, size
                rest = octets[at + size : at + size + 4].removeprefix(b"--")
                if not rest or rest.startswith((b"\n", b"\r\n")):
                    break
        return best

    def _end_of_header(self, start: int, stop: int) -> int:
        """The offset behind the blank line; without one the header section reaches to the delimiter line."""
        octets = self._octets
        first = octets[start : start + 2]
        if first == b"\r\n":
            return start + 2
        if first.startswith(b"\n"):
            return start + 1
        limit = min(stop + 1, self._length)
        blank = _BLANK_LINE.search(octets, start, limit)
        return max(limit, start) if blank is None else blank.end()

    def _end_of_body(self, body_start: int) -> int:
        """The end of a body in front of _at: the line end there belongs to the delimiter line, RFC 2046 §5.1.1."""
        at = self._at
        if at >= self._length:
            return self._length
        return max(self._line_end(at), body_start)

    def _line_end(self, at: int) -> int:
        """Where the line end begins whose LF stands at `at`."""
        return at - 1 if at > 0 and self._octets[at - 1 : at] == b"\r" else at

    def _count_lines(self, start: int, end: int) -> int:
        octets = self._octets
        if isinstance(octets, bytes):
            return octets.count(b"\n", start, end)
        pieces = (octets[at : min(at + _COUNT_OCTETS, end)] for at in range(start, end, _COUNT_OCTETS))
        return sum(piece.count(b"\n") for piece in pieces)


_MESSAGE = ContentType(
    b"message", b"rfc822", (), None, b"message"
)  # what multipart/digest defaults to, RFC 2046 §5.1.5

_Found = tuple[
    bytes | None,
    bytes | None,
    bytes | None,
    bytes | None,
    tuple[bytes, Parameters] | None,
    tuple[bytes, ...] | None,
    bytes | None,
]


def _read_content(fields: list[RawField]) -> tuple[ContentType | None, _Found]:
    """Pick the Content-* fields; of those that occur twice the first readable one counts."""
    kind: ContentType | None = None
    encoding = id_ = description = md5 = location = None
    disposition: tuple[bytes, Parameters] | None = None
    language: tuple[bytes, ...] | None = None
    for name, body, _ in fields:
        if not name.startswith(b"CONTENT-"):
            continue
        if name == b"CONTENT-TYPE":
            kind = kind or content.content_type(body)
            continue
        if name == b"CONTENT-TRANSFER-ENCODING":
            encoding = encoding or content.transfer_encoding(body)
            continue
        if name == b"CONTENT-DISPOSITION":
            if disposition is None or not disposition[1]:
                disposition = content.disposition(body)
            continue
        value = header.unfold(body)
        if name == b"CONTENT-ID":
            id_ = value if id_ is None else id_
        elif name == b"CONTENT-DESCRIPTION":
            description = value if description is None else description
        elif name == b"CONTENT-MD5":
            md5 = value if md5 is None else md5
        elif name == b"CONTENT-LOCATION":
            location = value if location is None else location
        elif name == b"CONTENT-LANGUAGE":
            language = language or content.languages(value)
    return kind, (encoding, id_, description, md5, disposition, language, location)
