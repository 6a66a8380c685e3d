"""One blob as a self-describing record: a header, then chunks of at most 1 MiB, each compressed and sealed on its own.

Chunks bound memory (a 28 MiB message is never whole in it) and let a partial read skip what it does not need. A record can be
found and checked by scanning a segment; only its key comes from the database (docs/design.md, "Blobs and segments").

    header   magic "PWB1" | version u8 | reserved 3 | tenant u64 | digest 32 | plain octets u64 | chunks u32 | CRC-32 of the header
    chunk    stored octets u32 | codec u8 | reserved u8 | dictionary u16 | CRC-32 of the stored octets | stored octets

Sealing is AES-256-GCM under a key that is used for this record only, so the nonce is the chunk's number; header and chunk
codec are associated data. All integers are big-endian.
"""

import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import CorruptError

CHUNK_OCTETS = 1 << 20
_VERSION = 1
_MAGIC = b"PWB1"
_HEADER = struct.Struct(">4sB3xQ32sQI")
_CRC = struct.Struct(">I")
_CHUNK = struct.Struct(">IBxHI")
HEADER_OCTETS = _HEADER.size + _CRC.size
CHUNK_HEADER_OCTETS = _CHUNK.size
TAG_OCTETS = 16

STORED, ZSTD = 0, 1
_LEVEL = (
    3  # 34 us at 8 KB for a ratio of 2.4 (docs/dependencies.md); higher levels cost more CPU than the delivery itself
)
_DICTIONARY_ABOVE = 64 << 10  # a dictionary helps small blobs: above this it gains nothing
NEWEST_DICTIONARY = 1


class Header(NamedTuple):
    """What a record says of itself."""

    tenant_id: int
    digest: bytes
    plain_octets: int
    chunks: int


@cache
def _dictionary(number: int) -> zstandard.ZstdCompressionDict | None:
    """A dictionary is part of the program and is never deleted: records name it."""
    entry = resources.files("storage.blobs").joinpath("dictionaries", f"{number}.zdict")
    if not entry.is_file():
        return None
    dictionary = zstandard.ZstdCompressionDict(entry.read_bytes())
    dictionary.precompute_compress(level=_LEVEL)
    return dictionary


class _Tools(threading.local):
    """zstd contexts are not thread-safe; one set per thread."""

    def __init__(self) -> None:
        self.plain = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False)
        dictionary = _dictionary(NEWEST_DICTIONARY)
        self.primed = zstandard.ZstdCompressor(level=_LEVEL, dict_data=dictionary) if dictionary else None
        self.readers: dict[int, zstandard.ZstdDecompressor] = {}

    def reader(self, dictionary: int) -> zstandard.ZstdDecompressor:
        reader = self.readers.get(dictionary)
        if reader is None:
            found = _dictionary(dictionary) if dictionary else None
            if dictionary and found is None:
                raise CorruptError(f"dictionary {dictionary} is missing from this installation")
            reader = self.readers[dictionary] = zstandard.ZstdDecompressor(dict_data=found)
        return reader


_tools = _Tools()


def _nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")


def _compressed(chunk: bytes) -> tuple[int, int, bytes]:
    """(codec, dictionary, octets): what does not shrink is stored as it is."""
    dictionary = 0
    if len(chunk) <= _DICTIONARY_ABOVE and _tools.primed is not None:
        packed, dictionary = _tools.primed.compress(chunk), NEWEST_DICTIONARY
    else:
        packed = _tools.plain.compress(chunk)
    return (ZSTD, dictionary, packed) if len(packed) < len(chunk) else (STORED, 0, chunk)


def encode(tenant_id: int, digest: bytes, plain_octets: int, key: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The record's octets, piece by piece. `chunks` are the plain octets in pieces of CHUNK_OCTETS, the last one shorter."""
    count = max(1, -(-plain_octets // CHUNK_OCTETS))
    header = _HEADER.pack(_MAGIC, _VERSION, tenant_id, digest, plain_octets, count)
    yield header + _CRC.pack(zlib.crc32(header))
    cipher = AESGCM(key)
    for index, chunk in enumerate(chunks):
        codec, dictionary, packed = _compressed(chunk)
        sealed = cipher.encrypt(_nonce(index), packed, header + bytes((codec,)))
        yield _CHUNK.pack(len(sealed), codec, dictionary, zlib.crc32(sealed)) + sealed


def read_header(octets: bytes) -> Header:
    """Raises CorruptError unless `octets` begin with a whole record header."""
    header, crc = octets[: _HEADER.size], octets[_HEADER.size : HEADER_OCTETS]
    if len(crc) != _CRC.size or header[:4] != _MAGIC or _CRC.unpack(crc)[0] != zlib.crc32(header):
        raise CorruptError("no record header")
    _, version, tenant_id, digest, plain_octets, chunks = _HEADER.unpack(header)
    if version != _VERSION:
        raise CorruptError(f"record version {version} is not known")
    return Header(tenant_id, digest, plain_octets, chunks)


def stored_octets(chunk_header: bytes) -> int:
    """How many octets follow a chunk header."""
    if len(chunk_header) != _CHUNK.size:
        raise CorruptError("a chunk header is cut short")
    size: int = _CHUNK.unpack(chunk_header)[0]
    return size


class Decoder:
    """Opens the chunks of one record."""

    __slots__ = ("_cipher", "_prefix", "header")

    def __init__(self, octets: bytes, tenant_id: int, digest: bytes, key: bytes) -> None:
        self.header = read_header(octets)
        if (self.header.tenant_id, self.header.digest) != (tenant_id, digest):
            raise CorruptError("the record is another blob's")
        self._prefix = octets[: _HEADER.size]
        self._cipher = AESGCM(key)

    def chunk(self, index: int, octets: bytes) -> bytes:
        """Plain octets of chunk `index`, whose header and stored octets are `octets`. Raises CorruptError."""
        size, codec, dictionary, crc = _CHUNK.unpack_from(octets)
        sealed = octets[_CHUNK.size : _CHUNK.size + size]
        if len(sealed) != size or zlib.crc32(sealed) != crc:
            raise CorruptError(f"chunk {index} fails its CRC")
        try:
            packed = self._cipher.decrypt(_nonce(index), sealed, self._prefix + bytes((codec,)))
            return packed if codec == STORED else _tools.reader(dictionary).decompress(packed, CHUNK_OCTETS)
        except (InvalidTag, zstandard.ZstdError) as error:
            raise CorruptError(f"chunk {index} does not open") from error
