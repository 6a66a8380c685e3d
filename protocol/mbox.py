"""The mbox format, RFC 4155 appendix A, in its mboxrd dialect: a file's octets into messages, and messages into a file.

Reads mboxo and mboxrd. Content-Length fields are not believed: what wrote them often counted wrong, and a wrong one
would swallow the messages behind it. No I/O, and memory for one block and one line at most.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from protocol.message import dates, header

_LINE_KEPT_OCTETS = 64 * 1024  # a longer line is passed on in pieces
_FIELD_NAME_OCTETS = 256  # so much of a line tells whether it is a header field

_FROM_LINE = re.compile(rb"^From [^\n]*\n", re.MULTILINE)
_HEADER_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_DATE = re.compile(rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? .*")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_TO_QUOTE = re.compile(rb"^(>*From )", re.MULTILINE)


class MboxError(ValueError):
    """The octets are no mbox file."""


@dataclass(frozen=True, slots=True)
class MessageStarts:
    """A From_ line has been read; delivered_at is its date, which RFC 4155 gives in UTC."""

    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class MessageOctets:
    """Some of the message, unquoted, with the file's own line ends."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class MessageEnds:
    """The message is complete."""


Event: TypeAlias = MessageStarts | MessageOctets | MessageEnds


class MboxReader:
    """Splits a file into messages.

    A From_ line follows an empty line (or begins the file), it has a date (or the "-" of Netscape and Thunderbird), and a
    header field follows it. Two of the three are enough: writers that forget the empty line or the date are understood,
    and those that do not quote a sentence beginning with "From " are survived.
    """

    def __init__(self) -> None:
        self._octets = b""
        self._is_inside = False  # a message has begun
        self._is_line_start = True
        self._is_after_blank = True
        self._blank = b""  # the empty line just read: the message's, or the one that separates messages

    def receive(self, octets: bytes) -> list[Event]:
        """Take the next octets of the file. Raises MboxError when it does not begin with a From_ line."""
        return list(self._events(self._octets + octets, is_last=False))

    def finish(self) -> list[Event]:
        """The file has ended."""
        events = list(self._events(self._octets, is_last=True))
        return [*events, MessageEnds()] if self._is_inside else events

    def _events(self, octets: bytes, *, is_last: bool) -> Iterator[Event]:
        """Takes whole lines only, or all of a line that is too long to be kept; keeps the rest."""
        end = len(octets) if is_last else octets.rfind(b"\n") + 1
        if not end and len(octets) > _LINE_KEPT_OCTETS:
            end = len(octets)
        position = 0
        for match in _FROM_LINE.finditer(octets, 0, end):
            start = match.start()
            is_after_blank = self._follows_blank(octets, start)
            delivered_at = _date_of(match[0])
            if not (is_after_blank and delivered_at):
                if not (is_after_blank or delivered_at or match[0].startswith(b"From - ")):
                    continue
                if not _HEADER_FIELD.match(octets, match.end()):
                    if is_last or match.end() < end or len(octets) - end > _FIELD_NAME_OCTETS:
                        continue
                    end = start  # the line that follows decides: wait for it
                    break
            yield from self._message_octets(octets[position:start])
            if self._is_inside:
                yield MessageEnds()
            yield MessageStarts(delivered_at)
            self._is_inside, self._blank = True, b""
            self._is_line_start, self._is_after_blank = True, False
            position = match.end()
        yield from self._message_octets(octets[position:end])
        self._octets = octets[end:]

    def _follows_blank(self, octets: bytes, start: int) -> bool:
        """Whether the line at `start` begins the file or follows an empty line."""
        if start == 0:
            return self._is_line_start and self._is_after_blank
        before = octets[max(0, start - 3) : start]
        if before.endswith((b"\n\n", b"\n\r\n")):
            return True
        return self._is_line_start and before in (b"\n", b"\r\n")

    def _message_octets(self, octets: bytes) -> Iterator[MessageOctets]:
        if not octets:
            return
        if not self._is_inside:
            if octets.strip():
                raise MboxError("it does not begin with a From_ line")
            return
        if b">From " in octets:
            octets = self._unquoted(octets)
        octets = self._blank + octets
        self._blank = b""
        if octets.endswith((b"\n\n", b"\n\r\n")) or (self._is_line_start and octets in (b"\n", b"\r\n")):
            self._blank = octets[-2:] if octets.endswith(b"\r\n") else b"\n"
            octets = octets[: -len(self._blank)]
        self._is_after_blank = bool(self._blank)
        self._is_line_start = bool(self._blank) or octets.endswith(b"\n")
        if octets:
            yield MessageOctets(octets)

    def _unquoted(self, octets: bytes) -> bytes:
        if self._is_line_start:
            return _QUOTED.sub(rb"\1", octets)
        line_end = octets.find(b"\n") + 1  # the rest of a line whose beginning is gone
        return octets[:line_end] + _QUOTED.sub(rb"\1", octets[line_end:]) if line_end else octets


