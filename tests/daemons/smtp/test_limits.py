"""Every limit of [smtp]: what happens one step below it, at it, and what is said."""

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest

from config.smtp import Smtp
from config.units import Octets, Seconds
from daemons.smtp.service import Admission
from daemons.sockets import Networks
from filters.networks import network_of
from tests.conftest import Person
from tests.daemons.smtp.conftest import MESSAGE, Intake
from tests.daemons.smtp.memory import MemoryClient


async def begin(intake: Intake, **limits: Any) -> MemoryClient:
    """A greeted session with these limits and an open transaction to Alice."""
    client = await intake.greeted(**intake.limited(**limits))
    assert await client.ask(b"MAIL FROM:<a@client.example>") == b"250 2.1.0 sender ok\r\n"
    assert await client.ask(b"RCPT TO:<alice@example.test>") == b"250 2.1.5 recipient ok\r\n"
    return client


async def test_size_limit_at_mail(intake: Intake) -> None:
    """A SIZE above the limit is refused before the message is sent; the limit itself is not."""
    client = await intake.greeted(**intake.limited(size_limit=Octets(1000)))
    assert await client.ask(b"MAIL FROM:<> SIZE=1001") == b"552 5.3.4 message is larger than SIZE allows\r\n"
    assert await client.ask(b"MAIL FROM:<> SIZE=1000") == b"250 2.1.0 sender ok\r\n"


