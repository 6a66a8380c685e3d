"""What the tests with clients of other makers share: mailboxes with mails, and a look at what became of them."""

import base64
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import imapclient
import pytest

from bench.mails import mails
from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.suite import imap, smtp

Tool = Callable[..., str]  # the fixture `tool`: (program, arguments...) -> what it wrote

_EVENT_SECONDS = 30
_START = datetime(2026, 1, 1, tzinfo=UTC)


def must_have(*programs: str) -> None:
    """Skip the test when a program is missing, loudly; under CI=true it fails instead."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and under CI it must be")
        pytest.skip(reason)


def as_wire(octets: bytes) -> bytes:
    """A message from a file, with the line ends that it has in a protocol."""
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


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
    kind, body = (
        "text/plain; charset=utf-8",
        f"This is mail {number}, größer.\r\n{word(number)}\r\nWith kind regards\r\n",
    )
    if number % 5 == 0:
        body = (
            f"--=b\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{body}\r\n"
            f"--=b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>This is mail <b>{number}</b></p>\r\n--=b--\r\n"
        )
        kind = 'multipart/alternative; boundary="=b"'
    text = (
        f"From: Sender {number} <sender{number}@sender.test>\r\nTo: Somebody <somebody@example.test>\r\n"
        f"Subject: {_encoded_word(subject(number))}\r\nDate: {format_datetime(_START + timedelta(minutes=number))}\r\n"
        f"Message-ID: <{number}.numbered@sender.test>\r\nMIME-Version: 1.0\r\nContent-Type: {kind}\r\n"
        f"Content-Transfer-Encoding: 8bit\r\n\r\n{body}"
    )
    return text.encode()


def _encoded_word(text: str) -> str:
    """As an encoded word (RFC 2047 §2) where it is not ASCII."""
    return text if text.isascii() else f"=?utf-8?b?{base64.b64encode(text.encode()).decode()}?="


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
        deadline = time.monotonic() + _EVENT_SECONDS
        while len(found := client.search(criteria)) != count:
            client.idle()
            # What came while the search ran was told with its answer, and IDLE does not repeat it: so look again soon.
            if client.idle_check(1):
                deadline = time.monotonic() + _EVENT_SECONDS
            client.idle_done()
            assert time.monotonic() < deadline, f"{len(found)} messages in {mailbox}, and nothing happens"
        return list(found)
