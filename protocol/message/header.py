"""Header fields."""

from collections.abc import Iterator
from dataclasses import dataclass

CACHED_FIELDS: frozenset[bytes] = frozenset({b"FROM"})


@dataclass(frozen=True, slots=True)
class Field:
    """One header field of a header section, folded as it came."""

    name: bytes  # as written
    start: int  # first octet of the name
    end: int  # behind the last line end
    body: bytes  # raw octets behind the colon, folded, without the last line end


def fields(header: bytes) -> Iterator[Field]:
    """Iterate over the fields of a header section, up to its blank line if it has one."""
    raise NotImplementedError


def select_fields(header: bytes, names: frozenset[bytes], *, negate: bool = False) -> bytes:
    """Give the raw lines of the fields named (upper case), in order, and a blank line: HEADER.FIELDS[.NOT]."""
    raise NotImplementedError
