"""Answers and notifications: who gets them, and what they look like."""

from dataclasses import replace

import pytest

from filters.sieve.actions import Fcc, Notify, Vacation
from filters.sieve.mailto import MailtoError, parse_mailto
from filters.sieve.message import Message
from filters.sieve.outgoing import Declined, Outgoing, notification_mail, vacation_reply
from filters.sieve.ports import Envelope, Surroundings
from tests.filters.sieve.running import AROUND, MAIL, NOW

AWAY = Vacation("I am away.", "h", 86_400, fcc=Fcc("Sent"))
MAIL_TO_BOB = MAIL.replace(b"bob+work@", b"bob@")


def answer(action: Vacation = AWAY, mail: bytes = MAIL_TO_BOB, around: Surroundings = AROUND) -> Outgoing | Declined:
    return vacation_reply(action, Message(mail).view, around, now=NOW, message_id="<new@example.org>")


def notified(action: Notify, mail: bytes = MAIL, **more: object) -> Outgoing | Declined:
    told: set[str] = set()
    return notification_mail(action, Message(mail).view, AROUND, now=NOW, message_id="<n@x>", told=told, **more)  # type: ignore[arg-type]


def test_an_answer() -> None:
    """From the address that was written to, to the envelope's sender, marked as automatic, in the thread; RFC 5230 §5."""
    found = answer()
    assert found == Outgoing("", ("alice@example.net",), getattr(found, "octets", b""), Fcc("Sent"))
    assert found.octets == (
        b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\nFrom: bob@example.org\r\nTo: alice@example.net\r\n"
        b"Subject: Auto: Hello\r\nMessage-ID: <new@example.org>\r\nIn-Reply-To: <1@example.net>\r\n"
        b"References: <1@example.net>\r\nAuto-Submitted: auto-replied (vacation)\r\nPrecedence: bulk\r\n"
        b"X-Auto-Response-Suppress: All\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n\r\nI am away.\r\n"
    )


def test_an_answer_as_asked_for() -> None:
    """Subject, sender and a MIME entity are taken as they are given; text that is not ASCII is encoded."""
    action = replace(
        AWAY, subject="Grüße", from_address="Bob B <b@example.org>", reason="Content-Type: text/x\n\nä", is_mime=True
    )
    found = answer(action)
    assert isinstance(found, Outgoing)
    assert b"From: Bob B <b@example.org>\r\n" in found.octets
    assert b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n" in found.octets
    assert found.octets.endswith("MIME-Version: 1.0\r\nContent-Type: text/x\r\n\r\nä\r\n".encode())


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (b"List-Id: <x>", "from a mailing list"),
        (b"List-Unsubscribe: <mailto:x@y.z>", "from a mailing list"),
        (b"Precedence: Bulk", "bulk mail"),
        (b"Auto-Submitted: auto-generated", "submitted automatically"),
        (b"X-Auto-Response-Suppress: DR, OOF", "asks for no answer"),
        (b"X-Spam-Flag: YES", "spam"),
    ],
)
def test_mail_that_is_not_answered(field: bytes, reason: str) -> None:
    """Lists, bulk mail, programs, RFC 5230 §4.6 and RFC 3834 §2."""
    assert answer(mail=field + b"\r\n" + MAIL_TO_BOB) == Declined(reason)
    assert isinstance(answer(mail=b"Auto-Submitted: no\r\n" + MAIL_TO_BOB), Outgoing)


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        ("", "null or unusable sender"),
        ("Bob@Example.org", "sent by the owner"),
        ("MAILER-DAEMON@example.net", "sent by a program"),
        ("owner-list@example.net", "sent by a program"),
        ("list-request@example.net", "sent by a program"),
        ("news-bounces+bob=example.org@example.net", "sent by a program"),
        ("no-reply@example.net", "sent by a program"),
    ],
)
def test_senders_that_are_not_answered(sender: str, reason: str) -> None:
    """The null sender, oneself, and those where nobody reads."""
    around = replace(AROUND, envelope=Envelope(sender, "bob@example.org"))
    assert answer(around=around) == Declined(reason)


