"""DKIM-Signature fields, RFC 6376 §3.5: which fields of a message are signed, and the field that says so.

Header fields are canonicalised, chosen and hashed by dkimpy; RSA and Ed25519 (RFC 8463) are those of cryptography, since dkimpy
computes RSA in Python, seventeen times slower, and wants another library for Ed25519. Both forms are relaxed: relays may refold
header fields and take white space off line ends, and the signature still holds.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from dkim import hash_headers
from dkim.canonicalization import Relaxed

from protocol.message.header import RawField

PrivateKey = RSAPrivateKey | Ed25519PrivateKey
SMALLEST_RSA_BITS = 1024  # RFC 8301 §3.2; new ones have 2,048 and more

# Signed once more than they occur, present or not: a field added on top would be taken for the signed one (RFC 6376 §8.15).
SEALED_FIELDS = (
    *(b"from", b"reply-to", b"subject", b"date", b"to", b"cc", b"message-id"),
    *(b"mime-version", b"content-type", b"content-transfer-encoding"),
)
# Signed as often as they occur (RFC 6376 §5.4.1): mailing lists and people who resend add more of them, rightly.
OTHER_FIELDS = (
    *(b"sender", b"in-reply-to", b"references", b"content-id", b"content-description"),
    *(b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id"),
    *(b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe", b"list-post"),
    *(b"list-owner", b"list-archive", b"auto-submitted", b"feedback-id"),
)
_KNOWN = frozenset(SEALED_FIELDS + OTHER_FIELDS)
_OCCURRENCES = 8  # of one name that are signed, from the bottom: the list must end, whatever a message brings
_LINE_OCTETS = 76
_NAME = b"DKIM-Signature:"
_DIGEST = Prehashed(hashes.SHA256())
_PADDING = padding.PKCS1v15()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs, and where its record is found."""

    domain: str  # d=, in A-labels
    selector: str
    algorithm: str  # a=
    private_key: PrivateKey


def load_private_key(octets: bytes, *, is_trusted: bool = False) -> PrivateKey:
    """From PKCS #8, or PEM. A trusted one was checked before: that takes as long as hundreds of signatures.

    Raises ValueError for anything but RSA of 1,024 bits and more (RFC 8301 §3.2) and Ed25519.
    """
    is_pem = octets.lstrip().startswith(b"-----")
    load = serialization.load_pem_private_key if is_pem else serialization.load_der_private_key
    try:
        key = load(octets, None, unsafe_skip_rsa_key_validation=is_trusted)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("the key is protected by a password, or of an unknown kind") from error
    if isinstance(key, Ed25519PrivateKey) or (isinstance(key, RSAPrivateKey) and key.key_size >= SMALLEST_RSA_BITS):
        return key
    raise ValueError("neither an RSA key of 1024 bits or more nor an Ed25519 key")


def private_octets(key: PrivateKey) -> bytes:
    """PKCS #8, unencrypted: to be wrapped."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_octets(key: PrivateKey) -> bytes:
    """The octets of p=: SubjectPublicKeyInfo for RSA (RFC 6376 §3.6.1), the bare key for Ed25519 (RFC 8463 §4.2)."""
    if isinstance(key, Ed25519PrivateKey):
        return key.public_key().public_bytes_raw()
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def algorithm_of(key: PrivateKey) -> str:
    """The value of a=."""
    return "ed25519-sha256" if isinstance(key, Ed25519PrivateKey) else "rsa-sha256"


def signature_fields(
    keys: Sequence[SigningKey], header: Sequence[RawField], body_hash: bytes, *, at: int, lifetime: int
) -> bytes:
    """One DKIM-Signature field for each key, with line ends, to be put on top. `at` in seconds since 1970; lifetime 0: no x=."""
    fields = [(name.lower(), body + b"\r\n") for name, body, _ in header if name.lower() in _KNOWN]
    names = _signed_names(fields)
    return b"".join([_field(key, fields, names, body_hash, at, lifetime) for key in keys])


def _signed_names(fields: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """What h= lists."""
    counts = Counter(name for name, _ in fields)
    names = [name for name in SEALED_FIELDS for _ in range(min(counts[name], _OCCURRENCES) + 1)]
    return names + [name for name in OTHER_FIELDS for _ in range(min(counts[name], _OCCURRENCES))]


def _field(
    key: SigningKey, fields: list[tuple[bytes, bytes]], names: list[bytes], body_hash: bytes, at: int, lifetime: int
) -> bytes:
    words = [b" v=1;", b" a=%s;" % key.algorithm.encode(), b" c=relaxed/relaxed;", b" d=%s;" % key.domain.encode()]
    words += [b" s=%s;" % key.selector.encode(), b" t=%d;" % at, *([b" x=%d;" % (at + lifetime)] if lifetime else [])]
    words += [b" h=" + names[0], *(b":" + name for name in names[1:]), b";"]
    words += [b" bh=%s;" % base64.b64encode(body_hash)]
    value = _folded(words) + b"\r\n\tb="
    signature = base64.b64encode(sign_field(key.private_key, fields, names, value))
    lines = [signature[start : start + _LINE_OCTETS - 4] for start in range(0, len(signature), _LINE_OCTETS - 4)]
    return b"".join((_NAME, value, b"\r\n\t".join(lines), b"\r\n"))


def sign_field(key: PrivateKey, fields: list[tuple[bytes, bytes]], names: Sequence[bytes], value: bytes) -> bytes:
    """The octets of b= for a field body that ends with "b=" (RFC 6376 §3.7). Fields and names in lower case."""
    hashed = hashlib.sha256()
    hash_headers(hashed, Relaxed, Relaxed.canonicalize_headers(fields), names, (b"dkim-signature", value), {})
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(hashed.digest())  # the hash is its message, RFC 8463 §3
    return key.sign(hashed.digest(), _PADDING, _DIGEST)


def _folded(words: Sequence[bytes]) -> bytes:
    """The words on lines; a line ends in front of a word, whose space the fold replaces. What is hashed is what is sent."""
    lines, octets = [], len(_NAME)
    for word in words:
        octets += len(word)
        if octets > _LINE_OCTETS:
            word = b"\r\n\t" + word.lstrip(b" ")
            octets = len(word) - 2
        lines.append(word)
    return b"".join(lines)
