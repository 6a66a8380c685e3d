"""Killed at random moments, the suite answers each sender once and sends each message on once, however often it is brought."""

import os
import random
import signal
import threading
import time
import tomllib

import asyncpg
import pytest

from bench.suite import UNFILTERED, Suite, state_directory
from tests.end_to_end.clients import Smtp
from tests.end_to_end.suite import process, smtp, started

_MESSAGES = 400
_SEED = 20261122
_SENDERS = 4
_WAIT_SECONDS = 90.0
_VICTIMS = (["smtp"], ["postgres"], ["smtp", "postgres"], ["smtp"], ["postgres"], ["smtp"])
_SCRIPT = """require ["vacation", "copy"];
redirect :copy "dave@remote.example";
vacation :days 7 "Away.";
"""
_RECIPIENTS = "SELECT forward_path, count(*) FROM outbound_recipient GROUP BY forward_path"
_COPIES = "SELECT count(*), count(DISTINCT digest) FROM message JOIN content USING (content_id)"


class Sender(threading.Thread):
    """Brings its share of the messages, each until it is acknowledged, as a queue does: the same octets again."""

    def __init__(self, suite: Suite, login: str, number: int) -> None:
        super().__init__()
        self._suite = suite
        self._login = login
        self._tokens = range(number, _MESSAGES, _SENDERS)
        self.stopping = threading.Event()
        self.acknowledged = 0

    def run(self) -> None:
        session: Smtp | None = None
        for token in self._tokens:
            while not self.stopping.is_set():
                try:
                    session = session or smtp(self._suite, "smtp")
                    replies = session.data([self._login], self._octets(token), sender=f"s{token}@client.example")
                except OSError:
                    if session is not None:
                        session.close()
                    session = None
                    self.stopping.wait(0.02)
                    continue
                if replies[0].code == 250:
                    self.acknowledged += 1
                    break
                assert 400 <= replies[0].code < 500, replies
        if session is not None:
            session.close()

    def _octets(self, token: int) -> bytes:
        sender = f"s{token}@client.example"
        return (
            f"From: <{sender}>\r\nTo: <{self._login}>\r\nSubject: {token}\r\nMessage-ID: <{token}@client.example>\r\n\r\nHello.\r\n"
        ).encode()


@pytest.mark.timeout(240)
async def test_kill_neither_doubles_nor_loses() -> None:
    """Each sender has one answer, each message was sent on once, and none is missing in the mailbox."""
    chance = random.Random(_SEED)
    with state_directory() as state, started(Suite(state, configuration=UNFILTERED)) as suite:
        login = suite.accounts()[0].login
        suite.command("sieve", "put", login, "away", "-", "--activate", text=_SCRIPT)
        senders = [Sender(suite, login, number) for number in range(_SENDERS)]
        for sender in senders:
            sender.start()
        try:
            for number, victims in enumerate(_VICTIMS, start=1):
                _wait_for(senders, number * _MESSAGES // (len(_VICTIMS) + 1))
                time.sleep(chance.random() * 0.05)  # the moment is to be random, nothing is waited for
                for pid in [process(suite, victim) for victim in victims]:
                    os.kill(pid, signal.SIGKILL)
            _wait_for(senders, _MESSAGES)
        finally:
            for sender in senders:
                sender.stopping.set()
                sender.join()
        settings = tomllib.loads((suite.state / "run" / "postwerk.toml").read_text("utf-8"))
        connection = await asyncpg.connect(settings["database"].get("owner_dsn") or settings["database"]["dsn"])
        try:
            counts = {row[0]: row[1] for row in await connection.fetch(_RECIPIENTS)}
            copies, messages = await connection.fetchrow(_COPIES) or (0, 0)
        finally:
            await connection.close()
    assert counts.pop("dave@remote.example") == _MESSAGES
    assert counts == {f"s{token}@client.example": 1 for token in range(_MESSAGES)}
    assert messages == _MESSAGES
    print(f"{copies - messages} copies were brought again after a reply that nobody heard")


def _wait_for(senders: list[Sender], acknowledged: int) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while sum(sender.acknowledged for sender in senders) < acknowledged:
        assert time.monotonic() < deadline, "no recovery"
        time.sleep(0.05)
