"""Killed at random moments, the suite answers each sender once and sends each message on once, however often it is brought."""

import random
import threading
from functools import partial

import pytest

from bench.suite import UNFILTERED, Suite, state_directory
from tests.end_to_end.clients import Smtp
from tests.end_to_end.crashing import SEED, Ledger, Reconnecting, at_once, database, kill
from tests.end_to_end.suite import smtp, started

_MESSAGES = 400
_SENDERS = 4
_VICTIMS = (["smtp"], ["postgres"], ["smtp", "postgres"], ["smtp"], ["postgres"], ["smtp"])
_SCRIPT = """require ["vacation", "copy"];
redirect :copy "dave@remote.example";
vacation :days 7 "Away.";
"""
_RECIPIENTS = "SELECT forward_path, count(*) FROM outbound_recipient GROUP BY forward_path"
_COPIES = "SELECT count(*), count(DISTINCT digest) FROM message JOIN content USING (content_id)"


def _send(suite: Suite, login: str, ledger: Ledger[int], number: int, stopping: threading.Event) -> None:
    """Bring a share of the messages, each until it is acknowledged, as a queue does: the same octets again."""
    session = Reconnecting(lambda: smtp(suite, "smtp"), stopping)
    for token in range(number, _MESSAGES, _SENDERS):
        sender = f"s{token}@client.example"
        octets = (
            f"From: <{sender}>\r\nTo: <{login}>\r\nSubject: {token}\r\nMessage-ID: <{token}@client.example>\r\n\r\nHello.\r\n"
        ).encode()
        bring = partial(Smtp.data, recipients=[login], octets=octets, sender=sender)
        while token not in ledger.acknowledged and not stopping.is_set():
            for reply in session.attempt(bring):
                if reply.code == 250:
                    ledger.acknowledge(token)
                else:
                    assert 400 <= reply.code < 500, reply
    session.close()


@pytest.mark.timeout(240)
async def test_kill_neither_doubles_nor_loses() -> None:
    """Each sender has one answer, each message was sent on once, and none is missing in the mailbox."""
    chance, ledger = random.Random(SEED), Ledger[int]()
    with state_directory() as state, started(Suite(state, configuration=UNFILTERED)) as suite:
        login = suite.accounts()[0].login
        suite.command("sieve", "put", login, "away", "-", "--activate", text=_SCRIPT)
        with at_once(_SENDERS, lambda number, stopping: _send(suite, login, ledger, number, stopping)):
            for number, victims in enumerate(_VICTIMS, start=1):
                ledger.wait_for(number * _MESSAGES // (len(_VICTIMS) + 1))
                kill(suite, victims, chance)
            ledger.wait_for(_MESSAGES)
        async with database(suite) as connection:
            counts = {row[0]: row[1] for row in await connection.fetch(_RECIPIENTS)}
            copies, messages = await connection.fetchrow(_COPIES) or (0, 0)
    assert counts.pop("dave@remote.example") == _MESSAGES
    assert counts == {f"s{token}@client.example": 1 for token in range(_MESSAGES)}
    assert messages == _MESSAGES
    print(f"{copies - messages} copies were brought again after a reply that nobody heard")
