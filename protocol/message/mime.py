"""The MIME scanner."""

import mmap

import msgspec

Buffer = bytes | mmap.mmap


class Part(msgspec.Struct, array_like=True):
    """One body part: where it lies and what its header says of it. Offsets are into the scanned octets."""

    header_start: int
    body_start: int
    end: int
    lines: int = 0
    type: bytes = b"text"
    subtype: bytes = b"plain"
    parameters: list[tuple[bytes, bytes]] = []
    encoding: bytes | None = None
    id: bytes | None = None
    description: bytes | None = None
    md5: bytes | None = None
    disposition: tuple[bytes, list[tuple[bytes, bytes]]] | None = None
    language: list[bytes] | None = None
    location: bytes | None = None
    children: list["Part"] = []
    envelope: bytes | None = None


def scan(octets: Buffer) -> Part:
    """Scan a message into its tree of parts. Never raises."""
    raise NotImplementedError
