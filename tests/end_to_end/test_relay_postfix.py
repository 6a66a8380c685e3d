"""Postfix as the server that our mail goes to, and as the one that mail for us comes from, in verified TLS both ways."""

import email
import email.policy
import itertools
import json
import re
import shutil
import smtplib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage, Message

import pytest

from bench.mails import mails
from bench.suite import UNFILTERED, Suite, state_directory
from bench.system import Account
from daemons.certificates import Issued
from tests.conftest import new_state
from tests.end_to_end.postfix import Postfix, choose_port, postfix
from tests.end_to_end.suite import bodies, started
from tests.end_to_end.tools import until_found

_CONFIGURATION = """
[relay]
poll = "1 s"

[[transport.routes]]
domains = ["peer.test"]
host = "127.0.0.1"
port = {port}
tls = "verify"
names = ["localhost"]
authority = "{authority}"
"""
_MARK = b"X-Number: "
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Pair:
    """Our suite and a Postfix, each the other's way."""

    suite: Suite
    postfix: Postfix

    @property
    def alice(self) -> Account:
        """Who sends and is sent to."""
        return self.suite.accounts()[0]

    @property
    def bob(self) -> Account:
        """Another one."""
        return self.suite.accounts()[1]

    def submit(self, recipients: list[str], octets: bytes, **options: list[str]) -> dict[str, tuple[int, bytes]]:
        """Send as alice, through submissions; gives the recipients that were refused."""
        host, port = "localhost", self.suite.endpoint("submissions")[1]
        with smtplib.SMTP_SSL(host, port, context=self.suite.tls()) as client:
            client.login(self.alice.login, self.alice.password)
            return client.sendmail(self.alice.login, recipients, octets, **options)


@pytest.fixture(scope="module")
def pair(certificate: Issued) -> Iterator[Pair]:
    """Both, running."""
    directory, port = new_state(), choose_port()
    configuration = UNFILTERED + _CONFIGURATION.format(port=port, authority=certificate.authority)
    with state_directory() as state, started(Suite(state, configuration=configuration)) as suite:
        ours, authority = suite.endpoint("smtp")[1], suite.endpoints["ca"]
        with postfix(directory, certificate, port=port, ours=ours, authority=authority) as running:
            yield Pair(suite, running)
    shutil.rmtree(directory, ignore_errors=True)


def _marked(octets: bytes, sender: str | None = None) -> bytes:
    """With a field on top by which it is known again, and from this sender."""
    author = f"From: <{sender}>\r\n".encode() if sender else b""
    head, separator, body = octets.partition(b"\r\n\r\n")
    fields = [line for line in _fields(head) if not (sender and line.lower().startswith(b"from:"))]
    return b"%b%d\r\n%b%b" % (_MARK, next(_numbers), author, b"\r\n".join(fields)) + separator + body


def _fields(head: bytes) -> list[bytes]:
    fields: list[bytes] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            fields[-1] += b"\r\n" + line
        else:
            fields.append(line)
    return fields


def _originals(arrived: list[bytes]) -> list[bytes]:
    """What was sent, without what was put on top on the way."""
    return sorted(octets[octets.index(_MARK) :] for octets in arrived)


def _odd(sender: str) -> list[bytes]:
    """Messages that are easily damaged on the way."""
    head = f"From: <{sender}>\r\nTo: <world@peer.test>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%d@odd.test>\r\n"
    bodies = [
        b"\r\n.\r\n..\r\n.x\r\n...\r\n",
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + "größer\r\n".encode() * 100,
        b"\r\n",
        b"\r\n" + b"x" * 990 + b"\r\n\t\r\n \r\n",
        b"\r\n" + b"large, and longer than any buffer\r\n" * 100_000,
    ]
    return [_marked(head.encode() % number + body) for number, body in enumerate(bodies)]


