"""What the tests share that kill parts of a suite under load: senders that go on, the kills, and waiting for the recovery."""

import os
import random
import signal
import threading
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import asyncpg

from bench.suite import Suite
from tests.end_to_end.clients import Reply, Smtp
from tests.end_to_end.suite import process

SEED = 20261122
RECOVERY_SECONDS = 90.0
_AGAIN_SECONDS = 0.02  # before what did not work is tried again
_END_SECONDS = 90.0

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Ledger(Generic[Key]):
    """What the senders know. No token is ever given to two messages."""

    digests: dict[int, bytes] = field(default_factory=dict)
    acknowledged: set[Key] = field(default_factory=set)
    _progress: threading.Condition = field(default_factory=threading.Condition)

    def acknowledge(self, key: Key) -> None:
        """A 250 to the message came."""
        with self._progress:
            self.acknowledged.add(key)
            self._progress.notify_all()

    def wait_for(self, count: int) -> None:
        """Wait until so many are acknowledged. Raises AssertionError when they do not come."""
        with self._progress:
            come = self._progress.wait_for(lambda: len(self.acknowledged) >= count, RECOVERY_SECONDS)
            assert come, f"no recovery: {len(self.acknowledged)} of {count}"


class Reconnecting:
    """A session that is opened anew whenever the old one is gone."""

    def __init__(self, connect: Callable[[], Smtp], stopping: threading.Event) -> None:
        self._connect = connect
        self._stopping = stopping
        self._session: Smtp | None = None

    def attempt(self, transaction: Callable[[Smtp], list[Reply]]) -> list[Reply]:
        """The replies to a transaction; none when there is no connection, or no longer, and then after a moment."""
        try:
            self._session = self._session or self._connect()
            return transaction(self._session)
        except OSError:
            self.close()
            self.rest()
            return []

    def rest(self) -> None:
        """Wait a moment."""
        self._stopping.wait(_AGAIN_SECONDS)

    def close(self) -> None:
        """Close the session, if there is one."""
        if self._session is not None:
            self._session.close()
        self._session = None


@contextmanager
def at_once(count: int, work: Callable[[int, threading.Event], None]) -> Iterator[list[threading.Thread]]:
    """Run `work(number, stopping)` in so many threads. When the block is left they are stopped; none of them may have failed."""
    stopping = threading.Event()
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number, stopping)
        except BaseException as error:  # shown below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        stopping.set()
        for thread in threads:
            thread.join(_END_SECONDS)
    assert not failures, failures


def kill(
    suite: Suite, victims: Sequence[str], chance: random.Random, just_before: Callable[[], None] | None = None
) -> None:
    """SIGKILL the processes of these names at a moment of no one's choosing, once all of them run."""
    pids = [process(suite, victim) for victim in victims]
    time.sleep(chance.random() * 0.05)  # the moment is to be random, nothing is waited for
    if just_before is not None:
        just_before()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what must come, sooner or later. Raises AssertionError when it does not."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "no recovery"
        time.sleep(0.1)


async def wait_for_answer(connection: "asyncpg.Connection[asyncpg.Record]", question: str) -> None:
    """Wait until the database says yes. Raises AssertionError when it does not."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while not await connection.fetchval(question):
        assert time.monotonic() < deadline, question
        time.sleep(0.05)


@asynccontextmanager
async def database(suite: Suite) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the suite's database."""
    settings = tomllib.loads((suite.state / "run" / "postwerk.toml").read_text("utf-8"))["database"]
    connection = await asyncpg.connect(settings.get("owner_dsn") or settings["dsn"])
    try:
        yield connection
    finally:
        await connection.close()
