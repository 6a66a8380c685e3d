"""Reading under load: one IMAP session on a large mailbox, and parallel POP3 downloads.

Each read is done three times on a session that selected the mailbox: the first ever is "cold", the median of the others
is "warm". Changes (STORE, COPY, MOVE, EXPUNGE) are done once, on 1,000 messages.
"""

import asyncio
import random
import re
import statistics
import time
from dataclasses import dataclass, field

from bench import processor
from bench.connection import Imap, Pop3
from bench.delivery import quiet
from bench.system import Account, System

# What Thunderbird asks for a new folder.
_HEADER_LIST = (
    "From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To"
)
READS = {
    "SELECT": "SELECT INBOX",
    "FETCH FLAGS": "UID FETCH 1:* (FLAGS)",
    "FETCH ENVELOPE": "UID FETCH 1:* (ENVELOPE)",
    "FETCH BODYSTRUCTURE": "UID FETCH 1:* (BODYSTRUCTURE)",
    "Thunderbird list": f"UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS ({_HEADER_LIST})])",
    "SEARCH FROM": 'UID SEARCH FROM "sender77@"',
    "SEARCH SUBJECT": 'UID SEARCH SUBJECT "steinberg"',
    "SEARCH UNSEEN": "UID SEARCH UNSEEN",
    "SEARCH TEXT": 'UID SEARCH TEXT "ungmuundna mannungberg"',
    "SEARCH BODY": 'UID SEARCH BODY "ungmuundna mannungberg"',
}


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


async def read(system: System, account: Account, times: int = 4) -> Timings:
    """Time the reads and then the changes on the account's INBOX."""
    session = await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls)
    timings = Timings(system.name, await session.messages())
    for name, command in READS.items():
        taken: list[float] = []
        used = processor.seconds(system.roots)
        for _ in range(times):
            answer = await session.command(command)
            taken.append(answer.seconds * 1000)
            timings.counts[name] = _count(name, answer.octets)
        timings.cpu[name] = (processor.seconds(system.roots) - used) * 1000 / times
        timings.cold[name], timings.warm[name] = taken[0], statistics.median(taken[1:])
    await _bodies(session, timings)
    await _changes(system, session, timings)
    await session.logout()
    return timings


async def _bodies(session: Imap, timings: Timings) -> None:
    """500 random messages whole, one after the other."""
    answer = await session.command("UID SEARCH ALL")
    uids = re.findall(rb"\d+", answer.octets.partition(b"\r\n")[0].removeprefix(b"* SEARCH"))
    chance = random.Random(500)
    each: list[float] = []
    for uid in chance.choices(uids, k=500):
        answer = await session.command(f"UID FETCH {uid.decode()} (BODY.PEEK[])")
        each.append(answer.seconds * 1000)
    each.sort()
    timings.warm["500 bodies"] = sum(each)
    timings.p50, timings.p99 = each[249], each[494]


async def _changes(system: System, session: Imap, timings: Timings) -> None:
    await session.command("CREATE bench-copy")
    amount = min(1000, timings.messages // 2)
    changes = {
        "STORE 1000": f"STORE 1:{amount} +FLAGS.SILENT (\\Flagged)",
        "COPY 1000": f"COPY 1:{amount} bench-copy",
        "MOVE 1000": f"MOVE 1:{amount} bench-copy",
    }
    for name, command in changes.items():
        await _change(system, session, timings, name, command)
    await session.command("SELECT bench-copy")
    await session.command(f"STORE 1:{amount} +FLAGS.SILENT (\\Deleted)")
    await _change(system, session, timings, "EXPUNGE 1000", "EXPUNGE")
    each = []
    for number in range(1, 101):
        answer = await session.command(f"STORE {number} +FLAGS (\\Seen)")
        each.append(answer.seconds * 1000)
    timings.warm["STORE single p50"] = statistics.median(each)


async def _change(system: System, session: Imap, timings: Timings, name: str, command: str) -> None:
    used = processor.seconds(system.roots)
    timings.warm[name] = (await session.command(command)).seconds * 1000
    timings.cpu[name] = (processor.seconds(system.roots) - used) * 1000


def _count(name: str, octets: bytes) -> int:
    """How much an answer held: hits of a SEARCH, lines of a FETCH, EXISTS of a SELECT."""
    if name.startswith("SEARCH"):
        return len(octets.partition(b"\r\n")[0].split()) - 2
    if name == "SELECT":
        found = re.search(rb"\* (\d+) EXISTS", octets)
        return int(found[1]) if found else -1
    return len(re.findall(rb"^\* \d+ FETCH \(", octets, re.MULTILINE))


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
