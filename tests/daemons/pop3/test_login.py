"""POP3 logins: in the clear and in TLS, with USER and PASS and with AUTH, refused and limited."""

import asyncio
import base64
import poplib
import ssl

import msgspec
import pytest

from config.settings import Settings
from config.units import Seconds
from daemons.certificates import Issued
from daemons.context import open_context
from tests.conftest import Person
from tests.daemons.pop3.conftest import Stage, staged, with_pop3

FAILED = b"-ERR [AUTH] authentication failed"
NEEDS_TLS = b"-ERR [AUTH] clear-text authentication needs TLS: send STLS first"


def plain(authcid: str, password: str, authzid: str = "") -> str:
    return base64.b64encode(f"{authzid}\0{authcid}\0{password}".encode()).decode()


async def capabilities(stage: Stage, *, secure: bool, person: Person | None = None) -> set[bytes]:
    async with stage.client(secure=secure) as client:
        if person:
            await client.login(person)
        assert (await client.ask("CAPA"))[0] == b"+OK"
        return set(await client.lines())


async def test_capabilities(stage: Stage, account: Person) -> None:
    """CAPA tells what works now: STLS in the clear only, logins in TLS only, the implementation after the login."""
    always = {b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"UTF8 USER", b"LANG"}
    always |= {b"LOGIN-DELAY 0", b"EXPIRE NEVER"}
    mechanisms = b"SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"
    assert await capabilities(stage, secure=False) == always | {b"STLS"}
    assert await capabilities(stage, secure=True) == always | {b"USER", mechanisms}
    logged_in = await capabilities(stage, secure=True, person=account)
    assert logged_in == always | {b"USER", mechanisms, b"IMPLEMENTATION Postwerk"}


async def test_no_clear_text_login_without_tls(stage: Stage, account: Person) -> None:
    """Without TLS a name or an AUTH is refused, with a code that tells why; a right password changes nothing."""
    async with stage.client(secure=False) as client:
        assert await client.ask(f"USER {account.login}") == [NEEDS_TLS]
        assert await client.ask(f"AUTH PLAIN {plain(account.login, account.password)}") == [NEEDS_TLS]
        assert await client.ask("AUTH PLAIN") == [NEEDS_TLS]
        assert await client.ask("STAT") == [b"-ERR not allowed in this state"]


async def test_clear_text_login_where_it_is_allowed(settings: Settings, account: Person, certificate: Issued) -> None:
    """With cleartext_authentication the login works without TLS, and CAPA says so."""
    allowing = with_pop3(settings, cleartext_authentication=True)
    async with open_context(allowing) as context, staged(context, str(certificate.authority)) as stage:
        offered = await capabilities(stage, secure=False)
        assert {b"USER", b"SASL SCRAM-SHA-256 PLAIN LOGIN", b"STLS"} <= offered
        async with stage.client(secure=False) as client:
            assert (await client.login(account))[1] == b"+OK 0 messages (0 octets)"


async def test_stls(stage: Stage, account: Person) -> None:
    """STLS leads to a TLS connection in which the login works, and is then offered no more."""

    def run() -> tuple[int, int]:
        client = poplib.POP3("127.0.0.1", stage.port, timeout=20)
        assert "STLS" in client.capa()
        client.stls(stage.tls)
        assert "STLS" not in client.capa()
        with pytest.raises(poplib.error_proto, match="TLS cannot be started"):
            client._shortcmd("STLS")  # type: ignore[attr-defined]
        client.user(account.login)
        client.pass_(account.password)
        found = client.stat()
        client.quit()
        return found

    assert await asyncio.to_thread(run) == (0, 0)


async def test_what_comes_behind_stls_is_dropped(stage: Stage, account: Person) -> None:
    """Commands that were sent in the clear behind STLS are not executed after the handshake (CVE-2011-0411)."""
    async with stage.client(secure=False) as client:
        client.say("STLS", "NOOP", "QUIT")
        assert await client.line() == b"+OK begin TLS"
        await client.writer.start_tls(stage.tls, server_hostname="127.0.0.1")
        assert (await client.login(account))[1] == b"+OK 0 messages (0 octets)"


