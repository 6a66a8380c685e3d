"""A mailbox and a maildrop of 100,000 messages: how long until a client can work with them.

The messages are 1,000 real ones, copied by COPY as often as needed. "cold" is the first time, "warm" the median of some more,
the systems in turns. For POP3 the first login after a change is cold, as the listing is then made anew.
"""

import time
from collections.abc import Sequence

from bench.connection import Imap, Pop3
from bench.delivery import fill, quiet
from bench.reading import Reader, Timings, in_turns
from bench.system import Account, System

_SEED = 1000


async def open_large(systems: Sequence[System], account: Account, messages: int) -> list[Timings]:
    """Fill the account's INBOX and another mailbox, then time SELECT, FETCH FLAGS, and a POP3 login with its listings."""
    readers = []
    for system in systems:
        session = await _filled(system, account, messages)
        readers.append(Reader(system, session, Timings(system.name, messages)))
    await in_turns(readers, "SELECT, large", lambda reader: _command(reader, "SELECT large"))
    await in_turns(readers, "FETCH FLAGS, large", lambda reader: _command(reader, "UID FETCH 1:* (FLAGS)"))
    await in_turns(readers, "SEARCH UNSEEN, large", lambda reader: _command(reader, "UID SEARCH UNSEEN"))
    for reader in readers:
        await reader.session.logout()
    await _pop3(readers, account)
    return [reader.timings for reader in readers]


async def _filled(system: System, account: Account, messages: int) -> Imap:
    """A new session, after the INBOX and the mailbox "large" have got their messages."""
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
    return await Imap.login(system.endpoints["imaps"], account.login, account.password, system.tls)


async def _command(reader: Reader, text: str) -> float:
    return (await reader.session.command(text)).seconds


async def _pop3(readers: Sequence[Reader], account: Account) -> None:
    async def login(reader: Reader) -> float:
        session = await Pop3.begin(reader.system.endpoints["pop3s"], account.login, reader.system.tls)
        started = time.perf_counter()
        await session.command(f"PASS {account.password}")
        taken = time.perf_counter() - started
        await session.quit()
        return taken

    await in_turns(readers, "POP3 PASS, large", login)
    sessions = {
        reader.system.name: await Pop3.login(
            reader.system.endpoints["pop3s"], account.login, account.password, reader.system.tls
        )
        for reader in readers
    }

    async def listing(reader: Reader, text: str) -> float:
        return (await sessions[reader.system.name].multi(text)).seconds

    await in_turns(readers, "POP3 UIDL, large", lambda reader: listing(reader, "UIDL"))
    await in_turns(readers, "POP3 LIST, large", lambda reader: listing(reader, "LIST"))
    for session in sessions.values():
        await session.quit()
