"""What is in a directory outlives a loss of power."""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Let new names in a directory be durable. Blocks: call it in a thread."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
