"""Content-Transfer-Encodings undone piece by piece, RFC 2045 §6, for bodies too large to be decoded in memory.

decode() is the same for a body that is at hand. Broken encodings give what can be read; an unknown one is an error here,
since RFC 3516 §4.3 wants it told.
"""

import base64
from binascii import a2b_base64, b2a_qp
from collections.abc import Callable, Iterator

from protocol.message.header import select_fields
from protocol.message.mime import Buffer, Part
from protocol.message.words import decode_piece, decode_quoted_printable

_IDENTITY = frozenset({b"", b"7bit", b"8bit", b"binary"})
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_CTE = frozenset({b"CONTENT-TRANSFER-ENCODING"})
_MIME_VERSION = frozenset({b"MIME-VERSION"})
_PIECE_OCTETS = 1 << 20
_ENCODED_AT_ONCE = 57 << 14  # base64 lines of 57 octets each
_LINE_OCTETS = 64 << 10  # a quoted-printable line is at most 76 octets (RFC 2045 §6.7); what is longer is cut somewhere


class UnknownEncodingError(Exception):
    """A Content-Transfer-Encoding that we cannot undo."""


class Base64Decoder:
    """base64, RFC 2045 §6.8: what is not of its alphabet is passed over, padding may be missing or early."""

    def __init__(self) -> None:
        self._held = b""  # less than four characters

    def feed(self, octets: bytes) -> bytes:
        """The octets that these characters complete."""
        pieces = (self._held + octets.translate(None, _NOT_BASE64)).split(b"=")
        last = pieces.pop()
        whole = len(last) - len(last) % 4
        self._held = last[whole:]
        return b"".join([*map(decode_piece, pieces), a2b_base64(last[:whole])])

    def finish(self) -> bytes:
        """What the characters left over give."""
        held, self._held = self._held, b""
        return decode_piece(held)


class QuotedPrintableDecoder:
    """quoted-printable, RFC 2045 §6.7, line by line."""

    def __init__(self) -> None:
        self._held = b""  # a line without its end

    def feed(self, octets: bytes) -> bytes:
        """The octets of the lines that these complete."""
        octets = self._held + octets
        end = octets.rfind(b"\n") + 1
        if len(octets) - end > _LINE_OCTETS:
            end = len(octets) - 3  # an escape is three octets; behind it a soft line end may follow
            end = octets.find(b"=", end) if b"=" in octets[end:] else len(octets)
        self._held = octets[end:]
        return decode_quoted_printable(octets[:end])

    def finish(self) -> bytes:
        """The octets of the last line."""
        held, self._held = self._held, b""
        return decode_quoted_printable(held)


Decoder = Base64Decoder | QuotedPrintableDecoder
_DECODERS: dict[bytes, Callable[[], Decoder]] = {
    b"base64": Base64Decoder,
    b"quoted-printable": QuotedPrintableDecoder,
}


def decoder_of(encoding: bytes | None) -> Decoder | None:
    """A decoder for a body in this encoding; None where its octets are the content. Raises UnknownEncodingError."""
    name = (encoding or b"").strip().lower()
    if name in _IDENTITY:
        return None
    make = _DECODERS.get(name)
    if make is None:
        raise UnknownEncodingError("unknown Content-Transfer-Encoding")
    return make()


def decode(body: bytes, encoding: bytes | None) -> bytes:
    """A body with its encoding undone. Raises UnknownEncodingError."""
    decoder = decoder_of(encoding)
    return body if decoder is None else decoder.feed(body) + decoder.finish()


def without_nul(octets: Buffer, root: Part) -> Iterator[bytes]:
    """The message in pieces, its parts that hold NUL in base64: no other form of IMAP than BINARY could give them to a client.

    Raises UnknownEncodingError where that is not possible: outside of bodies, in a body with an encoding already, and in what
    is signed (RFC 1847 §2.1: not to be changed).
    """
    at = 0
    for part in _with_nul(octets, root):
        _forbid_nul(octets, at, part.body_start)
        yield from _pieces(octets, at, part.header_start)
        yield b"Content-Transfer-Encoding: base64\r\n"
        yield select_fields(octets[part.header_start : part.body_start], _CTE, negate=True)
        for start in range(part.body_start, part.end, _ENCODED_AT_ONCE):
            end = min(part.end, start + _ENCODED_AT_ONCE)
            lines = base64.encodebytes(octets[start:end]).replace(b"\n", b"\r\n")
            yield lines if end < part.end or part.end == len(octets) else lines[:-2]
        at = part.end
    _forbid_nul(octets, at, len(octets))
    yield from _pieces(octets, at, len(octets))


