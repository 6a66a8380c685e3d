"""What SORT and THREAD compare, computed once from the header: RFC 5256 §2, RFC 5957 §3.

A message's keys are packed into a few hundred octets at intake; a mailbox is then sorted and threaded without a look at any
header. Texts are collation keys of i;unicode-casemap (RFC 5051), which compare as octets. Never fails, whatever the header.
"""

import re
import struct
from collections.abc import Iterable
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

from protocol.message import address_list, dates, words
from protocol.message.header import RawField, read, unfold
from protocol.message.strings import remembering
from protocol.message.text import canonical

MAX_REFERENCES = 500  # of one message; the last ones, which are the nearest, count
MAX_SUBJECT_OCTETS = 1000  # of a collation key; behind a longer one stands a hash of all of it: equality stays exact
MAX_NAME_OCTETS = 250  # of a collation key of a name; later octets do not sort
_LOOKED_AT = 4096  # octets of an address field in which the first address must stand
_VERSION = 1

_NO_DATE = -(2**63)
_HEAD = struct.Struct(
    "<BBqQHHBBBBB"
)  # version, is_reply, sent, message_id, references, octets of subject and five names

_WHITE = re.compile(r"[ \t\r\n]+")
# subj-trailer and subj-leader, RFC 5256 §5; all quantifiers are possessive: time is linear in the subject.
_BLOB = r"\[[^\[\]]*+\][ \t]*+"
_LEADERS = re.compile(rf"(?:[ \t]++|(?:{_BLOB})*+(?:re|fwd?)[ \t]*+(?:{_BLOB})?+:)*+", re.IGNORECASE | re.ASCII)
_BLOBS = re.compile(rf"(?:{_BLOB})++")
_MSG_ID = re.compile(rb"<([^<>]{1,998})>")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class Keys(NamedTuple):
    """One message's sort keys and references."""

    sent: int | None  # seconds since 1970 of the Date field; None where INTERNALDATE stands for it (RFC 5256 §2.2)
    is_reply: bool  # the base subject is less than the subject: a reply or forward (RFC 5256 §3)
    subject: bytes  # collation key of the base subject
    sender: bytes  # FROM: the local part of the first address
    to: bytes
    cc: bytes
    display_from: bytes
    display_to: bytes
    message_id: int  # a hash; 0 where there is none
    references: tuple[int, ...]  # hashes, the oldest first


TEXTS = ("subject", "sender", "to", "cc", "display_from", "display_to")
"""The fields of Keys that are collation keys."""


class _Name(NamedTuple):
    mailbox: bytes
    display: bytes


_NOBODY = _Name(b"", b"")


def keys_of(fields: Iterable[RawField], sent_at: datetime | None, decoded_subject: str) -> Keys:
    """The keys of a header section given as header.read() gives it, whose Date and Subject have been read already."""
    found: dict[bytes, bytes] = {}
    for name, body, _ in fields:
        if name in _LAST_ONES or (name in _FIRST_ONES and name not in found):
            found[name] = body
    subject, is_reply = base_subject(decoded_subject)
    sender, to = _first(found.get(b"FROM")), _first(found.get(b"TO"))
    own = message_ids(found.get(b"MESSAGE-ID", b""))
    references = message_ids(found.get(b"REFERENCES", b""))
    if not references:  # RFC 5256 §3: then the first of In-Reply-To is the only reference
        references = message_ids(found.get(b"IN-REPLY-TO", b""))[:1]
    return Keys(
        None if sent_at is None else int(sent_at.timestamp()),
        is_reply,
        _bounded(collation_key(subject)),
        sender.mailbox,
        to.mailbox,
        _first(found.get(b"CC")).mailbox,
        sender.display,
        to.display,
        own[0] if own else 0,
        tuple(references[-MAX_REFERENCES:]),
    )


_LAST_ONES = frozenset({b"MESSAGE-ID", b"REFERENCES", b"IN-REPLY-TO"})  # as ENVELOPE shows them
_FIRST_ONES = frozenset({b"FROM", b"TO", b"CC"})


def keys_of_header(section: bytes) -> Keys:
    """The keys of a message that has none stored: from the header fields kept at intake."""
    fields = read(section)
    found = {name: body for name, body, _ in fields}
    sent_at = dates.parse(unfold(found[b"DATE"])) if b"DATE" in found else None
    return keys_of(fields, sent_at, words.decode(unfold(found.get(b"SUBJECT", b""))).strip())


