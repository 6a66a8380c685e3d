"""The running suite for the tests here: its start and clean end, and sessions with it."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processor import tree
from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.clients import Pop3, Smtp
from tests.end_to_end.imap_client import ImapClient

_RESTART_SECONDS = 30.0  # of a process that was killed a moment ago

# What we put above a message that comes in over SMTP or LMTP, and nothing else: RFC 5321 §4.4.
TRACE = re.compile(rb"Return-Path: <[^<>\r\n]*>\r\n(?:Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)\Z")


@contextmanager
def started(suite: Suite) -> Iterator[Suite]:
    """Start a suite, and end it as Ctrl-C does: with exit code 0 and no process left behind."""
    suite.start()
    try:
        yield suite
    finally:
        assert suite.process is not None
        members = tree([suite.process.pid])
        code = suite.interrupt()
    assert code == 0, f"exit code {code}\n{suite.tail()}"
    left = [pid for pid in members if _is_alive(pid)]
    assert not left, f"processes left: {left}\n{suite.tail()}"


def smtp(suite: Suite, protocol: str = "smtp") -> Smtp:
    """A session of SMTP or LMTP, in the clear."""
    return Smtp(suite.endpoint(protocol), is_lmtp=protocol == "lmtp")


def imap(suite: Suite, account: Account) -> ImapClient:
    """A logged-in session over imaps."""
    return ImapClient(suite.endpoint("imaps"), suite.tls(), account.login, account.password)


def pop3(suite: Suite, account: Account) -> Pop3:
    """A logged-in session over pop3s."""
    return Pop3(suite.endpoint("pop3s"), suite.tls(), account.login, account.password)


def bodies(suite: Suite, account: Account, mailbox: str = "INBOX") -> list[bytes]:
    """The octets of every message in a mailbox, by UID."""
    with imap(suite, account) as client:
        if not client.select(mailbox):
            return []
        return [fetched.octets("BODY[]") for fetched in client.fetch("1:*", "BODY.PEEK[]")]


def process(suite: Suite, name: str) -> int:
    """The pid of one of the suite's processes by its name, once it runs; "postgres" is PostgreSQL's postmaster."""
    deadline = time.monotonic() + _RESTART_SECONDS
    while (pid := _running(suite, name)) is None:
        if time.monotonic() > deadline:
            raise LookupError(name)
        time.sleep(0.05)
    return pid


def _running(suite: Suite, name: str) -> int | None:
    assert suite.process is not None
    for pid in tree([suite.process.pid]):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name == "postgres" and os.path.basename(arguments[0]) == b"postgres" and b"-D" in arguments:
            return pid
        if b"serve" in arguments and arguments[arguments.index(b"serve") + 1] == name.encode():
            return pid
    return None


def _is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
