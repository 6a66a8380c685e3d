"""Delivery under load: parallel SMTP or LMTP sessions, and the clock stops when every mailbox shows every message.

A rate is messages (or deliveries, for several recipients) over the time from the first connection to the last mailbox
complete by IMAP STATUS. CPU is read once the servers have gone quiet again, so work put off for later counts as well.
"""

import asyncio
import contextlib
import re
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import processor
from bench.connection import AnswerError, Endpoint, Imap, Stream, connect
from bench.mails import Mail, mails
from bench.system import Account, System

_PER_SESSION = 10  # messages in one session before it reconnects
_PATIENCE_SECONDS = 180.0
_INDEX_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Load:
    """One scenario: `count` messages over `sessions` parallel sessions to `recipients` accounts each."""

    title: str
    count: int
    sessions: int
    recipients: int = 1
    protocol: str = "smtp"
    size_octets: int | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one run of a load gave. Times in seconds; cpu_seconds of all server processes; latencies of the final dot."""

    system: str
    load: Load
    elapsed: float
    accepted_elapsed: float
    cpu_seconds: float
    cpu_by_process: dict[str, float]
    generator_seconds: float
    latencies: list[float]
    resident_octets: int


async def deliver(system: System, load: Load, seed: int) -> Delivered:
    """Run one load against one system. Raises AnswerError when a message is refused or does not appear in time."""
    prepared = list(mails(load.count, seed=seed, size_octets=load.size_octets))
    plan = _recipients(system.accounts, load)
    watchers = [await Imap.login(system.endpoints["imaps"], a.login, a.password, system.tls) for a in system.accounts]
    before = [await watcher.messages() for watcher in watchers]
    expected = dict.fromkeys(range(len(system.accounts)), 0)
    for receivers in plan:
        for receiver in receivers:
            expected[receiver] += 1
    await quiet(system)
    cpu, by_process, own = processor.seconds(system.roots), processor.seconds_by_name(system.roots), _own_seconds()
    started = time.perf_counter()
    latencies = await _send_all(system, load, prepared, plan)
    accepted = time.perf_counter() - started
    for number, watcher in enumerate(watchers):
        await _complete(watcher, before[number] + expected[number], started)
    elapsed = time.perf_counter() - started
    own = _own_seconds() - own
    resident = processor.resident_octets(system.roots)
    await quiet(system)
    cpu = processor.seconds(system.roots) - cpu
    spent = processor.seconds_by_name(system.roots)
    spent.subtract(by_process)
    for number, watcher in enumerate(watchers):
        found = await watcher.messages()
        if found != before[number] + expected[number]:
            raise AnswerError(f"{system.name}: {found} messages, not {before[number] + expected[number]}")
        await watcher.logout()
    named = {name: float(used) for name, used in spent.most_common() if used > 0}
    return Delivered(system.name, load, elapsed, accepted, cpu, named, own, sorted(latencies), resident)


async def fill(system: System, account: Account, count: int, seed: int) -> None:
    """Put `count` realistic messages into one account's INBOX over LMTP, and wait until they show."""
    watcher = await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls)
    before = await watcher.messages()
    load = Load("fill", count, sessions=8, protocol="lmtp")
    waiting = mails(count, seed=seed)
    queue: asyncio.Queue[Mail | None] = asyncio.Queue(64)

    async def session() -> None:
        stream = await greeted(system.endpoints["lmtp"], load)
        while mail := await queue.get():
            await send(stream, mail, [account.login], load)
        stream.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(load.sessions):
            group.create_task(session())
        for mail in waiting:
            await queue.put(mail)
        for _ in range(load.sessions):
            await queue.put(None)
    await _complete(watcher, before + count, time.perf_counter())
    await watcher.logout()
    await quiet(system)
    await indexed(system)


