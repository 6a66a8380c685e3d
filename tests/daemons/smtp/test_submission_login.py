"""AUTH (RFC 4954): where it is offered, every mechanism, and every reply."""

import base64
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from config.settings import Settings
from daemons.authentication.passwords import app_password_digest
from daemons.certificates import Issued
from daemons.context import Context, open_context
from protocol import sasl
from storage import credentials
from storage.accounts import Directory
from storage.errors import UnavailableError
from storage.rows import Login
from tests.conftest import PASSWORD, Person
from tests.daemons.issuer import StubIssuer, issuing, with_issuer
from tests.daemons.smtp.conftest import serving
from tests.daemons.smtp.users import NONCE, SUBMITTED, Client, Users

OK = b"235 2.7.0 logged in\r\n"
FAILED = b"535 5.7.8 login or password is wrong\r\n"


def plain(login: str, password: str = PASSWORD, authzid: str = "") -> sasl.PlainClient:
    return sasl.PlainClient(login, password, authzid)


# -- where ----------------------------------------------------------------------------------------------------------


async def test_no_login_without_tls(users: Users, account: Person) -> None:
    """In the clear AUTH is neither offered nor taken, and no mail either: each reply says what to do."""
    async with await Client.connect(users.endpoints["submission"]) as client:
        keywords = await client.greeted()
        assert "STARTTLS" in keywords
        assert not any(keyword.startswith(("AUTH", "REQUIRETLS")) for keyword in keywords)
        answer = await client.exchange(b"PLAIN", plain(account.login))
        assert answer == b"538 5.7.11 send STARTTLS first: no login without TLS\r\n"
        assert await client.ask(b"MAIL FROM:<alice@example.test>") == b"530 5.7.0 send STARTTLS first\r\n"
        await client.start_tls(users.tls)
        assert await client.ask(b"AUTH PLAIN") == b"503 5.5.1 send EHLO first\r\n"
        await client.log_in(account)
        assert (await client.send(SUBMITTED, "<alice@example.test>")).startswith(b"250 ")
    (message,) = await users.mailbox(account)
    assert b" with ESMTPSA id " in message


async def test_no_mail_without_login(users: Users, account: Person) -> None:
    """In TLS, too, nobody sends before the login."""
    async with await users.connect() as client:
        await client.greeted()
        assert await client.ask(b"MAIL FROM:<alice@example.test>") == b"530 5.7.0 log in first\r\n"
        assert await client.ask(b"RCPT TO:<alice@example.test>") == b"503 5.5.1 send MAIL first\r\n"


async def test_no_login_on_port_25(users: Users, account: Person) -> None:
    """Mail from the internet comes without login: port 25 tells of no AUTH and takes none, also in TLS."""
    async with await Client.connect(users.endpoints["smtp"]) as client:
        await client.greeted()
        await client.start_tls(users.tls)
        assert not any(keyword.startswith("AUTH") for keyword in await client.greeted())
        assert await client.ask(b"AUTH PLAIN") == b"502 5.5.1 AUTH is not offered\r\n"
        await client.ask(b"MAIL FROM:<alice@example.test>")
        assert await client.ask(b"RCPT TO:<x@elsewhere.example>") == b"550 5.7.1 relaying denied\r\n"


async def test_order(users: Users, account: Person) -> None:
    """AUTH comes once, after EHLO, and not within a transaction; TLS does not begin twice."""
    async with await users.connect() as client:
        assert await client.ask(b"AUTH PLAIN") == b"503 5.5.1 send EHLO first\r\n"
        assert await client.ask(b"HELO client.example") == b"250 mail.example.test\r\n"
        assert await client.ask(b"AUTH PLAIN") == b"503 5.5.1 send EHLO first\r\n"
        await client.log_in(account)
        assert await client.ask(b"AUTH PLAIN") == b"503 5.5.1 logged in already\r\n"
        assert not any(keyword.startswith("AUTH") for keyword in await client.greeted())
        assert await client.ask(b"STARTTLS") == b"503 5.5.1 TLS is on already\r\n"
        assert await client.ask(b"MAIL FROM:<alice@example.test> AUTH=<>") == b"250 2.1.0 sender ok\r\n"
        assert await client.ask(b"AUTH PLAIN") == b"503 5.5.1 logged in already\r\n"


