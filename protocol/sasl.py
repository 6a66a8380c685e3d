"""SASL server mechanisms as step machines: the framework of RFC 4422, PLAIN of RFC 4616, the base64 lines around them.

A mechanism gets the client's decoded responses and yields challenges until it has Credentials. It never decides
whether they are right, never sees a socket, and never puts a password into a text or repr.
"""

import binascii
from dataclasses import dataclass, field
from typing import Protocol


class SaslError(Exception):
    """The client's response breaks the mechanism's grammar. The text is safe for the peer."""


class CancelledError(SaslError):
    """The client sent "*" instead of a response (RFC 5034 §4, RFC 4954 §4)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the client must answer next, before base64."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the client says it is, to be verified by the daemon."""

    authzid: str  # the identity to act as; "" means the one of authcid
    authcid: str
    password: str = field(repr=False)

    @property
    def acts_as_itself(self) -> bool:
        """Whether the authorization identity is absent or names the same login."""
        return not self.authzid or self.authzid.casefold() == self.authcid.casefold()


class Mechanism(Protocol):
    """One exchange. step(None) starts it without an initial response."""

    def step(self, response: bytes | None) -> Challenge | Credentials:
        """Take the next response. Raises SaslError, which ends the exchange, and nothing else."""
        ...


class Plain:
    """PLAIN, RFC 4616 §2: one message, the client speaks first."""

    def step(self, response: bytes | None) -> Challenge | Credentials:
        return Challenge(b"") if response is None else parse_plain(response)


MECHANISMS: dict[bytes, type[Mechanism]] = {b"PLAIN": Plain}


def mechanism(name: bytes) -> Mechanism | None:
    """Start the exchange of a mechanism by its name, which is case-insensitive in every profile we serve."""
    kind = MECHANISMS.get(name.upper())
    return None if kind is None else kind()


# message = [authzid] UTF8NUL authcid UTF8NUL passwd; authcid and passwd have at least one character
def parse_plain(octets: bytes) -> Credentials:
    """Take a PLAIN message apart. Raises SaslError, and nothing else."""
    parts = octets.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise SaslError("expected [authzid] NUL authcid NUL password")
    try:
        authzid, authcid, password = (part.decode() for part in parts)
    except UnicodeDecodeError:
        raise SaslError("expected UTF-8") from None
    return Credentials(authzid, authcid, password)


def decode_response(line: bytes) -> bytes:
    """Decode one base64 line without its CRLF. Raises CancelledError for "*", SaslError for what is no base64."""
    if line == b"*":
        raise CancelledError("authentication cancelled")
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise SaslError("expected base64") from None


def decode_initial(argument: bytes) -> bytes:
    """Decode an initial response on the command line: "=" is the empty one (RFC 5034 §4, RFC 4959 §3)."""
    return b"" if argument == b"=" else decode_response(argument)


def encode_challenge(challenge: Challenge) -> bytes:
    """The challenge as it goes after "+ ", without CRLF."""
    return binascii.b2a_base64(challenge.octets, newline=False)
