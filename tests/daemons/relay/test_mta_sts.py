"""Policies of MTA-STS, with a real name server, web server and database: RFC 8461."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.transport import Transport
from config.units import Octets, Seconds
from daemons.relay.mta_sts import Sts, StsPolicies
from daemons.relay.reach import Reach
from daemons.relay.resolver import Resolver
from daemons.relay.web import Web
from protocol.mta_sts import StsPolicy
from storage.pool import Pool
from tests.internet.authority import Authority, Certified, self_signed
from tests.internet.dns import NameServer, name_server
from tests.internet.https import WebServer, web_server

DOMAIN = "example.net"
PLACE = ("mta-sts.example.net", "/.well-known/mta-sts.txt")
POLICY = StsPolicy("enforce", 604800, ("mx.example.net",))


@dataclass
class Stage:
    """A domain with a policy, and a clock that is set by hand."""

    names: NameServer
    pages: WebServer
    pool: Pool
    authority: str
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def publish(self, identifier: str) -> None:
        """The record with this id, without a lifetime."""
        self.names.add(f"_mta-sts.{DOMAIN}", "TXT", f'"v=STSv1; id={identifier};"', ttl=0)

    @property
    def fetched(self) -> int:
        """How often the policy was fetched."""
        return self.pages.asked[PLACE]

    @asynccontextmanager
    async def process(self, **changes: Any) -> AsyncIterator[StsPolicies]:
        """As much of a relay process as keeps policies."""
        given: dict[str, Any] = {
            "resolvers": [self.names.address],
            "resolver_timeout": Seconds(10),
            "private_networks": ["127.0.0.0/8"],
            "sts_port": self.pages.port,
            "sts_authority": self.authority,
        }
        settings = Transport(**given | changes)
        clock: Callable[[], float] = lambda: self.now.timestamp()  # noqa: E731
        resolver = Resolver(settings, clock)
        web = Web(resolver, Reach(settings), timeout=settings.sts_timeout, authority=settings.sts_authority)
        policies = StsPolicies(settings, self.pool, resolver, web, lambda: self.now)
        try:
            yield policies
        finally:
            await policies.close()
            await web.close()
            await resolver.close()

    async def ask(self, **changes: Any) -> Sts:
        """What a new process says."""
        async with self.process(**changes) as policies:
            return await policies.of(DOMAIN)


@asynccontextmanager
async def _stage(pool: Pool, directory: Path, certified: Certified, authority: Authority) -> AsyncIterator[Stage]:
    async with name_server() as names, web_server(certified.server_context(directory)) as pages:
        names.add(f"mta-sts.{DOMAIN}", "A", "127.0.0.1")
        pages.policy(DOMAIN)
        stage = Stage(names, pages, pool, authority.file(directory))
        stage.publish("1")
        yield stage


@pytest.fixture
async def stage(pool: Pool, tmp_path: Path) -> AsyncIterator[Stage]:
    """A domain whose policy server is in order."""
    authority = Authority()
    async with _stage(pool, tmp_path, authority.issue(f"mta-sts.{DOMAIN}"), authority) as opened:
        yield opened


async def test_policy_is_fetched_and_kept(stage: Stage) -> None:
    """A policy is fetched once, for all processes, until the record's id says that it has changed."""
    assert await stage.ask() == Sts(POLICY)
    async with stage.process() as policies:
        for _ in range(3):
            assert await policies.of(DOMAIN) == Sts(POLICY)
    assert stage.fetched == 1
    stage.pages.policy(DOMAIN, "version: STSv1", "mode: testing", "mx: *.example.net", "max_age: 86400")
    assert await stage.ask() == Sts(POLICY)
    stage.publish("2")
    assert await stage.ask() == Sts(StsPolicy("testing", 86400, ("*.example.net",)))
    assert stage.fetched == 2


async def test_domain_without_a_record(stage: Stage) -> None:
    """Without a record there is no policy, and none is fetched."""
    stage.names.remove(f"_mta-sts.{DOMAIN}")
    assert await stage.ask() == Sts()
    assert not stage.pages.asked


@pytest.mark.parametrize("blocked", ["removed", "failing", "broken"])
async def test_policy_outlives_its_record(stage: Stage, blocked: str) -> None:
    """A policy that was fetched counts to its end, though the record is gone or cannot be had: nobody can undo it that way."""
    await stage.ask()
    if blocked == "failing":
        stage.names.fail(f"_mta-sts.{DOMAIN}", "TXT")
    elif blocked == "broken":
        stage.names.add(f"_mta-sts.{DOMAIN}", "TXT", '"v=STSv1"')
    else:
        stage.names.remove(f"_mta-sts.{DOMAIN}")
    stage.now += timedelta(seconds=POLICY.max_age - 1)
    assert await stage.ask() == Sts(POLICY)
    stage.now += timedelta(seconds=2)
    assert await stage.ask() == Sts()


async def test_policy_outlives_its_server(stage: Stage) -> None:
    """When a new one cannot be fetched the old one counts, and the failure is told; the server is left alone for a while."""
    await stage.ask()
    stage.pages.pages.clear()
    stage.publish("2")
    async with stage.process() as policies:
        for _ in range(3):
            sts = await policies.of(DOMAIN)
            assert sts.policy == POLICY
            assert sts.failure is not None
            assert sts.failure.kind == "sts-policy-fetch-error"
        assert stage.fetched == 2
        stage.now += timedelta(minutes=5)
        await policies.of(DOMAIN)
        assert stage.fetched == 3


