"""The MIME core: one intake call that turns the octets of a message into everything we store about it.

`parse` scans a message once into a tree of parts with octet offsets and renders what IMAP asks for
(RFC 3501 §7.4.2, RFC 9051 §7.5.2). It never fails, never decodes a body, and never does I/O.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from protocol.message import dates, header, sorting, words
from protocol.message.envelope import render
from protocol.message.header import RawField
from protocol.message.mime import Buffer, Part, Scanner, scan
from protocol.message.section import extent
from protocol.message.structure import (
    body_of,
    pack,
    render_bodystructure,
    render_envelope,
    unpack,
)

__all__ = [
    "Buffer",
    "Parsed",
    "Part",
    "body_of",
    "extent",
    "pack",
    "parse",
    "render_bodystructure",
    "render_envelope",
    "scan",
    "unpack",
]


LARGE_BODY_OCTETS = 32 << 10  # encoded; bodies of leaves from here on may be stored as blobs of their own
_MESSAGE_ID = re.compile(rb"<[^<>\s]{1,998}>")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What intake keeps of a message; every offset is relative to the octets given to `parse`."""

    envelope: bytes  # "(...)", rendered ENVELOPE
    bodystructure: bytes  # "(...)", rendered BODYSTRUCTURE; body_of() makes BODY of it
    structure: bytes  # packed Part tree; unpack() gives it back
    header_cache: bytes  # the raw fields of header.CACHED_FIELDS, in order, and the blank line
    sent_at: datetime | None  # Date field, aware; None when absent or hopeless
    message_id: bytes | None  # first <...> of Message-ID, with its brackets
    subject: str  # decoded, unfolded; "" when absent
    sorting: bytes  # packed sort keys and references; sorting.unpack() gives them back
    extents: tuple[tuple[int, int], ...]  # [start, end) of leaf bodies of 32 KiB and more, ascending, disjoint


def parse(octets: Buffer) -> Parsed:
    """Parse a whole message (without our trace head): the one call at intake. Never raises."""
    return parse_scanned(Scanner(octets))


def parse_scanned(scanned: Scanner) -> Parsed:
    """The same for a message that somebody has scanned already."""
    root, found = scanned.root, scanned.fields
    sent_at, subject = _sent_at(found), _subject(found)
    return Parsed(
        envelope=render(found),
        bodystructure=render_bodystructure(root),
        structure=pack(root),
        header_cache=header.cached(found),
        sent_at=sent_at,
        message_id=_message_id(found),
        subject=subject,
        sorting=sorting.pack(sorting.keys_of(found, sent_at, subject)),
        extents=tuple(_large_leaves(root)),
    )


def _last(found: list[RawField], name: bytes) -> bytes | None:
    """The unfolded body of the last field of that name: the one that ENVELOPE shows."""
    for key, body, _ in reversed(found):
        if key == name:
            return header.unfold(body)
    return None


def _sent_at(found: list[RawField]) -> datetime | None:
    value = _last(found, b"DATE")
    return None if value is None else dates.parse(value)


def _message_id(found: list[RawField]) -> bytes | None:
    value = _last(found, b"MESSAGE-ID")
    match = None if value is None else _MESSAGE_ID.search(value)
    return None if match is None else match[0]


def _subject(found: list[RawField]) -> str:
    value = _last(found, b"SUBJECT")
    return "" if value is None else words.decode(value).strip()


def _large_leaves(part: Part) -> Iterator[tuple[int, int]]:
    if part.children:
        for child in part.children:
            yield from _large_leaves(child)
    elif part.end - part.body_start >= LARGE_BODY_OCTETS:
        yield part.body_start, part.end
