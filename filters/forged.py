"""Fields that only this host may write: mail from outside that has them only looks as if it had been checked (RFC 8601 §5).

They go whatever filters there are. The filters and the archive see the message as it came; what is delivered goes `without` them.
"""

import mmap
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from filters.subject import HEADER_LIMIT, Subject
from filters.verdict import RemoveField
from protocol.authentication_results import pretended
from protocol.message.header import Field, fields

_VERDICTS = re.compile(rb"X-(?:Spam|Virus)-[!-9;-~]+", re.IGNORECASE)
_BEGINNINGS = (b"x-spam-", b"x-virus-", b"authentication-results")


def forged(header: bytes, authserv_ids: Collection[str]) -> list[Field]:
    """Those fields of a header section that came in from outside, in order."""
    if not _may_be_in(header):
        return []  # nearly all mail
    found = [field for field in fields(header) if _VERDICTS.fullmatch(field.name)]
    return sorted([*found, *pretended(header, authserv_ids)], key=lambda field: field.start)


def _may_be_in(header: bytes) -> bool:
    small = header.lower()
    return (
        b"\nx-spam-" in small
        or b"\nx-virus-" in small
        or b"\nauthentication-results" in small
        or small.startswith(_BEGINNINGS)
    )


def without(octets: bytes, removed: Collection[Field]) -> bytes:
    """A header section, or a message that begins with one, without these fields; every other octet is as it came."""
    kept, position = [], 0
    for field in removed:
        kept.append(octets[position : field.start])
        position = field.end
    return b"".join([*kept, octets[position:]])


@dataclass(frozen=True, slots=True)
class ForgedFields:
    """What the pipeline asks about every message."""

    authserv_id: str  # our name in Authentication-Results
    forwards: Callable[[str], bool]  # whether a peer is a forwarder of ours: its fields are no forgery

    def may_be_in(self, octets: bytes | mmap.mmap) -> bool:
        """Whether a message has such fields at all, wherever it comes from."""
        end = octets.find(b"\r\n\r\n", 0, HEADER_LIMIT)
        return _may_be_in(octets[: end if end >= 0 else HEADER_LIMIT])

    def __call__(self, subject: Subject) -> list[RemoveField]:
        """The fields to remove from this message."""
        header, envelope = subject.header, subject.envelope
        found = forged(header, [self.authserv_id])
        if not found or envelope.is_authenticated or self.forwards(envelope.peer):
            return []
        return [RemoveField(header[each.start : each.end], each.name.decode("latin-1")) for each in found]
