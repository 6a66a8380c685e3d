"""What every SASL mechanism shares: the steps of an exchange (RFC 4422 §5) and the base64 lines that carry them."""

import binascii
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias


class SaslError(Exception):
    """The peer's message breaks the mechanism's grammar or its rules. The text is safe for the peer."""


class CancelledError(SaslError):
    """The client sent "*" instead of a response (RFC 5034 §4, RFC 4954 §4)."""


class ProofError(SaslError):
    """The client could not prove that it knows the password, or the server that it knows the verifier."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the client must answer next, before base64."""

    octets: bytes


class _Acting:
    """Both identities of an exchange: the one that is proven, and the one to act as."""

    __slots__ = ()
    authzid: str  # the identity to act as; "" means the one of authcid
    authcid: str

    @property
    def acts_as_itself(self) -> bool:
        """Whether the authorization identity is absent or names the same login."""
        return not self.authzid or self.authzid.casefold() == self.authcid.casefold()


@dataclass(frozen=True, slots=True)
class Credentials(_Acting):
    """Who the client says it is (PLAIN, LOGIN); the daemon verifies the password."""

    authzid: str
    authcid: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lookup(_Acting):
    """SCRAM wants what is kept of this login: the daemon calls supply(), whether there is such a login or not."""

    authzid: str
    authcid: str


@dataclass(frozen=True, slots=True)
class Proven(_Acting):
    """SCRAM: the client knows the password of key number `index`. It is to be sent server_final, and answers empty."""

    authzid: str
    authcid: str
    index: int
    server_final: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """OAUTHBEARER, XOAUTH2: a bearer token; the daemon checks it and answers a bad one with refusal()."""

    authzid: str  # "" means the token's own subject
    token: str = field(repr=False)


Step: TypeAlias = Challenge | Credentials | Lookup | Proven | Token


class Mechanism(Protocol):
    """The server's side of one exchange. step(None) starts it without an initial response."""

    def step(self, response: bytes | None) -> Step:
        """Take the next response. Raises SaslError, which ends the exchange, and nothing else."""
        ...


class ClientMechanism(Protocol):
    """The client's side of one exchange."""

    def respond(self, challenge: bytes | None) -> bytes:
        """The answer to a challenge; to None, the initial response. Raises SaslError, which ends the exchange."""
        ...


def decode_response(line: bytes) -> bytes:
    """Decode one base64 line without its CRLF. Raises CancelledError for "*", SaslError for what is no base64."""
    if line == b"*":
        raise CancelledError("authentication cancelled")
    return decode_base64(line)


def decode_base64(octets: bytes) -> bytes:
    """RFC 4648 §4, without anything that does not belong there. Raises SaslError."""
    try:
        return binascii.a2b_base64(octets, strict_mode=True)
    except binascii.Error:
        raise SaslError("expected base64") from None


def decode_initial(argument: bytes) -> bytes:
    """Decode an initial response on the command line: "=" is the empty one (RFC 5034 §4, RFC 4959 §3)."""
    return b"" if argument == b"=" else decode_response(argument)


def encode_base64(octets: bytes) -> bytes:
    """RFC 4648 §4, in one line."""
    return binascii.b2a_base64(octets, newline=False)


def encode_challenge(challenge: Challenge) -> bytes:
    """The challenge as it goes after "+ ", without CRLF."""
    return encode_base64(challenge.octets)


def utf8(octets: bytes) -> str:
    """Raises SaslError for what is no UTF-8."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise SaslError("expected UTF-8") from None
