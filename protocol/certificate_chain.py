"""Whether a chain of certificates proves a server's name (RFC 5280, RFC 6125): the one test behind MTA-STS and DANE-TA.

The search for a path is that of `cryptography`; here is what is asked of it and, when it finds none, what was wrong, in words of
RFC 8460 §4.3. What only public authorities must put into certificates is not asked for: private ones are anchors like any other.
"""

from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    Subject,
)

CHAIN_LIMIT = 10  # certificates of a server that are looked at; public chains have two to four

ChainFault: TypeAlias = Literal["certificate-host-mismatch", "certificate-expired", "certificate-not-trusted"]

_SERVER = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
_AUTHORITY = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)


class ChainError(Exception):
    """The chain does not prove the name. `fault` is a result-type of RFC 8460 §4.3; the text is for the log."""

    def __init__(self, fault: ChainFault, text: str) -> None:
        super().__init__(text)
        self.fault: ChainFault = fault


def load_certificate(octets: bytes) -> x509.Certificate | None:
    """The certificate in DER; None: it is none that can be used."""
    try:
        return x509.load_der_x509_certificate(octets)
    except Exception:  # strangers make them, and the library has exceptions of many kinds for what is wrong
        return None


def read_chain(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """The certificates that a server showed, in DER, its own first. Raises ChainError when that cannot be read."""
    read = [load_certificate(octets) for octets in chain[:CHAIN_LIMIT]]
    if not read:
        raise ChainError("certificate-not-trusted", "the server showed no certificate")
    if read[0] is None:
        raise ChainError("certificate-not-trusted", "the certificate cannot be read")
    return [certificate for certificate in read if certificate is not None]


def prove(chain: Sequence[x509.Certificate], anchors: Store, names: Sequence[str], now: datetime) -> None:
    """Check that the chain leads to an anchor and that its first certificate is for one of the names.

    A name is an A-label or an IP address; one in the certificate's subject alone does not count. `now` is aware. Raises ChainError.
    """
    leaf, *others = chain
    told = "there is no name to check"
    for name in names:
        builder = PolicyBuilder().store(anchors).time(now).max_chain_depth(CHAIN_LIMIT)
        builder = builder.extension_policies(ca_policy=_AUTHORITY, ee_policy=_SERVER)
        try:
            builder.build_server_verifier(_subject(name)).verify(leaf, others)
        except Exception as error:  # VerificationError, and what telling of a certificate can raise
            told = str(error).partition(" (encountered processing")[0]
        else:
            return
    raise ChainError(_fault(leaf, told, now), told)


def _subject(name: str) -> Subject:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _fault(leaf: x509.Certificate, told: str, now: datetime) -> ChainFault:
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        return "certificate-expired"
    return "certificate-host-mismatch" if "subjectAltName" in told else "certificate-not-trusted"
