"""Several connections at work on one mailbox, in one process and in two: sequence numbers never lie, and nothing gets lost.

Each connection keeps account of the mailbox as a client does, by what it is told alone. Every number it uses must then mean
the message it believes, to every command.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from daemons.context import open_context
from storage import messages
from storage.rows import FLAGGED
from tests.daemons.imap.conftest import Service, mail, running
from tests.daemons.imap.conversation import Client

_DATA = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE|RECENT|FETCH|UIDFETCH)\b(?: \((.*)\))?", re.DOTALL)
_UID = re.compile(rb"\bUID (\d+)")
_COPYUID = re.compile(rb"\[COPYUID \d+ ([\d:,]+) ([\d:,]+)\]")


def numbers(written: bytes) -> list[int]:
    """The members of a set."""
    found: list[int] = []
    for part in written.split(b","):
        low, _, high = part.partition(b":")
        found.extend(range(int(low), int(high or low) + 1))
    return found


class Watcher:
    """A connection and what it was told: the UID behind each number, 0 where it does not know it yet."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.uids: list[int] = []

    async def select(self, mailbox: bytes = b"INBOX") -> None:
        """Select and learn all UIDs."""
        self.uids = []
        await self.command(b"SELECT " + mailbox)
        await self.learn()

    async def learn(self) -> None:
        """Ask for all UIDs; what is known already must be as it was told."""
        if self.uids:
            await self.command(b"FETCH 1:* (UID)")

    async def command(self, octets: bytes, tag: bytes = b"t") -> bytes:
        """Run a command, note what it tells; gives the tagged line."""
        self.client.write(tag + b" " + octets + b"\r\n")
        return await self.until(tag)

    async def until(self, tag: bytes) -> bytes:
        """Note what is told up to the tagged line."""
        while not (line := await self.client.line()).startswith(tag + b" "):
            assert line, "the connection ended"
            self.note(line)
        return line

    def _vanish(self, uid: int) -> None:
        """One that was never asked for is one of those, all alike, between the UIDs that are known around it."""
        if uid not in self.uids:
            below = max((at + 1 for at, known in enumerate(self.uids) if 0 < known < uid), default=0)
            assert self.uids[below] == 0, "nothing there can have vanished"
            del self.uids[below]
        else:
            self.uids.remove(uid)

    def note(self, line: bytes) -> None:
        """Take over one untagged response; what contradicts the account is an error."""
        if line.startswith(b"* VANISHED "):
            assert not line.startswith(b"* VANISHED (EARLIER)")
            for uid in numbers(line.removeprefix(b"* VANISHED ")):
                self._vanish(uid)
            return
        found = _DATA.match(line)
        if found is None:
            return
        number, what = int(found[1]), found[2]
        if what == b"EXISTS":
            assert number >= len(self.uids), "messages may go by EXPUNGE only"
            self.uids.extend([0] * (number - len(self.uids)))
        elif what == b"EXPUNGE":
            assert 1 <= number <= len(self.uids)
            del self.uids[number - 1]
        elif what == b"FETCH":
            assert 1 <= number <= len(self.uids)
            told = _UID.search(found[3])
            if told is not None:
                assert self.uids[number - 1] in (0, int(told[1])), f"number {number} has changed its message"
                self.uids[number - 1] = int(told[1])


