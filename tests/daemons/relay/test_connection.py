"""Sessions with other servers: opened with their TLS policy, used, lost, over real sockets with aiosmtpd behind them."""

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from config.relay import Relay
from config.units import Seconds
from daemons.certificates import Issued
from daemons.relay.connection import Connection, OpenError, open_connection
from daemons.relay.routes import Credentials, Host, Source
from daemons.relay.tls_policy import TlsPolicy
from protocol.smtp.client import Recipient, Transaction
from tests.internet.mx import Fault, Mx, mx_server

SETTINGS = Relay()
MESSAGE = b"Subject: x\r\n\r\n.\r\n..dots\r\n"
PLAIN = TlsPolicy(mode="none")


def host_of(*servers: Mx, policy: TlsPolicy = PLAIN) -> Host:
    """One host with the addresses of these servers."""
    return Host("mx.example.net", tuple(mx.host for mx in servers), port=servers[0].port, policy=policy)


async def opened(*hosts: Host | Mx, settings: Relay = SETTINGS, **options: Any) -> Connection:
    made = [host if isinstance(host, Host) else host_of(host) for host in hosts]
    return await open_connection(made, settings, hostname="us.example.test", **options)


def to(*forward_paths: str, content: bytes | None = MESSAGE, **options: Any) -> Transaction:
    size = len(content) if content is not None else None
    return Transaction("a@example.test", tuple(Recipient(path) for path in forward_paths), size, **options)


async def in_pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def limited(**seconds: float) -> Relay:
    """Settings with these time limits."""
    values: dict[str, Any] = {key: Seconds(value) for key, value in seconds.items()}
    return Relay(**values)


