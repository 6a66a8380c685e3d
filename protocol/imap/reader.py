"""The reading half of an IMAP connection: octets in, commands and events out (RFC 3501 §2.2, §4.3, RFC 7888).

One generator reads as if it could block and is resumed when octets arrive, so that no octet of a command is looked at
twice for its line ends and literals, and the grammar runs once, over the complete command. It never raises on input, keeps
no more than one line or literal within its limits, holds a message never, and knows neither states nor rights.

A literal too large for us: a synchronising one is refused instead of "+", and the next line is a new command. A
non-synchronising one comes anyway; RFC 7888 §4 lets the server read and drop it or close the connection. We drop up to
limits.discard_octets for each refused command, which costs no memory, and beyond that end the connection.
"""

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass

from protocol.imap.append import expect_append_opts, take_replaced, takes_messages
from protocol.imap.command import Authenticate, Command, Enable, Idle, Login, StartTls, Unauthenticate
from protocol.imap.compress import Compress
from protocol.imap.cursor import CommandError, Cursor, expect_astring
from protocol.imap.events import (
    AppendEnds,
    AppendEvent,
    AppendLiteral,
    AppendMessage,
    AppendOctets,
    AppendStarts,
    AppendUrl,
    Continue,
    Line,
    Rejected,
)
from protocol.imap.grammar import expect_command, expect_head, tag_of
from protocol.imap.limits import Limits
from protocol.imap.names import expect_mailbox

Event = Command | Continue | Rejected | AppendEvent | Line

# After these the client's next octets mean something else (SASL, DONE, a TLS handshake, DEFLATE, names in UTF-8) or have other
# limits.
_WAITING = frozenset((Authenticate, Compress, Enable, Idle, Login, StartTls, Unauthenticate))
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


class _RefusedError(Exception):
    """The session does not want the command that carries messages."""


