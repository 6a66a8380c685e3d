"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side: RFC 5802 with RFC 7677.

The client proves that it knows the password without sending it, the server that it knows the verifier. -PLUS binds the
exchange to the TLS channel (RFC 5056), so that nobody in the middle can pass it on.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from protocol.sasl.exchange import Challenge, Lookup, ProofError, Proven, SaslError, decode_base64, encode_base64, utf8
from protocol.sasl.saslprep import lenient

_NONCE = re.compile(rb"[!-+\--~]+")  # printable without ","
_BINDING_NAME = re.compile(rb"[A-Za-z0-9.\-]+")
_ATTRIBUTE = re.compile(rb"[A-Za-z]=[^\0,]+")
_SALTED_OCTETS = 32


@dataclass(frozen=True, slots=True)
class Keys:
    """What the server keeps of one password (RFC 5802 §3): neither the password nor what a client proves it with."""

    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def __bytes__(self) -> bytes:
        return self.stored_key + self.server_key

    @classmethod
    def parse(cls, octets: bytes) -> "Keys":
        """Both in a row."""
        return cls(octets[:_SALTED_OCTETS], octets[_SALTED_OCTETS:])


@dataclass(frozen=True, slots=True)
class Verifier:
    """Keys with the parameters they were made with. Its text form is that of RFC 5803 §2."""

    salt: bytes
    iterations: int
    keys: Keys

    def __str__(self) -> str:
        salt, stored, server = (
            encode_base64(octets).decode() for octets in (self.salt, self.keys.stored_key, self.keys.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """Raises ValueError."""
        found = re.fullmatch(r"SCRAM-SHA-256\$([1-9]\d{0,8}):([^:$]+)\$([^:$]+):([^:$]+)", text)
        if found is None:
            raise ValueError("no SCRAM-SHA-256 verifier")
        try:
            salt, stored, server = (decode_base64(part.encode()) for part in found.group(2, 3, 4))
        except SaslError as error:
            raise ValueError(str(error)) from None
        return cls(salt, int(found[1]), Keys(stored, server))


def salted_password(password: str, salt: bytes, iterations: int) -> bytes:
    """Hi(Normalize(password), salt, i), RFC 5802 §2.2: PBKDF2, 0.2 us of CPU an iteration."""
    prepared = lenient(password).encode(errors="surrogatepass")
    return hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations, _SALTED_OCTETS)


def derive(password: str, salt: bytes, iterations: int) -> Verifier:
    """The verifier of a password."""
    salted = salted_password(password, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return Verifier(salt, iterations, Keys(hashlib.sha256(client_key).digest(), server_key))


@dataclass(frozen=True, slots=True)
class _ClientFirst:
    header: bytes  # gs2-header, which the client repeats in its final message
    binding: bytes | None  # cb-name of "p="
    is_suspicious: bool  # "y": the client can bind channels and believes that we cannot
    authzid: str
    authcid: str
    nonce: bytes
    bare: bytes


class Scram:
    """One exchange: step() gives a Lookup, supply() the challenge, step() then Proven or ProofError.

    bindings: what the channel can be bound by, name to octets; empty when -PLUS is not offered on it.
    """

    def __init__(self, *, nonce: str, bindings: Mapping[str, bytes], is_plus: bool) -> None:
        if not _NONCE.fullmatch(nonce.encode()) or len(nonce) < 16:
            raise ValueError("a nonce of at least 16 printable characters is needed")
        self._nonce = nonce.encode()
        self._bindings = bindings
        self._is_plus = is_plus
        self._first: _ClientFirst | None = None
        self._server_first = b""
        self._keys: Sequence[Keys] = ()

    def step(self, response: bytes | None) -> Challenge | Lookup | Proven:
        """Mechanism.step."""
        if response is None:
            return Challenge(b"")
        if self._first is None:
            self._first = _client_first(response)
            self._check_binding(self._first)
            return Lookup(self._first.authzid, self._first.authcid)
        return self._finish(self._first, response)

    def supply(self, salt: bytes, iterations: int, keys: Sequence[Keys]) -> Challenge:
        """Answer a Lookup with all keys that the proof may be for. Every one of them is tried, whichever fits.

        For a login that does not exist, keys that nobody has the password of.
        """
        assert self._first is not None and keys, "only after a Lookup, and never without keys"  # noqa: PT018
        self._keys = tuple(keys)
        parts = (self._first.nonce + self._nonce, encode_base64(salt), iterations)
        self._server_first = b"r=%b,s=%b,i=%d" % parts
        return Challenge(self._server_first)

    def _check_binding(self, first: _ClientFirst) -> None:
        """RFC 5802 §6: what the client says of channel binding fits the mechanism it chose, and what we offered."""
        if self._is_plus:
            if first.binding is None:
                raise SaslError("expected channel binding")
            if first.binding.decode() not in self._bindings:
                raise SaslError("unsupported channel binding type")
        elif first.binding is not None:
            raise SaslError("channel binding belongs to the -PLUS mechanism")
        elif first.is_suspicious and self._bindings:
            raise SaslError("server does support channel binding")  # somebody hid -PLUS from the client

    # client-final-message = channel-binding "," nonce ["," extensions] "," proof
    def _finish(self, first: _ClientFirst, octets: bytes) -> Proven:
        without_proof, comma, proof = octets.rpartition(b",p=")
        fields = without_proof.split(b",")
        if not comma or len(fields) < 2 or not fields[0].startswith(b"c=") or not fields[1].startswith(b"r="):
            raise SaslError("expected channel binding, nonce and proof")
        if not all(_ATTRIBUTE.fullmatch(extension) for extension in fields[2:]):
            raise SaslError("malformed extension")
        bound = b"" if first.binding is None else self._bindings[first.binding.decode()]
        is_bound = hmac.compare_digest(decode_base64(fields[0][2:]), first.header + bound)
        is_fresh = hmac.compare_digest(fields[1][2:], first.nonce + self._nonce)
        if not is_bound or not is_fresh:
            raise ProofError("channel bindings or nonces do not match")
        message = b",".join((first.bare, self._server_first, without_proof))
        index = _proven_key(self._keys, message, decode_base64(proof))
        if index is None:
            raise ProofError("invalid proof")
        signature = hmac.digest(self._keys[index].server_key, message, "sha256")
        return Proven(first.authzid, first.authcid, index, b"v=" + encode_base64(signature))


def _proven_key(keys: Sequence[Keys], message: bytes, proof: bytes) -> int | None:
    """The key whose password the client knows: H(ClientProof XOR HMAC(StoredKey, AuthMessage)) = StoredKey."""
    if len(proof) != _SALTED_OCTETS:
        proof = bytes(_SALTED_OCTETS)
    given, found = int.from_bytes(proof, "big"), None
    for index, key in enumerate(keys):  # all of them, whichever fits: the time tells nothing
        signature = int.from_bytes(hmac.digest(key.stored_key, message, "sha256"), "big")
        client_key = (given ^ signature).to_bytes(_SALTED_OCTETS, "big")
        if hmac.compare_digest(hashlib.sha256(client_key).digest(), key.stored_key):
            found = index
    return found


# client-first-message = gs2-header client-first-message-bare; gs2-header = gs2-cbind-flag "," [authzid] ","
def _client_first(octets: bytes) -> _ClientFirst:
    flag, _, rest = octets.partition(b",")
    authzid, comma, bare = rest.partition(b",")
    if not comma or (authzid and not authzid.startswith(b"a=")):
        raise SaslError("expected a GS2 header")
    binding: bytes | None = None
    if flag.startswith(b"p="):
        binding = flag[2:]
        if not _BINDING_NAME.fullmatch(binding):
            raise SaslError("malformed channel binding name")
    elif flag not in (b"n", b"y"):
        raise SaslError("expected a channel binding flag")
    fields = bare.split(b",")
    if fields[0].startswith(b"m="):
        raise SaslError("unsupported extension")  # RFC 5802 §5.1: a mandatory one
    if len(fields) < 2 or not fields[0].startswith(b"n=") or not fields[1].startswith(b"r="):
        raise SaslError("expected name and nonce")
    nonce = fields[1][2:]
    if not _NONCE.fullmatch(nonce) or not all(_ATTRIBUTE.fullmatch(extension) for extension in fields[2:]):
        raise SaslError("malformed nonce or extension")
    header = octets[: len(octets) - len(bare)]
    actor = parse_saslname(authzid[2:]) if authzid else ""
    return _ClientFirst(header, binding, flag == b"y", actor, parse_saslname(fields[0][2:]), nonce, bare)


# saslname = 1*(value-safe-char / "=2C" / "=3D")
def parse_saslname(octets: bytes) -> str:
    if not octets or b"\0" in octets or b"=" in octets.replace(b"=2C", b"").replace(b"=3D", b""):
        raise SaslError("malformed name")
    return utf8(octets.replace(b"=2C", b",").replace(b"=3D", b"="))
