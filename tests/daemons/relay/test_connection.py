"""Messages over sessions with other servers, and what becomes of them when the servers misbehave: real sockets, aiosmtpd."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from daemons.relay.routes import Host
from protocol.smtp.client import Recipient, Transaction
from tests.daemons.relay.sessions import MESSAGE, PLAIN, beside, host_of, in_pieces, limited, opened, to
from tests.internet.mx import Fault, mx_server


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
        connection = await opened(mx, settings=limited(**{names[verb]: 1.0}))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert (outcome.state, outcome.reply.code) == ("deferred", 451)
        assert "in time" in outcome.reply.lines[0]
        assert outcome.is_uncertain == (verb == "DOT")
        assert not connection.is_usable


async def test_silent_greeting_is_left_in_time() -> None:
    """A server that does not greet is left, and the next address tried."""
    async with mx_server(faults={"GREETING": [Fault.HANG]}) as silent, beside(silent) as mx:
        connection = await opened(host_of(silent, mx), settings=limited(greeting_timeout=1.0))
        assert connection.address == mx.host
        assert [(failure.address, failure.reply.code) for failure in connection.failures] == [(silent.host, 451)]
        connection.close()


async def test_dripping_server_has_no_more_time() -> None:
    """A server that sends a reply octet by octet has no more time than one that sends it whole."""
    async with mx_server() as mx:
        connection = await opened(mx, settings=limited(command_timeout=1.0))
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
