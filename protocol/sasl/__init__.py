"""SASL (RFC 4422) as step machines: PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS, OAUTHBEARER, XOAUTH2.

A mechanism gets the client's decoded responses and says what comes next: a challenge, or what the daemon must find out.
It never decides whether a password or a token is right, never sees a socket, gets its randomness passed in, and puts
no secret into a text or repr.
"""

from collections.abc import Mapping

from protocol.sasl.exchange import (
    CancelledError,
    Challenge,
    ClientMechanism,
    Credentials,
    Lookup,
    Mechanism,
    ProofError,
    Proven,
    SaslError,
    Step,
    Token,
    decode_initial,
    decode_response,
    encode_challenge,
)
from protocol.sasl.oauth import OauthBearer, OauthBearerClient, Xoauth2, Xoauth2Client
from protocol.sasl.plain import Login, LoginClient, Plain, PlainClient, parse_plain
from protocol.sasl.scram import Keys, Scram, Verifier, derive
from protocol.sasl.scram_client import ScramClient

__all__ = [
    "BEARER",
    "BOUND",
    "MECHANISMS",
    "SCRAM",
    "CancelledError",
    "Challenge",
    "ClientMechanism",
    "Credentials",
    "Keys",
    "LoginClient",
    "Lookup",
    "Mechanism",
    "OauthBearer",
    "OauthBearerClient",
    "PlainClient",
    "ProofError",
    "Proven",
    "SaslError",
    "Scram",
    "ScramClient",
    "Step",
    "Token",
    "Verifier",
    "Xoauth2",
    "Xoauth2Client",
    "decode_initial",
    "decode_response",
    "derive",
    "encode_challenge",
    "mechanism",
    "parse_plain",
]

# Best first: a client that takes the first one it knows takes the one that gives away least.
MECHANISMS = (b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256", b"OAUTHBEARER", b"XOAUTH2", b"PLAIN", b"LOGIN")
SCRAM = frozenset({b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"})
BOUND = frozenset({b"SCRAM-SHA-256-PLUS"})  # only where the channel can be bound
BEARER = frozenset({b"OAUTHBEARER", b"XOAUTH2"})  # only where somebody issues tokens


def mechanism(name: bytes, *, nonce: str = "", bindings: Mapping[str, bytes] | None = None) -> Mechanism | None:
    """Start the server's side of an exchange; None for a name that is not served. Names are case-insensitive.

    nonce: fresh randomness, at least 16 printable characters without a comma, for SCRAM. bindings: what the channel can
    be bound by (RFC 5056), name to octets, as it was offered to the client.
    """
    match name.upper():
        case b"PLAIN":
            return Plain()
        case b"LOGIN":
            return Login()
        case b"OAUTHBEARER":
            return OauthBearer()
        case b"XOAUTH2":
            return Xoauth2()
        case b"SCRAM-SHA-256":
            return Scram(nonce=nonce, bindings=bindings or {}, is_plus=False)
        case b"SCRAM-SHA-256-PLUS" if bindings:
            return Scram(nonce=nonce, bindings=bindings, is_plus=True)
    return None
