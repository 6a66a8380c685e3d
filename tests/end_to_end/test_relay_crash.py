"""Killed at random moments, the suite loses none of 5,000 submitted messages; doubles are of connections that died in doubt."""

import hashlib
import itertools
import json
import random
import re
import threading
import time
from collections import Counter
from functools import partial

import pytest

from bench.suite import UNFILTERED, Suite, outgoing_configuration, state_directory
from bench.system import Account
from tests.end_to_end.clients import Smtp
from tests.end_to_end.crashing import RECOVERY_SECONDS, SEED, Ledger, Reconnecting, at_once, kill, wait_until
from tests.end_to_end.sink import Sink
from tests.end_to_end.suite import started

_MESSAGES = 5000
_SENDERS = 8
_CONNECTIONS = 6
_LEASE_SECONDS = 10  # longer than PostgreSQL takes to come back
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

{outgoing_configuration({})}
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


def _message(token: int, login: str) -> bytes:
    chance = random.Random(SEED + token)
    lines = "".join(f"{chance.randbytes(chance.randrange(10, 30)).hex()}\r\n" for _ in range(chance.randrange(1, 30)))
    return (
        f"X-Token: {token}\r\nFrom: <{login}>\r\nTo: <world@example.net>\r\nSubject: {token}\r\n"
        f"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{token}@example.test>\r\n\r\n.\r\n{lines}"
    ).encode()


def _send(suite: Suite, ledger: Ledger[int], number: int, stopping: threading.Event) -> None:
    """Submit message after message."""
    account = suite.accounts()[number % 2]
    session = Reconnecting(lambda: _logged_in(suite, account), stopping)
    for token in itertools.count(number, _SENDERS):
        if stopping.is_set() or len(ledger.acknowledged) >= _MESSAGES:
            break
        octets = _message(token, account.login)
        ledger.digests[token] = hashlib.sha256(octets).digest()
        answers = session.attempt(partial(Smtp.bdat, recipients=[f"world{token % 7}@example.net"], octets=octets))
        for answer in answers:
            if answer.code == 250:
                ledger.acknowledge(token)
            else:
                assert 400 <= answer.code < 500, f"a failure of ours must be temporary: {answer}"
                session.rest()
    session.close()


def _logged_in(suite: Suite, account: Account) -> Smtp:
    session = Smtp(suite.endpoint("submissions"), tls=suite.tls())
    answer = session.log_in(account.login, account.password)
    if answer.code != 235:
        session.close()
        raise ConnectionError(f"not logged in: {answer}")
    return session


def _kill_in_turn(suite: Suite, ledger: Ledger[int], sink: Sink) -> tuple[int, int]:
    """SIGKILL after SIGKILL while mail comes in and goes out; gives those of the relay, and the connections that they cut."""
    chance = random.Random(SEED)
    cut: list[int] = []
    for number, victims in enumerate(_VICTIMS, start=1):
        started_at = time.monotonic()
        ledger.wait_for(min(_MESSAGES, number * _MESSAGES // (len(_VICTIMS) + 1)))
        sink.wait_for(min(sink.count + chance.randrange(20, 80), _MESSAGES), RECOVERY_SECONDS)  # all may be there
        if "relay" in victims:
            kill(suite, victims, chance, lambda: cut.append(sink.open_sessions))
        else:
            kill(suite, victims, chance)
        print(f"{number}: {' and '.join(victims)} after {time.monotonic() - started_at:.1f} s, {sink.count} arrived")
    return len(cut), sum(cut)


def _check_arrivals(ledger: Ledger[int], sink: Sink, kills: int, cut: int) -> None:
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
    ledger = Ledger[int]()
    with state_directory() as state, Sink(_key) as sink:
        with started(Suite(state, configuration=UNFILTERED + _CONFIGURATION.replace("PORT", str(sink.port)))) as suite:
            with at_once(_SENDERS, lambda number, stopping: _send(suite, ledger, number, stopping)):
                kills, cut = _kill_in_turn(suite, ledger, sink)
                ledger.wait_for(_MESSAGES)
            # What dead processes had leased comes back by time.
            wait_until(lambda: not json.loads(suite.command("queue", "list", "--json")))
        _check_arrivals(ledger, sink, kills, cut)