async def indexed(system: System) -> None:
    """Wait until no message waits for a search index that is filled later, where the system's metrics tell of one."""
    if "metrics" not in system.endpoints:
        return
    started = time.perf_counter()
    while (waiting := await _waiting(system.endpoints["metrics"])) > 0:
        if time.perf_counter() - started > _INDEX_SECONDS:
            raise AnswerError(f"{waiting} messages wait for the search index after {_INDEX_SECONDS} s")
        await asyncio.sleep(0.5)
    await quiet(system)


async def _waiting(endpoint: Endpoint) -> float:
    stream = await connect(endpoint)
    stream.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with contextlib.suppress(ConnectionError):  # which is how the answer ends
        while True:
            await stream.more()
    found = re.search(rb"^postwerk_search_waiting (\S+)", stream.take(), re.MULTILINE)
    if found is None:
        raise AnswerError("no metric postwerk_search_waiting")
    return float(found[1])


async def quiet(system: System) -> None:
    """Wait until the servers use next to no CPU, at most 20 seconds."""
    last = processor.seconds(system.roots)
    for _ in range(40):
        await asyncio.sleep(0.5)
        now = processor.seconds(system.roots)
        if now - last <= 0.02:
            return
        last = now


def _recipients(accounts: Sequence[Account], load: Load) -> list[list[int]]:
    total = len(accounts)
    return [
        [(number * load.recipients + step) % total for step in range(load.recipients)] for number in range(load.count)
    ]


async def _send_all(system: System, load: Load, prepared: Sequence[Mail], plan: Sequence[list[int]]) -> list[float]:
    turns = iter(range(load.count))
    latencies: list[float] = []

    async def sender() -> None:
        more = True
        while more:
            stream = await greeted(system.endpoints[load.protocol], load)
            for _ in range(_PER_SESSION):
                number = next(turns, None)
                if number is None:
                    more = False
                    break
                logins = [system.accounts[receiver].login for receiver in plan[number]]
                latencies.append(await send(stream, prepared[number], logins, load))
            stream.transport.write(b"QUIT\r\n")
            await stream.replies(1)
            stream.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(load.sessions):
            group.create_task(sender())
    return latencies


async def greeted(endpoint: Endpoint, load: Load) -> Stream:
    """A connected SMTP or LMTP session, ready for transactions."""
    stream = await connect(endpoint)
    _require(await stream.replies(1), b"220")
    stream.transport.write(b"LHLO client.test\r\n" if load.protocol == "lmtp" else b"EHLO client.test\r\n")
    _require(await stream.replies(1), b"250")
    return stream


async def send(stream: Stream, mail: Mail, logins: Sequence[str], load: Load) -> float:
    """One transaction, its commands pipelined as RFC 2920 allows; gives seconds from the final dot to the reply."""
    paths = b"".join(b"RCPT TO:<%s>\r\n" % login.encode() for login in logins)
    size = b" SIZE=%d" % len(mail.octets) if load.protocol == "smtp" else b""  # Dovecot's LMTP knows no SIZE
    stream.transport.write(b"MAIL FROM:<sender@sender.test>%s\r\n%sDATA\r\n" % (size, paths))
    answers = await stream.replies(len(logins) + 2)
    _require(answers[:-1], b"250")
    _require(answers[-1:], b"354")
    started = time.perf_counter()
    stream.transport.write(mail.wire)
    _require(await stream.replies(len(logins) if load.protocol == "lmtp" else 1), b"250")
    return time.perf_counter() - started


async def _complete(watcher: Imap, expected: int, started: float) -> None:
    while (found := await watcher.messages()) < expected:
        if time.perf_counter() - started > _PATIENCE_SECONDS:
            raise AnswerError(f"{found} of {expected} messages after {_PATIENCE_SECONDS} s")
        await asyncio.sleep(0.02)


def _require(answers: Sequence[bytes], code: bytes) -> None:
    bad = [answer for answer in answers if not answer.startswith(code)]
    if bad:
        raise AnswerError(f"expected {code.decode()}, got {bad[0]!r}")


def _own_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
