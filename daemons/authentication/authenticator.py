"""Judging logins: passwords, app passwords, SCRAM proofs and tokens; verified off the loop, guessed slowly.

An unknown login costs the same work as a wrong password, so neither text nor timing tells whether it exists. Nothing here
logs a login, a password or an address; who failed from where goes into attack events and nowhere else.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address
from ssl import SSLObject
from typing import Protocol

from config.authentication import Authentication
from daemons.authentication import passwords
from daemons.authentication.channel_binding import ChannelBindings
from daemons.authentication.exchange import Exchange
from daemons.authentication.failures import Failures, account_subject, network_subject
from daemons.authentication.identity import Credential, Identity, Origin, Scope
from daemons.authentication.ledger import Ledger, Records
from protocol import sasl
from storage.accounts import login_name
from storage.rows import AppPassword, Attack, Login

_CLIENT_LIMIT = 500  # characters of what a client says of itself that go into an attack event
_NAME_LIMIT = 254  # and of the login it tried: the longest address (RFC 5321 §4.5.3.1.3)


class Channel(Protocol):
    """What attempts come through: daemons.sockets.Connection, daemons.smtp.submission.Submission."""

    @property
    def peer(self) -> str: ...

    @property
    def is_trusted(self) -> bool: ...

    @property
    def is_secure(self) -> bool: ...

    @property
    def tls(self) -> SSLObject | None: ...


class Logins(Protocol):
    """Where logins come from: storage.accounts.Directory."""

    async def login(self, name: str) -> Login | None: ...


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a good token says: whose it is, and in which tenant such a login must be."""

    tenant: str
    login: str


class Tokens(Protocol):
    """Who judges bearer tokens: daemons.authentication.issuers.Issuers."""

    async def claims(self, token: str, tenant: str | None) -> list[Claimed]: ...

    def hint(self) -> tuple[str, str]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Challenged:
    """What SCRAM announces to a client, and the keys that its proof may be for."""

    name: str
    row: Login | None
    verifier: sasl.Verifier  # of the account's own password, or of nobody's
    keys: Sequence[sasl.Keys]
    holders: Sequence[AppPassword | None]  # by key: None is the account's own password
    paused: float  # seconds that this attempt has waited already


