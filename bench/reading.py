"""Reading and changing under load: one IMAP session of each system on a large mailbox, and POP3 downloads.

The systems take turns within every operation, so that a change of the machine hits all of them: each read is done some
times, the first ever is "cold" and the median of the others "warm". The search index is complete before the clock runs.
"""

import asyncio
import random
import re
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bench import processor
from bench.connection import Answer, Imap, Pop3
from bench.delivery import quiet
from bench.system import Account, System

# What Thunderbird asks for a new folder.
_HEADER_LIST = (
    "From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To"
)
HEADER_LIST = f"UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS ({_HEADER_LIST})])"
READS = {
    "SELECT": "SELECT INBOX",
    "FETCH FLAGS": "FETCH 1:* (FLAGS)",
    "FETCH ENVELOPE": "FETCH 1:* (ENVELOPE)",
    "FETCH BODYSTRUCTURE": "FETCH 1:* (BODYSTRUCTURE)",
    "Thunderbird list": HEADER_LIST,
    "SEARCH FROM": 'UID SEARCH FROM "sender77@"',
    "SEARCH FROM, many": 'UID SEARCH FROM "sender1"',
    "SEARCH SUBJECT": 'UID SEARCH SUBJECT "steinberg"',
    "SEARCH SUBJECT, many": 'UID SEARCH SUBJECT "ung"',
    "SEARCH UNSEEN": "UID SEARCH UNSEEN",
    "SEARCH TEXT": 'UID SEARCH TEXT "ungmuundna mannungberg"',
    "SEARCH BODY": 'UID SEARCH BODY "ungmuundna mannungberg"',
    "SORT SUBJECT": "UID SORT (SUBJECT) UTF-8 ALL",
    "SORT REVERSE DATE": "UID SORT (REVERSE DATE) UTF-8 ALL",
    "SORT FROM DATE": "UID SORT (FROM DATE) UTF-8 ALL",
    "THREAD REFERENCES": "UID THREAD REFERENCES UTF-8 ALL",
    "THREAD REFS": "UID THREAD REFS UTF-8 ALL",
    "THREAD ORDEREDSUBJECT": "UID THREAD ORDEREDSUBJECT UTF-8 ALL",
}
_TIMES = 6
_CHANGES = 3
_BODIES, _SINGLES = 500, 100


@dataclass(slots=True)
class Timings:
    """Milliseconds by operation. counts: what the answers held, to be the same on every system."""

    system: str
    messages: int
    cold: dict[str, float] = field(default_factory=dict)
    warm: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    p50: float = 0.0
    p99: float = 0.0


@dataclass(slots=True)
class Reader:
    """One system's session, and what it has measured."""

    system: System
    session: Imap
    timings: Timings


Once = Callable[[Reader], Awaitable[float]]


async def read(systems: Sequence[System], account: Account) -> list[Timings]:
    """Time the reads and then the changes on the account's INBOX, system by system within each operation."""
    readers = [await _reader(system, account) for system in systems]
    for name, command in READS.items():
        await in_turns(readers, name, _reading(name, command))
    await _bodies(readers)
    await _changes(readers)
    await _singles(readers)
    for reader in readers:
        await reader.session.logout()
    return [reader.timings for reader in readers]


async def in_turns(readers: Sequence[Reader], name: str, once: Once, times: int = _TIMES) -> None:
    """Do an operation `times` times on each system in turn; its milliseconds go into the timings."""
    taken: list[list[float]] = [[] for _ in readers]
    used = [0.0 for _ in readers]
    for _ in range(times):
        for number, reader in enumerate(readers):
            before = processor.seconds(reader.system.roots)
            taken[number].append(await once(reader) * 1000)
            used[number] += processor.seconds(reader.system.roots) - before
    for reader, values, cpu in zip(readers, taken, used, strict=True):
        timings = reader.timings
        timings.cpu[name] = cpu * 1000 / times
        timings.cold[name], timings.warm[name] = values[0], statistics.median(values[1:])


async def _reader(system: System, account: Account) -> Reader:
    session = await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls)
    return Reader(system, session, Timings(system.name, await session.messages()))


def _reading(name: str, command: str) -> Once:
    async def once(reader: Reader) -> float:
        answer = await reader.session.command(command)
        reader.timings.counts[name] = _count(name, answer.octets)
        return answer.seconds

    return once


