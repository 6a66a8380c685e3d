"""Content-Transfer-Encodings undone piece by piece, RFC 2045 §6, for bodies too large to be decoded in memory.

decode() is the same for a body that is at hand. Broken encodings give what can be read; an unknown one is an error here,
since RFC 3516 §4.3 wants it told.
"""

from binascii import a2b_base64, a2b_qp
from collections.abc import Callable

_IDENTITY = frozenset({b"", b"7bit", b"8bit", b"binary"})
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
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
        return b"".join([*map(_padded, pieces), a2b_base64(last[:whole])])

    def finish(self) -> bytes:
        """What the characters left over give."""
        held, self._held = self._held, b""
        return _padded(held)


def _padded(piece: bytes) -> bytes:
    if len(piece) % 4 == 1:
        piece = piece[:-1]
    return a2b_base64(piece + b"=" * (-len(piece) % 4))


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
        return a2b_qp(octets[:end])

    def finish(self) -> bytes:
        """The octets of the last line."""
        held, self._held = self._held, b""
        return a2b_qp(held)


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
