"""Killed between what a client does over IMAP and the script that it starts (RFC 6785), the suite runs that script once."""

import os
import random
import signal
import threading
from contextlib import suppress

import pytest

from bench.suite import UNFILTERED, Suite, state_directory
from bench.system import Account
from tests.end_to_end.crashing import SEED, at_once, database, kill, wait_for_answer, wait_until
from tests.end_to_end.imap_client import ImapClient, NotOkError
from tests.end_to_end.suite import imap, process, started

_MESSAGES = 150
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
    chance = random.Random(SEED)
    with state_directory() as state, started(Suite(state, configuration=_CONFIGURATION)) as suite:
        account = suite.accounts()[0]
        suite.command("sieve", "put", account.login, "events", "-", text=_SCRIPT)
        with imap(suite, account) as client:
            for name in ("Box", "Out"):
                client.command(f"CREATE {name}")
            client.command('SETMETADATA Box (/shared/imapsieve/script "events")')
            client.append("INBOX", _octets("first"))
        await _killed_in_between(suite, account)
        with _session(suite, account) as client:
            client.append("INBOX", *(_octets(str(number)) for number in range(_MESSAGES - 1)))
        moved = [0]
        with at_once(1, lambda _, stopping: _move(suite, account, moved, stopping)) as (mover,):
            for number, victims in enumerate(_VICTIMS, start=1):
                _wait_for(moved, number * _MESSAGES // (len(_VICTIMS) + 1))
                kill(suite, victims, chance)
            wait_until(lambda: not mover.is_alive())
        async with database(suite) as connection:
            await wait_for_answer(connection, "SELECT count(*) = 0 FROM mailbox_event")
            found = [tuple(await connection.fetchrow(_COPIES, name) or ()) for name in ("Box", "Out")]
            assert await connection.fetchval("SELECT count(*) FROM outbound_recipient") == 1
    assert found == [(_MESSAGES, _MESSAGES)] * 2


def _move(suite: Suite, account: Account, moved: list[int], stopping: threading.Event) -> None:
    """Move one message after the other, until the inbox is empty. moved: how many that were, at the least."""
    client: ImapClient | None = None
    while not stopping.is_set():
        try:
            client = client or imap(suite, account)
            if not (left := client.select()):
                break
            moved[0] = _MESSAGES - left
            client.command("MOVE 1 Box")
        except NotOkError:  # the database is away
            stopping.wait(0.02)
        except (OSError, AssertionError):
            if client is not None:
                client.close()
            client = None
            stopping.wait(0.02)
    if client is not None:
        client.close()


def _wait_for(moved: list[int], count: int) -> None:
    wait_until(lambda: moved[0] >= count)


async def _killed_in_between(suite: Suite, account: Account) -> None:
    """The first message is moved; the process dies while it waits for the script, and the keeper runs it."""

    def move(_number: int, _stopping: threading.Event) -> None:
        client = imap(suite, account)
        client.select()
        with suppress(OSError, AssertionError):  # the server goes away
            client.command("MOVE 1 Box")
        client.close()

    async with database(suite) as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE sieve_script")  # nobody gets to the script
            with at_once(1, move):
                await wait_for_answer(connection, "SELECT count(*) = 1 FROM mailbox_event")
                os.kill(process(suite, "access"), signal.SIGKILL)
            filed = "SELECT count(*) FROM mailbox JOIN message USING (mailbox_id) WHERE name = 'Out'"
            assert await connection.fetchval(filed) == 0
        await wait_for_answer(connection, "SELECT count(*) = 0 FROM mailbox_event")
        found = [tuple(await connection.fetchrow(_COPIES, name) or ()) for name in ("Box", "Out")]
        assert found == [(1, 1)] * 2
        assert await connection.fetchval("SELECT count(*) FROM outbound_recipient") == 1


def _session(suite: Suite, account: Account) -> ImapClient:
    """As soon as there is a server again."""
    found: list[ImapClient] = []

    def tried() -> bool:
        with suppress(OSError):
            found.append(imap(suite, account))
        return bool(found)

    wait_until(tried)
    return found[0]


def _octets(subject: str) -> bytes:
    return f"From: <a@client.example>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@client.example>\r\n\r\nHello.\r\n".encode()
