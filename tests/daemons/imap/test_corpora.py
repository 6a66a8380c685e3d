"""Every mail of tests/corpora, read back over IMAP: whole, in its parts, by section."""

import re

from tests.daemons.imap.conftest import Service
from tests.mails import MAILS, as_sent, name_of

_HEAD = b"Return-Path: <>\r\n"
_LITERAL = re.compile(rb"\{(\d+)\}\r\n")


def literals(line: bytes) -> list[bytes]:
    """The literals of a response line, in order."""
    found, at = [], 0
    while (announced := _LITERAL.search(line, at)) is not None:
        at = announced.end() + int(announced[1])
        found.append(line[announced.end() : at])
    return found


async def test_every_mail_comes_back_octet_for_octet(service: Service) -> None:
    """BODY[] is what was stored, and BODY[HEADER] with BODY[TEXT] make the same."""
    mails = [(name_of(path), octets) for path in MAILS if (octets := as_sent(path))]
    for at in range(0, len(mails), 100):
        await service.deliver(*[octets for _, octets in mails[at : at + 100]])
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        whole = await client.ok(b"UID FETCH 1:* (BODY.PEEK[] RFC822.SIZE)")
        halves = await client.ok(b"FETCH 1:* (BODY.PEEK[HEADER] BODY.PEEK[TEXT])")
        described = await client.ok(b"FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY INTERNALDATE)")
    assert len(mails) == len(whole) == len(halves) == len(described)
    for (name, octets), line, half in zip(mails, whole, halves, strict=True):
        assert literals(line) == [_HEAD + octets], name
        assert f"RFC822.SIZE {len(_HEAD) + len(octets)}".encode() in line, name
        assert b"".join(literals(half)) == _HEAD + octets, name