def _report(octets: bytes) -> tuple[EmailMessage, Message]:
    """A delivery status notification: all of it, and the fields of its first recipient."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    (status,) = [part for part in message.walk() if part.get_content_type() == "message/delivery-status"]
    payload = status.get_payload()
    assert isinstance(payload, list)
    fields = payload[1]
    assert isinstance(fields, Message)
    return message, fields


def test_postfix_takes_what_we_send(pair: Pair) -> None:
    """What is submitted here arrives there octet for octet, in verified TLS and over connections that are used again."""
    sent = [_marked(mail.octets, pair.alice.login) for mail in mails(40, seed=1)] + _odd(pair.alice.login)
    host, port = "localhost", pair.suite.endpoint("submissions")[1]
    with smtplib.SMTP_SSL(host, port, context=pair.suite.tls()) as client:
        client.login(pair.alice.login, pair.alice.password)
        for octets in sent:
            options = [] if octets.isascii() else ["BODY=8BITMIME"]
            assert client.sendmail(pair.alice.login, ["world@peer.test"], octets, mail_options=options) == {}
    arrived = pair.postfix.messages("world", len(sent))
    assert _originals(arrived) == sorted(sent)
    assert all(b"(using TLSv1.3 with cipher" in octets for octets in arrived)
    assert pair.postfix.log.count(": connect from ") < len(sent)
    trace = pair.suite.command("trace", "--to", "world@peer.test")
    assert re.search(r"250 2\.0\.0 Ok: (\d+ bytes )?queued as", trace)
    assert "verified (pkix)" in trace


def test_recipients_of_one_message_go_together(pair: Pair) -> None:
    """Two recipients there get one message each from one transaction, one here gets it as well."""
    before = [len(pair.postfix.messages(name, 0)) for name in ("world", "other")]
    octets = _marked(next(iter(mails(1, seed=2))).octets, pair.alice.login)
    assert pair.submit(["world@peer.test", "other@peer.test", pair.bob.login], octets) == {}
    arrived = [
        pair.postfix.messages(name, count + 1)[count] for name, count in zip(("world", "other"), before, strict=True)
    ]
    assert _originals(arrived) == [octets, octets]
    queued = {line for line in arrived[0].split(b"\r\n") if b"with ESMTPS id" in line}
    assert queued <= set(arrived[1].split(b"\r\n"))
    assert octets in _originals(bodies(pair.suite, pair.bob))
    _check_trace(pair, arrived[0])


def _check_trace(pair: Pair, octets: bytes) -> None:
    """The id in our Received field leads from the login to what Postfix said, and to the mailbox here."""
    found = re.search(rb" with ESMTPSA id ([0-9a-f]{16})", octets)
    assert found is not None
    deadline = time.monotonic() + 20
    while True:  # notes are written within a second or so
        (shown,) = json.loads(pair.suite.command("trace", found[1].decode(), "--json"))
        notes = shown["notes"]
        kinds = [note["kind"] for note in notes]
        if kinds.count("delivered") == 2:
            break
        assert time.monotonic() < deadline, kinds
        time.sleep(0.1)
    assert kinds[0] == "received"
    assert {"queued", "stored", "attempt"} <= set(kinds)
    (stored,) = [note for note in notes if note["kind"] == "stored"]
    assert (stored["mailbox"], stored["uid"] > 0) == (f"{pair.bob.login}/INBOX", True)
    for attempt in (note for note in notes if note["kind"] == "attempt"):
        assert attempt["reply"].startswith("250 2.0.0 Ok: ")
        assert attempt["tls"].startswith("TLSv1.3 ")


def test_internationalized_mail(pair: Pair) -> None:
    """A message with UTF-8 in its header goes to Postfix as it is, with SMTPUTF8."""
    before = len(pair.postfix.messages("world", 0))
    octets = _marked(
        f"From: Älice <{pair.alice.login}>\r\nTo: <world@peer.test>\r\nSubject: größer\r\n"
        f"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <utf8@example.test>\r\n\r\nhello\r\n".encode()
    )
    assert pair.submit(["world@peer.test"], octets, mail_options=["SMTPUTF8", "BODY=8BITMIME"]) == {}
    assert _originals(pair.postfix.messages("world", before + 1)[before:]) == [octets]


def test_unknown_recipient_is_reported_with_the_words_of_postfix(pair: Pair) -> None:
    """Who writes to somebody that Postfix does not know is told what it said."""
    octets = _marked(next(iter(mails(1, seed=3))).octets, pair.alice.login)
    assert pair.submit(["nobody@peer.test"], octets) == {}
    until_found(pair.suite, pair.alice, "INBOX", "TEXT nobody@peer.test", 1)
    (found,) = [body for body in bodies(pair.suite, pair.alice) if b"nobody@peer.test" in body]
    message, fields = _report(found)
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
    assert fields["Diagnostic-Code"].startswith("smtp; 550 5.1.1 <nobody@peer.test>: Recipient address rejected")
    assert message.get_content_type() == "multipart/report"


def test_success_is_reported_by_postfix(pair: Pair) -> None:
    """A wish to hear of success goes along to Postfix, and its report comes back to the sender."""
    before = len(bodies(pair.suite, pair.alice))
    octets = _marked(next(iter(mails(1, seed=4))).octets, pair.alice.login)
    assert pair.submit(["other@peer.test"], octets, rcpt_options=["NOTIFY=SUCCESS"]) == {}
    until_found(pair.suite, pair.alice, "INBOX", "TEXT other@peer.test", 1)
    _, fields = _report(bodies(pair.suite, pair.alice)[before])
    assert fields["Action"] == "delivered"
    assert "other@peer.test" in fields["Final-Recipient"]


def test_we_take_what_postfix_sends(pair: Pair) -> None:
    """What Postfix sends arrives here octet for octet, over TLS that Postfix could verify."""
    sent = [_marked(mail.octets) for mail in mails(40, seed=5)] + _odd("world@peer.test")
    with smtplib.SMTP("127.0.0.1", pair.postfix.port) as client:
        for octets in sent:
            options = [] if octets.isascii() else ["BODY=8BITMIME"]
            assert client.sendmail("world@peer.test", [pair.bob.login], octets, mail_options=options) == {}
    until_found(pair.suite, pair.bob, "INBOX", "HEADER Return-Path world@peer.test", len(sent))
    arrived = [body for body in bodies(pair.suite, pair.bob) if body.startswith(b"Return-Path: <world@peer.test>")]
    assert _originals(arrived) == sorted(sent)
    assert all(b" with ESMTPS id " in body for body in arrived)
    assert "Verified TLS connection established to localhost" in pair.postfix.log


def test_what_we_refuse_is_reported_by_postfix(pair: Pair) -> None:
    """Mail of Postfix for somebody unknown here is refused in the transaction; its sender hears of it from Postfix."""
    before = len(pair.postfix.messages("other", 0))
    octets = _marked(next(iter(mails(1, seed=6))).octets)
    with smtplib.SMTP("127.0.0.1", pair.postfix.port) as client:
        client.sendmail("other@peer.test", ["nobody@example.test"], octets)
    _, fields = _report(pair.postfix.messages("other", before + 1)[before])
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
    assert "550 5.1.1" in fields["Diagnostic-Code"]
