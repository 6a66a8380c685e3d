"""The supervisor: programs are kept running, in stages, and are ended in order. The programs are plain shells."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from daemons.supervisor import Keeping, StartError, Supervisor, until_ended


@dataclass
class Shell:
    """A program that runs a shell command; it is ready when it has written a line."""

    name: str
    command: str = "echo ready; exec sleep 1000"
    history: list[str] = field(default_factory=list)

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it."""
        self.history.append(f"{self.name} spawned")
        return subprocess.Popen(["/bin/sh", "-c", self.command], stdout=subprocess.PIPE)

    def clear(self) -> None:
        """Nothing is left of a shell."""
        self.history.append(f"{self.name} cleared")

    async def until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the line."""
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        if not line:
            raise StartError(f"{self.name}: ended before it was ready")
        self.history.append(f"{self.name} ready")

    async def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End it."""
        self.history.append(f"{self.name} asked")
        process.terminate()
        await until_ended(process)
        self.history.append(f"{self.name} stopped")

    def hurry(self, process: subprocess.Popen[bytes]) -> None:
        """End it at once."""
        process.kill()
        self.history.append(f"{self.name} hurried")


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    """A supervisor that leaves nothing running."""
    made = Supervisor()
    yield made
    await made.stop()


async def _reached(history: list[str], event: str, count: int) -> None:
    async with asyncio.timeout(20):
        while history.count(event) < count:
            await asyncio.sleep(0.01)


async def test_a_killed_program_comes_back(supervisor: Supervisor) -> None:
    """A program that is killed is cleared up after and started again, each time, with growing pauses."""
    shell = Shell("a")
    await supervisor.start(shell)
    loop = asyncio.get_running_loop()
    pauses = []
    for number in range(2, 5):
        process = supervisor.kept[0].process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        killed = loop.time()
        await _reached(shell.history, "a ready", number)
        pauses.append(loop.time() - killed)
    assert shell.history[:5] == ["a spawned", "a ready", "a cleared", "a spawned", "a ready"]
    assert supervisor.kept[0].restart_count == 3
    assert [pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


async def test_a_program_that_does_not_get_ready_again_is_tried_again(supervisor: Supervisor) -> None:
    """A restart that fails is repeated until one succeeds."""
    shell = Shell("a")
    await supervisor.start(shell)
    good, shell.command = shell.command, "exit 1"
    process = supervisor.kept[0].process
    assert process is not None
    process.kill()
    await _reached(shell.history, "a spawned", 3)
    shell.command = good
    await _reached(shell.history, "a ready", 2)
    assert shell.history.count("a spawned") >= 4


async def test_stages_stop_in_reverse_order() -> None:
    """A stage starts when the one before is ready, and has stopped before that one is asked to."""
    history: list[str] = []
    supervisor = Supervisor()
    await supervisor.start(Shell("database", history=history))
    await supervisor.start(Shell("back", history=history))
    await supervisor.start(Shell("front", history=history))
    started = [event for name in ("database", "back", "front") for event in (f"{name} spawned", f"{name} ready")]
    assert history == started
    await supervisor.stop()
    ends = [event for name in ("front", "back", "database") for event in (f"{name} asked", f"{name} stopped")]
    assert history[len(started) :] == ends


async def test_a_failing_first_start_is_an_error(supervisor: Supervisor) -> None:
    """A program that ends before it is ready makes start() raise, at once; what runs already is left for stop()."""
    good, bad = Shell("good"), Shell("bad", "exit 1")
    await supervisor.start(good)
    with pytest.raises(StartError, match="bad: ended before it was ready"):
        await supervisor.start(bad)
    await supervisor.stop()
    assert good.history[-1] == "good stopped"


async def test_hurry_ends_what_does_not_want_to() -> None:
    """hurry() during stop() kills programs that take their time."""
    stubborn = Shell("stubborn", "trap '' TERM; echo ready; while :; do sleep 1; done")
    supervisor = Supervisor()
    await supervisor.start(stubborn)
    stopping = asyncio.create_task(supervisor.stop())
    await _reached(stubborn.history, "stubborn asked", 1)
    supervisor.hurry()
    async with asyncio.timeout(30):
        await stopping
    assert stubborn.history[-2:] == ["stubborn hurried", "stubborn stopped"]


async def test_stopping_twice_is_no_error() -> None:
    """A program that was never started, or has been stopped, can be stopped."""
    keeping = Keeping(Shell("a"))
    await keeping.stop()
    await keeping.start()
    await keeping.stop()
    await keeping.stop()
    assert keeping.program.name == "a"
