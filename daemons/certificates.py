"""A private certificate authority and a server certificate of it, for trying out and for closed networks (RFC 5280).

The authority's key never leaves the state directory. Public service wants a certificate that clients trust already: then
the section [tls] names it and nothing here is used.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397  # what browsers and mail clients accept at most
RENEWAL_DAYS = 30  # a certificate with less to live is replaced
NAMES = ("localhost", "127.0.0.1", "::1", "mail.example.test")

_BACKDATED = timedelta(hours=1)  # clients whose clocks are behind


@dataclass(frozen=True, slots=True)
class Issued:
    """Where the files lie."""

    authority: Path  # for clients to trust
    certificate: Path
    key: Path


def issue(directory: Path, *, now: datetime, names: tuple[str, ...] = NAMES) -> Issued:
    """The certificate for `names` in `directory`: the one that is there, or a new one when it runs out. Blocking I/O.

    Keys are made once and kept. What does not fit together, after a crash or a loss, is made anew. Raises OSError.
    """
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    issued = Issued(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    authority_key = _keep_key(directory / "ca.key")
    server_key = _keep_key(issued.key)
    authority = _read(issued.authority)
    if authority is None or not _fits(authority, authority, authority_key) or not _lasts(authority, now, SERVER_DAYS):
        authority = _authority(authority_key, now)
        write_atomically(issued.authority, authority.public_bytes(serialization.Encoding.PEM), 0o644)
    found = _read(issued.certificate)
    is_good = found is not None and _fits(found, authority, server_key) and _lasts(found, now, RENEWAL_DAYS)
    if found is None or not is_good or _names(found) != set(names):
        found = _server(server_key, authority, authority_key, names, now)
        write_atomically(issued.certificate, found.public_bytes(serialization.Encoding.PEM), 0o644)
    return issued


def complaint(certificate: Path, *, now: datetime) -> str | None:
    """What is wrong with the server certificate in a PEM file, in one line; None when it is valid for some time yet."""
    try:
        found = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (OSError, ValueError, IndexError) as error:
        return f"{certificate}: {error}"
    if now < found.not_valid_before_utc:
        return f"{certificate}: not valid before {found.not_valid_before_utc:%Y-%m-%d}"
    if not _lasts(found, now, RENEWAL_DAYS):
        verb = "expires" if now < found.not_valid_after_utc else "has expired"
        return f"{certificate}: {verb} on {found.not_valid_after_utc:%Y-%m-%d}"
    return None


def write_atomically(path: Path, octets: bytes, mode: int) -> None:
    """Put a whole file in its place: readers see the old one or the new one. Durable when it returns."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask
        file.write(octets)
        file.flush()
        os.fsync(descriptor)
    unfinished.rename(path)


def _keep_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    octets = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    write_atomically(path, octets, 0o600)
    return key


def _read(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None


def _fits(certificate: x509.Certificate, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether the certificate is for this key and by this issuer: a lost file may have been made anew."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return certificate.public_key() == key.public_key()


def _lasts(certificate: x509.Certificate, now: datetime, days: int) -> bool:
    return certificate.not_valid_after_utc - now > timedelta(days=days)


def _names(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Postwerk private CA")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # keyCertSign, cRLSign
    return (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
    now: datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # digitalSignature
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _builder(subject, authority.subject, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    start = now.astimezone(UTC) - _BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
