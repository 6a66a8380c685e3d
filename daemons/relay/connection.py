"""One session with another host's SMTP server: opened with its TLS policy kept, used for many messages, closed.

The conversation is protocol/smtp/client.py's, sockets and time limits are daemons/relay/line.py's. Here is what comes before
the first message: which host and address, TLS and whether it is enough, authentication.
"""

import secrets
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from config.relay import Relay
from daemons.authentication.channel_binding import exporter
from daemons.relay.dialing import DialError, dial
from daemons.relay.line import Line, Pieces
from daemons.relay.routes import Credentials, Host, Source
from daemons.relay.tls_policy import TlsFailure, TlsResult, handshake_failed
from daemons.sockets import Connection as Socket
from protocol.sasl import SCRAM, ClientMechanism, LoginClient, PlainClient, ScramClient
from protocol.smtp.capabilities import Capabilities
from protocol.smtp.client import Authenticated, Client, Denied, Ended, Opened, Outcome, TlsAllowed, Transaction
from protocol.smtp.reply import Reply, reply

__all__ = ["Connection", "Failure", "OpenError", "open_connection"]

_NO_ADDRESS = reply(451, "4.4.4", "host has no address that may be used")
_NO_LOGIN = reply(451, "4.7.0", "server offers no authentication that is known here")
_NO_REQUIRETLS = reply(550, "5.7.30", "server does not promise TLS on the rest of the way")
_REFUSED_TLS = TlsFailure("starttls-not-supported", "the server refused STARTTLS")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one address, or a host with all of its addresses, could not be used.

    Whatever the reply says, it is about the host or the way to it, not about a recipient.
    """

    host: Host
    address: str
    phase: str  # "connect", "TLS", or the command that was answered
    reply: Reply
    is_remote: bool = False  # the reply is the server's own
    local_address: str = ""
    tls: TlsFailure | None = None


class OpenError(Exception):
    """No host could be talked to: one failure for each address that was tried, in order; there is at least one."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__(failures[-1].reply.lines[0])
        self.failures = tuple(failures)

    @property
    def telling(self) -> Failure:
        """The one that tells most: what a server said, else what was wrong with its TLS, else the first."""
        said = [failure for failure in self.failures if failure.is_remote]
        insecure = [failure for failure in self.failures if failure.tls is not None]
        return (said or insecure or list(self.failures))[0]


class Connection:
    """An opened session. failures: what was tried before, in vain, or without the TLS that was wanted."""

    def __init__(self, line: Line, host: Host, address: str, tls: TlsResult, failures: Sequence[Failure]) -> None:
        self.host = host
        self.address = address
        self.local_address = line.socket.local
        self.tls = tls
        self.failures = tuple(failures)
        self.transactions = 0  # begun
        self._line = line

    def __repr__(self) -> str:
        return f"<Connection {self._line.client!r} transactions={self.transactions}>"

    @property
    def capabilities(self) -> Capabilities:
        """What the server offers."""
        return self._line.client.capabilities

    @property
    def is_usable(self) -> bool:
        """Whether deliver() may be called: the session has not ended, as far as can be seen without asking."""
        return self._line.is_usable

    async def deliver(self, transaction: Transaction, pieces: Pieces) -> list[Outcome]:
        """Send one message: an outcome for each recipient, in their order.

        pieces: all of the message, as octets or as an iterator that is begun only when the server wants content. Raises
        what the iterator raises, and CancelledError; then the connection is closed, without an end of the message.
        """
        self.transactions += 1
        return await self._line.deliver(transaction, pieces)

    async def reset(self) -> bool:
        """RSET, to see whether the server is still there. Returns whether it is."""
        if not self.is_usable:
            return False
        self._line.client.reset()
        return not isinstance(await self._line.next_event(), Ended)

    async def quit(self) -> None:
        """QUIT, and close."""
        await self._line.quit()

    def close(self) -> None:
        """Close at once."""
        self._line.socket.abort()


async def open_connection(
    hosts: Sequence[Host],
    settings: Relay,
    *,
    hostname: str,
    source: Source | None = None,
    credentials: Credentials | None = None,
) -> Connection:
    """Talk to the first host that will: each with its own policy, its addresses in their order. Raises OpenError.

    hostname: for EHLO, unless the source has one.
    """
    opening = _Opening(settings, hostname, source or Source(), credentials)
    for host in hosts:
        connection = await opening.host(host)
        if connection is not None:
            return connection
    raise OpenError(opening.failures)


