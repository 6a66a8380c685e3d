"""PUBLISHED SURFACE, inside to follow within minutes."""

from protocol.imap.command import Command
from protocol.imap.events import AppendOctets, AppendStarts, Continue, Line, Rejected
from protocol.imap.limits import Limits

Event = Command | Continue | Rejected | AppendStarts | AppendOctets | Line


class CommandReader:
    """Octets in, events out; never raises on input.

    The session's loop, which serves every case: `events = reader.receive(octets)`; handle each; then again with
    `reader.receive(b"")` until that returns nothing. receive() stops behind an event that must be answered first
    (`is_waiting`): AppendStarts (answer with accept() or refuse()), Authenticate and Idle (call expect_line() to get
    the next line raw, or just go on), Line (the same), StartTls (replace the reader), Enable.
    """

    def __init__(self, limits: Limits | None = None, *, is_strict: bool = False) -> None:
        self.limits = limits or Limits()  # may be replaced at any time, as after login
        self.is_utf8 = False  # set when UTF8=ACCEPT or IMAP4rev2 is enabled

    @property
    def is_waiting(self) -> bool:
        """Whether the last event must be answered before more can come."""
        raise NotImplementedError

    def receive(self, octets: bytes) -> list[Event]:
        """The events that these octets, and those kept from before, complete."""
        raise NotImplementedError

    def accept(self) -> None:
        """Let AppendStarts' message come as AppendOctets; the session sends "+ OK" itself if is_synchronizing."""

    def refuse(self) -> None:
        """Drop the APPEND: its octets, if they come anyway, are swallowed, and no further event carries its tag."""

    def expect_line(self) -> None:
        """Make the next line a Line. Call it after Authenticate, Idle or Line, when the "+" is sent."""
