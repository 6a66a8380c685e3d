"""Append-only segment files. One writer per process owns the segment it writes; a sealed segment never changes."""

import fcntl
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from storage.blobs import codec
from storage.durable import sync_directory
from storage.errors import CorruptError, DiskError
from storage.pool import Pool, reported

SEGMENT_OCTETS = 256 << 20
_BUFFER_OCTETS = 1 << 20

_OPEN = "INSERT INTO segment (segment_id) SELECT nextval('segment_id') RETURNING segment_id"
_SEAL = "UPDATE segment SET size_octets = $2, sealed_at = now() WHERE segment_id = $1 AND sealed_at IS NULL"


class Location(NamedTuple):
    """Where a record lies."""

    segment_id: int
    position: int
    record_octets: int


def segment_path(directory: Path, segment_id: int) -> Path:
    """The file of a segment."""
    return directory / f"{segment_id:016x}.seg"


class SegmentWriter:
    """Appends records and makes them durable.

    `ready` runs in the loop and may open the next segment; `append` blocks and belongs in a thread. The two are
    never to be called at the same time: the ingest task is the only caller.
    """

    def __init__(self, directory: Path, pool: Pool) -> None:
        self._directory = directory
        self._pool = pool
        self._descriptor = -1
        self._segment_id = 0
        self._position = 0

    def __repr__(self) -> str:
        return f"<SegmentWriter segment {self._segment_id:#x} at {self._position}>"

    async def ready(self) -> None:
        """Make sure that a segment with room is open. Raises UnavailableError or DiskError."""
        if self._descriptor >= 0 and self._position < SEGMENT_OCTETS:
            return
        await self.seal()
        async with reported():
            segment_id = await self._pool.fetchval(_OPEN)
        try:
            self._descriptor = _create(self._directory, segment_id)
        except OSError as error:
            raise DiskError(f"segment directory: {error}") from error
        self._segment_id, self._position = segment_id, 0

    def append(self, records: Iterable[Iterable[bytes]]) -> list[Location]:
        """Write the records and make them durable by one sync. On failure nothing of them is referenced."""
        located: list[Location] = []
        position, pending = self._position, bytearray()
        try:
            for record in records:
                start = position + len(pending)
                for piece in record:
                    pending += piece
                    if len(pending) >= _BUFFER_OCTETS:
                        position = self._write(pending, position)
                        pending = bytearray()
                located.append(Location(self._segment_id, start, position + len(pending) - start))
            if position == self._position:
                # All of it in one call that writes and syncs: a thread has to wait for the GIL once less.
                position = self._write(pending, position, os.RWF_DSYNC)
            else:
                position = self._write(pending, position)
                os.fdatasync(self._descriptor)
        except OSError as error:
            self._abandon()
            raise DiskError(f"segment {self._segment_id:#x}: {error}") from error
        self._position = position
        return located

    def _write(self, octets: bytearray, position: int, flags: int = 0) -> int:
        view = memoryview(octets)
        while view:
            written = os.pwritev(self._descriptor, [view], position, flags)
            position += written
            view = view[written:]
        return position

    def _abandon(self) -> None:
        """After a failed write or sync the kernel's view of the file cannot be trusted: leave it, open another next time."""
        os.close(self._descriptor)
        self._descriptor = -1

    async def seal(self) -> None:
        """Close the current segment for good. A segment that a crash left open is sealed by the keeper."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        async with reported():
            await self._pool.execute(_SEAL, self._segment_id, self._position)


def _create(directory: Path, segment_id: int) -> int:
    """A new segment file, durably in its directory, and locked: the keeper seals what nobody holds."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(segment_path(directory, segment_id), flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync_directory(directory)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class SegmentReader:
    """Reads octets of segments by position; keeps the most recent files open."""

    def __init__(self, directory: Path, *, open_files: int = 64) -> None:
        self._directory = directory
        self._open_files = open_files
        self._descriptors: dict[int, int] = {}

    def read(self, segment_id: int, position: int, size: int, *, cached_only: bool = False) -> bytes | None:
        """`size` octets, or None when `cached_only` and they are not in the page cache. Raises CorruptError."""
        descriptor = self._descriptors.pop(segment_id, None)
        if descriptor is None:
            descriptor = self._open(segment_id)
        self._descriptors[segment_id] = descriptor  # most recent last
        buffer = bytearray(size)
        try:
            # RWF_NOWAIT: the loop reads what memory has and leaves the rest to a thread.
            got = os.preadv(descriptor, [buffer], position, os.RWF_NOWAIT if cached_only else 0)
        except BlockingIOError:
            return None
        except OSError as error:
            if cached_only:
                return None  # a file system without RWF_NOWAIT
            raise CorruptError(f"segment {segment_id:#x}: {error.strerror}") from error
        if got < size:
            if cached_only:
                return None
            raise CorruptError(f"segment {segment_id:#x} ends before {position + size}")
        return bytes(buffer)

    def _open(self, segment_id: int) -> int:
        try:
            descriptor = os.open(segment_path(self._directory, segment_id), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CorruptError(f"segment {segment_id:#x}: {error.strerror}") from error
        while len(self._descriptors) >= self._open_files:
            os.close(self._descriptors.pop(next(iter(self._descriptors))))
        return descriptor

    def close(self) -> None:
        """Close every file."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


def scan(path: Path) -> Iterator[tuple[int, int, codec.Header]]:
    """(position, record octets, header) of every whole record of a segment file, for rebuilding locations and for sealing.

    Stops at the first octets that are no record: a crash can leave half of one at the end.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        position = 0
        while position < size:
            file.seek(position)
            try:
                header = codec.read_header(file.read(codec.HEADER_OCTETS))
                end = position + codec.HEADER_OCTETS
                for _ in range(header.chunks):
                    file.seek(end)
                    end += codec.CHUNK_HEADER_OCTETS + codec.stored_octets(file.read(codec.CHUNK_HEADER_OCTETS))
            except CorruptError:
                return
            if end > size:
                return
            yield position, end - position, header
            position = end


def whole_octets(path: Path) -> int:
    """The size of a segment up to the end of its last whole record."""
    end = 0
    for position, size, _ in scan(path):
        end = position + size
    return end


def chunks(buffer: bytes | mmap.mmap, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """The octets of the (start, end) ranges of a bytes or mmap object, one after the other, in pieces of codec.CHUNK_OCTETS."""
    held = b""
    for start, end in ranges:
        while start < end:
            take = min(end - start, codec.CHUNK_OCTETS - len(held))
            piece = bytes(buffer[start : start + take])
            held = held + piece if held else piece
            start += take
            if len(held) == codec.CHUNK_OCTETS:
                yield held
                held = b""
    if held:
        yield held
