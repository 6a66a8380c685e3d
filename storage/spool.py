"""The octets of one incoming message while they arrive: in memory when small, in a private file when large.

A spool file is never evidence of anything: a message is accepted only when Ingest.store has returned, so nothing
here is synced, and whatever lies in the directory when a process starts may be deleted (Spool.sweep).
"""

import asyncio
import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from storage.errors import UnavailableError

MEMORY_LIMIT = 1024 * 1024  # octets; a message above lies in a file and is read through mmap


class SpoolFile:
    """Collects one message. Use as an async context manager: leaving it removes the file, whatever happened."""

    __slots__ = ("_directory", "_file", "_memory_octets", "_path", "_pieces", "size_octets")

    def __init__(self, directory: Path, memory_octets: int = MEMORY_LIMIT) -> None:
        self._directory = directory
        self._memory_octets = memory_octets
        self._pieces: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self.size_octets = 0

    async def __aenter__(self) -> "SpoolFile":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, octets: bytes) -> None:
        """Append octets. Raises UnavailableError when the disk does not take them.

        Writes go to the page cache in the pieces they arrive in, which costs less than a hop to a thread.
        """
        self.size_octets += len(octets)
        if self._file is None:
            self._pieces.append(octets)
            if self.size_octets <= self._memory_octets:
                return
            octets = b"".join(self._pieces)
            self._pieces.clear()
        try:
            if self._file is None:
                self._file = self._create()
            self._file.write(octets)
        except OSError as error:
            raise UnavailableError(f"spool: {error.strerror}") from error

    def _create(self) -> BinaryIO:
        descriptor, name = tempfile.mkstemp(".spool", dir=self._directory)
        self._path = Path(name)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # tells sweep that somebody is using it
        return os.fdopen(descriptor, "wb", buffering=MEMORY_LIMIT // 4)

    @property
    def original(self) -> bytes | Path:
        """What was written: the octets, or the path of the complete file, valid until the context is left.

        Raises UnavailableError when the last octets cannot be written.
        """
        if self._file is None:
            if len(self._pieces) != 1:
                self._pieces = [b"".join(self._pieces)]
            return self._pieces[0]
        try:
            self._file.flush()
        except OSError as error:
            raise UnavailableError(f"spool: {error.strerror}") from error
        assert self._path is not None
        return self._path

    def discard(self) -> None:
        """Forget everything and remove the file; more may be written afterwards."""
        self._pieces = []
        self.size_octets = 0
        if self._file is not None:
            with suppress(OSError):  # what could not be flushed was not going to be kept
                self._file.close()
            self._file = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None


class Spool:
    """A directory of spool files, mode 0700, shared by all processes of the host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, memory_octets: int = MEMORY_LIMIT) -> SpoolFile:
        """A new, empty spool file. Nothing touches the disk before memory_octets are passed."""
        return SpoolFile(self._directory, memory_octets)

    async def prepare(self) -> None:
        """Make the directory and remove leftovers. Raises UnavailableError."""
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"spool directory: {error.strerror}") from error
        self.sweep()

    def sweep(self) -> int:
        """Remove what died processes left, and give the number: every live file is locked by its process."""
        removed = 0
        for path in self._directory.glob("*.spool"):
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: in use
                path.unlink(missing_ok=True)
                removed += 1
        return removed
