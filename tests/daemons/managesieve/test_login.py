"""ManageSieve logins: in TLS only, with every mechanism that is offered, refused, limited, and taken back."""

import base64

from config.settings import Settings
from config.units import Seconds
from daemons.authentication import passwords
from daemons.certificates import Issued
from storage import credentials
from tests.conftest import Owner, Person
from tests.daemons.managesieve.conftest import KEEP, Stage, literal, opened, plain, told, with_managesieve

FAILED = b'NO "authentication failed"'
NOT_NOW = b'NO "not allowed in this state"'


def quoted(octets: bytes) -> bytes:
    return b'"' + base64.b64encode(octets) + b'"'


async def test_no_login_without_tls(stage: Stage, account: Person) -> None:
    """In the clear no mechanism is offered, and one is refused with a code that tells why."""
    needs_tls = b'NO (ENCRYPT-NEEDED) "authentication needs TLS: send STARTTLS first"'
    async with stage.stranger() as client:
        assert (await client.capabilities())["SASL"] == ""
        assert await client.login(account) == needs_tls
        assert await client.status(b'AUTHENTICATE "PLAIN"') == needs_tls
        assert await client.ask(b"LISTSCRIPTS") == [NOT_NOW]


async def test_clear_text_login_where_it_is_allowed(settings: Settings, account: Person, certificate: Issued) -> None:
    """With cleartext_authentication the login works without TLS, and the capabilities say so."""
    allowing = with_managesieve(settings, cleartext_authentication=True)
    async with opened(allowing, certificate) as stage, stage.stranger() as client:
        assert (await client.capabilities())["SASL"] == "SCRAM-SHA-256 PLAIN LOGIN"
        assert await client.login(account) == b"OK"


async def test_starttls(stage: Stage, account: Person) -> None:
    """Behind the handshake the capabilities come unasked, with mechanisms and without STARTTLS (RFC 5804 §2.2)."""
    async with stage.stranger() as client:
        assert "STARTTLS" in await client.capabilities()
        behind = told(await client.start_tls(stage.tls))
        assert behind["SASL"] == "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"
        assert "STARTTLS" not in behind
        assert behind == await client.capabilities()
        assert await client.status(b"STARTTLS") == b'NO "TLS cannot be started"'
        assert await client.login(account) == b"OK"
        assert await client.status(b"STARTTLS") == NOT_NOW


async def test_what_comes_behind_starttls_is_dropped(stage: Stage, account: Person) -> None:
    """Commands that were sent in the clear behind STARTTLS are not executed after the handshake (CVE-2011-0411)."""
    async with stage.stranger() as client:
        client.say(b"STARTTLS", b'NOOP "injected"', b"LOGOUT")
        assert await client.line() == b'OK "begin TLS"'
        await client.writer.start_tls(stage.tls, server_hostname="127.0.0.1")
        assert "SASL" in told(await client.answer())
        assert await client.login(account) == b"OK"


async def test_plain(stage: Stage, account: Person) -> None:
    """AUTHENTICATE PLAIN works with an initial response and with a challenge, quoted and as a literal."""
    message = plain(account.login.upper(), account.password)
    for command in (b'"PLAIN" "' + message + b'"', b'"plain" ' + literal(message), b"PLAIN " + message):
        async with stage.client() as client:
            assert await client.status(b"Authenticate " + command) == b"OK"
    for answer in (b'"' + message + b'"', literal(message), message):
        async with stage.client() as client:
            client.say(b'AUTHENTICATE "PLAIN"')
            assert await client.line() == b'""'
            assert await client.status(answer) == b"OK"


async def test_login(stage: Stage, account: Person) -> None:
    """LOGIN, which is obsolete, asks for the name and the password."""
    async with stage.client() as client:
        client.say(b'AUTHENTICATE "LOGIN"')
        assert await client.line() == quoted(b"Username:")
        client.say(quoted(account.login.encode()))
        assert await client.line() == quoted(b"Password:")
        assert await client.status(quoted(account.password.encode())) == b"OK"


