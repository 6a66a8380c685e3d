"""TLSA records, RFC 6698, as SMTP takes them, RFC 7672: which of them are usable, and whether a server's chain matches one.

What DNSSEC said about the records is the caller's to check: here they are believed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import Store

from protocol.certificate_chain import ChainError, load_certificate, prove

DaneUsage: TypeAlias = Literal["dane-ta", "dane-ee"]

_DANE_TA, _DANE_EE = 2, 3  # certificate usages, RFC 6698 §2.1.1 with the names of RFC 7218
_CERTIFICATE, _PUBLIC_KEY = 0, 1  # selectors, RFC 6698 §2.1.2
_FULL, _SHA256, _SHA512 = 0, 1, 2  # matching types, RFC 6698 §2.1.3
_DIGESTS = {_SHA256: hashlib.sha256, _SHA512: hashlib.sha512}


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One record."""

    usage: int
    selector: int
    matching_type: int
    association: bytes

    def __str__(self) -> str:
        """The presentation form, as a policy-string of RFC 8460 §4.4 wants it."""
        return f"{self.usage} {self.selector} {self.matching_type} {self.association.hex()}"

    @property
    def is_usable(self) -> bool:
        """Whether SMTP can use it: usages 0 and 1 it cannot (RFC 7672 §3.1.3), and what is unknown or broken neither."""
        if self.usage not in (_DANE_TA, _DANE_EE) or self.selector not in (_CERTIFICATE, _PUBLIC_KEY):
            return False
        if self.matching_type in _DIGESTS:
            return len(self.association) == _DIGESTS[self.matching_type]().digest_size
        if self.matching_type != _FULL:
            return False
        return self.selector == _PUBLIC_KEY or self.certificate() is not None

    def certificate(self) -> x509.Certificate | None:
        """The whole certificate, where the record holds one."""
        is_whole = (self.selector, self.matching_type) == (_CERTIFICATE, _FULL)
        return load_certificate(self.association) if is_whole else None

    def matches(self, certificate: x509.Certificate) -> bool:
        """Whether the record is about this certificate or its key, RFC 6698 §2.1."""
        if self.selector == _CERTIFICATE:
            octets = certificate.public_bytes(Encoding.DER)
        else:
            octets = _public_key(certificate.tbs_certificate_bytes)
        digest = _DIGESTS.get(self.matching_type)
        return self.association == (octets if digest is None else digest(octets).digest())


def _public_key(tbs: bytes) -> bytes:
    """The octets of subjectPublicKeyInfo as the certificate has them; `tbs` is DER that was parsed already (RFC 5280 §4.1).

    Encoding the parsed key again would lose its form, and fail for kinds of keys that the library does not know.
    """
    start, _ = _element(tbs, 0)
    if tbs[start] == 0xA0:  # version [0], left out in the first one
        _, start = _element(tbs, start)
    for _ in range(5):  # serialNumber, signature, issuer, validity, subject
        _, start = _element(tbs, start)
    _, end = _element(tbs, start)
    return tbs[start:end]


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element that begins there begins, and where it ends."""
    length, content = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, content = int.from_bytes(der[content : content + size], "big"), content + size
    return content, content + length


def usable(records: Sequence[Tlsa]) -> tuple[Tlsa, ...]:
    """The records to go by: of those with a digest only the strongest kind per usage and selector, RFC 7671 §9."""
    good = [record for record in records if record.is_usable]
    strongest: dict[tuple[int, int], int] = {}
    for record in good:
        kind = record.usage, record.selector
        strongest[kind] = max(strongest.get(kind, _FULL), record.matching_type)
    return tuple(record for record in good if record.matching_type in (_FULL, strongest[record.usage, record.selector]))


def authenticate(
    records: Sequence[Tlsa], chain: Sequence[x509.Certificate], names: Sequence[str], now: datetime
) -> DaneUsage:
    """By which kind of record the chain is authentic. `records` are usable ones. Raises ChainError.

    With DANE-EE the record alone decides: neither names nor dates of the certificate count (RFC 7672 §3.1.1). With DANE-TA the
    certificate must be for one of `names` and lead to the anchor, which the server has to show (RFC 7672 §3.1.2).
    """
    if any(record.usage == _DANE_EE and record.matches(chain[0]) for record in records):
        return "dane-ee"
    anchors = [
        certificate
        for record in records
        if record.usage == _DANE_TA
        for certificate in [record.certificate(), *chain[1:]]
        if certificate is not None and record.matches(certificate)
    ]
    if not anchors:
        raise ChainError("certificate-not-trusted", "no TLSA record matches the certificates")
    prove(chain, Store(anchors), names, now)
    return "dane-ta"
