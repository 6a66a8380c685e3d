"""Searches that are kept up to date (RFC 5267): what is told, when, with numbers that are right at that moment."""

import random
import re

from tests.daemons.imap.conftest import Service
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves

CONTEXT = b'* ESEARCH (TAG "c") '


def letter(sender: str) -> bytes:
    """A message of this sender."""
    return f"From: {sender}@example.test\r\nSubject: s\r\nDate: 1 Jan 2020 00:00:00 +0000\r\n\r\nbody\r\n".encode()


def updates(lines: list[bytes]) -> list[bytes]:
    """What the lines tell of the context with the tag "c"."""
    return [line.removeprefix(CONTEXT) for line in lines if line.startswith(CONTEXT)]


async def _selected(service: Service, senders: str) -> Client:
    await service.deliver(*map(letter, senders))
    client = await service.client()
    await client.ok(b"SELECT INBOX")
    return client


@proves(b"CONTEXT=SEARCH")
async def test_context_of_a_search(service: Service) -> None:
    """What joins and leaves by flags, as a new message or by an expunge is told until CANCELUPDATE (RFC 5267 §4)."""
    async with await _selected(service, "abcde") as client:
        assert updates(await client.command(b"SEARCH RETURN (UPDATE COUNT) SEEN BODY body", b"c")) == [b"COUNT 0"]
        assert updates(await client.ok(rb"STORE 1:2,4 +FLAGS \Seen")) == [b"ADDTO (0 1:2,4)"]
        assert updates(await client.ok(rb"STORE 1:2 -FLAGS \Seen")) == [b"REMOVEFROM (0 1:2)"]
        assert updates(await client.ok(rb"STORE 1:2 +FLAGS \Flagged")) == []
        await client.ok(rb"STORE 3:4 +FLAGS.SILENT \Deleted")
        assert await client.ok(b"EXPUNGE") == [CONTEXT + b"REMOVEFROM (0 4)", b"* 4 EXPUNGE", b"* 3 EXPUNGE"]
        await service.deliver(letter("f"), flags=r"\Seen")
        exists, _, told = await client.arrival()
        assert (exists, told) == (b"* 4 EXISTS", CONTEXT + b"ADDTO (0 4)")
        assert await client.ok(b'CANCELUPDATE "c"') == []
        assert updates(await client.ok(rb"STORE 1 +FLAGS \Seen")) == []
        *_, tagged = await client.command(b'CANCELUPDATE "c"')
        assert tagged.startswith(b"t BAD ")


@proves(b"CONTEXT=SORT")
async def test_context_of_a_sort(service: Service) -> None:
    """The positions are those in the sorted result, each as things stand when it is read (RFC 5267 §4.3)."""
    async with await _selected(service, "eca") as client:
        command = b"UID SORT RETURN (UPDATE ALL) (FROM) UTF-8 UNDELETED"
        assert updates(await client.command(command, b"c")) == [b"UID ALL 3,2,1"]
        await service.deliver(letter("d"), letter("b"), letter("b"))
        assert updates(await client.arrival()) == [b"UID ADDTO (2 5:6 5 4)"]
        assert updates(await client.ok(rb"STORE 2,5 +FLAGS.SILENT \Deleted")) == [b"UID REMOVEFROM (4 2 2 5)"]
        assert updates(await client.ok(rb"STORE 2 -FLAGS.SILENT \Deleted")) == [b"UID ADDTO (3 2)"]
        lines = await client.ok(b"UID SORT RETURN (ALL) (FROM) UTF-8 UNDELETED")
        assert lines == [b'* ESEARCH (TAG "t") UID ALL 3,6,2,4,1']