async def test_errors(stage: Stage, account: Person) -> None:
    """Bad base64, a bad message, a cancellation and an unknown mechanism are refused, and the session goes on."""
    async with stage.client() as client:
        assert await client.status(b'AUTHENTICATE "PLAIN" "a=b"') == b'NO "expected base64"'
        assert await client.status(b'AUTHENTICATE "PLAIN" ""') == b'NO "expected [authzid] NUL authcid NUL password"'
        assert await client.status(b'AUTHENTICATE "DIGEST-MD5"') == b'NO "unknown mechanism"'
        for cancelling in (b'"*"', b"*"):
            client.say(b'AUTHENTICATE "PLAIN"')
            assert await client.line() == b'""'
            assert await client.status(cancelling) == b'NO "authentication cancelled"'
        client.say(b'AUTHENTICATE "PLAIN"')
        assert await client.line() == b'""'
        assert await client.status(b'"one" "two"') == b'NO "expected a string in base64"'
        assert await client.login(account) == b"OK"
        assert await client.login(account) == NOT_NOW


async def test_nobody_acts_as_somebody_else(stage: Stage, account: Person) -> None:
    """An authorization identity that is not one's own is refused like a wrong password."""
    async with stage.client() as client:
        message = plain(account.login, account.password, authzid="bob@example.test")
        assert await client.status(b'AUTHENTICATE "PLAIN" "' + message + b'"') == FAILED


async def test_guessing_ends_the_session(stage: Stage, account: Person) -> None:
    """The third failed login of a connection is answered with BYE."""
    wrong = b'AUTHENTICATE "PLAIN" "' + plain(account.login, "wrong") + b'"'
    async with stage.client() as client:
        assert [await client.status(wrong) for _ in range(2)] == [FAILED] * 2
        assert await client.status(wrong) == b'BYE "too many failed logins"'
        assert await client.at_end()


async def test_app_passwords_need_the_scope(stage: Stage, account: Person, owner: Owner) -> None:
    """An app password for mail programs does not open the scripts; one with the scope sieve does."""

    async def made(label: str, scope: str) -> Person:
        password = passwords.new_app_password()
        secret = await credentials.salt_secret(owner)
        keys = bytes(passwords.verifier_of(password, secret, account.login).keys)
        digest = passwords.app_password_digest(password)
        await credentials.add_app_password(
            owner, account.account_id, label, digest, keys, scopes=[scope], networks=[], expires_at=None, limit=9
        )
        return Person(account.tenant_id, account.account_id, account.login, password)

    mail, scripts = await made("phone", "imap"), await made("editor", "sieve")
    async with stage.client() as client:
        assert await client.login(mail) == FAILED
        assert await client.login(scripts) == b"OK"


async def test_unauthenticate(stage: Stage, account: Person) -> None:
    """UNAUTHENTICATE leads back to before the login, in TLS, and somebody may log in again (RFC 5804 §2.14.1)."""
    async with stage.client(account) as client:
        await client.put("a", KEEP)
        assert await client.status(b"UNAUTHENTICATE arg") == b'NO "expected no argument"'
        assert await client.status(b"UNAUTHENTICATE") == b"OK"
        assert await client.status(b"UNAUTHENTICATE") == NOT_NOW
        assert await client.ask(b"LISTSCRIPTS") == [NOT_NOW]
        assert "OWNER" not in await client.capabilities()
        assert await client.login(account) == b"OK"
        assert await client.ask(b"LISTSCRIPTS") == [b'"a"', b"OK"]


async def test_silence(settings: Settings, account: Person, certificate: Issued) -> None:
    """Who does not log in in time, or says nothing after it, is told BYE."""
    closing = b'BYE "closing: nothing was said for too long"'
    hasty = with_managesieve(settings, login_timeout=Seconds(0))
    async with opened(hasty, certificate) as stage, stage.stranger() as client:
        assert await client.line() == closing
        assert await client.at_end()
    hasty = with_managesieve(settings, idle_timeout=Seconds(0))
    async with opened(hasty, certificate) as stage, stage.client(account) as client:
        assert await client.line() == closing
        assert await client.at_end()
