"""One connection of POP3 or ManageSieve: octets in, events handled, answers out; TLS, and logins by SASL.

What an event does and how refusals are told is the protocol's own: subclasses say it.
"""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from config.managesieve import Managesieve
from config.pop3 import Pop3
from daemons.authentication import Authenticator, DeniedError, Exchange, Identity, Origin, Scope
from daemons.context import Context
from daemons.sockets import Connection
from protocol import sasl
from protocol.line_session import LineSession
from storage.errors import StorageError

_FLUSH_OCTETS = 32 * 1024  # small replies to pipelined commands go out together until they are so many
_Event = TypeVar("_Event")


class Service(Protocol):
    """What the sessions of a process share."""

    @property
    def context(self) -> Context:
        """The process."""

    @property
    def authenticator(self) -> Authenticator:
        """Who may log in."""

    @property
    def settings(self) -> Pop3 | Managesieve:
        """The protocol's part of the configuration."""


class Conversation(ABC, Generic[_Event]):
    """One connection: its grammar, and its login."""

    scope: ClassVar[Scope]
    log: ClassVar[FilteringBoundLogger]
    _service: Service
    _session: LineSession[Any, _Event]

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._exchange: Exchange | None = None
        self._failed_logins = 0
        self._login_by = 0.0

    async def run(self) -> None:
        """Serve the connection until it ends."""
        connection, session = self._connection, self._session
        connection.send_seconds = self._service.settings.send_timeout
        self._expect_login()
        self._greet()
        try:
            while True:
                await connection.send(session.take_output())
                if session.is_over:
                    return
                try:
                    octets = await connection.receive(self._patience())
                except TimeoutError:
                    self._hang_up()
                    continue
                if not octets:
                    return
                session.receive(octets)
                while (event := session.next_event()) is not None:
                    await self._handle(event)
                    if session.output_octets > _FLUSH_OCTETS:
                        await connection.send(session.take_output())
                        await asyncio.sleep(0)  # a long pipeline of commands must not keep others waiting
        finally:
            await self._let_go()

    def _expect_login(self) -> None:
        self._login_by = asyncio.get_running_loop().time() + self._service.settings.login_timeout

    def _patience(self) -> float:
        """Seconds to wait for the client."""
        if self._has_login:
            return self._service.settings.idle_timeout
        return max(0.0, self._login_by - asyncio.get_running_loop().time())

    @property
    @abstractmethod
    def _has_login(self) -> bool:
        """Whether the client has logged in."""

    @abstractmethod
    def _greet(self) -> None:
        """Say who is here."""

    @abstractmethod
    async def _handle(self, event: _Event) -> None:
        """Answer an event."""

    @abstractmethod
    def _hang_up(self) -> None:
        """The client has said nothing for too long: end the session."""

    async def _let_go(self) -> None:
        """Give back what the connection had, whatever the reason for its end."""

    # -- TLS --------------------------------------------------------------------------------------------------------

    @property
    def _may_start_tls(self) -> bool:
        return not self._connection.is_secure and self._service.context.tls is not None

    async def _start_tls(self) -> bool:
        """Go on in TLS, or refuse to. Tells which."""
        tls = self._service.context.tls
        if tls is None or not self._may_start_tls:
            self._refuse_tls()
            return False
        self._announce_tls()
        await self._connection.start_tls(tls, self._session.take_output())
        self._session.start_tls()
        return True

    @abstractmethod
    def _announce_tls(self) -> None:
        """Say that TLS begins."""

    @abstractmethod
    def _refuse_tls(self) -> None:
        """Say that it does not."""

    # -- the login --------------------------------------------------------------------------------------------------

    @property
    def _may_authenticate(self) -> bool:
        return self._connection.is_secure or self._service.settings.cleartext_authentication

    @property
    def _origin(self) -> Origin:
        allows_cleartext = self._service.settings.cleartext_authentication
        return self._service.authenticator.origin(self._connection, self.scope, allows_cleartext=allows_cleartext)

    async def _authenticate(self, mechanism: bytes, initial: bytes | None, decode: Callable[[bytes], bytes]) -> None:
        """Begin an exchange. decode: of the initial response."""
        if not self._may_authenticate:
            self._refuse_clear_text()
            return
        self._exchange = self._service.authenticator.exchange(mechanism, self._origin)
        if self._exchange is None:
            self._refuse_mechanism()
        elif initial is None:
            await self._step(None)
        else:
            await self._respond(initial, decode)

    async def _respond(self, octets: bytes, decode: Callable[[bytes], bytes] = sasl.decode_response) -> None:
        """Go on with the exchange."""
        try:
            message = decode(octets)
        except sasl.SaslError as error:
            self._refuse_exchange(error)
            return
        await self._step(message)

    async def _step(self, message: bytes | None) -> None:
        assert self._exchange is not None
        try:
            outcome = await self._advance(self._exchange, message)
        except sasl.SaslError as error:
            self._refuse_exchange(error)
        except DeniedError:
            self._deny()
        except StorageError as error:
            self._refuse_for_now("login", error)
        else:
            if isinstance(outcome, Identity):
                await self._enter(outcome)
            else:
                self._session.challenge(sasl.encode_challenge(outcome))

    async def _advance(self, exchange: Exchange, message: bytes | None) -> sasl.Challenge | Identity:
        return await exchange.step(message)

    @abstractmethod
    async def _enter(self, identity: Identity) -> None:
        """The client has proven who it is."""

    def _deny(self) -> None:
        """A login has failed; too many of them end the session."""
        self._failed_logins += 1
        self._refuse_login(is_last=self._failed_logins >= self._service.settings.login_failure_limit)

    @abstractmethod
    def _refuse_clear_text(self) -> None:
        """A login needs TLS."""

    @abstractmethod
    def _refuse_mechanism(self) -> None:
        """There is no such mechanism."""

    @abstractmethod
    def _refuse_exchange(self, error: sasl.SaslError) -> None:
        """What the client sent makes no sense, or it has cancelled the exchange."""

    @abstractmethod
    def _refuse_login(self, *, is_last: bool) -> None:
        """The login or the password is wrong. is_last: the session ends."""

    @abstractmethod
    def _refuse_for_now(self, step: str, error: StorageError) -> None:
        """Storage has failed."""

    def _logged(self, step: str, error: StorageError) -> str:
        """The id that a failure of storage has in the log: all that the client is told of it."""
        error_id = secrets.token_hex(6)
        self.log.error("storage failed", step=step, error_id=error_id, error=repr(error))
        return error_id
