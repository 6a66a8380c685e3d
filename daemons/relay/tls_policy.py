"""What TLS a host must show before mail is given to it, as one value: made by daemons/relay/routes.py, kept to by the connection.

Order of the words, RFC 7672 §2.2 and RFC 8461 §2: where TLSA records can be believed they decide; else MTA-STS; else what the route
asks for; else TLS is taken where it is offered, whoever the server is.

A connection does STARTTLS as `wants_tls` and `starts_with_tls` say, with `context()` and `server_name`. Then check(ssl_object)
raises TlsFailure when nothing may be sent. Where there is no TLS (it is not offered; or its handshake failed, and the host was
connected to again because `is_mandatory` is false) without_tls() does that.
"""

import asyncio
import ssl
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, TypeAlias

from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import Store

from protocol.certificate_chain import ChainError, load_certificate, prove, read_chain
from protocol.dane import DaneUsage, Tlsa, authenticate
from protocol.tls_rpt import FailureType, PolicyType

Mode: TypeAlias = Literal["none", "may", "encrypt", "verify", "dane"]
Basis: TypeAlias = Literal["", "route", "mta-sts", "dane", "requiretls"]

# OpenSSL's own lists: Python's is shorter, and old servers would get nothing, or mail in the clear. Where the choice is between
# weak TLS and none, weak TLS it is (RFC 7435 §3).
_STRONG, _WEAK = "DEFAULT", "DEFAULT:@SECLEVEL=1"


class TlsFailure(Exception):
    """A session that must not go on, or could not. `kind` is a result-type of RFC 8460 §4.3; the text is for trace and bounce."""

    def __init__(self, kind: FailureType, text: str) -> None:
        super().__init__(text)
        self.kind: FailureType = kind


@dataclass(frozen=True, slots=True)
class TlsResult:
    """How a session is protected: stored with each attempt as its text."""

    version: str = ""  # "TLSv1.3"; empty: no TLS
    cipher: str = ""
    verified: DaneUsage | Literal["", "pkix"] = ""  # by what the server is authentic; empty: by nothing
    failure: TlsFailure | None = None  # what was wrong and did not matter: reported under MTA-STS's testing mode

    def __str__(self) -> str:
        """ "TLSv1.3 TLS_AES_256_GCM_SHA384 verified (dane-ee)"; empty without TLS."""
        if not self.version:
            return ""
        return f"{self.version} {self.cipher} " + (f"verified ({self.verified})" if self.verified else "not verified")


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What one host must show."""

    mode: Mode = "may"
    basis: Basis = ""  # who asks for it
    starts_with_tls: bool = False  # the port begins with TLS (RFC 8314 §3.3): a smarthost's 465
    server_name: str | None = None  # for SNI; None: an address literal
    names: tuple[str, ...] = ()  # one of them must be in the certificate, where names count
    tlsa: tuple[
        Tlsa, ...
    ] = ()  # the usable ones; empty with mode dane: encrypt, but nothing to verify by (RFC 7672 §2.2)
    authority: str = ""  # PEM file of the anchors; empty: those of the system
    minimum: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    is_testing: bool = False  # verified, told and reported, but never in the way: MTA-STS testing (RFC 8461 §5)
    needs_requiretls: bool = False  # the peer must announce REQUIRETLS after TLS has begun (RFC 8689 §4.2.1)
    policy_type: PolicyType = "no-policy-found"  # these three for reports: RFC 8460 §4.4
    policy_strings: tuple[str, ...] = ()
    mx_patterns: tuple[str, ...] = ()
    fault: TlsFailure | None = field(default=None, compare=False)  # what testing mode already found before connecting

    @property
    def wants_tls(self) -> bool:
        """Whether STARTTLS is tried where it is offered."""
        return self.mode != "none"

    @property
    def is_mandatory(self) -> bool:
        """Whether nothing is sent without TLS; otherwise, when its handshake fails, the host is tried again without."""
        return self.mode in ("encrypt", "verify", "dane") and not self.is_testing

    def context(self) -> ssl.SSLContext:
        """For the handshake. It refuses no certificate: check() does."""
        return _context(self.minimum, _STRONG if self.is_mandatory else _WEAK)

    def check(self, ssl_object: ssl.SSLObject | ssl.SSLSocket, now: datetime | None = None) -> TlsResult:
        """Look at a session after its handshake, before anything is sent in it. Raises TlsFailure."""
        version, cipher = ssl_object.version() or "", (ssl_object.cipher() or ("",))[0]
        try:
            verified = self._verified(ssl_object, now or datetime.now(UTC))
        except ChainError as error:
            failure = TlsFailure(error.fault, f"the server is not authentic ({self.basis or 'route'}): {error}")
            if not self.is_testing:
                raise failure from error
            return TlsResult(version, cipher, "", failure)
        return TlsResult(version, cipher, verified, self.fault)

    def without_tls(self) -> TlsResult:
        """The result of a session that has no TLS. Raises TlsFailure where it must have it."""
        failure = TlsFailure("starttls-not-supported", "the server does not offer TLS, which is required")
        if self.is_mandatory:
            raise failure
        return TlsResult(failure=failure if self.is_testing else None)

    def _verified(self, ssl_object: ssl.SSLObject | ssl.SSLSocket, now: datetime) -> DaneUsage | Literal["", "pkix"]:
        if self.mode == "dane" and self.tlsa:
            return authenticate(self.tlsa, read_chain(shown_chain(ssl_object)), self.names, now)
        if self.mode == "verify":
            anchors = _anchors(self.authority)
            if anchors is None:
                raise ChainError("certificate-not-trusted", "no authority is trusted here")
            prove(read_chain(shown_chain(ssl_object)), anchors, self.names, now)
            return "pkix"
        return ""


def handshake_failed(error: Exception) -> TlsFailure:
    """What a failed handshake is called."""
    reason = getattr(error, "reason", None) or type(error).__name__
    return TlsFailure("validation-failure", f"the TLS handshake failed: {str(reason).replace('_', ' ').lower()}")


def shown_chain(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> Sequence[bytes]:
    """What the server showed, its own certificate first, in DER: not verified, not ordered.

    `ssl` shows it from Python 3.13 on; before, the object below it does.
    """
    found: Any = ssl_object
    if not hasattr(found, "get_unverified_chain"):
        found = found._sslobj
    chain = found.get_unverified_chain() or ()
    return [item if isinstance(item, bytes) else ssl.PEM_cert_to_DER_cert(item.public_bytes()) for item in chain]


async def load_anchors(authority: str = "") -> None:
    """Read the file now, in a thread, so that no session waits for it. Raises OSError or ValueError."""
    await asyncio.to_thread(_anchors, authority)


@cache
def _context(minimum: str, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(ciphers)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # check() decides, by more than a context can: TLSA records, testing, reasons
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if minimum == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
    return context


@cache
def _anchors(authority: str) -> Store | None:
    """The trusted certificates of the file, or of the system; None: there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # odd ones among those of the system
        loaded = ssl.create_default_context(cafile=authority or None).get_ca_certs(binary_form=True)
        found = [load_certificate(octets) for octets in loaded]
    readable = [certificate for certificate in found if certificate is not None]
    return Store(readable) if readable else None
