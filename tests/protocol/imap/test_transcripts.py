"""Every tests/transcripts/imap/*.txt, fed whole and fed one octet at a time, reads the same."""

from pathlib import Path

import pytest

from protocol.imap import response
from protocol.imap.command import Authenticate, Command, Idle, StartTls
from protocol.imap.events import (
    AppendEnds,
    AppendLiteral,
    AppendMessage,
    AppendOctets,
    AppendStarts,
    AppendUrl,
    Continue,
    Line,
    Rejected,
)
from protocol.imap.limits import Limits
from protocol.imap.reader import CommandReader, Event
from tests.feeding import cut, transcripts, turns


class WillingSession:
    """Says OK to every command, and has no mailbox named "refused"."""

    def __init__(self) -> None:
        self._reader: CommandReader | None = CommandReader(Limits(append_octets=1000))
        self._appended: list[str] = []  # mailbox, then the size of each message (with the lengths of URLs)
        self._exchange: Idle | Authenticate | None = None

    def receive(self, octets: bytes) -> bytes:
        """What is answered to these octets."""
        output = b""
        events = self._reader.receive(octets) if self._reader else []
        while events:
            output += b"".join(map(self._answer, events))
            events = self._reader.receive(b"") if self._reader else []
        return output

    def _answer(self, event: Event) -> bytes:
        assert self._reader
        match event:
            case Continue():
                return response.continuation()
            case Rejected(tag, status, code, text, is_fatal):
                return response.tagged(tag, status, code, text) + (response.bye("too much") if is_fatal else b"")
            case AppendStarts(tag=tag, mailbox="refused"):
                self._reader.refuse()
                return response.tagged(tag, "NO", b"TRYCREATE", "no such mailbox")
            case AppendStarts():
                self._reader.accept()
                self._appended = [event.mailbox]
                return b""
            case AppendMessage():
                self._appended.append("0")
                return b""
            case AppendLiteral():
                self._reader.accept()
                return response.continuation() if event.is_synchronizing else b""
            case AppendOctets(octets):
                self._appended[-1] = str(int(self._appended[-1]) + len(octets))
                return b""
            case AppendUrl(url):
                self._appended[-1] = str(int(self._appended[-1]) + len(url))
                return b""
            case AppendEnds():
                mailbox, *sizes = self._appended
                return response.tagged(event.tag, "OK", None, f"Append of {' and '.join(sizes)} octets to {mailbox}")
            case Line(octets):
                assert self._exchange
                if octets == b"*":
                    return response.tagged(self._exchange.tag, "BAD", None, "cancelled")
                return self._done(self._exchange)
            case Idle() | Authenticate(initial=None):
                self._exchange = event
                self._reader.expect_line()
                return response.continuation("idling" if isinstance(event, Idle) else "")
            case StartTls():
                self._reader = None  # replaced by a new one behind the handshake
                return self._done(event)
            case Command():
                return self._done(event)

    def _done(self, command: Command) -> bytes:
        return response.tagged(command.tag, "OK", None, type(command).__name__)


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", transcripts("imap"), ids=lambda path: path.stem)
def test_transcript(path: Path, step: int | None) -> None:
    """The session answers as the transcript says, turn by turn."""
    session = WillingSession()
    for client, server in turns(path.read_text("utf-8")):
        assert b"".join(session.receive(piece) for piece in cut(client, step)) == server
