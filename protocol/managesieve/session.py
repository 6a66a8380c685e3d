"""The server side of one ManageSieve conversation without I/O: RFC 5804.

The daemon feeds octets with receive(), takes one event after the other, answers each with ok(), refuse(), challenge() or bye(),
and sends take_output(). What is not in the transition table never reaches the daemon. One event at a time, because the answer
to one decides how the next line is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from protocol.line_session import LineSession
from protocol.managesieve import response
from protocol.managesieve.command import (
    Authenticate,
    Capability,
    CheckScript,
    Command,
    CommandError,
    DeleteScript,
    GetScript,
    HaveSpace,
    ListScripts,
    Logout,
    Noop,
    PutScript,
    RenameScript,
    SetActive,
    StartTls,
    Unauthenticate,
    parse_command,
)
from protocol.managesieve.reader import Bad, Line, LineReader, Oversized
from protocol.managesieve.response import Code


class State(Enum):
    """RFC 5804 §2."""

    NON_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    LOGGED_OUT = auto()


# The state after OK. A command that is not in its state's row is answered NO and changes nothing.
_ANY: tuple[type[Command], ...] = (Capability, Noop)
_AUTHENTICATED: tuple[type[Command], ...] = (
    HaveSpace,
    PutScript,
    ListScripts,
    SetActive,
    GetScript,
    DeleteScript,
    RenameScript,
    CheckScript,
)
TRANSITIONS: dict[State, dict[type[Command], State]] = {
    State.NON_AUTHENTICATED: {
        **dict.fromkeys((*_ANY, StartTls), State.NON_AUTHENTICATED),
        Authenticate: State.AUTHENTICATED,
        Logout: State.LOGGED_OUT,
    },
    State.AUTHENTICATED: {
        **dict.fromkeys((*_ANY, *_AUTHENTICATED), State.AUTHENTICATED),
        Unauthenticate: State.NON_AUTHENTICATED,
        Logout: State.LOGGED_OUT,
    },
    State.LOGGED_OUT: {},
}


@dataclass(frozen=True, slots=True)
class Response:
    """A string of an AUTHENTICATE exchange, undecoded (RFC 5804 §2.1)."""

    octets: bytes = field(repr=False)


Event: TypeAlias = Command | Response


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may do before it is refused."""

    line_octets: int = 16 * 1024
    script_octets: int = 128 * 1024
    discard_octets: int = 16 * 1024 * 1024
    errors: int = 20


class ServerSession(LineSession[Line | Bad, Event]):
    """One conversation. receive() never raises; an Event is answered before the next one is taken."""

    state: State
    _lines: LineReader

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        super().__init__(self._limits.errors)
        self.state = State.NON_AUTHENTICATED
        self._lines = self._new_reader()
        self._current: Command | None = None  # waits for its answer

    def _new_reader(self) -> LineReader:
        limits = self._limits
        return LineReader(
            line_octets=limits.line_octets, literal_octets=limits.line_octets, discard_octets=limits.discard_octets
        )

    # -- in ---------------------------------------------------------------------------------------------------------

    def _take_line(self) -> Line | Bad | None:
        return self._lines.take_line()

    def _event(self, line: Line | Bad) -> Event | None:
        if isinstance(line, Bad):
            if line.is_fatal:
                self.bye(line.text)
            else:
                self._reject(line.text)
            return None
        if self._is_exchanging:
            return self._response(line)
        if not line.tokens:
            return None  # some clients end a literal with one CRLF too many
        try:
            command = parse_command(line.tokens)
        except CommandError as error:
            self._reject(error.text, error.code)
            return None
        if type(command) not in TRANSITIONS[self.state]:
            self._reject("not allowed in this state")
            return None
        self._current = command
        return command

    def _response(self, line: Line) -> Response | None:
        match line.tokens:
            case [token] if not isinstance(token, Oversized):  # "*" comes without quotes, too
                return Response(token.octets)
        self._reject("expected a string in base64")
        return None

    def _reject(self, text: str, code: Code | None = None) -> None:
        self._current = None
        if self._is_beyond_errors():
            self.bye("too many errors")
        else:
            self._say(response.status(b"NO", text, code))

    # -- answers ----------------------------------------------------------------------------------------------------

    def tell_capabilities(self, capabilities: Sequence[tuple[str, str | None]], text: str = "") -> None:
        """What the server says first, and again after STARTTLS, RFC 5804 §1.7."""
        self._say(response.capability_lines(capabilities) + response.status(b"OK", text))

    def ok(self, text: str = "", code: Code | bytes | None = None, before: bytes = b"") -> None:
        """Answer OK, with rendered lines before it, and move on."""
        assert self._current is not None, "nothing to answer"
        self._say(before + response.status(b"OK", text, code))
        self._enter(TRANSITIONS[self.state][type(self._current)])

    def refuse(self, text: str, code: Code | None = None) -> None:
        """Answer NO and stay."""
        assert self._current is not None, "nothing to answer"
        self._say(response.status(b"NO", text, code))
        self._enter(self.state)

    def challenge(self, octets: bytes) -> None:
        """Answer AUTHENTICATE with a challenge in base64: the next line is its Response."""
        assert isinstance(self._current, Authenticate), "no exchange"
        self._say(response.string(octets) + b"\r\n")
        self._is_exchanging = True

    def bye(self, text: str, code: Code | None = None) -> None:
        """End the session, whatever was asked."""
        self._say(response.status(b"BYE", text, code))
        self._current, self.is_over = None, True

    def start_tls(self) -> None:
        """TLS has begun after the OK to STARTTLS: whatever was said before, by whomever, is forgotten."""
        self._lines = self._new_reader()
        self._forget_output()

    def _enter(self, state: State) -> None:
        self.state, self._current, self._is_exchanging = state, None, False
        is_known = state is State.AUTHENTICATED
        self._lines.literal_octets = self._limits.script_octets if is_known else self._limits.line_octets
        self.is_over = state is State.LOGGED_OUT


def capabilities(
    *,
    implementation: str,
    mechanisms: Sequence[str],
    may_start_tls: bool,
    sieve: Sequence[str],
    notify: Sequence[str],
    max_redirects: int,
    owner: str | None,
) -> list[tuple[str, str | None]]:
    """The lines of CAPABILITY (RFC 5804 §1.7), which tell what works on this connection now and nothing else.

    mechanisms: empty where TLS must come first. owner: the login, once there is one.
    """
    lines: list[tuple[str, str | None]] = [("IMPLEMENTATION", implementation), ("VERSION", "1.0")]
    if mechanisms or may_start_tls:  # empty only beside STARTTLS
        lines.append(("SASL", " ".join(mechanisms)))
    lines += [("SIEVE", " ".join(sieve)), ("NOTIFY", " ".join(notify)), ("MAXREDIRECTS", str(max_redirects))]
    if may_start_tls and owner is None:
        lines.append(("STARTTLS", None))
    if owner is not None:
        lines.append(("OWNER", owner))
    return [*lines, ("UNAUTHENTICATE", None)]
