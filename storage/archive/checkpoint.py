"""Signed checkpoints: the C2SP checkpoint format (tlog-checkpoint) as a C2SP signed note, signed with Ed25519.

    mail.example.org/1/5f2c9a10            the log's origin, also the name of the signing key
    4096                                   leaves that the root covers
    q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=
    postwerk 17 1795312558000              extension line: the checkpoint's number in its log and its UTC milliseconds

    — mail.example.org/1/5f2c9a10 9vL4…    four octets of key id and the signature, base64

The extension line is ours: it makes a checkpoint that was taken out of the middle noticeable. Any C2SP verifier reads the
rest. Pure: no file, no clock, no database.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ED25519 = b"\x01"  # the signature type in key ids, C2SP signed-note
_BODY = re.compile(r"([^\s+]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\npostwerk ([0-9]{1,19}) ([0-9]{1,19})\n")
_SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})\n")


class CheckpointError(ValueError):
    """The note is not a checkpoint of ours, or no trusted key has signed it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint states: the log of that origin had this root when it had this size."""

    origin: str
    size: int
    root: bytes
    number: int  # 0 for the log's first checkpoint, then without gaps
    at_ms: int  # UTC, milliseconds since 1970

    def body(self) -> str:
        """The signed text, with its final line end."""
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\npostwerk {self.number} {self.at_ms}\n"


def key_id(origin: str, public_key: bytes) -> bytes:
    """The four octets that name a key in a signature line: SHA-256(name || LF || type || key), cut."""
    return hashlib.sha256(origin.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def verifier_key(origin: str, public_key: bytes) -> str:
    """The public key in the "vkey" form that C2SP verifiers take: name+id+base64."""
    encoded = base64.b64encode(_ED25519 + public_key).decode()
    return f"{origin}+{key_id(origin, public_key).hex()}+{encoded}"


class Signer:
    """Signs checkpoints. Holds the private key, and never shows it."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.public_key = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, checkpoint: Checkpoint) -> str:
        """The checkpoint as a signed note."""
        body = checkpoint.body()
        signature = key_id(checkpoint.origin, self.public_key) + self._private_key.sign(body.encode())
        return f"{body}\n— {checkpoint.origin} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, trusted: Iterable[bytes]) -> Checkpoint:
    """Read a signed note, and check that one of the trusted public keys (32 octets each) has signed it.

    Raises CheckpointError, and nothing else, whatever the note is. Signatures of unknown keys are passed over, as C2SP asks.
    """
    body, separator, signatures = note.partition("\n\n")
    match = _BODY.fullmatch(body + "\n") if separator else None
    if match is None:
        raise CheckpointError("not a checkpoint")
    origin, size, root, number, at_ms = match.groups()
    known = {key_id(origin, key): key for key in trusted}
    lines = _SIGNATURE.findall(signatures)
    if "".join(f"— {name} {encoded}\n" for name, encoded in lines) != signatures:
        raise CheckpointError("the signature lines are malformed")
    if not any(_is_signed(body + "\n", encoded, known) for name, encoded in lines if name == origin):
        raise CheckpointError("no trusted key has signed this checkpoint")
    return Checkpoint(origin, int(size), base64.b64decode(root), int(number), int(at_ms))


def _is_signed(body: str, encoded: str, known: dict[bytes, bytes]) -> bool:
    try:
        octets = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    key = known.get(octets[:4])
    if key is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(octets[4:], body.encode())
    except InvalidSignature:
        return False
    return True
