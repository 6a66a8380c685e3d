"""Verification of DKIM-Signature and ARC fields, RFC 6376 §6 and RFC 8617 §5.2: what one claims, its key, and whether it holds.

Tags are read and header fields are canonicalised by dkimpy; the fields are chosen here, in linear time, and RSA and Ed25519 are
those of cryptography. The clock's time and the answers of the DNS come in as arguments.
"""

import base64
import binascii
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key
from dkim.canonicalization import Relaxed
from dkim.util import InvalidTagValueList, parse_tag_value

from protocol.dkim.body import BodyDigest, BodyForm, Form
from protocol.dkim.signature import SMALLEST_RSA_BITS
from protocol.domain import a_labels
from protocol.message.header import RawField

Kind: TypeAlias = Literal["dkim", "message", "seal"]  # DKIM-Signature, ARC-Message-Signature, ARC-Seal
Word: TypeAlias = Literal["fail", "policy", "neutral", "permerror"]

RECOMMENDED_RSA_BITS = 2048  # RFC 8301 §3.2: signers SHOULD
_LARGEST_RSA_BITS = 8192  # ours, against keys that are made to cost time; RFC 8301 §3.2 has 4096
_LARGEST_EXPONENT_BITS = 64  # likewise
_NAMES_LIMIT = 1000  # in h=, ours
_FUTURE_SECONDS = 86400  # that a signer's clock may be ahead
_REQUIRED: dict[Kind, tuple[bytes, ...]] = {
    "dkim": (b"v", b"a", b"b", b"bh", b"d", b"h", b"s"),
    "message": (b"i", b"a", b"b", b"bh", b"d", b"h", b"s"),
    "seal": (b"i", b"a", b"b", b"cv", b"d", b"s"),
}
_ALGORITHMS = {b"rsa-sha256": "rsa", b"ed25519-sha256": "ed25519"}
_SPACE = re.compile(rb"[ \t\r\n]+")
_DOMAIN = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_NUMBER = re.compile(rb"[0-9]{1,12}")  # RFC 6376 §3.5: t= and x= have at most 12 digits in practice
_LENGTH = re.compile(rb"[0-9]{1,76}")
_DIGEST = Prehashed(hashes.SHA256())
_PADDING = padding.PKCS1v15()


class SignatureError(Exception):
    """The signature does not hold. `word` is the result in RFC 8601 §2.7.1."""

    def __init__(self, word: Word, reason: str) -> None:
        super().__init__(reason)
        self.word: Word = word
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SignatureField:
    """What one field claims."""

    kind: Kind
    field: RawField
    algorithm: str  # "rsa", "ed25519"
    domain: str
    selector: str
    signature: bytes
    names: tuple[bytes, ...]  # h=, in lower case
    header_form: Form
    body: BodyForm
    body_hash: bytes
    identity: str = ""
    instance: int = 0
    chain_validation: str = ""  # cv=

    @property
    def key_name(self) -> str:
        """Where the key is, RFC 6376 §3.6.2.1."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key record."""

    key: RSAPublicKey | Ed25519PublicKey
    bits: int
    is_testing: bool = False
    is_strict: bool = False  # t=s: the domain of i= must be d= itself


class SignedHeader:
    """The header section of one message, for all of its signatures: each field is canonicalised at most once."""

    def __init__(self, fields: Sequence[RawField]) -> None:
        self.fields = fields
        self._places: dict[bytes, list[int]] = defaultdict(list)
        for place, (name, _, _) in enumerate(fields):
            self._places[name.lower()].append(place)
        self._relaxed: dict[int, bytes] = {}

    def named(self, name: bytes) -> list[RawField]:
        """All fields of a name (in lower case), the topmost first."""
        return [self.fields[place] for place in self._places.get(name, ())]

    def chosen(self, names: Iterable[bytes], form: Form) -> list[bytes]:
        """The fields that h= names, canonical: of each name from the bottom to the top (RFC 6376 §5.4.2)."""
        left = {name: places.copy() for name, places in self._places.items()}
        return [self._canonical(left[name].pop(), form) for name in names if left.get(name)]

    def _canonical(self, place: int, form: Form) -> bytes:
        if form == "simple":
            return _ended(self.fields[place][2])
        if place not in self._relaxed:
            self._relaxed[place] = relaxed(self.fields[place])
        return self._relaxed[place]


