"""Sections of a message, RFC 3501 §6.4.5: a part path and a specifier in, an octet extent out."""

from collections.abc import Sequence
from typing import Literal

from protocol.message.mime import Part

Specifier = Literal["", "HEADER", "TEXT", "MIME"]


def extent(part: Part, path: Sequence[int], what: Specifier) -> tuple[int, int] | None:
    """Give [start, end) of a section in the scanned octets, or None when there is no such part."""
    raise NotImplementedError
