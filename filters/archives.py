"""What can be told of an archive without unpacking it: the names in it, and whether it is encrypted. Zip, 7z and RAR.

Only directories and headers are read, and only so many octets of them; nothing is ever unpacked, and archives within archives are
left alone: what is not encrypted, the virus scanner sees.
"""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

MAX_MEMBERS = 10_000  # whose names are read
MAX_HEADERS = 10_000  # blocks of a RAR archive that are looked at

_SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"
_AES = b"\x06\xf1\x07\x01"  # the id of 7z's AES-256 coder
_RAR4 = b"Rar!\x1a\x07\x00"
_RAR5 = b"Rar!\x1a\x07\x01\x00"


_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06", _SEVEN_ZIP, _RAR4, _RAR5)


@dataclass(frozen=True, slots=True)
class Archive:
    """What was read. is_encrypted: some member of it at least."""

    names: tuple[str, ...] = ()
    is_encrypted: bool = False


def is_archive(beginning: bytes) -> bool:
    """Whether content with these first octets is of a kind that we know."""
    return beginning.startswith(_BEGINNINGS)


def read_archive(octets: bytes) -> Archive | None:
    """Look into the content of an attachment; None when it is no archive that we know. Never raises."""
    if octets.startswith(b"PK"):
        return _zip(octets) if is_archive(octets) else None
    if octets.startswith(_SEVEN_ZIP):
        return Archive(is_encrypted=_seven_zip_is_encrypted(octets))
    if octets.startswith(_RAR5):
        return Archive(is_encrypted=any(kind == 4 or secret for kind, secret in _rar5_blocks(octets)))
    if octets.startswith(_RAR4):
        return Archive(is_encrypted=any(_rar4_flags(octets)))
    return None


def _zip(octets: bytes) -> Archive:
    try:
        with zipfile.ZipFile(BytesIO(octets)) as archive:
            members = archive.infolist()[:MAX_MEMBERS]
    except Exception:  # zipfile raises anything for what is broken; then only the first local header is known
        return Archive(is_encrypted=len(octets) > 8 and bool(octets[6] & 1))
    return Archive(tuple(member.filename for member in members), any(member.flag_bits & 1 for member in members))


def _seven_zip_is_encrypted(octets: bytes) -> bool:
    """The header at the end names the coders; where it is packed itself, the header that says how does."""
    if len(octets) < 32:
        return False
    offset, size = struct.unpack_from("<QQ", octets, 12)
    return _AES in octets[32 + offset : 32 + offset + min(size, 1 << 20)]


def _rar4_flags(octets: bytes) -> Iterator[bool]:
    """Whether each block says that it is encrypted: the archive with its names (MHD_PASSWORD), or a file (LHD_PASSWORD)."""
    at = len(_RAR4)
    for _ in range(MAX_HEADERS):
        if at + 7 > len(octets):
            return
        _, kind, flags, size = struct.unpack_from("<HBHH", octets, at)
        yield (kind == 0x73 and bool(flags & 0x80)) or (kind == 0x74 and bool(flags & 0x04))
        packed = 0
        if (flags & 0x8000 or kind == 0x74) and at + 11 <= len(octets):
            (packed,) = struct.unpack_from("<I", octets, at + 7)
        if size < 7:
            return
        at += size + packed


def _rar5_blocks(octets: bytes) -> Iterator[tuple[int, bool]]:
    """The kind of each block, and whether it is a file with an encryption record."""
    at = len(_RAR5)
    with suppress(IndexError, ValueError):
        for _ in range(MAX_HEADERS):
            size, start = _vint(octets, at + 4)  # behind the checksum
            kind, inside = _vint(octets, start)
            flags, inside = _vint(octets, inside)
            extra = packed = 0
            if flags & 1:
                extra, inside = _vint(octets, inside)
            if flags & 2:
                packed, inside = _vint(octets, inside)
            end = start + size
            yield kind, kind == 2 and _rar5_has_encryption(octets, end - extra, end)
            at = end + packed


def _rar5_has_encryption(octets: bytes, at: int, end: int) -> bool:
    while at < end:
        size, start = _vint(octets, at)
        kind, _ = _vint(octets, start)
        if kind == 1:
            return True
        at = start + size
    return False


def _vint(octets: bytes, at: int) -> tuple[int, int]:
    """RAR 5's number: seven bits an octet, the lowest first. Raises ValueError, IndexError."""
    value = 0
    for shift in range(0, 63, 7):
        octet = octets[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise ValueError("number is too long")
