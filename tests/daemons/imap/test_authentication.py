"""AUTHENTICATE with every mechanism, and LOGIN, over real TLS connections."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from config.settings import Settings
from daemons.authentication.channel_binding import end_point, exporter
from daemons.certificates import Issued
from daemons.context import open_context
from protocol import sasl
from storage import accounts
from tests.conftest import PASSWORD, add_person
from tests.daemons.imap.conftest import Service, mail, running
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves
from tests.daemons.imap.test_compress import compressed
from tests.daemons.issuer import StubIssuer, issuing, with_issuer

NONCE = "rOprNGfwEbeRWgbNEkqO"
FAILED = b"t NO [AUTHENTICATIONFAILED] login or password is wrong"


async def exchange(client: Client, name: bytes, mechanism: sasl.ClientMechanism, *, starts: bool = True) -> bytes:
    """Go through AUTHENTICATE as a client and give the tagged answer."""
    command = b"t AUTHENTICATE " + name
    if starts:
        command += b" " + (base64.b64encode(mechanism.respond(None)) or b"=")
    client.write(command + b"\r\n")
    while (line := await client.line()).startswith(b"+ "):
        client.write(base64.b64encode(mechanism.respond(base64.b64decode(line[2:]))) + b"\r\n")
    return line


async def connected(service: Service, tls: ssl.SSLContext | None = None) -> Client:
    """A connection in TLS, not logged in."""
    return await Client.connect(service.endpoints["imaps"], tls or service.tls)


def channel(client: Client) -> ssl.SSLObject:
    """The client's side of TLS."""
    found = client._writer.get_extra_info("ssl_object")
    assert isinstance(found, ssl.SSLObject)
    return found


@pytest.fixture(name="verified")
async def with_verifier(service: Service) -> Service:
    """The service, whose account has its SCRAM verifier: it has logged in with its password once."""
    async with await service.client():
        pass
    async with asyncio.timeout(30):
        while await service.context.pool.fetchval("SELECT scram_sha_256 FROM account") is None:
            await asyncio.sleep(0)
    service.context.directory.clear()
    return service


@proves(b"AUTH=LOGIN")
async def test_auth_login(service: Service) -> None:
    """AUTHENTICATE LOGIN asks for the name and the password in the words that Outlook knows."""
    async with await connected(service) as client:
        client.write(b"t AUTHENTICATE LOGIN\r\n")
        assert base64.b64decode((await client.line())[2:]) == b"Username:"
        client.write(base64.b64encode(service.person.login.encode()) + b"\r\n")
        assert base64.b64decode((await client.line())[2:]) == b"Password:"
        client.write(base64.b64encode(PASSWORD.encode()) + b"\r\n")
        assert (await client.line()).startswith(b"t OK [CAPABILITY ")


@proves(b"AUTH=SCRAM-SHA-256")
@pytest.mark.parametrize("starts", [True, False], ids=["initial", "asked"])
async def test_auth_scram(verified: Service, starts: bool) -> None:
    """AUTHENTICATE SCRAM-SHA-256 proves both sides to each other, and a wrong password to none (RFC 7677)."""
    async with await connected(verified) as client:
        wrong = sasl.ScramClient(verified.person.login, "wrong", nonce=NONCE)
        assert await exchange(client, b"SCRAM-SHA-256", wrong, starts=starts) == FAILED
        assert not wrong.is_verified
        right = sasl.ScramClient(verified.person.login, PASSWORD, nonce=NONCE)
        assert (await exchange(client, b"SCRAM-SHA-256", right, starts=starts)).startswith(b"t OK ")
        assert right.is_verified


