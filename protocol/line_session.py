"""The frame of a server's session that goes line by line: POP3 (RFC 1939 §3) and ManageSieve (RFC 5804 §1.2).

Octets in, one event after the other, octets out. What a line means and how it is answered is the protocol's own.
"""

from abc import ABC, abstractmethod
from enum import Enum
from typing import Generic, Protocol, TypeVar

_Line = TypeVar("_Line")
_Event = TypeVar("_Event")


class Reader(Protocol):
    """Cuts octets into lines."""

    def receive(self, octets: bytes) -> None:
        """Add what came in."""


class LineSession(ABC, Generic[_Line, _Event]):
    """One conversation. state tells where it is; is_over that nothing more will be read.

    receive() never raises; an event is answered before the next one is taken.
    """

    state: Enum
    _lines: Reader

    def __init__(self, error_limit: int) -> None:
        self.is_over = False
        self._output: list[bytes] = []
        self._output_octets = 0
        self._is_exchanging = False  # the next line is a response of an exchange, and no command
        self._errors = 0
        self._error_limit = error_limit

    def __repr__(self) -> str:
        return f"<ServerSession {self.state.name}{' over' if self.is_over else ''} errors={self._errors}>"

    # -- in ---------------------------------------------------------------------------------------------------------

    def receive(self, octets: bytes) -> None:
        """Add what the client sent; once the session is over it is dropped."""
        if not self.is_over:
            self._lines.receive(octets)

    def next_event(self) -> _Event | None:
        """The next command that is allowed now, or None when more octets are needed or the session is over.

        Answers bad lines itself. The event before must have been answered.
        """
        while not self.is_over:
            line = self._take_line()
            if line is None:
                return None
            event = self._event(line)
            if event is not None:
                return event
        return None

    @abstractmethod
    def _take_line(self) -> _Line | None:
        """The next line, or None while it is incomplete."""

    @abstractmethod
    def _event(self, line: _Line) -> _Event | None:
        """What the line is, or None when it has been answered."""

    def _is_beyond_errors(self) -> bool:
        """Count a bad line, which ends an exchange; whether it is one too many."""
        self._is_exchanging = False
        self._errors += 1
        return self._errors >= self._error_limit

    @abstractmethod
    def challenge(self, octets: bytes) -> None:
        """Answer the command that began an exchange with a challenge in base64: the next line is its response."""

    @abstractmethod
    def start_tls(self) -> None:
        """TLS has begun: whatever was said before, by whomever, is forgotten."""

    # -- out --------------------------------------------------------------------------------------------------------

    @property
    def output_octets(self) -> int:
        """How much waits to be sent."""
        return self._output_octets

    def take_output(self) -> bytes:
        """What is to be sent, in order; afterwards there is nothing more."""
        octets = b"".join(self._output)
        self._forget_output()
        return octets

    def _say(self, octets: bytes) -> None:
        self._output.append(octets)
        self._output_octets += len(octets)

    def _forget_output(self) -> None:
        self._output.clear()
        self._output_octets = 0
