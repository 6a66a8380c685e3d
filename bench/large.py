"""A mailbox and a maildrop of 100,000 messages: how long until a client can work with them.

The messages are 1,000 real ones, copied by COPY as often as needed. "cold" is the first time, "warm" the median of three more.
For POP3 the first login after a change is cold, as the listing is then made anew.
"""

import statistics
import time
from collections.abc import Awaitable, Callable

from bench import processor
from bench.connection import Imap, Pop3
from bench.delivery import fill, quiet
from bench.reading import Timings
from bench.system import Account, System

_SEED = 1000
_TIMES = 4


async def open_large(system: System, account: Account, messages: int) -> Timings:
    """Fill the account's INBOX and another mailbox, then time SELECT, FETCH FLAGS, and a POP3 login with its listings."""
    await fill(system, account, _SEED, seed=11)
    session = await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls)
    await session.command("CREATE seed")
    await session.command("CREATE large")
    await session.command("SELECT INBOX")
    await session.command(f"COPY 1:{_SEED} seed")
    await session.command("SELECT seed")
    for number in range(messages // _SEED):
        await session.command(f"COPY 1:{_SEED} large")
        if number:
            await session.command(f"COPY 1:{_SEED} INBOX")
    await session.logout()
    await quiet(system)
    timings = Timings(system.name, messages)
    await _imap(system, account, timings)
    await _pop3(system, account, timings)
    return timings


async def _imap(system: System, account: Account, timings: Timings) -> None:
    session = await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls)

    async def command(text: str) -> float:
        return (await session.command(text)).seconds

    await _timed(system, timings, "SELECT", lambda: command("SELECT large"))
    await _timed(system, timings, "FETCH FLAGS", lambda: command("UID FETCH 1:* (FLAGS)"))
    await _timed(system, timings, "SEARCH UNSEEN", lambda: command("UID SEARCH UNSEEN"))
    await session.logout()


async def _pop3(system: System, account: Account, timings: Timings) -> None:
    async def login() -> float:
        session = await Pop3.begin(system.endpoints["pop3s"], account.login, system.tls)
        started = time.perf_counter()
        await session.command(f"PASS {account.password}")
        taken = time.perf_counter() - started
        await session.quit()
        return taken

    await _timed(system, timings, "POP3 PASS", login)
    session = await Pop3.login(system.endpoints["pop3s"], account.login, account.password, system.tls)

    async def listing(text: str) -> float:
        return (await session.multi(text)).seconds

    await _timed(system, timings, "POP3 UIDL", lambda: listing("UIDL"))
    await _timed(system, timings, "POP3 LIST", lambda: listing("LIST"))
    await session.quit()


async def _timed(system: System, timings: Timings, name: str, once: Callable[[], Awaitable[float]]) -> None:
    used = processor.seconds(system.roots)
    taken = [await once() * 1000 for _ in range(_TIMES)]
    timings.cpu[name] = (processor.seconds(system.roots) - used) * 1000 / _TIMES
    timings.cold[name], timings.warm[name] = taken[0], statistics.median(taken[1:])
