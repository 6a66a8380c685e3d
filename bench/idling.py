"""Thousands of idle TLS sessions: what each costs in memory, and how soon they are told of new mail.

Memory is the sum of PSS of all processes of a system, PostgreSQL included, with the sessions minus without them; one session
of each account has come and gone before, so that caches are in both. The sessions of an account have its INBOX selected and
wait in IDLE. Time runs from the final dot of an LMTP delivery to the first session's EXISTS, and to that of the last one which
is told soon. The peer has a process for each session, and the kernel lets 128 of them listen for changes by default
(fs.inotify.max_user_instances, which the benchmark leaves as it is): those of the others look every 30 s.
"""

import asyncio
import re
import resource
import statistics
import sys
import time
from collections.abc import Sequence

from bench import processor
from bench.connection import AnswerError, Imap
from bench.delivery import Load, greeted, indexed, quiet, send
from bench.figures import Figure
from bench.mails import mails
from bench.system import Account, System

_AT_ONCE = 16  # logins
_SPARE_DESCRIPTORS = 200
_PATIENCE_SECONDS = 60.0
_SOON_SECONDS = 1.0  # behind the first


def allow_descriptors() -> int:
    """Raise the soft limit of open files to the hard one, for us and the servers we start; gives it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


async def idle(systems: Sequence[System], connections: int, deliveries: int) -> list[Figure]:
    """Measure each system with `connections` sessions; less where the limit of open files is lower."""
    possible = min(
        connections, (allow_descriptors() - _SPARE_DESCRIPTORS) // 2
    )  # a server needs two for each, at worst
    if possible < connections:
        print(f"Only {possible} idle sessions: the limit of open files", file=sys.stderr)
    figures: list[Figure] = []
    for system in systems:
        figures += await _measure(system, possible, deliveries)
    return figures


async def _measure(system: System, connections: int, deliveries: int) -> list[Figure]:
    accounts = system.accounts
    messages: dict[str, int] = {}
    for account in accounts:
        session = await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls)
        messages[account.login] = await session.messages()
        await session.command("SELECT INBOX")
        await session.logout()
    await indexed(system)
    await quiet(system)
    before = processor.resident_octets(system.roots)
    sessions: dict[str, list[Imap]] = {account.login: [] for account in accounts}
    turns = iter(range(connections))

    async def opener() -> None:
        for number in turns:
            account = accounts[number % len(accounts)]
            sessions[account.login].append(await _waiting(system, account))

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(opener())
    await asyncio.sleep(system.settling_seconds)
    await quiet(system)
    after = processor.resident_octets(system.roots)
    used = processor.seconds(system.roots)
    await asyncio.sleep(5)
    used = processor.seconds(system.roots) - used
    first, last, share = await _deliver(system, sessions, messages, deliveries)
    for waiting in sessions.values():
        for session in waiting:
            session.close()
    await quiet(system)
    title = f"{connections} idle"
    return [
        Figure(system.name, f"{title}: memory each", "KB", (after - before) / connections / 1000),
        Figure(system.name, f"{title}: memory in all", "MB", after / 1e6),
        Figure(system.name, f"{title}: CPU per s", "ms", used * 1000 / 5),
        Figure(system.name, "delivery to EXISTS p50", "ms", statistics.median(first)),
        Figure(system.name, "delivery to EXISTS p99", "ms", first[int(len(first) * 0.99)]),
        Figure(system.name, "... to the account's last, p50", "ms", statistics.median(last)),
        Figure(system.name, "... to the account's last, p99", "ms", last[int(len(last) * 0.99)]),
        Figure(system.name, "... told within 1 s of the first", "%", share, is_rate=True),
    ]


async def _waiting(system: System, account: Account) -> Imap:
    session = await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls)
    await session.command("SELECT INBOX")
    await session.idle()
    return session


async def _deliver(
    system: System, sessions: dict[str, list[Imap]], messages: dict[str, int], deliveries: int
) -> tuple[list[float], list[float], float]:
    """Milliseconds to the first and to the last EXISTS of each delivery, sorted, and how many percent were told."""
    load = Load("idle", deliveries, sessions=1, protocol="lmtp")
    stream = await greeted(system.endpoints["lmtp"], load)
    first, last, count, waited = [], [], 0, 0
    logins = list(sessions)
    for number, mail in enumerate(mails(deliveries, seed=21, size_octets=8000)):
        login = logins[number % len(logins)]
        messages[login] += 1
        exists = re.compile(rb"^\* %d EXISTS\r\n" % messages[login], re.MULTILINE)
        told = [asyncio.create_task(session.told(exists)) for session in sessions[login]]
        taken = await send(stream, mail, [login], load)
        started = time.perf_counter() - taken
        await asyncio.wait(told, timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        done, late = await asyncio.wait(told, timeout=_SOON_SECONDS)
        for task in late:
            task.cancel()
        if not done:
            raise AnswerError(f"{system.name}: no EXISTS within {_PATIENCE_SECONDS} s")
        times = [(task.result() - started) * 1000 for task in done]
        first.append(min(times))
        last.append(max(times))
        count, waited = count + len(done), waited + len(told)
        await asyncio.sleep(0.02)  # what the servers do behind the EXISTS does not count for the next one
    stream.close()
    return sorted(first), sorted(last), 100 * count / waited
