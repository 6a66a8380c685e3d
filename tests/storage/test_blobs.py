"""Records and segments: round trips, every changed octet noticed, half-written ends, writes that fail."""

import hashlib
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.blobs import codec
from storage.blobs.keys import KEY_OCTETS, Wrapper, create_key_file
from storage.blobs.segments import SegmentWriter, chunks, scan, segment_path, whole_octets
from storage.blobs.store import Layout
from storage.errors import CorruptError, DiskError

KEY = bytes(range(KEY_OCTETS))


def record(plain: bytes, tenant_id: int = 7) -> bytes:
    digest = hashlib.sha256(plain).digest()
    return b"".join(
        codec.encode(tenant_id, digest, len(plain), KEY, chunks(plain, [(0, len(plain))]) if plain else [b""])
    )


def decoded(octets: bytes, plain: bytes, tenant_id: int = 7) -> bytes:
    decoder = codec.Decoder(octets[: codec.HEADER_OCTETS], tenant_id, hashlib.sha256(plain).digest(), KEY)
    at, found = codec.HEADER_OCTETS, []
    for index in range(decoder.header.chunks):
        end = at + codec.CHUNK_HEADER_OCTETS + codec.stored_octets(octets[at : at + codec.CHUNK_HEADER_OCTETS])
        found.append(decoder.chunk(index, octets[at:end]))
        at = end
    return b"".join(found)


@given(st.binary(max_size=5000))
def test_round_trip(plain: bytes) -> None:
    """What is encoded is decoded, whatever it is."""
    assert decoded(record(plain), plain) == plain


def test_every_changed_octet_is_noticed() -> None:
    """No octet of a record can change without the reader's notice."""
    plain = b"Subject: hello\r\n\r\n" * 20
    octets = record(plain)
    for index in range(len(octets)):
        changed = octets[:index] + bytes([octets[index] ^ 1]) + octets[index + 1 :]
        try:
            assert decoded(changed, plain) == plain
        except CorruptError:
            continue
        # Only the padding of the chunk header and the codec's unused bits may be without meaning.
        assert index - codec.HEADER_OCTETS == 5


def test_a_record_opens_for_its_own_tenant_only() -> None:
    """A record copied under another tenant's number or digest does not open."""
    octets = record(b"secret")
    with pytest.raises(CorruptError):
        decoded(octets, b"secret", tenant_id=8)
    with pytest.raises(CorruptError):
        decoded(octets, b"other")


def test_wrapped_keys_are_bound() -> None:
    """A wrapped key opens only with what it was bound to, under the key that wrapped it."""
    wrapped = Wrapper(KEY).wrap(b"k" * 32, b"digest")
    assert Wrapper(KEY).unwrap(wrapped, b"digest") == b"k" * 32
    for wrapper, bound_to in ((Wrapper(KEY), b"another"), (Wrapper(bytes(32)), b"digest")):
        with pytest.raises(CorruptError):
            wrapper.unwrap(wrapped, bound_to)


def test_key_files_are_private_and_kept(state: Path) -> None:
    """A key file is readable by its owner alone and never overwritten."""
    path = state / "keys" / "master.key"
    create_key_file(path)
    key = path.read_bytes()
    create_key_file(path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777, len(key)) == (key, 0o600, KEY_OCTETS)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_chunks_are_the_ranges(octets: bytes, marks: list[int]) -> None:
    """Chunks of ranges are the octets of the ranges, in order."""
    bounds = sorted(min(mark, len(octets)) for mark in marks)
    ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
    assert b"".join(chunks(octets, ranges)) == b"".join(octets[start:end] for start, end in ranges)


async def opened(writer: SegmentWriter) -> Path:
    await writer.ready()
    return next(iter(writer._directory.iterdir()))


_MIB = codec.CHUNK_OCTETS


@given(st.integers(0, 4 * _MIB), st.integers(0, 4 * _MIB))
def test_a_range_is_cut_where_chunks_end(start: int, end: int) -> None:
    """The cuts are the range without gaps, and each lies within one chunk of one blob."""
    record: Any = None  # cutting does not look at it
    pieces = ((0, 0, 1500, record), (1500, 0, 3 * _MIB + 5, record), (3 * _MIB + 1505, 1500, _MIB - 1505, record))
    cuts = list(Layout(b"", 4 * _MIB, pieces).cut(start, end))
    edges = [start, *(high for _, high in cuts)] if cuts else []
    assert [(low, high) for low, high in cuts] == list(pairwise(edges))
    assert sum(high - low for low, high in cuts) == max(0, end - start)
    for low, high in cuts:
        [(at, within)] = [(at, within) for at, within, length, _ in pieces if at <= low and high <= at + length]
        assert (low - at + within) // _MIB == (high - 1 - at + within) // _MIB


async def test_scanning_finds_every_whole_record(pool: Any, state: Path) -> None:
    """Locations can be rebuilt from the segment alone; half a record at the end is passed over."""
    writer = SegmentWriter(state / "segments", pool)
    path = await opened(writer)
    plains = [b"a" * size for size in (0, 10, 3_000_000)]
    located = writer.append([[record(plain)] for plain in plains])
    with path.open("ab") as file:
        file.write(record(b"torn")[:-3])
    found = list(scan(path))
    assert [(position, size) for position, size, _ in found] == [
        (each.position, each.record_octets) for each in located
    ]
    assert [header.digest for _, _, header in found] == [hashlib.sha256(plain).digest() for plain in plains]
    assert whole_octets(path) == located[-1].position + located[-1].record_octets
    await writer.seal()


async def test_a_failed_write_leaves_the_segment(pool: Any, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When write or sync fails the batch is refused, and the next one goes to another segment."""
    writer = SegmentWriter(state / "segments", pool)
    await writer.ready()
    [first] = writer.append([[record(b"first")]])
    large = [os.urandom(1 << 20)] * 2
    for call, octets in (("pwritev", [record(b"second")]), ("pwritev", large), ("fdatasync", large)):
        with monkeypatch.context() as failing:
            failing.setattr(os, call, _full)
            with pytest.raises(DiskError):
                writer.append([octets])
        await writer.ready()
    [third] = writer.append([[record(b"third")]])
    assert third.segment_id != first.segment_id
    assert segment_path(state / "segments", third.segment_id).read_bytes() == record(b"third")
    await writer.seal()


def _full(*_: object) -> int:
    raise OSError(28, "No space left on device")