def pack(keys: Keys) -> bytes:
    """Octets for the database."""
    texts = keys[2:8]
    head = _HEAD.pack(
        _VERSION,
        keys.is_reply,
        _NO_DATE if keys.sent is None else keys.sent,
        keys.message_id,
        len(keys.references),
        *map(len, texts),
    )
    return head + struct.pack(f"<{len(keys.references)}Q", *keys.references) + b"".join(texts)


def unpack(octets: bytes) -> Keys | None:
    """What pack() made; None where another version made it."""
    if not octets or octets[0] != _VERSION:
        return None
    _, is_reply, sent, message_id, count, *lengths = _HEAD.unpack_from(octets)
    references = struct.unpack_from(f"<{count}Q", octets, _HEAD.size)
    at = _HEAD.size + 8 * count
    texts = []
    for length in lengths:
        texts.append(octets[at : at + length])
        at += length
    subject, sender, to, cc, display_from, display_to = texts
    when = None if sent == _NO_DATE else sent
    return Keys(when, bool(is_reply), subject, sender, to, cc, display_from, display_to, message_id, references)


def base_subject(subject: str) -> tuple[str, bool]:
    """The base subject of a decoded subject, and whether that of a reply or forward was taken off (RFC 5256 §2.1)."""
    text = _WHITE.sub(" ", subject)
    start, end = 0, len(text)
    is_reply = False
    while True:
        end, is_forward = _without_trailers(text, start, end)
        at = _LEADERS.match(text, start, end).end()  # type: ignore[union-attr]  # it matches nothing, too
        is_reply = is_reply or is_forward or bool(text[start:at].strip(" "))
        start = at
        blobs = _BLOBS.match(text, start, end)
        if blobs is not None:
            start = blobs.end() if blobs.end() < end else text.rindex("[", start, end)
        if text[start : start + 5].lower() != "[fwd:" or end - start < 6 or text[end - 1] != "]":
            return text[start:end], is_reply
        start, end, is_reply = start + 5, end - 1, True


def _without_trailers(text: str, start: int, end: int) -> tuple[int, bool]:
    """Where the subject ends without its subj-trailers, and whether a "(fwd)" was among them."""
    is_forward = False
    while end > start:
        if text[end - 1] == " ":
            end -= 1
        elif text[max(start, end - 5) : end].lower() == "(fwd)":
            end -= 5
            is_forward = True
        else:
            break
    return end, is_forward


def collation_key(text: str) -> bytes:
    """The key of i;unicode-casemap (RFC 5051 §2), as UTF-8."""
    return canonical(text).encode("utf-8", "surrogatepass")


def _bounded(key: bytes) -> bytes:
    if len(key) <= MAX_SUBJECT_OCTETS:
        return key
    return key[:MAX_SUBJECT_OCTETS] + blake2b(key, digest_size=8).digest()


def _first(body: bytes | None) -> _Name:
    return _NOBODY if body is None else _first_name(body[:_LOOKED_AT])


@remembering(maxsize=1024)  # the same people write to the same people
def _first_name(body: bytes) -> _Name:
    """The first address of a field body: what SORT compares of it, and what RFC 5957 §3 has a client show."""
    addresses = address_list.parse(unfold(body))
    if not addresses:
        return _NOBODY
    name, _, mailbox, host = addresses[0]
    local = words.decode_octets(mailbox or b"", None)
    if host is None:  # a group's name stands where its first mailbox would
        display = words.decode(mailbox or b"")
    elif name:
        display = words.decode(name)
    else:
        display = local if host == address_list.MISSING_DOMAIN else f"{local}@{words.decode_octets(host, None)}"
    shown = _WHITE.sub(" ", display).strip(" ")
    return _Name(collation_key(local)[:MAX_NAME_OCTETS], collation_key(shown)[:MAX_NAME_OCTETS])


def message_ids(body: bytes) -> list[int]:
    """Hashes of the message identifiers in a field body, without quoting and white space (RFC 5256 §3).

    Identifiers without "@" are taken, too: RFC 5322 §3.6.4 has none, yet they are as good to tell replies by.
    """
    return [message_id_hash(found) for found in _MSG_ID.findall(body)]


def message_id_hash(identifier: bytes) -> int:
    """A number for what stands between "<" and ">"; 0 is never given."""
    if b'"' in identifier:
        identifier = _ESCAPED.sub(rb"\1", identifier.replace(b'"', b""))
    if b" " in identifier or b"\t" in identifier or b"\n" in identifier:
        identifier = b"".join(identifier.split())
    return int.from_bytes(blake2b(identifier, digest_size=8).digest(), "little") or 1
