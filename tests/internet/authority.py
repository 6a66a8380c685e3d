"""Certificate authorities of the test internet, good ones and others, and the TLSA records that go with their certificates."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certified:
    """A key, its certificate, and the certificates above it, the nearest first."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...] = ()

    def tlsa(self, usage: int = 3, selector: int = 1, matching_type: int = 1) -> str:
        """The TLSA record of this certificate, in presentation form."""
        if selector == 0:
            octets = self.certificate.public_bytes(Encoding.DER)
        else:
            octets = self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if matching_type:
            digest = hashes.Hash(hashes.SHA256() if matching_type == 1 else hashes.SHA512())
            digest.update(octets)
            octets = digest.finalize()
        return f"{usage} {selector} {matching_type} {octets.hex()}"

    @property
    def chain(self) -> list[bytes]:
        """What a server shows, in DER."""
        return [certificate.public_bytes(Encoding.DER) for certificate in (self.certificate, *self.above)]

    def pem(self) -> bytes:
        """What a server shows, in PEM."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in (self.certificate, *self.above))

    def server_context(self, directory: Path, *, minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
        """For a server that shows it. Files for it are written to the directory."""
        number = self.certificate.serial_number
        chain, key = directory / f"{number:x}.pem", directory / f"{number:x}.key"
        chain.write_bytes(self.pem())
        key.write_bytes(
            self.key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = minimum
        context.load_cert_chain(chain, key)
        return context


class Authority:
    """One authority; below it there can be others."""

    def __init__(self, name: str = "Test Authority", above: "Authority | None" = None) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        subject = _name(name)
        issuer, signer = (above.own.certificate.subject, above.own.key) if above is not None else (subject, key)
        certificate = (
            _builder(subject, issuer, key, now - _DAY, now + 30 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .sign(signer, hashes.SHA256())
        )
        self.own: Certified = Certified(
            key, certificate, () if above is None else (above.own.certificate, *above.own.above)
        )

    def issue(self, *names: str, starts: timedelta = -_DAY, ends: timedelta = 30 * _DAY) -> Certified:
        """A server's certificate for these names or addresses; starts and ends count from now. The root is not shown."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = _builder(_name(names[0]), self.own.certificate.subject, key, now + starts, now + ends)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        shown = (self.own.certificate, *self.own.above)
        return Certified(key, builder.sign(self.own.key, hashes.SHA256()), shown)

    def file(self, directory: Path) -> str:
        """The authority's certificate as a file to trust."""
        path = directory / f"authority-{self.own.certificate.serial_number:x}.pem"
        path.write_bytes(self.own.certificate.public_bytes(Encoding.PEM))
        return str(path)


def self_signed(*names: str) -> Certified:
    """A server's certificate of nobody's."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = _builder(_name(names[0]), _name(names[0]), key, now - _DAY, now + 30 * _DAY)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    return Certified(key, builder.sign(key, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
