"""What people sort teaches the whole suite: moved over IMAP, learned by the keeper, judged by SMTP, told by commands."""

import json
import smtplib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bench.suite import Suite, state_directory
from bench.system import Account
from tests.end_to_end.suite import bodies, imap, started
from tests.filters.spam.letters import letter

ALICE, BOB = Account("alice@here.test", "secret of alice"), Account("bob@here.test", "secret of bob")
_CONFIGURATION = """
hostname = "mx.here.test"

[smtp]
filters = ["spam"]

[spam]
least_learned = 2
learning_reaches = "account"
"""
_SECONDS = 30.0
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\n"


@pytest.fixture(scope="module")
def suite() -> Iterator[Suite]:
    """here.test with alice and bob."""
    with state_directory() as state, started(Suite(state, configuration=_CONFIGURATION, is_demo=False)) as running:
        running.command("tenant", "add", "here")
        running.command("domain", "add", "here.test", "--tenant", "here")
        for account in (ALICE, BOB):
            running.command("account", "add", account.login, "--password-stdin", text=account.password + "\n")
        yield running


def send(suite: Suite, text: str, number: int, *accounts: Account) -> None:
    """Bring a message from elsewhere."""
    with smtplib.SMTP(*suite.endpoint("smtp")) as client:
        octets = letter(text, Message_ID=f"<{number}@example.org>", To="people@here.test")
        client.sendmail("anna@example.org", [account.login for account in accounts], octets)


def learned(suite: Suite, spam: int, ham: int) -> list[dict[str, Any]]:
    """What the accounts have taught, as soon as it is so much."""
    deadline = time.monotonic() + _SECONDS
    while True:
        rows: list[dict[str, Any]] = json.loads(suite.command("spam", "learned", "--json"))
        if [(row["spam"], row["ham"]) for row in rows if row["login"]] == [(spam, ham)]:
            return rows
        assert time.monotonic() < deadline, rows
        time.sleep(0.1)


def test_mail_that_is_sorted_teaches(suite: Suite) -> None:
    """Alice throws away pills and rescues minutes: the next pills are hers to know, and bob's mail is judged as before."""
    for number in range(2):
        send(suite, "cheap pills from our shop\n", number, ALICE)
    for number in range(2, 4):
        send(suite, "minutes of the meeting on Friday\n", number, ALICE)
    with imap(suite, ALICE) as client:
        client.select()
        client.command("UID MOVE 1:4 Junk")
        client.select("Junk")
        client.command("UID MOVE 3:4 INBOX")
    (row,) = learned(suite, 2, 2)
    assert (row["tenant"], row["login"]) == ("here", ALICE.login)
    (known,) = json.loads(suite.command("spam", "sender", "--account", ALICE.login, "anna@example.org", "--json"))
    assert (known["kept"], known["junked"]) == (2, 2)
    send(suite, "cheap pills, cheap pills again\n", 9, ALICE, BOB)
    (hers,), (his,) = bodies(suite, ALICE)[2:], bodies(suite, BOB)
    assert b"bayes_spam" in hers
    assert b"bayes_spam" not in his
    assert b"X-Spam-Status: No, " in his


def test_gtube_is_refused(suite: Suite) -> None:
    """From end to end, with a reason."""
    with pytest.raises(smtplib.SMTPDataError) as refused:
        send(suite, GTUBE, 10, BOB)
    assert (refused.value.smtp_code, refused.value.smtp_error) == (
        550,
        b"5.7.1 message refused: it is spam, or looks very much like it",
    )
