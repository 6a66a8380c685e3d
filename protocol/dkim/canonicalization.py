"""The body hash of DKIM, RFC 6376 §3.7, over the relaxed form of a body that comes in pieces of any size.

dkimpy canonicalises; this cuts, so that a message of many megabytes is never in memory as a whole and no single step takes
long. dkimpy's two steps run in the other order than its own: white space is squeezed first, which leaves the removal before
line ends nothing to go over twice (in dkimpy's order a body of spaces takes time by the square of its length).
"""

import hashlib

from dkim.canonicalization import compress_whitespace, strip_trailing_whitespace

from protocol.message.header import MAX_HEADER_OCTETS

_LINES = 1 << 15  # empty lines hashed at once


class MessageHash:
    """The header section and the body hash of a message that comes in pieces."""

    __slots__ = ("_body", "_header", "is_behind_header")

    def __init__(self) -> None:
        self._header = bytearray()
        self._body = BodyHash()
        self.is_behind_header = False  # whether `header` is complete

    def update(self, piece: bytes) -> None:
        """Go on with the next octets of the message. Raises ValueError for a header section that does not end."""
        if self.is_behind_header:
            self._body.update(piece)
            return
        header, searched = self._header, max(0, len(self._header) - 3)
        header += piece
        end = 0 if header.startswith(b"\r\n") else header.find(b"\r\n\r\n", searched) + 2
        if end == 1:  # not found
            if len(header) > MAX_HEADER_OCTETS:
                raise ValueError(f"a header section of more than {MAX_HEADER_OCTETS} octets")
            return
        self.is_behind_header = True
        self._body.update(bytes(header[end + 2 :]))
        del header[end:]

    @property
    def header(self) -> bytes:
        """The header fields, without the blank line; all of the message while none has come."""
        return bytes(self._header)

    def digest(self) -> bytes:
        """The body's hash, with everything given taken for the whole message."""
        return self._body.digest()


class BodyHash:
    """SHA-256 of a relaxed body, RFC 6376 §3.4.4. What might be the body's end is held back, as a count and at most two octets."""

    __slots__ = ("_empty_lines", "_hash", "_held", "_is_empty")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._empty_lines = 0  # line ends that count only if something follows
        self._held = b""  # behind those: nothing, a space, a CR, or both
        self._is_empty = True

    def update(self, piece: bytes) -> None:
        """Go on with the next octets of the body, as they are sent. CR and LF that stand alone are octets like others."""
        octets = self._held + piece
        if b"\t" in octets or b"  " in octets:
            octets = compress_whitespace(octets)
        if b" \r\n" in octets:
            octets = strip_trailing_whitespace(octets)
        settled = octets.rstrip(b" \r\n")
        rest = octets[len(settled) :]
        lines = rest.count(b"\r\n")
        if len(rest) - 2 * lines > 2 or not _is_end(rest, lines):
            end = _behind_lone(rest)
            settled, rest = octets[: len(settled) + end], rest[end:]
            lines = rest.count(b"\r\n")
        if settled:
            self._feed(settled)
        self._empty_lines += lines
        self._held = rest[2 * lines :]

    def digest(self) -> bytes:
        """The hash, with everything given taken for the whole body. A last line without its end counts as one with it:

        RFC 6376 §3.4.4 adds the line end, and so does DATA.
        """
        if b"\r" in self._held:
            self._feed(self._held)
        if not self._is_empty:
            self._hash.update(b"\r\n")
        return self._hash.digest()

    def _feed(self, settled: bytes) -> None:
        while self._empty_lines:
            lines = min(self._empty_lines, _LINES)
            self._hash.update(b"\r\n" * lines)
            self._empty_lines -= lines
        self._hash.update(settled)
        self._is_empty = False


def _is_end(rest: bytes, lines: int) -> bool:
    """Whether line ends alone stand in front, and behind them only what may still become a line end."""
    return rest == b"\r\n" * lines + rest[2 * lines :] and rest[2 * lines :] in (b"", b" ", b"\r", b" \r")


def _behind_lone(rest: bytes) -> int:
    """The place behind the last octet that belongs to no line end and is no space at the end of a line."""
    end = len(rest)
    if rest.endswith(b"\r"):
        end -= 1
    if rest.endswith(b" ", 0, end):
        end -= 1
    while rest.endswith(b"\r\n", 0, end):
        end -= 2
    return end
