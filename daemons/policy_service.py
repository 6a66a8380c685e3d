"""Asks a policy service: over a socket where it listens, or processes that are started here and asked through their pipes.

At most so many questions are under way at once, each on a line of its own; a line on which anything went wrong is given up.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from config.envelope import PolicyService as Settings
from config.listen import split_address
from daemons.breakers import build_breaker
from daemons.context import Context
from filters.breaker import Breaker
from protocol.smtp.policy_delegation import ANSWER_LIMIT, Action, parse_answer, render_request

_ENDING_SECONDS = 5.0


class _Line:
    """A connection, or a process."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        process: asyncio.subprocess.Process | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._process = process

    async def ask(self, question: bytes) -> bytes:
        """Raises OSError, EOFError, LimitOverrunError."""
        self._writer.write(question)
        await self._writer.drain()
        return await self._reader.readuntil(b"\n\n")

    async def close(self) -> None:
        """Close it; a process ends when its input does, or is ended."""
        self._writer.close()
        if self._process is None:
            with suppress(OSError):
                await self._writer.wait_closed()
            return
        try:
            async with asyncio.timeout(_ENDING_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class PolicyService:
    """filters.policy.PolicyService. One per process."""

    def __init__(self, settings: Settings, breaker: Breaker) -> None:
        self._settings = settings
        self._breaker = breaker
        self._turns = asyncio.Semaphore(settings.processes)
        self._idle: list[_Line] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(self, attributes: Mapping[str, str]) -> Action:
        """One question. Raises OSError without an answer, PolicyError for one that says nothing."""
        return parse_answer(await self._breaker.call(lambda: self._answer(render_request(attributes))))

    async def close(self) -> None:
        """End connections and processes."""
        for line in self._idle:
            self._give_up(line)
        self._idle.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _answer(self, question: bytes) -> bytes:
        async with asyncio.timeout(self._settings.time_limit), self._turns:
            while self._idle:  # one that was closed in the meantime says nothing of the service
                with suppress(ConnectionError):
                    return await self._asked(self._idle.pop(), question)
            return await self._asked(await self._opened(), question)

    async def _asked(self, line: _Line, question: bytes) -> bytes:
        """Raises ConnectionError when the line breaks."""
        try:
            answer = await line.ask(question)
        except (EOFError, asyncio.LimitOverrunError) as error:
            self._give_up(line)
            raise ConnectionError(f"policy service: {type(error).__name__}") from error
        except BaseException:
            self._give_up(line)
            raise
        self._idle.append(line)
        return answer

    async def _opened(self) -> _Line:
        if self._settings.command:
            return await _started(self._settings.command)
        return await _connected(self._settings.address)

    def _give_up(self, line: _Line) -> None:
        task = asyncio.create_task(line.close(), name="policy service")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _connected(address: str) -> _Line:
    if address.startswith("/"):
        return _Line(*await asyncio.open_unix_connection(address, limit=ANSWER_LIMIT))
    host, port = split_address(address)
    return _Line(*await asyncio.open_connection(host, port, limit=ANSWER_LIMIT))


async def _started(command: Sequence[str]) -> _Line:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=ANSWER_LIMIT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    return _Line(process.stdout, process.stdin, process)


def build_policy_service(context: Context) -> PolicyService:
    """As configured. Raises nothing: who is not there is found out when it is asked."""
    made = PolicyService(context.settings.policy_service, build_breaker(context, "policy"))
    context.closing.push_async_callback(made.close)
    return made