class _RefusalError(Exception):
    """This session leads nowhere."""

    def __init__(self, phase: str, answer: Reply, *, is_remote: bool = False, tls: TlsFailure | None = None) -> None:
        super().__init__(answer.lines[0])
        self.phase = phase
        self.reply = answer
        self.is_remote = is_remote
        self.tls = tls


class _HandshakeError(_RefusalError):
    """TLS could not be begun."""

    def __init__(self, tls: TlsFailure) -> None:
        super().__init__("TLS", reply(451, "4.7.5", str(tls)), tls=tls)


class _Opening:
    """One call of open_connection."""

    def __init__(self, settings: Relay, hostname: str, source: Source, credentials: Credentials | None) -> None:
        self.failures: list[Failure] = []
        self._settings = settings
        self._hostname = source.hostname or hostname
        self._source = source
        self._credentials = credentials
        self._sessions = 0

    async def host(self, host: Host) -> Connection | None:
        """A session with one of its addresses; None, and a failure for each, when there is none."""
        left = list(host.addresses)
        if not left:
            self._fail(host, "", _RefusalError("connect", _NO_ADDRESS))
        while left and self._sessions < self._settings.session_limit:
            dialled = await self._dial(host, left)
            if dialled is None:
                return None
            socket, address = dialled
            left = left[left.index(address) + 1 :]
            self._sessions += 1
            try:
                return await self._session(host, address, socket)
            except _HandshakeError as error:
                self._fail(host, address, error, socket)
                if host.policy.is_mandatory or host.policy.starts_with_tls or self._credentials is not None:
                    continue
            except _RefusalError as error:
                self._fail(host, address, error, socket)
                continue
            # RFC 7435 §3: where TLS was only an improvement, mail goes without it.
            dialled = await self._dial(host, [address])
            if dialled is None:
                continue
            try:
                return await self._session(host, address, dialled[0], is_tls_given_up=True)
            except _RefusalError as error:
                self._fail(host, address, error, dialled[0])
        return None

    async def _dial(self, host: Host, addresses: Sequence[str]) -> tuple[Socket, str] | None:
        reasons: Sequence[tuple[str, str]]
        try:
            socket, address, reasons = await dial(
                addresses,
                host.port,
                source=self._source,
                within_seconds=self._settings.connect_timeout,
                delay_seconds=self._settings.connect_delay,
            )
        except DialError as error:
            dialled, reasons = None, error.reasons
        else:
            dialled = socket, address
        for failed, reason in reasons:
            self._fail(host, failed, _RefusalError("connect", reply(451, "4.4.1", reason)))
        return dialled

    def _fail(self, host: Host, address: str, refusal: _RefusalError, socket: Socket | None = None) -> None:
        local = socket.local if socket is not None else ""
        self.failures.append(
            Failure(host, address, refusal.phase, refusal.reply, refusal.is_remote, local, refusal.tls)
        )

    async def _session(self, host: Host, address: str, socket: Socket, *, is_tls_given_up: bool = False) -> Connection:
        """From the connection to the moment when messages may go. Raises _RefusalError; then the socket is closed."""
        client = Client(self._hostname, is_secure=host.policy.starts_with_tls, uses_chunking=self._settings.chunking)
        line = Line(client, socket, self._settings)
        try:
            tls = await self._opened(line, host, is_tls_given_up=is_tls_given_up)
            if host.policy.needs_requiretls and not client.capabilities.has_requiretls:
                raise _RefusalError("EHLO", _NO_REQUIRETLS)
            if self._credentials is not None:
                await self._authenticate(line, self._credentials, is_verified=bool(tls.verified))
        except _HandshakeError:
            socket.abort()
            raise
        except _RefusalError:
            await line.quit()
            raise
        except BaseException:
            socket.abort()
            raise
        return Connection(line, host, address, tls, self.failures)

    async def _opened(self, line: Line, host: Host, *, is_tls_given_up: bool) -> TlsResult:
        """Greeting, EHLO, and TLS as the policy wants it."""
        policy = host.policy
        try:
            if policy.starts_with_tls:
                tls = await self._handshake(line, host)
                await _until_opened(line)
                return tls
            await _until_opened(line)
            if policy.wants_tls and line.client.capabilities.has_starttls and not is_tls_given_up:
                line.client.start_tls()
                event = await line.next_event()
                if isinstance(event, TlsAllowed):
                    tls = await self._handshake(line, host)
                    line.client.tls_started()
                    await _until_opened(line)
                    return tls
                if isinstance(event, Ended):
                    raise _RefusalError("STARTTLS", event.reply or _lost(event), is_remote=event.reply is not None)
                assert isinstance(event, Denied)
                if policy.is_mandatory:
                    raise _RefusalError(
                        "STARTTLS",
                        event.reply,
                        is_remote=True,
                        tls=_REFUSED_TLS,
                    )
            return policy.without_tls()
        except TlsFailure as failure:
            raise _RefusalError("TLS", reply(451, "4.7.5", str(failure)), tls=failure) from failure

    async def _handshake(self, line: Line, host: Host) -> TlsResult:
        """Raises _HandshakeError, or TlsFailure for a server that is not good enough."""
        policy = host.policy
        try:
            await line.socket.start_tls_as_client(policy.context(), policy.server_name, self._settings.tls_timeout)
        except (OSError, ssl.SSLError) as error:
            raise _HandshakeError(handshake_failed(error)) from error
        assert line.socket.tls is not None
        return policy.check(line.socket.tls)

    async def _authenticate(self, line: Line, credentials: Credentials, *, is_verified: bool) -> None:
        """The best mechanism that both know; never in the clear.

        A server that offers SCRAM may know a login by a hash that SCRAM cannot use: one that has shown who it is gets the
        password then.
        """
        refusal = _RefusalError("AUTH", _NO_LOGIN)
        for name, mechanism in _mechanisms(line, credentials):
            line.client.authenticate(name, mechanism)
            event = await line.next_event()
            if isinstance(event, Authenticated):
                return
            answer = event.reply if isinstance(event, Denied | Ended) else None
            refusal = _RefusalError("AUTH", answer or _NO_LOGIN, is_remote=answer is not None)
            if not (is_verified and name in SCRAM and refusal.reply.code == 535 and line.client.is_idle):
                break
        raise refusal