def parse(kind: Kind, field: RawField, *, at: float) -> SignatureField:
    """Read one field; `at` in seconds since 1970. Raises SignatureError."""
    tags = _tags(field[1])
    for name in _REQUIRED[kind]:
        if name not in tags:
            raise SignatureError("neutral", f"no {name.decode()}=")
    algorithm = tags[b"a"].lower()
    if algorithm == b"rsa-sha1":
        raise SignatureError("policy", "SHA-1 is too weak")  # RFC 8301 §3.1
    if algorithm not in _ALGORITHMS:
        raise SignatureError("neutral", "unknown algorithm")
    domain, selector = _name(tags[b"d"]), _name(tags[b"s"])
    if not _DOMAIN.fullmatch(domain) or not _DOMAIN.fullmatch(selector) or len(domain) + len(selector) > 240:
        raise SignatureError("neutral", "d= or s= is no domain name")
    _check_times(tags, at)
    parsed = SignatureField(
        kind=kind,
        field=field,
        algorithm=_ALGORITHMS[algorithm],
        domain=domain,
        selector=selector,
        signature=_base64(tags[b"b"], "b="),
        names=(),
        header_form="relaxed",  # all that a seal may have, RFC 8617 §4.1.3
        body=BodyForm("relaxed"),
        body_hash=b"",
        instance=_instance(tags) if kind != "dkim" else 0,
        chain_validation=tags.get(b"cv", b"").lower().decode("latin-1"),
    )
    return _sealed(parsed, tags) if kind == "seal" else _signed(parsed, tags)


def parse_key(text: bytes, algorithm: str) -> PublicKey:
    """Read a key record, RFC 6376 §3.6.1. Raises SignatureError."""
    try:
        tags = parse_tag_value(text)
    except InvalidTagValueList:
        raise SignatureError("permerror", "the key record is malformed") from None
    if tags.get(b"v", b"DKIM1") != b"DKIM1" or b"p" not in tags:
        raise SignatureError("permerror", "the key record is malformed")
    if tags.get(b"k", b"rsa").lower() != algorithm.encode():
        raise SignatureError("permerror", "the key is of another kind")
    if not _lists(tags.get(b"h"), b"sha256"):
        raise SignatureError("permerror", "the key is not for this hash")
    if not _lists(tags.get(b"s"), b"email"):
        raise SignatureError("permerror", "the key is not for mail")
    octets = _base64(tags[b"p"], "p=", word="permerror") if tags[b"p"] else b""
    if not octets:
        raise SignatureError("permerror", "the key was revoked")
    flags = set(_SPACE.sub(b"", tags.get(b"t", b"")).split(b":"))
    key, bits = _load(octets, algorithm)
    if isinstance(key, RSAPublicKey) and bits < SMALLEST_RSA_BITS:
        raise SignatureError("policy", f"a key of {bits} bits is too weak")  # RFC 8301 §3.2
    return PublicKey(key, bits, is_testing=b"y" in flags, is_strict=b"s" in flags)


def check_body(signature: SignatureField, digest: BodyDigest) -> None:
    """Whether the body is the one that was signed. Raises SignatureError."""
    if digest.digest != signature.body_hash:
        raise SignatureError("fail", "the body was changed")
    if digest.unsigned:  # RFC 6376 §8.2: anybody could have added it
        raise SignatureError("policy", "a part of the body is not signed")