class MboxWriter:
    """One message at a time as it stands in an mboxrd file, with Unix line ends."""

    def __init__(self) -> None:
        self._octets = b""
        self._is_line_start = True

    def begin(self, delivered_at: datetime) -> bytes:
        """The From_ line."""
        date = delivered_at.astimezone(UTC).strftime("%a %b %e %H:%M:%S %Y")
        return f"From MAILER-DAEMON {date}\n".encode()

    def feed(self, octets: bytes) -> bytes:
        """The next octets of the message: whole lines are passed on, quoted where they need it."""
        octets = self._octets + octets
        end = octets.rfind(b"\n") + 1
        if not end and len(octets) > _LINE_KEPT_OCTETS:
            end = len(octets) - 1  # the last octet may be the CR of the line's end
        self._octets = octets[end:]
        return self._quoted(octets[:end])

    def finish(self) -> bytes:
        """The rest of the message, its last line ended, and the empty line behind it."""
        rest = self._quoted(self._octets)
        ended = b"" if self._is_line_start else b"\n"
        self._octets, self._is_line_start = b"", True
        return rest + ended + b"\n"

    def _quoted(self, octets: bytes) -> bytes:
        if not octets:
            return b""
        octets = octets.replace(b"\r\n", b"\n")
        if b"From " in octets:
            skipped = 0 if self._is_line_start else octets.find(b"\n") + 1
            if self._is_line_start or skipped:
                octets = octets[:skipped] + _TO_QUOTE.sub(rb">\1", octets[skipped:])
        self._is_line_start = octets.endswith(b"\n")
        return octets


class WireForm:
    """Gives a message from a file the line ends that mail has on the wire (RFC 5322 §2.3).

    A message whose first line ends in a bare LF comes from a Unix file: each bare LF becomes CRLF. Any other message is
    left as it is, to the octet.
    """

    def __init__(self) -> None:
        self._is_unix: bool | None = None  # None: the first line has not ended yet
        self._held = b""  # a CR whose LF may follow

    def feed(self, octets: bytes) -> bytes:
        """The next octets of the message in wire form."""
        octets, self._held = self._held + octets, b""
        if self._is_unix is None and (end := octets.find(b"\n")) >= 0:
            self._is_unix = octets[end - 1 : end] != b"\r"
        if self._is_unix is False:
            return octets
        if octets.endswith(b"\r"):
            octets, self._held = octets[:-1], b"\r"
        return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if self._is_unix else octets

    def finish(self) -> bytes:
        """What was held back."""
        octets, self._held = self._held, b""
        return octets


_STATUS = {b"R": rb"\Seen"}
_X_STATUS = {b"A": rb"\Answered", b"F": rb"\Flagged", b"T": rb"\Draft", b"D": rb"\Deleted"}
KEYWORD = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")  # an atom, RFC 3501 §9


def flags_of(head: bytes) -> list[bytes]:
    """The flags in the fields Status, X-Status and X-Keywords, where mbox programs keep them: as IMAP names them."""
    found: list[bytes] = []
    for field in header.fields(head):
        name, letters = field.name.upper(), header.unfold(field.body).strip()
        if name == b"STATUS":
            found += [flag for letter, flag in _STATUS.items() if letter in letters]
        elif name == b"X-STATUS":
            found += [flag for letter, flag in _X_STATUS.items() if letter in letters]
        elif name == b"X-KEYWORDS":
            found += [word for word in letters.replace(b",", b" ").split() if KEYWORD.fullmatch(word)]
    return found


def received_at(head: bytes) -> datetime | None:
    """When the last server took the message: the date of the topmost Received field (RFC 5321 §4.4), else the Date field."""
    date = None
    for field in header.fields(head):
        name = field.name.upper()
        if name == b"RECEIVED":
            found = dates.parse(header.unfold(field.body).rpartition(b";")[2])
            if found is not None:
                return found
        elif name == b"DATE" and date is None:
            date = dates.parse(header.unfold(field.body))
    return date


def _date_of(from_line: bytes) -> datetime | None:
    match = _DATE.search(from_line)
    return dates.parse(match[0]) if match else None
