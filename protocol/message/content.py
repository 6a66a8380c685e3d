"""The Content-* fields of a part, RFC 2045 and RFC 2183: field bodies in, what BODYSTRUCTURE shows out.

Never fails. Values stay octets as written: no charset, no encoded word and no percent sign is decoded here.
Where a field is broken we show what Dovecot shows, unless that would hide a part from its reader (see content_type),
and the boundary shown is always the one that the delimiter lines are found by.
"""

import re
from typing import NamedTuple

from protocol.message.header import unfold
from protocol.message.strings import remembering

Parameters = tuple[tuple[bytes, bytes], ...]

MAX_VALUE_OCTETS = 64 << 10  # of one structured field; what stands behind is not looked at
MAX_PARAMETERS = 200  # of one field; later ones are not looked at

_TOKEN = rb"[!#-'*+\-.0-9A-Z^-~\x80-\xff]"  # RFC 2045 §5.1, and 8-bit octets
_WHITE = rb"[ \t\r\n]*+"
_TYPE = re.compile(rb"%(w)s(%(t)s++)%(w)s/%(w)s(%(t)s++)%(w)s" % {b"t": _TOKEN, b"w": _WHITE})
_LONE_TYPE = re.compile(rb"%(w)s(%(t)s*+)%(w)s" % {b"t": _TOKEN, b"w": _WHITE})
_PARAMETER = re.compile(
    rb';%(w)s(%(t)s*+)%(w)s=%(w)s(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"|(=[^; \t\r\n]*+)|(?!")(%(t)s*+)([^; \t\r\n"(]*+))'
    % {b"t": _TOKEN, b"w": _WHITE},
    re.DOTALL,
)
_CONTINUED = re.compile(rb"(.*?)\*(?:(\d{1,3})(\*?))?", re.DOTALL)
_WHOLE_TOKEN = re.compile(rb"%(w)s(%(t)s++)%(w)s\Z" % {b"t": _TOKEN, b"w": _WHITE})
_LANGUAGE = re.compile(rb"%(w)s([!#-'*+\-/-9=?A-Z^-~\x80-\xff]++)%(w)s(?:,|\Z)?" % {b"w": _WHITE})
_COMMENT_MARKS = re.compile(rb'\\.|[()"]', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class ContentType(NamedTuple):
    """A Content-Type field, RFC 2045 §5.1."""

    type: bytes  # as written
    subtype: bytes
    parameters: Parameters
    boundary: bytes | None  # what delimiter lines carry: the boundary parameter, tolerant of unquoted specials
    main: bytes  # the type in lower case


TEXT_PLAIN = ContentType(b"text", b"plain", (), None, b"text")


@remembering(maxsize=512)
def content_type(body: bytes) -> ContentType:
    """Parse a Content-Type field body, folded or not. An unreadable one is text/plain, RFC 2045 §5.2.

    `type/subtype` with anything but ";" behind it still counts, and so do the parameters that follow.

    RFC 2045 §5.2 asks for text/plain on bad syntax, and Dovecot shows two empty strings. Both hide real mail:
    "multipart/mixed boundary=x" and "text/plain charset=x" occur, and their meaning is plain.
    """
    value = _without_comments(unfold(body))
    match = _TYPE.match(value)
    if match is not None:
        parameters, boundary = _parameters(value, match.end())
        if boundary is None and match[1].lower() == b"multipart" and value[match.end() : match.end() + 1] != b";":
            parameters, boundary = _parameters(b";" + value[match.end() :], 0)
        return ContentType(match[1], match[2], parameters, boundary, match[1].lower())
    lone = _LONE_TYPE.match(value)
    if lone is not None and lone[1].lower() == b"text" and value[lone.end() : lone.end() + 1] in (b";", b""):
        return ContentType(lone[1], b"plain", _parameters(value, lone.end())[0], None, b"text")
    if lone is not None and value[lone.end() : lone.end() + 1] == b";" and b"name" in value[lone.end() :].lower():
        parameters = _parameters(value, lone.end())[0]
        return ContentType(b"application", b"octet-stream", parameters, None, b"application")
    return TEXT_PLAIN


@remembering(maxsize=256)
def disposition(body: bytes) -> tuple[bytes, Parameters]:
    """Parse a Content-Disposition field body, RFC 2183 §2."""
    value = _without_comments(unfold(body))
    lone = _LONE_TYPE.match(value)
    assert lone is not None
    return lone[1], _parameters(value, lone.end())[0]


@remembering(maxsize=64)
def transfer_encoding(body: bytes) -> bytes | None:
    """Parse a Content-Transfer-Encoding field body, RFC 2045 §6.1: one token; None when it is none."""
    match = _WHOLE_TOKEN.match(_without_comments(unfold(body)))
    return None if match is None else match[1]


def languages(value: bytes) -> tuple[bytes, ...] | None:
    """Parse a Content-Language field body, RFC 3282 §2; None when no tag is there."""
    value = _without_comments(value)
    tags: list[bytes] = []
    match = _LANGUAGE.match(value)
    while match is not None and len(tags) < MAX_PARAMETERS:
        tags.append(match[1])
        match = _LANGUAGE.match(value, match.end()) if match[0].endswith(b",") else None
    return tuple(tags) or None


def parameter(parameters: Parameters, name: bytes) -> bytes | None:
    """The first parameter of that (lower-case) name."""
    for key, value in parameters:
        if key.lower() == name:
            return value
    return None


def _parameters(value: bytes, start: int) -> tuple[Parameters, bytes | None]:
    """Parse *(";" parameter), passing over what is none; the boundary apart, as _boundary() understands it."""
    simple: list[tuple[bytes, bytes]] = []
    continued: list[tuple[bytes, bytes]] = []
    boundary: bytes | None = None
    for match in _PARAMETER.finditer(value, start):
        name, quoted, odd, token, junk = match.groups()
        if quoted is not None:
            text = _ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted
        else:
            text = token if odd is None else odd
        if b"*" in name:
            continued.append((name, text))
        else:
            if boundary is None and name.lower() == b"boundary":
                # "boundary=a=b" is not RFC 2045 §5.1, yet its parts are delimited by "--a=b".
                boundary = text = text + (junk or b"")
            simple.append((name, text))
        if len(simple) + len(continued) == MAX_PARAMETERS:
            break
    if continued:
        simple += _joined(continued, {name for name, _ in simple})
        if boundary is None:
            boundary = parameter(tuple(simple), b"boundary")
    return tuple(simple), boundary


def _joined(continued: list[tuple[bytes, bytes]], taken: set[bytes]) -> list[tuple[bytes, bytes]]:
    """Join the continuations of RFC 2231 §3: name*0, name*1, … become name, or name* when a piece is name*N*."""
    plain: list[tuple[bytes, bytes]] = []
    pieces: list[tuple[bytes, int, bytes, bytes]] = []
    for name, text in continued:
        match = _CONTINUED.fullmatch(name)
        if match is None or match[2] is None:
            plain.append((name, text))
        else:
            pieces.append((match[1], int(match[2]), match[3], text))
    pieces.sort(key=lambda piece: (piece[0], piece[1]))
    groups: dict[bytes, list[tuple[bytes, int, bytes, bytes]]] = {}
    for piece in pieces:
        groups.setdefault(piece[0], []).append(piece)
    for name, group in groups.items():
        if name not in taken and [piece[1] for piece in group] == list(range(len(group))):
            extended = b"*" if any(piece[2] for piece in group) else b""
            plain.append((name + extended, b"".join([piece[3] for piece in group])))
        else:
            plain += [(b"%b*%d%b" % (name, number, star), text) for _, number, star, text in group]
    return plain


def _without_comments(value: bytes) -> bytes:
    """Take the comments out of a structured value, RFC 5322 §3.2.2; an unended one reaches to the end."""
    if len(value) > MAX_VALUE_OCTETS:
        value = value[:MAX_VALUE_OCTETS]
    if b"(" not in value:
        return value
    kept: list[bytes] = []
    position = level = 0
    is_quoted = False
    for mark in _COMMENT_MARKS.finditer(value):
        octet = mark[0]
        if octet == b'"' and not level:
            is_quoted = not is_quoted
        elif octet == b"(" and not is_quoted:
            if not level:
                kept.append(value[position : mark.start()])
            level += 1
        elif octet == b")" and level:
            level -= 1
            position = mark.end()
    if not level:
        kept.append(value[position:])
    return b" ".join(kept)
