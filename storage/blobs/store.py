"""Reading contents back: head and original octets, whole, by range, or as a stream, out of segments.

A small read that the page cache can answer happens in the loop (a thread hop costs more than it); everything else in a thread.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from storage.blobs import codec
from storage.blobs.keys import KeyRing
from storage.blobs.segments import SegmentReader
from storage.errors import CorruptError, NotFoundError
from storage.pool import Pool, reported
from storage.statements import LAYOUTS

_INLINE_OCTETS = 128 << 10  # decoding more would hold the loop for more than about 0.3 ms
_SLICE = 500  # contents located by one statement
_LAYOUTS_KEPT = 16_384  # about 1 KB each
_PLAIN_KEPT_OCTETS = 16 << 20


@dataclass(frozen=True, slots=True)
class _Record:
    """One blob's record and the key that opens it."""

    tenant_id: int
    digest: bytes
    segment_id: int
    position: int
    record_octets: int
    plain_octets: int
    wrapped_key: bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """How a content's octets are put together."""

    head: bytes
    original_octets: int
    pieces: tuple[tuple[int, int, int, _Record], ...]  # (start in the original, start in the blob, length, record)

    def cut(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Cut octets [start, end) of the original so that reading one range after the other decodes no chunk twice."""
        for at, within, length, _ in self.pieces:
            low, high = max(start, at), min(end, at + length)
            while low < high:
                chunk_end = low + codec.CHUNK_OCTETS - (within + low - at) % codec.CHUNK_OCTETS
                yield low, min(high, chunk_end)
                low = chunk_end


class BlobReader:
    """One per process. Layouts and small plain blobs are cached; both never change for a content id."""

    def __init__(self, pool: Pool, segments: Path, keys: KeyRing) -> None:
        self._pool = pool
        self._keys = keys
        self._files = SegmentReader(segments)
        self._lock = threading.Lock()  # the reader's table of open files is shared by loop and threads
        self._layouts: OrderedDict[int, Layout] = OrderedDict()
        self._plain: OrderedDict[tuple[int, bytes], bytes] = OrderedDict()
        self._plain_octets = 0

    def close(self) -> None:
        """Close the segment files."""
        self._files.close()

    async def prefetch(self, content_ids: Sequence[int], neighbours: Sequence[int] = ()) -> None:
        """Learn where the contents lie, 500 per statement, so that reading them costs no SQL. Unknown ids are passed over.

        neighbours: what may be wanted next; learnt by the same statement, where there has to be one.
        """
        missing = [content_id for content_id in content_ids if content_id not in self._layouts]
        if missing and neighbours:
            there = set(missing)
            missing += [each for each in neighbours if each not in self._layouts and each not in there]
        for at in range(0, len(missing), _SLICE):
            async with reported():
                rows = await self._pool.fetch(LAYOUTS, missing[at : at + _SLICE])
            grouped: dict[int, list[asyncpg.Record]] = {}
            for row in rows:
                grouped.setdefault(row["content_id"], []).append(row)
            for content_id, records in grouped.items():
                self._layouts[content_id] = _layout(records)
        while len(self._layouts) > max(_LAYOUTS_KEPT, len(content_ids) + len(neighbours)):
            self._layouts.popitem(last=False)

    async def layout(self, content_id: int) -> Layout:
        """Raises NotFoundError."""
        found = self._layouts.get(content_id)
        if found is None:
            await self.prefetch([content_id])
            found = self._layouts.get(content_id)
            if found is None:
                raise NotFoundError(f"content {content_id}")
        return found

    async def head(self, content_id: int) -> bytes:
        """The trace fields that were added on top."""
        return (await self.layout(content_id)).head

    async def message(self, content_id: int) -> bytes:
        """Head and original. For a message of many megabytes use `stream`."""
        layout = await self.layout(content_id)
        return layout.head + await self.read(content_id, 0, layout.original_octets)

    async def read(self, content_id: int, start: int = 0, end: int | None = None) -> bytes:
        """Octets [start, end) of the original, without head. Raises NotFoundError, CorruptError, UnavailableError."""
        layout = await self.layout(content_id)
        end = layout.original_octets if end is None else min(end, layout.original_octets)
        pieces = []
        for at, within, length, record in layout.pieces:
            low, high = max(start, at), min(end, at + length)
            if low < high:
                pieces.append(await self._octets(record, within + low - at, within + high - at))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def stream(self, content_id: int) -> AsyncIterator[bytes]:
        """Head and original in pieces of at most 1 MiB (the head apart)."""
        layout = await self.layout(content_id)
        if layout.head:
            yield layout.head
        for start, end in layout.cut(0, layout.original_octets):
            yield await self.read(content_id, start, end)

    async def _octets(self, record: _Record, start: int, end: int) -> bytes:
        """Plain octets [start, end) of one blob."""
        name = (record.tenant_id, record.digest)
        plain = self._plain.get(name)
        if plain is None:
            wrapper = await self._keys.tenant(self._pool, record.tenant_id)
            key = wrapper.unwrap(record.wrapped_key, record.digest)
            if record.plain_octets > _INLINE_OCTETS:
                return await asyncio.to_thread(self._range, record, key, start, end)
            octets = self._read(record, record.position, record.record_octets, cached_only=True)
            if octets is None:
                octets = await asyncio.to_thread(self._read, record, record.position, record.record_octets)
            assert octets is not None
            plain = _decoded(record, key, octets)
            self._keep(name, plain)
        return plain[start:end] if start or end < len(plain) else plain

    def _read(self, record: _Record, position: int, size: int, *, cached_only: bool = False) -> bytes | None:
        with self._lock:
            return self._files.read(record.segment_id, position, size, cached_only=cached_only)

    def _range(self, record: _Record, key: bytes, start: int, end: int) -> bytes:
        """Decode only the chunks that [start, end) touches; the others cost the read of their 12-octet header."""

        def read(position: int, size: int) -> bytes:
            octets = self._read(record, position, size)
            assert octets is not None
            return octets

        decoder = codec.Decoder(read(record.position, codec.HEADER_OCTETS), record.tenant_id, record.digest, key)
        position, pieces = record.position + codec.HEADER_OCTETS, []
        for index in range(decoder.header.chunks):
            base = index * codec.CHUNK_OCTETS
            if base >= end:
                break
            size = codec.CHUNK_HEADER_OCTETS + codec.stored_octets(read(position, codec.CHUNK_HEADER_OCTETS))
            if base + codec.CHUNK_OCTETS > start:
                plain = decoder.chunk(index, read(position, size))
                pieces.append(plain[max(0, start - base) : end - base])
            position += size
        return b"".join(pieces)

    def _keep(self, name: tuple[int, bytes], plain: bytes) -> None:
        self._plain[name] = plain
        self._plain_octets += len(plain)
        while self._plain_octets > _PLAIN_KEPT_OCTETS:
            self._plain_octets -= len(self._plain.popitem(last=False)[1])


def _decoded(record: _Record, key: bytes, octets: bytes) -> bytes:
    decoder = codec.Decoder(octets[: codec.HEADER_OCTETS], record.tenant_id, record.digest, key)
    plain = decoder.chunk(0, octets[codec.HEADER_OCTETS :])
    if len(plain) != record.plain_octets:
        raise CorruptError("a blob is not as long as its row says")
    return plain


def _layout(rows: list[asyncpg.Record]) -> Layout:
    """From the rows of one content: the skeleton first, then the parts taken out of it in ascending order."""
    records = [
        _Record(*(row[name] for name in _Record.__slots__))
        for row in rows
    ]  # fmt: skip
    skeleton, pieces, at, within = records[0], [], 0, 0
    for row, record in zip(rows[1:], records[1:], strict=True):
        start = row["start_octet"]
        if start > at:
            pieces.append((at, within, start - at, skeleton))
            within += start - at
        pieces.append((start, 0, record.plain_octets, record))
        at = start + record.plain_octets
    if within < skeleton.plain_octets or not pieces:
        pieces.append((at, within, skeleton.plain_octets - within, skeleton))
    head = rows[0]["head"]
    return Layout(head, rows[0]["size_octets"] - len(head), tuple(pieces))
