"""Mail on its way out: submission with TLS and AUTH, the relay's rate to a sink, and what 100,000 that wait cost everybody else.

submission  users submit mail for the world, which both systems take and hold, so that it is submission alone that is measured: each
            message on a connection of its own (STARTTLS, AUTH PLAIN, message, QUIT), then all over connections that stay.
relay       what was held is let go; the rate is that at which it arrives in the sink, to one destination and to twenty.
queue       the rate of submission and of intake, and the way of a single letter to the sink, with an empty queue and again while
            messages to 100,000 recipients wait in it; and what our lease costs then.

CPU is that of all processes of a system until they are idle again.
"""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from bench import processor
from bench.connection import AnswerError, Stream, connect
from bench.delivery import Load, deliver, quiet
from bench.figures import Figure
from bench.mails import Mail, mails
from bench.peer import HASHED
from bench.system import Account, System
from protocol.sasl import PlainClient
from protocol.smtp.client import Client
from protocol.smtp.client_events import Authenticated, Event, Opened, TlsAllowed

DESTINATIONS = 20
SINK_ADDRESSES = [f"127.0.0.{number}" for number in range(1, DESTINATIONS + 1)]
SINK_DOMAINS = [f"d{number:02}.sink.test" for number in range(1, DESTINATIONS + 1)]
WAITING_DOMAIN = "waiting.test"  # where nothing gets through: its host refuses connections
DEAD_PORT = 1
HELD = "held"  # what the local part of a recipient begins with whose mail is to be held
_HOLD_SECONDS = 6 * 3600
_SESSIONS = 20
_PATIENCE_SECONDS = 600.0
_LETTERS = 40
_RECIPIENTS_EACH = 10  # of a message that waits
_FROM = re.compile(rb"^From: [^\r\n]*", re.MULTILINE)


def ways(port: int) -> dict[str, tuple[str, int]]:
    """Where mail for the domains goes: to the sink, or nowhere."""
    found = {domain: (host, port) for domain, host in zip(SINK_DOMAINS, SINK_ADDRESSES, strict=True)}
    return found | {WAITING_DOMAIN: (SINK_ADDRESSES[0], DEAD_PORT)}


@dataclass(frozen=True, slots=True)
class Sink:
    """The server in which all mail ends."""

    port: int
    control: Stream

    async def reset(self) -> None:
        """Begin to count."""
        await self._ask(b"XRESET")

    async def count(self) -> tuple[int, int, float, float]:
        """Messages, recipients, and when the first and the last one came."""
        words = (await self._ask(b"XCOUNT")).split()
        return int(words[1]), int(words[2]), float(words[3]), float(words[4])

    async def until(self, recipients: int) -> tuple[float, float]:
        """Wait for so many recipients; when the first and the last message came."""
        started = time.perf_counter()
        while True:
            messages, found, first, last = await self.count()
            if found >= recipients:
                return first, last
            if time.perf_counter() - started > _PATIENCE_SECONDS:
                raise AnswerError(f"{found} of {recipients} recipients in the sink ({messages} messages)")
            await asyncio.sleep(0.002 if recipients - found < 10 else 0.02)

    async def _ask(self, verb: bytes) -> bytes:
        self.control.write(verb + b"\r\n")
        (answer,) = await self.control.replies(1)
        return answer


@asynccontextmanager
async def sink(port: int) -> AsyncIterator[Sink]:
    """Run the sink."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.sink", str(port), *SINK_ADDRESSES, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            try:
                control = await connect((SINK_ADDRESSES[0], port))
            except OSError:
                await asyncio.sleep(0.05)
            else:
                break
        else:
            raise AnswerError("the sink does not listen")
        await control.replies(1)
        yield Sink(port, control)
    finally:
        process.terminate()
        await process.wait()


# ---------------------------------------------------------------- sessions


async def authenticated(system: System, account: Account) -> Stream:
    """A session on the submission port, in TLS and logged in; the client is the relay's."""
    stream = await connect(system.endpoints["submission"])
    client = Client("client.test")
    await _until(stream, client, Opened)
    client.start_tls()
    await _until(stream, client, TlsAllowed)
    await stream.start_tls(system.tls)
    client.tls_started()
    await _until(stream, client, Opened)
    client.authenticate(b"PLAIN", PlainClient(account.login, account.password))
    await _until(stream, client, Authenticated)
    return stream


async def _until(stream: Stream, client: Client, wanted: type[Event]) -> None:
    """Have the client say what it has to say, and hear what comes of it."""
    stream.write(client.take_output())
    while not (events := client.receive(stream.take())):
        stream.write(client.take_output())
        await stream.more()
    if not isinstance(events[0], wanted):
        raise AnswerError(f"expected {wanted.__name__}, got {events[0]!r}")


