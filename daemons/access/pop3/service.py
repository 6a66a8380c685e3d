"""POP3 sessions: commands from protocol/pop3, answers from storage. RFC 1939 with RFC 2449, RFC 2595, RFC 3206, RFC 5034.

Messages are removed at QUIT and nowhere else, all in one transaction.
"""

import asyncio
import secrets

from daemons.access.pop3.transaction import Transaction
from daemons.authentication import Authenticator
from daemons.context import Context
from daemons.logs import logger
from daemons.sockets import Connection
from protocol import sasl
from protocol.pop3.command import Auth, Capa, Pass, Quit, Stls, User
from protocol.pop3.response import Code
from protocol.pop3.session import Event, Limits, Response, ServerSession, capabilities
from storage.errors import StorageError
from storage.maildrops import Maildrop, Maildrops

log = logger("pop3")

_FLUSH_OCTETS = 32 * 1024  # small replies to pipelined commands go out together until they are so many


class Pop3Service:
    """What the POP3 sessions of a process share."""

    def __init__(self, context: Context, authenticator: Authenticator) -> None:
        self.context = context
        self.authenticator = authenticator
        self.settings = context.settings.pop3
        self.maildrops = Maildrops(context.pool, cached_messages=self.settings.listing_cache_messages)
        self.limits = Limits(
            line_octets=self.settings.line_limit,
            response_octets=self.settings.response_line_limit,
            errors=self.settings.error_limit,
        )

    async def converse(self, connection: Connection) -> None:
        """Serve one connection until it ends: the handler of the listeners pop3 and pop3s."""
        await _Conversation(self, connection).run()


