"""ManageSieve sessions: commands from protocol/managesieve, scripts from storage, RFC 5804.

A script is stored only when it compiles, so what is stored can run. What a script may require is what the interpreter has, and
what is advertised is the same table.
"""

import asyncio
import secrets

from daemons.access.managesieve.checking import Checker, told
from daemons.authentication import Authenticator, DeniedError, Exchange, Identity, Origin
from daemons.context import Context
from daemons.logs import logger
from daemons.notifying import methods_of
from daemons.sieve import capabilities_of
from daemons.sockets import Connection
from protocol import sasl
from protocol.managesieve import response
from protocol.managesieve.command import (
    Authenticate,
    Capability,
    CheckScript,
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
)
from protocol.managesieve.response import Code
from protocol.managesieve.session import Event, Limits, Response, ServerSession, capabilities
from protocol.sieve.errors import SieveError
from storage import scripts
from storage.errors import ExistsError, NotFoundError, OverQuotaError, StorageError, TooManyError
from storage.scripts import ActiveScriptError, Bounds, ReadOnlyScriptError

log = logger("managesieve")

REFUSAL = b'BYE (TRYLATER) "too many connections"\r\n'
_FLUSH_OCTETS = 32 * 1024  # small replies to pipelined commands go out together until they are so many
_NO_SCRIPT = "there is no script of that name"


class ManageSieveService:
    """What the ManageSieve sessions of a process share."""

    def __init__(self, context: Context, authenticator: Authenticator) -> None:
        self.context = context
        self.authenticator = authenticator
        self.settings = context.settings.managesieve
        self.sieve = context.settings.sieve
        self.checker = Checker(self.sieve)
        self.may_require = sorted(capabilities_of(self.sieve))
        self.bounds = Bounds(self.settings.script_count_limit, self.settings.script_total_limit)
        self.limits = Limits(
            line_octets=self.settings.line_limit,
            script_octets=self.sieve.script_octets,
            discard_octets=self.settings.discard_limit,
            errors=self.settings.error_limit,
        )

    def close(self) -> None:
        """Let go of the thread that checks scripts."""
        self.checker.close()

    async def converse(self, connection: Connection) -> None:
        """Serve one connection until it ends: the handler of the listener managesieve."""
        await _Conversation(self, connection).run()


