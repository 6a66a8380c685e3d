"""DEFLATE streams without a connection: whole, in pieces, endless, broken; and what they hold while nothing is said."""

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.compression import CompressionError, Deflate

LIMIT = 1 << 20


def deflated(*pieces: bytes) -> bytes:
    """What a client sends: one stream, flushed after each piece."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH) for piece in pieces)


def taken(coding: Deflate, block: bytes, limit: int = 100) -> list[bytes]:
    """All that a block becomes."""
    coding.give(block)
    return list(iter(lambda: coding.take(limit), b""))


@given(pieces=st.lists(st.binary(max_size=2000)), rests=st.lists(st.booleans(), min_size=1))
def test_what_is_said_can_be_read_at_once(pieces: list[bytes], rests: list[bool]) -> None:
    """Each piece can be inflated when it has come, also behind a rest, in which the compressor is let go."""
    coding, peer = Deflate(LIMIT), zlib.decompressobj(-15)
    for number, piece in enumerate(pieces):
        assert peer.decompress(coding.outgoing(piece)) == piece
        if rests[number % len(rests)]:
            coding.rest()
    assert not peer.eof


@given(pieces=st.lists(st.binary(max_size=3000)), step=st.integers(1, 500))
def test_what_comes_is_inflated_however_it_is_cut(pieces: list[bytes], step: int) -> None:
    """No piece is larger than asked for, and all together are what was sent."""
    coding, octets = Deflate(LIMIT), deflated(*pieces)
    found: list[bytes] = []
    for start in range(0, len(octets), step):
        found += taken(coding, octets[start : start + step])
    assert all(len(piece) <= 100 for piece in found)
    assert b"".join(found) == b"".join(pieces)


def test_a_block_that_becomes_too_much() -> None:
    """A zip bomb is inflated piece by piece up to the limit, and no further."""
    coding = Deflate(LIMIT)
    coding.give(deflated(bytes(64 << 20)))
    assert sum(len(coding.take(65536)) for _ in range(LIMIT // 65536)) == LIMIT
    with pytest.raises(CompressionError, match="becomes too much"):
        coding.take(65536)


def test_the_limit_is_for_each_block() -> None:
    """Any number of blocks may come, each within the limit."""
    coding = Deflate(LIMIT)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    for _ in range(3):
        block = compressor.compress(bytes(LIMIT)) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert sum(map(len, taken(coding, block, 65536))) == LIMIT


@pytest.mark.parametrize("block", [b"a NOOP\r\n", b"\xff" * 10, zlib.compress(b"a NOOP\r\n")])
def test_what_is_no_deflate(block: bytes) -> None:
    """Plain text, nonsense, and a stream with a zlib header are refused."""
    coding = Deflate(LIMIT)
    with pytest.raises(CompressionError, match="no DEFLATE"):
        taken(coding, block + block)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_octets(octets: bytes, step: int) -> None:
    """Any octets give pieces, the end, or CompressionError."""
    coding, found = Deflate(LIMIT), 0
    with suppress(CompressionError):
        for start in range(0, len(octets), step):
            if not coding.is_over:
                found += sum(map(len, taken(coding, octets[start : start + step])))
    assert found <= 1100 * len(octets)


def test_the_peers_end() -> None:
    """A client that finishes its stream has nothing more to say."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    coding = Deflate(LIMIT)
    assert taken(coding, compressor.compress(b"a LOGOUT\r\n") + compressor.flush()) == [b"a LOGOUT\r\n"]
    assert coding.is_over
