"""Killed at random moments, the suite loses none of 5,000 submitted messages; doubles are of connections that died in doubt."""

import hashlib
import itertools
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from bench.suite import UNFILTERED, Suite, state_directory
from tests.end_to_end.clients import Smtp
from tests.end_to_end.sink import Sink
from tests.end_to_end.suite import process, started

_MESSAGES = 5000
_SEED = 20261122
_SENDERS = 8
_CONNECTIONS = 6
_LEASE_SECONDS = 10  # longer than PostgreSQL takes to come back
_WAIT_SECONDS = 60.0
# Spread over the time that the messages take. PostgreSQL takes all with it for some seconds, so it comes less often.
_VICTIMS = (
    ["relay"],
    ["smtp"],
    ["relay"],
    ["postgres"],
    ["relay", "smtp"],
    ["relay"],
    ["relay", "postgres"],
    ["relay"],
)

_CONFIGURATION = f"""
[relay]
lease = "{_LEASE_SECONDS} s"
poll = "1 s"
retry_waits = ["1 s"]
destination_connection_limit = {_CONNECTIONS}

[sending]
burst_recipients = 0
account_messages_hour = 0
account_recipients_hour = 0
account_messages_day = 0
account_recipients_day = 0
domain_messages_hour = 0
domain_recipients_hour = 0
tenant_messages_hour = 0
tenant_recipients_hour = 0

[[transport.routes]]
host = "127.0.0.1"
port = PORT
tls = "none"
"""
_TOKEN = re.compile(rb"^X-Token: (\d+)\r\n", re.MULTILINE)
_TRACE_ID = re.compile(rb"\bid ([0-9a-f]{16})\b")


def _key(content: bytes) -> bytes:
    """The submission that a message comes from: our id of it is in the uppermost Received field."""
    token, trace_id = _TOKEN.search(content), _TRACE_ID.search(content)
    assert token is not None, content[:500]
    assert trace_id is not None, content[:500]
    return token[1] + b" " + trace_id[1]


@dataclass(slots=True)
class Ledger:
    """What the senders know. No token is ever used twice."""

    digests: dict[int, bytes] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    progress: threading.Condition = field(default_factory=threading.Condition)

    def acknowledge(self, token: int) -> bool:
        """A 250 to the message came. Returns whether there is more to send."""
        with self.progress:
            self.acknowledged.add(token)
            self.progress.notify_all()
            return len(self.acknowledged) < _MESSAGES

    def wait_for(self, count: int) -> None:
        """Wait until so many are acknowledged. Raises AssertionError when they do not come."""
        with self.progress:
            come = self.progress.wait_for(lambda: len(self.acknowledged) >= count, _WAIT_SECONDS)
            assert come, f"no recovery: {len(self.acknowledged)} of {count}"


def _message(token: int, login: str) -> bytes:
    chance = random.Random(_SEED + token)
    lines = "".join(f"{chance.randbytes(chance.randrange(10, 30)).hex()}\r\n" for _ in range(chance.randrange(1, 30)))
    return (
        f"X-Token: {token}\r\nFrom: <{login}>\r\nTo: <world@example.net>\r\nSubject: {token}\r\n"
        f"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{token}@example.test>\r\n\r\n.\r\n{lines}"
    ).encode()


def _sender(suite: Suite, ledger: Ledger, number: int, stopping: threading.Event) -> None:
    """Submit message after message, over a new connection whenever the old one is gone."""
    account = suite.accounts()[number % 2]
    tls = suite.tls()
    session: Smtp | None = None
    for token in itertools.count(number, _SENDERS):
        if stopping.is_set():
            break
        octets = _message(token, account.login)
        ledger.digests[token] = hashlib.sha256(octets).digest()
        try:
            if session is None:
                session = Smtp(suite.endpoint("submissions"), tls=tls)
                answer = session.log_in(account.login, account.password)
                if answer.code != 235:
                    raise ConnectionError(f"not logged in: {answer}")
            (answer,) = session.bdat([f"world{token % 7}@example.net"], octets)
        except OSError:
            if session is not None:
                session.close()
            session = None
            stopping.wait(0.02)
            continue
        if answer.code != 250:
            assert 400 <= answer.code < 500, f"a failure of ours must be temporary: {answer}"
            stopping.wait(0.02)
        elif not ledger.acknowledge(token):
            break
    if session is not None:
        session.close()


