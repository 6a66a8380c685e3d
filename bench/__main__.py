"""`python -m bench`: the same load against our suite and against Postfix with Dovecot, in one run, as tables.

Everything runs on loopback in temporary directories, and ends with the run.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench import report
from bench.compressing import compress
from bench.delivery import Delivered, Load, deliver, fill
from bench.idling import allow_descriptors, idle
from bench.large import open_large
from bench.logins import log_in
from bench.peer import LOCATIONS, PeerError, peer
from bench.reading import download, read
from bench.sending import Sink, queue, relay, sink, submission, ways
from bench.suite import free_port_offset, outgoing_configuration, suite_under_load
from bench.system import Account, System, accounts

_RESULTS = Path(__file__).parent / "results"
_USERS = 50
_SINK_PORT = 21700  # before an offset at which it is free
_FEW_USERS = 2  # where one reads: each account costs a second
_SCENARIOS = ("delivery", "reading", "pop3", "compress", "logins", "idle", "large", "submission", "relay", "queue")
_MANY_USERS = {"delivery", "idle", "submission", "relay", "queue"}
_BOUND_SECONDS = 1800.0  # of one scenario: whatever hangs, the run ends


def _loads(scale: float) -> list[Load]:
    def count(messages: int) -> int:
        return max(100, int(messages * scale))

    return [
        Load("1 session", count(1000), 1),
        Load("20 sessions", count(4000), 20),
        Load("100 sessions", count(4000), 100),
        Load("20 sessions, 4 KB", count(4000), 20, size_octets=3800),
        Load("20 sessions, 10 recipients", count(1000), 20, recipients=10),
        Load("20 sessions, LMTP", count(4000), 20, protocol="lmtp"),
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the load, one run: a look, not a figure")
    parser.add_argument("--runs", type=int, default=3, help="runs of each delivery load; the table shows medians")
    parser.add_argument("--only", choices=["ours", "peer"], help="leave the other side out")
    parser.add_argument("--store", choices=[*LOCATIONS], default="maildir", help="how Dovecot stores")
    parser.add_argument("--scenarios", default=",".join(_SCENARIOS), help="comma-separated, some of these")
    parser.add_argument("--idle", type=int, default=2000, help="sessions of the scenario idle")
    parser.add_argument("--hibernate", action="store_true", help="let Dovecot hibernate idle sessions")
    parser.add_argument("--large", type=int, default=100_000, help="size of the mailbox of the scenario large")
    parser.add_argument("--waiting", type=int, default=100_000, help="recipients that wait in the scenario queue")
    parser.add_argument("--loads", help="only delivery loads whose title contains this")
    parser.add_argument("--messages", type=int, default=10_000, help="size of the mailbox that is read")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="directory of the JSON results")
    return parser.parse_args()


@asynccontextmanager
async def _systems(options: argparse.Namespace, users: list[Account], port: int) -> AsyncIterator[list[System]]:
    async with AsyncExitStack() as stack:
        systems = []
        if options.only != "peer":
            systems.append(stack.enter_context(suite_under_load(users, outgoing_configuration(ways(port)))))
        if options.only != "ours":
            directory = Path(tempfile.mkdtemp(prefix="bench-peer-", dir="/tmp"))
            directory.chmod(0o755)  # for Dovecot's and Postfix's own users
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            try:
                systems.append(await stack.enter_async_context(_peer(directory, users, options, port)))
            except PeerError as error:
                print(f"Without a peer: {error}", file=sys.stderr)
        yield systems


def _peer(
    directory: Path, users: list[Account], options: argparse.Namespace, port: int
) -> AbstractAsyncContextManager[System]:
    transports = {domain: f"smtp:[{host}]:{number}" for domain, (host, number) in ways(port).items()}
    return peer(directory, users, options.store, hibernates=options.hibernate, transports=transports)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    scale: float
    runs: int
    messages: int
    logins: int
    large: int
    idle: int
    deliveries: int
    submissions: int
    waiting: int


def _sizes(options: argparse.Namespace) -> Sizes:
    if options.quick:
        return Sizes(0.1, 1, 1000, logins=40, large=2000, idle=100, deliveries=20, submissions=300, waiting=5000)
    return Sizes(1.0, options.runs, options.messages, 300, options.large, options.idle, 100, 3000, options.waiting)


async def _compare(options: argparse.Namespace, results: dict[str, Sequence[Any]]) -> None:
    sizes, wanted = _sizes(options), options.scenarios.split(",")
    if unknown := set(wanted) - set(_SCENARIOS):
        raise SystemExit(f"no scenario {', '.join(sorted(unknown))}")
    users = accounts(_USERS if _MANY_USERS & set(wanted) else _FEW_USERS)
    port = _SINK_PORT + free_port_offset([_SINK_PORT], range(9000))
    async with sink(port) as end, _systems(options, users, port) as systems:
        if {"reading", "pop3", "compress"} & set(wanted):
            for system in systems:
                await fill(system, system.reader, sizes.messages, seed=7)
        for scenario in _SCENARIOS:
            if scenario in wanted:
                began = time.monotonic()
                async with asyncio.timeout(_BOUND_SECONDS):
                    results[scenario] = await _scenario(scenario, systems, sizes, options, end)
                print(f"{scenario}: done in {time.monotonic() - began:.0f} s", file=sys.stderr)


async def _scenario(
    name: str, systems: list[System], sizes: Sizes, options: argparse.Namespace, end: Sink
) -> Sequence[Any]:
    account = systems[0].reader
    match name:
        case "delivery":
            return await _deliveries(systems, sizes, options)
        case "reading":
            return await read(systems, account)
        case "pop3":
            count = min(1000, sizes.messages // 2)
            turns = [system for _ in range(sizes.runs) for system in systems]
            return [await download(system, account, count) for system in turns]
        case "compress":
            return await compress(systems, account)
        case "logins":
            return await log_in(systems, sizes.logins, sizes.runs)
        case "large":
            return await open_large(systems, systems[0].accounts[-1], sizes.large)
        case "submission":
            return await submission(systems, sizes.submissions, sizes.runs)
        case "relay":
            return await relay(systems, end, sizes.submissions, sizes.runs)
        case "queue":
            return await queue(systems, end, sizes.waiting, sizes.submissions // 3)
        case _:
            return await idle(systems, sizes.idle, sizes.deliveries)


async def _deliveries(systems: list[System], sizes: Sizes, options: argparse.Namespace) -> list[Delivered]:
    results = []
    for load in [load for load in _loads(sizes.scale) if not options.loads or options.loads in load.title]:
        for run in range(sizes.runs):
            for system in systems:  # side by side, so that a change of the machine hits both
                results.append(await deliver(system, load, seed=100 + run))
        print(f"{load.title}: done", file=sys.stderr)
    return results


def main() -> int:
    """Run what the command line asks for, print the tables, save the figures."""
    options = _options()
    load_before = os.getloadavg()[0]
    allow_descriptors()
    results: dict[str, Sequence[Any]] = {}
    try:
        uvloop.run(_compare(options, results))
    except (KeyboardInterrupt, TimeoutError) as error:
        print(f"Ended early: {type(error).__name__}. What was measured until then:", file=sys.stderr)
    print(
        f"\n{os.cpu_count()} cores, load average before the run {load_before:.2f}. CPU: user + system of all processes"
    )
    print("of a system, PostgreSQL included, until they are idle again. Rates end when IMAP shows every message.\n")
    if delivered := results.get("delivery"):
        print(report.delivery_table(delivered), "\n")
        print(report.processes_table(delivered), "\n")
    for scenario in ("reading", "large"):
        if timings := results.get(scenario):
            print(report.reading_table(timings), "\n")
    if downloads := results.get("pop3"):
        print(report.download_table(downloads), "\n")
    if figures := report.figures(results):
        print(report.comparison_table(figures), "\n")
    print(f"Figures: {report.save(options.results, results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