async def _bodies(readers: Sequence[Reader]) -> None:
    """500 random messages whole, one after the other."""
    each: dict[str, list[float]] = {reader.system.name: [] for reader in readers}
    uids = {reader.system.name: await _uids(reader.session) for reader in readers}
    rounds = iter(range(_TIMES * len(readers)))

    async def once(reader: Reader) -> float:
        name = reader.system.name
        chance = random.Random(500 + next(rounds) // len(readers))
        answers = [
            await reader.session.command(f"UID FETCH {uid.decode()} (BODY.PEEK[])")
            for uid in chance.choices(uids[name], k=_BODIES)
        ]
        each[name] += [answer.seconds * 1000 for answer in answers]
        return sum(answer.seconds for answer in answers)

    await in_turns(readers, f"{_BODIES} random bodies", once)
    for reader in readers:
        values = sorted(each[reader.system.name])
        reader.timings.p50, reader.timings.p99 = values[len(values) // 2], values[int(len(values) * 0.99)]


async def _uids(session: Imap) -> list[bytes]:
    answer = await session.command("UID SEARCH ALL")
    return re.findall(rb"\d+", answer.octets.partition(b"\r\n")[0].removeprefix(b"* SEARCH"))


async def _changes(readers: Sequence[Reader]) -> None:
    """STORE, COPY and MOVE of the first 1,000 messages, then EXPUNGE of as many of the copies; of a tenth, where fewer."""
    amount = min(1000, readers[0].timings.messages // 10)
    for reader in readers:
        await reader.session.command("CREATE bench-copy")

    signs = _signs(readers)

    async def store(reader: Reader) -> float:
        return await _seconds(reader, f"STORE 1:{amount} {next(signs)}FLAGS.SILENT (\\Flagged)")

    async def copy(reader: Reader) -> float:
        return await _seconds(reader, f"COPY 1:{amount} bench-copy")

    async def move(reader: Reader) -> float:
        return await _seconds(reader, f"MOVE 1:{amount} bench-copy")

    async def expunge(reader: Reader) -> float:
        await reader.session.command(f"STORE 1:{amount} +FLAGS.SILENT (\\Deleted)")
        return await _seconds(reader, "EXPUNGE")

    await in_turns(readers, f"STORE {amount}", store, _CHANGES)
    await in_turns(readers, f"COPY {amount}", copy, _CHANGES)
    await in_turns(readers, f"MOVE {amount}", move, _CHANGES)
    for reader in readers:
        await reader.session.command("SELECT bench-copy")
    await in_turns(readers, f"EXPUNGE {amount}", expunge, _CHANGES)


async def _singles(readers: Sequence[Reader]) -> None:
    """100 messages get a flag one by one: the median of one."""

    signs = _signs(readers)

    async def once(reader: Reader) -> float:
        sign = next(signs)
        each = [await _seconds(reader, f"STORE {number} {sign}FLAGS (\\Seen)") for number in range(1, _SINGLES + 1)]
        return statistics.median(each)

    await in_turns(readers, "STORE single p50", once, _CHANGES)


def _signs(readers: Sequence[Reader]) -> Iterator[str]:
    """+ for every system, then - for every system, and so on: each STORE changes something."""
    while True:
        yield from "+" * len(readers) + "-" * len(readers)


async def _seconds(reader: Reader, text: str) -> float:
    answer: Answer = await reader.session.command(text)
    return answer.seconds


def _count(name: str, octets: bytes) -> int:
    """How much an answer held: hits of a SEARCH or SORT, threads, lines of a FETCH, EXISTS of a SELECT."""
    first = octets.partition(b"\r\n")[0]
    if name.startswith(("SEARCH", "SORT")):
        return len(first.split()) - 2
    if name.startswith("THREAD"):
        return _threads(first)
    if name == "SELECT":
        found = re.search(rb"\* (\d+) EXISTS", octets)
        return int(found[1]) if found else -1
    return len(re.findall(rb"^\* \d+ FETCH \(", octets, re.MULTILINE))


def _threads(line: bytes) -> int:
    """How many threads an untagged THREAD has on its uppermost level."""
    depth = count = 0
    for octet in re.findall(rb"[()]", line):
        depth += 1 if octet == b"(" else -1
        count += depth == 0
    return count


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What a POP3 download gave: messages and octets over all sessions, seconds, CPU seconds of the servers."""

    system: str
    messages: int
    octets: int
    elapsed: float
    cpu_seconds: float


async def download(system: System, account: Account, count: int) -> Downloaded:
    """One POP3 session takes the first `count` messages, without deleting any."""
    await quiet(system)
    used = processor.seconds(system.roots)
    started = time.perf_counter()
    session = await Pop3.login(system.endpoints["pop3s"], account.login, account.password, system.tls)
    octets = 0
    for number in range(1, count + 1):
        octets += len((await session.multi(f"RETR {number}")).octets)
    await session.quit()
    elapsed = time.perf_counter() - started
    await asyncio.sleep(0.2)
    return Downloaded(system.name, count, octets, elapsed, processor.seconds(system.roots) - used)
