"""What other domains publish about their TLS: records and policies of MTA-STS, records that ask for reports, TLSA records."""

from contextlib import suppress
from datetime import UTC, datetime
from functools import cache

from cryptography.x509.verification import Store

from protocol import tls_rpt
from protocol.certificate_chain import ChainError, prove, read_chain
from protocol.dane import Tlsa, usable
from protocol.mta_sts import MAX_AGE_LIMIT, StsError, parse_policy, parse_record
from tests.internet.authority import Authority


@cache
def authority() -> Authority:
    """The anchor of all chains here."""
    return Authority()


@cache
def _anchors() -> Store:
    return Store([authority().own.certificate])


def published(octets: bytes) -> None:
    """Anything is a policy or a record, or is none; what is found can be stored and rendered."""
    text = octets.decode("utf-8", "replace")
    identifier = parse_record([text])
    assert identifier is None or (identifier.isascii() and identifier.isalnum())
    with suppress(StsError):
        policy = parse_policy(text)
        assert 0 <= policy.max_age <= MAX_AGE_LIMIT
        assert all(
            pattern.isascii() and not policy.allows(f"x.{pattern}") for pattern in policy.mx if "*" not in pattern
        )
        "".join(policy.strings).encode("ascii")
    for place in tls_rpt.parse_record([text]):
        tls_rpt.mailto(place)


def certificates(octets: bytes) -> None:
    """Anything is a TLSA record or a certificate, or is none, in the one way there is."""
    usage, selector, matching_type, *_ = (*octets[:3], 0, 0, 0)
    record = Tlsa(usage, selector, matching_type, octets[3:])
    with suppress(ChainError):
        chain = read_chain([octets[3:], octets])
        for certificate in chain:
            record.matches(certificate)
        prove(chain, _anchors(), ["192.0.2.1", "mx.example.net"], datetime.now(UTC))
    assert usable([record]) in ((), (record,))
