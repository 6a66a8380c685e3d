"""Killed at random moments under load, the suite has every acknowledged message, whole and once, and sound books."""

import hashlib
import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import pytest

from bench.mails import mails
from bench.suite import Suite, state_directory
from tests.end_to_end.clients import Smtp
from tests.end_to_end.crashing import SEED, Ledger, Reconnecting, at_once, database, kill, wait_for_answer
from tests.end_to_end.suite import imap, smtp, started

_ROUNDS = 20
_SENDERS = 4


@dataclass(slots=True)
class Deliveries(Ledger[tuple[int, str]]):
    """Keys are (token, login): a token is one transaction's, and no mail is ever sent again."""

    uncertain: set[tuple[int, str]] = field(default_factory=set)  # tried, whatever came of it


def _send(suite: Suite, ledger: Deliveries, number: int, stopping: threading.Event) -> None:
    """Send mail after mail, alternating recipients and commands."""
    logins = [account.login for account in suite.accounts()[:2]]
    session = Reconnecting(lambda: smtp(suite, "lmtp" if number % 2 else "smtp"), stopping)
    tokens = itertools.count(number, _SENDERS)
    supply = itertools.chain.from_iterable(mails(400, seed=SEED + number + 1000 * lap) for lap in itertools.count())
    while not stopping.is_set():
        token = next(tokens)
        octets = b"X-Token: %d\r\n%s" % (token, next(supply).octets)
        recipients = logins if token % 5 == 0 else [logins[token % 2]]
        ledger.digests[token] = hashlib.sha256(octets).digest()
        ledger.uncertain.update((token, login) for login in recipients)
        bring = Smtp.bdat if token % 3 == 0 else Smtp.data
        replies = session.attempt(partial(bring, recipients=recipients, octets=octets))
        for login, reply in zip(recipients if replies else (), replies, strict=True):
            if reply.code == 250:
                ledger.acknowledge((token, login))
            else:
                assert 400 <= reply.code < 500, f"a failure of ours must be temporary: {reply}"
                session.rest()
    session.close()


def _kill_in_turn(suite: Suite, ledger: Deliveries) -> None:
    """20 rounds: after some acknowledgements, at a moment of no one's choosing, SIGKILL; then mail must flow again."""
    chance = random.Random(SEED)
    for number in range(_ROUNDS):
        started = time.monotonic()
        ledger.wait_for(len(ledger.acknowledged) + chance.randrange(20, 120))
        print(f"round {number}: mail flowed for or again after {time.monotonic() - started:.1f} s")
        kill(suite, [["smtp"], ["postgres"], ["smtp", "postgres"], ["archiver", "smtp"]][number % 4], chance)
    ledger.wait_for(len(ledger.acknowledged) + 50)


def _found(suite: Suite, ledger: Deliveries) -> Counter[tuple[int, str]]:
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
    async with database(suite) as connection:
        for wrong, query in _BOOKS.items():
            assert await connection.fetchval(query) == 0, wrong
        await wait_for_answer(connection, "SELECT NOT EXISTS (SELECT FROM journal WHERE archived_seq IS NULL)")
        journal = await connection.fetchval("SELECT count(*) FROM journal")
        assert journal == await connection.fetchval("SELECT count(*) FROM archive_message")


@pytest.mark.timeout(900)
async def test_kill_loses_nothing_acknowledged() -> None:
    """Over 20 rounds of kill -9 of smtp, archiver and PostgreSQL each acknowledged message stays, whole and once."""
    ledger = Deliveries()
    with state_directory() as state, started(Suite(state)) as suite:
        with at_once(_SENDERS, lambda number, stopping: _send(suite, ledger, number, stopping)):
            _kill_in_turn(suite, ledger)
        found = _found(suite, ledger)
        assert not ledger.acknowledged - found.keys(), "acknowledged, but not there"
        assert not [key for key, count in found.items() if count > 1], "there more than once"
        assert not found.keys() - ledger.uncertain, "there, but never sent"
        await _check_books(suite)
        suite.command("archive", "verify")
        suite.command("check")