async def test_withdrawn_policy(stage: Stage) -> None:
    """Mode none ends a policy."""
    await stage.ask()
    stage.pages.policy(DOMAIN, "version: STSv1", "mode: none", "max_age: 86400")
    stage.publish("2")
    assert await stage.ask() == Sts()
    assert (await stage.ask()).policy is None
    assert stage.fetched == 2


async def test_policy_is_renewed_before_it_ends(stage: Stage) -> None:
    """A policy that has not changed is fetched anew once a day, behind the back of whoever asks."""
    async with stage.process() as policies:
        await policies.of(DOMAIN)
        stage.now += timedelta(days=1)
        gate = stage.pages.policy(DOMAIN).gate = asyncio.Event()
        assert await policies.of(DOMAIN) == Sts(POLICY)  # although the server does not answer yet
        while stage.fetched < 2:
            await asyncio.sleep(0)
        gate.set()
        stage.names.remove(f"_mta-sts.{DOMAIN}")
        while policies._fetching:
            await asyncio.sleep(0)
    stage.now += timedelta(seconds=POLICY.max_age - 1)
    assert await stage.ask() == Sts(POLICY)


async def test_those_who_ask_at_once_share_a_fetch(stage: Stage) -> None:
    """Many messages to a domain that is new cause one fetch."""
    gate = stage.pages.policy(DOMAIN).gate = asyncio.Event()
    async with stage.process() as policies:
        asking = [asyncio.create_task(policies.of(DOMAIN)) for _ in range(20)]
        while not stage.fetched:
            await asyncio.sleep(0)
        asking[0].cancel()
        gate.set()
        assert await asyncio.gather(*asking[1:]) == [Sts(POLICY)] * 19
    assert stage.fetched == 1


async def _failure(stage: Stage, **changes: Any) -> str | None:
    sts = await stage.ask(**changes)
    assert sts.policy is None
    return sts.failure.kind if sts.failure is not None else None


async def test_redirects_are_not_followed(stage: Stage) -> None:
    """A redirect is a failure, even to the same server (RFC 8461 §3.3)."""
    page = stage.pages.pages.pop(PLACE)
    stage.pages.pages[PLACE[0], "/elsewhere"] = page
    moved = stage.pages.policy(DOMAIN)
    moved.status, moved.location = 301, f"https://mta-sts.{DOMAIN}:{stage.pages.port}/elsewhere"
    assert await _failure(stage) == "sts-policy-fetch-error"
    assert stage.pages.asked == {PLACE: 1}


async def test_long_policies_are_not_read(stage: Stage) -> None:
    """A policy of more than 64 KiB is none (RFC 8461 §3.3)."""
    page = stage.pages.policy(DOMAIN)
    page.body += b"x: " + b"y" * 70_000 + b"\r\n"
    assert await _failure(stage) == "sts-policy-fetch-error"
    assert (await stage.ask(sts_size_limit=Octets(100_000))).policy == POLICY


async def test_other_media_types_are_no_policy(stage: Stage) -> None:
    """What is not text/plain is none: users may put files on a server (RFC 8461 §3.2)."""
    stage.pages.policy(DOMAIN).media_type = "text/html"
    assert await _failure(stage) == "sts-policy-fetch-error"


@pytest.mark.parametrize("body", [b"", b"version: STSv1\nmode: enforce\nmax_age: 1\n", b"version: STSv1\nmode: \xff\n"])
async def test_broken_policies(stage: Stage, body: bytes) -> None:
    """What breaks a rule is none, and is told so."""
    stage.pages.policy(DOMAIN).body = body
    assert await _failure(stage) == "sts-policy-invalid"


async def test_silent_server(stage: Stage) -> None:
    """A server that does not answer costs the time that is configured."""
    stage.pages.policy(DOMAIN).gate = gate = asyncio.Event()
    assert await _failure(stage, sts_timeout=Seconds(0.2)) == "sts-policy-fetch-error"
    gate.set()


async def test_server_inside_our_network(stage: Stage) -> None:
    """A policy server at an address that is not to be connected to is not asked."""
    assert await _failure(stage, private_networks=[]) == "sts-policy-fetch-error"
    assert not stage.pages.asked


@pytest.mark.parametrize("fault", ["stranger", "other name", "expired", "self-signed"])
async def test_server_that_is_not_authentic(pool: Pool, tmp_path: Path, fault: str) -> None:
    """A server without a right certificate for its name is not believed, and the failure is told as one of PKIX."""
    authority = Authority()
    certified = {
        "stranger": Authority("Stranger").issue(f"mta-sts.{DOMAIN}"),
        "other name": authority.issue("mta-sts.example.org"),
        "expired": authority.issue(f"mta-sts.{DOMAIN}", starts=timedelta(days=-3), ends=timedelta(days=-1)),
        "self-signed": self_signed(f"mta-sts.{DOMAIN}"),
    }[fault]
    async with _stage(pool, tmp_path, certified, authority) as stage:
        assert await _failure(stage) == "sts-webpki-invalid"
        assert not stage.pages.asked
