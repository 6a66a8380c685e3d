"""COMPRESS=DEFLATE on and off: octets and time of the header list of a mailbox."""

import statistics
from collections.abc import Sequence

from bench.connection import Imap
from bench.figures import Figure
from bench.reading import HEADER_LIST
from bench.system import Account, System

_TIMES = 4


async def compress(systems: Sequence[System], account: Account) -> list[Figure]:
    """Thunderbird's header list of the account's INBOX in a session with COMPRESS, and how much smaller it is than without."""
    figures = []
    sessions: dict[str, tuple[Imap, Imap]] = {}
    for system in systems:
        opened = [
            await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls) for _ in range(2)
        ]
        await opened[1].compress()
        for session in opened:
            await session.command("SELECT INBOX")
        sessions[system.name] = opened[0], opened[1]
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    octets: dict[str, tuple[int, int]] = {}
    for _ in range(_TIMES):
        for name, (plain, compressed) in sessions.items():
            octets[name] = (await _listed(plain))[0], (await _listed(compressed))[0]
            seconds[name].append((await _listed(compressed))[1])
    for name, (plain, compressed) in sessions.items():
        await plain.logout()
        await compressed.logout()
        without, with_it = octets[name]
        figures += [
            Figure(name, "COMPRESS: header list", "ms", statistics.median(seconds[name][1:]) * 1000),
            Figure(name, "COMPRESS: header list", "KB", with_it / 1000),
            Figure(name, "COMPRESS: ratio", "x", without / with_it, is_rate=True),
        ]
    return figures


async def _listed(session: Imap) -> tuple[int, float]:
    before = session.received_octets
    answer = await session.command(HEADER_LIST)
    return session.received_octets - before, answer.seconds
