"""Binary messages (RFC 3030 §3) made fit for transport in lines: bodies that are not become base64, labels tell what is true.

What a line can hold is at most 998 octets, no NUL, no CR or LF alone (RFC 5321 §4.5.3.1.6, RFC 2045 §2.8).
"""

import base64
import re
from collections.abc import Iterator

from protocol.message.header import select_fields
from protocol.message.mime import Buffer, Part
from protocol.message.transfer import UnknownEncodingError

_NO_LINES = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n|[^\r\n]{999}")
_CTE = frozenset({b"CONTENT-TRANSFER-ENCODING"})
_UNENCODED = frozenset({b"", b"7bit", b"8bit", b"binary"})
_PIECE_OCTETS = 1 << 20
_ENCODED_AT_ONCE = 57 << 14  # base64 lines of 57 octets each


def is_in_lines(octets: Buffer, start: int = 0, end: int | None = None) -> bool:
    """Whether the octets can go through transports that know lines only."""
    return _NO_LINES.search(octets, start, len(octets) if end is None else end) is None


def in_lines(octets: Buffer, root: Part) -> Iterator[bytes]:
    """The message in pieces, fit for such transports.

    Raises UnknownEncodingError where that is not possible: what is no line stands outside of bodies, or in one with an encoding
    already; or the change would be in what is signed or encrypted (RFC 1847 §2.1).
    """
    at = 0
    for part in _to_change(octets, root, is_sealed=False):
        _demand_lines(octets, at, part.body_start)
        yield from _pieces(octets, at, part.header_start)
        is_encoded = not part.children and not is_in_lines(octets, part.body_start, part.end)
        yield b"Content-Transfer-Encoding: " + (b"base64" if is_encoded else b"8bit") + b"\r\n"
        yield select_fields(octets[part.header_start : part.body_start], _CTE, negate=True)
        at = part.body_start
        if is_encoded:
            yield from _base64(octets, part)
            at = part.end
    _demand_lines(octets, at, len(octets))
    yield from _pieces(octets, at, len(octets))


def _to_change(octets: Buffer, part: Part, *, is_sealed: bool) -> Iterator[Part]:
    """The parts whose header changes, in order: the label "binary" goes, and bodies without lines are encoded."""
    encoding = (part.encoding or b"").strip().lower()
    is_changed = encoding == b"binary"
    if not part.children and not part.is_multipart and not is_in_lines(octets, part.body_start, part.end):
        if encoding not in _UNENCODED:
            raise UnknownEncodingError("no lines in an encoded body")
        is_changed = True
    if is_changed:
        if is_sealed:
            raise UnknownEncodingError("binary in what is signed")
        yield part
    is_sealed = is_sealed or (part.is_multipart and part.subtype.lower() in (b"signed", b"encrypted"))
    for child in part.children:
        yield from _to_change(octets, child, is_sealed=is_sealed)


def _base64(octets: Buffer, part: Part) -> Iterator[bytes]:
    for start in range(part.body_start, part.end, _ENCODED_AT_ONCE):
        end = min(part.end, start + _ENCODED_AT_ONCE)
        lines = base64.encodebytes(octets[start:end]).replace(b"\n", b"\r\n")
        yield lines if end < part.end or part.end == len(octets) else lines[:-2]


def _demand_lines(octets: Buffer, start: int, end: int) -> None:
    if not is_in_lines(octets, start, end):
        raise UnknownEncodingError("no lines outside of bodies")


def _pieces(octets: Buffer, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, _PIECE_OCTETS):
        yield octets[at : min(end, at + _PIECE_OCTETS)]
