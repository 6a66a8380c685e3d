"""What CAPA says is tested: one test for each capability, found by the name in its mark."""

import asyncio
import base64
import json
import poplib
from pathlib import Path

import asyncpg
import msgspec
import pytest

from config.settings import Settings
from config.units import Seconds
from daemons.certificates import Issued
from daemons.context import open_context
from daemons.keeper.service import Keeper
from protocol import sasl
from protocol.pop3 import texts
from storage import policies
from storage.policies import Fetches
from storage.pool import Pool
from tests.conftest import Person, add_person
from tests.daemons.issuer import issuing, with_issuer
from tests.daemons.pop3.conftest import Client, Stage, staged, with_pop3
from tests.daemons.proofs import Proofs

proves = Proofs[str]()
EARLY = b"-ERR [LOGIN-DELAY] log in again in "
INTERNATIONAL = "From: jürgen@größe.example\r\nSubject: Grüße\r\n\r\nSchöne Grüße\r\n".encode()


async def capabilities(client: Client) -> list[str]:
    assert (await client.ask("CAPA"))[0] == b"+OK"
    return [line.decode() for line in await client.lines()]


async def logged_in(client: Client, person: Person) -> bytes:
    return (await client.login(person))[1]


def delaying(settings: Settings, seconds: float) -> Settings:
    return with_pop3(settings, login_delay=Seconds(seconds))


async def age(owner: "asyncpg.Connection[asyncpg.Record]", person: Person, seconds: float) -> None:
    """Let the account's last login have been so long ago."""
    await owner.execute(
        "UPDATE account SET pop3_login_at = clock_timestamp() - make_interval(secs => $2) WHERE account_id = $1",
        person.account_id, seconds,
    )  # fmt: skip


async def test_every_capability_has_a_test(stage: Stage, account: Person) -> None:
    """A capability that is told in any state is the mark of a test in this file, and every mark is told somewhere."""
    told: set[str] = set()
    for secure in (False, True):
        async with stage.client(secure=secure) as client:
            told |= set(await capabilities(client))
            if secure:
                await logged_in(client, account)
                told |= set(await capabilities(client))
    assert {line.partition(" ")[0] for line in told} == proves.tests.keys()


@proves("TOP")
async def test_top(stage: Stage, account: Person) -> None:
    """TOP gives the header, the empty line and so many lines of the body (RFC 1939 §7)."""
    await stage.deliver(account, b"A: b\r\n\r\n.one\r\ntwo\r\nthree\r\n")
    async with stage.client() as client:
        await logged_in(client, account)
        for lines, body in ((0, []), (1, [b".one"]), (9, [b".one", b"two", b"three"])):
            assert await client.ask(f"TOP 1 {lines}") == [b"+OK"]
            assert await client.lines() == [b"A: b", b"", *body]


@proves("UIDL")
async def test_uidl(stage: Stage, account: Person) -> None:
    """Unique-ids stay the same from session to session, whatever goes away, and come one by one as well (RFC 1939 §7)."""
    await stage.deliver(account, *(b"A: %d\r\n\r\n" % number for number in range(3)))
    first = await stage.poplib(account, lambda client: [*client.uidl()[1], client.dele(1)][:3])
    after = await stage.poplib(account, lambda client: client.uidl()[1])
    assert [line.split()[1] for line in after] == [line.split()[1] for line in first[1:]]
    async with stage.client() as client:
        await logged_in(client, account)
        assert await client.ask("UIDL 2") == [b"+OK " + after[1]]


@proves("USER")
async def test_user(stage: Stage, account: Person) -> None:
    """USER and PASS log in (RFC 1939 §7)."""
    async with stage.client() as client:
        assert await client.login(account) == [b"+OK send PASS", b"+OK 0 messages (0 octets)"]


async def exchanged(client: Client, name: str, mechanism: sasl.ClientMechanism) -> bytes:
    """The reply to the last step of an exchange in which the server begins."""
    (reply,) = await client.ask(f"AUTH {name}")
    while reply.startswith(b"+ "):
        challenge = base64.b64decode(reply[2:]) or None
        (reply,) = await client.ask(base64.b64encode(mechanism.respond(challenge)).decode())
    return reply