class _Conversation:
    """One connection: its grammar, its login and, after it, its maildrop."""

    def __init__(self, service: Pop3Service, connection: Connection) -> None:
        self._service = service
        self._connection = connection
        self._session = ServerSession(service.limits)
        self._name = ""
        self._exchange: sasl.Mechanism | None = None
        self._failed_logins = 0
        self._maildrop: Maildrop | None = None
        self._transaction: Transaction | None = None

    async def run(self) -> None:
        connection, session = self._connection, self._session
        connection.send_seconds = self._service.settings.send_timeout
        login_by = asyncio.get_running_loop().time() + self._service.settings.login_timeout
        session.greet(f"{self._service.context.settings.hostname} POP3 ready")
        try:
            while True:
                await connection.send(session.take_output())
                if session.is_over:
                    return
                try:
                    octets = await connection.receive(self._patience(login_by))
                except TimeoutError:  # RFC 1939 §3: close without removing any messages or sending any response
                    return
                if not octets:
                    return
                session.receive(octets)
                while (event := session.next_event()) is not None:
                    await self._handle(event)
                    if session.output_octets > _FLUSH_OCTETS:
                        await connection.send(session.take_output())
                        await asyncio.sleep(0)  # a long pipeline of commands must not keep others waiting
        finally:
            await self._close_maildrop()

    def _patience(self, login_by: float) -> float:
        """Seconds to wait for the client."""
        if self._transaction is not None:
            return self._service.settings.idle_timeout
        return max(0.0, login_by - asyncio.get_running_loop().time())

    async def _handle(self, event: Event) -> None:
        match event:
            case Capa():
                self._session.ok(lines=self._capabilities())
            case User(name):
                self._user(name)
            case Pass(password):
                await self._login(self._name, password)
            case Auth():
                await self._auth(event)
            case Response(line):
                await self._continue_exchange(line)
            case Stls():
                await self._stls()
            case Quit():
                await self._quit()
            case _:
                assert self._transaction is not None, "the transition table lets nothing else through"
                await self._transaction.handle(event)

    # -- the AUTHORIZATION state ------------------------------------------------------------------------------------

    @property
    def _may_authenticate(self) -> bool:
        return self._connection.is_secure or self._service.settings.cleartext_authentication

    @property
    def _may_start_tls(self) -> bool:
        return not self._connection.is_secure and self._service.context.tls is not None

    def _capabilities(self) -> list[str]:
        return capabilities(
            state=self._session.state,
            may_authenticate=self._may_authenticate,
            may_start_tls=self._may_start_tls,
            mechanisms=[name.decode() for name in sasl.MECHANISMS],
            implementation="Postwerk",
        )

    def _refuse_clear_text(self) -> None:
        self._session.refuse("clear-text authentication needs TLS: send STLS first", Code.AUTH)

    def _user(self, name: str) -> None:
        if not self._may_authenticate:
            self._refuse_clear_text()
            return
        self._name = name
        self._session.ok("send PASS")  # whoever it is: RFC 1939 §7 allows it, and it tells nothing

    async def _auth(self, command: Auth) -> None:
        if not self._may_authenticate:
            self._refuse_clear_text()
            return
        self._exchange = sasl.mechanism(command.mechanism)
        if self._exchange is None:
            self._session.refuse("unknown mechanism")
        elif command.initial is None:
            await self._step(None)
        else:
            await self._continue_exchange(command.initial, is_initial=True)

    async def _continue_exchange(self, line: bytes, *, is_initial: bool = False) -> None:
        try:
            response = sasl.decode_initial(line) if is_initial else sasl.decode_response(line)
        except sasl.SaslError as error:
            self._session.refuse(str(error))
            return
        await self._step(response)

    async def _step(self, response: bytes | None) -> None:
        assert self._exchange is not None
        try:
            outcome = self._exchange.step(response)
        except sasl.SaslError as error:
            self._session.refuse(str(error))
            return
        if isinstance(outcome, sasl.Challenge):
            self._session.challenge(sasl.encode_challenge(outcome))
        elif not outcome.acts_as_itself:
            self._refuse_login()  # nobody may act as somebody else
        else:
            await self._login(outcome.authcid, outcome.password)

    async def _login(self, login: str, password: str) -> None:
        connection = self._connection
        try:
            identity = await self._service.authenticator.verify(
                login, password, peer=connection.peer, is_trusted=connection.is_trusted
            )
            if identity is None:
                self._refuse_login()
                return
            self._maildrop = await self._service.maildrops.open(identity.account_id)
        except StorageError as error:
            self._refuse_for_now("login", error)
            return
        if self._maildrop is None:
            self._session.refuse("another session has this maildrop", Code.IN_USE)
            return
        listing = self._maildrop.listing
        self._transaction = Transaction(self._session, connection, self._service.context.blobs, listing)
        self._session.ok(f"{len(listing)} messages ({listing.size_octets} octets)")

    def _refuse_login(self) -> None:
        self._failed_logins += 1
        self._session.refuse("authentication failed", Code.AUTH)
        if self._failed_logins >= self._service.settings.login_failure_limit:
            self._session.end()

    async def _stls(self) -> None:
        tls = self._service.context.tls
        if tls is None or not self._may_start_tls:
            self._session.refuse("TLS cannot be started")
            return
        self._session.ok("begin TLS")
        await self._connection.start_tls(tls, self._session.take_output())
        self._session.start_tls()
        self._name = ""

    # -- the end ----------------------------------------------------------------------------------------------------

    async def _quit(self) -> None:
        """Answers when the maildrop is free again: a client that comes back at once finds it so."""
        deleted = self._transaction.deleted_uids() if self._transaction is not None else []
        try:
            if deleted:
                assert self._maildrop is not None
                await self._service.maildrops.remove(self._maildrop, deleted)
        except StorageError as error:
            await self._close_maildrop()
            self._refuse_for_now("update", error, "the deleted messages were not removed")
            return
        await self._close_maildrop()
        self._session.ok("bye")

    async def _close_maildrop(self) -> None:
        if self._maildrop is not None:
            maildrop, self._maildrop = self._maildrop, None
            await self._service.maildrops.close(maildrop)

    def _refuse_for_now(self, step: str, error: StorageError, text: str = "try again later") -> None:
        error_id = secrets.token_hex(6)
        log.error("storage failed", step=step, error_id=error_id, error=repr(error))
        self._session.refuse(f"{text} ({error_id})", Code.SYS_TEMP)