async def submit(system: System, stream: Stream, account: Account, mail: Mail, paths: Sequence[str]) -> float:
    """One message; seconds from the final dot to the reply."""
    hold = f" HOLDFOR={_HOLD_SECONDS}" if system.holds_by_parameter and paths[0].startswith(HELD) else ""
    wire = _FROM.sub(b"From: " + account.login.encode(), mail.wire, count=1)
    recipients = "".join(f"RCPT TO:<{path}>\r\n" for path in paths)
    size = f" SIZE={len(mail.octets)}"
    stream.write(f"MAIL FROM:<{account.login}>{size} BODY=8BITMIME{hold}\r\n{recipients}DATA\r\n".encode())
    answers = await stream.replies(len(paths) + 2)
    _require(answers[:-1], b"250")
    _require(answers[-1:], b"354")
    started = time.perf_counter()
    stream.write(wire)
    _require(await stream.replies(1), b"250")
    return time.perf_counter() - started


def _account(system: System, number: int) -> Account:
    """One of the accounts with a plain password on the peer: the others' hash would be most of its work."""
    plain = [account for each, account in enumerate(system.accounts) if each != HASHED]
    return plain[number % len(plain)]


async def _quit(stream: Stream) -> None:
    stream.write(b"QUIT\r\n")
    _require(await stream.replies(1), b"221")
    stream.close()