@proves("SASL")
async def test_sasl(stage: Stage, account: Person) -> None:
    """Every mechanism that is named works, PLAIN also with an initial response (RFC 5034)."""
    async with stage.client() as client:
        (named,) = [line.split()[1:] for line in await capabilities(client) if line.startswith("SASL ")]
        await logged_in(client, account)  # once with the password: SCRAM's verifier is made of it
    await stage.service.authenticator.ledger.settle()
    stage.context.directory.clear()
    assert named == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]
    for name in named:
        async with stage.client() as client:
            mechanism = client.mechanism(name, account)
            assert await exchanged(client, name, mechanism) == b"+OK 0 messages (0 octets)", name
    async with stage.client() as client:
        initial = base64.b64encode(f"\0{account.login}\0{account.password}".encode()).decode()
        assert await client.ask(f"AUTH PLAIN {initial}") == [b"+OK 0 messages (0 octets)"]


async def test_sasl_with_tokens(settings: Settings, account: Person, certificate: Issued) -> None:
    """Where an issuer is trusted its tokens log in, and a bad one is told where to get a better one (RFC 7628 §3.2.2)."""
    async with issuing(certificate, Path(settings.state)) as stub:
        trusting = with_issuer(settings, stub.settings(scope="mail"))
        async with open_context(trusting) as context, staged(context, str(certificate.authority)) as stage:
            async with stage.client() as client:
                (named,) = [line.split()[1:] for line in await capabilities(client) if line.startswith("SASL ")]
                refused = sasl.OauthBearerClient(stub.token(exp=1), authzid=account.login)
                assert (await exchanged(client, "OAUTHBEARER", refused)).startswith(b"-ERR [AUTH] ")
                assert json.loads(refused.refusal)["scope"] == "mail"
            assert {"OAUTHBEARER", "XOAUTH2"} <= set(named)
            token = stub.token(scope="mail")
            taken: list[sasl.ClientMechanism] = [sasl.OauthBearerClient(token, authzid=account.login)]
            taken.append(sasl.Xoauth2Client(account.login, token))
            for name, mechanism in zip(("OAUTHBEARER", "XOAUTH2"), taken, strict=True):
                async with stage.client() as client:
                    assert await exchanged(client, name, mechanism) == b"+OK 0 messages (0 octets)", name


@proves("STLS")
async def test_stls(stage: Stage, account: Person) -> None:
    """STLS begins TLS, in which it is not offered again and the login works (RFC 2595 §4)."""

    def run() -> str:
        client = poplib.POP3("127.0.0.1", stage.port, timeout=20)
        assert "STLS" in client.capa()
        client.stls(stage.tls)
        assert "STLS" not in client.capa()
        client.user(account.login)
        client.pass_(account.password)
        return client.quit().decode()

    assert await asyncio.to_thread(run) == "+OK bye"


@proves("RESP-CODES")
async def test_resp_codes(stage: Stage, account: Person) -> None:
    """A maildrop that another session has is refused with its code, and no other text begins with "[" (RFC 2449 §8)."""
    await stage.deliver(account, b"A: b\r\n\r\n")
    async with stage.client() as first, stage.client() as second:
        await logged_in(first, account)
        assert await logged_in(second, account) == b"-ERR [IN-USE] another session has this maildrop"
    assert not any(version.startswith("[") for text in texts.Text for version in text.value)


@proves("AUTH-RESP-CODE")
async def test_auth_resp_code(stage: Stage, account: Person) -> None:
    """A login whose credentials are at fault says so; one that the server could not judge does not (RFC 3206 §4)."""
    async with stage.client() as client:
        assert await client.ask(f"USER {account.login}", "PASS wrong") == [
            b"+OK send PASS",
            b"-ERR [AUTH] authentication failed",
        ]


@proves("PIPELINING")
async def test_pipelining(stage: Stage, account: Person) -> None:
    """Commands that are sent at once are answered in order, each by its own reply (RFC 2449 §6.8)."""
    await stage.deliver(account, b"A: b\r\n\r\nx\r\n")
    async with stage.client() as client:
        client.say(f"USER {account.login}", f"PASS {account.password}", "STAT", "RETR 1", "DELE 1", "DELE 1", "QUIT")
        replies = [await client.line() for _ in range(4)]
        assert [reply[:4] for reply in replies] == [b"+OK "] * 4
        assert await client.lines() == [b"A: b", b"", b"x"]
        assert [(await client.line())[:4] for _ in range(3)] == [b"+OK ", b"-ERR", b"+OK "]
        assert await client.at_end()


