"""Mail servers of the test internet: aiosmtpd on the test's loop, with extensions it lacks and faults on demand.

    async with mx_server(tls=context) as mx:
        mx.faults["RCPT"] = ["450 4.7.1 greylisted"]       # the next RCPT; the ones behind it are taken
        mx.faults["DOT"] = itertools.repeat(Fault.DROP)    # every message's end
        mx.offers.add("CHUNKING")
        ...
        await mx.wait(3)                                   # until three messages were taken
        mx.received[0].content

A fault is taken for each command of its verb, in turn: a reply (421 closes behind it), octets that are sent as they are,
a Fault, or None for nothing. Verbs are GREETING, EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, BDAT, DOT (the end of a
message, by either), RSET, NOOP, QUIT.
"""

import asyncio
import enum
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session, TLSSetupException

_LINE_LIMIT = 1 << 20
_OFFERED = {"SIZE", "8BITMIME", "SMTPUTF8", "PIPELINING", "DSN"}


class Fault(enum.Enum):
    """What a server may do instead of answering."""

    DROP = "close the connection"
    KEEP_AND_DROP = "take the message, then close the connection instead of saying so"
    HANG = "say nothing more until the server is closed"
    DRIP = "answer as usual, one octet at a time"


Answer = str | bytes | Fault | None


@dataclass(slots=True)
class Received:
    """One message that was taken."""

    reverse_path: str
    forward_paths: list[str]
    content: bytes
    mail_parameters: dict[str, str]
    rcpt_parameters: list[dict[str, str]]  # of each forward path
    helo: str
    tls: str | None  # the version, when it came in TLS
    login: str | None
    session: int  # the number of the connection that it came by, from 1
    is_chunked: bool