def check_header(signature: SignatureField, key: PublicKey, header: SignedHeader) -> None:
    """Whether a DKIM-Signature or ARC-Message-Signature holds for the header section. Raises SignatureError."""
    if signature.kind == "dkim":
        if key.is_strict and a_labels(signature.identity.rpartition("@")[2]) not in ("", signature.domain):
            raise SignatureError("permerror", "the key is not for subdomains")
        if len(header.named(b"from")) > signature.names.count(b"from"):  # RFC 6376 §8.15
            raise SignatureError("policy", "a From field is not signed")
    check_signed(signature, key, header.chosen(signature.names, signature.header_form))


def check_signed(signature: SignatureField, key: PublicKey, canonical: Sequence[bytes]) -> None:
    """Whether the signature holds for these canonical fields and its own, RFC 6376 §3.7. Raises SignatureError."""
    hashed = hashlib.sha256()
    for octets in canonical:
        hashed.update(octets)
    name, body, lines = signature.field
    if signature.header_form == "relaxed":
        last = relaxed((name, without_signature(body), b""))
    else:
        written, colon, rest = _ended(lines).partition(b":")
        last = written + colon + without_signature(rest)
    hashed.update(last.removesuffix(b"\r\n"))
    try:
        if isinstance(key.key, RSAPublicKey):
            key.key.verify(signature.signature, hashed.digest(), _PADDING, _DIGEST)
        else:
            key.key.verify(signature.signature, hashed.digest())  # RFC 8463 §3
    except InvalidSignature:
        raise SignatureError("fail", "the signature does not match") from None


def relaxed(field: RawField) -> bytes:
    """A field in relaxed form with its line end, RFC 6376 §3.4.2."""
    ((name, body),) = Relaxed.canonicalize_headers([(field[0], field[1])])
    return b"%s:%s" % (name, body)


def without_signature(body: bytes) -> bytes:
    """A field body with the value of b= taken out, and the white space around it (RFC 6376 §3.7)."""
    tags = body.split(b";")
    for place, tag in enumerate(tags):
        name, equals, value = tag.partition(b"=")
        if equals and name.strip() == b"b":
            ends_line = place == len(tags) - 1 and value.endswith(b"\n")
            tags[place] = name + b"=" + (b"\r\n" if ends_line else b"")
            break
    return b";".join(tags)


def _signed(parsed: SignatureField, tags: dict[bytes, bytes]) -> SignatureField:
    """What DKIM-Signature and ARC-Message-Signature have besides."""
    names = tuple(_SPACE.sub(b"", tags[b"h"]).lower().split(b":"))
    if len(names) > _NAMES_LIMIT:
        raise SignatureError("policy", f"more than {_NAMES_LIMIT} names in h=")
    header_form, body_form = _forms(tags.get(b"c"), parsed.kind)
    length = tags.get(b"l")
    if length is not None and not _LENGTH.fullmatch(length):
        raise SignatureError("neutral", "l= is no number")
    identity = ""
    if parsed.kind == "dkim":
        identity = _identity(tags, parsed.domain)
        if tags[b"v"] != b"1":
            raise SignatureError("neutral", "unknown version")
        if b"q" in tags and b"dns/txt" not in _SPACE.sub(b"", tags[b"q"]).lower().split(b":"):
            raise SignatureError("neutral", "unknown way to the key")
        if b"from" not in names:
            raise SignatureError("permerror", "From is not signed")  # RFC 6376 §5.4
    elif b"arc-seal" in names:
        raise SignatureError("fail", "an ARC-Seal is signed")  # RFC 8617 §4.1.2
    return SignatureField(
        kind=parsed.kind,
        field=parsed.field,
        algorithm=parsed.algorithm,
        domain=parsed.domain,
        selector=parsed.selector,
        signature=parsed.signature,
        names=names,
        header_form=header_form,
        body=BodyForm(body_form, None if length is None else int(length)),
        body_hash=_base64(tags[b"bh"], "bh="),
        identity=identity,
        instance=parsed.instance,
    )