@proves("IMPLEMENTATION")
async def test_implementation(stage: Stage, account: Person) -> None:
    """The implementation is named to users, not to strangers (RFC 2449 §6.9)."""
    async with stage.client() as client:
        assert "IMPLEMENTATION Postwerk" not in await capabilities(client)
        await logged_in(client, account)
        assert "IMPLEMENTATION Postwerk" in await capabilities(client)


# -- LOGIN-DELAY ----------------------------------------------------------------------------------------------------


@proves("LOGIN-DELAY")
async def test_login_delay(
    settings: Settings, account: Person, certificate: Issued, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A login within ten seconds of the one before is refused, in every process; the refusal prolongs nothing."""
    ca, patient = str(certificate.authority), delaying(settings, 10)
    async with (
        open_context(patient) as one,
        open_context(patient) as two,
        staged(one, ca) as here,
        staged(two, ca) as there,
    ):
        async with here.client() as client:
            assert "LOGIN-DELAY 10" in await capabilities(client)
            assert (await logged_in(client, account)).startswith(b"+OK ")
        for stage in (here, there):
            async with stage.client() as client:
                assert (await logged_in(client, account)).startswith(EARLY)
                assert await client.ask("STAT") == [b"-ERR not allowed in this state"]
        await age(owner, account, 9)
        async with there.client() as client:
            assert await logged_in(client, account) == b"-ERR [LOGIN-DELAY] log in again in 1 s"
        await age(owner, account, 10)
        async with there.client() as client:
            assert (await logged_in(client, account)).startswith(b"+OK ")


def test_ten_seconds_by_default() -> None:
    """The delay is ten seconds where nobody says otherwise."""
    assert float(Settings().pop3.login_delay) == 10.0


async def test_a_wrong_password_tells_nothing_of_the_delay(
    settings: Settings, account: Person, certificate: Issued
) -> None:
    """Only who knows the password learns that the account has just logged in."""
    async with (
        open_context(delaying(settings, 10)) as context,
        staged(context, str(certificate.authority)) as stage,
        stage.client() as client,
        stage.client() as other,
    ):
        await logged_in(client, account)
        assert (await other.ask(f"USER {account.login}", "PASS wrong"))[1] == b"-ERR [AUTH] authentication failed"
        assert (await logged_in(other, account)).startswith(EARLY)


async def test_a_busy_maildrop_is_told_first_and_counts_no_login(
    settings: Settings, account: Person, certificate: Issued, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """While another session has the maildrop the code is IN-USE, and such an attempt does not start the delay anew."""
    async with (
        open_context(delaying(settings, 10)) as context,
        staged(context, str(certificate.authority)) as stage,
        stage.client() as client,
    ):
        await stage.deliver(account, b"A: b\r\n\r\n")
        await logged_in(client, account)
        await age(owner, account, 60)
        async with stage.client() as other:
            assert (await logged_in(other, account)).startswith(b"-ERR [IN-USE] ")
        await client.ask("QUIT")
        async with stage.client() as other:
            assert (await logged_in(other, account)).startswith(b"+OK 1 ")


async def test_a_refused_login_leaves_no_lock(
    settings: Settings, account: Person, certificate: Issued, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A maildrop with messages that was asked for too early is free afterwards."""
    async with open_context(delaying(settings, 10)) as context, staged(context, str(certificate.authority)) as stage:
        await stage.deliver(account, b"A: b\r\n\r\n")
        await age(owner, account, 1)
        async with stage.client() as client:
            assert (await logged_in(client, account)).startswith(EARLY)
        assert await owner.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1") == 0
        assert stage.service.maildrops.held_count == 0


async def test_trusted_networks_do_not_wait(settings: Settings, account: Person, certificate: Issued) -> None:
    """Whoever comes from a trusted network may log in as often as it likes, and starts no delay for others."""
    trusting = msgspec.structs.replace(delaying(settings, 10), trusted_networks=["127.0.0.0/8"])
    async with open_context(trusting) as context, staged(context, str(certificate.authority)) as stage:
        for _ in range(2):
            async with stage.client() as client:
                assert (await logged_in(client, account)).startswith(b"+OK ")
                assert "LOGIN-DELAY 0" in await capabilities(client)


async def test_a_policy_of_ones_own(
    settings: Settings, account: Person, certificate: Issued, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """One account may have another delay; strangers are told the longest, users their own (RFC 2449 §6.5)."""
    bob = await add_person(settings, owner, "bob@example.test")
    await policies.set_policy(owner, bob.login, login_delay_seconds=60, expire_days=None)
    await policies.set_policy(owner, account.login, login_delay_seconds=0, expire_days=None)
    async with open_context(delaying(settings, 10)) as context, staged(context, str(certificate.authority)) as stage:
        for person, delay, again in ((account, 0, b"+OK "), (bob, 60, EARLY)):
            async with stage.client() as client:
                assert "LOGIN-DELAY 60 USER" in await capabilities(client)
                await logged_in(client, person)
                assert f"LOGIN-DELAY {delay}" in await capabilities(client)
            async with stage.client() as client:
                assert (await logged_in(client, person)).startswith(again)


async def test_two_logins_at_once(settings: Settings, account: Person, certificate: Issued) -> None:
    """Of two logins at the same moment in two processes, one gets in."""
    ca, patient = str(certificate.authority), delaying(settings, 10)
    async with (
        open_context(patient) as one,
        open_context(patient) as two,
        staged(one, ca) as here,
        staged(two, ca) as there,
        here.client() as first,
        there.client() as second,
    ):
        replies = await asyncio.gather(logged_in(first, account), logged_in(second, account))
        assert sorted(reply[:3] for reply in replies) == [b"+OK", b"-ER"]


# -- EXPIRE ---------------------------------------------------------------------------------------------------------


@proves("EXPIRE")
async def test_expire(stage: Stage, account: Person, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What CAPA says is what the keeper does: nothing goes by default, by policy what is older than its days."""
    await stage.deliver(account, b"A: old\r\n\r\n", b"A: new\r\n\r\n")
    await owner.execute("UPDATE message SET savedate = now() - interval '31 days' WHERE uid = 1")
    keeper = Keeper(stage.context.settings.keeper, Path("/nonexistent"))
    assert (await keeper.round(owner, asyncio.Event())).expired == 0
    async with stage.client() as client:
        assert "EXPIRE NEVER" in await capabilities(client)
        await policies.set_policy(owner, account.login, login_delay_seconds=None, expire_days=30)
        await logged_in(client, account)
        assert "EXPIRE 30" in await capabilities(client)
    async with stage.client() as client:
        async with asyncio.timeout(30):
            while "EXPIRE 30 USER" not in await capabilities(client):  # the notification is on its way
                await asyncio.sleep(0)
    assert (await keeper.round(owner, asyncio.Event())).expired == 1
    assert await stage.poplib(account, lambda client: client.top(1, 0)[1]) == [b"A: new", b""]


async def test_expire_zero(stage: Stage, account: Person, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """EXPIRE 0: what was retrieved is removed at QUIT, what was only looked at stays, and so does all without QUIT."""
    await policies.set_policy(owner, account.login, login_delay_seconds=None, expire_days=0)
    await stage.deliver(account, *(b"A: %d\r\n\r\n" % number for number in range(3)))
    async with stage.client() as client:
        await logged_in(client, account)
        assert "EXPIRE 0" in await capabilities(client)
        await client.ask("RETR 1")
    async with asyncio.timeout(30):
        while stage.service.maildrops.held_count:
            await asyncio.sleep(0)
    await stage.poplib(account, lambda client: (client.retr(2), client.top(1, 1)))
    assert await stage.poplib(account, lambda client: [client.top(n, 0)[1][0] for n in (1, 2)]) == [b"A: 0", b"A: 2"]


# -- UTF8 and LANG --------------------------------------------------------------------------------------------------


@proves("UTF8")
async def test_utf8(
    stage: Stage, settings: Settings, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """UTF8 gives internationalised messages as they are, and logins may be in UTF-8 (RFC 6856 §2)."""
    bob = await add_person(settings, owner, "jürgen@example.test")
    await stage.deliver(bob, INTERNATIONAL)
    async with stage.client() as client:
        assert await client.ask("UTF8") == [b"+OK UTF-8 from now on"]
        assert (await logged_in(client, bob)).startswith(b"+OK 1 ")
        assert await client.ask("RETR 1") == [b"+OK %d octets" % len(INTERNATIONAL)]
        assert await client.lines() == INTERNATIONAL.split(b"\r\n")[:-1]
        assert await client.ask("UTF8") == [b"-ERR not allowed in this state"]
    async with stage.client(secure=False) as client:
        await client.ask("UTF8")
        assert await client.ask("STLS") == [b"-ERR TLS cannot be started"]
        assert "STLS" not in await capabilities(client)


@pytest.mark.parametrize("padding", [0, 300 * 1024], ids=["small", "streamed"])
async def test_without_utf8(stage: Stage, account: Person, padding: int) -> None:
    """Where so configured, its headers come in ASCII without UTF8, its body as it is (RFC 6856 §1.2, RFC 6858)."""
    line = "ö" * 30 + "\r\n"
    message = INTERNATIONAL + (line * (padding // len(line.encode()))).encode()
    await stage.deliver(account, message, head=b"Return-Path: <>\r\n")
    async with stage.client() as client:
        await logged_in(client, account)
        await client.ask("RETR 1")
        lines = await client.lines()
        assert lines[:4] == [
            b"Return-Path: <>",
            b"From: =?utf-8?b?asO8cmdlbkBncsO2w59lLmV4YW1wbGU=?= <invalid@internationalized-address.invalid>",
            b"Subject: =?utf-8?b?R3LDvMOfZQ==?=",
            b"",
        ]
        assert b"\r\n".join(lines[4:]) + b"\r\n" == message.partition(b"\r\n\r\n")[2]
        await client.ask("TOP 1 1")
        assert await client.lines() == lines[:5]


@proves("LANG")
async def test_lang(stage: Stage, account: Person) -> None:
    """LANG lists the languages and speaks the one asked for; "*" is the tenant's after the login (RFC 6856 §3)."""
    async with stage.client() as client:
        assert await client.ask("LANG") == [b"+OK languages follow"]
        assert await client.lines() == [b"de Deutsch", b"en English"]
        assert await client.ask("LANG de-AT", "STAT") == [
            b"+OK de Antworten kommen jetzt auf Deutsch",
            b"-ERR in diesem Zustand nicht erlaubt",
        ]
        assert await client.ask("LANG tlh") == [b"-ERR diese Sprache gibt es hier nicht"]
        assert await client.ask("LANG en") == [b"+OK en replies are in English now"]
        assert await logged_in(client, account) == b"+OK 0 messages (0 octets)"
        assert await client.ask("LANG *") == [b"+OK de Antworten kommen jetzt auf Deutsch"]
        assert await client.ask("QUIT") == [b"+OK auf Wiedersehen"]


# -- inactivity -----------------------------------------------------------------------------------------------------


async def test_last_fetch_at_is_kept(
    stage: Stage, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A login says that mail is still fetched, whether or not there is any."""
    asked = "SELECT last_fetch_at > now() - interval '1 minute' FROM account WHERE account_id = $1"
    assert await owner.fetchval(asked, account.account_id) is None
    await stage.poplib(account, lambda client: client.stat())
    assert await owner.fetchval(asked, account.account_id) is True


async def test_fetches_are_noted_once_an_hour(
    pool: Pool, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Whoever fetches all the time costs one statement an hour."""
    time = 0.0
    fetches = Fetches(pool, clock=lambda: time)
    asked = "SELECT last_fetch_at FROM account WHERE account_id = $1"
    await fetches.note(account.account_id)
    assert await owner.fetchval(asked, account.account_id) is not None
    await owner.execute("UPDATE account SET last_fetch_at = NULL")
    time = 3599.0
    await fetches.note(account.account_id)
    assert await owner.fetchval(asked, account.account_id) is None
    time = 3600.0
    await fetches.note(account.account_id)
    assert await owner.fetchval(asked, account.account_id) is not None