class Work:
    """Random commands on several connections, and what they must have done."""

    def __init__(self, seed: int, watchers: list[Watcher], marked: dict[str, set[int]] | None = None) -> None:
        self.random = random.Random(seed)
        self.watchers = watchers
        self.marked = {} if marked is None else marked  # keyword -> UIDs it may be on

    def _known(self, watcher: Watcher) -> list[int]:
        """Numbers whose UIDs the connection knows."""
        return [at + 1 for at, uid in enumerate(watcher.uids) if uid]

    async def step(self, watcher: Watcher, count: int) -> None:
        """One command."""
        known = self._known(watcher)
        if not known:
            await watcher.command(b"APPEND INBOX {6+}\r\nA: b\r\n")
            await watcher.learn()
            return
        number = self.random.choice(known)
        uid = watcher.uids[number - 1]
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: self._mark(watcher, number, uid, f"k{count}"),
            lambda: self._mark(watcher, number, uid, f"k{count}"),
            lambda: watcher.command(b"STORE %d +FLAGS (\\Deleted)" % number),
            lambda: watcher.command(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % uid),
            lambda: watcher.command(b"EXPUNGE"),
            lambda: watcher.command(b"UID EXPUNGE %d" % uid),
            lambda: self._place(watcher, b"COPY %d INBOX", number, uid),
            lambda: self._place(watcher, b"COPY %d Other", number, uid),
            lambda: self._place(watcher, b"MOVE %d Other", number, uid),
            lambda: watcher.command(b"APPEND INBOX {6+}\r\nA: b\r\n"),
            lambda: watcher.command(b"APPEND INBOX {6+}\r\nA: b\r\n"),
            lambda: watcher.command(b"NOOP"),
            lambda: watcher.command(b"FETCH %d (UID FLAGS)" % number),
            lambda: watcher.command(b"UID FETCH 1:* (FLAGS)"),
            lambda: watcher.command(b"SEARCH ALL"),
            lambda: self._idle(watcher),
            watcher.learn,
        ]
        await self.random.choice(steps)()

    async def _mark(self, watcher: Watcher, number: int, uid: int, keyword: str) -> None:
        """A keyword of its own set by number: it must be on the message that the number means, and on no other but its copies."""
        self.marked[keyword] = {uid}
        await watcher.command(b"STORE %d +FLAGS (%b)" % (number, keyword.encode()))

    async def _place(self, watcher: Watcher, command: bytes, number: int, uid: int) -> None:
        told: list[bytes] = []
        watcher.client.write(b"t " + command % number + b"\r\n")
        while not told or not told[-1].startswith(b"t "):
            told.append(await watcher.client.line())
            watcher.note(told[-1])
        pairs = [found for line in told if (found := _COPYUID.search(line)) is not None]
        for pair in pairs:
            assert numbers(pair[1]) == [uid], "another message was placed than the number means"
            if command.endswith(b"INBOX"):
                for marks in self.marked.values():
                    marks |= set(numbers(pair[2])) if uid in marks else set()

    async def _idle(self, watcher: Watcher) -> None:
        watcher.client.write(b"i IDLE\r\n")
        while not (line := await watcher.client.line()).startswith(b"+ "):
            watcher.note(line)
        others = [each for each in self.watchers if each is not watcher]
        if others:
            await self.random.choice(others).command(b"APPEND INBOX {6+}\r\nA: b\r\n", b"o")
        watcher.client.write(b"DONE\r\n")
        await watcher.until(b"i")

    async def settle(self) -> None:
        """In the end all agree, and every mark is where it was put."""
        async with asyncio.timeout(30):
            while True:
                for watcher in self.watchers:
                    await watcher.command(b"NOOP")
                    await watcher.learn()
                if all(watcher.uids == self.watchers[0].uids for watcher in self.watchers):
                    break
        for line in await self.watchers[0].client.ok(b"UID FETCH 1:* (FLAGS)"):
            uid = int(_UID.search(line)[1])  # type: ignore[index]
            for keyword in re.findall(rb"\bk\d+", line):
                assert uid in self.marked[keyword.decode()], f"{keyword!r} is on message {uid}"


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"])
async def services(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[list[Service]]:
    """The service, and where there are two processes another one with views of its own, on the same database."""
    if request.param == 1:
        yield [service]
        return
    async with open_context(service.context.settings) as context, running(context) as endpoints:
        yield [service, Service(context, endpoints, service.person, service.tls)]


async def watching(services: list[Service], enable: list[bytes]) -> list[Watcher]:
    """Connections to the services in turn, each with what it enables."""
    await services[0].mailbox_id("Other")
    watchers = []
    for index, token in enumerate(enable):
        client = await services[index % len(services)].client()
        if token:
            await client.ok(b"ENABLE " + token)
        watchers.append(Watcher(client))
        await watchers[-1].select()
    return watchers


@pytest.mark.parametrize("seed", range(4))
async def test_commands_one_after_the_other(services: list[Service], seed: int) -> None:
    """Three connections take turns: each number means what its connection was told, to STORE, COPY, MOVE and FETCH."""
    await services[0].deliver(*[mail(f"m{number}") for number in range(12)])
    watchers = await watching(services, [b"", b"QRESYNC", b"CONDSTORE"])
    work = Work(seed, watchers)
    for count in range(90):
        await work.step(work.random.choice(watchers), count)
    await work.settle()
    for watcher in watchers:
        await watcher.client.close()


@pytest.mark.parametrize("seed", range(2))
async def test_commands_at_once(services: list[Service], seed: int) -> None:
    """Three connections work at the same time, and each one's account stays right."""
    await services[0].deliver(*[mail(f"m{number}") for number in range(12)])
    watchers = await watching(services, [b"", b"", b"QRESYNC"])
    marked: dict[str, set[int]] = {}
    works = [Work(seed * 10 + index, [watcher], marked) for index, watcher in enumerate(watchers)]

    async def run(index: int) -> None:
        for count in range(40):
            await works[index].step(watchers[index], 1000 * index + count)

    await asyncio.gather(*(run(index) for index in range(3)))
    await Work(seed, watchers, marked).settle()
    for watcher in watchers:
        await watcher.client.close()


async def test_conditional_stores_at_once(services: list[Service]) -> None:
    """Of conditional STOREs on one state one wins each message; the others are told MODIFIED, and what it is now."""
    await services[0].deliver(*[mail(f"m{number}") for number in range(5)])
    watchers = await watching(services, [b"CONDSTORE"] * 3)
    (line,) = await watchers[0].client.ok(b"FETCH 1 MODSEQ")
    since = line.rpartition(b"(")[2].rstrip(b")")
    answers = await asyncio.gather(
        *(
            watcher.command(b"STORE 1:5 (UNCHANGEDSINCE %b) FLAGS.SILENT (mine%d)" % (since, index))
            for index, watcher in enumerate(watchers)
        )
    )
    winners = [index for index, answer in enumerate(answers) if b"[MODIFIED" not in answer]
    assert len(winners) == 1
    assert sum(b"[MODIFIED 1:5]" in answer for answer in answers) == 2
    for watcher in watchers:
        for line in await watcher.client.ok(b"UID FETCH 1:* (FLAGS)"):
            if b"mine" not in line:  # another process: it learns by notification
                continue
            assert b"mine%d" % winners[0] in line
        await watcher.client.close()


async def test_idle_is_woken_every_time(services: list[Service]) -> None:
    """Whatever comes while IDLE begins, tells or ends is told, without anyone asking for it."""
    watchers = await watching(services, [b"", b"", b""])
    idler, *others = watchers
    for count in range(1, 61):
        idler.client.write(b"i IDLE\r\n")
        if count % 3:
            assert (await idler.client.line()).startswith(b"+ ")
        task = asyncio.create_task(others[count % 2].command(b"APPEND INBOX {6+}\r\nA: b\r\n"))
        while len(idler.uids) < count:
            idler.note(await idler.client.line())
        idler.client.write(b"DONE\r\n")
        await idler.until(b"i")
        await task
    await Work(0, watchers).settle()
    for watcher in watchers:
        await watcher.client.close()


async def test_idle_hears_what_comes_while_it_begins(
    service: Service, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A change that comes while IDLE tells the ones before is told, too, without a further one."""
    await service.deliver(mail("old"))
    async with await service.client() as client, service.context.pool.acquire() as connection:
        await client.ok(b"SELECT INBOX")
        await service.deliver(mail("new"))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with connection.transaction():
            mailbox_id = await connection.fetchval("SELECT mailbox_id FROM mailbox WHERE name = 'INBOX' FOR UPDATE")
            client.write(b"t IDLE\r\n")
            while not await owner.fetchval(waiting):
                pass  # until the session waits to mark the new message as told
            await messages.store_flags(connection, mailbox_id, [1], "add", FLAGGED, [])
        lines = [await client.line() for _ in range(4)]
        assert lines[1:] == [b"* 2 EXISTS", b"* 2 RECENT", b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Recent))"]
