"""ManageSieve sessions: commands from protocol/managesieve, scripts from storage, RFC 5804.

A script is stored only when it compiles, so what is stored can run. What a script may require is what the interpreter has, and
what is advertised is the same table.
"""

from daemons.access.conversation import Conversation
from daemons.access.managesieve.checking import Checker, told
from daemons.authentication import Authenticator, Exchange, Identity
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

REFUSAL = b'BYE (TRYLATER) "too many connections"\r\n'
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


class _Conversation(Conversation[Event]):
    """One connection: its grammar, its login and, after it, its owner's scripts."""

    scope = "sieve"
    log = logger("managesieve")
    _service: ManageSieveService
    _session: ServerSession

    def __init__(self, service: ManageSieveService, connection: Connection) -> None:
        super().__init__(connection)
        self._service = service
        self._session = ServerSession(service.limits)
        self._identity: Identity | None = None
        self._final: bytes | None = None  # a mechanism's last message, which goes out with OK

    @property
    def _has_login(self) -> bool:
        return self._identity is not None

    def _greet(self) -> None:
        hostname = self._service.context.settings.hostname
        self._session.tell_capabilities(self._capabilities(), f"{hostname} ManageSieve ready")

    def _hang_up(self) -> None:
        self._session.bye("closing: nothing was said for too long")

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
                if await self._start_tls():
                    self._session.tell_capabilities(self._capabilities())
            case Authenticate(mechanism, initial):
                await self._authenticate(mechanism, initial, sasl.decode_response)
            case Response(octets):
                await self._respond(octets)
            case Unauthenticate():
                self._identity = None
                self._expect_login()
                self._session.ok()
            case _:
                assert self._identity is not None, "the transition table lets nothing else through"
                await self._on_scripts(event, self._identity.account_id)

    # -- before the login -------------------------------------------------------------------------------------------

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

    def _announce_tls(self) -> None:
        self._session.ok("begin TLS")

    def _refuse_tls(self) -> None:
        self._session.refuse("TLS cannot be started")

    async def _advance(self, exchange: Exchange, message: bytes | None) -> sasl.Challenge | Identity:
        self._final = None
        outcome = await exchange.step(message)
        if exchange.is_proven and isinstance(outcome, sasl.Challenge):
            self._final = response.sasl(sasl.encode_challenge(outcome))
            outcome = await exchange.step(b"")
        return outcome

    async def _enter(self, identity: Identity) -> None:
        self._identity, self._exchange = identity, None
        self._session.ok(code=self._final)

    def _refuse_clear_text(self) -> None:
        self._session.refuse("authentication needs TLS: send STARTTLS first", Code.ENCRYPT_NEEDED)

    def _refuse_mechanism(self) -> None:
        self._session.refuse("unknown mechanism")

    def _refuse_exchange(self, error: sasl.SaslError) -> None:
        self._session.refuse(str(error))

    def _refuse_login(self, *, is_last: bool) -> None:
        if is_last:
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
        self._session.refuse(f"try again later ({self._logged(step, error)})", Code.TRYLATER)
