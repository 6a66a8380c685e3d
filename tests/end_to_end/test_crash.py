"""Killed at random moments under load, the suite has every acknowledged message, whole and once, and sound books."""

import hashlib
import itertools
import os
import random
import signal
import threading
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field

import asyncpg
import pytest

from bench.mails import mails
from bench.suite import Suite, state_directory
from tests.end_to_end.clients import Smtp
from tests.end_to_end.suite import imap, process, smtp, started

_ROUNDS = 20
_SEED = 20261122
_SENDERS = 4
_RECOVERY_SECONDS = 60.0


@dataclass(slots=True)
class Ledger:
    """What the clients know. Keys are (token, login); a token is one transaction's, and no mail is ever sent again."""

    digests: dict[int, bytes] = field(default_factory=dict)
    acknowledged: set[tuple[int, str]] = field(default_factory=set)
    uncertain: set[tuple[int, str]] = field(default_factory=set)
    progress: threading.Condition = field(default_factory=threading.Condition)

    def acknowledge(self, token: int, login: str) -> None:
        """A 250 to the message came."""
        with self.progress:
            self.acknowledged.add((token, login))
            self.progress.notify_all()

    def wait_for(self, more: int, within_seconds: float) -> None:
        """Wait until `more` further acknowledgements came. Raises AssertionError when they do not."""
        with self.progress:
            goal = len(self.acknowledged) + more
            assert self.progress.wait_for(lambda: len(self.acknowledged) >= goal, within_seconds), "no recovery"


def _sender(suite: Suite, ledger: Ledger, number: int, stopping: threading.Event) -> None:
    """Send mail after mail, alternating recipients and commands, over a new connection whenever the old one is gone."""
    logins = [account.login for account in suite.accounts()[:2]]
    is_lmtp = number % 2 == 1
    tokens = itertools.count(number, _SENDERS)
    supply = itertools.chain.from_iterable(mails(400, seed=_SEED + number + 1000 * lap) for lap in itertools.count())
    session: Smtp | None = None
    while not stopping.is_set():
        token = next(tokens)
        octets = b"X-Token: %d\r\n%s" % (token, next(supply).octets)
        recipients = logins if token % 5 == 0 else [logins[token % 2]]
        ledger.digests[token] = hashlib.sha256(octets).digest()
        try:
            session = session or smtp(suite, "lmtp" if is_lmtp else "smtp")
            ledger.uncertain.update((token, login) for login in recipients)
            replies = session.bdat(recipients, octets) if token % 3 == 0 else session.data(recipients, octets)
        except OSError:
            if session:
                session.close()
            session = None
            stopping.wait(0.02)
            continue
        for login, reply in zip(recipients, replies, strict=True):
            if reply.code == 250:
                ledger.acknowledge(token, login)
            else:
                assert 400 <= reply.code < 500, f"a failure of ours must be temporary: {reply}"
                stopping.wait(0.02)
    if session:
        session.close()


def _kill_in_turn(suite: Suite, ledger: Ledger) -> None:
    """20 rounds: after some acknowledgements, at a moment of no one's choosing, SIGKILL; then mail must flow again."""
    chance = random.Random(_SEED)
    for number in range(_ROUNDS):
        started = time.monotonic()
        ledger.wait_for(chance.randrange(20, 120), _RECOVERY_SECONDS)
        print(f"round {number}: mail flowed for or again after {time.monotonic() - started:.1f} s")
        victims = [["smtp"], ["postgres"], ["smtp", "postgres"], ["archiver", "smtp"]][number % 4]
        pids = [process(suite, name) for name in victims]
        time.sleep(chance.random() * 0.05)  # the moment is to be random, nothing is waited for
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    ledger.wait_for(50, _RECOVERY_SECONDS)


