"""The replies of a server, RFC 5321 §4.2: octets in whatever pieces in, Reply values out. For the client's side.

What a server sends is not to be trusted: lines and replies have limits, only the beginning of long ones is kept, control
characters are shown as question marks, and what is no reply ends the reading with a fault, at the same octet whatever the
cut. Bare LF ends a line too (servers that send it exist, and there is nothing to smuggle into a reply).
"""

import re

from protocol.smtp.reply import Reply
from protocol.status import Enhanced

LINE_LIMIT = 4096  # octets with the line end; RFC 5321 §4.5.3.1.5 lets servers send 512, and some send more
REPLY_LIMIT = 64 * 1024  # octets of all lines of one reply; ours
KEPT_LIMIT = 8 * 1024  # octets of one reply whose text is kept; ours

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\n]*)|\r*)\n")
_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: +|$)")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class ReplyReader:
    """The octet machine of one session's replies.

    fault says why the octets are no replies; then nothing more is read.
    """

    __slots__ = ("_held", "_kept", "_octets", "fault")

    def __init__(self) -> None:
        self._held = b""  # a line without its end
        self._kept: list[bytes] = []  # the texts of the lines of an unfinished reply
        self._octets = 0  # what the unfinished reply has taken so far
        self.fault: str | None = None

    def __repr__(self) -> str:
        return f"<ReplyReader {self.fault or f'octets={self._octets + len(self._held)}'}>"

    @property
    def is_between(self) -> bool:
        """Whether nothing is held that is not yet a reply."""
        return not self._held and not self._octets

    def receive(self, octets: bytes) -> list[Reply]:
        """Take octets from the wire and give the replies that are complete now."""
        replies: list[Reply] = []
        if self.fault is not None:
            return replies
        window, start = self._held + octets if self._held else octets, 0
        end = window.find(b"\n", len(self._held))
        while end >= 0:
            found = _LINE.fullmatch(window, start, end + 1)
            self._octets += end + 1 - start
            if end + 1 - start > LINE_LIMIT:
                return self._stop("a reply line is too long", replies)
            if found is None:
                return self._stop("a line is no reply", replies)
            if self._octets > REPLY_LIMIT:
                return self._stop("a reply is too long", replies)
            text = found[3] or b""
            if self._octets <= KEPT_LIMIT or not self._kept:
                self._kept.append(text)
            if found[2] != b"-":  # the code of the last line is the reply's, as everybody reads it
                replies.append(_reply(int(found[1]), self._kept))
                self._kept, self._octets = [], 0
            start = end + 1
            end = window.find(b"\n", start)
        self._held = window[start:] if start else window
        if len(self._held) >= LINE_LIMIT:
            return self._stop("a reply line is too long", replies)
        return replies

    def _stop(self, fault: str, replies: list[Reply]) -> list[Reply]:
        self.fault = fault
        self._held, self._kept, self._octets = b"", [], 0
        return replies


def _reply(code: int, texts: list[bytes]) -> Reply:
    """The reply of these lines. An enhanced code that contradicts the code is no enhanced code but text."""
    lines = [_text(text) for text in texts]
    found = _ENHANCED.match(lines[0])
    if found is None or int(found[1]) != code // 100:
        return Reply(code, None, tuple(lines))
    status = Enhanced(int(found[1]), int(found[2]), int(found[3]))
    return Reply(code, status, tuple(_without(line, found[0].rstrip(" ")) for line in lines))


def _without(line: str, prefix: str) -> str:
    """The line without the enhanced code, which servers repeat on each line, or not (RFC 2034 §3)."""
    rest = line.removeprefix(prefix)
    return rest.lstrip(" ") if rest[:1] in ("", " ") else line


def _text(octets: bytes) -> str:
    text = octets.rstrip(b"\r ").decode("utf-8", "replace")
    return text if text.isascii() and text.isprintable() else _CONTROL.sub("?", text)
