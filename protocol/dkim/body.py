"""Body hashes that a signature may want, RFC 6376 §3.4.3 to §3.4.5: both forms, with a length or without.

The body comes in pieces of any size and is never in memory as a whole.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from protocol.dkim.canonicalization import BodyHash

Form: TypeAlias = Literal["simple", "relaxed"]


@dataclass(frozen=True, slots=True)
class BodyForm:
    """What of a body is hashed."""

    form: Form
    length: int | None = None  # l=, in octets of the canonical body; None: all of it


@dataclass(frozen=True, slots=True)
class BodyDigest:
    """The SHA-256 of a body in one of its forms."""

    digest: bytes
    unsigned: int  # octets of the canonical body behind its length


class _Counted:
    """SHA-256 of the first octets, and the count of all."""

    __slots__ = ("_hash", "_length", "octets")

    def __init__(self, length: int | None) -> None:
        self._hash = hashlib.sha256()
        self._length = length
        self.octets = 0

    def update(self, octets: bytes) -> None:
        if self._length is None:
            self._hash.update(octets)
        elif self.octets < self._length:
            self._hash.update(octets[: self._length - self.octets])
        self.octets += len(octets)

    def digest(self) -> bytes:
        return self._hash.digest()


class _RelaxedHash(BodyHash):
    """The relaxed form, counted."""

    __slots__ = ()

    def __init__(self, counted: _Counted) -> None:
        super().__init__()
        self._hash = counted  # type: ignore[assignment]  # it has the two methods that are called


class _SimpleHash:
    """The simple form, RFC 6376 §3.4.3: line ends at the end are one."""

    __slots__ = ("_hash", "_held", "_lines")

    def __init__(self, counted: _Counted) -> None:
        self._hash = counted
        self._lines = 0  # line ends that count only if something follows
        self._held = b""  # a CR behind those

    def update(self, piece: bytes) -> None:
        octets = self._held + piece
        self._held = b"\r" if octets.endswith(b"\r") else b""
        end = len(octets) - len(self._held)
        start = _line_ends(octets, end)
        if start:
            self._flush()
            self._hash.update(octets[:start])
        self._lines += (end - start) // 2

    def digest(self) -> bytes:
        if self._held:
            self._flush()
            self._hash.update(self._held)
        self._hash.update(b"\r\n")
        return self._hash.digest()

    def _flush(self) -> None:
        self._hash.update(b"\r\n" * self._lines)
        self._lines = 0


class BodyHashes:
    """All hashes of one body that its signatures want."""

    __slots__ = ("_hashes",)

    def __init__(self, forms: Iterable[BodyForm]) -> None:
        self._hashes: dict[BodyForm, tuple[_Counted, _RelaxedHash | _SimpleHash]] = {}
        for form in forms:
            counted = _Counted(form.length)
            self._hashes[form] = counted, _RelaxedHash(counted) if form.form == "relaxed" else _SimpleHash(counted)

    def update(self, piece: bytes) -> None:
        """Go on with the next octets of the body."""
        for _, hashed in self._hashes.values():
            hashed.update(piece)

    def digests(self) -> dict[BodyForm, BodyDigest]:
        """The hashes, with everything given taken for the whole body."""
        digests = {}
        for form, (counted, hashed) in self._hashes.items():
            digest = hashed.digest()
            digests[form] = BodyDigest(
                digest, max(0, counted.octets - (form.length or 0)) if form.length is not None else 0
            )
        return digests


def _line_ends(octets: bytes, end: int) -> int:
    """Where the line ends begin that lead up to `end`."""
    start = len(octets[:end].rstrip(b"\r\n"))
    if (end - start) % 2 == 0 and octets[start:end] == b"\r\n" * ((end - start) // 2):
        return start
    while end > start and octets.endswith(b"\r\n", start, end):  # behind a CR or LF that stands alone
        end -= 2
    return end