def _with_nul(octets: Buffer, part: Part) -> Iterator[Part]:
    """The leaves that hold NUL, in order."""
    if octets.find(b"\0", part.body_start, part.end) < 0:
        return
    if part.children:
        if part.is_multipart and part.subtype.lower() in (b"signed", b"encrypted"):
            raise UnknownEncodingError("NUL in what is signed")
        for child in part.children:
            yield from _with_nul(octets, child)
    elif not part.is_multipart and (part.encoding or b"").strip().lower() in _IDENTITY:
        yield part


def _forbid_nul(octets: Buffer, start: int, end: int) -> None:
    if octets.find(b"\0", start, end) >= 0:
        raise UnknownEncodingError("NUL outside of a body without encoding")


def without_8bit(octets: bytes, root: Part) -> Iterator[bytes]:
    """The message in pieces with 7-bit lines only, for a server without 8BITMIME or BINARYMIME (RFC 6152 §3, RFC 3030 §3).

    Text becomes quoted-printable, what else is not 7-bit base64; a decoder gets the same content. Raises UnknownEncodingError
    where that is not possible: in a header section, in a body with an encoding already, and in what is signed.
    """
    at = 0
    for part in _not_7bit(octets, root):
        _forbid_8bit(octets, at, part.body_start)
        yield from _pieces(octets, at, part.header_start)
        section = octets[part.header_start : part.body_start]
        kept = select_fields(section, _CTE, negate=True)
        at = part.body_start
        if part.children or part.is_multipart:
            yield kept  # what is in it is 7-bit soon, which is what no field says
            continue
        if part is root and len(select_fields(section, _MIME_VERSION)) <= 2:
            yield b"MIME-Version: 1.0\r\n"  # without it the next field says nothing (RFC 2045 §4)
        body = octets[part.body_start : part.end]
        is_lines = part.is_text and b"\0" not in body and body.count(b"\n") == body.count(b"\r\n") == body.count(b"\r")
        yield b"Content-Transfer-Encoding: %s\r\n" % (b"quoted-printable" if is_lines else b"base64")
        yield kept
        if is_lines:
            lines = b2a_qp(body, istext=True)
            yield lines if b"\n" in body else lines.replace(b"\n", b"\r\n")  # it ends its lines as it finds them ended
        else:
            lines = base64.encodebytes(body).replace(b"\n", b"\r\n")
            yield lines if part.end == len(octets) else lines[:-2]
        at = part.end
    _forbid_8bit(octets, at, len(octets))
    yield from _pieces(octets, at, len(octets))


def _not_7bit(octets: bytes, part: Part) -> Iterator[Part]:
    """The parts whose header section has to change, in order."""
    encoding = (part.encoding or b"").strip().lower()
    body = octets[part.body_start : part.end]
    is_binary = encoding == b"binary" or b"\0" in body
    if body.isascii() and not is_binary:
        return
    if encoding not in _IDENTITY:
        raise UnknownEncodingError("8-bit octets in an encoded body")
    if part.children:
        if part.is_multipart and part.subtype.lower() in (b"signed", b"encrypted"):
            raise UnknownEncodingError("8-bit octets in what is signed")
        if encoding not in (b"", b"7bit"):
            yield part
        for child in part.children:
            yield from _not_7bit(octets, child)
    elif part.is_multipart or part.type.lower() == b"message":
        raise UnknownEncodingError("8-bit octets in a part that must not be encoded")
    else:
        yield part


def _forbid_8bit(octets: bytes, start: int, end: int) -> None:
    if not octets[start:end].isascii() or b"\0" in octets[start:end]:
        raise UnknownEncodingError("8-bit octets outside of a body without encoding")


def _pieces(octets: Buffer, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, _PIECE_OCTETS):
        yield octets[at : min(end, at + _PIECE_OCTETS)]
