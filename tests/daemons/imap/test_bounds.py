"""Commands that ask for much at once: others have their turn meanwhile, and what waits in memory is bounded."""

import asyncio
import ssl

import pytest

from config.settings import Settings
from config.units import Seconds
from daemons.access.imap.fetching import Plan
from protocol.imap.fetch import FetchAttribute, Item, Section
from tests.conftest import Person
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.test_sessions import limited


async def test_a_search_of_many_cheap_keys_lets_others_have_their_turn(
    settings: Settings, account: Person, client_tls: ssl.SSLContext
) -> None:
    """A thousand keys that the view answers are no reason for another session to wait."""
    async for service in limited(settings, account, client_tls, search_slice=Seconds(0.001)):
        await service.deliver(*[mail(f"m{number}") for number in range(100)])
        async with await service.client() as client, await service.client() as other:
            await client.ok(b"SELECT INBOX")
            for _ in range(3):
                await client.ok(b"COPY 1:* INBOX")
            client.write(b"t SEARCH " + b" ".join([b"LARGER 1"] * 1000) + b"\r\n")
            searching = asyncio.create_task(client.until(b"t"))
            for _ in range(3):
                await other.ok(b"NOOP")
            assert not searching.done()
            (found, _) = await searching
            assert len(found.split()) == 802


@pytest.mark.parametrize("count", [3, 60, 130])
async def test_sets_of_few_and_of_many_ranges(service: Service, count: int) -> None:
    """A search finds the same in a set however many ranges it has, also among what other keys left over."""
    await service.deliver(*[mail(f"m{number}") for number in range(300)])
    wanted = range(1, 2 * count, 2)
    numbers = b",".join([b"%d" % number for number in wanted])
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for command in (b"SEARCH %b", b"SEARCH UID %b", b"SEARCH 1:* %b", b"UID SEARCH OR %b %b"):
            (found,) = await client.ok(command.replace(b"%b", numbers))
            assert found == b"* SEARCH " + numbers.replace(b",", b" "), command
        (rest,) = await client.ok(b"SEARCH NOT %b %b" % (numbers, numbers.replace(b"1,", b"2,")))
        assert not set(rest.split()[2:]) & set(numbers.split(b","))


async def test_many_large_sections_of_one_message(service: Service) -> None:
    """What one FETCH response holds goes out while it is made, and is whole."""
    await service.deliver(mail("large", ("y" * 70 + "\r\n") * 1500))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        sections = [b"BODY.PEEK[]<%d.100000>" % number for number in range(30)]
        (answer,) = await client.ok(b"FETCH 1 (" + b" ".join(sections) + b" UID)")
        assert answer.startswith(b"* 1 FETCH (")
        assert answer.endswith(b"BODY[]<29> {100000}\r\n" + answer[-100_001:-1] + b")")
        assert answer.count(b" BODY[]<") == 30


async def test_a_part_that_cannot_be_decoded_behind_what_was_sent(service: Service) -> None:
    """A FETCH that is refused after a part of its response has gone out leaves the response closed (RFC 3516 §4.3)."""
    field = "Content-Transfer-Encoding: x-none"
    await service.deliver(mail("large", ("y" * 70 + "\r\n") * 8000, "MIME-Version: 1.0", field))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        answer, refused = await client.command(b"FETCH 1 (BODY.PEEK[] BINARY.PEEK[1])")
        assert answer.startswith(b"* 1 FETCH (BODY[] {")
        assert answer.endswith(b"\r\n)")
        assert refused.startswith(b"t NO [UNKNOWN-CTE] ")
        await client.ok(b"NOOP")


def test_many_columns_take_few_messages() -> None:
    """The memory for a batch of responses does not grow with what a client asks of each message."""
    usual = Plan([FetchAttribute(Item.UID), FetchAttribute(Item.FLAGS)], is_uid=True)
    section = Section((), "HEADER.FIELDS", (b"SUBJECT",))
    many = Plan([FetchAttribute(Item.SECTION, section, (number, 1)) for number in range(1000)], is_uid=False)
    assert usual.batch == 1000
    assert many.batch * 1000 <= 64_000


