"""A TCP connection to the first of some addresses that answers, in the manner of RFC 8305.

Addresses are tried in their order. While one does not answer, the next one is tried beside it after a short delay, so that
a family that leads nowhere costs a quarter of a second and not its timeout. No names are resolved here.
"""

import asyncio
import os
from collections.abc import Sequence
from ipaddress import ip_address

from daemons.relay.routes import Source
from daemons.sockets import Connection


class DialError(Exception):
    """No address answered: the reason for each."""

    def __init__(self, reasons: Sequence[tuple[str, str]]) -> None:
        super().__init__("no address answered")
        self.reasons = reasons


async def dial(
    addresses: Sequence[str], port: int, *, source: Source, within_seconds: float, delay_seconds: float
) -> tuple[Connection, str, Sequence[tuple[str, str]]]:
    """The connection, its address, and the addresses that failed before, with the reasons. Raises DialError."""
    reasons: list[tuple[str, str]] = []
    running: dict[asyncio.Task[Connection], str] = {}
    waiting = list(addresses)
    try:
        while waiting or running:
            if waiting:
                address = waiting.pop(0)
                running[asyncio.create_task(_connect(address, port, source, within_seconds))] = address
            done, _ = await asyncio.wait(
                running, timeout=delay_seconds if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                address = running.pop(task)
                error = task.exception()
                if error is None:
                    return task.result(), address, reasons
                if not isinstance(error, OSError):
                    raise error
                reasons.append((address, reason_of(error)))
        raise DialError(reasons)
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_late)


async def _connect(address: str, port: int, source: Source, within_seconds: float) -> Connection:
    """Raises OSError; TimeoutError is one."""
    loop = asyncio.get_running_loop()
    local = source.ipv4 if ip_address(address.partition("%")[0]).version == 4 else source.ipv6
    async with asyncio.timeout(within_seconds):
        _, connection = await loop.create_connection(
            lambda: Connection(_ignore, _ignore), address, port, local_addr=(local, 0) if local else None
        )
    return connection


def _close_late(task: asyncio.Task[Connection]) -> None:
    """An address that answered after another one did."""
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _ignore(_: Connection) -> None:
    pass


def reason_of(error: OSError) -> str:
    """In words without addresses."""
    if isinstance(error, TimeoutError):
        return "connection timed out"
    return os.strerror(error.errno).lower() if error.errno else "connection failed"
