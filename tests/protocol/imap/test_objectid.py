"""Object identifiers: their form, what they stay the same for, and the way back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.imap import objectid

BIGINTS = st.integers(1, 2**63 - 1)


@given(BIGINTS)
def test_identifiers_lead_back(number: int) -> None:
    """EMAILID and MAILBOXID give their number back, each its own only."""
    email, mailbox = objectid.email_id(number), objectid.mailbox_id(number)
    assert (objectid.content_of(email), objectid.mailbox_of(mailbox)) == (number, number)
    assert objectid.content_of(mailbox) is None
    assert objectid.mailbox_of(email) is None
    assert objectid.is_objectid(email)
    assert objectid.is_objectid(mailbox)


@given(st.binary())
def test_no_octets_upset_them(octets: bytes) -> None:
    """Whatever stands in the header, THREADID is an objectid; whatever is asked for, the way back gives a bigint or None."""
    assert objectid.is_objectid(objectid.thread_id(octets, 7))
    for number in (objectid.content_of(octets), objectid.mailbox_of(octets)):
        assert number is None or 0 < number < 2**63


@pytest.mark.parametrize("octets", [b"M", b"M0", b"M01", b"MA", b"Mffffffffffffffff", b"m1", b"M1 ", b"M1\n", b""])
def test_identifiers_of_others_are_nobodys(octets: bytes) -> None:
    """What we would not have given is not found."""
    assert objectid.content_of(octets) is None


ROOT = b"Message-ID: <root@example.test>\r\n\r\n"
CONVERSATION = [
    ROOT,
    b"message-id : <a@example.test>\r\nIn-Reply-To: <root@example.test>\r\n\r\n",
    b"Message-ID: <b@x.test>\r\nIn-Reply-To: <a@x.test>\r\nReferences: <root@example.test>\r\n <a@x.test>\r\n\r\n",
    b"REFERENCES:\r\n\t<root@\r\n example.test> <b@example.test>\r\n\r\n",
    b"References: none\r\nIn-Reply-To: Your mail <root@example.test> of today\r\n\r\n",
]


@pytest.mark.parametrize("header", CONVERSATION)
def test_a_conversation_has_one_threadid(header: bytes) -> None:
    """The first of References counts before that of In-Reply-To, and that before the message's own."""
    assert objectid.thread_id(header, 1) == objectid.thread_id(ROOT, 2)
    assert re.fullmatch(rb"T[0-9a-f]{24}", objectid.thread_id(header, 1))


def test_messages_without_msg_ids_are_threads_of_their_own() -> None:
    """Two messages that name nothing share no THREADID, and copies of one do."""
    header = b"Subject: x\r\nReferences: (none)\r\n\r\n"
    assert objectid.thread_id(header, 1) == objectid.thread_id(header, 1) == b"T-1"
    assert objectid.thread_id(header, 2) == b"T-2"