async def test_changes_of_others_are_told_in_idle(service: Service) -> None:
    """IDLE tells what another session's STORE and EXPUNGE do to a result."""
    async with await _selected(service, "abc") as client, await service.client() as other:
        await other.ok(b"SELECT INBOX")
        await client.command(b"UID SEARCH RETURN (UPDATE) FLAGGED", b"c")
        client.write(b"i IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        await other.ok(rb"STORE 2 +FLAGS.SILENT (\Flagged \Deleted)")
        assert (await client.line()).startswith(b"* 2 FETCH ")
        assert await client.line() == CONTEXT + b"UID ADDTO (0 2)"
        await other.ok(b"EXPUNGE")
        assert await client.line() == CONTEXT + b"UID REMOVEFROM (0 2)"
        assert await client.line() == b"* 2 EXPUNGE"
        client.write(b"DONE\r\n")
        assert (await client.until(b"i"))[-1].startswith(b"i OK ")


async def test_expunges_wait_as_everywhere(service: Service) -> None:
    """While EXPUNGE may not be told the message stays in the result, under the number it has (RFC 3501 §7.4.1)."""
    async with await _selected(service, "abc") as client, await service.client() as other:
        await other.ok(b"SELECT INBOX")
        await client.command(b"SEARCH RETURN (UPDATE) ALL", b"c")
        await other.ok(rb"STORE 1 +FLAGS.SILENT \Deleted")
        await other.ok(b"EXPUNGE")
        assert updates(await client.ok(b"SEARCH ALL")) == []
        assert await client.ok(b"NOOP") == [CONTEXT + b"REMOVEFROM (0 1)", b"* 1 EXPUNGE"]


async def test_numbers_in_the_keys_mean_messages(service: Service) -> None:
    """A sequence number or "$" in the keys means the message it meant when the search was made."""
    async with await _selected(service, "abc") as client:
        await client.ok(b"SEARCH RETURN (SAVE) 3")
        await client.command(b"UID SEARCH RETURN (UPDATE) FLAGGED OR 2 $", b"c")
        await client.ok(rb"STORE 1 +FLAGS.SILENT \Deleted")
        await client.ok(b"EXPUNGE")
        assert updates(await client.ok(rb"STORE 1:2 +FLAGS.SILENT \Flagged")) == [b"UID ADDTO (0 2:3)"]


async def test_noupdate(service: Service) -> None:
    """Too many contexts, and keys that change by themselves, are not kept up to date; the result is told (RFC 5267 §4.3)."""
    async with await _selected(service, "a") as client:
        lines = await client.command(b"SEARCH RETURN (UPDATE COUNT) YOUNGER 60", b"y")
        assert lines[0] == b'* ESEARCH (TAG "y") COUNT 0'
        assert lines[1].startswith(b'* NO [NOUPDATE "y"] ')
        limit = service.context.settings.imap.search_contexts
        for number in range(limit):
            assert len(await client.command(b"SEARCH RETURN (UPDATE) ALL", b"n%d" % number)) == 2
        lines = await client.command(b"SEARCH RETURN (UPDATE COUNT) ALL", b"more")
        assert lines[0] == b'* ESEARCH (TAG "more") COUNT 1'
        assert lines[1].startswith(b'* NO [NOUPDATE "more"] ')
        assert lines[2].startswith(b"more OK ")
        assert await client.ok(b'CANCELUPDATE "n0"') == []
        assert len(await client.command(b"SEARCH RETURN (UPDATE CONTEXT COUNT) ALL", b"more")) == 2


class Mirror:
    """What a client makes of a sorted context: a list that it edits as it is told."""

    def __init__(self) -> None:
        self.uids: list[int] = []

    def take(self, lines: list[bytes]) -> None:
        """Follow ADDTO and REMOVEFROM."""
        for told in updates(lines):
            word, _, rest = told.removeprefix(b"UID ").partition(b" (")
            if word == b"ALL":
                continue
            for position, numbers in re.findall(rb"(\d+) ([\d:,]+)", rest):
                at = int(position) - 1
                for uid in _expanded(numbers):
                    if word == b"ADDTO":
                        self.uids.insert(at, uid)
                        at += 1
                    else:
                        assert self.uids.pop(at) == uid


def _expanded(numbers: bytes) -> list[int]:
    found: list[int] = []
    for part in numbers.split(b","):
        low, _, high = part.partition(b":")
        found += range(int(low), int(high or low) + 1)
    return found


async def test_a_client_that_follows_has_what_a_search_gives(service: Service) -> None:
    """Whatever happens, the list edited as told equals the same SORT made anew."""
    chance = random.Random(5267)
    async with await _selected(service, "".join(chance.choices("abcdefgh", k=20))) as client:
        mirror = Mirror()
        command = b"UID SORT RETURN (%bALL) (REVERSE FROM) UTF-8 UNDELETED UNFLAGGED"
        (line, *_) = await client.command(command % b"UPDATE ", b"c")
        mirror.uids = _expanded(line.rpartition(b" ")[2])
        for _ in range(30):
            count = len(mirror.uids)
            some = b",".join(b"%d" % uid for uid in chance.sample(mirror.uids, min(3, count))) or b"1"
            match chance.randrange(5):
                case 0:
                    await service.deliver(*map(letter, chance.choices("abcdefgh", k=2)))
                    mirror.take(await client.arrival())
                case 1:
                    mirror.take(await client.ok(rb"UID STORE %b +FLAGS.SILENT \Flagged" % some))
                case 2:
                    mirror.take(await client.ok(rb"UID STORE 1:%d -FLAGS.SILENT \Flagged" % chance.randint(1, 40)))
                case 3:
                    mirror.take(await client.ok(rb"UID STORE %b +FLAGS.SILENT \Deleted" % some))
                case _:
                    mirror.take(await client.ok(b"EXPUNGE"))
            mirror.take(await client.ok(b"NOOP"))
            (line,) = await client.ok(command % b"")
            assert mirror.uids == (_expanded(line.rpartition(b" ")[2]) if b" ALL " in line else [])
