"""The MIME core: one intake call that turns the octets of a message into everything we store about it.

`parse` scans a message once into a tree of parts with octet offsets and renders what IMAP asks for
(RFC 3501 §7.4.2, RFC 9051 §7.5.2). It never fails, never decodes a body, and never does I/O.
"""

from dataclasses import dataclass
from datetime import datetime

from protocol.message.mime import Buffer, Part, scan
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
    extents: tuple[tuple[int, int], ...]  # [start, end) of leaf bodies of 32 KiB and more, ascending, disjoint


def parse(octets: Buffer) -> Parsed:
    """Parse a whole message (without our trace head). Never raises."""
    raise NotImplementedError
