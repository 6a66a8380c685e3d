"""The spool: small in memory, large on disk, nothing left behind."""

import fcntl
import stat
from pathlib import Path

import pytest

from storage.errors import UnavailableError
from storage.spool import MEMORY_LIMIT, Spool


@pytest.fixture
async def spool(tmp_path: Path) -> Spool:
    """A spool in a directory that it makes itself."""
    made = Spool(tmp_path / "state" / "spool")
    await made.prepare()
    return made


async def test_small_message_stays_in_memory(spool: Spool, tmp_path: Path) -> None:
    """Up to the limit nothing touches the disk."""
    async with spool.open() as file:
        file.write(b"a" * (MEMORY_LIMIT - 1))
        file.write(b"b")
        assert file.original == b"a" * (MEMORY_LIMIT - 1) + b"b"
        assert file.size_octets == MEMORY_LIMIT
        assert not list((tmp_path / "state/spool").iterdir())


async def test_empty_message(spool: Spool) -> None:
    """Nothing written is an empty message."""
    async with spool.open() as file:
        assert (file.original, file.size_octets) == (b"", 0)


async def test_large_message_goes_to_a_private_file(spool: Spool) -> None:
    """One octet above the limit, all octets lie in a file that only we may read, and which goes with the context."""
    async with spool.open() as file:
        for piece in (b"a" * MEMORY_LIMIT, b"b", b"c" * 10):
            file.write(piece)
        path = file.original
        assert isinstance(path, Path)
        assert path.read_bytes() == b"a" * MEMORY_LIMIT + b"b" + b"c" * 10
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        file.write(b"d")
        assert file.original == path
        assert path.stat().st_size == file.size_octets == MEMORY_LIMIT + 12
    assert not path.exists()


async def test_discard_starts_anew(spool: Spool) -> None:
    """After discard the file is empty and may be used again."""
    async with spool.open() as file:
        file.write(b"a" * (MEMORY_LIMIT + 1))
        file.discard()
        file.write(b"b")
        assert (file.original, file.size_octets) == (b"b", 1)


async def test_sweep_removes_only_what_nobody_uses(spool: Spool, tmp_path: Path) -> None:
    """A dead process's file goes, a living one's stays."""
    directory = tmp_path / "state/spool"
    leftover = directory / "x.spool"
    leftover.write_bytes(b"half a message")
    locked = directory / "y.spool"
    async with spool.open() as file:
        file.write(b"a" * (MEMORY_LIMIT + 1))
        with locked.open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert spool.sweep() == 1
        assert not leftover.exists()
        assert isinstance(file.original, Path)
        assert file.original.exists()
        assert locked.exists()
    assert spool.sweep() == 1


async def test_no_directory(tmp_path: Path) -> None:
    """A directory that cannot be written is an UnavailableError, at the start and at a large message."""
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="spool directory"):
        await Spool(tmp_path / "file" / "spool").prepare()
    async with Spool(tmp_path / "missing").open() as file:
        file.write(b"a" * MEMORY_LIMIT)
        with pytest.raises(UnavailableError, match="No such file"):
            file.write(b"a")
