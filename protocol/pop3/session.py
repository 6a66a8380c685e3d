"""The server side of one POP3 conversation without I/O: RFC 1939, RFC 2449, RFC 2595, RFC 5034, RFC 6856.

The daemon feeds octets with receive(), takes one event after the other, answers each with ok(), refuse() or
challenge(), and sends take_output(). What is not in the transition table never reaches the daemon. One event at a
time, because the answer to one decides how the next line is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from protocol.line_session import LineSession
from protocol.pop3 import response
from protocol.pop3.command import (
    Auth,
    Capa,
    Command,
    CommandError,
    Dele,
    Lang,
    List,
    Noop,
    Pass,
    Quit,
    Retr,
    Rset,
    Stat,
    Stls,
    Top,
    Uidl,
    User,
    Utf8,
    parse_command,
)
from protocol.pop3.reader import LineReader, Overlong
from protocol.pop3.response import Code
from protocol.pop3.texts import DEFAULT, Text, phrase


class State(Enum):
    """RFC 1939 §3. NAMED is AUTHORIZATION after a USER that was answered +OK."""

    AUTHORIZATION = auto()
    NAMED = auto()
    TRANSACTION = auto()
    UPDATE = auto()


# The state after +OK. A command that is not in its state's row is answered -ERR and changes nothing.
# In NAMED, RFC 1939 §7 allows PASS and QUIT only; CAPA, another USER, AUTH and STLS harm nobody, and clients send them.
_AUTHORIZATION: dict[type[Command], State] = {
    Capa: State.AUTHORIZATION,
    User: State.NAMED,
    Auth: State.TRANSACTION,
    Stls: State.AUTHORIZATION,  # RFC 2595 §4: back to the state before, and nothing said in the clear is kept
    Utf8: State.AUTHORIZATION,
    Lang: State.AUTHORIZATION,
    Quit: State.UPDATE,
}
_TRANSACTION: tuple[type[Command], ...] = (Capa, Lang, Stat, List, Uidl, Retr, Top, Dele, Rset, Noop)
TRANSITIONS: dict[State, dict[type[Command], State]] = {
    State.AUTHORIZATION: _AUTHORIZATION,
    State.NAMED: {**_AUTHORIZATION, Capa: State.NAMED, Lang: State.NAMED, Pass: State.TRANSACTION},
    State.TRANSACTION: dict.fromkeys(_TRANSACTION, State.TRANSACTION) | {Quit: State.UPDATE},
    State.UPDATE: {},
}
# The state after -ERR where it is not the same: a refused name or password starts over (RFC 1939 §7), and QUIT ends
# the session even when the maildrop could not be updated (RFC 1939 §6).
AFTER_REFUSAL: dict[type[Command], State] = {
    User: State.AUTHORIZATION,
    Pass: State.AUTHORIZATION,
    Quit: State.UPDATE,
}


@dataclass(frozen=True, slots=True)
class Response:
    """A line of an AUTH exchange, undecoded (RFC 5034 §4)."""

    line: bytes = field(repr=False)


Event: TypeAlias = Command | Response


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may do before it is refused."""

    line_octets: int = 255  # RFC 2449 §4, with CRLF
    response_octets: int = 16384  # ours: a line of an AUTH exchange
    errors: int = 20  # ours: lines that are no command, or not allowed now