def _require(answers: Sequence[bytes], code: bytes) -> None:
    bad = [answer for answer in answers if not answer.startswith(code)]
    if bad:
        raise AnswerError(f"expected {code.decode()}, got {bad[0]!r}")


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a load of submissions took."""

    elapsed: float
    cpu_seconds: float
    latencies: list[float]


async def submit_all(system: System, plan: Sequence[tuple[Mail, Sequence[str]]], *, is_reused: bool) -> Submitted:
    """Submit everything over parallel sessions, each of an account of its own."""
    turns = iter(plan)
    latencies: list[float] = []
    await quiet(system)
    cpu, started = processor.seconds(system.roots), time.perf_counter()

    async def sender(account: Account) -> None:
        stream = await authenticated(system, account) if is_reused else None
        for mail, paths in turns:
            session = stream or await authenticated(system, account)
            latencies.append(await submit(system, session, account, mail, paths))
            if stream is None:
                await _quit(session)
        if stream is not None:
            await _quit(stream)

    async with asyncio.TaskGroup() as group:
        for number in range(_SESSIONS):
            group.create_task(sender(_account(system, number)))
    elapsed = time.perf_counter() - started
    await quiet(system)
    return Submitted(elapsed, processor.seconds(system.roots) - cpu, sorted(latencies))


def _plan(count: int, seed: int, domains: Sequence[str], *, prefix: str = HELD) -> list[tuple[Mail, list[str]]]:
    return [
        (mail, [f"{prefix}{number}@{domains[number % len(domains)]}"])
        for number, mail in enumerate(mails(count, seed=seed))
    ]


# ---------------------------------------------------------------- scenarios


async def submission(systems: Sequence[System], count: int, runs: int) -> list[Figure]:
    """Rate, CPU and latency of submission, by connection and reused; the median of the runs."""
    figures = []
    for title, is_reused in (("submission, TLS and AUTH each time", False), ("submission, reused", True)):
        measured: dict[str, list[Submitted]] = {system.name: [] for system in systems}
        for run in range(runs):
            plan = _plan(count, 300 + run, SINK_DOMAINS)
            for system in systems:
                measured[system.name].append(await submit_all(system, plan, is_reused=is_reused))
                await asyncio.to_thread(system.discard)
        for name, results in measured.items():
            figures += _submission_figures(name, title, count, results)
        print(f"{title}: done", file=sys.stderr)
    return figures


def _submission_figures(name: str, title: str, count: int, results: Sequence[Submitted]) -> list[Figure]:
    cpu = median(result.cpu_seconds for result in results)
    return [
        Figure(name, title, "/s", median(count / result.elapsed for result in results), is_rate=True),
        Figure(name, f"{title}: per CPU second", "/s", count / cpu, is_rate=True),
        Figure(name, f"{title}: CPU", "ms", cpu * 1000 / count),
        Figure(name, f"{title}: p50", "ms", 1000 * median(r.latencies[len(r.latencies) // 2] for r in results)),
        Figure(name, f"{title}: p99", "ms", 1000 * median(r.latencies[len(r.latencies) * 99 // 100] for r in results)),
    ]


async def relay(systems: Sequence[System], end: Sink, count: int, runs: int) -> list[Figure]:
    """The rate at which mail that waits gets to the sink."""
    figures = []
    for title, domains in (("relay, 1 destination", SINK_DOMAINS[:1]), ("relay, 20 destinations", SINK_DOMAINS)):
        measured: dict[str, list[tuple[float, float]]] = {system.name: [] for system in systems}
        for run in range(runs):
            for system in systems:
                measured[system.name].append(await _let_go(system, end, _plan(count, 400 + run, domains)))
        for name, results in measured.items():
            cpu = median(used for _, used in results)
            figures += [
                Figure(name, title, "/s", median(rate for rate, _ in results), is_rate=True),
                Figure(name, f"{title}: CPU", "ms", cpu * 1000 / count),
            ]
        print(f"{title}: done", file=sys.stderr)
    return figures


async def _let_go(system: System, end: Sink, plan: Sequence[tuple[Mail, Sequence[str]]]) -> tuple[float, float]:
    """Messages per second from the first to the last arrival, and CPU seconds."""
    await submit_all(system, plan, is_reused=True)
    await end.reset()
    cpu = processor.seconds(system.roots)
    await asyncio.to_thread(system.let_go)
    first, last = await end.until(len(plan))
    await quiet(system)
    messages, recipients, *_ = await end.count()
    if (messages, recipients) != (len(plan), len(plan)):
        raise AnswerError(f"{system.name}: {messages} messages to {recipients} recipients, not {len(plan)}")
    return (len(plan) - 1) / (last - first), processor.seconds(system.roots) - cpu


async def queue(systems: Sequence[System], end: Sink, waiting: int, count: int) -> list[Figure]:
    """What everybody else notices of a queue in which so many recipients wait."""
    figures = []
    for system in systems:
        await submit_all(system, _plan(200, 598, SINK_DOMAINS), is_reused=True)  # caches and plans are there
        await deliver(system, Load("warm", 200, _SESSIONS), seed=599)
        figures += await _beside(system, end, count, "empty queue")
        plan = [
            (mail, [f"nobody{number}.{each}@{WAITING_DOMAIN}" for each in range(_RECIPIENTS_EACH)])
            for number, mail in enumerate(mails(waiting // _RECIPIENTS_EACH, seed=500, size_octets=2000))
        ]
        filled = await submit_all(system, plan, is_reused=True)
        figures.append(Figure(system.name, f"queueing {waiting} recipients", "s", filled.elapsed))
        figures += await _beside(system, end, count, f"{waiting} waiting")
        print(f"queue, {system.name}: done", file=sys.stderr)
    return figures


async def _beside(system: System, end: Sink, count: int, title: str) -> list[Figure]:
    taken = await submit_all(system, _plan(count, 600, SINK_DOMAINS), is_reused=True)
    delivered = await deliver(system, Load("intake", count, _SESSIONS), seed=601)
    letters = await _letters(system, end)
    figures = [
        Figure(system.name, f"submission, {title}", "/s", count / taken.elapsed, is_rate=True),
        Figure(system.name, f"submission, {title}: CPU", "ms", taken.cpu_seconds * 1000 / count),
        Figure(system.name, f"intake, {title}", "/s", count / delivered.accepted_elapsed, is_rate=True),
        Figure(system.name, f"intake, {title}: CPU", "ms", delivered.cpu_seconds * 1000 / count),
        Figure(system.name, f"letter to sink, {title}: p50", "ms", letters[len(letters) // 2] * 1000),
        Figure(system.name, f"letter to sink, {title}: max", "ms", letters[-1] * 1000),
    ]
    if system.look is not None:
        milliseconds, pages = await system.look()
        figures += [
            Figure(system.name, f"looking for what is due, {title}", "ms", milliseconds),
            Figure(system.name, f"looking for what is due, {title}: pages", "pages", pages),
        ]
    return figures


async def _letters(system: System, end: Sink) -> list[float]:
    """Seconds from the final dot of single letters to their arrival, sorted."""
    await quiet(system)
    account = _account(system, 0)
    stream = await authenticated(system, account)
    taken = []
    for number, mail in enumerate(mails(_LETTERS, seed=700, size_octets=4000)):
        await end.reset()
        began = time.time()
        await submit(system, stream, account, mail, [f"letter{number}@{SINK_DOMAINS[number % DESTINATIONS]}"])
        _, arrived = await end.until(1)
        taken.append(arrived - began)
        await asyncio.sleep(0.05)
    await _quit(stream)
    return sorted(taken)