# -- mechanisms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("starts", [True, False], ids=["initial", "asked"])
async def test_plain(starts: bool, users: Users, account: Person) -> None:
    """PLAIN, with the initial response and without."""
    async with await users.connect() as client:
        await client.greeted()
        assert await client.exchange(b"plain", plain(account.login, "wrong"), starts=starts) == FAILED
        assert await client.exchange(b"plain", plain("nobody@example.test"), starts=starts) == FAILED
        assert await client.exchange(b"PLAIN", plain(account.login), starts=starts) == OK


async def test_login(users: Users, account: Person) -> None:
    """LOGIN asks for the name and the password in the words that Outlook knows."""
    async with await users.connect() as client:
        await client.greeted()
        assert base64.b64decode((await client.ask(b"AUTH LOGIN"))[4:]) == b"Username:"
        assert base64.b64decode((await client.ask(base64.b64encode(account.login.encode())))[4:]) == b"Password:"
        assert await client.ask(base64.b64encode(PASSWORD.encode())) == OK


@pytest.mark.parametrize("starts", [True, False], ids=["initial", "asked"])
@pytest.mark.parametrize("is_plus", [True, False], ids=["plus", "unbound"])
async def test_scram(starts: bool, is_plus: bool, users: Users, account: Person) -> None:
    """SCRAM-SHA-256 and -PLUS prove both sides to each other; a channel that is another's is found out."""
    async with await users.logged_in(account):
        pass  # the first login by password makes the verifier
    while await users.context.pool.fetchval("SELECT scram_sha_256 FROM account") is None:
        await users.context.pool.execute("SELECT 1")
    users.context.directory.clear()
    name = b"SCRAM-SHA-256-PLUS" if is_plus else b"SCRAM-SHA-256"
    async with await users.connect() as client:
        (offered,) = [keyword for keyword in await client.greeted() if keyword.startswith("AUTH ")]
        assert offered.split()[1:] == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]
        if is_plus:
            elsewhere = "tls-exporter", client.channel[::-1]
            relayed = sasl.ScramClient(account.login, PASSWORD, nonce=NONCE, binding=elsewhere)
            assert await client.exchange(name, relayed, starts=starts) == FAILED
        binding = ("tls-exporter", client.channel) if is_plus else None
        wrong = sasl.ScramClient(account.login, "wrong", nonce=NONCE, binding=binding)
        assert await client.exchange(name, wrong, starts=starts) == FAILED
        right = sasl.ScramClient(account.login, PASSWORD, nonce=NONCE, binding=binding)
        assert await client.exchange(name, right, starts=starts) == OK
        assert right.is_verified


@pytest.fixture
async def stub(settings: Settings, certificate: Issued) -> AsyncIterator[StubIssuer]:
    """Who issues tokens."""
    async with issuing(certificate, Path(settings.state)) as issuer:
        yield issuer


@pytest.fixture
async def trusting(stub: StubIssuer, settings: Settings, account: Person, certificate: Issued) -> AsyncIterator[Users]:
    """The process, in which that issuer is trusted."""
    async with (
        open_context(with_issuer(settings, stub.settings(scope="mail"))) as context,
        serving(context) as endpoints,
    ):
        yield Users(context, endpoints, ssl.create_default_context(cafile=str(certificate.authority)))


@pytest.mark.parametrize("starts", [True, False], ids=["initial", "asked"])
@pytest.mark.parametrize("name", [b"OAUTHBEARER", b"XOAUTH2"])
async def test_tokens(name: bytes, starts: bool, trusting: Users, stub: StubIssuer, account: Person) -> None:
    """OAUTHBEARER and XOAUTH2 take a token of the tenant's issuer, long as it may be, and say why another is refused."""

    def bearer(token: str) -> sasl.OauthBearerClient | sasl.Xoauth2Client:
        if name == b"XOAUTH2":
            return sasl.Xoauth2Client(account.login, token)
        return sasl.OauthBearerClient(token, authzid=account.login)

    async with await trusting.connect() as client:
        (offered,) = [keyword for keyword in await client.greeted() if keyword.startswith("AUTH ")]
        assert {"OAUTHBEARER", "XOAUTH2"} < set(offered.split())
        refused = bearer(stub.token(exp=1))
        assert await client.exchange(name, refused, starts=starts) == FAILED
        assert b"mail" in refused.refusal
        taken = bearer(stub.token(scope="mail", padding="x" * 2000))
        assert await client.exchange(name, taken, starts=starts) == OK