class Authenticator:
    """One per process: the cache, the failures and the bound on concurrent hashing live in it."""

    def __init__(
        self,
        directory: Logins,
        records: Records,
        settings: Authentication,
        *,
        bindings: ChannelBindings | None = None,
        tokens: Tokens | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self.ledger = Ledger(records, limit=settings.attack_backlog, clock=clock)
        self.failures = Failures(settings, clock)
        self._directory = directory
        self._records = records
        self._bindings = bindings
        self._tokens = tokens
        self._clock = clock
        self._now = now
        self._wait = wait
        self._free = asyncio.Semaphore(settings.concurrent_verifications)
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, float] = OrderedDict()  # MAC of a right password -> when it expires
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._salt_secret: bytes | None = None

    async def close(self) -> None:
        """Write what is waiting, and end what is open."""
        await self.ledger.settle()
        if self._tokens is not None:
            await self._tokens.close()

    # -- what sessions may offer ------------------------------------------------------------------------------------

    def origin(self, connection: Channel, scope: Scope, *, allows_cleartext: bool, client: str = "") -> Origin:
        """Where the attempts of a connection come from, as it is now: asked again after STARTTLS."""
        return Origin(
            connection.peer,
            scope,
            connection.is_trusted,
            connection.is_secure or allows_cleartext,
            self._bindings.of(connection.tls) if self._bindings is not None and self.settings.scram else {},
            client,
        )

    def mechanisms(self, origin: Origin) -> tuple[bytes, ...]:
        """The names of the mechanisms that work there, best first; none at all without TLS, unless that is allowed."""
        return tuple(name for name in sasl.MECHANISMS if self._offers(name, origin))

    def exchange(self, name: bytes, origin: Origin) -> Exchange | None:
        """Start an exchange; None when the mechanism is not offered there."""
        name = name.upper()
        if not self._offers(name, origin):
            return None
        mechanism = sasl.mechanism(name, nonce=secrets.token_urlsafe(18), bindings=origin.bindings)
        return None if mechanism is None else Exchange(self, name, mechanism, origin)

    def _offers(self, name: bytes, origin: Origin) -> bool:
        return origin.is_protected and (
            (name not in sasl.SCRAM or self.settings.scram)
            and (name not in sasl.BOUND or bool(origin.bindings))
            and (name not in sasl.BEARER or self._tokens is not None)
            and name in sasl.MECHANISMS
        )

    # -- passwords --------------------------------------------------------------------------------------------------

    async def verify(self, login: str, password: str, origin: Origin, *, mechanism: str = "LOGIN") -> Identity | None:
        """The identity when login exists, is enabled and has this password or app password, else None.

        login is an address in any case. Waits first when the account or the peer's network has failed lately, unless
        the peer is trusted or the very password was verified a moment ago. Raises StorageError when accounts cannot
        be read.
        """
        name = login_name(login)
        paused = await self._pause(origin, network_subject(origin.peer))
        row = await self._directory.login(name)
        digest = passwords.app_password_digest(password)
        app_password = self._usable(row, digest, origin)
        if row is not None and app_password is not None:
            return self._succeed(name, row, origin, app_password)
        secret = passwords.prepared(password)
        proof = self._proof(name, row, secret)
        is_right = self._remembers(proof)
        if not is_right:  # the owner, whose password is remembered, does not wait for those who guess it
            subjects = network_subject(origin.peer), account_subject(name)
            paused = await self._pause(origin, *subjects, paused=paused)
            is_right = await self._check(proof, row, password, lambda: self._due(origin, *subjects))
        if not is_right or row is None or row.is_disabled:
            self._fail(name, row, origin, mechanism, "password")
            return None
        self._remember(proof)
        return self._succeed(name, row, origin, Credential.PASSWORD)

    def _usable(self, row: Login | None, digest: bytes, origin: Origin) -> AppPassword | None:
        """The account's app password of that digest, when it may be used from there for that now."""
        found = None
        for candidate in row.app_passwords if row is not None and not row.is_disabled else ():
            if hmac.compare_digest(candidate.digest, digest) and self._admits(candidate, origin):
                found = candidate
        return found

    def _admits(self, app_password: AppPassword, origin: Origin) -> bool:
        if origin.scope not in app_password.scopes:
            return False
        if app_password.expires_at is not None and app_password.expires_at <= self._now():
            return False
        return not app_password.networks or _lies_in(origin.peer, app_password.networks)

    async def _check(self, proof: bytes, row: Login | None, password: str, due: Callable[[], float]) -> bool:
        """Verify off the loop; the same attempt on several connections at once is computed once."""
        task = self._running.get(proof)
        if task is None:
            task = asyncio.create_task(self._hash(row, password, due))
            self._running[proof] = task
            task.add_done_callback(lambda _: self._running.pop(proof, None))
        return await asyncio.shield(task)

    async def _hash(self, row: Login | None, password: str, due: Callable[[], float]) -> bool:
        secret = passwords.prepared(password)
        is_usable = row is not None and 0 < len(secret) <= self.settings.password_limit
        paused = due()
        while True:
            async with self._free:
                delay = due()
                if delay <= paused:  # no other attempt has failed while this one was waiting for its turn
                    if row is None or not is_usable:
                        return await asyncio.to_thread(_verified, None, b"")
                    is_right = await asyncio.to_thread(_verified, row.password_hash, secret)
                    if is_right:
                        await self._derive(row, password)
                    return is_right
            await self._wait(delay - paused)
            paused = delay

    async def _derive(self, row: Login, password: str) -> None:
        """An account of before SCRAM, or of an import, gets its verifier with the first password that is right."""
        if self.settings.scram and _verifier(row.scram_sha_256 or "") is None:
            verifier = await asyncio.to_thread(passwords.verifier_of, password, await self._secret(), row.login)
            self.ledger.keep_verifier(row.account_id, row.password_hash, str(verifier))

    # -- SCRAM ------------------------------------------------------------------------------------------------------

    async def challenge(self, authcid: str, origin: Origin) -> Challenged:
        """What to announce to whoever says this name, existing or not. Raises StorageError."""
        name = login_name(authcid)
        paused = await self._pause(origin, network_subject(origin.peer))
        row = await self._directory.login(name)
        secret = await self._secret()
        nobodys = passwords.nobodys_verifier(secret, name)
        kept = None if row is None or row.is_disabled or not self.settings.scram else row.scram_sha_256
        verifier = _verifier(kept or str(nobodys)) or nobodys
        keys, holders = [verifier.keys], list[AppPassword | None]([None])
        for candidate in row.app_passwords if row is not None and not row.is_disabled else ():
            if self._admits(candidate, origin):
                keys.append(sasl.Keys.parse(candidate.scram_keys))
                holders.append(candidate)
        keys += [nobodys.keys] * (self.settings.app_password_limit + 1 - len(keys))  # the same work for everybody
        return Challenged(name, row, verifier, keys, holders, paused)

    async def wait_for_turn(self, challenged: Challenged, origin: Origin) -> None:
        """Wait, before a proof is looked at, as long as the account's and the network's failures ask."""
        subjects = network_subject(origin.peer), account_subject(challenged.name)
        await self._pause(origin, *subjects, paused=challenged.paused)

    def proven(self, challenged: Challenged, index: int, origin: Origin) -> Identity | None:
        """The identity whose key number `index` the proof was for."""
        row = challenged.row
        assert row is not None and not row.is_disabled, "nobody has the password of these keys"  # noqa: PT018
        return self._succeed(challenged.name, row, origin, challenged.holders[index] or Credential.PASSWORD)

    def disproven(self, challenged: Challenged, origin: Origin, mechanism: str) -> None:
        """Count and record a wrong proof."""
        self._fail(challenged.name, challenged.row, origin, mechanism, "proof")

    async def _secret(self) -> bytes:
        if self._salt_secret is None:
            self._salt_secret = await self._records.salt_secret()
        return self._salt_secret

    # -- tokens -----------------------------------------------------------------------------------------------------

    async def verify_token(self, given: sasl.Token, origin: Origin, mechanism: str) -> Identity | None:
        """The identity that a bearer token is for. Raises StorageError."""
        assert self._tokens is not None, "no issuers, no mechanism that takes tokens"
        await self._pause(origin, network_subject(origin.peer))
        authzid = login_name(given.authzid)
        tenant = await self._records.tenant_of(authzid.rpartition("@")[2]) if authzid else None
        claimed = await self._tokens.claims(given.token, tenant)
        for claim in claimed:
            name = login_name(claim.login)
            row = await self._directory.login(name)
            is_own = authzid in ("", name)
            if row is not None and not row.is_disabled and row.tenant == claim.tenant and is_own:
                return self._succeed(name, row, origin, Credential.TOKEN)
        reason = "token of another" if claimed else "token"
        self._fail(authzid, None, origin, mechanism, reason, blames_account=False)
        return None

    def token_hint(self) -> tuple[str, str]:
        """The scope that a token needs and where its issuer describes itself, for clients whose token was refused."""
        assert self._tokens is not None, "no issuers, no mechanism that takes tokens"
        return self._tokens.hint()

    # -- the outcome ------------------------------------------------------------------------------------------------

    def _succeed(self, name: str, row: Login, origin: Origin, proof: AppPassword | Credential) -> Identity:
        self.failures.forget(account_subject(name))
        if isinstance(proof, AppPassword):
            credential, app_password_id = Credential.APP_PASSWORD, proof.app_password_id
        else:
            credential, app_password_id = proof, None
        self.ledger.use(row.account_id, app_password_id)
        return Identity(row.account_id, row.tenant_id, row.login, origin.scope, credential, app_password_id)

    def _fail(
        self, name: str, row: Login | None, origin: Origin, mechanism: str, reason: str, *, blames_account: bool = True
    ) -> None:
        """A bad token slows nobody but its network: it takes no knowledge of the account to send one."""
        subjects = (account_subject(name),) if blames_account else ()
        self.failures.add(*subjects, network_subject(origin.peer))
        self.ledger.attack(
            Attack(
                self._now(),
                None if row is None else row.tenant_id,
                origin.scope,
                mechanism,
                reason,
                origin.peer,
                _printable(name, _NAME_LIMIT),
                _printable(origin.client, _CLIENT_LIMIT),
            )
        )

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _due(self, origin: Origin, *subjects: str) -> float:
        return 0.0 if origin.is_trusted else max(map(self.failures.delay, subjects))

    async def _pause(self, origin: Origin, *subjects: str, paused: float = 0.0) -> float:
        """Wait as long as failures ask, those included that come while waiting; gives the seconds in all."""
        while (due := self._due(origin, *subjects)) > paused:
            await self._wait(due - paused)
            paused = due
        return paused

    # -- passwords verified a moment ago ----------------------------------------------------------------------------

    def _proof(self, name: str, row: Login | None, secret: bytes) -> bytes:
        """A MAC over login, stored hash and password: a new hash makes every older proof worthless."""
        stored = "" if row is None else row.password_hash
        fields = (name.encode(errors="surrogatepass"), stored.encode(), secret)
        message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
        return hmac.digest(self._key, message, hashlib.sha256)

    def _remembers(self, proof: bytes) -> bool:
        expires_at = self._verified.get(proof)
        return expires_at is not None and self._clock() < expires_at

    def _remember(self, proof: bytes) -> None:
        if proof in self._verified and self._remembers(proof):
            return  # the lifetime counts from the verification, not from the last use
        self._verified[proof] = self._clock() + self.settings.cache_lifetime
        self._verified.move_to_end(proof)
        while len(self._verified) > self.settings.cache_entries:
            self._verified.popitem(last=False)


def _verified(stored: str | None, secret: bytes) -> bool:
    """In a thread: compare with the stored hash, or with nobody's, which takes as long and is never right."""
    return passwords.matches(passwords.NOBODY if stored is None else stored, secret) and stored is not None


def _verifier(text: str) -> sasl.Verifier | None:
    with suppress(ValueError):
        found = sasl.Verifier.parse(text)
        if found.iterations == passwords.ITERATIONS:  # another number would tell accounts from what is none
            return found
    return None


def _lies_in(peer: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def _printable(text: str, limit: int) -> str:
    """What a text column takes, and a terminal: no control characters, no lone surrogates."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:limit])
