"""OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's and Microsoft's earlier form): a bearer token instead of a password.

What a token means is the daemon's to find out; here is only what goes over the wire.
"""

import json
import re

from protocol.sasl.exchange import Challenge, SaslError, Token, utf8
from protocol.sasl.scram import parse_saslname

_KVSEP = b"\x01"
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)")  # b64token, RFC 6750 §2.1
_KEY = re.compile(rb"[A-Za-z]+")


class OauthBearer:
    """OAUTHBEARER, RFC 7628 §3: one message; a refused token is answered with JSON, which the client acknowledges."""

    def step(self, response: bytes | None) -> Challenge | Token:
        """Mechanism.step."""
        return Challenge(b"") if response is None else _parse_bearer(response)

    def refusal(self, scope: str = "", configuration: str = "") -> Challenge:
        """RFC 7628 §3.2.2: why a token was refused, and where to get another."""
        told = {"status": "invalid_token", "scope": scope, "openid-configuration": configuration}
        return Challenge(json.dumps({key: value for key, value in told.items() if value}).encode())


class Xoauth2:
    """XOAUTH2: "user=" user ^A "auth=Bearer " token ^A ^A."""

    def step(self, response: bytes | None) -> Challenge | Token:
        """Mechanism.step."""
        return Challenge(b"") if response is None else _parse_xoauth2(response)

    def refusal(self, scope: str = "", configuration: str = "") -> Challenge:
        """What Google answers; the issuer's address has no place in it."""
        return Challenge(json.dumps({"status": "401", "schemes": "bearer", "scope": scope}).encode())


# client-resp = (gs2-header kvsep *kvpair kvsep) / kvsep; kvpair = key "=" value kvsep
def _parse_bearer(octets: bytes) -> Token:
    header, *pairs = octets.split(_KVSEP)
    flag, _, rest = header.partition(b",")
    authzid, comma, excess = rest.partition(b",")
    if flag not in (b"n", b"y") or not comma or excess or (authzid and not authzid.startswith(b"a=")):
        raise SaslError("expected a GS2 header")
    if len(pairs) < 2 or pairs[-2:] != [b"", b""]:
        raise SaslError("expected key-value pairs")
    return Token(parse_saslname(authzid[2:]) if authzid else "", _token(pairs[:-2]))


def _parse_xoauth2(octets: bytes) -> Token:
    user, *pairs = octets.split(_KVSEP)
    if not user.startswith(b"user=") or not user[5:] or b"\0" in user or len(pairs) < 2 or pairs[-2:] != [b"", b""]:
        raise SaslError("expected user and auth")
    return Token(utf8(user[5:]), _token(pairs[:-2]))


def _token(pairs: list[bytes]) -> str:
    """The bearer token of the one "auth" pair; host and port are hints that nothing depends on."""
    found = None
    for pair in pairs:
        key, equals, value = pair.partition(b"=")
        if not equals or not _KEY.fullmatch(key):
            raise SaslError("expected key-value pairs")
        if key.lower() == b"auth":
            bearer = _BEARER.fullmatch(value)
            if bearer is None or found is not None:
                raise SaslError("expected one bearer token")
            found = bearer[1].decode()
    if found is None:
        raise SaslError("expected a bearer token")
    return found


class OauthBearerClient:
    """The client's side of OAUTHBEARER."""

    def __init__(self, token: str, *, authzid: str = "", host: str = "", port: int = 0) -> None:
        actor = "a=" + authzid.replace("=", "=3D").replace(",", "=2C") if authzid else ""
        told = {"host": host, "port": str(port or ""), "auth": f"Bearer {token}"}
        pairs = "".join(f"{key}={value}\x01" for key, value in told.items() if value)
        self._message = f"n,{actor},\x01{pairs}\x01".encode()
        self.refusal = b""  # the server's JSON, when it refused the token

    def respond(self, challenge: bytes | None) -> bytes:
        """ClientMechanism.respond."""
        if not challenge:
            return self._message
        self.refusal = challenge
        return _KVSEP  # RFC 7628 §3.2.3: the client acknowledges a failure with this


class Xoauth2Client:
    """The client's side of XOAUTH2."""

    def __init__(self, user: str, token: str) -> None:
        self._message = f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
        self.refusal = b""

    def respond(self, challenge: bytes | None) -> bytes:
        """ClientMechanism.respond."""
        if not challenge:
            return self._message
        self.refusal = challenge
        return b""