async def test_auth_plain(stage: Stage, account: Person) -> None:
    """AUTH PLAIN works with an initial response and with a challenge, in any case of the login."""
    async with stage.client() as client:
        (reply,) = await client.ask(f"AUTH PLAIN {plain(account.login.upper(), account.password)}")
        assert reply == b"+OK 0 messages (0 octets)"
    async with stage.client() as client:
        assert await client.ask("AUTH PLAIN") == [b"+ "]
        assert await client.ask(plain(account.login, account.password, authzid=account.login)) == [
            b"+OK 0 messages (0 octets)"
        ]


async def test_auth_errors(stage: Stage, account: Person) -> None:
    """Bad base64, a bad message, a cancellation and an unknown mechanism are refused, and the session goes on."""
    async with stage.client() as client:
        assert await client.ask("AUTH PLAIN a=b") == [b"-ERR expected base64"]
        assert await client.ask("AUTH PLAIN =") == [b"-ERR expected [authzid] NUL authcid NUL password"]
        assert await client.ask("AUTH CRAM-MD5") == [b"-ERR unknown mechanism"]
        assert await client.ask("AUTH PLAIN", "*") == [b"+ ", b"-ERR authentication cancelled"]
        assert (await client.login(account))[1].startswith(b"+OK")


async def test_nobody_acts_as_somebody_else(stage: Stage, account: Person) -> None:
    """An authorization identity that is not one's own is refused like a wrong password."""
    async with stage.client() as client:
        response = plain(account.login, account.password, authzid="bob@example.test")
        assert await client.ask(f"AUTH PLAIN {response}") == [FAILED]


async def test_unknown_and_wrong_look_alike(settings: Settings, account: Person, certificate: Issued) -> None:
    """USER is welcome whoever it is, and an unknown login fails with the words of a wrong password."""
    trusting = with_trust(settings)
    async with open_context(trusting) as context, staged(context, str(certificate.authority)) as stage:
        for login in (account.login, "nobody@example.test", "nobody"):
            async with stage.client() as client:
                assert await client.ask(f"USER {login}", "PASS wrong") == [b"+OK send PASS", FAILED]


def with_trust(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, trusted_networks=["127.0.0.0/8"])


async def test_failed_logins_end_the_connection(settings: Settings, account: Person, certificate: Issued) -> None:
    """After three failed logins the connection is closed."""
    async with (
        open_context(with_trust(settings)) as context,
        staged(context, str(certificate.authority)) as stage,
        stage.client() as client,
    ):
        for _ in range(3):
            assert (await client.ask(f"USER {account.login}", "PASS wrong"))[1] == FAILED
        assert await client.at_end()


async def test_nonsense_ends_the_connection(stage: Stage) -> None:
    """After twenty lines that are no command the connection is closed."""
    async with stage.client() as client:
        replies = await client.ask(*["GET / HTTP/1.1"] * 20)
        assert replies == [b"-ERR unknown command"] * 19 + [b"-ERR too many errors, closing"]
        assert await client.at_end()


async def test_silence_ends_the_session_without_a_word(
    settings: Settings, account: Person, certificate: Issued
) -> None:
    """A silent client is disconnected without a reply, before the login and after it, and loses no mail (RFC 1939 §3)."""
    hasty = with_pop3(settings, login_timeout=Seconds(3), idle_timeout=Seconds(0.05))
    async with open_context(hasty) as context, staged(context, str(certificate.authority)) as stage:
        await stage.deliver(account, b"Subject: x\r\n\r\n")
        async with stage.client() as client:
            assert await client.at_end()
        async with stage.client() as client:
            client.say(f"USER {account.login}", f"PASS {account.password}", "DELE 1")
            assert [(await client.line())[:3] for _ in range(3)] == [b"+OK"] * 3
            assert await client.at_end()
        assert await stage.message_count(account) == 1


async def test_the_certificate_is_verified(stage: Stage) -> None:
    """The client's own check of our certificate passes with our CA and fails without it."""
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", stage.tls_port, ssl=ssl.create_default_context())