async def test_what_is_attached_to_many_names(service: Service) -> None:
    """LIST tells status and annotations of each of many mailboxes behind its name, some at a time."""
    async with await service.client() as client:
        for number in range(120):
            await client.ok(b"CREATE box%03d" % number)
        await client.ok(b'SETMETADATA box070 (/shared/comment "here")')
        told = await client.ok(b'LIST "" box* RETURN (STATUS (MESSAGES) METADATA (/shared/comment))')
        expected = []
        for number in range(120):
            value = b'"here"' if number == 70 else b"NIL"
            expected += [
                b'* LIST (\\HasNoChildren) "/" box%03d' % number,
                b"* STATUS box%03d (MESSAGES 0)" % number,
                b"* METADATA box%03d (/shared/comment %b)" % (number, value),
            ]
        assert told == expected
        patterns = b" ".join([b"nothing*%d" % number for number in range(900)])
        assert len(await client.ok(b'LIST "" (%b box*)' % patterns)) == 120


async def test_keywords_that_come_with_messages(service: Service) -> None:
    """APPEND brings no more keywords into a mailbox than it may have, whether or not anybody has it selected."""
    words = [b"word%d" % number for number in range(201)]
    async with await service.client() as client:
        for flags in (b" ".join(words[:150]), b" ".join([*words[:150], words[0].upper()])):
            await client.ok(b"APPEND Drafts (%b) {6+}\r\nA: b\r\n" % flags)
        *_, refused = await client.command(b"APPEND Drafts (%b) {6+}\r\nA: b\r\n" % b" ".join(words[150:]))
        assert refused.startswith(b"t NO [LIMIT] ")
        one, other = words[100:200], words[50:151]
        both = b"APPEND Junk (%b) {6+}\r\nA: b\r\n" % b" ".join(one)
        *_, refused = await client.command(
            both + b" (%b) {6+}\r\nA: b\r\n" % b" ".join([*other, *words[:50], words[200]])
        )
        assert refused.startswith(b"t NO [LIMIT] ")
        await client.ok(both + b" (%b) {6+}\r\nA: b\r\n" % b" ".join(other).upper())
        await client.ok(b"SELECT Junk")
        first, second = await client.ok(b"FETCH 1:2 FLAGS")
        assert b"word120" in first
        assert b"word120" in second


async def test_as_many_mailboxes_as_may_be(settings: Settings, account: Person, client_tls: ssl.SSLContext) -> None:
    """Mailboxes and subscriptions are bounded, superior names included; what is there can still be renamed and removed."""
    async for service in limited(settings, account, client_tls, mailbox_limit=8):  # 6 come with the account
        async with await service.client() as client:
            for command in (b"CREATE a/b/c", b"RENAME Sent a/b/c/d"):
                *_, refused = await client.command(command)
                assert refused.startswith(b"t NO [LIMIT] "), command
            await client.ok(b"CREATE a/b")
            await client.ok(b"RENAME a/b a/c")
            for command in (b"CREATE d", b"RENAME a/c d/e", b"RENAME INBOX d"):
                *_, refused = await client.command(command)
                assert refused.startswith(b"t NO [LIMIT] "), command
            for name in (b"a", b"a", b"nowhere", b"a"):
                await client.ok(b"SUBSCRIBE " + name)
            *_, refused = await client.command(b"SUBSCRIBE d")
            assert refused.startswith(b"t NO [LIMIT] ")
            await client.ok(b"DELETE a/c")
            await client.ok(b"CREATE d")
            assert len(await client.ok(b'LIST "" *')) == 8


async def test_searches_and_notify_have_so_many_keys_and_groups(
    settings: Settings, account: Person, client_tls: ssl.SSLContext
) -> None:
    """A key that reads messages may read all of them, and an event group looks at all mailboxes: both are counted."""
    async for service in limited(settings, account, client_tls, search_keys=3, notify_groups=2):
        async with await service.client() as client:
            await client.ok(b"SELECT INBOX")
            assert await client.ok(b"SEARCH SEEN LARGER 1 OR TEXT a NOT BODY b SUBJECT c SMALLER 9") == [b"* SEARCH"]
            for command in (
                b"SEARCH TEXT a BODY b SUBJECT c OR SENTON 1-Jan-2026 UNSEEN",
                b"ESEARCH IN (personal)" + b" BODY a" * 4,
            ):
                assert (await client.command(command))[-1].startswith(b"t NO [LIMIT] ")
            group = b" (mailboxes INBOX (MessageNew MessageExpunge))"
            await client.ok(b"NOTIFY SET" + group * 2)
            assert (await client.command(b"NOTIFY SET" + group * 3))[-1].startswith(b"t NO [NOTIFICATIONOVERFLOW] ")