@proves(b"AUTH=SCRAM-SHA-256-PLUS")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_auth_scram_plus(verified: Service, certificate_file: str, version: ssl.TLSVersion) -> None:
    """AUTHENTICATE SCRAM-SHA-256-PLUS binds to the TLS channel in every way there is, and to no other channel."""
    verified.tls.maximum_version = version
    async with await connected(verified) as client:
        assert b"AUTH=SCRAM-SHA-256-PLUS" in client.greeting
    names = ("tls-exporter" if version is ssl.TLSVersion.TLSv1_3 else "tls-unique"), "tls-server-end-point"
    for name in names:
        async with await connected(verified) as client:
            tls = channel(client)
            octets = {
                "tls-exporter": exporter(tls),
                "tls-unique": tls.get_channel_binding("tls-unique"),
                "tls-server-end-point": end_point(certificate_file),
            }[name]
            assert octets is not None
            relayed = sasl.ScramClient(verified.person.login, PASSWORD, nonce=NONCE, binding=(name, octets[::-1]))
            assert await exchange(client, b"SCRAM-SHA-256-PLUS", relayed) == FAILED
            bound = sasl.ScramClient(verified.person.login, PASSWORD, nonce=NONCE, binding=(name, octets))
            assert (await exchange(client, b"SCRAM-SHA-256-PLUS", bound)).startswith(b"t OK ")
            assert bound.is_verified


@dataclass
class Trusting:
    """A service and the issuer that it trusts."""

    service: Service
    stub: StubIssuer


@pytest.fixture(name="trusting")
async def trusting_service(service: Service, settings: Settings, certificate: Issued) -> AsyncIterator[Trusting]:
    """The access process, in which an issuer that answers is trusted."""
    async with (
        issuing(certificate, Path(settings.state)) as stub,
        open_context(with_issuer(settings, stub.settings(scope="mail"))) as context,
        running(context) as endpoints,
    ):
        yield Trusting(Service(context, endpoints, service.person, service.tls), stub)


@proves(b"AUTH=OAUTHBEARER")
@pytest.mark.parametrize("starts", [True, False], ids=["initial", "asked"])
async def test_auth_oauthbearer(trusting: Trusting, starts: bool) -> None:
    """AUTHENTICATE OAUTHBEARER takes a token of the tenant's issuer, and says where to get one (RFC 7628)."""
    service, stub = trusting.service, trusting.stub
    async with await connected(service) as client:
        refused = sasl.OauthBearerClient(stub.token(exp=1), authzid=service.person.login)
        assert await exchange(client, b"OAUTHBEARER", refused, starts=starts) == FAILED
        assert json.loads(refused.refusal) == {
            "status": "invalid_token",
            "scope": "mail",
            "openid-configuration": f"{stub.url}/.well-known/openid-configuration",
        }
        taken = sasl.OauthBearerClient(stub.token(scope="mail"), host="mail.example.test", port=993)
        assert (await exchange(client, b"OAUTHBEARER", taken, starts=starts)).startswith(b"t OK ")
        assert taken.refusal == b""


@proves(b"AUTH=XOAUTH2")
@pytest.mark.parametrize("starts", [True, False], ids=["initial", "asked"])
async def test_auth_xoauth2(trusting: Trusting, starts: bool) -> None:
    """AUTHENTICATE XOAUTH2 takes a token as Google's and Microsoft's clients send it, also one to be asked about."""
    service, stub = trusting.service, trusting.stub
    async with await connected(service) as client:
        refused = sasl.Xoauth2Client(service.person.login, "unknown")
        assert await exchange(client, b"XOAUTH2", refused, starts=starts) == FAILED
        assert json.loads(refused.refusal) == {"status": "401", "schemes": "bearer", "scope": "mail"}
        stub.opaque["opaque"] = {"active": True} | stub.claims(scope="mail")
        taken = sasl.Xoauth2Client(service.person.login.upper(), "opaque")
        assert (await exchange(client, b"XOAUTH2", taken, starts=starts)).startswith(b"t OK ")


