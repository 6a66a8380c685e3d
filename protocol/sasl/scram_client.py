"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the client's side: RFC 5802 with RFC 7677."""

import hashlib
import hmac

from protocol.sasl.exchange import ProofError, SaslError, decode_base64, encode_base64
from protocol.sasl.scram import salted_password

_ITERATIONS_LIMIT = 10_000_000  # two seconds of CPU: more is an attack on the client


class ScramClient:
    """One exchange: respond(None), respond(server-first), respond(server-final), which checks the server.

    binding: name and octets of the channel binding: then this is -PLUS. is_able: the client could bind, but the server
    does not offer it (the flag "y").
    """

    def __init__(
        self,
        authcid: str,
        password: str,
        *,
        nonce: str,
        binding: tuple[str, bytes] | None = None,
        is_able: bool = False,
        authzid: str = "",
    ) -> None:
        name, octets = binding or ("", b"")
        flag = f"p={name}" if binding else "y" if is_able else "n"
        self._header = f"{flag},{f'a={_saslname(authzid)}' if authzid else ''},".encode()
        self._bound = self._header + octets
        self._password = password
        self._nonce = nonce.encode()
        self._bare = f"n={_saslname(authcid)},r={nonce}".encode()
        self._signature: bytes | None = None
        self.is_verified = False  # the server has proven that it knows the verifier

    def respond(self, challenge: bytes | None) -> bytes:
        """ClientMechanism.respond. Raises ProofError when the server does not know the verifier."""
        if not challenge:
            return self._header + self._bare
        if self._signature is None:
            return self._final(challenge)
        if not challenge.startswith(b"v=") or not hmac.compare_digest(
            decode_base64(challenge[2:].partition(b",")[0]), self._signature
        ):
            raise ProofError("the server does not know the password")
        self.is_verified = True
        return b""

    def _final(self, server_first: bytes) -> bytes:
        nonce, salt, iterations = _server_first(server_first)
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ProofError("the server did not take up the nonce")
        if not 4096 <= iterations <= _ITERATIONS_LIMIT:  # RFC 7677 §4
            raise SaslError("unreasonable iteration count")
        salted = salted_password(self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        without_proof = b"c=%b,r=%b" % (encode_base64(self._bound), nonce)
        message = b",".join((self._bare, server_first, without_proof))
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        self._signature = hmac.digest(server_key, message, "sha256")
        return without_proof + b",p=" + encode_base64(proof)


# server-first-message = [reserved-mext ","] nonce "," salt "," iteration-count ["," extensions]
def _server_first(octets: bytes) -> tuple[bytes, bytes, int]:
    fields = octets.split(b",")
    if len(fields) < 3 or [field[:2] for field in fields[:3]] != [b"r=", b"s=", b"i="] or not fields[2][2:].isdigit():
        raise SaslError("expected nonce, salt and iteration count")
    return fields[0][2:], decode_base64(fields[1][2:]), int(fields[2][2:][:9])


def _saslname(name: str) -> str:
    return name.replace("=", "=3D").replace(",", "=2C")
