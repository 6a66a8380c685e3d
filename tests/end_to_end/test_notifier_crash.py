"""Killed at random moments, the suite notifies of every message that is delivered; what comes twice bears the same id."""

import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bench.suite import UNFILTERED, Suite, state_directory
from tests.end_to_end.clients import Smtp
from tests.end_to_end.crashing import SEED, Reconnecting, at_once, kill, wait_until
from tests.end_to_end.suite import smtp, started

_MESSAGES = 300
_VICTIMS = (["relay"], ["smtp"], ["postgres"], ["relay", "smtp"], ["relay"])
_CONFIGURATION = f"""
{UNFILTERED}

[transport]
private_networks = ["127.0.0.0/8"]

[notifier]
sms_limit = 1000000
account_at_once = 5
timeout = "2 s"
retry_waits = ["500 ms"]

[[notifier.gateways]]
url = "http://127.0.0.1:PORT/"
body = '{{"id": "$id", "text": "$text"}}'
price = 1
"""
_SCRIPT = """require ["enotify", "variables"];
if header :matches "subject" "*" { set "token" "${1}"; }
notify :message "${token}" "sms:+491701234567";
"""


@contextmanager
def gateway() -> Iterator[tuple[int, list[dict[str, str]]]]:
    """An SMS gateway that refuses every tenth request for now. Gives its port, and what it took."""
    taken: list[dict[str, str]] = []
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            octets = self.rfile.read(int(self.headers["Content-Length"]))
            is_busy = next(numbers) % 10 == 9
            if not is_busy:
                taken.append(json.loads(octets))
            self.send_response(503 if is_busy else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _send(suite: Suite, login: str, stopping: threading.Event) -> None:
    """Deliver message after message until all are acknowledged; what was not is delivered again, so some lie there twice."""
    session = Reconnecting(lambda: smtp(suite, "lmtp"), stopping)
    token = 0
    while token < _MESSAGES and not stopping.is_set():
        octets = f"From: <a@client.example>\r\nTo: <{login}>\r\nSubject: {token}\r\n\r\nHello.\r\n".encode()
        answers = session.attempt(partial(Smtp.data, recipients=[login], octets=octets))
        if answers and answers[0].code == 250:
            token += 1
    session.close()


@pytest.mark.timeout(240)
def test_kill_loses_no_notification() -> None:
    """Each message in the mailbox is notified of by one id, each id arrives, and it is charged once."""
    chance = random.Random(SEED)
    with (
        state_directory() as state,
        gateway() as (port, taken),
        started(Suite(state, configuration=_CONFIGURATION.replace("PORT", str(port)))) as suite,
    ):
        login = suite.accounts()[0].login
        suite.command("sieve", "put", login, "fax", "-", "--activate", text=_SCRIPT)
        with at_once(1, lambda _, stopping: _send(suite, login, stopping)) as (sender,):
            for number, victims in enumerate(_VICTIMS, start=1):
                _wait_for(taken, number * _MESSAGES // (len(_VICTIMS) + 1))
                kill(suite, victims, chance)
            wait_until(lambda: not sender.is_alive())
        wait_until(lambda: all(row["state"] == "sent" for row in _queue(suite)))
        rows, (cost,) = _queue(suite), json.loads(suite.command("notifier", "costs", "--json"))
        (account,) = [row for row in json.loads(suite.command("account", "list", "--json")) if row["login"] == login]
    ids = {each["id"] for each in taken}
    assert {each["text"] for each in taken} == {str(token) for token in range(_MESSAGES)}
    assert len(ids) == len(rows) == account["message_count"] == cost["queued"] == cost["sent"] == cost["cost"]
    doubles = sum(count - 1 for count in Counter(each["id"] for each in taken).values())
    print(f"{len(ids)} notifications, {doubles} doubles")
    assert doubles <= 5 * len(_VICTIMS)  # those under way at each death


def _wait_for(taken: list[dict[str, str]], count: int) -> None:
    wait_until(lambda: len(taken) >= count)


def _queue(suite: Suite) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(suite.command("notifier", "list", "--limit", "100000", "--json"))
    return rows