@pytest.fixture
def tls(certificate: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


@pytest.mark.parametrize("offer", ["", "PIPELINING", "CHUNKING", "PIPELINING CHUNKING"])
@pytest.mark.parametrize("size", [0, 200_000, 3_000_000])
async def test_messages_arrive_as_they_are(offer: str, size: int) -> None:
    """Whatever the server offers and however it is cut, what arrives is what was sent."""
    content = MESSAGE + b".".join([b"x" * 996 + b"\r\n"] * (size // 1000))
    async with mx_server(offers=set(offer.split())) as mx:
        connection = await opened(mx)
        for step in (len(content), 65_536, 1001):
            outcomes = await connection.deliver(to("b@example.net"), in_pieces(content, step))
            assert [outcome.state for outcome in outcomes] == ["delivered"]
        (outcome,) = await connection.deliver(to("b@example.net", content=content), content)
        await connection.quit()
    assert outcome.state == "delivered"
    assert [message.content for message in mx.received] == [content] * 4
    assert all(message.is_chunked == ("CHUNKING" in offer) for message in mx.received)
    assert (mx.sessions, connection.transactions, mx.verbs["QUIT"]) == (1, 4, 1)


async def test_each_recipient_has_its_outcome() -> None:
    """Recipients that are refused do not keep the others from theirs, and the session goes on."""
    async with mx_server(unknown={"b@example.net"}, recipient_limit=2) as mx:
        connection = await opened(mx)
        outcomes = await connection.deliver(to(*(f"{name}@example.net" for name in "abcd")), MESSAGE)
        assert [(outcome.state, outcome.reply.code, outcome.is_surplus) for outcome in outcomes] == [
            ("delivered", 250, False),
            ("failed", 550, False),
            ("delivered", 250, False),
            ("deferred", 452, True),
        ]
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert outcome.state == "failed"
        (outcome,) = await connection.deliver(to("d@example.net"), MESSAGE)
        assert outcome.state == "delivered"
        connection.close()
    assert [message.forward_paths for message in mx.received] == [
        ["a@example.net", "c@example.net"],
        ["d@example.net"],
    ]


async def test_parameters_arrive() -> None:
    """DSN, SMTPUTF8, BODY and the others reach a server that offers them."""
    async with mx_server() as mx:
        mx.offers |= {"DELIVERBY", "MT-PRIORITY"}
        connection = await opened(mx)
        recipient = Recipient("b@example.net", ("FAILURE",), "rfc822;old@example.test")
        transaction = Transaction(
            "ä@example.test",
            (recipient,),
            len(MESSAGE),
            body="8BITMIME",
            ret="HDRS",
            envid="id 1",
            deliver_by_seconds=100,
            priority=2,
        )
        (outcome,) = await connection.deliver(transaction, MESSAGE)
        connection.close()
    assert outcome.state == "delivered"
    message = mx.received[0]
    assert message.reverse_path == "ä@example.test"
    assert message.mail_parameters == {
        "SIZE": str(len(MESSAGE)),
        "BODY": "8BITMIME",
        "SMTPUTF8": "",
        "RET": "HDRS",
        "ENVID": "id+201",
        "BY": "100;N",
        "MT-PRIORITY": "2",
    }
    assert message.rcpt_parameters == [{"NOTIFY": "FAILURE", "ORCPT": "rfc822;old@example.test"}]


@pytest.mark.parametrize(
    ("verb", "fault", "state", "code", "is_uncertain"),
    [
        ("MAIL", "451 4.7.1 later", "deferred", 451, False),
        ("MAIL", "421 4.3.2 going", "deferred", 421, False),
        ("MAIL", b"\xff\xfe garbage\r\n", "deferred", 451, False),
        ("MAIL", b"250 " + b"x" * 5000, "deferred", 451, False),
        ("MAIL", b"250-x\r\n" * 20_000, "deferred", 451, False),
        ("MAIL", Fault.DROP, "deferred", 451, False),
        ("MAIL", Fault.DRIP, "delivered", 250, False),
        ("RCPT", "550 5.1.1 nobody", "failed", 550, False),
        ("RCPT", "450 4.7.1 greylisted", "deferred", 450, False),
        ("RCPT", "421 4.3.2 going", "deferred", 421, False),
        ("RCPT", Fault.DROP, "deferred", 451, False),
        ("DATA", "554 5.7.1 no", "failed", 554, False),
        ("DATA", "250 what", "deferred", 451, False),
        ("DATA", Fault.DROP, "deferred", 451, False),
        ("DOT", "552 5.3.4 too big", "failed", 552, False),
        ("DOT", "421 4.3.2 going", "deferred", 421, False),
        ("DOT", "354 more", "deferred", 451, True),
        ("DOT", b"what?\r\n", "deferred", 451, True),
        ("DOT", Fault.DROP, "deferred", 451, True),
        ("DOT", Fault.KEEP_AND_DROP, "deferred", 451, True),
    ],
)
async def test_faults_have_outcomes(verb: str, fault: Any, state: str, code: int, is_uncertain: bool) -> None:
    """Whatever a server does in the middle of a transaction, the recipient has one outcome that says so."""
    async with mx_server(faults={verb: [fault]}) as mx:
        connection = await opened(mx)
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert (outcome.state, outcome.reply.code, outcome.is_uncertain) == (state, code, is_uncertain)
        assert outcome.is_remote == (
            (isinstance(fault, str) and outcome.reply.code == int(fault[:3])) or state == "delivered"
        )
        if connection.is_usable:
            (outcome,) = await connection.deliver(to("c@example.net"), MESSAGE)
            assert outcome.state == "delivered"
        connection.close()
    assert len(mx.received) == connection.transactions - (state != "delivered") + (fault is Fault.KEEP_AND_DROP)


@pytest.mark.parametrize("verb", ["MAIL", "DATA", "DOT"])
async def test_silent_servers_are_left_in_time(verb: str) -> None:
    """A server that stops answering is given up after the time of that command."""
    names = {"MAIL": "command_timeout", "DATA": "data_timeout", "DOT": "final_timeout"}
    async with mx_server(faults={verb: [Fault.HANG]}) as mx:
        connection = await opened(mx, settings=limited(**{names[verb]: 0.1}))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert (outcome.state, outcome.reply.code) == ("deferred", 451)
        assert "in time" in outcome.reply.lines[0]
        assert outcome.is_uncertain == (verb == "DOT")
        assert not connection.is_usable


async def test_silent_greeting_is_left_in_time() -> None:
    """A server that does not greet is left, and the next address tried."""
    async with mx_server(faults={"GREETING": [Fault.HANG]}) as silent, _beside(silent) as mx:
        connection = await opened(host_of(silent, mx), settings=limited(greeting_timeout=0.1))
        assert connection.address == mx.host
        assert [(failure.address, failure.reply.code) for failure in connection.failures] == [(silent.host, 451)]
        connection.close()


def _beside(mx: Mx, number: int = 2, **options: Any) -> Any:
    """Another server at the same port of another address of the loopback."""
    return mx_server(host=f"127.0.0.{number}", port=mx.port, **options)


async def test_dripping_server_has_no_more_time() -> None:
    """A server that sends a reply octet by octet has no more time than one that sends it whole."""
    async with mx_server() as mx:
        connection = await opened(mx, settings=limited(command_timeout=0.2))
        dripping = itertools.chain([b"2"], itertools.repeat(None))
        mx.faults["MAIL"] = dripping
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert outcome.state == "deferred"


_UP_TO_DATA = (b"250 mx\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")


@asynccontextmanager
async def scripted(behind_data: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Any:
    """A host that answers up to DATA, and then does what it is told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(b"220 mx\r\n")
            for answer in _UP_TO_DATA:
                await reader.readline()
                writer.write(answer)
            await behind_data(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Host("mx.example.net", ("127.0.0.1",), port=server.sockets[0].getsockname()[1], policy=PLAIN)
    finally:
        server.close()
        await server.wait_closed()


async def large(given: list[int]) -> AsyncIterator[bytes]:
    """A message of 128 MiB, larger than what sockets hold."""
    for number in range(2048):
        given.append(number)
        yield b"x" * 62 + b"\r\n" + b"y" * 65_472


async def test_server_that_reads_nothing_is_left_in_time() -> None:
    """A server that takes no more of a message is given up."""
    released = asyncio.Event()

    async def read_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await released.wait()

    async with scripted(read_nothing) as host:
        connection = await opened(host, settings=limited(block_timeout=0.2))
        (outcome,) = await connection.deliver(to("b@example.net", content=None), large([]))
        assert (outcome.state, outcome.is_remote, outcome.is_uncertain) == ("deferred", False, False)
        released.set()


async def test_early_refusal_stops_a_large_message() -> None:
    """A server that refuses while content comes is heard before all of it was sent."""
    given: list[int] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"552 5.3.4 enough\r\n")
        while await reader.read(1 << 16):
            pass

    async with scripted(refuse) as host:
        connection = await opened(host)
        (outcome,) = await connection.deliver(to("b@example.net", content=None), large(given))
        assert (outcome.state, outcome.reply.code, outcome.is_remote) == ("failed", 552, True)
        assert len(given) < 2000


async def test_content_that_cannot_be_read_is_not_sent() -> None:
    """When the message breaks off on our side the server never sees an end of it."""

    async def broken() -> AsyncIterator[bytes]:
        yield MESSAGE
        yield b"x" * 100_000
        raise RuntimeError("the disk is gone")

    for offers in ({"PIPELINING"}, {"PIPELINING", "CHUNKING"}):
        async with mx_server(offers=offers) as mx:
            connection = await opened(mx)
            with pytest.raises(RuntimeError, match="the disk is gone"):
                await connection.deliver(to("b@example.net", content=None), broken())
            assert not connection.is_usable
        assert mx.received == []


async def test_cancelled_delivery_closes_the_connection() -> None:
    """A delivery that is cancelled leaves nothing half done."""
    async with mx_server(gates={"DATA": asyncio.Event()}) as mx:
        connection = await opened(mx)
        task = asyncio.create_task(connection.deliver(to("b@example.net"), MESSAGE))
        while not mx.verbs["DATA"]:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not connection.is_usable
    assert mx.received == []


async def test_server_that_says_goodbye_is_seen() -> None:
    """A session that the server ended between two messages is not usable."""
    async with mx_server(message_limit=1) as mx:
        connection = await opened(mx)
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert outcome.state == "delivered"
        assert not await connection.reset() or not await connection.reset()
        assert not connection.is_usable


async def test_reset_shows_that_the_server_is_there() -> None:
    """RSET is answered by a server that is there."""
    async with mx_server() as mx:
        connection = await opened(mx)
        assert await connection.reset()
        assert connection.is_usable
        connection.close()


# -- addresses ----------------------------------------------------------------------------------------------------------


async def test_addresses_are_tried_in_their_order() -> None:
    """The first address that answers is taken, whatever comes behind it; the refusing ones are told."""
    async with mx_server(host="127.0.0.3") as third, _beside(third, 4) as fourth:
        host = Host("mx.example.net", ("127.0.0.2", third.host, fourth.host), port=third.port, policy=PLAIN)
        connection = await opened(host)
        assert connection.address == third.host
        (failure,) = connection.failures
        assert (failure.address, failure.phase, str(failure.reply.enhanced)) == ("127.0.0.2", "connect", "4.4.1")
        assert failure.reply.lines == ("connection refused",)
        connection.close()
        assert fourth.sessions == 0


async def test_address_without_answer_costs_its_head_start_only() -> None:
    """While an address does not answer, the next one is tried beside it (RFC 8305 §5)."""
    async with mx_server() as mx:
        # 192.0.2.1 is nobody's: packets to it are dropped or refused, never answered.
        host = Host("mx.example.net", ("192.0.2.1", mx.host), port=mx.port, policy=PLAIN)
        async with asyncio.timeout(5):
            connection = await opened(host, settings=limited(connect_delay=0.05, connect_timeout=60))
        assert connection.address == mx.host
        connection.close()


async def test_next_host_is_tried() -> None:
    """A host that refuses to serve us is followed by the next one (RFC 5321 §5.1)."""
    async with (
        mx_server(faults={"GREETING": ["554 5.3.2 not today"]}) as first,
        _beside(first, 2, faults={"EHLO": ["421 4.3.2 busy"]}) as second,
        _beside(first, 3) as third,
    ):
        connection = await opened(first, second, third)
        assert connection.address == third.host
        told = [(failure.phase, failure.reply.code, failure.is_remote) for failure in connection.failures]
        assert told == [("greeting", 554, True), ("EHLO", 421, True)]
        connection.close()


async def test_no_host_at_all() -> None:
    """When nobody serves us the failures say why, and the most telling is what a server said."""
    async with mx_server(faults={"GREETING": ["421 4.3.2 busy"]}) as mx:
        nobody = Host("mx1.example.net", ("127.0.0.2",), port=mx.port, policy=PLAIN)
        nowhere = Host("mx2.example.net", (), port=mx.port, policy=PLAIN)
        with pytest.raises(OpenError) as raised:
            await opened(nobody, mx, nowhere)
    error = raised.value
    assert [str(failure.reply.enhanced) for failure in error.failures] == ["4.4.1", "4.3.2", "4.4.4"]
    assert error.telling.reply.code == 421


async def test_sessions_of_one_attempt_are_limited() -> None:
    """A destination with many servers that refuse us costs no more than the configured number of sessions."""
    async with mx_server(faults={"GREETING": itertools.repeat("554 5.3.2 no")}) as mx:
        hosts = [host_of(mx) for _ in range(10)]
        with pytest.raises(OpenError) as raised:
            await opened(*hosts)
        assert len(raised.value.failures) == mx.sessions == SETTINGS.session_limit


async def test_source_address_and_name() -> None:
    """A tenant's own address is where its connections come from, and its name is what EHLO says."""
    async with mx_server() as mx:
        connection = await opened(mx, source=Source(ipv4="127.0.0.9", hostname="tenant.example.test"))
        await connection.deliver(to("b@example.net"), MESSAGE)
        assert connection.local_address == "127.0.0.9"
        connection.close()
    assert mx.received[0].helo == "tenant.example.test"


# -- TLS ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["may", "encrypt", "verify"])
async def test_tls_is_taken_where_it_is_offered(mode: Any, tls: ssl.SSLContext, certificate: Issued) -> None:
    """STARTTLS is used by every policy but none, and what it came to is told."""
    policy = TlsPolicy(mode=mode, server_name="localhost", names=("localhost",), authority=str(certificate.authority))
    async with mx_server(tls=tls) as mx:
        connection = await opened(host_of(mx, policy=policy))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        connection.close()
    assert outcome.state == "delivered"
    assert mx.received[0].tls == "TLSv1.3" == connection.tls.version
    assert (connection.tls.verified == "pkix") == (mode == "verify")


async def test_tls_from_the_start(tls: ssl.SSLContext) -> None:
    """A port that begins with TLS is spoken to in TLS from the first octet."""
    async with mx_server(tls=tls, starts_with_tls=True) as mx:
        connection = await opened(host_of(mx, policy=TlsPolicy(mode="encrypt", starts_with_tls=True)))
        await connection.deliver(to("b@example.net"), MESSAGE)
        connection.close()
    assert mx.received[0].tls == "TLSv1.3"


async def test_mail_goes_without_tls_where_it_may() -> None:
    """Opportunistic: no STARTTLS, or STARTTLS refused, is no reason not to deliver."""
    async with mx_server() as mx:
        connection = await opened(host_of(mx, policy=TlsPolicy(mode="may")))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert (outcome.state, str(connection.tls)) == ("delivered", "")
        connection.close()


async def test_failed_handshake_is_tried_again_without_tls_where_it_may(tls: ssl.SSLContext) -> None:
    """A handshake that fails costs one more connection; the failure is kept for reports."""
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
    async with mx_server(tls=tls) as mx:
        connection = await opened(host_of(mx, policy=TlsPolicy(mode="may", minimum="TLSv1.3")))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert (outcome.state, str(connection.tls), mx.sessions) == ("delivered", "", 2)
        assert [failure.phase for failure in connection.failures] == ["TLS"]
        assert connection.failures[0].tls is not None
        connection.close()


async def test_refused_starttls_goes_on_in_the_clear_where_it_may(tls: ssl.SSLContext) -> None:
    """A server that offers STARTTLS and refuses it is used in the same session."""
    async with mx_server(tls=tls, faults={"STARTTLS": ["454 4.7.0 not now"]}) as mx:
        connection = await opened(host_of(mx, policy=TlsPolicy(mode="may")))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert (outcome.state, mx.sessions) == ("delivered", 1)
        connection.close()


@pytest.mark.parametrize("case", ["not offered", "refused", "old version", "wrong name", "unknown authority"])
async def test_mandatory_tls_is_never_gone_without(case: str, tls: ssl.SSLContext, certificate: Issued) -> None:
    """What must be encrypted or verified is not sent otherwise; the next host is tried."""
    policy = TlsPolicy(mode="verify", names=("localhost",), authority=str(certificate.authority))
    options: dict[str, Any] = {"tls": tls}
    if case == "not offered":
        options = {}
    elif case == "refused":
        options["faults"] = {"STARTTLS": ["454 4.7.0 not now"]}
    elif case == "old version":
        tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
        policy = replace(policy, minimum="TLSv1.3")
    elif case == "wrong name":
        policy = replace(policy, names=("mx.example.net",))
    else:
        policy = replace(policy, authority="")
    async with mx_server(**options) as mx:
        with pytest.raises(OpenError) as raised:
            await opened(host_of(mx, policy=policy))
        assert mx.verbs["MAIL"] == 0
    assert raised.value.telling.tls is not None
    assert raised.value.telling.reply.code // 100 == 4


async def test_requiretls_needs_a_server_that_promises_it(tls: ssl.SSLContext, certificate: Issued) -> None:
    """A host that does not announce REQUIRETLS is passed over; one that does gets the parameter."""
    policy = TlsPolicy(mode="verify", names=("localhost",), authority=str(certificate.authority), needs_requiretls=True)
    async with mx_server(tls=tls) as first, _beside(first, tls=tls) as second:
        second.offers.add("REQUIRETLS")
        connection = await opened(host_of(first, policy=policy), host_of(second, policy=policy))
        assert [failure.reply.code for failure in connection.failures] == [550]
        (outcome,) = await connection.deliver(to("b@example.net", is_requiretls=True), MESSAGE)
        assert outcome.state == "delivered"
        connection.close()
    assert "REQUIRETLS" in second.received[0].mail_parameters


# -- authentication -----------------------------------------------------------------------------------------------------


async def test_smarthost_is_logged_in_to(tls: ssl.SSLContext) -> None:
    """With credentials the session authenticates before anything is sent."""
    policy = TlsPolicy(mode="encrypt")
    async with mx_server(tls=tls, logins={"user": "secret"}) as mx:
        connection = await opened(host_of(mx, policy=policy), credentials=Credentials("user", "secret"))
        await connection.deliver(to("b@example.net"), MESSAGE)
        connection.close()
        with pytest.raises(OpenError) as raised:
            await opened(host_of(mx, policy=policy), credentials=Credentials("user", "wrong"))
    assert mx.received[0].login == "user"
    (failure,) = raised.value.failures
    assert (failure.phase, failure.reply.code, failure.is_remote) == ("AUTH", 535, True)


async def test_password_is_never_told_in_the_clear() -> None:
    """Credentials and a server without TLS lead nowhere, whatever the policy."""
    async with mx_server(logins={"user": "secret"}) as mx:
        with pytest.raises(OpenError):
            await opened(host_of(mx, policy=TlsPolicy(mode="may")), credentials=Credentials("user", "secret"))
        assert mx.verbs["AUTH"] == 0