def _found(suite: Suite, ledger: Ledger) -> Counter[tuple[int, str]]:
    """Every message in the mailboxes by token, each one whole."""
    found: Counter[tuple[int, str]] = Counter()
    for account in suite.accounts()[:2]:
        with imap(suite, account) as client:
            for start in range(1, client.select() + 1, 200):
                for fetched in client.fetch(f"{start}:{start + 199}", "BODY.PEEK[]"):
                    octets = fetched.octets("BODY[]")
                    original = octets[octets.index(b"X-Token: ") :]
                    token = int(original[len(b"X-Token: ") : original.index(b"\r\n")])
                    whole = hashlib.sha256(original).digest() == ledger.digests[token]
                    assert whole, f"message {token} is not whole"
                    found[token, account.login] += 1
    return found


_BOOKS = {
    "counters differ from a recount": """
        SELECT count(*) FROM mailbox LEFT JOIN (
            SELECT mailbox_id, count(*) AS messages, count(*) FILTER (WHERE flags & 1 = 0) AS unseen,
                   sum(size_octets) AS octets, max(uid) AS last_uid, max(modseq) AS last_modseq
              FROM message GROUP BY mailbox_id) AS recount USING (mailbox_id)
         WHERE (message_count, unseen_count, mailbox.size_octets) IS DISTINCT FROM
               (coalesce(messages, 0), coalesce(unseen, 0), coalesce(octets, 0)::bigint)
            OR uidnext <= last_uid OR highestmodseq < last_modseq""",
    "contents without all of their parts": """
        SELECT count(*) FROM content
         WHERE part_count <> (SELECT count(*) FROM content_part WHERE content_part.content_id = content.content_id)""",
    "contents without a blob": """
        SELECT count(*) FROM content LEFT JOIN blob ON (blob.tenant_id, blob.digest) = (content.tenant_id, content.skeleton)
         WHERE blob.digest IS NULL""",
    "parts without a blob": """
        SELECT count(*) FROM content_part LEFT JOIN blob USING (tenant_id, digest) WHERE blob.digest IS NULL""",
    "messages whose content is gone or of another size": """
        SELECT count(*) FROM message LEFT JOIN content USING (content_id)
         WHERE content.size_octets IS DISTINCT FROM message.size_octets""",
    "messages without a journal row": """
        SELECT count(*) FROM message WHERE NOT EXISTS (SELECT FROM journal WHERE journal.content_id = message.content_id)""",
    "contents with more journal rows than one": """
        SELECT count(*) FROM (SELECT content_id FROM journal GROUP BY content_id HAVING count(*) > 1) AS twice""",
}


async def _check_books(suite: Suite) -> None:
    settings = tomllib.loads((suite.state / "run" / "postwerk.toml").read_text("utf-8"))
    connection = await asyncpg.connect(settings["database"].get("owner_dsn") or settings["database"]["dsn"])
    try:
        for wrong, query in _BOOKS.items():
            assert await connection.fetchval(query) == 0, wrong
        deadline = time.monotonic() + _RECOVERY_SECONDS
        while await connection.fetchval("SELECT count(*) FROM journal WHERE archived_seq IS NULL"):
            assert time.monotonic() < deadline, "the archiver does not catch up"
            time.sleep(0.1)
        journal = await connection.fetchval("SELECT count(*) FROM journal")
        assert journal == await connection.fetchval("SELECT count(*) FROM archive_message")
    finally:
        await connection.close()


@pytest.mark.timeout(900)
async def test_kill_loses_nothing_acknowledged() -> None:
    """Over 20 rounds of kill -9 of smtp, archiver and PostgreSQL each acknowledged message stays, whole and once."""
    ledger = Ledger()
    stopping = threading.Event()
    failures: list[BaseException] = []
    with state_directory() as state, started(Suite(state)) as suite:

        def send(number: int) -> None:
            try:
                _sender(suite, ledger, number, stopping)
            except BaseException as error:  # shown by the test below
                failures.append(error)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(_SENDERS)]
        for thread in threads:
            thread.start()
        try:
            _kill_in_turn(suite, ledger)
        finally:
            stopping.set()
            for thread in threads:
                thread.join(90)
        assert not failures
        found = _found(suite, ledger)
        assert not ledger.acknowledged - found.keys(), "acknowledged, but not there"
        assert not [key for key, count in found.items() if count > 1], "there more than once"
        assert not found.keys() - ledger.uncertain, "there, but never sent"
        await _check_books(suite)
        suite.command("archive", "verify")
        suite.command("check")
