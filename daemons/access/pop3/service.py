"""POP3 sessions: commands from protocol/pop3, answers from storage.

RFC 1939 with RFC 2449, RFC 2595, RFC 3206, RFC 5034, RFC 6856.

Messages are removed at QUIT and nowhere else, all in one transaction.
"""

import math

from daemons.access.conversation import Conversation
from daemons.access.pop3.transaction import Transaction
from daemons.authentication import Authenticator, Identity
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


class _Conversation(Conversation[Event]):
    """One connection: its grammar, its login and, after it, its maildrop."""

    scope = "pop3"
    log = logger("pop3")
    _service: Pop3Service
    _session: ServerSession

    def __init__(self, service: Pop3Service, connection: Connection) -> None:
        super().__init__(connection)
        self._service = service
        self._session = ServerSession(service.limits)
        self._name = ""
        self._maildrop: Maildrop | None = None
        self._transaction: Transaction | None = None

    @property
    def _has_login(self) -> bool:
        return self._transaction is not None

    def _greet(self) -> None:
        self._session.greet(Text.READY, hostname=self._service.context.settings.hostname)

    def _hang_up(self) -> None:
        self._session.end()  # RFC 1939 §3: close without removing any messages or sending any response

    async def _let_go(self) -> None:
        if self._maildrop is not None:
            maildrop, self._maildrop = self._maildrop, None
            await self._service.maildrops.close(maildrop)

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
            case Auth(mechanism, initial):
                await self._authenticate(mechanism, initial, sasl.decode_initial)
            case Response(line):
                await self._respond(line)
            case Stls():
                if await self._start_tls():
                    self._name = ""
            case Quit():
                await self._quit()
            case _:
                assert self._transaction is not None, "the transition table lets nothing else through"
                await self._transaction.handle(event)

    # -- the AUTHORIZATION state ------------------------------------------------------------------------------------

    @property
    def _may_start_tls(self) -> bool:
        return super()._may_start_tls and not self._session.is_utf8  # RFC 6856 §2.1: no STLS after UTF8

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

    def _user(self, name: str) -> None:
        if not self._may_authenticate:
            self._refuse_clear_text()
            return
        self._name = name
        self._session.ok(Text.SEND_PASS)  # whoever it is: RFC 1939 §7 allows it, and it tells nothing

    async def _login(self, login: str, password: str) -> None:
        try:
            identity = await self._service.authenticator.verify(login, password, self._origin)
        except StorageError as error:
            self._refuse_for_now("login", error)
            return
        if identity is None:
            self._deny()
        else:
            await self._enter(identity)

    async def _enter(self, identity: Identity) -> None:
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
                self._begin(maildrop)

    def _begin(self, maildrop: Maildrop) -> None:
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

    def _refuse_clear_text(self) -> None:
        self._session.refuse(Text.NEEDS_TLS, Code.AUTH)

    def _refuse_mechanism(self) -> None:
        self._session.refuse(Text.UNKNOWN_MECHANISM)

    def _refuse_exchange(self, error: sasl.SaslError) -> None:
        if isinstance(error, sasl.CancelledError):
            self._session.refuse(Text.CANCELLED)
        else:
            self._session.refuse(Text.BAD_EXCHANGE, reason=str(error))

    def _refuse_login(self, *, is_last: bool) -> None:
        self._session.refuse(Text.LOGIN_FAILED, Code.AUTH)
        if is_last:
            self._session.end()

    def _announce_tls(self) -> None:
        self._session.ok(Text.BEGIN_TLS)

    def _refuse_tls(self) -> None:
        self._session.refuse(Text.NO_TLS)

    # -- the end ----------------------------------------------------------------------------------------------------

    async def _quit(self) -> None:
        """Answers when the maildrop is free again: a client that comes back at once finds it so."""
        deleted = self._transaction.deleted_uids() if self._transaction is not None else []
        try:
            if deleted:
                assert self._maildrop is not None
                await self._service.maildrops.remove(self._maildrop, deleted)
        except StorageError as error:
            await self._let_go()
            self._refuse_for_now("update", error, Text.NOT_REMOVED)
            return
        await self._let_go()
        self._session.ok(Text.BYE)

    def _refuse_for_now(self, step: str, error: StorageError, text: Text = Text.TRY_LATER) -> None:
        self._session.refuse(text, Code.SYS_TEMP, error_id=self._logged(step, error))
