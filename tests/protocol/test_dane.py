"""TLSA records, RFC 6698 and RFC 7672."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from protocol.certificate_chain import ChainError, read_chain
from protocol.dane import Tlsa, authenticate, usable
from tests.internet.authority import Authority, Certified, self_signed

NAME = "mx.example.net"


@cache
def _world() -> dict[str, Certified]:
    root = Authority("Root")
    between = Authority("Between", root)
    return {
        "good": between.issue(NAME),
        "root": root.own,
        "between": between.own,
        "other name": between.issue("mx.example.org"),
        "expired": between.issue(NAME, starts=timedelta(days=-3), ends=timedelta(days=-1)),
        "self-signed": self_signed("anything.example"),
        "stranger": Authority("Stranger").issue(NAME),
    }


def _record(text: str) -> Tlsa:
    usage, selector, matching_type, association = text.split()
    return Tlsa(int(usage), int(selector), int(matching_type), bytes.fromhex(association))


def _verdict(shown: str, *records: str, names: tuple[str, ...] = (NAME,)) -> str:
    chain = read_chain(_world()[shown].chain)
    try:
        return authenticate(usable([_record(text) for text in records]), chain, names, datetime.now(UTC))
    except ChainError as error:
        return error.fault


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching_type", [0, 1, 2])
@pytest.mark.parametrize("shown", ["good", "other name", "expired", "self-signed"])
def test_dane_ee_goes_by_the_record_alone(shown: str, selector: int, matching_type: int) -> None:
    """Usage 3 with any selector and matching type accepts its certificate, whatever its name, date or issuer (RFC 7672 §3.1.1)."""
    record = _world()[shown].tlsa(3, selector, matching_type)
    assert _verdict(shown, record) == "dane-ee"
    assert _verdict("stranger", record) == "certificate-not-trusted"


@pytest.mark.parametrize("anchor", ["root", "between"])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching_type", [0, 1, 2])
def test_dane_ta_wants_a_chain_and_a_name(anchor: str, selector: int, matching_type: int) -> None:
    """Usage 2 accepts what leads to its anchor, with a right name and date (RFC 7672 §3.1.2)."""
    record = _world()[anchor].tlsa(2, selector, matching_type)
    assert _verdict("good", record) == "dane-ta"
    assert _verdict("good", record, names=("other.example", NAME)) == "dane-ta"
    assert _verdict("other name", record) == "certificate-host-mismatch"
    assert _verdict("expired", record) == "certificate-expired"
    assert _verdict("stranger", record) == "certificate-not-trusted"


def test_whole_anchor_in_the_record_needs_not_be_shown() -> None:
    """An anchor that stands whole in the DNS is taken from there when the server leaves it out (RFC 7671 §5.2.2)."""
    good, between = _world()["good"], _world()["between"]
    chain = read_chain([good.certificate.public_bytes(Encoding.DER)])
    whole, digest = _record(between.tlsa(2, 0, 0)), _record(between.tlsa(2, 0, 1))
    assert authenticate([whole], chain, [NAME], datetime.now(UTC)) == "dane-ta"
    with pytest.raises(ChainError):
        authenticate([digest], chain, [NAME], datetime.now(UTC))


def test_one_record_that_matches_is_enough() -> None:
    """Records of an old and a new key stand side by side while a key changes (RFC 7671 §8.1)."""
    assert _verdict("good", _world()["stranger"].tlsa(), _world()["good"].tlsa()) == "dane-ee"


@pytest.mark.parametrize(
    "text",
    [
        "0 0 1 " + "00" * 32,  # usages of PKIX: RFC 7672 §3.1.3
        "1 1 1 " + "00" * 32,
        "4 1 1 " + "00" * 32,
        "3 2 1 " + "00" * 32,
        "3 1 3 " + "00" * 32,
        "3 1 1 " + "00" * 31,  # no SHA-256 digest
        "3 1 2 " + "00" * 32,
        "2 0 0 " + "00" * 32,  # no certificate
        "3 1 255 00",
    ],
)
def test_unusable_records(text: str) -> None:
    """Usages that SMTP has no use for, and what is unknown or malformed, are no records to go by."""
    assert usable([_record(text)]) == ()


def test_only_the_strongest_digest_counts() -> None:
    """Where SHA-512 is published for a usage and selector, SHA-256 of the same is not looked at (RFC 7671 §9)."""
    good, stranger = _world()["good"], _world()["stranger"]
    records = [_record(good.tlsa(3, 1, 1)), _record(stranger.tlsa(3, 1, 2)), _record(good.tlsa(3, 0, 1))]
    assert usable(records) == (records[1], records[2])
    assert _verdict("good", good.tlsa(3, 1, 1), stranger.tlsa(3, 1, 2)) == "certificate-not-trusted"


@pytest.mark.parametrize("kind", ["rsa", "p384", "ed25519", "ed448"])
def test_keys_of_all_kinds(kind: str) -> None:
    """The key that a record is about is the certificate's, octet for octet, whatever kind it is of."""
    make: dict[str, Callable[[], Any]] = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ed448": ed448.Ed448PrivateKey.generate,
    }
    key = make[kind]()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now)
    certificate = builder.sign(key, None if kind.startswith("ed") else hashes.SHA256())
    octets = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert Tlsa(3, 1, 0, octets).matches(certificate)
    assert Tlsa(3, 1, 1, sha256(octets).digest()).matches(certificate)


@given(st.binary(max_size=600), st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_any_record_is_usable_or_not(association: bytes, usage: int, selector: int, matching_type: int) -> None:
    """Whatever the DNS holds, asking whether it is usable or matches gives an answer and no exception."""
    record = Tlsa(usage, selector, matching_type, association)
    certificate = _world()["good"].certificate
    assert record.is_usable in (True, False)
    assert not record.matches(certificate)


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_any_chain_is_read_or_refused(chain: list[bytes]) -> None:
    """What is no certificate is refused as one that is not trusted."""
    with pytest.raises(ChainError) as caught:
        read_chain(chain)
    assert caught.value.fault == "certificate-not-trusted"