@pytest.mark.parametrize(("scopes", "answer"), [(["smtp"], OK), (["imap", "pop3"], FAILED)], ids=["own", "other"])
async def test_app_password(
    scopes: list[str], answer: bytes, users: Users, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """An app password sends mail when it is for that, and not when it is for reading only."""
    digest = app_password_digest("a-b-c-d")
    await credentials.add_app_password(
        owner, account.account_id, "phone", digest, bytes(64), scopes=scopes, networks=[],
        expires_at=datetime.now(UTC) + timedelta(days=1), limit=30,
    )  # fmt: skip
    async with await users.connect() as client:
        await client.greeted()
        assert await client.exchange(b"PLAIN", plain(account.login, "a-b-c-d")) == answer


# -- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        ([b"AUTH CRAM-MD5"], b"504 5.5.4 mechanism is not offered\r\n"),
        ([b"AUTH"], b"501 5.5.4 expected AUTH mechanism [initial-response]\r\n"),
        ([b"AUTH PLAIN a b"], b"501 5.5.4 expected AUTH mechanism [initial-response]\r\n"),
        ([b"AUTH PLAIN", b"*"], b"501 5.7.0 login cancelled\r\n"),
        ([b"AUTH PLAIN *"], b"501 5.7.0 login cancelled\r\n"),
        ([b"AUTH PLAIN !"], b"501 5.5.2 response is not what the mechanism wants\r\n"),
        ([b"AUTH PLAIN", b"no base64"], b"501 5.5.2 response is not what the mechanism wants\r\n"),
        ([b"AUTH PLAIN ="], b"501 5.5.2 response is not what the mechanism wants\r\n"),
        ([b"AUTH PLAIN", b""], b"501 5.5.2 response is not what the mechanism wants\r\n"),
        ([b"AUTH PLAIN", b"x" * (17 << 10)], b"500 5.5.6 line of the exchange is too long\r\n"),
        ([b"AUTH PLAIN " + b"x" * (17 << 10)], b"500 5.5.2 command line is too long\r\n"),
    ],
)
async def test_refusals(lines: list[bytes], answer: bytes, users: Users, account: Person) -> None:
    """What is malformed, unknown, too long or cancelled is refused as RFC 4954 has it, and the client may try again."""
    async with await users.connect() as client:
        await client.greeted()
        *asked, last = lines
        for line in asked:
            assert (await client.ask(line)).startswith(b"334 ")
        assert await client.ask(last) == answer
        assert await client.exchange(b"PLAIN", plain(account.login)) == OK


async def test_acting_for_another(users: Users, account: Person, bob: Person) -> None:
    """Who names another to act as is refused, though the password is right."""
    async with await users.connect() as client:
        await client.greeted()
        answer = await client.exchange(b"PLAIN", plain(account.login, authzid=bob.login))
        assert answer == b"535 5.7.8 nobody may act for another here\r\n"


async def test_guessing(settings: Settings, users: Users, account: Person, certificate: Issued) -> None:
    """The fifth failed login of a connection ends it."""
    changed = msgspec.structs.replace(settings, trusted_networks=["127.0.0.0/8"])  # no waiting
    async with (
        open_context(changed) as context,
        serving(context) as endpoints,
        await Client.connect(endpoints["submissions"], users.tls) as client,
    ):
        await client.greeted()
        for _ in range(5):
            assert await client.exchange(b"PLAIN", plain(account.login, "wrong")) == FAILED
        assert await client.hear() == b"421 4.7.0 too many failed logins, goodbye\r\n"
        assert await client.reader.read() == b""


class Away(Directory):
    """A directory whose database does not answer."""

    async def login(self, name: str) -> Login | None:
        raise UnavailableError("the server is starting")


async def test_logins_that_cannot_be_checked(context: Context, account: Person, certificate: Issued) -> None:
    """A login that the database cannot answer for now is put off, not refused, and is no failed one."""
    away = Away(context.pool, context.changes)
    tls = ssl.create_default_context(cafile=str(certificate.authority))
    async with (
        serving(replace(context, directory=away)) as endpoints,
        await Client.connect(endpoints["submissions"], tls) as client,
    ):
        await client.greeted()
        for _ in range(6):
            answer = await client.exchange(b"PLAIN", plain(account.login))
            assert answer == b"454 4.7.0 logins cannot be checked now, try again later\r\n"
    away.close()


async def test_no_certificate(context: Context) -> None:
    """Without a certificate there is no submission at all, rather than one that nobody can log in to."""
    async with serving(replace(context, tls=None)) as endpoints:
        assert {"smtp", "lmtp"} == endpoints.keys()