def _kill_in_turn(suite: Suite, ledger: Ledger, sink: Sink) -> tuple[int, int]:
    """SIGKILL after SIGKILL while mail comes in and goes out; gives those of the relay, and the connections that they cut."""
    chance = random.Random(_SEED)
    kills = cut = 0
    for number, victims in enumerate(_VICTIMS, start=1):
        started_at = time.monotonic()
        ledger.wait_for(min(_MESSAGES, number * _MESSAGES // (len(_VICTIMS) + 1)))
        sink.wait_for(sink.count + chance.randrange(20, 80), _WAIT_SECONDS)
        pids = [process(suite, victim) for victim in victims]
        time.sleep(chance.random() * 0.05)  # the moment is to be random, nothing is waited for
        if "relay" in victims:
            kills += 1
            cut += sink.open_sessions
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        print(f"{number}: {' and '.join(victims)} after {time.monotonic() - started_at:.1f} s, {sink.count} arrived")
    return kills, cut


def _check_arrivals(ledger: Ledger, sink: Sink, kills: int, cut: int) -> None:
    arrived = {int(key.split()[0]) for key in sink.contents}
    assert not ledger.acknowledged - arrived, "acknowledged, but not delivered"
    assert not sink.differing, "delivered twice, and not the same"
    for key, content in sink.contents.items():
        original = content[content.index(b"X-Token: ") :]
        token = int(key.split()[0])
        assert hashlib.sha256(original).digest() == ledger.digests[token], f"message {token} is not whole"
    doubles = sum(count - 1 for count in Counter(key for session in sink.sessions for key in session.keys).values())
    print(f"{len(arrived)} messages, {doubles} doubles, {kills} kills of the relay, {cut} connections cut")
    assert doubles <= kills * _CONNECTIONS
    # Of each message all deliveries but one are in doubt: the last one of a connection that died behind the reply to it.
    certain: Counter[bytes] = Counter()
    for session in sink.sessions:
        certain.update(key for place, key in enumerate(session.keys) if place != session.doubtful)
    assert not [key for key, count in certain.items() if count > 1], "delivered twice without need"


@pytest.mark.timeout(240)
def test_kill_loses_nothing_queued() -> None:
    """Over kill -9 of relay, smtp and PostgreSQL each of 5,000 submitted messages arrives, and none twice without need."""
    ledger, stopping = Ledger(), threading.Event()
    failures: list[BaseException] = []

    def send(number: int) -> None:
        try:
            _sender(suite, ledger, number, stopping)
        except BaseException as error:  # shown by the test below
            failures.append(error)

    with state_directory() as state, Sink(_key) as sink:
        with started(Suite(state, configuration=UNFILTERED + _CONFIGURATION.replace("PORT", str(sink.port)))) as suite:
            threads = [threading.Thread(target=send, args=(number,)) for number in range(_SENDERS)]
            for thread in threads:
                thread.start()
            try:
                kills, cut = _kill_in_turn(suite, ledger, sink)
                ledger.wait_for(_MESSAGES)
            finally:
                stopping.set()
                for thread in threads:
                    thread.join(90)
            assert not failures
            _wait_until_sent(suite)
        _check_arrivals(ledger, sink, kills, cut)


def _wait_until_sent(suite: Suite) -> None:
    """Until nothing waits any more: what dead processes had leased comes back by time."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while told := json.loads(suite.command("queue", "list", "--json")):
        assert time.monotonic() < deadline, f"{len(told)} still wait, {told[:2]}"
        time.sleep(0.2)
