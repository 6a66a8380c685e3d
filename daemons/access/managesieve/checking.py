"""What is said of a script before it is stored: the same compilation that it gets before it runs."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from config.sieve import Sieve
from daemons.sieve import capabilities_of, limits_of
from filters.sieve.script import Script, compile_script
from protocol.sieve.errors import Fault


def told(faults: Sequence[Fault]) -> str:
    """Errors or warnings for people, one a line, each with its place."""
    return "\n".join(str(fault) for fault in faults)


def compiled(settings: Sieve, octets: bytes) -> Script:
    """The script as it would run, for its warnings. Raises SieveError."""
    return compile_script(octets, capabilities=capabilities_of(settings), limits=limits_of(settings))


class Checker:
    """Compiles scripts one after the other, off the loop: a large one takes a second, and nobody else is to wait for it."""

    def __init__(self, settings: Sieve) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sieve")

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def compiled(self, octets: bytes) -> Script:
        """The same as compiled()."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, compiled, self._settings, octets)