class ServerSession(LineSession[bytes | Overlong, Event]):
    """One conversation. state tells where it is; is_over that nothing more will be read."""

    state: State
    _lines: LineReader

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        super().__init__(self._limits.errors)
        self.state = State.AUTHORIZATION
        self.language = DEFAULT
        self.is_utf8 = False  # the client takes headers as they are (RFC 6856 §2.1)
        self._lines = LineReader()
        self._current: Command | None = None  # waits for its answer

    # -- in ---------------------------------------------------------------------------------------------------------

    def _take_line(self) -> bytes | Overlong | None:
        """Clients put tokens behind AUTH that are longer than RFC 5034 §4 lets a line be: before the login we read them."""
        may_be_auth = self.state in (State.AUTHORIZATION, State.NAMED)
        return self._lines.take_line(
            self._limits.response_octets if self._is_exchanging or may_be_auth else self._limits.line_octets
        )

    def _is_too_long(self, line: bytes) -> bool:
        is_short = len(line) + len(b"\r\n") <= self._limits.line_octets
        return not (is_short or self._is_exchanging or line[:5].upper() == b"AUTH ")

    def _event(self, line: bytes | Overlong) -> Event | None:
        if isinstance(line, Overlong) or self._is_too_long(line):
            self._reject(Text.LINE_TOO_LONG)
            return None
        if self._is_exchanging:
            return Response(line)
        try:
            command = parse_command(line)
        except CommandError as error:
            self._reject(error.text)
            return None
        if type(command) not in TRANSITIONS[self.state]:
            self._reject(Text.NOT_NOW)
            return None
        self._current = command
        return command

    def _reject(self, text: Text) -> None:
        self._current = None
        if self._is_beyond_errors():
            self.is_over = True
            text = Text.TOO_MANY_ERRORS
        self._say(response.error(phrase(text, self.language)))

    # -- answers ----------------------------------------------------------------------------------------------------

    def greet(self, text: Text | str, **values: object) -> None:
        """The first line. It holds no "<": a client would take that for the timestamp of APOP (RFC 1939 §4, §7)."""
        self._say(self.status(text, **values))

    def status(self, text: Text | str, **values: object) -> bytes:
        """A positive status line in the session's language."""
        return response.ok(phrase(text, self.language, values))

    def ok(self, text: Text | str = "", lines: Sequence[str] | None = None, **values: object) -> None:
        """Answer +OK and move on. With lines it is a multi-line response; none of them begins with a dot."""
        first = self.status(text, **values)
        self.ok_octets(first if lines is None else response.multi_line(first, lines))

    def ok_octets(self, octets: bytes) -> None:
        """Answer with a positive response that is rendered already, and move on."""
        assert self._current is not None, "nothing to answer"
        self._say(octets)
        self._enter(TRANSITIONS[self.state][type(self._current)])

    def refuse(self, text: Text | str, code: Code | None = None, **values: object) -> None:
        """Answer -ERR and stay, or fall back where AFTER_REFUSAL says so."""
        assert self._current is not None, "nothing to answer"
        self._say(response.error(phrase(text, self.language, values), code))
        self._enter(AFTER_REFUSAL.get(type(self._current), self.state))

    def add_octets(self, octets: bytes) -> None:
        """More of the multi-line response that ok_octets() began."""
        self._say(octets)

    def challenge(self, octets: bytes) -> None:
        """Answer AUTH with "+ " and a base64 challenge: the next line is its Response."""
        assert isinstance(self._current, Auth), "no exchange"
        self._say(b"+ " + octets + b"\r\n")
        self._is_exchanging = True

    def end(self) -> None:
        """Read nothing more, e.g. after too many failed logins."""
        self.is_over = True

    def start_tls(self) -> None:
        """TLS has begun after the +OK to STLS: whatever was said before, by whomever, is forgotten (RFC 2595 §4)."""
        self._lines = LineReader()
        self.language, self.is_utf8 = DEFAULT, False
        self._forget_output()

    def _enter(self, state: State) -> None:
        self.state, self._current, self._is_exchanging = state, None, False
        if state is State.UPDATE:
            self.is_over = True


@dataclass(frozen=True, slots=True)
class Policy:
    """What the site asks of its users, RFC 2449 §6.5 and §6.7."""

    login_delay: int = 0  # seconds between two logins
    expire_days: int | None = None  # after which messages may be removed; None: never
    varies: bool = False  # other users have other values: these are the ones that bind most


def capabilities(
    *,
    state: State,
    may_authenticate: bool,
    may_start_tls: bool,
    mechanisms: Sequence[str],
    implementation: str,
    policy: Policy,
) -> list[str]:
    """The lines of CAPA (RFC 2449 §6), which tell what works on this connection now and nothing else."""
    is_stranger = state is not State.TRANSACTION
    by_user = " USER" if policy.varies and is_stranger else ""
    expire = "NEVER" if policy.expire_days is None else str(policy.expire_days)
    lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER", "LANG"]
    lines += [f"LOGIN-DELAY {policy.login_delay}{by_user}", f"EXPIRE {expire}{by_user}"]
    if may_authenticate:
        lines += ["USER", f"SASL {' '.join(mechanisms)}"]
    if may_start_tls and is_stranger:
        lines.append("STLS")
    if not is_stranger:  # RFC 2449 §6.9: no need to tell strangers what runs here
        lines.append(f"IMPLEMENTATION {implementation}")
    return lines