class CommandReader:
    """Octets in, events out; never raises on input.

    The session's loop, which serves every case: `events = reader.receive(octets)`; handle each; then again with
    `reader.receive(b"")` until that returns nothing. receive() stops behind an event that must be answered first
    (`is_waiting`): AppendStarts and AppendLiteral (answer with accept() or refuse()), Authenticate and Idle (call expect_line()
    to get the next line raw, or just go on), Line (the same), StartTls (replace the reader), Enable (set is_utf8), Login (set
    limits).
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
        self._line_octets = 0  # of the lines between messages
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

    def forget(self) -> None:
        """Drop what came behind the last event, after which the reader is waiting: it is not to be read as commands."""
        self._buffer.clear()
        self._scanned = 0

    def accept(self) -> None:
        """Go on behind AppendStarts or AppendLiteral; the session sends "+ OK" itself if is_synchronizing."""
        self._is_append_accepted, self._awaits_append, self._is_waiting = True, False, False

    def refuse(self) -> None:
        """Drop the command: its octets, if they come anyway, are swallowed, and no further event carries its tag."""
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
            except _RefusedError:
                yield from self._discard()
            if len(self._events) >= self.limits.pending_events:
                yield
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
        if takes_messages(octets):
            yield from self._append(self._cursor(octets))
            return
        cursor = self._cursor(octets)
        if self._announced:
            expect_head(self._cursor(octets))  # before a client that is confused sends more
            cursor = yield from self._with_literals(cursor)
        command = expect_command(cursor)
        self._events.append(command)
        if type(command) in _WAITING:
            yield from self._pause()

    def _with_literals(self, cursor: Cursor, *, is_one: bool = False) -> Generator[None, None, Cursor]:
        """Read literals that are no messages and the line behind each: the cursor, where it was, with all of them.

        Everything is joined once, in the end: a command may have a thousand literals.
        """
        lines, literals = [cursor.octets], dict(cursor.literals)
        length = len(cursor.octets)
        total = length + sum(map(len, literals.values()))
        while (literal := self._announced) is not None:
            total += literal.size_octets
            if literal.size_octets > self.limits.literal_octets:
                raise CommandError("BAD", None, "literal too large")
            if total > self.limits.command_octets:
                raise CommandError("BAD", None, "command too large")
            if len(literals) >= self.limits.list_items:
                raise CommandError("BAD", None, "too many arguments")
            self._announced = None
            if literal.is_synchronizing:
                self._events.append(Continue())
            literals[literal.position] = yield from self._exactly(literal.size_octets)
            lines.append((yield from self._line(length)))
            length += len(lines[-1])
            total += len(lines[-1])
            if total > self.limits.command_octets:
                raise CommandError("BAD", None, "command too large")
            if is_one:
                break
        return self._cursor(b"".join(lines), literals, position=cursor.position)

    # APPEND and REPLACE

    def _append(self, cursor: Cursor) -> Generator[None, None, None]:
        """Ask for a command that carries messages and for each literal of theirs, and pass them on, or swallow them."""
        tag, verb = expect_head(cursor)
        replaced = take_replaced(cursor, verb)
        cursor.expect_space()
        cursor = yield from self._at_string(cursor)
        self._events.append(AppendStarts(tag, expect_mailbox(cursor), replaced))
        yield from self._ask()
        self._line_octets = len(cursor.octets)
        is_first = True
        while is_first or not cursor.is_at_end():
            if replaced and not is_first:
                cursor.expect_end()
            self._events.append(AppendMessage(*expect_append_opts(cursor)))
            cursor = yield from self._append_data(cursor)
            is_first = False
        self._events.append(AppendEnds(tag))

    # append-data =  literal / literal8                                                            (RFC 4466 §6, RFC 3516 §7)
    # append-data =/ "CATENATE" SP "(" cat-part *(SP cat-part) ")", append-data =/ utf8-literal    (RFC 4469 §5, RFC 6855 §4)
    # utf8-literal = "UTF8" SP "(" literal8 ")"
    def _append_data(self, cursor: Cursor) -> Generator[None, None, Cursor]:
        if cursor.take_keyword(b"UTF8"):
            return (yield from self._utf8_literal(cursor))
        if not cursor.take_keyword(b"CATENATE"):
            return (yield from self._message(cursor))
        cursor.expect_space()
        cursor.expect(b"(")
        while True:
            cursor = yield from self._cat_part(cursor)
            if cursor.take(b")"):
                return cursor
            cursor.expect_space()

    # cat-part = "TEXT" SP literal / "URL" SP astring        (RFC 4469 §5)
    def _cat_part(self, cursor: Cursor) -> Generator[None, None, Cursor]:
        if cursor.take_keyword(b"URL"):
            cursor.expect_space()
            cursor = yield from self._at_string(cursor)
            self._events.append(AppendUrl(expect_astring(cursor, "a URL")))
        elif cursor.take_keyword(b"UTF8"):
            cursor = yield from self._utf8_literal(cursor)
        elif cursor.take_keyword(b"TEXT"):
            cursor.expect_space()
            cursor = yield from self._message(cursor)
        else:
            cursor.fail("TEXT or URL")
        return cursor

    def _utf8_literal(self, cursor: Cursor) -> Generator[None, None, Cursor]:
        cursor.expect_space()
        cursor.expect(b"(")
        cursor = yield from self._message(cursor, is_utf8=True)
        cursor.expect(b")")
        return cursor

    def _message(self, cursor: Cursor, *, is_utf8: bool = False) -> Generator[None, None, Cursor]:
        """Ask for the literal that must be next and pass it on; the cursor of the line behind it."""
        literal = self._announced
        if literal is None or cursor.position != literal.position or (is_utf8 and not literal.is_binary):
            cursor.fail("a literal8" if is_utf8 else "a literal")
        if literal.size_octets > self.limits.append_octets:
            raise CommandError("NO", b"TOOBIG", "message too large")
        self._events.append(AppendLiteral(literal.size_octets, literal.is_synchronizing, literal.is_binary, is_utf8))
        yield from self._ask()
        self._announced = None
        remaining = literal.size_octets
        while remaining:
            piece = bytes(memoryview(self._buffer)[:remaining])
            if piece:
                self._consume(len(piece))
                self._events.append(AppendOctets(piece))
                remaining -= len(piece)
            else:
                yield
        line = yield from self._line()
        self._line_octets += len(line)
        if self._line_octets > self.limits.command_octets:
            raise CommandError("BAD", None, "command too large")
        return self._cursor(line)

    def _at_string(self, cursor: Cursor) -> Generator[None, None, Cursor]:
        """The cursor, with its literal read if one is next."""
        if self._announced is not None and cursor.position == self._announced.position:
            return (yield from self._with_literals(cursor, is_one=True))
        return cursor

    def _ask(self) -> Generator[None, None, None]:
        """Wait for accept() or refuse()."""
        self._awaits_append = True
        yield from self._pause()
        if not self._is_append_accepted:
            raise _RefusedError

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

    def _cursor(self, octets: bytes, literals: Mapping[int, bytes] | None = None, position: int = 0) -> Cursor:
        return Cursor(
            octets, literals or {}, self.limits, position=position, is_strict=self.is_strict, is_utf8=self.is_utf8
        )


# literal = "{" number ["+"] "}" CRLF, literal8 = "~{" number ["+"] "}" CRLF
# What stands at the end of a line and looks like this can be nothing else: "{" is in no atom, and a quoted string ends in a quote.
def _announced(line: bytes, offset: int) -> _Announced | None:
    start = max(0, len(line) - _LITERAL_OCTETS)
    found = _LITERAL.search(line, start)
    if found is None:
        return None
    return _Announced(offset + found.start(), int(found[2]), not found[3], bool(found[1]))