async def test_size_limit_in_data(intake: Intake, account: Person) -> None:
    """Only the octets of the message count, unstuffed; one too many is refused after the message was read to its end."""
    client = await begin(intake, size_limit=Octets(10))
    assert (await client.ask(b"DATA")).startswith(b"354 ")
    assert (await client.ask(b"..2345678\r\n.")).startswith(b"250 2.0.0 ")
    client.say(b"MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
    await client.hear(3)
    assert await client.ask(b"12345678\r\n1\r\n.") == b"552 5.3.4 message is larger than SIZE allows\r\n"
    assert await client.ask(b"NOOP") == b"250 2.0.0 ok\r\n"
    assert await intake.originals(account) == [b".2345678\r\n"]


async def test_size_limit_in_bdat(intake: Intake) -> None:
    """The sum of the chunks counts; from the chunk that passes the limit all are refused, until the last one."""
    client = await begin(intake, size_limit=Octets(10))
    client.say(b"BDAT 10\r\n0123456789")
    assert await client.hear(1) == b"250 2.0.0 10 octets received\r\n"
    client.say(b"BDAT 1\r\n0BDAT 1\r\n1BDAT 0 LAST\r\nNOOP\r\n")
    refused = b"552 5.3.4 message is larger than SIZE allows\r\n"
    assert await client.hear(4) == 3 * refused + b"250 2.0.0 ok\r\n"


async def test_line_limit(intake: Intake) -> None:
    """A line of the limit with its CRLF is a command; a longer one is thrown away whole, however long it is."""
    client = await intake.greeted(**intake.limited(line_limit=Octets(600)))
    assert await client.ask(b"NOOP " + b"x" * 593) == b"250 2.0.0 ok\r\n"
    assert await client.ask(b"NOOP " + b"x" * 594) == b"500 5.5.2 command line is too long\r\n"
    for _ in range(100):
        client.say(b"NOOP \r" * 1000)
    assert await client.ask(b"\r\nNOOP", 2) == b"500 5.5.2 command line is too long\r\n250 2.0.0 ok\r\n"


async def test_recipient_limit(intake: Intake) -> None:
    """Recipients above the limit are put off, and the message goes to the others (RFC 5321 §4.5.3.1.10)."""
    client = await begin(intake, recipient_limit=2)
    assert (await client.ask(b"RCPT TO:<alice+2@example.test>")).startswith(b"250 ")
    refused = await client.ask(b"RCPT TO:<alice+3@example.test>")
    assert refused == b"452 4.5.3 too many recipients in one transaction\r\n"
    assert (await client.ask(b"DATA")).startswith(b"354 ")
    assert (await client.ask(MESSAGE + b".")).startswith(b"250 2.0.0 accepted as ")


async def test_default_recipient_limit_is_what_the_rfc_asks() -> None:
    """RFC 5321 §4.5.3.1.8 asks for 100 recipients, §4.5.3.2.7 for five minutes, §4.5.3.1.4 for 512 octets a line."""
    limits = Smtp()
    assert limits.recipient_limit >= 100
    assert limits.command_timeout >= 300
    assert limits.line_limit >= 512


async def test_command_limit(intake: Intake) -> None:
    """One command above the limit ends the session."""
    client = await intake.greeted(**intake.limited(command_limit=3))
    assert await client.ask(b"NOOP") == b"250 2.0.0 ok\r\n"
    assert await client.ask(b"NOOP") == b"250 2.0.0 ok\r\n"
    assert await client.ask(b"NOOP") == b"421 4.7.0 too many commands, goodbye\r\n"
    assert await client.end() == b""


async def test_junk_command_limit(intake: Intake) -> None:
    """Commands that further no mail are limited, and an accepted message sets their count back."""
    client = await begin(intake, junk_command_limit=3)
    client.say(b"NOOP\r\nNOOP\r\nDATA\r\n")
    await client.hear(3)
    assert (await client.ask(MESSAGE + b".")).startswith(b"250 ")
    client.say(b"NOOP\r\n" * 4)
    assert await client.hear(4) == 3 * b"250 2.0.0 ok\r\n" + b"421 4.7.0 too many commands, goodbye\r\n"
    assert await client.end() == b""


async def test_error_limit(intake: Intake) -> None:
    """The error that reaches the limit is answered, and is the last."""
    client = await begin(intake, error_limit=3)
    client.say(b"FOO\r\nRCPT TO:<nobody@example.test>\r\nRCPT TO:<x>\r\nNOOP\r\n")
    heard = (await client.hear(4)).split(b"\r\n")
    assert [line[:9] for line in heard] == [b"500 5.5.1", b"550 5.1.1", b"501 5.1.3", b"421 4.7.0", b""]
    assert await client.end() == b""


async def test_lmtp_recipients_are_no_errors(intake: Intake) -> None:
    """An LMTP client passes on the recipients it was given: unknown ones do not count against it."""
    client = await intake.greeted(is_lmtp=True, **intake.limited(error_limit=2))
    client.say(b"MAIL FROM:<>\r\n" + b"RCPT TO:<nobody@example.test>\r\n" * 5 + b"NOOP\r\n")
    assert (await client.hear(7)).endswith(b"250 2.0.0 ok\r\n")


async def test_hop_limit(intake: Intake, account: Person) -> None:
    """A message that already has as many Received fields goes in circles; one fewer is delivered."""
    client = await begin(intake, hop_limit=3)
    await client.ask(b"DATA")
    hops = b"Received: by a\r\nreceived: by b\r\nSubject: x\r\nX: y\r\n\tReceived: folded\r\n"
    assert (await client.ask(hops + b"\r\nReceived: in the body\r\n.")).startswith(b"250 ")
    client.say(b"MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
    await client.hear(3)
    refused = await client.ask(b"RECEIVED: by c\r\n" + hops + b"\r\n.")
    assert refused == b"554 5.4.6 message goes in circles: too many Received fields\r\n"
    assert len(await intake.inbox(account)) == 1


async def test_connection_limits(intake: Intake) -> None:
    """Connections are counted in all and per network; those above are turned away at the door, and leaving makes room."""
    limits = msgspec.structs.replace(intake.shared.limits, connection_limit=3, network_connection_limit=2)
    admission = Admission(limits, Networks(["198.51.100.0/24"]))
    doors: dict[str, Any] = {"admit": admission.admit, "release": admission.release}
    first = await intake.greeted(peer="192.0.2.1", **doors)
    await intake.greeted(peer="192.0.2.200", **doors)
    third = intake.connect(peer="192.0.2.3", **doors)
    assert await third.hear(1) == b"421 4.7.0 too many connections from your network, come back later\r\n"
    await intake.greeted(peer="203.0.113.1", **doors)
    assert (await intake.connect(peer="203.0.113.2", **doors).hear(1)).startswith(b"421 4.3.2 too many connections")
    await intake.greeted(peer="198.51.100.7", **doors)  # trusted
    assert await first.end() == b""
    for client in intake.clients:
        await client.end()
    assert not admission.sessions
    assert (await intake.connect(peer="192.0.2.3", **doors).hear(1)).startswith(b"220 ")


def test_networks() -> None:
    """One limit is shared by an IPv4 /24 and an IPv6 /64; mapped addresses are IPv4."""
    assert network_of("192.0.2.1") == network_of("192.0.2.255") == network_of("::ffff:192.0.2.7")
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2%eth1")


async def test_silence_between_commands(intake: Intake) -> None:
    """A client that says nothing is told and hung up on (RFC 5321 §4.5.3.2.7)."""
    client = await intake.greeted(**intake.limited(command_timeout=Seconds(0.5)))
    assert await client.hear(1) == b"421 4.4.2 timed out, goodbye\r\n"
    assert await client.end() == b""


@pytest.mark.parametrize(
    "words", [b"DATA\r\nSubject: x\r\n", b"BDAT 100\r\nabc", b"DATA\r\n\r\n.\r"], ids=["data", "bdat", "end"]
)
async def test_silence_in_a_message(words: bytes, intake: Intake, account: Person) -> None:
    """A message that stops coming is dropped with the connection."""
    client = await begin(intake, command_timeout=Seconds(0.5))
    client.say(words)
    assert (await client.hear(2)).endswith(b"421 4.4.2 timed out, goodbye\r\n")
    assert await client.end() == b""
    assert await intake.inbox(account) == []


async def test_data_time_limit(intake: Intake, account: Person) -> None:
    """A message that drips steadily, never silent for long, has a time by which it must have come."""
    client = await begin(intake, command_timeout=Seconds(30), data_time_limit=Seconds(0.5))
    client.say(b"DATA\r\n")
    assert (await client.hear(1)).startswith(b"354 ")

    async def drip() -> None:
        while not client.transport.is_closing():
            client.say(b"x\r\n")
            await asyncio.sleep(0)

    dripping = asyncio.create_task(drip())
    assert await client.hear(1) == b"421 4.4.2 timed out, goodbye\r\n"
    await dripping
    assert await client.end() == b""
    assert await intake.inbox(account) == []


async def test_over_quota(intake: Intake, account: Person, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A full mailbox is refused for now, or for good when the operator says so."""
    await owner.execute("UPDATE account SET quota_octets = 0")
    intake.context.directory.clear()
    for is_permanent, expected in ((False, b"452 4.2.2 "), (True, b"552 5.2.2 ")):
        client = await intake.greeted(**intake.limited(over_quota_is_permanent=is_permanent))
        await client.ask(b"MAIL FROM:<>")
        assert (await client.ask(b"RCPT TO:<alice@example.test>")).startswith(expected)


@pytest.mark.parametrize("change", ["is_disabled = true", "receives = false"])
async def test_disabled(
    change: str, intake: Intake, owner: "asyncpg.Connection[asyncpg.Record]", account: Person
) -> None:
    """An account that is disabled, or receives nothing, is refused for good."""
    await owner.execute(f"UPDATE account SET {change}")
    intake.context.directory.clear()
    client = await intake.greeted()
    await client.ask(b"MAIL FROM:<>")
    assert await client.ask(b"RCPT TO:<alice@example.test>") == b"550 5.2.1 mailbox is disabled\r\n"
