"""POP3 responses, RFC 1939 §3 and RFC 2449 §8: status lines, listings, and messages in byte-stuffed form."""

import re
from collections.abc import Iterable
from enum import Enum

END = b".\r\n"  # RFC 1939 §3: the termination octet and CRLF end a multi-line response


class Code(Enum):
    """Response codes, RFC 2449 §8 and RFC 3206."""

    IN_USE = "IN-USE"  # RFC 2449 §8.1.2: another session holds the maildrop
    LOGIN_DELAY = "LOGIN-DELAY"  # RFC 2449 §8.1.1
    SYS_TEMP = "SYS/TEMP"  # RFC 3206 §4: our fault, may pass
    SYS_PERM = "SYS/PERM"  # RFC 3206 §4: our fault, will not pass by itself
    AUTH = "AUTH"  # RFC 3206 §5: the credentials are at fault


def ok(text: str = "") -> bytes:
    """A positive status line."""
    return f"+OK {text}\r\n".encode() if text else b"+OK\r\n"


def error(text: str, code: Code | None = None) -> bytes:
    """A negative status line."""
    return f"-ERR [{code.value}] {text}\r\n".encode() if code else f"-ERR {text}\r\n".encode()


def multi_line(first: bytes, lines: Iterable[str]) -> bytes:
    """A multi-line response whose lines never begin with the termination octet."""
    return b"".join((first, "".join([f"{line}\r\n" for line in lines]).encode(), END))


def numbered(values: Iterable[object], without: frozenset[int] | set[int], prefix: str = "") -> bytes:
    """The listing of LIST and UIDL: a message number and its value for each message, but for those numbers in `without`.

    One pass and one join: a maildrop may have 100,000 messages.
    """
    if without:
        lines = [f"{number} {prefix}{value}\r\n" for number, value in enumerate(values, 1) if number not in without]
    else:
        lines = [f"{number} {prefix}{value}\r\n" for number, value in enumerate(values, 1)]
    return "".join(lines).encode() + END


class Stuffing:
    """Byte-stuffs one message in pieces (RFC 1939 §3): a line that begins with a dot gets another one before it.

    A line begins after CRLF, and nowhere else. One exception: a message may hold bare LFs (IMAP APPEND takes them), and
    most clients cut lines at LF. Left as it is, LF "." LF or LF "." CRLF would end the message for them, and its rest
    would be taken for our next reply; so such a dot gets another one as well.
    """

    def __init__(self) -> None:
        self._held = b"\r\n"  # not gone by yet, as what follows decides; at first the line end before the message
        self._unsent = 2  # octets of what is held that are none of the message

    def feed(self, octets: bytes) -> bytes:
        """The next piece of the message as it goes on the wire, as far as it is decided."""
        known = self._held + octets
        undecided = _UNDECIDED.search(known[-_UNDECIDED_OCTETS:])
        assert undecided is not None
        stop = len(known) - len(undecided[0])
        decided, self._held = known[:stop], known[stop:]
        # Only a line end can stand behind such a dot: anything else that is undecided would have begun before it.
        is_bare_end = self._held and decided.endswith(b"\n.") and not decided.endswith(b"\r\n.")
        return self._out(decided) + (b"." if is_bare_end else b"")

    def end(self) -> bytes:
        """The rest of the message: its last line is ended where it is not, then the termination octet."""
        ended = self._held if self._held.endswith(b"\r\n") else self._held + b"\r\n"
        return self._out(ended) + END

    def _out(self, octets: bytes) -> bytes:
        stuffed = octets
        if b"\n." in octets:  # one look through a message that has none, which is most
            stuffed = octets.replace(b"\r\n.", b"\r\n..")
            if b"\n.\r\n" in stuffed or b"\n.\n" in stuffed:
                stuffed = _BARE_END.sub(b"\n..", stuffed)
        sent = stuffed[self._unsent :]
        self._unsent = max(0, self._unsent - len(stuffed))
        return sent


_UNDECIDED = re.compile(rb"(?:\r?\n(?:\.\r?)?|\r)?\Z")
_UNDECIDED_OCTETS = 4
_BARE_END = re.compile(rb"\n\.(?=\r?\n)")  # where dots behind CRLF are doubled, what is left is behind a bare LF


def stuffed_message(octets: bytes) -> bytes:
    """A whole message as it goes on the wire, with the termination octet."""
    stuffing = Stuffing()
    return stuffing.feed(octets) + stuffing.end()


_HEADER_END = re.compile(rb"\n\r?\n")


class TopCut:
    """Cuts a message in pieces to its header, the empty line and the first `lines` lines of the body (RFC 1939 §7)."""

    def __init__(self, lines: int) -> None:
        self.is_done = False  # nothing of what follows belongs to the answer
        self._lines = lines
        self._is_in_header = True
        self._last = b"\n"  # the end of what has gone by: an empty line at the very start ends an empty header

    def feed(self, octets: bytes) -> bytes:
        """The part of this piece that belongs to the answer."""
        if self.is_done:
            return b""
        start = self._after_header(octets) if self._is_in_header else 0
        if self._is_in_header:
            return octets
        end = self._after_lines(octets, start)
        return octets[:end]

    def _after_header(self, octets: bytes) -> int:
        joined = self._last + octets
        match = _HEADER_END.search(joined)
        if match is None:
            self._last = joined[-2:]
            return 0
        self._is_in_header = False
        return match.end() - len(self._last)

    def _after_lines(self, octets: bytes, position: int) -> int:
        if octets.count(b"\n", position) < self._lines:
            self._lines -= octets.count(b"\n", position)
            return len(octets)
        for _ in range(self._lines):
            position = octets.find(b"\n", position) + 1
        self.is_done = True
        return position
