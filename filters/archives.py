"""What can be told of an archive without unpacking its files: their names, and whether it is encrypted. Zip, 7z and RAR.

Only directories and headers are read, and only so many octets of them. Archives within archives are left alone: what is not
encrypted, the virus scanner sees.
"""

import lzma
import struct
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

MAX_MEMBERS = 10_000  # whose names are read
MAX_HEADER_OCTETS = 1 << 20  # of a 7z archive, unpacked
MAX_HEADERS = 10_000  # blocks of a RAR archive that are looked at

_SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"
_SEVEN_ZIP_START = 32  # octets of the header in front
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
    """The header at the end names the coders. Mostly it is packed itself, and a short header in clear says how."""
    if len(octets) < _SEVEN_ZIP_START:
        return False
    offset, size = struct.unpack_from("<QQ", octets, 12)
    header = octets[_SEVEN_ZIP_START + offset : _SEVEN_ZIP_START + offset + min(size, MAX_HEADER_OCTETS)]
    if _AES in header:
        return True
    if header[:1] != b"\x17":
        return False
    try:
        return _AES in _seven_zip_unpacked(octets, header)
    except (IndexError, ValueError, lzma.LZMAError):
        return False  # broken: nobody can open it


def _seven_zip_unpacked(octets: bytes, header: bytes) -> bytes:
    """The real header, which one LZMA or LZMA2 stream holds. Raises IndexError, ValueError, LZMAError."""
    _expect(header, 1, b"\x06")  # PackInfo
    position, at = _seven_zip_number(header, 2)
    at = _expect(header, at, b"\x01\x09")  # one stream; its size
    packed_size, at = _seven_zip_number(header, at)
    if header[at] == 0x0A:  # its checksum
        at += 6
    at = _expect(header, at, b"\x00\x07\x0b\x01\x00\x01")  # the end; UnpackInfo: one folder, here, of one coder
    flags, at = header[at], at + 1
    if flags & 0xF0 != 0x20:
        raise ValueError("a coder without properties")
    coder, at = header[at : at + (flags & 0x0F)], at + (flags & 0x0F)
    size, at = _seven_zip_number(header, at)
    properties = header[at : at + size]
    if coder == b"\x21":
        chain = {"id": lzma.FILTER_LZMA2, "dict_size": MAX_HEADER_OCTETS}
    elif coder == b"\x03\x01\x01":
        rest, lc = divmod(properties[0], 9)
        pb, lp = divmod(rest, 5)
        chain = {"id": lzma.FILTER_LZMA1, "dict_size": MAX_HEADER_OCTETS, "lc": lc, "lp": lp, "pb": pb}
    else:
        raise ValueError("an unusual coder")
    start = _SEVEN_ZIP_START + position
    unpacking = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[chain])
    return unpacking.decompress(octets[start : start + packed_size], MAX_HEADER_OCTETS)


def _expect(octets: bytes, at: int, wanted: bytes) -> int:
    if octets[at : at + len(wanted)] != wanted:
        raise ValueError("an unusual header")
    return at + len(wanted)


def _seven_zip_number(octets: bytes, at: int) -> tuple[int, int]:
    """7z's number: ones at the top of the first octet tell how many octets follow, the lowest first. Raises IndexError."""
    first, value, mask = octets[at], 0, 0x80
    at += 1
    for number in range(8):
        if not first & mask:
            return value | (first & (mask - 1)) << (8 * number), at
        value |= octets[at] << (8 * number)
        at, mask = at + 1, mask >> 1
    return value, at


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
