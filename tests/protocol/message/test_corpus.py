"""Every mail of tests/corpora: the tree is sound, and the standard library sees the same well-formed mails."""

import email
import email.message
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.message import Part, body_of, parse, scan, unpack
from protocol.message.text import searchable
from tests.mails import MAILS, as_sent, name_of
from tests.protocol.message.imap_lists import one
from tests.protocol.message.nesting import assert_nested

_TYPE = "the library takes an unreadable Content-Type for text/plain, we take what it plainly means"
DIFFERENT = {
    "flanker/fixtures/messages/spam/broken-ctype.eml": _TYPE,
    "mimekit-messages/messages/missing-subtype.txt": _TYPE,
    "spamassassin-tdata/t/data/nice/mime8": _TYPE,
    "odd/nested-300.raw": "we do not take apart what is nested too deep",
    "python-email-data/msg_37.txt": "the library takes delimiter lines in a row for one, we see empty parts as Dovecot does",
    "stalwart-mail-parser/malformed/000.eml": "the same",
}


@pytest.mark.parametrize("path", MAILS, ids=name_of)
def test_mail_is_parsed(path: Path) -> None:
    """A mail gives well-formed items, a tree of parts that lie within each other, and storable text."""
    octets = as_sent(path)
    parsed = parse(octets)
    root = unpack(parsed.structure)
    assert root == scan(octets)
    assert_nested(root, len(octets))
    assert len(one(parsed.envelope)) == 10
    assert one(body_of(parsed.bodystructure))
    for text in searchable(octets, root):
        assert "\0" not in text
        assert text.encode("utf-8").decode("utf-8") == text


def _leaves(part: Part) -> Iterator[Part]:
    """Our leaves, save for message/*: the library takes those apart, we only message/rfc822."""
    if part.children:
        for child in part.children:
            yield from _leaves(child)
    elif not part.is_multipart and part.type.lower() != b"message":
        yield part


def _library_leaves(message: email.message.Message) -> Iterator[email.message.Message]:
    if message.get_content_maintype() == "message" and message.get_content_type() not in _HOLDS_MESSAGE:
        return
    if message.is_multipart():
        for part in message.get_payload():
            assert isinstance(part, email.message.Message)
            yield from _library_leaves(part)
    elif message.get_content_maintype() != "multipart":
        yield message


_HOLDS_MESSAGE = {"message/rfc822", "message/global"}
_WELL_FORMED = [
    path
    for path in MAILS
    if not any(part.defects for part in email.message_from_bytes(as_sent(path)).walk())
    and name_of(path) not in DIFFERENT
]


@pytest.mark.parametrize("path", _WELL_FORMED, ids=name_of)
def test_the_standard_library_agrees(path: Path) -> None:
    """In a mail without defects the library finds the same leaves: media types, base64 bodies, text lines."""
    octets = as_sent(path)
    ours = list(_leaves(scan(octets)))
    theirs = list(_library_leaves(email.message_from_bytes(octets)))
    assert [_media(part) for part in ours] == [part.get_content_type() for part in theirs]
    for part, their in zip(ours, theirs, strict=True):
        payload = their._payload  # type: ignore[attr-defined]  # get_payload() would decode 8-bit text
        assert payload.encode("ascii", "surrogateescape") == octets[part.body_start : part.end]


def _media(part: Part) -> str:
    return f"{part.type.decode('latin-1')}/{part.subtype.decode('latin-1')}".lower()
