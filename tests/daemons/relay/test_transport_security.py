"""TLS policies from the queue to the wire: through the relay to mail servers, by what DNS and web server of the tests say."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.routes import Route as Configured
from daemons.context import Context
from daemons.relay.transport import open_transport
from tests.conftest import Owner, Person
from tests.daemons.relay.signatures import dkimpy_verifies, make_keys, needs_mail_dkim, publish, verify
from tests.daemons.relay.world import ORIGINAL, World, open_world
from tests.internet.authority import Authority, Certified, self_signed
from tests.internet.https import WebServer, web_server
from tests.internet.mx import Mx, Received
from tests.sections import with_changes

DOMAIN = "example.net"
HOST = "mx1.example.net"  # as the world calls a domain's first server


@dataclass
class Stage:
    """A world with a certificate authority, and a web server for policies."""

    world: World
    pages: WebServer
    authority: Authority
    directory: Path

    def shown(self, certified: Certified) -> ssl.SSLContext:
        """For a server that shows it."""
        return certified.server_context(self.directory)

    async def mx(self, certified: Certified | None, **options: Any) -> Mx:
        """A mail server of the domain; None: it offers no TLS."""
        return await self.world.mx(DOMAIN, tls=self.shown(certified) if certified is not None else None, **options)

    def tlsa(self, text: str, host: str = HOST) -> None:
        """Publish a TLSA record, signed."""
        self.world.names.add(f"_{self.world.port}._tcp.{host}", "TLSA", text)
        self.world.names.secure(DOMAIN)

    def sts(self, *lines: str) -> None:
        """Publish a policy of MTA-STS."""
        self.world.names.add(f"mta-sts.{DOMAIN}", "A", "127.0.0.1")
        self.world.names.add(f"_mta-sts.{DOMAIN}", "TXT", '"v=STSv1; id=1;"')
        self.pages.policy(DOMAIN, *(lines or ("version: STSv1", "mode: enforce", f"mx: {HOST}", "max_age: 86400")))

    async def sent(self, **options: Any) -> tuple[str, str]:
        """Send a message. Returns what became of it, and the TLS state that is kept with its last attempt."""
        await self.world.queue("bob@example.net", **options)
        self.world.start(retry_waits=[3600.0])
        await self.world.until("count(*) FILTER (WHERE state = 'waiting' AND tries = 0) = 0 FROM outbound_recipient")
        (row,) = await self.world.rows()
        attempts = await self.world.attempts()
        return row["state"], (attempts[-1]["tls"] or "") if attempts else ""

    async def reply(self) -> str:
        """What the queue tells of the last attempt."""
        (row,) = await self.world.rows()
        return str(row["last_reply"])


@asynccontextmanager
async def open_stage(
    context: Context, account: Person, owner: Owner, directory: Path, **transport: Any
) -> AsyncIterator[Stage]:
    """A stage; `transport` are settings of its relay."""
    authority = Authority()
    server = authority.issue(f"mta-sts.{DOMAIN}", "reports.example.org").server_context(directory)
    async with web_server(server) as pages:
        settings = {
            "sts_authority": authority.file(directory),
            "authority": authority.file(directory),
            "report_authority": authority.file(directory),
            "sts_port": pages.port,
        }
        async with open_world(context, account, owner, **settings | transport) as world:
            yield Stage(world, pages, authority, directory)


@pytest.fixture
async def stage(context: Context, account: Person, owner: Owner, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage with nothing special configured."""
    async with open_stage(context, account, owner, tmp_path) as opened:
        yield opened


# ---------------------------------------------------------------- opportunistic


async def test_any_certificate_does_where_nobody_asks_for_more(stage: Stage) -> None:
    """Without a policy mail goes in TLS to whoever is there, and the queue says that nothing was verified."""
    mx = await stage.mx(self_signed("anything.example"))
    state, tls = await stage.sent()
    assert (state, mx.received[0].tls) == ("delivered", "TLSv1.3")
    assert tls.startswith("TLSv1.3 TLS_")
    assert tls.endswith("not verified")


async def test_no_tls_does_where_nobody_asks_for_it(stage: Stage) -> None:
    """A server without STARTTLS gets mail in the clear, and the queue says so."""
    mx = await stage.mx(None)
    assert await stage.sent() == ("delivered", "")
    assert mx.received[0].tls is None


async def test_broken_tls_is_done_without(stage: Stage) -> None:
    """When the handshake fails and nobody asks for TLS, mail goes without it (RFC 7435)."""
    broken = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # it has no certificate to show
    mx = await stage.world.mx(DOMAIN, tls=broken)
    assert await stage.sent() == ("delivered", "")
    assert (mx.received[0].tls, mx.sessions) == (None, 2)


