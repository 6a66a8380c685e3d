"""Policies of MTA-STS, RFC 8461: found by their record, fetched over HTTPS, kept in the database for as long as they say.

A policy that is kept counts until its time is over, whatever the DNS and the web server say meanwhile: who can block them must not
be able to undo it (RFC 8461 §5.1). Several who ask the same at once cause one fetch.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from config.transport import Transport
from daemons.logs import logger
from daemons.relay.resolver import LookupFailedError, Resolver
from daemons.relay.web import Web, WebError
from protocol.mta_sts import StsError, StsPolicy, parse_policy, parse_record
from protocol.tls_rpt import FailureType
from storage import transport
from storage.errors import StorageError
from storage.pool import Pool

_log = logger("mta-sts")
_PATH = "/.well-known/mta-sts.txt"
_READ_SECONDS = 300.0  # for so long it is remembered what the database has for a domain
_REMEMBERED_DOMAINS = 50_000


class StsFetchError(Exception):
    """There is a record, but no policy to go with it. `kind` is a result-type of RFC 8460 §4.3."""

    def __init__(self, kind: FailureType, text: str) -> None:
        super().__init__(text)
        self.kind: FailureType = kind


@dataclass(frozen=True, slots=True)
class Sts:
    """What MTA-STS says about a domain."""

    policy: StsPolicy | None = None  # None: nothing
    failure: StsFetchError | None = None  # a newer policy could not be had


@dataclass(frozen=True, slots=True)
class _Kept:
    stored: transport.StoredSts | None
    read_at: datetime


class StsPolicies:
    """One per process."""

    def __init__(
        self,
        settings: Transport,
        pool: Pool,
        resolver: Resolver,
        web: Web,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._resolver = resolver
        self._web = web
        self._now = now
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[transport.StoredSts]] = {}
        self._failed: dict[str, tuple[datetime, StsFetchError]] = {}  # not tried again for a while (RFC 8461 §3.3)

    async def close(self) -> None:
        """Give up on what is being fetched."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def of(self, domain: str) -> Sts:
        """What counts for a domain now, an A-label in lower case. Raises StorageError."""
        identifier = await self._identifier(domain)
        stored = await self._stored(domain)  # last: what others have fetched meanwhile need not be fetched again
        if identifier is None or (stored is not None and stored.policy_id == identifier):
            if identifier is not None and stored is not None and self._age(stored) >= self._settings.sts_refresh:
                self._refresh(domain, identifier)
            return Sts(_policy(stored))
        try:
            return Sts(_policy(await self._fetched(domain, identifier)))
        except StsFetchError as error:
            return Sts(_policy(stored), error)

    async def _identifier(self, domain: str) -> str | None:
        with suppress(LookupFailedError):
            return parse_record(await self._resolver.txt(f"_mta-sts.{domain}"))
        return None

    async def _stored(self, domain: str) -> transport.StoredSts | None:
        """What is kept for the domain and still counts."""
        now, kept = self._now(), self._kept.get(domain)
        if kept is None or now - kept.read_at >= timedelta(seconds=_READ_SECONDS):
            read = await transport.sts_policy(self._pool, domain)
            fetched = self._kept.get(domain)  # while we read, perhaps
            kept = self._remember(domain, read) if fetched is None or fetched is kept else fetched
        stored = kept.stored
        if stored is None or self._age(stored) >= stored.max_age:
            return None
        return stored

    def _age(self, stored: transport.StoredSts) -> float:
        return (self._now() - stored.fetched_at).total_seconds()

    def _remember(self, domain: str, stored: transport.StoredSts | None) -> _Kept:
        self._kept[domain] = kept = _Kept(stored, self._now())
        self._kept.move_to_end(domain)
        while len(self._kept) > _REMEMBERED_DOMAINS:
            self._kept.popitem(last=False)
        return kept

    def _refresh(self, domain: str, identifier: str) -> None:
        """Fetch anew what does not say that it has changed, behind the back of whoever asks (RFC 8461 §10.2)."""
        if self._failure(domain) is None:
            self._start(domain, identifier)

    async def _fetched(self, domain: str, identifier: str) -> transport.StoredSts:
        failure = self._failure(domain)
        if failure is not None:
            raise StsFetchError(failure.kind, str(failure))
        return await asyncio.shield(self._start(domain, identifier))

    def _failure(self, domain: str) -> StsFetchError | None:
        at, failure = self._failed.get(domain, (None, None))
        if at is None or (self._now() - at).total_seconds() >= self._settings.sts_retry:
            return None
        return failure

    def _start(self, domain: str, identifier: str) -> asyncio.Task[transport.StoredSts]:
        task = self._fetching.get(domain)
        if task is None:
            task = self._fetching[domain] = asyncio.create_task(self._fetch(domain, identifier), name="mta-sts")
            task.add_done_callback(lambda done: self._ended(domain, done))
        return task

    def _ended(self, domain: str, task: asyncio.Task[transport.StoredSts]) -> None:
        self._fetching.pop(domain, None)
        if not task.cancelled():
            task.exception()  # it is remembered, and told to whoever waited

    async def _fetch(self, domain: str, identifier: str) -> transport.StoredSts:
        try:
            policy = await self._download(domain)
        except StsFetchError as error:
            self._failed[domain] = self._now(), error
            if len(self._failed) > _REMEMBERED_DOMAINS:
                self._failed.pop(next(iter(self._failed)))
            _log.info("no policy", reason=error.kind)
            raise
        self._failed.pop(domain, None)
        stored = transport.StoredSts(domain, identifier, policy.mode, policy.mx, policy.max_age, self._now())
        self._remember(domain, stored)
        try:
            await transport.keep_sts_policy(self._pool, stored)
        except StorageError as error:  # it counts all the same, until this process ends
            _log.error("policy not kept", error=str(error))
        return stored

    async def _download(self, domain: str) -> StsPolicy:
        port = self._settings.sts_port
        url = f"https://mta-sts.{domain}{'' if port == 443 else f':{port}'}{_PATH}"
        try:
            octets = await self._web.get(url, media_type="text/plain", limit=self._settings.sts_size_limit)
        except WebError as error:
            kind: FailureType = "sts-webpki-invalid" if error.is_certificate else "sts-policy-fetch-error"
            raise StsFetchError(kind, str(error)) from error
        try:
            return parse_policy(octets.decode("utf-8"))
        except (StsError, UnicodeDecodeError) as error:
            raise StsFetchError("sts-policy-invalid", str(error)) from error


def _policy(stored: transport.StoredSts | None) -> StsPolicy | None:
    if stored is None or stored.mode == "none":
        return None
    return StsPolicy("enforce" if stored.mode == "enforce" else "testing", stored.max_age, stored.mx)