def _sealed(parsed: SignatureField, tags: dict[bytes, bytes]) -> SignatureField:
    if b"h" in tags:
        raise SignatureError("fail", "a seal has no h=")  # RFC 8617 §4.1.3
    if parsed.chain_validation not in ("none", "pass", "fail"):
        raise SignatureError("fail", "unknown cv=")
    return parsed


def _tags(body: bytes) -> dict[bytes, bytes]:
    try:
        found = parse_tag_value(body)
    except InvalidTagValueList:
        raise SignatureError("neutral", "not a list of tags") from None
    return cast(dict[bytes, bytes], found)


def _name(value: bytes) -> str:
    """A domain name in A-labels; it may be written in U-labels (RFC 8616 §5)."""
    return a_labels(value.decode("utf-8", "replace"))


def _forms(value: bytes | None, kind: Kind) -> tuple[Form, Form]:
    if value is None:
        return ("relaxed", "relaxed") if kind == "message" else ("simple", "simple")
    header, _, body = value.lower().partition(b"/")
    forms = header.decode("latin-1"), body.decode("latin-1") or "simple"
    if not {*forms} <= {"simple", "relaxed"}:
        raise SignatureError("neutral", "unknown canonicalization")
    return cast(tuple[Form, Form], forms)


def _identity(tags: dict[bytes, bytes], domain: str) -> str:
    identity = tags.get(b"i", b"").decode("utf-8", "replace")
    if not identity:
        return ""
    at = a_labels(identity.rpartition("@")[2])
    if "@" not in identity or (at != domain and not at.endswith(f".{domain}")):
        raise SignatureError("permerror", "i= is not in d=")
    return identity


def _instance(tags: dict[bytes, bytes]) -> int:
    if not _NUMBER.fullmatch(tags[b"i"]):
        raise SignatureError("fail", "i= is no number")
    return int(tags[b"i"])


def _check_times(tags: dict[bytes, bytes], at: float) -> None:
    times = {}
    for name in (b"t", b"x"):
        if name in tags:
            if not _NUMBER.fullmatch(tags[name]):
                raise SignatureError("neutral", f"{name.decode()}= is no number")
            times[name] = int(tags[name])
    if b"x" in times and times[b"x"] < times.get(b"t", 0):
        raise SignatureError("neutral", "expires before it was made")
    if times.get(b"t", 0) > at + _FUTURE_SECONDS:
        raise SignatureError("fail", "made in the future")
    if times.get(b"x", at) < at:
        raise SignatureError("fail", "expired")


def _base64(value: bytes, name: str, *, word: Word = "neutral") -> bytes:
    try:
        return base64.b64decode(_SPACE.sub(b"", value), validate=True)
    except binascii.Error:
        raise SignatureError(word, f"{name} is no Base64") from None


def _lists(value: bytes | None, wanted: bytes) -> bool:
    return value is None or bool({wanted, b"*"} & set(_SPACE.sub(b"", value).lower().split(b":")))


@lru_cache(maxsize=1000)
def _loaded(octets: bytes, algorithm: str) -> RSAPublicKey | Ed25519PublicKey | None:
    try:
        if algorithm == "ed25519":
            return Ed25519PublicKey.from_public_bytes(octets)
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) else None


def _load(octets: bytes, algorithm: str) -> tuple[RSAPublicKey | Ed25519PublicKey, int]:
    key = _loaded(octets, algorithm)
    if key is None:
        raise SignatureError("permerror", "the key cannot be read")
    if isinstance(key, Ed25519PublicKey):
        return key, 256
    if key.key_size > _LARGEST_RSA_BITS or key.public_numbers().e.bit_length() > _LARGEST_EXPONENT_BITS:
        raise SignatureError("policy", "the key is too large")
    return key, key.key_size


def _ended(lines: bytes) -> bytes:
    """With the line end that the last field of a header section may lack."""
    return lines if lines.endswith(b"\r\n") else lines.rstrip(b"\r\n") + b"\r\n"
