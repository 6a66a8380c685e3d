"""The leaves of a tenant's evidence log: their canonical octets and the salted commitment to a message.

A leaf holds no address, no subject and no plain digest: who destroys the salt cuts the leaf from its message for good,
and the log still verifies. Pure: neither clock nor randomness nor database; salts come in as arguments.
"""

import hashlib
import struct
from enum import IntEnum
from typing import NamedTuple

from storage.archive import merkle

VERSION = 1
SALT_OCTETS = 32
UNCLASSIFIED = 0  # the retention class of what no rule has classified yet

# version, kind, class, sequence number, UTC milliseconds, size in octets, commitment: big-endian, without padding
_CANONICAL = struct.Struct(">BBHQQQ32s")


class Kind(IntEnum):
    """What a leaf records. The numbers are signed into logs: they are never given another meaning."""

    INCOMING = 1
    OUTGOING = 2
    INTERNAL = 3
    ACCESS = 16
    UNLOCK = 17
    HOLD = 18
    RETENTION_CHANGE = 19
    POLICY = 20
    EXPORT = 21
    RESTORE = 22
    ERASE = 23
    CONFIG = 24


KIND_OF_DIRECTION = {"in": Kind.INCOMING, "out": Kind.OUTGOING, "internal": Kind.INTERNAL}


class Leaf(NamedTuple):
    """One entry of a log."""

    seq: int  # 0 for the log's first leaf, then without gaps
    kind: int  # a Kind; an int, because a verifier must be able to hold what it reads
    at_ms: int  # UTC, milliseconds since 1970
    size_octets: int
    commitment: bytes  # 32 octets
    class_id: int = UNCLASSIFIED
    version: int = VERSION

    def canonical(self) -> bytes:
        """The 60 octets that are hashed into the tree. Raises ValueError if a value does not fit its field."""
        try:
            return _CANONICAL.pack(
                self.version, self.kind, self.class_id, self.seq, self.at_ms, self.size_octets, self.commitment
            )
        except struct.error as error:
            raise ValueError(f"leaf {self.seq}: {error}") from error

    def hash(self) -> bytes:
        """The leaf's hash in the tree."""
        return merkle.leaf_hash(self.canonical())


def commitment(salt: bytes, digest: bytes, envelope_digest: bytes) -> bytes:
    """Bind a leaf to a message: SHA-256(salt || SHA-256(octets as accepted) || SHA-256(envelope)).

    The salt has 32 random octets, so that nobody can find out from a leaf whether a guessed message is archived.
    """
    return hashlib.sha256(salt + digest + envelope_digest).digest()
