"""Archives are known, their names read, and encryption seen, without unpacking a file of them."""

import base64
import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.archives import Archive, is_archive, read_archive

# Made by py7zr: one file; the same with a password; and with encrypted names.
SEVEN_ZIP = base64.b64decode(
    "N3q8ryccAARkuom0XgAAAAAAAAAUAAAAAAAAAA3XLbYBAARoZWxsbwDgAFAATV0AAIEzB64P4OxyY2JL5uxbXUyoi6d6oQAlIo8pjQtU6D2QKxfUiT3XItPy"
    "fncc8AmySV8P3z4ecCq/t72et/237AqRtew/YMYyY7oAAAAAFwYJAQlVAAcLAQABISEBGAxRAAA="
)
SECRET_SEVEN_ZIP = base64.b64decode(
    "N3q8ryccAARFmI7BeQAAAAAAAAAUAAAAAAAAAIHWvcqHPxE2rnHcTEnwrUqg9FVPAQBkAQQGAAEJEAoBTzA1YQAHCwEAAiQG8QcBElMPpwClUjwZIMN3TfuiLJGd"
    "YyEhARgBAAwJBQAICgGGphA2AAAFARENAGEALgB0AHgAdAAAABQKAQAAUBdUV3rdARUGAQAggICBAAAAFwYQAQlpAAcLAQABISEBGAxlAAA="
)
HIDDEN_SEVEN_ZIP = base64.b64decode(
    "N3q8ryccAASW0YEBgAAAAAAAAAAoAAAAAAAAAPKHxcewdku5W5sEVec+Q5sEdW+Zro3GRBnR3+ooPKrUVFAxU6b3OTteQR0x+CloCngvJEWupbjkXcr/gu56oLWE"
    "2TZlNQiBJBrnE3J54K/l6FbM47ROgAIHhXltUcds0NdHTTMxst1psRL26gWH7jccysnS3Ierir+PjPS1/vCLEXVB0hcGEAEJcAAHCwEAASQG8QcBElMPrglru3pi"
    "kKFT5SOhrnG24QxlAAA="
)

# Made by 7-Zip with a password: so many names that its header is packed with LZMA.
PACKED_SEVEN_ZIP = base64.b64decode(
    "N3q8ryccAARMk6tEEgEAAAAAAAAiAAAAAAAAAMqfrxMPVThszNsySsKMF1/ZbONWrr2g9imNlb6DmlhxmNtcZPN33LIXoOg71/UDguzwWVUAAIEz"
    "B64P0QDUPKCKabDjxAD69FhUvfZKVeKrRoxDVBVNKBIjPzoJ0wBkJKl2x/ICzpqg5eKHA64wGH6ciNmPhohb8omL37fNaTjCShFn8eCLt6t+9tOg"
    "TSkfFsmdVwlh1hdN5fDHqkF6dGSFzwGI9atQ8vcPVS+7frAKaaKqjnYxAulEe0BmN+4Pw6DluSsIAskvVlnmx/kkruT2TlVg50uQRy58zwdHIl8t"
    "f57e+2KrQC63RMAh7ntutMvhc3azMIaSywlGTFToeHzwfnLdT0fWQ1lLa6I3rEhaJLZBAAAAFwYwAQmA4gAHCwEAASMDAQEFXQAQAAAMg8YKAaKk"
    "MkIAAA=="
)


def zipped(*names: str, is_secret: bool = False) -> bytes:
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"content")  # without a date: tests are named after the octets
    made = octets.getvalue()
    if is_secret:  # the flag alone, in the local and the central header
        made = made.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01")
        made = made.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    return made


def rar4(*blocks: tuple[int, int, bytes]) -> bytes:
    """(kind, flags, packed octets) of each block."""
    made = b"Rar!\x1a\x07\x00"
    for kind, flags, packed in blocks:
        rest = struct.pack("<I", len(packed)) if kind == 0x74 else bytes(6)
        made += struct.pack("<HBHH", 0, kind, flags, 7 + len(rest)) + rest + packed
    return made


def rar5(*blocks: tuple[int, bytes, bytes]) -> bytes:
    """(kind, extra area, packed octets) of each block."""
    made = b"Rar!\x1a\x07\x01\x00"
    for kind, extra, packed in blocks:
        inside = bytes([kind, 3, len(extra)]) + len(packed).to_bytes(1, "little") + b"\x00" + extra
        made += bytes(4) + bytes([len(inside)]) + inside + packed
    return made


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (zipped("a.txt", "b/c.exe"), Archive(("a.txt", "b/c.exe"))),
        (zipped("a.txt", "b.txt", is_secret=True), Archive(("a.txt", "b.txt"), is_encrypted=True)),
        (zipped("a.txt", is_secret=True)[:40], Archive(is_encrypted=True)),
        (zipped("a.txt")[:40], Archive()),
        (zipped(), Archive()),
        (SEVEN_ZIP, Archive()),
        (SECRET_SEVEN_ZIP, Archive(is_encrypted=True)),
        (HIDDEN_SEVEN_ZIP, Archive(is_encrypted=True)),
        (PACKED_SEVEN_ZIP, Archive(is_encrypted=True)),
        (SEVEN_ZIP[:50], Archive()),
        (rar4((0x73, 0, b""), (0x74, 0x8000, b"xyz"), (0x7B, 0, b"")), Archive()),
        (rar4((0x73, 0, b""), (0x74, 0x8000, b"xyz"), (0x74, 0x8004, b"")), Archive(is_encrypted=True)),
        (rar4((0x73, 0x80, b"")), Archive(is_encrypted=True)),
        (rar5((1, b"", b""), (2, b"\x02\x02\x00", b"xyz"), (5, b"", b"")), Archive()),
        (rar5((1, b"", b""), (2, b"", b"xyz"), (2, b"\x02\x02\x00\x02\x01\x00", b"")), Archive(is_encrypted=True)),
        (rar5((4, b"", b"")), Archive(is_encrypted=True)),
        (b"PKnothing", None),
        (b"%PDF-1.7", None),
        (b"", None),
    ],
)
def test_read_archive(octets: bytes, expected: Archive | None) -> None:
    """Names and encryption are read of what is whole, and of what is broken as far as it goes."""
    assert read_archive(octets) == expected
    assert is_archive(octets[:16]) == (expected is not None)


@given(
    st.sampled_from(
        [SEVEN_ZIP, SECRET_SEVEN_ZIP, zipped("a", "b"), rar4((0x74, 0x8000, b"x")), rar5((2, b"\x02\x02\x00", b"x"))]
    ),
    st.lists(st.tuples(st.integers(6, 300), st.binary(max_size=4)), max_size=4),
)
def test_any_octets(octets: bytes, changes: list[tuple[int, bytes]]) -> None:
    """Whatever a broken archive holds, reading it ends, and raises nothing."""
    for at, piece in changes:
        octets = octets[:at] + piece + octets[at + 1 :]
    found = read_archive(octets)
    assert found is None or isinstance(found.is_encrypted, bool)
