"""POP3 lines: octets as they come in, whole lines out, in bounded memory. Knows no command."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line beyond the limit, already dropped as far as it has come."""


class LineReader:
    """Cuts the client's octets into lines.

    Holds what was received and not yet taken; the caller takes all lines before it receives more, so between reads that
    is less than one line limit.
    """

    def __init__(self) -> None:
        self._octets = b""
        self._start = 0
        self._is_skipping = False  # inside a line that was too long

    def receive(self, octets: bytes) -> None:
        """Add what came in."""
        self._octets += octets

    def take_line(self, limit: int) -> bytes | Overlong | None:
        """The next line without its end, or None while it is incomplete. limit: octets of a line with its CRLF.

        An LF ends a line, the CR before it is optional: people type with netcat, and a POP3 command stream has nobody
        else's octets in it that a looser line end could turn into commands.
        """
        end = self._octets.find(b"\n", self._start)
        if end < 0:
            self._keep_rest(limit)
            return None
        start, self._start = self._start, end + 1
        if self._is_skipping or end + 1 - start > limit:
            self._is_skipping = False
            return Overlong()
        if end > start and self._octets[end - 1] == 0x0D:
            end -= 1
        return self._octets[start:end]

    def _keep_rest(self, limit: int) -> None:
        """Keep the incomplete line alone: most sessions wait, and should hold nothing while they do."""
        self._octets, self._start = self._octets[self._start :], 0
        if self._is_skipping or len(self._octets) >= limit:
            self._octets, self._is_skipping = b"", True
