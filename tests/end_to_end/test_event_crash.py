"""Killed between what a client does over IMAP and the script that it starts (RFC 6785), the suite runs that script once."""

import os
import random
import signal
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import asyncpg
import pytest

from bench.suite import UNFILTERED, Suite, state_directory
from bench.system import Account
from tests.end_to_end.imap_client import ImapClient, NotOkError
from tests.end_to_end.suite import imap, process, started

_MESSAGES = 150
_SEED = 20261122
_WAIT_SECONDS = 90.0
_VICTIMS = (["access"], ["keeper"], ["postgres"], ["access", "keeper"], ["access"], ["access", "postgres"])
_CONFIGURATION = f'{UNFILTERED}\n[sieve]\nevent_lease = "1 s"\n'
_SCRIPT = """require ["imapsieve", "fileinto", "copy", "redirect-dsn"];
fileinto :copy "Out";
if header "subject" "first" { redirect :copy :notify "NEVER" "dave@remote.example"; }
"""
_COPIES = """
SELECT coalesce(sum(copies), 0)::int, count(*)
  FROM (SELECT content_id, count(*) AS copies FROM message JOIN mailbox USING (mailbox_id) WHERE name = $1 GROUP BY content_id) AS c
"""


@pytest.mark.timeout(240)
async def test_kill_neither_loses_nor_doubles_events() -> None:
    """Each message that is moved is filed once by the script of its new mailbox, whatever was killed whenever."""
    chance = random.Random(_SEED)
    with state_directory() as state, started(Suite(state, configuration=_CONFIGURATION)) as suite:
        account = suite.accounts()[0]
        suite.command("sieve", "put", account.login, "events", "-", text=_SCRIPT)
        with imap(suite, account) as client:
            for name in ("Box", "Out"):
                client.command(f"CREATE {name}")
            client.command('SETMETADATA Box (/shared/imapsieve/script "events")')
            client.append("INBOX", _octets("first"))
        settings = tomllib.loads((suite.state / "run" / "postwerk.toml").read_text("utf-8"))
        dsn = settings["database"].get("owner_dsn") or settings["database"]["dsn"]
        await _killed_in_between(suite, account, dsn)
        with _session(suite, account) as client:
            client.append("INBOX", *(_octets(str(number)) for number in range(_MESSAGES - 1)))
        mover = Mover(suite, account)
        mover.start()
        try:
            for number, victims in enumerate(_VICTIMS, start=1):
                _wait(partial(mover.has_moved, number * _MESSAGES // (len(_VICTIMS) + 1)))
                time.sleep(chance.random() * 0.05)  # the moment is to be random, nothing is waited for
                for pid in [process(suite, victim) for victim in victims]:
                    os.kill(pid, signal.SIGKILL)
            _wait(lambda: not mover.is_alive())
        finally:
            mover.stopping.set()
            mover.join()
        connection = await asyncpg.connect(dsn)
        try:
            await _until(connection, "SELECT count(*) = 0 FROM mailbox_event")
            found = [tuple(await connection.fetchrow(_COPIES, name) or ()) for name in ("Box", "Out")]
            assert await connection.fetchval("SELECT count(*) FROM outbound_recipient") == 1
        finally:
            await connection.close()
    assert found == [(_MESSAGES, _MESSAGES)] * 2


class Mover(threading.Thread):
    """Moves one message after the other, until the inbox is empty."""

    def __init__(self, suite: Suite, account: Account) -> None:
        super().__init__()
        self._suite = suite
        self._account = account
        self.stopping = threading.Event()
        self._moved = 0

    def has_moved(self, messages: int) -> bool:
        """Whether it was at least so many."""
        return self._moved >= messages

    def run(self) -> None:
        client: ImapClient | None = None
        while not self.stopping.is_set():
            try:
                client = client or imap(self._suite, self._account)
                if not (left := client.select()):
                    break
                self._moved = _MESSAGES - left
                client.command("MOVE 1 Box")
            except NotOkError:  # the database is away
                self.stopping.wait(0.02)
            except (OSError, AssertionError):
                if client is not None:
                    client.close()
                client = None
                self.stopping.wait(0.02)
        if client is not None:
            client.close()


async def _killed_in_between(suite: Suite, account: Account, dsn: str) -> None:
    """The first message is moved; the process dies while it waits for the script, and the keeper runs it."""
    connection = await asyncpg.connect(dsn)

    def move() -> None:
        client = imap(suite, account)
        client.select()
        with suppress(OSError, AssertionError):  # the server goes away
            client.command("MOVE 1 Box")
        client.close()

    mover = threading.Thread(target=move)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE sieve_script")  # nobody gets to the script
            mover.start()
            await _until(connection, "SELECT count(*) = 1 FROM mailbox_event")
            os.kill(process(suite, "access"), signal.SIGKILL)
            mover.join(_WAIT_SECONDS)
            assert (
                await connection.fetchval(
                    "SELECT count(*) FROM mailbox JOIN message USING (mailbox_id) WHERE name = 'Out'"
                )
                == 0
            )
        await _until(connection, "SELECT count(*) = 0 FROM mailbox_event")
        found = [tuple(await connection.fetchrow(_COPIES, name) or ()) for name in ("Box", "Out")]
        assert found == [(1, 1)] * 2
        assert await connection.fetchval("SELECT count(*) FROM outbound_recipient") == 1
    finally:
        await connection.close()


def _session(suite: Suite, account: Account) -> ImapClient:
    """As soon as there is a server again."""
    found: list[ImapClient] = []

    def tried() -> bool:
        with suppress(OSError):
            found.append(imap(suite, account))
        return bool(found)

    _wait(tried)
    return found[0]


def _octets(subject: str) -> bytes:
    return f"From: <a@client.example>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@client.example>\r\n\r\nHello.\r\n".encode()


async def _until(connection: "asyncpg.Connection[asyncpg.Record]", question: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not await connection.fetchval(question):
        assert time.monotonic() < deadline, question
        time.sleep(0.05)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "no recovery"
        time.sleep(0.05)
