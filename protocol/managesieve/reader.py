"""ManageSieve command lines, RFC 5804 §4: the client's octets in, the words and strings of one line out, in bounded memory.

Knows no command. A line is read to its end whatever is wrong with it, with the literals it announces, so that a script is never
taken for commands because the name before it was bad.
"""

import re
from dataclasses import dataclass, field
from typing import TypeAlias

_LITERAL_OCTETS = 16  # the longest spelling of a literal's announcement that is looked for
_TOKENS_KEPT = 8  # no command has so many: what follows is read and dropped
_NUMBER_LIMIT = 1 << 32  # RFC 5804 §4: number is a 32-bit unsigned number
_SKIPPED = re.compile(rb" *")
_ATOM = re.compile(rb"[!#-'*-\[\]-z|-~]+")  # ATOM-CHAR
# RFC 5804 §4 limits quoted strings to 1,024 octets. Clients put tokens of OAUTHBEARER into them that are longer, so the limit of
# the line is theirs, too.
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\0]|\\["\\])*)"')
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ANNOUNCED = re.compile(rb"\{(0|[1-9][0-9]{0,9})\+\}\Z")


@dataclass(frozen=True, slots=True)
class Word:
    """An atom or a number."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class String:
    """A quoted string or a literal, without what it was wrapped in."""

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Oversized:
    """A literal that was too large to be kept."""

    size_octets: int


Token: TypeAlias = Word | String | Oversized


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line with its literals."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that breaks the grammar, read to its end. is_fatal: it has not ended, and more will not be read."""

    text: str
    is_fatal: bool = False


class _GrammarError(Exception):
    """The line breaks the grammar."""

    def __init__(self, text: str, *, may_announce: bool = True) -> None:
        super().__init__(text)
        self.text = text
        self.may_announce = may_announce


class LineReader:
    """Cuts the client's octets into lines. The limits may change between two lines, as at a login."""

    def __init__(self, *, line_octets: int, literal_octets: int, discard_octets: int) -> None:
        self.line_octets = line_octets
        self.literal_octets = literal_octets  # of all literals of a line together
        self._discard_octets = discard_octets
        self._buffer = bytearray()
        self._scanned = 0  # how much of the buffer holds no line end
        self._forget_line()

    def __repr__(self) -> str:
        return f"<LineReader {len(self._buffer)} octets kept>"

    def _forget_line(self) -> None:
        self._tokens: list[Token] = []
        self._literal: int | None = None  # octets of the literal that is next
        self._is_kept = True  # that literal fits
        self._seen_octets = 0  # of the line, without literals
        self._kept_octets = 0  # of its literals
        self._dropped_octets = 0
        self._is_continued = False  # what is next follows a literal
        self._fault = ""

    @property
    def buffered_octets(self) -> int:
        """Octets kept that belong to no token."""
        return len(self._buffer)

    def receive(self, octets: bytes) -> None:
        """Add what came in."""
        self._buffer += octets

    def take_line(self) -> Line | Bad | None:
        """The next line, or None while it is incomplete. The caller takes all lines before it receives more."""
        while True:
            if self._literal is not None and not self._take_literal():
                return Bad("too much to discard", is_fatal=True) if self._is_hopeless() else None
            segment = self._take_segment()
            if segment is None:
                return None
            self._read(segment)
            if self._literal is None:
                found = Bad(self._fault) if self._fault else Line(tuple(self._tokens))
                self._forget_line()
                return found

    def _is_hopeless(self) -> bool:
        return self._dropped_octets > self._discard_octets

    def _take_literal(self) -> bool:
        """Whether the literal that is next has been read, kept or dropped."""
        assert self._literal is not None
        if self._is_kept:
            if len(self._buffer) < self._literal:
                return False
            self._keep(String(bytes(memoryview(self._buffer)[: self._literal])))
        elif self._is_hopeless():
            self._buffer.clear()
            return False
        elif len(self._buffer) < self._literal:
            self._literal -= len(self._buffer)
            self._buffer.clear()
            return False
        del self._buffer[: self._literal]
        self._literal, self._is_continued, self._scanned = None, True, 0
        return True

    def _take_segment(self) -> bytes | None:
        """The octets up to the next line end, without it. A bare LF ends a line: people type with netcat."""
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            if self._seen_octets + self._scanned > self.line_octets:
                self._fault = self._fault or "line too long"
                del self._buffer[: -_LITERAL_OCTETS - 1]
                self._scanned = len(self._buffer)
            return None
        segment = bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        self._seen_octets += end + 1
        if self._seen_octets > self.line_octets:
            self._fault = self._fault or "line too long"
        return segment[:-1] if segment.endswith(b"\r") else segment

    def _read(self, segment: bytes) -> None:
        """Add the tokens of a segment. It may announce a literal."""
        may_announce = True
        if not self._fault:
            try:
                self._lex(segment)
            except _GrammarError as error:
                self._fault, may_announce = error.text, error.may_announce
        announced = _ANNOUNCED.search(segment, max(0, len(segment) - _LITERAL_OCTETS)) if may_announce else None
        if announced is not None:
            self._announce(int(announced[1]))

    def _lex(self, segment: bytes) -> None:
        position = 0
        if self._is_continued and segment and not segment.startswith(b" "):
            raise _GrammarError("expected a space after the literal")
        while (position := _end(_SKIPPED.match(segment, position))) < len(segment):
            if atom := _ATOM.match(segment, position):
                self._keep(Word(atom[0]))
                position = atom.end()
            elif quoted := _QUOTED.match(segment, position):
                self._keep(String(_ESCAPE.sub(rb"\1", quoted[1])))
                position = quoted.end()
            elif segment.startswith(b'"', position):
                # What looks like a literal at its end is a part of the string.
                raise _GrammarError("expected a quoted string", may_announce=False)
            elif _ANNOUNCED.match(segment, position):
                return
            elif segment.startswith(b"{", position):
                raise _GrammarError("expected a literal: {size+} at the end of the line")
            else:
                raise _GrammarError("expected an atom, a number or a string")
            if position < len(segment) and not segment.startswith(b" ", position):
                raise _GrammarError("expected a space between arguments")

    def _announce(self, size_octets: int) -> None:
        if size_octets >= _NUMBER_LIMIT:
            self._fault = self._fault or "expected a number below 4294967296"
        self._literal = size_octets
        is_within = self._kept_octets + size_octets <= self.literal_octets
        self._is_kept = is_within and not self._fault and len(self._tokens) < _TOKENS_KEPT
        if self._is_kept:
            self._kept_octets += size_octets
        else:
            self._dropped_octets += size_octets + 1
            self._keep(Oversized(size_octets))

    def _keep(self, token: Token) -> None:
        if len(self._tokens) < _TOKENS_KEPT:
            self._tokens.append(token)


def _end(match: re.Match[bytes] | None) -> int:
    assert match is not None, "matches the empty string"
    return match.end()
