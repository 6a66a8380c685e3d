"""The client's side of one SMTP or LMTP session, RFC 5321 §3 and RFC 2033: no I/O, no clock, no randomness.

receive() takes what the server sent and gives events, take_output() what is to be sent, the other methods what the caller
wants. Commands go out together where the server offers PIPELINING (RFC 2920), content as BDAT where it offers CHUNKING
(RFC 3030), a small message in the same flight. Whatever the server sends, every recipient of every transaction gets
exactly one Outcome, memory is bounded, and nothing but an event comes of it: a server that breaks the protocol ends the
session, and what it had not yet answered is deferred.
"""

from collections import deque
from collections.abc import Sequence

from protocol.sasl.exchange import ClientMechanism, SaslError, decode_base64, encode_base64
from protocol.smtp.capabilities import NO_CAPABILITIES, Capabilities, capabilities_of
from protocol.smtp.client_events import (
    Answered,
    Authenticated,
    Denied,
    Ended,
    Event,
    Finished,
    Opened,
    Phase,
    TlsAllowed,
)
from protocol.smtp.data import BareLineEndError
from protocol.smtp.progress import Progress
from protocol.smtp.reply import Reply, reply
from protocol.smtp.reply_reader import ReplyReader
from protocol.smtp.transmission import Outcome, Recipient, Transaction, mail_command, obstacle, rcpt_command

__all__ = [
    "Answered",
    "Authenticated",
    "Capabilities",
    "Client",
    "ClientError",
    "Denied",
    "Ended",
    "Event",
    "Finished",
    "Opened",
    "Outcome",
    "Phase",
    "Recipient",
    "TlsAllowed",
    "Transaction",
]

EAGER_OCTETS = 64 * 1024  # a message up to this size goes out by BDAT before its recipients are answered
COMMAND_LIMIT = 512  # octets of an AUTH command with its initial response; RFC 4954 §4


class ClientError(Exception):
    """The caller asked for what this moment of the session does not allow: a fault of ours, never the server's."""


_CLOSED = "the server closed the session"
_UNASKED = "the server spoke without being asked"
_OUT_OF_TURN = "the server gave a reply that does not fit the command"
_LEFTOVER = "the server sent more than its reply before TLS"
_EARLY = "the server answered before the end of the message"
_BARE_LINE_END = reply(554, "5.6.0", "message has a CR or LF outside CRLF, which only binary transport can carry")
_BAD_EXCHANGE = reply(535, "5.7.8", "the server's part of the authentication makes no sense")

_SETUP = frozenset({Phase.GREETING, Phase.EHLO, Phase.HELO, Phase.STARTTLS, Phase.AUTH})
_STEP_LIMIT = 10  # challenges of one AUTH
_INTERNAL = -1  # the index of a RSET that the caller did not ask for