@dataclass
class Mx:
    """One server. Everything may be changed while it runs."""

    name: str
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None
    offers: set[str] = field(default_factory=lambda: set(_OFFERED))  # EHLO lines, besides STARTTLS and AUTH
    logins: dict[str, str] = field(default_factory=dict)
    size_limit: int = 50_000_000
    recipient_limit: int | None = None  # of one transaction: 452 4.5.3
    message_limit: int | None = None  # of one connection: then 421
    greylists: bool = False  # the first RCPT of each sender and recipient: 450 4.7.1
    unknown: set[str] = field(default_factory=set)  # recipients that get 550 5.1.1
    gates: dict[str, asyncio.Event] = field(default_factory=dict)  # a verb is not answered before its event is set
    faults: dict[str, Iterable[Answer]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    sessions: int = 0
    open_sessions: int = 0
    most_sessions: int = 0  # at the same time
    verbs: Counter[str] = field(default_factory=Counter)
    errors: list[Exception] = field(default_factory=list)  # of the server itself
    on_received: Callable[[Received], None] | None = None  # called before the message is acknowledged
    _running: dict[str, tuple[Iterable[Answer], Iterator[Answer]]] = field(default_factory=dict)
    _known: set[tuple[str, str]] = field(default_factory=set)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait(self, count: int, within_seconds: float = 20.0) -> list[Received]:
        """Wait until so many messages were taken in all. Gives all of them."""
        async with asyncio.timeout(within_seconds), self._news:
            await self._news.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def take(self, message: Received) -> None:
        """A message has come whole."""
        self.received.append(message)
        if self.on_received is not None:
            self.on_received(message)
        async with self._news:
            self._news.notify_all()

    def next_fault(self, verb: str) -> Answer:
        """The fault for this command."""
        faults = self.faults.get(verb)
        if faults is None:
            return None
        if verb not in self._running or self._running[verb][0] is not faults:
            self._running[verb] = faults, iter(list(faults) if isinstance(faults, list) else faults)
        return next(self._running[verb][1], None)

    def is_grey(self, reverse_path: str, forward_path: str) -> bool:
        """Whether this pair has to come again."""
        pair = reverse_path, forward_path
        is_new = pair not in self._known
        self._known.add(pair)
        return self.greylists and is_new


class _Server(SMTP):
    """aiosmtpd with parameters of MAIL and RCPT, BDAT, and the faults."""

    line_length_limit = _LINE_LIMIT
    command_size_limit = 4096

    def __init__(self, mx: Mx, closing: asyncio.Event) -> None:
        self._mx = mx
        self._closing = closing
        self._number = 0
        self._taken = 0
        self._is_chunked = False
        self._chunks = b""
        self._mail_parameters: dict[str, str] = {}
        self._rcpt_parameters: list[dict[str, str]] = []
        self._drips = False
        super().__init__(
            self,
            hostname=mx.name,
            ident="ESMTP",
            data_size_limit=mx.size_limit,
            enable_SMTPUTF8=True,
            tls_context=mx.tls,
            authenticator=self._authenticate_login,
            loop=asyncio.get_running_loop(),
        )
        self._smtp_methods = {verb: self._faulty(verb, method) for verb, method in self._smtp_methods.items()}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._number:
            self._mx.sessions += 1
            self._mx.open_sessions += 1
            self._mx.most_sessions = max(self._mx.most_sessions, self._mx.open_sessions)
            self._number = self._mx.sessions
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:
            self._mx.open_sessions -= 1
        super().connection_lost(error)

    async def _handle_client(self) -> None:
        with suppress(ConnectionError):
            if (implicit := self.transport.get_extra_info("ssl_object")) is not None:  # type: ignore[union-attr]
                self.session.ssl = {"ssl_object": implicit}  # type: ignore[union-attr]
                self._tls_protocol = self.session.ssl  # type: ignore[union-attr, assignment]
            fault = await self._fault("GREETING")
            if fault is not None:
                await self._misbehave(fault)
            await super()._handle_client()

    async def push(self, status: Any) -> None:
        if not self._drips:
            await super().push(status)
            return
        for octet in (status.encode() if isinstance(status, str) else status) + b"\r\n":
            self._writer.write(bytes([octet]))
            await asyncio.sleep(0)

    # -- faults -----------------------------------------------------------------------------------------------------

    def _faulty(self, verb: str, method: Callable[[str | None], Any]) -> Callable[[str | None], Any]:
        async def command(argument: str | None) -> None:
            self._mx.verbs[verb] += 1
            fault = await self._fault(verb)
            if fault is None:
                await method(argument)
            else:
                if verb == "BDAT":
                    await self._reader.readexactly(int((argument or "0").split()[0]))
                await self._misbehave(fault)

        return command

    async def _fault(self, verb: str) -> Answer:
        gate = self._mx.gates.get(verb)
        if gate is not None:
            await gate.wait()
        fault = self._mx.next_fault(verb)
        self._drips = fault is Fault.DRIP
        return None if fault is Fault.DRIP else fault

    async def _misbehave(self, fault: Answer) -> None:
        assert self.transport is not None
        if isinstance(fault, str):
            await self.push(fault)
            if fault.startswith("421") or self.session.host_name is None:  # type: ignore[union-attr]
                self._leave()
        elif isinstance(fault, bytes):
            self._writer.write(fault)
        elif fault is Fault.HANG:
            await self._closing.wait()
        else:
            self.transport.abort()  # type: ignore[attr-defined]
            raise ConnectionResetError

    def _leave(self) -> None:
        """Close behind what was said."""
        assert self.transport is not None
        self.transport.close()
        raise ConnectionResetError

    # -- extensions -------------------------------------------------------------------------------------------------

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        arg, self._mail_parameters = _parameters(arg, {"SIZE", "BODY", "SMTPUTF8"})
        self._rcpt_parameters = []
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        arg, parameters = _parameters(arg, set())
        before = len(self.envelope.rcpt_tos)  # type: ignore[union-attr]
        await super().smtp_RCPT(arg)
        if len(self.envelope.rcpt_tos) > before:  # type: ignore[union-attr]
            self._rcpt_parameters.append(parameters)

    async def smtp_BDAT(self, arg: str | None) -> None:  # noqa: N802
        size, _, last = (arg or "").partition(" ")
        self._chunks += await self._reader.readexactly(int(size))
        envelope = self.envelope
        assert envelope is not None
        if not envelope.rcpt_tos:
            self._chunks = b""
            await self.push("503 5.5.1 no recipients")
        elif not last:
            await self.push(f"250 2.0.0 {size} octets")
        else:
            envelope.content, self._chunks, self._is_chunked = self._chunks, b"", True
            answer = await self.handle_DATA(self, self.session, envelope)
            self._set_post_data_state()  # type: ignore[no-untyped-call]
            await self.push(answer)

    async def handle_exception(self, error: Exception) -> str:
        """A handshake that fails is the client's choice; anything else is a fault of these tests."""
        if not isinstance(error, TLSSetupException):
            self._mx.errors.append(error)
        return "451 4.3.0 internal error"

    # -- aiosmtpd's hooks -------------------------------------------------------------------------------------------

    def _authenticate_login(
        self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any
    ) -> AuthResult:
        assert isinstance(given, LoginPassword)
        login = given.login.decode()
        is_right = self._mx.logins.get(login) == given.password.decode()
        return AuthResult(success=is_right, handled=False, auth_data=login)

    async def handle_EHLO(  # noqa: N802
        self, _server: Any, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        kept = [line for line in responses if line[4:].split()[0] == "STARTTLS"]
        kept += [line for line in responses if line[4:].startswith("AUTH") and self._mx.logins]
        told = [f"SIZE {self._mx.size_limit}" if line == "SIZE" else line for line in sorted(self._mx.offers)]
        return [responses[0], *kept, *(f"250-{line}" for line in told), "250 HELP"]

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        mx = self._mx
        if address in mx.unknown:
            return "550 5.1.1 no such user"
        if mx.is_grey(envelope.mail_from or "", address):
            return "450 4.7.1 greylisted, come again"
        if mx.recipient_limit is not None and len(envelope.rcpt_tos) >= mx.recipient_limit:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(  # noqa: N802
        self, _server: Any, session: Session | None, envelope: Envelope
    ) -> str:
        mx, is_chunked, self._is_chunked = self._mx, self._is_chunked, False
        fault = await self._fault("DOT")
        if isinstance(fault, str) and not fault.startswith("2"):
            if fault.startswith("421"):
                await self._misbehave(fault)
            return fault
        if fault is not None and fault is not Fault.KEEP_AND_DROP and not isinstance(fault, str):
            await self._misbehave(fault)
            return "250 2.0.0 ok"
        content = envelope.content
        assert isinstance(content, bytes | bytearray)
        assert session is not None
        reverse_path = "" if envelope.mail_from in (None, "<>") else str(envelope.mail_from)
        encrypted = session.ssl.get("ssl_object") if session.ssl is not None else None
        login = session.auth_data if session.authenticated else None
        await mx.take(
            Received(
                reverse_path,
                list(envelope.rcpt_tos),
                bytes(content),
                dict(self._mail_parameters),
                list(self._rcpt_parameters),
                session.host_name or "",
                encrypted.version() if encrypted is not None else None,
                login,
                self._number,
                is_chunked,
            )
        )
        if fault is Fault.KEEP_AND_DROP:
            await self._misbehave(fault)
        self._taken += 1
        if mx.message_limit is not None and self._taken >= mx.message_limit:
            self.loop.call_soon(self._say_enough)
        return fault if isinstance(fault, str) else "250 2.0.0 taken"

    def _say_enough(self) -> None:
        """Unasked, behind the reply to the last message."""
        if self.transport is not None:
            self._writer.write(b"421 4.7.0 enough messages\r\n")
            self.transport.close()


def _parameters(argument: str | None, passed: set[str]) -> tuple[str | None, dict[str, str]]:
    """The argument with those parameters that aiosmtpd knows, and all of them."""
    path, bracket, rest = (argument or "").rpartition(">")
    words = rest.split()
    found = {word.partition("=")[0].upper(): word.partition("=")[2] for word in words}
    kept = [word for word in words if word.partition("=")[0].upper() in passed]
    if found.get("BODY", "").upper() == "BINARYMIME":
        kept = [word for word in kept if not word.upper().startswith("BODY=")]
    return " ".join([path + bracket, *kept]) if bracket else argument, found


@asynccontextmanager
async def mx_server(
    name: str = "mx.example.net",
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    starts_with_tls: bool = False,
    **options: Any,
) -> AsyncIterator[Mx]:
    """Run one server. tls: it offers STARTTLS, or begins with TLS."""
    mx = Mx(name, tls=None if starts_with_tls else tls, **options)
    servers: set[_Server] = set()
    closing = asyncio.Event()

    def accept() -> _Server:
        server = _Server(mx, closing)
        servers.add(server)
        return server

    loop = asyncio.get_running_loop()
    listener = await loop.create_server(accept, host, port, ssl=tls if starts_with_tls else None)
    mx.host, mx.port = listener.sockets[0].getsockname()[:2]
    try:
        yield mx
    finally:
        closing.set()
        listener.close()
        tasks = []
        for server in servers:
            if server.transport is not None:
                server.transport.abort()  # type: ignore[attr-defined]
            if server._handler_coroutine is not None:
                server._handler_coroutine.cancel()
                tasks.append(server._handler_coroutine)
            if server._timeout_handle is not None:
                server._timeout_handle.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
    assert not mx.errors, mx.errors