class _Conversation:
    """One connection: its grammar, its login and, after it, its owner's scripts."""

    def __init__(self, service: ManageSieveService, connection: Connection) -> None:
        self._service = service
        self._connection = connection
        self._session = ServerSession(service.limits)
        self._exchange: Exchange | None = None
        self._identity: Identity | None = None
        self._failed_logins = 0
        self._login_by = 0.0

    async def run(self) -> None:
        connection, session = self._connection, self._session
        connection.send_seconds = self._service.settings.send_timeout
        self._expect_login()
        session.tell_capabilities(self._capabilities(), f"{self._service.context.settings.hostname} ManageSieve ready")
        while True:
            await connection.send(session.take_output())
            if session.is_over:
                return
            try:
                octets = await connection.receive(self._patience())
            except TimeoutError:
                session.bye("closing: nothing was said for too long")
                continue
            if not octets:
                return
            session.receive(octets)
            while (event := session.next_event()) is not None:
                await self._handle(event)
                if session.output_octets > _FLUSH_OCTETS:
                    await connection.send(session.take_output())
                    await asyncio.sleep(0)  # a long pipeline of commands must not keep others waiting

    def _expect_login(self) -> None:
        self._login_by = asyncio.get_running_loop().time() + self._service.settings.login_timeout

    def _patience(self) -> float:
        """Seconds to wait for the client."""
        if self._identity is not None:
            return self._service.settings.idle_timeout
        return max(0.0, self._login_by - asyncio.get_running_loop().time())

    async def _handle(self, event: Event) -> None:
        match event:
            case Capability():
                self._session.ok(before=response.capability_lines(self._capabilities()))
            case Noop(None):
                self._session.ok("NOOP completed")
            case Noop(bytes() as tag):
                self._session.ok("done", response.tag(tag))
            case Logout():
                self._session.ok("bye")
            case StartTls():
                await self._start_tls()
            case Authenticate():
                await self._authenticate(event)
            case Response(octets):
                await self._continue_exchange(octets)
            case Unauthenticate():
                self._identity = None
                self._expect_login()
                self._session.ok()
            case _:
                assert self._identity is not None, "the transition table lets nothing else through"
                await self._on_scripts(event, self._identity.account_id)

    # -- before the login -------------------------------------------------------------------------------------------

    @property
    def _may_authenticate(self) -> bool:
        return self._connection.is_secure or self._service.settings.cleartext_authentication

    @property
    def _origin(self) -> Origin:
        allows_cleartext = self._service.settings.cleartext_authentication
        return self._service.authenticator.origin(self._connection, "sieve", allows_cleartext=allows_cleartext)

    @property
    def _may_start_tls(self) -> bool:
        return not self._connection.is_secure and self._service.context.tls is not None

    def _capabilities(self) -> list[tuple[str, str | None]]:
        mechanisms = self._service.authenticator.mechanisms(self._origin) if self._may_authenticate else ()
        return capabilities(
            implementation="Postwerk",
            mechanisms=[name.decode() for name in mechanisms],
            may_start_tls=self._may_start_tls,
            sieve=self._service.may_require,
            notify=methods_of(self._service.context.settings.notifier),
            max_redirects=self._service.sieve.redirects,
            owner=self._identity.login if self._identity is not None else None,
        )

    async def _start_tls(self) -> None:
        tls = self._service.context.tls
        if tls is None or not self._may_start_tls:
            self._session.refuse("TLS cannot be started")
            return
        self._session.ok("begin TLS")
        await self._connection.start_tls(tls, self._session.take_output())
        self._session.start_tls()
        self._session.tell_capabilities(self._capabilities())

    async def _authenticate(self, command: Authenticate) -> None:
        if not self._may_authenticate:
            self._session.refuse("authentication needs TLS: send STARTTLS first", Code.ENCRYPT_NEEDED)
            return
        self._exchange = self._service.authenticator.exchange(command.mechanism, self._origin)
        if self._exchange is None:
            self._session.refuse("unknown mechanism")
        elif command.initial is None:
            await self._step(None)
        else:
            await self._continue_exchange(command.initial)

    async def _continue_exchange(self, octets: bytes) -> None:
        try:
            message = sasl.decode_response(octets)
        except sasl.SaslError as error:
            self._session.refuse(str(error))
            return
        await self._step(message)

    async def _step(self, message: bytes | None) -> None:
        exchange = self._exchange
        assert exchange is not None
        final = None
        try:
            outcome = await exchange.step(message)
            if exchange.is_proven and isinstance(outcome, sasl.Challenge):
                final = response.sasl(sasl.encode_challenge(outcome))
                outcome = await exchange.step(b"")
        except sasl.SaslError as error:
            self._session.refuse(str(error))
        except DeniedError:
            self._refuse_login()
        except StorageError as error:
            self._refuse_for_now("login", error)
        else:
            if isinstance(outcome, Identity):
                self._identity, self._exchange = outcome, None
                self._session.ok(code=final)
            else:
                self._session.challenge(sasl.encode_challenge(outcome))

    def _refuse_login(self) -> None:
        self._failed_logins += 1
        if self._failed_logins >= self._service.settings.login_failure_limit:
            self._session.bye("too many failed logins")
        else:
            self._session.refuse("authentication failed")

    # -- scripts ----------------------------------------------------------------------------------------------------

    async def _on_scripts(self, event: Event, account_id: int) -> None:
        """What storage refuses is told by its code."""
        refuse = self._session.refuse
        try:
            await self._work(event, account_id)
        except SieveError as error:
            refuse(told(error.faults))
        except NotFoundError:
            refuse(_NO_SCRIPT, Code.NONEXISTENT)
        except ReadOnlyScriptError as error:
            refuse(str(error))
        except ActiveScriptError:
            refuse("the active script cannot be deleted", Code.ACTIVE)
        except ExistsError:
            refuse("there is a script of that name", Code.ALREADYEXISTS)
        except TooManyError:
            refuse(f"there can be {self._service.bounds.scripts} scripts", Code.MAXSCRIPTS)
        except OverQuotaError:
            refuse(f"all scripts together can have {self._service.bounds.octets} octets", Code.QUOTA)
        except StorageError as error:
            self._refuse_for_now("scripts", error)

    async def _work(self, event: Event, account_id: int) -> None:
        session, pool = self._session, self._service.context.pool
        match event:
            case PutScript(name, octets):
                await self._put(account_id, name, octets)
            case CheckScript(octets):
                await self._check(octets)
            case HaveSpace(name, size_octets):
                await self._have_space(account_id, name, size_octets)
            case ListScripts():
                rows = await scripts.list_scripts(pool, account_id)
                session.ok(before=response.script_lines((row.name, row.is_active) for row in rows))
            case GetScript(name):
                found = await scripts.read(pool, account_id, name)
                if found is None:
                    raise NotFoundError(_NO_SCRIPT)
                session.ok(before=response.literal(found.octets) + b"\r\n")
            case SetActive(name):
                async with pool.acquire() as connection:
                    await scripts.activate(connection, account_id, name or None)
                session.ok()
            case DeleteScript(name):
                async with pool.acquire() as connection:
                    await scripts.delete(connection, account_id, name)
                session.ok()
            case RenameScript(old, new):
                async with pool.acquire() as connection:
                    await scripts.rename(connection, account_id, old, new)
                session.ok()
            case _:
                raise AssertionError("the transition table lets nothing else through")

    async def _have_space(self, account_id: int, name: str, size_octets: int) -> None:
        service = self._service
        if size_octets > service.limits.script_octets:
            self._refuse_size()
            return
        await scripts.check_space(service.context.pool, account_id, name, size_octets, service.bounds)
        self._session.ok()

    async def _put(self, account_id: int, name: str, octets: bytes) -> None:
        if not octets:  # RFC 5804 §2.6: SHOULD be disallowed
            self._session.refuse("the script is empty")
            return
        if len(octets) > self._service.limits.script_octets:
            self._refuse_size()
            return
        compiled = await self._service.checker.compiled(octets)
        async with self._service.context.pool.acquire() as connection:
            await scripts.put(connection, account_id, name, octets, self._service.bounds)
        self._session.ok(told(compiled.warnings), Code.WARNINGS if compiled.warnings else None)

    async def _check(self, octets: bytes) -> None:
        compiled = await self._service.checker.compiled(octets)
        self._session.ok(told(compiled.warnings), Code.WARNINGS if compiled.warnings else None)

    def _refuse_size(self) -> None:
        self._session.refuse(f"a script can have {self._service.limits.script_octets} octets", Code.MAXSIZE)

    def _refuse_for_now(self, step: str, error: StorageError) -> None:
        error_id = secrets.token_hex(6)
        log.error("storage failed", step=step, error_id=error_id, error=repr(error))
        self._session.refuse(f"try again later ({error_id})", Code.TRYLATER)