class Client:
    """One session. hostname goes into EHLO. is_secure: the connection is TLS from its first octet on."""

    def __init__(
        self, hostname: str, *, is_lmtp: bool = False, is_secure: bool = False, uses_chunking: bool = True
    ) -> None:
        self.capabilities = NO_CAPABILITIES
        self.greeting: Reply | None = None
        self.is_secure = is_secure
        self.ended: str | None = None  # why, once it is so
        self._hostname = hostname
        self._is_lmtp = is_lmtp
        self._uses_chunking = uses_chunking
        self._reader = ReplyReader()
        self._output: list[bytes] = []
        self._pending: deque[tuple[Phase, int]] = deque([(Phase.GREETING, 0)])  # sent, and not yet answered
        self._backlog: deque[tuple[bytes, Phase, int]] = deque()  # commands that wait for the reply before them
        self._running: Progress | None = None
        self._mechanism: ClientMechanism | None = None
        self._steps = 0  # of the exchange with it
        self._needs_reset = False  # the server may hold a transaction that came to nothing
        self._is_opened = False

    def __repr__(self) -> str:
        state = self.ended or (str(self._pending[0][0]) if self._pending else "idle")
        return f"<Client {state}{' secure' if self.is_secure else ''}>"

    # -- what the caller looks at -----------------------------------------------------------------------------------

    @property
    def awaiting(self) -> Phase | None:
        """What the server is to answer next."""
        return self._pending[0][0] if self._pending else None

    @property
    def missing(self) -> int:
        """How many commands are not answered yet, those included that wait to be sent."""
        return len(self._pending) + len(self._backlog)

    @property
    def is_idle(self) -> bool:
        """Whether a command or a transaction may begin."""
        return self._is_opened and self.ended is None and self._running is None and not self._pending

    @property
    def is_content_wanted(self) -> bool:
        """Whether content() is to be called now."""
        running = self._running
        if running is None or running.is_content_ended or not running.undecided:
            return False
        if not running.is_chunked:
            return running.has_go_ahead
        if running.is_eager:
            return True
        return not running.unanswered and running.has_hope and (self.capabilities.has_pipelining or not self._pending)

    @property
    def has_output(self) -> bool:
        """Whether take_output() would give any."""
        return bool(self._output)

    def take_output(self) -> bytes:
        """The octets to send now."""
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    # -- what the server did ----------------------------------------------------------------------------------------

    def receive(self, octets: bytes) -> list[Event]:
        """Take octets from the wire."""
        events: list[Event] = []
        if self.ended is not None:
            return events
        replies = self._reader.receive(octets)
        for number, answer in enumerate(replies, start=1):
            is_last = number == len(replies) and self._reader.is_between and self._reader.fault is None
            events += self._answered(answer, is_last=is_last)
            if self.ended is not None:
                return events
        if self._reader.fault is not None:
            events += self._end(self._reader.fault)
        elif not self._pending and not self._reader.is_between and not self._is_opened:
            events += self._end(_LEFTOVER)
        return events

    def receive_eof(self) -> list[Event]:
        """The server closed the connection, or it was lost."""
        return self.abandon("the connection was closed")

    def abandon(self, reason: str) -> list[Event]:
        """Give the session up: it was lost, or takes too long. What is undecided is deferred."""
        if self.ended is None and self._pending and self._pending[0][0] is Phase.QUIT:
            return self._end("quit")
        return self._end(reason, status="4.4.2")

    # -- what the caller wants --------------------------------------------------------------------------------------

    def start_tls(self) -> None:
        """Ask for TLS, RFC 3207. Gives TlsAllowed or Denied."""
        self._require_idle()
        self._put(b"STARTTLS\r\n", Phase.STARTTLS)

    def tls_started(self) -> None:
        """The handshake is done: what the server said before counts for nothing (RFC 3207 §4.2). Gives Opened or Denied."""
        if self.ended is not None or self._is_opened or self._pending:
            raise ClientError("TLS was not allowed at this moment")
        self.is_secure = True
        self.capabilities = NO_CAPABILITIES
        self._put_hello()

    def authenticate(self, name: bytes, mechanism: ClientMechanism) -> None:
        """Authenticate, RFC 4954. Gives Authenticated or Denied."""
        self._require_idle()
        self._mechanism, self._steps = mechanism, 0
        command = b"AUTH " + name
        try:
            initial = command + b" " + (encode_base64(mechanism.respond(None)) or b"=")
        except SaslError:  # LOGIN: the server speaks first
            initial = command
        self._put((initial if len(initial) <= COMMAND_LIMIT - 2 else command) + b"\r\n", Phase.AUTH)

    def send(self, transaction: Transaction) -> list[Event]:
        """Begin a transaction. Gives Finished at once where the server cannot take it, in the end otherwise."""
        self._require_idle()
        if not transaction.recipients:
            raise ClientError("a transaction needs recipients")
        offered = self.capabilities
        refusal = obstacle(transaction, offered, is_secure=self.is_secure)
        is_chunked = offered.has_chunking and (self._uses_chunking or transaction.body == "BINARYMIME")
        is_small = transaction.size_octets is not None and transaction.size_octets <= EAGER_OCTETS
        is_eager = is_chunked and is_small and offered.has_pipelining and not self._is_lmtp
        running = Progress(transaction, is_chunked=is_chunked, is_eager=is_eager)
        if refusal is not None:
            running.answer_all(refusal, "", is_remote=False)
            return [Finished(running.outcomes)]
        self._running = running
        if self._needs_reset:
            self._put(b"RSET\r\n", Phase.RSET, _INTERNAL)
        self._needs_reset = True
        self._put(mail_command(transaction, offered), Phase.MAIL)
        for index, recipient in enumerate(transaction.recipients):
            self._put(rcpt_command(recipient, transaction, offered), Phase.RCPT, index)
        if not is_chunked and offered.has_pipelining:
            self._put(b"DATA\r\n", Phase.DATA)
        return []

    def content(self, octets: bytes, *, is_last: bool) -> list[Event]:
        """The next octets of the message, while is_content_wanted. With BDAT each call is one chunk."""
        running = self._running
        if running is None or not self.is_content_wanted:
            raise ClientError("no content is wanted now")
        if running.writer is None:
            self._output += [b"BDAT %d%b\r\n" % (len(octets), b" LAST" if is_last else b""), octets]
            running.is_content_ended = is_last
            answers = self._content_answers(running) if is_last else (0,)
            self._pending += [(Phase.CONTENT if is_last else Phase.CHUNK, index) for index in answers]
            return []
        try:
            self._output.append(running.writer.write(octets))
            if is_last:
                self._output.append(running.writer.finish())
        except BareLineEndError:
            self._output.clear()  # closed before the end mark, the message does not exist (RFC 5321 §4.1.1.4)
            running.answer_all(_BARE_LINE_END, Phase.CONTENT, is_remote=False)
            return self._end("the message cannot be sent")
        running.is_content_ended = is_last
        return []

    def reset(self) -> None:
        """RSET. Gives Answered."""
        self._require_idle()
        self._needs_reset = False
        self._put(b"RSET\r\n", Phase.RSET)

    def noop(self) -> None:
        """NOOP: to see whether the server is still there. Gives Answered."""
        self._require_idle()
        self._put(b"NOOP\r\n", Phase.NOOP)

    def quit(self) -> None:
        """QUIT. Gives Ended."""
        self._require_idle()
        self._put(b"QUIT\r\n", Phase.QUIT)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _require_idle(self) -> None:
        if not self.is_idle:
            raise ClientError(f"not possible now: {self!r}")

    def _put(self, octets: bytes, phase: Phase, index: int = 0) -> None:
        """Send a command, now or when the one before it is answered."""
        if self.capabilities.has_pipelining or not (self._pending or self._backlog):
            self._output.append(octets)
            self._pending.append((phase, index))
        else:
            self._backlog.append((octets, phase, index))

    def _put_hello(self) -> None:
        verb = "LHLO" if self._is_lmtp else "EHLO"
        self._put(f"{verb} {self._hostname}\r\n".encode(), Phase.EHLO)

    def _answered(self, answer: Reply, *, is_last: bool) -> list[Event]:
        """One reply has come. is_last: nothing behind it has come with it."""
        if not self._pending:
            return self._end(_CLOSED, answer) if answer.code == 421 else self._end(_UNASKED)
        phase, index = self._pending[0]
        if answer.code == 421:  # at any moment, RFC 5321 §3.8
            return [*([Denied(phase, answer)] if phase in _SETUP else []), *self._end(_CLOSED, answer)]
        self._pending.popleft()
        events = self._setup(phase, answer, is_last=is_last) if phase in _SETUP else self._work(phase, index, answer)
        if self.ended is None and self._backlog and not self._pending:
            octets, next_phase, next_index = self._backlog.popleft()
            self._output.append(octets)
            self._pending.append((next_phase, next_index))
        return events

    def _setup(self, phase: Phase, answer: Reply, *, is_last: bool) -> list[Event]:
        """A reply to what opens a session."""
        if phase is Phase.AUTH:
            return self._authenticating(answer)
        if 300 <= answer.code < 400:
            return self._end(_OUT_OF_TURN)
        if phase is Phase.STARTTLS:
            if not answer.is_positive:
                return [Denied(phase, answer)]
            if not is_last:  # it would be taken for something said in TLS (CVE-2011-0411)
                return self._end(_LEFTOVER)
            self._is_opened = False
            return [TlsAllowed()]
        if phase is Phase.EHLO and answer.code >= 500 and not self._is_lmtp:
            self._put(f"HELO {self._hostname}\r\n".encode(), Phase.HELO)  # RFC 5321 §3.2
            return []
        if not answer.is_positive:
            return [Denied(phase, answer), *self._end("the server does not serve us", answer)]
        if phase is Phase.GREETING:
            self.greeting = answer
            self._put_hello()
            return []
        self.capabilities = capabilities_of(answer, is_extended=phase is Phase.EHLO)
        self._is_opened = True
        return [Opened(self.capabilities, answer)]

    def _authenticating(self, answer: Reply) -> list[Event]:
        mechanism, self._mechanism = self._mechanism, None
        assert mechanism is not None
        self._steps += 1
        if answer.code == 334 and self._steps <= _STEP_LIMIT:
            try:
                octets = encode_base64(mechanism.respond(decode_base64(answer.lines[0].strip(" ").encode())))
            except SaslError:
                octets = b"*"  # RFC 4954 §4; the server answers 501
            self._mechanism = mechanism
            self._put(octets + b"\r\n", Phase.AUTH)
            return []
        if 300 <= answer.code < 400:
            return self._end(_OUT_OF_TURN)
        if answer.is_positive and not getattr(mechanism, "is_verified", True):
            # RFC 5802 §5: a server that has not proven to know the password is not the one that was meant.
            return [Denied(Phase.AUTH, _BAD_EXCHANGE), *self._end("the server did not prove who it is")]
        return [Authenticated(answer) if answer.is_positive else Denied(Phase.AUTH, answer)]

    def _work(self, phase: Phase, index: int, answer: Reply) -> list[Event]:
        """A reply to a command of an opened session."""
        if (300 <= answer.code < 400) != (phase is Phase.DATA and answer.is_positive):
            return self._end(_OUT_OF_TURN, phase=phase)
        running = self._running
        if phase is Phase.QUIT:
            return self._end("quit", answer)
        if phase is Phase.NOOP or (phase is Phase.RSET and index != _INTERNAL):
            return [Answered(phase, answer)]
        if phase is Phase.RSET:
            return [] if answer.is_positive else self._end(_OUT_OF_TURN, phase=phase)  # it says nothing of a recipient
        assert running is not None
        if phase is Phase.MAIL:
            if not answer.is_positive:
                running.answer_all(answer, phase)
                self._needs_reset = False  # there is no transaction
                self._backlog.clear()
        elif phase is Phase.RCPT:
            running.answer_recipient(index, answer)
            is_asked = running.is_chunked or self.capabilities.has_pipelining  # or is not to be
            if not running.unanswered and running.has_hope and not is_asked:
                self._put(b"DATA\r\n", Phase.DATA)
        elif phase is Phase.CHUNK:
            if not answer.is_positive:
                running.answer_all(answer, phase)
        elif phase is Phase.DATA:
            self._data_answered(running, answer)
        else:
            return self._content_answered(running, index, answer)
        return self._settled(running)

    def _data_answered(self, running: Progress, answer: Reply) -> None:
        if not answer.is_positive:
            running.answer_all(answer, Phase.DATA)
        elif running.has_hope:
            running.has_go_ahead = True
            for index in self._content_answers(running):
                self._pending.append((Phase.CONTENT, index))
        else:  # RFC 2920 §3.1: the server waits for a message without recipients, and gets an empty one
            self._output.append(b".\r\n")
            running.is_content_ended = True
            self._pending.append((Phase.CONTENT, 0))

    def _content_answers(self, running: Progress) -> Sequence[int]:
        """LMTP answers the end of the message once for each accepted recipient (RFC 2033 §4.2)."""
        return tuple(running.accepted) if self._is_lmtp else (0,)

    def _content_answered(self, running: Progress, index: int, answer: Reply) -> list[Event]:
        if not running.is_content_ended:
            return self._end(_EARLY, answer, phase=Phase.CONTENT)
        self._needs_reset = False
        if self._is_lmtp:
            running.answer_one(index, answer, Phase.CONTENT)
        else:
            running.answer_all(answer, Phase.CONTENT)
        return self._settled(running)

    def _settled(self, running: Progress) -> list[Event]:
        """The transaction is over when all is decided and no reply is missing."""
        if running.undecided or self._pending or self._backlog:
            return []
        self._running = None
        return [Finished(running.outcomes)]

    def _end(
        self, reason: str, answer: Reply | None = None, *, phase: Phase | None = None, status: str = "4.5.0"
    ) -> list[Event]:
        """No more of this session. A refusal that ends it decides what is undecided; anything else defers it."""
        if self.ended is not None:
            return []
        self.ended = reason
        events: list[Event] = []
        if self._running is not None:
            asked = phase or self.awaiting or Phase.MAIL
            is_remote = answer is not None and not answer.is_positive
            word = answer if answer is not None and is_remote else reply(451, status, f"{reason} ({asked})")
            is_uncertain = self._running.is_content_ended and not is_remote
            self._running.answer_all(word, asked, is_remote=is_remote, is_uncertain=is_uncertain)
            events.append(Finished(self._running.outcomes))
            self._running = None
        self._pending.clear()
        self._backlog.clear()
        self._output.clear()
        return [*events, Ended(reason, answer)]