# ---------------------------------------------------------------- DANE


async def test_dane(stage: Stage) -> None:
    """A server whose certificate its TLSA record names gets mail, and the queue says by what it was verified."""
    certified = self_signed("anything.example")
    mx = await stage.mx(certified)
    stage.tlsa(certified.tlsa(3, 1, 1))
    state, tls = await stage.sent()
    assert (state, tls) == ("delivered", "TLSv1.3 TLS_AES_256_GCM_SHA384 verified (dane-ee)")
    assert len(mx.received) == 1


async def test_dane_by_an_authority(stage: Stage) -> None:
    """So does one that leads to the anchor in its record and has the host's name."""
    await stage.mx(stage.authority.issue(HOST))
    stage.tlsa(stage.authority.own.tlsa(2, 0, 1))
    state, tls = await stage.sent()
    assert (state, tls) == ("delivered", "TLSv1.3 TLS_AES_256_GCM_SHA384 verified (dane-ta)")


@pytest.mark.parametrize("fault", ["another certificate", "no TLS", "broken TLS", "bogus"])
async def test_dane_that_fails_keeps_mail_back(stage: Stage, fault: str) -> None:
    """Nothing is sent to a server that is not what signed records say: mail waits."""
    certified = self_signed(HOST)
    if fault == "broken TLS":
        mx = await stage.world.mx(DOMAIN, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    else:
        mx = await stage.mx(None if fault == "no TLS" else certified)
    stage.tlsa((self_signed(HOST) if fault == "another certificate" else certified).tlsa())
    if fault == "bogus":
        stage.world.names.fail(f"_{stage.world.port}._tcp.{HOST}", "TLSA")
    state, _ = await stage.sent()
    assert (state, mx.received) == ("waiting", [])
    assert (await stage.reply()).startswith("451 4.7.5") or "4.7.5" in await stage.reply()
    assert not mx.verbs["MAIL"]


async def test_next_host_when_one_is_not_what_it_says(stage: Stage) -> None:
    """Where one host fails its policy the next one is tried."""
    wrong, right = self_signed(HOST), self_signed("second")
    first = await stage.mx(wrong, preference=10)
    second = await stage.mx(right, preference=20)
    stage.world.point(DOMAIN, {first.name: 10, second.name: 20})
    stage.tlsa(right.tlsa(), first.name)
    stage.tlsa(right.tlsa(), second.name)
    state, tls = await stage.sent()
    assert (state, len(first.received), len(second.received)) == ("delivered", 0, 1)
    assert tls.endswith("verified (dane-ee)")


# ---------------------------------------------------------------- MTA-STS


async def test_mta_sts(stage: Stage) -> None:
    """A server that the domain's policy names and whose certificate is right gets mail."""
    mx = await stage.mx(stage.authority.issue(HOST))
    stage.sts()
    state, tls = await stage.sent()
    assert (state, tls) == ("delivered", "TLSv1.3 TLS_AES_256_GCM_SHA384 verified (pkix)")
    assert len(mx.received) == 1


@pytest.mark.parametrize("fault", ["stranger", "another name", "no TLS", "not named"])
async def test_mta_sts_that_fails_keeps_mail_back(stage: Stage, fault: str) -> None:
    """Nothing is sent to a server that an enforced policy does not name, or that cannot show that it is that one."""
    certified = {
        "stranger": Authority("Stranger").issue(HOST),
        "another name": stage.authority.issue("mx.example.org"),
        "no TLS": None,
        "not named": stage.authority.issue(HOST),
    }[fault]
    mx = await stage.mx(certified)
    stage.sts(
        "version: STSv1", "mode: enforce", f"mx: {'other' if fault == 'not named' else 'mx1'}.{DOMAIN}", "max_age: 9"
    )
    state, _ = await stage.sent()
    assert (state, mx.received) == ("waiting", [])
    assert "4.7.5" in await stage.reply()


async def test_mta_sts_testing_lets_mail_pass(stage: Stage) -> None:
    """A policy that is only tested is in nobody's way."""
    mx = await stage.mx(Authority("Stranger").issue(HOST))
    stage.sts("version: STSv1", "mode: testing", f"mx: {HOST}", "max_age: 86400")
    state, tls = await stage.sent()
    assert (state, len(mx.received)) == ("delivered", 1)
    assert tls.endswith("not verified")


# ---------------------------------------------------------------- REQUIRETLS


async def test_requiretls_is_passed_on(stage: Stage) -> None:
    """A message that must stay in TLS goes to a proved server that promises the same."""
    certified = self_signed(HOST)
    mx = await stage.mx(certified)
    mx.offers.add("REQUIRETLS")
    stage.tlsa(certified.tlsa())
    state, tls = await stage.sent(is_requiretls=True)
    assert (state, tls.endswith("verified (dane-ee)")) == ("delivered", True)
    assert "REQUIRETLS" in mx.received[0].mail_parameters


@pytest.mark.parametrize(("is_named", "status"), [(True, "5.7.30"), (False, "5.7.10")])
async def test_requiretls_is_given_back_where_it_cannot_be_kept(stage: Stage, is_named: bool, status: str) -> None:
    """Where a server does not promise it, or nothing proves its name, the message is given back (RFC 8689 §4.2.1)."""
    certified = self_signed(HOST)
    mx = await stage.mx(certified)
    if is_named:
        stage.tlsa(certified.tlsa())
    state, _ = await stage.sent(is_requiretls=True)
    assert (state, mx.received) == ("failed", [])
    assert status in await stage.reply()


async def test_tls_required_no(stage: Stage) -> None:
    """A message with TLS-Required: No goes though the server is not what its policy says (RFC 8689 §3)."""
    mx = await stage.mx(None)
    stage.sts()
    state, _ = await stage.sent(original=b"TLS-Required: No\r\n" + ORIGINAL)
    assert (state, len(mx.received)) == ("delivered", 1)


# ---------------------------------------------------------------- routes of the configuration


@pytest.mark.parametrize("starts_with_tls", [False, True])
async def test_smarthost_with_login(
    context: Context, account: Person, owner: Owner, tmp_path: Path, starts_with_tls: bool
) -> None:
    """All mail goes to a smarthost that a route names, in verified TLS and with its login."""
    async with open_stage(context, account, owner, tmp_path) as stage:
        password = tmp_path / "password"
        password.write_text("s3cret")
        smarthost = await stage.world.mx(
            "smart.example",
            tls=stage.shown(stage.authority.issue("mx1.smart.example")),
            starts_with_tls=starts_with_tls,
            logins={"postwerk": "s3cret"},
        )
        route = Configured(
            host=smarthost.name,
            port=stage.world.port,
            tls="verify",
            starts_with_tls=starts_with_tls,
            authority=stage.authority.file(tmp_path),
            login="postwerk",
            password_file=str(password),
        )
        _configure(stage.world, routes=[route])
        state, tls = await stage.sent()
        assert (state, tls.endswith("verified (pkix)")) == ("delivered", True)
        assert smarthost.received[0].login == "postwerk"


def _configure(world: World, **changes: Any) -> None:
    object.__setattr__(world.context, "settings", with_changes(world.context.settings, transport=changes))


# ---------------------------------------------------------------- reports


async def _reported(world: World, receiver: Mx) -> Received:
    """The report that is due when the days since the sessions are over."""
    await world.stop()
    await world.owner.execute("UPDATE tls_session SET day = day - 2")
    async with open_transport(world.context) as transport:
        assert await transport.reports.send_due() == 1
    world.start()
    (report,) = await receiver.wait(1)
    return report


async def test_domains_are_told_of_their_tls(stage: Stage) -> None:
    """Sessions with a domain that asks for it, good and bad, come to it the next day as a report by mail, through the queue."""
    world = stage.world
    _configure(world, report_from=world.person.login)
    world.names.add(f"_smtp._tls.{DOMAIN}", "TXT", '"v=TLSRPTv1; rua=mailto:reports@example.org"')
    receiver = await world.mx("example.org")
    certified = self_signed(HOST)
    mx = await world.mx(DOMAIN, tls=stage.shown(certified))
    stage.tlsa(self_signed(HOST).tlsa(), mx.name)
    assert (await stage.sent())[0] == "waiting"
    report = await _reported(world, receiver)
    assert report.reverse_path == world.person.login
    assert b"\r\nTLS-Report-Domain: example.net\r\n" in report.content
    assert b"application/tlsrpt+gzip" in report.content


@needs_mail_dkim
async def test_reports_of_tls_are_signed(stage: Stage) -> None:
    """A report by mail has signatures by the domain that it comes from, as RFC 8460 §3 asks, and they verify."""
    world = stage.world
    _configure(world, report_from=world.person.login)
    await make_keys(world.context, world.owner, "example.test")
    texts = await publish(world.names, world.context, world.owner, "example.test")
    world.names.add(f"_smtp._tls.{DOMAIN}", "TXT", '"v=TLSRPTv1; rua=mailto:reports@example.org"')
    receiver = await world.mx("example.org")
    await stage.mx(None)
    assert (await stage.sent())[0] == "delivered"
    report = await _reported(world, receiver)
    assert "rsa-sha256 pass" in await verify(world.names, report.content)
    assert dkimpy_verifies(texts, report.content)
    assert report.content.count(b"d=example.test") == 2
