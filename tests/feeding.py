"""Transcripts as files, and octets fed whole or in pieces: shared by the smtp, imap and pop3 tests.

The format of a transcript (tests/transcripts/<protocol>/*.txt, UTF-8, one behaviour each):

    # RFC 5321 §4.1.4: MAIL before EHLO is refused       first line: the section proved; further `# ` lines: notes
    C: MAIL FROM:<>                                      sent by the client, with CRLF added
    S: 503 5.5.1 bad sequence of commands                sent by the server, with CRLF added
    C| abc                                               the same without a CRLF (also S|)
    C: one\\x0atwo                                       \\xNN is one octet, the only escape; "\\Seen" stays as it is

Empty lines are skipped. A literal of IMAP or the text of DATA is simply the next C: lines. Consecutive C lines, then
consecutive S lines, make one turn; a transcript that begins with S (a greeting) has an empty client side in its first turn.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from protocol.line_session import LineSession

TRANSCRIPTS = Path(__file__).parent / "transcripts"

Event = TypeVar("Event")
Session = TypeVar("Session", bound=LineSession[Any, Any])

_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")
_LINE = re.compile(r"([CS])([:|])(?: (.*))?")


class Turn(NamedTuple):
    """What the client sends in one go, and all that the server answers before the client speaks again."""

    client: bytes
    server: bytes


def transcripts(protocol: str) -> list[Path]:
    """The transcript files of one protocol ("smtp", "imap", "pop3"), in the order of their names."""
    paths = sorted((TRANSCRIPTS / protocol).glob("*.txt"))
    assert paths, f"no transcripts for {protocol}"
    return paths


def turns(text: str) -> list[Turn]:
    """The turns of one transcript. Raises AssertionError on a line that is no part of the format."""
    lines = text.splitlines()
    assert text.startswith("# RFC "), "the first line names the section that is proved"
    found: list[Turn] = []
    client, server = b"", b""
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        assert parts, f"line {number} is neither '# ', 'C: ', 'S: ', 'C| ' nor 'S| '"
        side, ending, words = parts.groups()
        octets = unescape(words or "") + (b"\r\n" if ending == ":" else b"")
        if side == "S":
            server += octets
        else:
            if server:
                found.append(Turn(client, server))
                client, server = b"", b""
            client += octets
    return [*found, Turn(client, server)]


def unescape(words: str) -> bytes:
    """UTF-8 octets of a transcript's words with every `\\xNN` as the one octet it names."""
    return _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode()), words.encode())


def cut(octets: bytes, step: int | None) -> list[bytes]:
    """The octets in pieces of `step` (the last may be shorter), or in one piece for None."""
    if step is None:
        return [octets] if octets else []
    return [octets[start : start + step] for start in range(0, len(octets), step)]


def answered(session: Session, octets: bytes, step: int | None, answer: Callable[[Session, Any], None]) -> bytes:
    """All that a session of POP3 or ManageSieve has to send when the octets go in, cut by `step`, and `answer` answers."""
    sent = session.take_output()
    for piece in cut(octets, step):
        session.receive(piece)
        while (event := session.next_event()) is not None:
            answer(session, event)
            repr(session)  # it can be shown at any time
        sent += session.take_output()
    return sent


def fed(receive: Callable[[bytes], Iterable[Event]], octets: bytes, step: int | None) -> list[Event]:
    """All events that come out of `receive` when the octets go in, cut by `step`."""
    return [event for piece in cut(octets, step) for event in receive(piece)]