def test_only_who_was_written_to_answers() -> None:
    """An own address must be among the recipients in the header, :addresses and the envelope's among them, RFC 5230 §4.5."""
    mail = MAIL.replace(b"To: bob+work@example.org", b"To: robert@example.org")
    assert answer(mail=mail) == Declined("no own address among the recipients")
    found = answer(replace(AWAY, addresses=("Robert@example.org",)), mail)
    assert isinstance(found, Outgoing)
    assert b"From: robert@example.org\r\n" in found.octets
    assert isinstance(answer(mail=MAIL), Outgoing)  # bob+work, by the envelope


def test_references_go_on() -> None:
    """The ids of the thread are kept, the newest ones when they are many."""
    ids = b" ".join(b"<%d@x>" % at for at in range(40))
    found = answer(mail=b"References: " + ids + b"\r\n" + MAIL_TO_BOB)
    assert isinstance(found, Outgoing)
    (references,) = Message(found.octets).view.texts("references")
    assert references.split() == [*(f"<{at}@x>" for at in range(20, 40)), "<1@example.net>"]


def test_a_notification() -> None:
    """Recipients, subject, text and more fields come from the URI; it is marked as automatic; RFC 5436 §2."""
    uri = "mailto:c@example.com?cc=D%20%3Cd@example.com%3E&subject=Gr%C3%BC%C3%9Fe&body=Text&X-A=1&From=evil@x.y&Received=z"
    found = notified(Notify(uri, importance=1))
    assert isinstance(found, Outgoing)
    view = Message(found.octets).view
    assert (found.reverse_path, found.forward_paths) == ("bob@example.org", ("c@example.com", "d@example.com"))
    told = {name: view.texts(name) for name in ("to", "cc", "from", "subject", "x-a", "importance", "received")}
    assert told == {
        "to": ["c@example.com"],
        "cc": ["D <d@example.com>"],
        "from": ["bob@example.org"],
        "subject": ["Grüße"],
        "x-a": ["1"],
        "importance": ["High"],
        "received": [],
    }
    assert view.texts("auto-submitted") == ['auto-notified; owner-email="bob@example.org"']
    assert found.octets.endswith(b"\r\n\r\nText\r\n")


def test_notifications_that_are_not_sent() -> None:
    """Not for automatic mail, and to nobody twice."""
    action = Notify("mailto:c@example.com")
    assert notified(action, b"Auto-Submitted: auto-replied\r\n" + MAIL) == Declined("submitted automatically")
    told: set[str] = set()
    for expected in (Outgoing, Declined):
        found = notification_mail(action, Message(MAIL).view, AROUND, now=NOW, message_id="<n@x>", told=told)
        assert isinstance(found, expected)
    null = replace(AROUND, envelope=Envelope("", "bob@example.org"))
    bounced = notification_mail(action, Message(MAIL).view, null, now=NOW, message_id="<n@x>", told=set())
    assert isinstance(bounced, Outgoing)
    assert bounced.reverse_path == ""


@pytest.mark.parametrize(
    "uri", ["http:x", "mailto:a b@c.d", "mailto:nobody", "mailto:a@b.c?x", "mailto:a@b.c?%3A=1", "mailto:a@b.c?to=x"]
)
def test_bad_uris(uri: str) -> None:
    """What is no mailto URI, or names nobody."""
    with pytest.raises(MailtoError):
        parse_mailto(uri)


def test_a_uri_has_limits() -> None:
    """Recipients and fields are few."""
    with pytest.raises(MailtoError, match="recipients"):
        parse_mailto("mailto:" + ",".join(f"a{at}@example.com" for at in range(9)))
    with pytest.raises(MailtoError, match="header fields"):
        parse_mailto("mailto:a@example.com?" + "&".join(f"X-{at}=1" for at in range(17)))
