"""The newest checkpoint of each tenant's log as a file outside the database: state/archive/<tenant>.checkpoint.

Who can rewrite the database can cut a log back to an older checkpoint, and everything left in it verifies. This copy is what
such a log is held against. It is a convenience of one host; what is mailed or printed elsewhere is stronger.
"""

import fcntl
import os
from pathlib import Path

from storage.archive.checkpoint import CheckpointError, open_note
from storage.durable import sync_directory

_SUFFIX = ".checkpoint"
_LENGTH_LIMIT = 4096  # octets; a note of ours has about 300


def head_file(directory: Path, tenant_id: int) -> Path:
    """Where the copy of one tenant lies."""
    return directory / f"{tenant_id}{_SUFFIX}"


def read_head(directory: Path, tenant_id: int) -> str | None:
    """The copy as it stands, or None if there is none. Octets that are no UTF-8 come back as replacement characters."""
    try:
        with head_file(directory, tenant_id).open("rb") as file:
            return file.read(_LENGTH_LIMIT).decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def tenants_with_head(directory: Path) -> list[int]:
    """The tenants of which a copy exists, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(path.stem) for path in directory.glob(f"*{_SUFFIX}") if path.stem.isdecimal())


def publish_head(directory: Path, tenant_id: int, note: str, trusted: tuple[bytes, ...]) -> bool:
    """Replace the copy durably by a newer checkpoint. False, and nothing changes, if the one there is as new or of another log.

    A copy that does not verify, or that is of another origin, is left for verification to report: overwriting it would
    destroy the evidence. Blocks for an fsync: call it in a thread.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        present, fresh = read_head(directory, tenant_id), open_note(note, trusted)
        if present is not None:
            try:
                old = open_note(present, trusted)
            except CheckpointError:
                return False
            if old.origin != fresh.origin or old.size >= fresh.size:
                return False
        target = head_file(directory, tenant_id)
        temporary = target.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_directory(directory)
    return True
