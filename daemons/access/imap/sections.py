"""The octets of a section, RFC 3501 §6.4.5: read from the blob store by offset, never more than asked for.

A message is its head (the trace fields that we added) and its original. The part tree's offsets are of the original.
"""

import functools
import itertools
import re
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

from protocol.imap.fetch import FetchAttribute, Item, Section
from protocol.message import Part, extent
from protocol.message.header import CACHED_FIELDS, select_fields
from protocol.message.section import Specifier, find
from protocol.message.transfer import decode, decoder_of
from storage.blobs.store import BlobReader

CHUNK_OCTETS = 1 << 20  # a section above this is sent in chunks of at most that

_OF_ITEM = {Item.RFC822: Section(), Item.RFC822_HEADER: Section(what="HEADER"), Item.RFC822_TEXT: Section(what="TEXT")}

OCTET_ITEMS = frozenset({Item.SECTION, *_OF_ITEM})  # what gives octets as they are; BINARY gives the content of parts


def section_of(attribute: FetchAttribute) -> Section | None:
    """The section an attribute asks for, also under its old names (RFC822 is BODY[]); None for other attributes."""
    return attribute.section if attribute.section is not None else _OF_ITEM.get(attribute.item)


_FEW_FIELDS = 4  # up to here it is faster to find what is wanted than to cut the rest


@functools.lru_cache(maxsize=256)
def fields_of(names: frozenset[bytes]) -> Callable[[bytes], bytes]:
    """Gives these fields of what was kept at intake, and the blank line: select_fields() of it, in a tenth of the time."""
    if len(names) <= _FEW_FIELDS:
        find = _fields(names).findall

        def found(cache: bytes) -> bytes:
            lines = b"".join(find(b"\n" + cache))
            return lines[1:] + b"\n\r\n" if lines else b"\r\n"

        return found
    cut = _fields(CACHED_FIELDS - names).sub
    return lambda cache: cut(b"", b"\n" + cache)[1:]


@functools.lru_cache(maxsize=256)
def _fields(names: frozenset[bytes]) -> re.Pattern[bytes]:
    """Matches one of these fields, from the line end in front of it to the one that ends it, in fields alone.

    The line end in front is looked for at once, and the first letter of a name as a set: in a pattern that ignores case the
    engine tries each name in full at every line.
    """
    if not names:
        return re.compile(rb"(?!)")
    groups = itertools.groupby(sorted(names), key=lambda name: name[:1])
    alternatives = b"|".join(
        b"[%b%b](?i:%b)" % (first, first.lower(), b"|".join(re.escape(name[1:]) for name in group))
        for first, group in groups
    )
    return re.compile(rb"\n(?:%b)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+" % alternatives)


@dataclass(frozen=True, slots=True)
class Octets:
    """Some octets that are at hand, then those of the original from start to end."""

    prefix: bytes
    start: int = 0
    end: int = 0

    @property
    def size(self) -> int:
        """How many octets there are."""
        return len(self.prefix) + self.end - self.start

    def cut(self, first: int, count: int) -> "Octets":
        """At most `count` octets from `first` on; empty when first is beyond the end."""
        prefix = self.prefix[first : first + count]
        start = min(self.end, self.start + max(0, first - len(self.prefix)))
        return Octets(prefix, start, min(self.end, start + count - len(prefix)))


@dataclass(frozen=True, slots=True)
class Encoded:
    """A large part that is decoded while it is sent: octets [first, first + size) of the content."""

    part: Part
    first: int
    size: int


class MessageSections:
    """Reads sections of one message."""

    def __init__(self, blobs: BlobReader, content_id: int, tree: Part | None) -> None:
        self._blobs = blobs
        self._content_id = content_id
        self._tree = tree  # not needed for the whole message

    async def octets(self, attribute: FetchAttribute, section: Section) -> Octets | None:
        """Where the attribute's octets are; None when there is no such part. Raises StorageError."""
        found = await self._section(section)
        if found is not None and attribute.partial is not None:
            return found.cut(*attribute.partial)
        return found

    async def _section(self, section: Section) -> Octets | None:
        layout = await self._blobs.layout(self._content_id)
        if not section.path and not section.what:
            return Octets(layout.head, 0, layout.original_octets)
        assert self._tree is not None
        specifier = "HEADER" if section.what.startswith("HEADER") else section.what
        found = extent(self._tree, section.path, cast(Specifier, specifier))
        if found is None:
            return None
        has_head = not section.path and specifier == "HEADER"
        octets = Octets(layout.head if has_head else b"", *found)
        if section.fields:
            names = frozenset(name.upper() for name in section.fields)
            header = await self.read(octets)
            return Octets(select_fields(header, names, negate=section.what.endswith(".NOT")))
        return octets

    async def content(self, attribute: FetchAttribute, section: Section) -> Octets | Encoded | None:
        """Where the octets of BINARY[…] are; None when there is no such part. Raises StorageError, UnknownEncodingError.

        A multipart or a message has no encoding of its own (RFC 2045 §6.4), so these come as they are.
        """
        first, count = attribute.partial or (0, sys.maxsize)
        if not section.path:
            layout = await self._blobs.layout(self._content_id)
            return Octets(layout.head, 0, layout.original_octets).cut(first, count)
        assert self._tree is not None
        part = find(self._tree, section.path)
        if part is None:
            return None
        octets = Octets(b"", part.body_start, part.end)
        if part.children or decoder_of(part.encoding) is None:
            return octets.cut(first, count)
        if octets.size <= CHUNK_OCTETS:
            return Octets(decode(await self.read(octets), part.encoding)[first : first + count])
        size = 0
        async for piece in self._decoded(part):
            size += len(piece)
        return Encoded(part, first, max(0, min(count, size - first)))

    async def _decoded(self, part: Part) -> AsyncIterator[bytes]:
        """The part's content in pieces."""
        decoder = decoder_of(part.encoding)
        assert decoder is not None
        async for chunk in self.stream(Octets(b"", part.body_start, part.end)):
            yield decoder.feed(chunk)
        yield decoder.finish()

    async def read(self, octets: Octets) -> bytes:
        """All of it at once. Raises StorageError."""
        if octets.start >= octets.end:
            return octets.prefix
        return octets.prefix + await self._blobs.read(self._content_id, octets.start, octets.end)

    async def stream(self, octets: Octets | Encoded) -> AsyncIterator[bytes]:
        """All of it in chunks. Raises StorageError."""
        if isinstance(octets, Encoded):
            at, end = 0, octets.first + octets.size
            async for piece in self._decoded(octets.part):
                if octets.first < at + len(piece) and at < end:
                    yield piece[max(0, octets.first - at) : end - at]
                at += len(piece)
            return
        if octets.prefix:
            yield octets.prefix
        layout = await self._blobs.layout(self._content_id)
        for start, end in layout.cut(octets.start, octets.end):
            yield await self._blobs.read(self._content_id, start, end)
