"""GETQUOTA, GETQUOTAROOT, SETQUOTA, and the responses QUOTA and QUOTAROOT."""

import pytest

from protocol.imap import quota
from protocol.imap.command import Command
from protocol.imap.events import Rejected
from protocol.imap.quota import GetQuota, GetQuotaRoot, SetQuota
from tests.protocol.imap.feeds import read_three_ways


@pytest.mark.parametrize(
    ("octets", "command"),
    [
        (b'a GETQUOTA ""', GetQuota(b"a", b"")),
        (b"a getquota {2+}\r\n\xff\xfe", GetQuota(b"a", b"\xff\xfe")),
        (b"a GETQUOTAROOT inbox", GetQuotaRoot(b"a", "INBOX")),
        (b"a SETQUOTA r ()", SetQuota(b"a", b"r", ())),
        (b"a SETQUOTA r (storage 512 X-NEW 0)", SetQuota(b"a", b"r", ((b"STORAGE", 512), (b"X-NEW", 0)))),
        (b"a SETQUOTA r (A 9223372036854775807)", SetQuota(b"a", b"r", ((b"A", 2**63 - 1),))),
    ],
)
def test_commands(octets: bytes, command: Command) -> None:
    """Each form of RFC 9208 §7 is one command."""
    assert read_three_ways(octets + b"\r\n") == [command]


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"a GETQUOTA", "expected a space at octet 11"),
        (b"a GETQUOTA ", "expected a quota root at octet 12"),
        (b"a GETQUOTAROOT", "expected a space at octet 15"),
        (b"a SETQUOTA r", "expected a space at octet 13"),
        (b"a SETQUOTA r (STORAGE)", "expected a space at octet 22"),
        (b"a SETQUOTA r (STORAGE -1)", "expected a limit at octet 23"),
        (b"a SETQUOTA r (A 9223372036854775808)", "expected a limit at octet 17"),
        (b"a SETQUOTA r (A 1 a 1)", "a resource is named twice"),
    ],
)
def test_refusals(octets: bytes, text: str) -> None:
    """What is no quota command is BAD, with what was expected."""
    assert read_three_ways(octets + b"\r\n") == [Rejected(b"a", "BAD", None, text)]


def test_responses() -> None:
    """Roots are astrings, resources triplets; both lists may be empty."""
    assert quota.quota_line(b"a b", [(b"STORAGE", 1, 2), (b"MESSAGE", 3, 4)]) == (
        b'* QUOTA "a b" (STORAGE 1 2 MESSAGE 3 4)\r\n'
    )
    assert quota.quota_line(b"", []) == b""
    assert quota.quotaroot_line(b"INBOX", [b"a", b'"']) == b'* QUOTAROOT INBOX a "\\""\r\n'
    assert quota.quotaroot_line(b"INBOX", []) == b"* QUOTAROOT INBOX\r\n"
