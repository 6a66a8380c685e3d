"""Logins: each on a new TLS connection with the password, as clients that poll do; and what one costs in CPU.

Parallel sessions connect, log in, log out. The peer verifies a plain password, which costs nothing, for one account and an
argon2id hash with our parameters for another: the second is the comparison between equals, the first is the peer's best.
Ours remembers that a password was right for a while, so both are the same work there.
"""

import asyncio
import time
from collections.abc import Sequence

from bench import processor
from bench.connection import Imap
from bench.delivery import quiet
from bench.figures import Figure
from bench.peer import HASHED
from bench.system import Account, System

_PARALLEL = 8


async def log_in(systems: Sequence[System], count: int, rounds: int) -> list[Figure]:
    """`count` logins to an account in each round, the systems in turns; the best round counts."""
    figures = []
    plain, hashed = systems[0].accounts[0], systems[0].accounts[HASHED]
    for title, account in (("logins", plain), ("logins, argon2id", hashed)):
        rates: dict[str, list[tuple[float, float]]] = {system.name: [] for system in systems}
        for _ in range(rounds):
            for system in systems:
                rates[system.name].append(await _round(system, account, count))
        for name, measured in rates.items():
            rate, cpu = max(measured)
            figures += [Figure(name, title, "/s", rate, is_rate=True), Figure(name, f"{title}: CPU", "ms", cpu)]
    return figures


async def _round(system: System, account: Account, count: int) -> tuple[float, float]:
    """Logins per second and CPU milliseconds per login."""
    await quiet(system)
    used = processor.seconds(system.roots)
    started = time.perf_counter()
    turns = iter(range(count))

    async def client() -> None:
        for _ in turns:
            session = await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls)
            await session.logout()

    async with asyncio.TaskGroup() as group:
        for _ in range(_PARALLEL):
            group.create_task(client())
    elapsed = time.perf_counter() - started
    await asyncio.sleep(0.2)
    return count / elapsed, (processor.seconds(system.roots) - used) * 1000 / count
