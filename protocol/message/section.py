"""Sections of a message, RFC 3501 §6.4.5: a part path and a specifier in, an octet extent out."""

from collections.abc import Sequence
from typing import Literal

from protocol.message.mime import Part

Specifier = Literal["", "HEADER", "TEXT", "MIME"]


def extent(part: Part, path: Sequence[int], what: Specifier) -> tuple[int, int] | None:
    """Give [start, end) of a section in the octets scanned, or None when there is no such part.

    part is the root of the message. HEADER.FIELDS and HEADER.FIELDS.NOT select from the extent of HEADER.
    HEADER and TEXT behind a path ask for a message within message/rfc822; MIME asks for a part's own header and so
    needs a path.
    """
    if not path:
        return _of_message(part, what)
    found = find(part, path)
    if found is None:
        return None
    if what == "":
        return found.body_start, found.end
    if what == "MIME":
        return found.header_start, found.body_start
    return _of_message(found.children[0], what) if found.is_message else None


def find(part: Part, path: Sequence[int]) -> Part | None:
    """Give the part that a non-empty path names, or None.

    A message that is no multipart has one part, its part 1 (RFC 3501 §6.4.5); below a message/rfc822 part the numbers
    count the parts of the message in it.
    """
    here = part
    is_root = True  # of the message itself or of one within message/rfc822: there, 1 may mean the whole body
    for number in path:
        if not is_root and here.is_message:
            here = here.children[0]
            is_root = True
        if here.is_multipart:
            if not 1 <= number <= len(here.children):
                return None
            here = here.children[number - 1]
        elif number != 1 or not is_root:
            return None
        is_root = False
    return here


def _of_message(root: Part, what: Specifier) -> tuple[int, int] | None:
    if what == "":
        return root.header_start, root.end
    if what == "HEADER":
        return root.header_start, root.body_start
    if what == "TEXT":
        return root.body_start, root.end
    return None
