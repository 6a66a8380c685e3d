"""What CAPABILITY says is tested: one test for each capability, found by the name in its mark."""

import base64

import msgspec
import pytest

from config.settings import Settings
from config.sieve import Sieve
from daemons.certificates import Issued
from protocol import sasl
from protocol.sieve.language import CAPABILITIES
from tests.conftest import Person
from tests.daemons.managesieve.conftest import KEEP, Client, Stage, literal, opened, told
from tests.daemons.proofs import Proofs

proves = Proofs[str]()


async def test_every_capability_has_a_test(stage: Stage, account: Person) -> None:
    """A capability that is told in any state is the mark of a test in this file, and every mark is told somewhere."""
    names: set[str] = set()
    async with stage.stranger() as client:
        names |= set(await client.capabilities())
        names |= set(told(await client.start_tls(stage.tls)))
        await client.login(account)
        names |= set(await client.capabilities())
    assert names == proves.tests.keys()


@proves("IMPLEMENTATION")
async def test_implementation(stage: Stage) -> None:
    """The implementation is named without its version, and in the greeting as well (RFC 5804 §1.7)."""
    async with stage.stranger() as client:
        assert (await client.capabilities())["IMPLEMENTATION"] == "Postwerk"


@proves("VERSION")
async def test_version(stage: Stage, account: Person) -> None:
    """Version 1.0 has RENAMESCRIPT, CHECKSCRIPT and NOOP (RFC 5804 §1.7)."""
    async with stage.client(account) as client:
        assert (await client.capabilities())["VERSION"] == "1.0"
        await client.put("a", KEEP)
        assert await client.status(b'RENAMESCRIPT "a" "b"') == b"OK"
        assert await client.status(b"CHECKSCRIPT " + literal(KEEP)) == b"OK"
        assert await client.status(b"NOOP") == b'OK "NOOP completed"'
        assert await client.status(b'NOOP "sync \\"1\\""') == b'OK (TAG "sync \\"1\\"") "done"'
        assert await client.status(b"NOOP {4+}\r\na\r\nb") == b'OK (TAG {4}\r\na\r\nb) "done"'


async def exchanged(client: Client, name: str, mechanism: sasl.ClientMechanism) -> bytes:
    """The reply to the last step of an exchange in which the server begins."""
    client.say(f'AUTHENTICATE "{name}"'.encode())
    while (line := await client.line()).startswith(b'"'):
        challenge = base64.b64decode(line.strip(b'"')) or None
        client.say(b'"' + base64.b64encode(mechanism.respond(challenge)) + b'"')
    return line


@proves("SASL")
async def test_sasl(stage: Stage, account: Person) -> None:
    """Every mechanism that is named works. SCRAM's proof of the server comes with the OK (RFC 5804 §2.1)."""
    async with stage.client(account) as client:  # once with the password: SCRAM's verifier is made of it
        named = ((await client.capabilities())["SASL"] or "").split()
    await stage.service.authenticator.ledger.settle()
    stage.context.directory.clear()
    assert named == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]
    for name in named:
        async with stage.client() as client:
            mechanism = client.mechanism(name, account)
            status = await exchanged(client, name, mechanism)
            if name.startswith("SCRAM"):
                assert status.startswith(b'OK (SASL "')
                assert mechanism.respond(base64.b64decode(status.split(b'"')[1])) == b""
            else:
                assert status == b"OK", name
            assert (await client.capabilities())["OWNER"] == account.login


@proves("STARTTLS")
async def test_starttls(stage: Stage, account: Person) -> None:
    """STARTTLS is told where it works, and behind it no more; what it leads to takes a login (RFC 5804 §2.2)."""
    async with stage.stranger() as client:
        assert "STARTTLS" in await client.capabilities()
        assert "STARTTLS" not in told(await client.start_tls(stage.tls))
        assert await client.login(account) == b"OK"


@proves("SIEVE")
async def test_sieve(stage: Stage, account: Person) -> None:
    """What is told is what scripts can require, all of it and nothing else (RFC 5804 §1.7)."""
    async with stage.client(account) as client:
        named = ((await client.capabilities())["SIEVE"] or "").split()
        assert sorted(named) == sorted(CAPABILITIES)
        for name in named:
            script = f'require "{name}";\r\nkeep;\r\n'.encode()
            assert await client.status(b"CHECKSCRIPT " + literal(script)) == b"OK", name
        everything = "require [" + ", ".join(f'"{name}"' for name in named) + "];"
        assert await client.status(b"CHECKSCRIPT " + literal(everything.encode())) == b"OK"
        answer = await client.status(b"CHECKSCRIPT " + literal(b'require "vnd.example.nothing";'))
        assert answer.startswith(b'NO "line 1, column 9: ')


async def test_what_is_forbidden_is_not_told(settings: Settings, account: Person, certificate: Issued) -> None:
    """A capability that the configuration takes away is neither told nor taken."""
    without = msgspec.structs.replace(settings, sieve=Sieve(without=["editheader"]))
    async with opened(without, certificate) as stage, stage.client(account) as client:
        assert "editheader" not in ((await client.capabilities())["SIEVE"] or "").split()
        answer = await client.status(b"CHECKSCRIPT " + literal(b'require "editheader";'))
        assert answer.startswith(b'NO "line 1, column 9: ')


@proves("NOTIFY")
async def test_notify(stage: Stage, account: Person) -> None:
    """The methods that are told can be used in scripts, others cannot (RFC 5804 §1.7, RFC 5435 §3)."""

    targets = {"mailto": "mailto:a@example.test", "https": "https://example.test/x"}

    def checking(target: str) -> bytes:
        return b"CHECKSCRIPT " + literal(f'require "enotify"; notify "{target}";'.encode())

    async with stage.client(account) as client:
        methods = ((await client.capabilities())["NOTIFY"] or "").split()
        assert set(methods) == targets.keys()
        for method in methods:
            assert await client.status(checking(targets[method])) == b"OK", method
        answer = await client.status(checking("xmpp:a@example.test"))
        assert answer == b"NO \"line 1, column 20: unknown notification method 'xmpp'\""


@proves("MAXREDIRECTS")
async def test_max_redirects(stage: Stage) -> None:
    """So many redirects a run may have (RFC 5804 §1.7); what happens beyond is the interpreter's."""
    async with stage.client() as client:
        limit = stage.context.settings.sieve.redirects
        assert (await client.capabilities())["MAXREDIRECTS"] == str(limit)


@proves("OWNER")
async def test_owner(stage: Stage, account: Person) -> None:
    """The login is told to who has logged in and to nobody else, as it is kept (RFC 5804 §1.7)."""
    shouting = Person(account.tenant_id, account.account_id, account.login.upper(), account.password)
    async with stage.client() as client:
        assert "OWNER" not in await client.capabilities()
        await client.login(shouting)
        assert (await client.capabilities())["OWNER"] == account.login


@proves("UNAUTHENTICATE")
async def test_unauthenticate(stage: Stage, account: Person) -> None:
    """UNAUTHENTICATE makes a stranger of the client (RFC 5804 §2.14.1)."""
    async with stage.client(account) as client:
        assert await client.status(b"UNAUTHENTICATE") == b"OK"
        assert await client.status(b"LISTSCRIPTS") == b'NO "not allowed in this state"'


@pytest.mark.parametrize("spelling", [b"CaPaBiLiTy", b"capability"])
async def test_commands_in_any_case(spelling: bytes, stage: Stage) -> None:
    """Commands are case-insensitive (RFC 5804 §4)."""
    async with stage.stranger() as client:
        assert told(await client.ask(spelling))["VERSION"] == "1.0"
