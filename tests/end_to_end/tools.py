"""What the tests with clients of other makers share: mailboxes with mails, and a look at what became of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

import imapclient

from bench.mails import mails
from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.suite import imap, smtp

Tool = Callable[..., str]  # the fixture `tool`: (program, arguments...) -> what it wrote

_EVENT_SECONDS = 30
_START = datetime(2026, 1, 1, tzinfo=UTC)


def send(suite: Suite, account: Account, count: int) -> list[bytes]:
    """Put realistic mails into the account's INBOX; gives their octets in order."""
    originals = [mail.octets for mail in mails(count, seed=count)]
    with smtp(suite) as session:
        for octets in originals:
            assert session.data([account.login], octets)[0].code == 250
    return originals


def numbered(count: int) -> list[bytes]:
    """Small mails that can be told apart by their subjects, and found by a word that every fiftieth has in its text."""
    return [_mail(number) for number in range(count)]


def subject(number: int) -> str:
    """What the numbered mail is called: every third one not in ASCII."""
    return f"Größe № {number}." if number % 3 == 0 else f"Message {number}."


def word(number: int) -> str:
    """What only the mails with the same number modulo 50 have in their text."""
    return f"marker-{number % 50}-end"


def _mail(number: int) -> bytes:
    message = EmailMessage()
    message["From"] = f"Sender {number} <sender{number}@sender.test>"
    message["To"] = "Somebody <somebody@example.test>"
    message["Subject"] = subject(number)
    message["Date"] = format_datetime(_START + timedelta(minutes=number))
    message["Message-ID"] = f"<{number}.numbered@sender.test>"
    message.set_content(f"This is mail {number}.\n{word(number)}\nWith kind regards\n")
    if number % 5 == 0:
        message.add_alternative(f"<p>This is mail <b>{number}</b></p>\n", subtype="html")
    if number % 25 == 0:
        message.add_attachment(
            b"%d" % number * 500, maintype="application", subtype="octet-stream", filename="größe.bin"
        )
    return message.as_bytes(policy=SMTP)


def fill(suite: Suite, account: Account, mailbox: str, originals: list[bytes]) -> None:
    """Put these mails into a mailbox, 100 with a command: no test of a client should spend its time on delivery."""
    with imap(suite, account) as client:
        for start in range(0, len(originals), 100):
            client.append(mailbox, *originals[start : start + 100])


def written(path: Path, text: str) -> Path:
    """A file that only its owner reads, as the programs want of what holds a password."""
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


def until_found(suite: Suite, account: Account, mailbox: str, criteria: str, count: int) -> list[int]:
    """Wait, woken by IDLE, until a search in the mailbox finds `count` messages; gives their UIDs."""
    host, port = "localhost", suite.endpoint("imaps")[1]
    with imapclient.IMAPClient(host, port=port, ssl_context=suite.tls()) as client:
        client.login(account.login, account.password)
        client.select_folder(mailbox, readonly=True)
        while len(found := client.search(criteria)) != count:
            client.idle()
            told = client.idle_check(_EVENT_SECONDS)
            client.idle_done()
            assert told, f"{len(found)} messages in {mailbox}, and nothing happens"
        return list(found)