def _mechanisms(line: Line, credentials: Credentials) -> Iterator[tuple[bytes, ClientMechanism]]:
    """What the server offers and we know, best first."""
    offered, tls = line.client.capabilities.mechanisms, line.socket.tls
    if tls is None:
        return
    bindings = _bindings(tls)
    binding = next(iter(bindings.items()), None) if b"SCRAM-SHA-256-PLUS" in offered else None
    name = b"SCRAM-SHA-256-PLUS" if binding else b"SCRAM-SHA-256"
    if name in offered:
        yield (
            name,
            ScramClient(
                credentials.login,
                credentials.password,
                nonce=secrets.token_urlsafe(18),
                binding=binding,
                is_able=bool(bindings) and binding is None,
            ),
        )
    if b"PLAIN" in offered:
        yield b"PLAIN", PlainClient(credentials.login, credentials.password)
    elif b"LOGIN" in offered:
        yield b"LOGIN", LoginClient(credentials.login, credentials.password)


async def _until_opened(line: Line) -> None:
    """Greeting and EHLO. Raises _RefusalError."""
    event = await line.next_event()
    if isinstance(event, Opened):
        return
    if isinstance(event, Denied):
        raise _RefusalError(event.phase, event.reply, is_remote=True)
    assert isinstance(event, Ended)
    raise _RefusalError("EHLO", _lost(event))


def _lost(event: Ended) -> Reply:
    return reply(451, "4.4.2", event.reason)


def _bindings(tls: ssl.SSLObject) -> Mapping[str, bytes]:
    """What the channel can be bound by, as SCRAM clients take it by default: RFC 9266 §3."""
    name = "tls-exporter" if tls.version() == "TLSv1.3" else "tls-unique"
    octets = exporter(tls) if name == "tls-exporter" else tls.get_channel_binding("tls-unique")
    return {name: octets} if octets else {}
