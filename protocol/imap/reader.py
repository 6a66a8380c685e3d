"""The reading half of an IMAP connection: octets in, commands and events out (RFC 3501 §2.2, §4.3, RFC 7888).

One generator reads as if it could block and is resumed when octets arrive, so that no octet of a command is looked at
twice for its line ends and literals, and the grammar runs once, over the complete command. It never raises on input, keeps
no more than one line or literal within its limits, holds a message never, and knows neither states nor rights.

A literal too large for us: a synchronising one is refused instead of "+", and the next line is a new command. A
non-synchronising one comes anyway; RFC 7888 §4 lets the server read and drop it or close the connection. We drop up to
limits.discard_octets for each refused command, which costs no memory, and beyond that end the connection.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass

from protocol.imap.command import Append, Authenticate, Command, Enable, Idle, Login, StartTls
from protocol.imap.cursor import CommandError, Cursor
from protocol.imap.events import AppendOctets, AppendStarts, Continue, Line, Rejected
from protocol.imap.grammar import AppendHead, expect_append_head, expect_command, expect_head, tag_of
from protocol.imap.limits import Limits

Event = Command | Continue | Rejected | AppendStarts | AppendOctets | Line

# After these the client's next octets mean something else (SASL, DONE, a TLS handshake, names in UTF-8) or have other limits.
_WAITING = frozenset((Authenticate, Enable, Idle, Login, StartTls))
_LITERAL = re.compile(rb"(~?)\{([0-9]{1,20})(\+?)\}\Z")
_LITERAL_OCTETS = 24  # the longest spelling of it
_TAG_OCTETS = 256  # looked at for the tag of a line too long to be read


@dataclass(frozen=True, slots=True)
class _Announced:
    """A literal whose octets have not been read: what its line ended with."""

    position: int  # of its first octet, in the joined lines
    size_octets: int
    is_synchronizing: bool
    is_binary: bool


class CommandReader:
    """Octets in, events out; never raises on input.

    The session's loop, which serves every case: `events = reader.receive(octets)`; handle each; then again with
    `reader.receive(b"")` until that returns nothing. receive() stops behind an event that must be answered first
    (`is_waiting`): AppendStarts (answer with accept() or refuse()), Authenticate and Idle (call expect_line() to get
    the next line raw, or just go on), Line (the same), StartTls (replace the reader), Enable (set is_utf8), Login (set limits).
    """

    def __init__(self, limits: Limits | None = None, *, is_strict: bool = False) -> None:
        self.limits = limits or Limits()  # may be replaced at any time, as after login
        self.is_utf8 = False  # set when UTF8=ACCEPT or IMAP4rev2 is enabled
        self.is_strict = is_strict
        self._buffer = bytearray()
        self._scanned = 0  # how much of the buffer holds no line end
        self._events: list[Event] = []
        self._is_waiting = False
        self._is_closed = False
        self._wants_line = False
        self._tag: bytes | None = None  # of the command being read, for the answer to an error
        self._refused = b""  # the line that was refused, or its beginning
        self._is_mid_line = False  # a line was given up before its end
        self._announced: _Announced | None = None  # neither accepted nor swallowed
        self._awaits_append = False
        self._is_append_accepted = False
        self._machine = self._run()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "waiting" if self.is_waiting else "reading"
        return f"<CommandReader {state}, {len(self._buffer)} octets kept>"

    @property
    def is_waiting(self) -> bool:
        """Whether the last event must be answered before more can come."""
        return self._is_waiting

    @property
    def buffered_octets(self) -> int:
        """Octets kept: within one line or literal, unless the reader waits and was given more."""
        return len(self._buffer)

    def receive(self, octets: bytes) -> list[Event]:
        """The events that these octets, and those kept from before, complete. Behind a fatal Rejected there are none."""
        if self._is_closed:
            return []
        self._buffer += octets
        if self._awaits_append:
            return []
        self._events = []
        self._is_waiting = False
        next(self._machine)
        return self._events

    def accept(self) -> None:
        """Let AppendStarts' message come as AppendOctets; the session sends "+ OK" itself if is_synchronizing."""
        self._is_append_accepted, self._awaits_append, self._is_waiting = True, False, False

    def refuse(self) -> None:
        """Drop the APPEND: its octets, if they come anyway, are swallowed, and no further event carries its tag."""
        self._is_append_accepted, self._awaits_append, self._is_waiting = False, False, False

    def expect_line(self) -> None:
        """Make the next line a Line. Call it after Authenticate, Idle or Line, when the "+" is sent.

        A line too long comes as Rejected without a tag instead.
        """
        self._wants_line = True

    def _run(self) -> Generator[None, None, None]:
        while not self._is_closed:
            self._tag = None
            try:
                if self._wants_line:
                    self._wants_line = False
                    line = yield from self._line()
                    self._events.append(Line(line))
                    yield from self._pause()
                else:
                    yield from self._command()
            except CommandError as error:
                yield from self._reject(error)
        while True:
            yield

    def _pause(self) -> Generator[None, None, None]:
        self._is_waiting = True
        yield

    def _command(self) -> Generator[None, None, None]:
        try:
            octets = yield from self._line()
        except CommandError:
            self._tag = tag_of(self._refused)
            raise
        if not octets:
            return  # an empty line: some clients end a literal with one CRLF too many
        self._tag = tag_of(octets)
        literals: dict[int, bytes] = {}
        if self._announced:
            _, verb = expect_head(self._cursor(octets, literals))  # before a client that is confused sends more
            octets = yield from self._rest(octets, literals, is_append=verb == b"APPEND")
            if self._announced:
                yield from self._append(octets, literals, self._announced)
                return
        command = expect_command(self._cursor(octets, literals))
        self._events.append(command)
        if type(command) in _WAITING:
            yield from self._pause()

    def _rest(self, octets: bytes, literals: dict[int, bytes], *, is_append: bool) -> Generator[None, None, bytes]:
        """Read literals and the lines behind them, to the end of the command or to the message of APPEND."""
        lines = [octets]
        length, total = len(octets), len(octets)
        while (literal := self._announced) is not None:
            if is_append and (literals or not _is_mailbox(lines[0], literal)):
                break
            total += literal.size_octets
            if literal.size_octets > self.limits.literal_octets:
                raise CommandError("BAD", None, "literal too large")
            if total > self.limits.command_octets:
                raise CommandError("BAD", None, "command too large")
            self._announced = None
            if literal.is_synchronizing:
                self._events.append(Continue())
            literals[literal.position] = yield from self._exactly(literal.size_octets)
            line = yield from self._line(length)
            length += len(line)
            total += len(line)
            lines.append(line)
            if total > self.limits.command_octets:
                raise CommandError("BAD", None, "command too large")
        return b"".join(lines)

    def _append(self, octets: bytes, literals: dict[int, bytes], message: _Announced) -> Generator[None, None, None]:
        """Ask for the message of an APPEND and pass it on, or swallow it."""
        cursor = self._cursor(octets, literals)
        tag, _ = expect_head(cursor)
        head = expect_append_head(cursor)
        if cursor.position != message.position:
            cursor.fail("a literal")
        if message.size_octets > self.limits.append_octets:
            raise CommandError("NO", b"TOOBIG", "message too large")
        self._events.append(_starts(tag, head, message))
        self._awaits_append = True
        yield from self._pause()
        if not self._is_append_accepted:
            yield from self._discard()
            return
        self._announced = None
        remaining = message.size_octets
        while remaining:
            piece = bytes(memoryview(self._buffer)[:remaining])
            if piece:
                self._consume(len(piece))
                self._events.append(AppendOctets(piece))
                remaining -= len(piece)
            else:
                yield
        rest = yield from self._line()
        if rest.strip(b" ") or (rest and self.is_strict):
            raise CommandError("BAD", None, "expected the end of the command after the message")
        self._events.append(Append(tag, head.mailbox, head.flags, head.internaldate, message.size_octets))

    # Refusing

    def _reject(self, error: CommandError) -> Generator[None, None, None]:
        literal = self._announced
        is_fatal = (
            literal is not None and not literal.is_synchronizing and literal.size_octets > self.limits.discard_octets
        )
        self._events.append(Rejected(self._tag, error.status, error.code, error.text, is_fatal))
        if is_fatal:
            self._close()
        else:
            yield from self._discard()

    def _discard(self) -> Generator[None, None, None]:
        """Read past what a refused command still sends: the rest of a line, and non-synchronising literals."""
        left = self.limits.discard_octets
        while True:
            if self._is_mid_line:
                left = yield from self._skip_line(left)
            literal, self._announced = self._announced, None
            if left >= 0 and (literal is None or literal.is_synchronizing):
                return
            if literal is not None:
                left -= literal.size_octets
            if left < 0:
                self._events.append(Rejected(None, "BAD", None, "too much to discard", is_fatal=True))
                self._close()
                return
            yield from self._skip(literal.size_octets if literal else 0)
            self._is_mid_line = True

    def _skip_line(self, left: int) -> Generator[None, None, int]:
        """Drop octets to the end of the line; set what it announces; return how many more may be dropped."""
        tail = b""
        while (end := self._buffer.find(b"\n")) < 0:
            left -= len(self._buffer)
            if left < 0:
                return left
            tail = (tail + bytes(self._buffer[-_LITERAL_OCTETS - 1 :]))[-_LITERAL_OCTETS - 1 :]
            self._consume(len(self._buffer))
            yield
        tail += bytes(self._buffer[max(0, end - _LITERAL_OCTETS - 1) : end])
        self._consume(end + 1)
        self._is_mid_line = False
        self._announced = _announced(tail[:-1] if tail.endswith(b"\r") else tail, 0)
        return left - end

    def _skip(self, size_octets: int) -> Generator[None, None, None]:
        while size_octets > len(self._buffer):
            size_octets -= len(self._buffer)
            self._consume(len(self._buffer))
            yield
        self._consume(size_octets)

    def _close(self) -> None:
        self._is_closed = True
        self._buffer.clear()

    # Octets

    def _line(self, offset: int = 0) -> Generator[None, None, bytes]:
        """One line without its end, the literal it announces noted; `offset` is the length of the lines before it."""
        limit = self.limits.line_octets
        while (end := self._buffer.find(b"\n", self._scanned)) < 0:
            self._scanned = len(self._buffer)
            if self._scanned > limit + 1:
                break
            yield
        line = bytes(self._buffer[: max(end, 0)])
        has_cr = line.endswith(b"\r")
        if has_cr:
            line = line[:-1]
        if end < 0 or len(line) > limit:
            self._is_mid_line = True
            seen = line[: min(limit, _TAG_OCTETS)] if end >= 0 else bytes(self._buffer[: min(limit, _TAG_OCTETS)])
            self._refused = seen[: seen.rfind(b" ") + 1]  # a tag cut off is none
            raise CommandError("BAD", None, "command line too long")
        self._consume(end + 1)
        self._announced = _announced(line, offset) if line.endswith(b"}") else None
        # A bare LF is taken as the end of a line: scripts and people at a terminal send it, and it can stand nowhere else.
        if self.is_strict and not has_cr:
            self._refused = line
            raise CommandError("BAD", None, "expected CRLF at the end of the line")
        return line

    def _exactly(self, size_octets: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < size_octets:
            yield
        octets = bytes(memoryview(self._buffer)[:size_octets])
        self._consume(size_octets)
        return octets

    def _consume(self, size_octets: int) -> None:
        del self._buffer[:size_octets]  # from the front of a bytearray this moves nothing
        self._scanned = 0

    def _cursor(self, octets: bytes, literals: dict[int, bytes]) -> Cursor:
        return Cursor(octets, literals, self.limits, is_strict=self.is_strict, is_utf8=self.is_utf8)


# literal = "{" number ["+"] "}" CRLF, literal8 = "~{" number ["+"] "}" CRLF
# What stands at the end of a line and looks like this can be nothing else: "{" is in no atom, and a quoted string ends in a quote.
def _announced(line: bytes, offset: int) -> _Announced | None:
    start = max(0, len(line) - _LITERAL_OCTETS)
    found = _LITERAL.search(line, start)
    if found is None:
        return None
    return _Announced(offset + found.start(), int(found[2]), not found[3], bool(found[1]))


def _is_mailbox(line: bytes, literal: _Announced) -> bool:
    """Whether the first literal of an APPEND is its mailbox name: nothing but tag and verb stand before it."""
    return line.count(b" ", 0, literal.position) == 2 and line[literal.position - 1] == 0x20


def _starts(tag: bytes, head: AppendHead, message: _Announced) -> AppendStarts:
    return AppendStarts(
        tag,
        head.mailbox,
        head.flags,
        head.internaldate,
        message.size_octets,
        message.is_synchronizing,
        message.is_binary,
    )