async def test_tokens_of_others(trusting: Trusting, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A good token logs in to nobody else's account, to none of another tenant, to no disabled one, and to none unknown."""
    service, stub = trusting.service, trusting.stub
    await accounts.add_tenant(owner, "other", b"")
    await accounts.add_domain(owner, "other", "other.test")
    await accounts.add_account(owner, "other", "zoe@other.test", "x")
    await add_person(service.context.settings, owner, "bob@example.test")
    await owner.execute("UPDATE account SET is_disabled = true WHERE login = 'bob@example.test'")
    async with await connected(service) as client:
        for email, authzid in (
            ("alice@example.test", "bob@example.test"),
            ("zoe@other.test", ""),
            ("bob@example.test", ""),
        ):
            given = sasl.OauthBearerClient(stub.token(scope="mail", email=email), authzid=authzid)
            assert await exchange(client, b"OAUTHBEARER", given) == FAILED
    async with await connected(service) as client:
        unknown = sasl.OauthBearerClient(stub.token(scope="mail", email="nobody@example.test"))
        assert await exchange(client, b"OAUTHBEARER", unknown) == FAILED


async def test_hidden_plus_is_noticed(verified: Service) -> None:
    """A client that could bind and was not offered it ends the exchange: somebody took -PLUS out of the list."""
    async with await connected(verified) as client:
        deceived = sasl.ScramClient(verified.person.login, PASSWORD, nonce=NONCE, is_able=True)
        answer = await exchange(client, b"SCRAM-SHA-256", deceived)
        assert answer == b"t BAD server does support channel binding"


async def test_nobody_acts_for_another(verified: Service) -> None:
    """An authorization identity that is not one's own is refused in every mechanism that has one."""
    login = verified.person.login
    for name, mechanism in (
        (b"PLAIN", sasl.PlainClient(login, PASSWORD, authzid="bob@example.test")),
        (b"SCRAM-SHA-256", sasl.ScramClient(login, PASSWORD, nonce=NONCE, authzid="bob@example.test")),
    ):
        async with await connected(verified) as client:
            answer = await exchange(client, name, mechanism)
            assert answer == b"t NO [AUTHORIZATIONFAILED] nobody may act for another here"


async def test_mechanisms_that_are_not_offered(service: Service) -> None:
    """A mechanism that is unknown, or not offered on this connection, is refused."""
    async with await connected(service) as client:
        assert (await client.command(b"AUTHENTICATE CRAM-MD5"))[-1] == b"t NO [CANNOT] unknown mechanism"
    async with await Client.connect(service.endpoints["imap"]) as client:
        for name in sasl.MECHANISMS:
            assert b"AUTH=" + name not in client.greeting
            answer = (await client.command(b"AUTHENTICATE " + name))[-1]
            assert answer == b"t NO [PRIVACYREQUIRED] start TLS first"


@pytest.fixture
def certificate_file(service: Service) -> str:
    """The server's certificate, as PEM."""
    found = service.context.settings.tls.certificate
    assert Path(found).exists()
    return found


@proves(b"UNAUTHENTICATE")
async def test_unauthenticate(service: Service, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """UNAUTHENTICATE undoes all but TLS, and the next user may log in in the same round trip (RFC 8437)."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    await service.deliver(mail(), flags=r"\Deleted")
    async with await service.client() as client:
        await client.ok(b"ENABLE CONDSTORE")
        await client.ok(b"SELECT INBOX")
        given = base64.b64encode(f"\0{bob.login}\0{PASSWORD}".encode())
        client.write(b"a UNAUTHENTICATE\r\nb AUTHENTICATE PLAIN " + given + b"\r\n")
        (answer,) = await client.until(b"a")  # nothing is expunged, nothing told
        assert answer.startswith(b"a OK [CAPABILITY ")
        assert b" AUTH=PLAIN" in answer
        (answer,) = await client.until(b"b")
        assert answer.startswith(b"b OK ")
        assert await client.ok(b"STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]
        assert (await client.command(b"FETCH 1 FLAGS"))[-1].startswith(b"t BAD ")
        await client.ok(b"SELECT INBOX")
        await service.deliver(mail(), flags=r"\Deleted")
        await client.ok(b"UNAUTHENTICATE")
        assert (await client.command(b"SELECT INBOX"))[-1].startswith(b"t BAD ")
        assert (await client.command(b"UNAUTHENTICATE"))[-1].startswith(b"t BAD ")
        await client.login(service.person.login)
        assert (await client.ok(b"STATUS INBOX (MESSAGES)")) == [b"* STATUS INBOX (MESSAGES 2)"]


async def test_unauthenticate_in_compression(service: Service) -> None:
    """A session in DEFLATE cannot be as it was after the greeting: it ends."""
    async with await compressed(service) as client:
        client.write(b"a UNAUTHENTICATE\r\n")
        assert await client.line() == b"* BYE compression stays on until the connection ends"
        assert await client.line() == b""


async def test_unauthenticate_gives_the_session_back(service: Service) -> None:
    """A session that has logged out counts no longer among those of its account."""
    limit = service.context.settings.imap.connections_per_account
    async with await service.client() as client:
        for _ in range(limit + 1):
            await client.ok(b"UNAUTHENTICATE")
            await client.login(service.person.login)


async def test_a_failed_login_is_recorded(service: Service, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A failed login leaves address, login, service, mechanism and client in the record of attacks, a good one nothing."""
    async with await connected(service) as client:
        await client.ok(b'ID ("name" "Guesser" "version" NIL "os" "Plan 9")')
        wrong = sasl.PlainClient(service.person.login, "wrong")
        assert await exchange(client, b"PLAIN", wrong) == FAILED
        await client.login(service.person.login)
    async with asyncio.timeout(30):
        while (row := await owner.fetchrow("SELECT * FROM attack_event")) is None:
            await asyncio.sleep(0)
    assert dict(row) | {"happened_at": None} == {
        "attack_event_id": 1,
        "happened_at": None,
        "tenant_id": service.person.tenant_id,
        "service": "imap",
        "mechanism": "PLAIN",
        "reason": "password",
        "peer": "127.0.0.1",
        "login": service.person.login,
        "client": "name=Guesser os=Plan 9",
    }


async def test_answers_do_not_tell_who_exists(verified: Service) -> None:
    """A login that exists and one that does not get the same octets, but for what is random, in every mechanism."""
    answers: list[list[bytes]] = []
    for login in (verified.person.login, "nobody@example.test"):
        said = []
        async with await connected(verified) as client:
            said.append((await client.command(f'LOGIN {login} "wrong"'.encode()))[-1])
            said.append(await exchange(client, b"PLAIN", sasl.PlainClient(login, "wrong")))
        async with await connected(verified) as client:
            client.write(
                b"t AUTHENTICATE SCRAM-SHA-256 " + base64.b64encode(f"n,,n={login},r={NONCE}".encode()) + b"\r\n"
            )
            nonce, salt, iterations = base64.b64decode((await client.line())[2:]).split(b",")
            said += [b"%d %d" % (len(nonce), len(salt)), iterations]
            client.write(base64.b64encode(b"c=biws,%b,p=%b" % (nonce, base64.b64encode(bytes(32)))) + b"\r\n")
            said.append(await client.line())
        answers.append(said)
    assert answers[0] == answers[1]
    assert answers[0].count(FAILED) == 3


async def test_a_changed_password_ends_no_session(
    service: Service, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Who is in stays in when the password changes or the account is disabled; nobody gets in any more."""
    async with await service.client() as client:
        await accounts.set_password(owner, service.person.login, "another hash")
        async with asyncio.timeout(30):
            while (known := await service.context.directory.login(service.person.login)) is not None:
                if known.password_hash == "another hash":
                    break
                await asyncio.sleep(0)
        assert await client.ok(b"NOOP") == []
        async with asyncio.timeout(30), await connected(service) as other:
            login = f'LOGIN {service.person.login} "{PASSWORD}"'.encode()
            assert (await other.command(login))[-1] == FAILED
        assert await client.ok(b"SELECT INBOX")
