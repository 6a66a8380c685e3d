"""Scripts from the client that puts them on the server to the mailboxes where mail lies then, through the whole suite."""

import imaplib
import smtplib
from collections.abc import Callable, Iterator

import pytest
from sievelib.managesieve import Client

from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.tools import until_found

RULES = """
require ["fileinto", "mailbox", "imap4flags", "vacation", "extlists"];
vacation :days 1 :subject "Away" "I am not here.";
if header :contains "subject" "list" { fileinto :create "Lists"; stop; }
if address :list "from" ":addrbook:default" { addflag "\\\\Flagged"; }
"""
MARKED = 'require ["imapsieve", "environment", "imap4flags"]; if environment "imap.cause" "COPY" { addflag "copied"; }'


@pytest.fixture
def sieve(suite: Suite, account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """sievelib, logged in behind STARTTLS."""
    monkeypatch.setenv("SSL_CERT_FILE", suite.endpoints["ca"])
    host, port = suite.endpoint("managesieve")
    client = Client(host, port, srvhostname="localhost")
    assert client.connect(account.login, account.password, starttls=True, authmech="PLAIN")
    yield client
    client.logout()


def deliver(suite: Suite, sender: Account, account: Account, subject: str) -> None:
    """A message from one account to the other."""
    octets = f"From: <{sender.login}>\r\nTo: <{account.login}>\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()
    with smtplib.SMTP(*suite.endpoint("smtp"), timeout=30) as session:
        assert session.sendmail(sender.login, [account.login], octets) == {}


def deliver_until_kept(suite: Suite, sender: Account, account: Account, subject: str) -> int:
    """The process that delivers hears of a change a moment after it was made. Returns how many messages that took."""
    with imaplib.IMAP4_SSL("localhost", suite.endpoint("imaps")[1], ssl_context=suite.tls()) as client:
        client.login(account.login, account.password)
        for tries in range(1, 100):
            deliver(suite, sender, account, subject)
            client.select("INBOX", readonly=True)
            if client.search(None, f'SUBJECT "{subject}"')[1] != [b""]:
                return tries
    pytest.fail("no process has heard of the change")


def test_a_script_that_a_client_puts_there(
    suite: Suite, account: Account, new_account: Callable[[], Account], sieve: Client
) -> None:
    """It files the next message, answers its sender once, and knows the address book; deactivated it does nothing more."""
    sender = new_account()
    suite.command("book", "add", account.login, sender.login)
    assert sieve.putscript("rules", RULES), sieve.errmsg
    assert sieve.setactive("rules")
    deliver(suite, sender, account, "a list")
    deliver(suite, sender, account, "a letter")
    until_found(suite, account, "INBOX", "FLAGGED SUBJECT letter", 1)
    until_found(suite, account, "Lists", "SUBJECT list", 1)
    until_found(suite, sender, "INBOX", "SUBJECT Away", 1)
    assert sieve.setactive("")
    tries = deliver_until_kept(suite, sender, account, "another list")
    until_found(suite, sender, "INBOX", "ALL", 1)
    assert suite.command("sieve", "apply", account.login, "rules", "INBOX").endswith("1 of 2 messages changed\n")
    until_found(suite, account, "Lists", "SUBJECT list", tries + 1)


def test_a_script_of_the_host(suite: Suite, account: Account, new_account: Callable[[], Account]) -> None:
    """It runs for accounts that have no script of their own, until it is deleted."""
    sender, source = new_account(), 'require "fileinto"; if header "subject" "for the host" { fileinto "Archive"; }'
    suite.command("sieve", "global", "put", "archiving", "-", "--before", text=source)
    try:
        deliver(suite, sender, account, "for the host")
        until_found(suite, account, "Archive", "ALL", 1)
    finally:
        suite.command("sieve", "global", "delete", "archiving")
    deliver_until_kept(suite, sender, account, "for the host")


def test_a_script_for_what_happens_over_imap(suite: Suite, account: Account, sieve: Client) -> None:
    """A mailbox names it by its annotation; it runs when Python's imaplib copies a message there."""
    assert sieve.putscript("events", MARKED), sieve.errmsg
    with imaplib.IMAP4_SSL("localhost", suite.endpoint("imaps")[1], ssl_context=suite.tls()) as client:
        client.login(account.login, account.password)
        assert client.xatom("SETMETADATA", "Archive", '(/shared/imapsieve/script "events")')[0] == "OK"
        assert client.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n")[0] == "OK"
        client.select("INBOX")
        assert client.copy("1", "Archive")[0] == "OK"
    until_found(suite, account, "Archive", "KEYWORD copied", 1)
