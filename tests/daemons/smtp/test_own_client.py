"""Our client with our server: what the relay would say to another Postwerk, over real sockets and TLS."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from config.relay import Relay
from daemons.certificates import Issued
from daemons.relay.connection import Connection, OpenError, open_connection
from daemons.relay.route import Credentials, Host
from daemons.relay.tls_policy import TlsPolicy
from protocol.smtp.client import Recipient, Transaction
from tests.conftest import PASSWORD, Person
from tests.daemons.smtp.users import SUBMITTED, Users

LARGE = SUBMITTED + b".line after line\r\n" * 100_000


async def opened(
    users: Users, listener: str, authority: Issued, login: str = "", password: str = PASSWORD
) -> Connection:
    """A session with one of the listeners, in verified TLS."""
    address, port = users.endpoints[listener]
    policy = TlsPolicy(mode="verify", names=("localhost",), authority=str(authority.authority))
    policy = replace(policy, starts_with_tls=listener == "submissions")
    credentials = Credentials(login, password) if login else None
    host = Host("localhost", (address,), port=port, policy=policy)
    return await open_connection([host], Relay(), hostname="us.example", credentials=credentials)


async def pieces(octets: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(octets), 10_000):
        yield octets[start : start + 10_000]


@pytest.mark.parametrize("content", [SUBMITTED, LARGE], ids=["small", "large"])
async def test_another_server_of_ours(
    users: Users, account: Person, bob: Person, certificate: Issued, content: bytes
) -> None:
    """Mail from server to server: STARTTLS, several recipients, an unknown one among them, again and again."""
    connection = await opened(users, "smtp", certificate)
    assert connection.tls.verified == "pkix"
    assert connection.capabilities.has_chunking
    assert connection.capabilities.has_requiretls
    recipients = tuple(Recipient(path) for path in (account.login, "nobody@example.test", bob.login))
    transaction = Transaction("somebody@elsewhere.example", recipients, len(content))
    for given in (content, pieces(content)):
        outcomes = await connection.deliver(transaction, given)
        assert [(outcome.state, str(outcome.reply.enhanced)) for outcome in outcomes] == [
            ("delivered", "2.0.0"),
            ("failed", "5.1.1"),
            ("delivered", "2.0.0"),
        ]
    assert await connection.reset()
    await connection.quit()
    for person in (account, bob):
        stored = await users.mailbox(person)
        assert [message[message.index(b"From: Alice") :] for message in stored] == [content, content]
        assert all(b" with ESMTPS id " in message for message in stored)


@pytest.mark.parametrize("listener", ["submission", "submissions"])
async def test_a_smarthost_of_ours(
    users: Users, account: Person, bob: Person, certificate: Issued, listener: str
) -> None:
    """Logged in, by the password where SCRAM cannot prove it yet, with everything that a message may ask for."""
    for attempt in range(2):  # the first login by password makes the verifier that the second one is proven by
        connection = await opened(users, listener, certificate, account.login)
        assert b"SCRAM-SHA-256-PLUS" in connection.capabilities.mechanisms
        while not await users.context.pool.fetchval("SELECT count(scram_sha_256) FROM account"):
            await users.context.pool.execute("SELECT 1")
        users.context.directory.clear()
        if not attempt:
            await connection.quit()
    transaction = Transaction(
        account.login,
        (Recipient(bob.login, ("SUCCESS",), f"rfc822;{bob.login}"), Recipient("carol@elsewhere.example")),
        len(SUBMITTED),
        body="8BITMIME",
        is_smtputf8=True,
        is_requiretls=True,
        ret="HDRS",
        envid="an id",
        deliver_by_seconds=3600,
        priority=2,
    )
    outcomes = await connection.deliver(transaction, SUBMITTED)
    assert [outcome.state for outcome in outcomes] == ["delivered", "delivered"]
    await connection.quit()
    (stored,) = await users.mailbox(bob)
    assert b" with UTF8SMTPSA id " in stored
    (queued,) = await users.queue()
    wanted = {"ret": "HDRS", "envid": "an id", "priority": 2, "is_requiretls": True}
    assert {key: queued[key] for key in wanted} == wanted


async def test_a_wrong_password_is_told(users: Users, account: Person, certificate: Issued) -> None:
    """A smarthost that does not know us is no way to anybody."""
    with pytest.raises(OpenError) as raised:
        await opened(users, "submissions", certificate, account.login, "wrong")
    (failure,) = raised.value.failures
    assert (failure.phase, failure.reply.code, failure.is_remote) == ("AUTH", 535, True)
