"""POP3 sessions: commands from protocol/pop3, answers from storage.

RFC 1939 with RFC 2449, RFC 2595, RFC 3206, RFC 5034, RFC 6856.

Messages are removed at QUIT and nowhere else, all in one transaction.
"""

import asyncio
import math
import secrets

from daemons.access.pop3.transaction import Transaction
from daemons.authentication import Authenticator, DeniedError, Exchange, Identity, Origin
from daemons.context import Context
from daemons.logs import logger
from daemons.sockets import Connection
from protocol import sasl
from protocol.pop3 import texts
from protocol.pop3.command import Auth, Capa, Lang, Pass, Quit, Stls, User, Utf8
from protocol.pop3.response import Code
from protocol.pop3.session import Event, Limits, Policy, Response, ServerSession, capabilities
from protocol.pop3.texts import Text
from storage import policies
from storage.errors import StorageError
from storage.maildrops import Delayed, Maildrop, Maildrops
from storage.notifications import DIRECTORY

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
        # Whoever is told less than this would come back too early: up, not to the nearest second.
        self.login_delay = math.ceil(self.settings.login_delay)
        self._policy: Policy | None = None  # of all users together; None: to be looked up
        context.changes.on(DIRECTORY, self._forget_policy)

    async def policy(self) -> Policy:
        """What CAPA tells a stranger: what binds some user most (RFC 2449 §6.5, §6.7)."""
        if self._policy is None:
            try:
                strictest = await policies.strictest(self.context.pool)
            except StorageError:
                return Policy(self.login_delay)
            delay, days = strictest.login_delay, strictest.expire_days
            varies = delay is not None or days is not None
            self._policy = Policy(max(self.login_delay, delay or 0), days, varies)
        return self._policy

    def _forget_policy(self) -> None:
        self._policy = None

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
        self._exchange: Exchange | None = None
        self._failed_logins = 0
        self._maildrop: Maildrop | None = None
        self._transaction: Transaction | None = None

    async def run(self) -> None:
        connection, session = self._connection, self._session
        connection.send_seconds = self._service.settings.send_timeout
        login_by = asyncio.get_running_loop().time() + self._service.settings.login_timeout
        session.greet(Text.READY, hostname=self._service.context.settings.hostname)
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
                self._session.ok(lines=await self._capabilities())
            case Utf8():
                self._session.is_utf8 = True
                self._session.ok(Text.UTF8_MODE)
            case Lang(language):
                self._lang(language)
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
    def _origin(self) -> Origin:
        allows_cleartext = self._service.settings.cleartext_authentication
        return self._service.authenticator.origin(self._connection, "pop3", allows_cleartext=allows_cleartext)

    @property
    def _may_start_tls(self) -> bool:
        # RFC 6856 §2.1: no STLS after UTF8
        return not (self._connection.is_secure or self._session.is_utf8) and self._service.context.tls is not None

    async def _capabilities(self) -> list[str]:
        maildrop = self._maildrop
        if maildrop is not None:
            policy = Policy(maildrop.login_delay, maildrop.expire_days)
        else:
            policy = await self._service.policy()
        return capabilities(
            state=self._session.state,
            may_authenticate=self._may_authenticate,
            may_start_tls=self._may_start_tls,
            mechanisms=[name.decode() for name in self._service.authenticator.mechanisms(self._origin)],
            implementation="Postwerk",
            policy=policy,
        )

    def _lang(self, wanted: str | None) -> None:
        """LANG, RFC 6856 §3.2: list the languages, or speak another one from this reply on."""
        session = self._session
        if wanted is None:
            session.ok(Text.LANGUAGES, [f"{tag} {name}" for tag, name in texts.LANGUAGES.items()])
            return
        if wanted == "*":  # the server's choice
            found = texts.matching(self._maildrop.language if self._maildrop else texts.DEFAULT) or texts.DEFAULT
        elif (matched := texts.matching(wanted)) is not None:
            found = matched
        else:
            session.refuse(Text.UNKNOWN_LANGUAGE)
            return
        session.language = found
        session.ok(f"{found} {texts.phrase(Text.LANGUAGE_CHANGED, found)}")

    def _refuse_clear_text(self) -> None:
        self._session.refuse(Text.NEEDS_TLS, Code.AUTH)

    def _user(self, name: str) -> None:
        if not self._may_authenticate:
            self._refuse_clear_text()
            return
        self._name = name
        self._session.ok(Text.SEND_PASS)  # whoever it is: RFC 1939 §7 allows it, and it tells nothing

    async def _auth(self, command: Auth) -> None:
        if not self._may_authenticate:
            self._refuse_clear_text()
            return
        self._exchange = self._service.authenticator.exchange(command.mechanism, self._origin)
        if self._exchange is None:
            self._session.refuse(Text.UNKNOWN_MECHANISM)
        elif command.initial is None:
            await self._step(None)
        else:
            await self._continue_exchange(command.initial, is_initial=True)

    async def _continue_exchange(self, line: bytes, *, is_initial: bool = False) -> None:
        try:
            response = sasl.decode_initial(line) if is_initial else sasl.decode_response(line)
        except sasl.SaslError as error:
            self._refuse_exchange(error)
            return
        await self._step(response)

    async def _step(self, response: bytes | None) -> None:
        assert self._exchange is not None
        try:
            outcome = await self._exchange.step(response)
        except sasl.SaslError as error:
            self._refuse_exchange(error)
        except DeniedError:
            self._refuse_login()
        except StorageError as error:
            self._refuse_for_now("login", error)
        else:
            if isinstance(outcome, Identity):
                await self._open(outcome)
            else:
                self._session.challenge(sasl.encode_challenge(outcome))

    async def _login(self, login: str, password: str) -> None:
        try:
            identity = await self._service.authenticator.verify(login, password, self._origin)
        except StorageError as error:
            self._refuse_for_now("login", error)
            return
        if identity is None:
            self._refuse_login()
        else:
            await self._open(identity)

    async def _open(self, identity: Identity) -> None:
        try:
            delay = None if self._connection.is_trusted else self._service.login_delay
            maildrop = await self._service.maildrops.open(identity.account_id, delay)
        except StorageError as error:
            self._refuse_for_now("login", error)
            return
        match maildrop:
            case None:
                self._session.refuse(Text.IN_USE, Code.IN_USE)
            case Delayed(seconds):
                self._session.refuse(Text.LOGIN_DELAY, Code.LOGIN_DELAY, seconds=seconds)
            case Maildrop():
                self._enter(maildrop)

    def _enter(self, maildrop: Maildrop) -> None:
        """The TRANSACTION state begins."""
        self._maildrop, listing = maildrop, maildrop.listing
        self._transaction = Transaction(
            self._session,
            self._connection,
            self._service.context,
            listing,
            removes_retrieved=maildrop.expire_days == 0,
        )
        self._session.ok(Text.MAILDROP, count=len(listing), octets=listing.size_octets)

    def _refuse_exchange(self, error: sasl.SaslError) -> None:
        if isinstance(error, sasl.CancelledError):
            self._session.refuse(Text.CANCELLED)
        else:
            self._session.refuse(Text.BAD_EXCHANGE, reason=str(error))

    def _refuse_login(self) -> None:
        self._failed_logins += 1
        self._session.refuse(Text.LOGIN_FAILED, Code.AUTH)
        if self._failed_logins >= self._service.settings.login_failure_limit:
            self._session.end()

    async def _stls(self) -> None:
        tls = self._service.context.tls
        if tls is None or not self._may_start_tls:
            self._session.refuse(Text.NO_TLS)
            return
        self._session.ok(Text.BEGIN_TLS)
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
            self._refuse_for_now("update", error, Text.NOT_REMOVED)
            return
        await self._close_maildrop()
        self._session.ok(Text.BYE)

    async def _close_maildrop(self) -> None:
        if self._maildrop is not None:
            maildrop, self._maildrop = self._maildrop, None
            await self._service.maildrops.close(maildrop)

    def _refuse_for_now(self, step: str, error: StorageError, text: Text = Text.TRY_LATER) -> None:
        error_id = secrets.token_hex(6)
        log.error("storage failed", step=step, error_id=error_id, error=repr(error))
        self._session.refuse(text, Code.SYS_TEMP, error_id=error_id)
