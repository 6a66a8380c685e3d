r"""The octets of a message as DATA and BDAT carry them, both ways: RFC 5321 §4.1.1.4 and §4.5.2, RFC 3030 §2.

Only CRLF "." CRLF ends DATA. A bare CR or LF never ends anything, is never repaired and makes the message refusable:
every form of SMTP smuggling (CVE-2023-51764, CVE-2023-51765, CVE-2023-51766, CVE-2024-27305) needs a server that takes one
for a line end. Both machines go on to the end of a refused message, so that none of it is taken for a command.

All work is done over whole pieces, by C code, in linear time, and never per octet in Python.
"""

import re
from io import IncrementalNewlineDecoder

_CRLF = b"\r\n"
_END = b"\r\n.\r\n"
_DOT_LINE = re.compile(rb"\r\n\.")  # a third faster than bytes.find of the same three octets


class LineEndCheck:
    """Whether a stream of octets has line ends other than CRLF.

    Python's universal-newlines decoder keeps a record of the line ends it met, across calls, in one pass (0.8 µs per KiB);
    counting CR, LF and CRLF and comparing takes three.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = IncrementalNewlineDecoder(None, translate=False)

    def receive(self, octets: bytes) -> None:
        """Look at the next octets."""
        self._decoder.decode(octets.decode("latin-1"))

    @property
    def has_bare(self) -> bool:
        """Whether a CR or LF outside CRLF was met. A CR at the end of what came so far is not judged yet."""
        return self._decoder.newlines not in (None, "\r\n")

    def finish(self) -> bool:
        """End the stream, and give whether it has a CR or LF outside CRLF."""
        self._decoder.decode("", final=True)  # a CR at the very end
        return self.has_bare


class DataReader:
    """The octet machine of one DATA command.

    Whatever the cut, the pieces returned by receive() add up to the same message. After is_complete, rest holds the
    octets behind the end: the next commands of a pipelining client.
    """

    __slots__ = ("_held", "_is_first", "_line_ends", "has_bare_line_end", "is_complete", "rest")

    def __init__(self) -> None:
        self._held = _CRLF  # the CRLF behind the DATA command is the start of the end mark (RFC 5321 §4.1.1.4)
        self._is_first = True
        self._line_ends = LineEndCheck()
        self.has_bare_line_end = False  # valid once is_complete
        self.is_complete = False
        self.rest = b""

    def __repr__(self) -> str:
        return f"<DataReader {'complete' if self.is_complete else f'held={self._held!r}'}>"

    def receive(self, octets: bytes) -> bytes:
        """Take octets from the wire and give those of the message that are certain now, dots unstuffed."""
        if self.is_complete:
            self.rest += octets
            return b""
        window = self._held + octets
        end, has_dots = -1, False
        dot_line = _DOT_LINE.search(window)
        if dot_line is not None:
            end = dot_line.start()
            if not window.startswith(_END, end):
                end, has_dots = window.find(_END, end), True
        if end >= 0:
            self.is_complete = True
            self.rest = window[end + 5 :]
            self._held = b""
            piece = window[: end + 2]
        else:
            held = _held_length(window)
            piece, self._held = (window[:-held], window[-held:]) if held else (window, b"")
        # No piece starts or ends inside a CRLF or a CRLF ".", so each can be judged and unstuffed alone.
        if has_dots:
            piece = piece.replace(b"\r\n.", _CRLF)
        self._line_ends.receive(piece)
        if self.is_complete:
            self.has_bare_line_end = self._line_ends.finish()
        if self._is_first and piece:
            self._is_first = False
            return piece[2:]  # the CRLF of the DATA command
        return piece


def _held_length(window: bytes) -> int:
    """How many of the last octets may be the start of the end mark."""
    tail = window[-4:]
    for length in range(len(tail), 0, -1):
        if _END.startswith(tail[-length:]):
            return length
    return 0


class ChunkReader:
    """The octet machine of one message sent by BDAT: chunks of a stated length, octets as they are (RFC 3030 §2).

    begin() starts a chunk; receive() takes what belongs to it. Only a whole message is judged for bare line ends: a CRLF
    may be cut in two by a chunk's end.
    """

    __slots__ = ("_line_ends", "missing_octets", "rest")

    def __init__(self) -> None:
        self._line_ends = LineEndCheck()
        self.missing_octets = 0
        self.rest = b""

    def __repr__(self) -> str:
        return f"<ChunkReader missing={self.missing_octets}>"

    def begin(self, size_octets: int) -> None:
        """Expect a chunk of that many octets."""
        self.missing_octets = size_octets
        self.rest = b""

    def receive(self, octets: bytes) -> bytes:
        """Take octets from the wire and give those of this chunk; what lies behind it is left in rest."""
        if len(octets) > self.missing_octets:
            octets, behind = octets[: self.missing_octets], octets[self.missing_octets :]
            self.rest += behind
        self.missing_octets -= len(octets)
        self._line_ends.receive(octets)
        return octets

    def finish(self) -> bool:
        """End the message, and give whether it has a CR or LF outside CRLF."""
        return self._line_ends.finish()


class BareLineEndError(ValueError):
    """Content with a CR or LF outside CRLF cannot go out by DATA: another server might end the message there."""


class DataWriter:
    """The other direction of DataReader: the octets of a message in pieces, with dots stuffed and the end mark behind.

    Nothing of a piece that has a bare CR or LF is given (RFC 5321 §2.3.8).
    """

    __slots__ = ("_line_ends", "_tail")

    def __init__(self) -> None:
        self._line_ends = LineEndCheck()
        self._tail = _CRLF  # the message starts at the start of a line

    def __repr__(self) -> str:
        return f"<DataWriter tail={self._tail!r}>"

    def write(self, octets: bytes) -> bytes:
        """The next octets as they go out. Raises BareLineEndError."""
        self._line_ends.receive(octets)
        if self._line_ends.has_bare:
            raise BareLineEndError("content has a CR or LF outside CRLF")
        window = self._tail + octets
        held = len(self._tail)
        self._tail = window[-2:]
        return window.replace(b"\r\n.", b"\r\n..")[held:]

    def finish(self) -> bytes:
        """The end mark; a last line without its CRLF is given one. Raises BareLineEndError."""
        if self._line_ends.finish():
            raise BareLineEndError("content has a CR or LF outside CRLF")
        return b".\r\n" if self._tail == _CRLF else _END
