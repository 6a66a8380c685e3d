"""`python -m bench`: the same load against our suite and against Postfix with Dovecot, in one run, as tables.

Everything runs on loopback in temporary directories, and ends with the run.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from bench import report
from bench.delivery import Load, deliver, fill
from bench.large import open_large
from bench.peer import LOCATIONS, PeerError, peer
from bench.reading import download, read
from bench.suite import suite_under_load
from bench.system import Account, System, accounts

_RESULTS = Path(__file__).parent / "results"
_USERS = 50


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
    parser.add_argument("--scenarios", default="delivery,reading,pop3", help="comma-separated: these, and large")
    parser.add_argument("--large", type=int, default=100_000, help="size of the mailbox of the scenario large")
    parser.add_argument("--loads", help="only delivery loads whose title contains this")
    parser.add_argument("--messages", type=int, default=10_000, help="size of the mailbox that is read")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="directory of the JSON results")
    return parser.parse_args()


@asynccontextmanager
async def _systems(options: argparse.Namespace, users: list[Account]) -> AsyncIterator[list[System]]:
    async with AsyncExitStack() as stack:
        systems = []
        if options.only != "peer":
            systems.append(stack.enter_context(suite_under_load(users)))
        if options.only != "ours":
            directory = Path(tempfile.mkdtemp(prefix="bench-peer-", dir="/tmp"))
            directory.chmod(0o755)  # for Dovecot's and Postfix's own users
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            try:
                systems.append(await stack.enter_async_context(peer(directory, users, options.store)))
            except PeerError as error:
                print(f"Without a peer: {error}", file=sys.stderr)
        yield systems


async def _compare(options: argparse.Namespace) -> dict[str, Sequence[Any]]:
    results: dict[str, list[Any]] = {"delivery": [], "reading": [], "pop3": [], "large": []}
    wanted = options.scenarios.split(",")
    scale, runs, messages = (0.1, 1, 1000) if options.quick else (1.0, options.runs, options.messages)
    async with _systems(options, accounts(_USERS)) as systems:
        loads = [load for load in _loads(scale) if not options.loads or options.loads in load.title]
        for load in loads if "delivery" in wanted else []:
            for run in range(runs):
                for system in systems:  # side by side, so that a change of the machine hits both
                    results["delivery"].append(await deliver(system, load, seed=100 + run))
            print(f"{load.title}: done", file=sys.stderr)
        for system in systems if {"reading", "pop3"} & set(wanted) else []:
            await fill(system, system.reader, messages, seed=7)
            if "pop3" in wanted:
                results["pop3"].append(await download(system, system.reader, min(1000, messages)))
            if "reading" in wanted:
                results["reading"].append(await read(system, system.reader))
        for system in systems if "large" in wanted else []:
            results["large"].append(await open_large(system, system.accounts[-1], options.large))
    return dict(results)


def main() -> int:
    """Run what the command line asks for, print the tables, save the figures."""
    options = _options()
    load_before = os.getloadavg()[0]
    results = uvloop.run(_compare(options))
    print(
        f"\n{os.cpu_count()} cores, load average before the run {load_before:.2f}. CPU: user + system of all processes"
    )
    print("of a system, PostgreSQL included, until they are idle again. Rates end when IMAP shows every message.\n")
    if results["delivery"]:
        print(report.delivery_table(results["delivery"]), "\n")
        print(report.processes_table(results["delivery"]), "\n")
    if results["reading"]:
        print(report.reading_table(results["reading"]), "\n")
    if results["large"]:
        print(report.reading_table(results["large"]), "\n")
    if results["pop3"]:
        print(report.download_table(results["pop3"]), "\n")
    print(f"Figures: {report.save(options.results, results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
