"""Packed reports: gzip (RFC 1952), ZIP, or neither, told apart by how they begin, since media types and names are often wrong.

Whatever the ratio, no more than PLAIN_LIMIT comes out: a bomb costs as much as the largest report.
"""

import io
import struct
import zipfile
import zlib

from protocol.reports import ReportError

PACKED_LIMIT = 10 * 1024 * 1024  # octets, ours; the largest services stay below 1 MiB
PLAIN_LIMIT = 24 * 1024 * 1024  # octets, ours
_MEMBERS = 10  # of an archive that are looked at
_DAMAGES = (  # what zipfile makes of damage
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, RuntimeError, ValueError, EOFError, OSError,
    LookupError, ArithmeticError,
)  # fmt: skip
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # LZMA takes as much memory as the file asks for
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"


def unpack(octets: bytes) -> bytes:
    """The plain octets. Of an archive its first file that is no directory. Raises ReportError."""
    if len(octets) > PACKED_LIMIT:
        raise ReportError("too large")
    if octets.startswith(_GZIP):
        return _unpack_gzip(octets)
    if octets.startswith(_ZIP):
        return _unpack_zip(octets)
    return octets


def _unpack_gzip(octets: bytes) -> bytes:
    """The first member; what follows it, and a missing end, is passed over: some senders pad or cut."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(octets, PLAIN_LIMIT + 1)
    except zlib.error as error:
        raise ReportError("gzip: damaged") from error
    return _bounded(plain)


def _unpack_zip(octets: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as archive:
            for member in archive.infolist()[:_MEMBERS]:
                if not member.filename.endswith("/"):  # a directory
                    if member.compress_type not in _METHODS:
                        raise ReportError("ZIP: packed in another way")
                    with archive.open(member) as file:
                        return _bounded(file.read(PLAIN_LIMIT + 1))
    except ReportError:
        raise
    except _DAMAGES as error:
        raise ReportError("ZIP: damaged or encrypted") from error
    raise ReportError("ZIP: empty")


def _bounded(plain: bytes) -> bytes:
    if len(plain) > PLAIN_LIMIT:
        raise ReportError("too large when unpacked")
    return plain
