"""PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login): the password itself goes over, so only through TLS."""

from protocol.sasl.exchange import Challenge, Credentials, SaslError, utf8


class Plain:
    """PLAIN, RFC 4616 §2: one message, the client speaks first."""

    def step(self, response: bytes | None) -> Challenge | Credentials:
        """Mechanism.step."""
        return Challenge(b"") if response is None else parse_plain(response)


class Login:
    """LOGIN: the server asks for the name, then for the password. What it asks with is free; Outlook wants these words."""

    def __init__(self) -> None:
        self._name: str | None = None

    def step(self, response: bytes | None) -> Challenge | Credentials:
        """Mechanism.step. An initial response is the name."""
        if response is None:
            return Challenge(b"Username:")
        if not response or b"\0" in response:
            raise SaslError("expected a name and a password")
        if self._name is None:
            self._name = utf8(response)
            return Challenge(b"Password:")
        return Credentials("", self._name, utf8(response))


# message = [authzid] UTF8NUL authcid UTF8NUL passwd; authcid and passwd have at least one character
def parse_plain(octets: bytes) -> Credentials:
    """Take a PLAIN message apart. Raises SaslError, and nothing else."""
    parts = octets.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise SaslError("expected [authzid] NUL authcid NUL password")
    authzid, authcid, password = (utf8(part) for part in parts)
    return Credentials(authzid, authcid, password)


class PlainClient:
    """The client's side of PLAIN."""

    def __init__(self, authcid: str, password: str, authzid: str = "") -> None:
        self._message = f"{authzid}\0{authcid}\0{password}".encode()

    def respond(self, challenge: bytes | None) -> bytes:
        """ClientMechanism.respond."""
        if challenge:
            raise SaslError("unexpected challenge")
        return self._message


class LoginClient:
    """The client's side of LOGIN. It cannot start: the server asks first."""

    def __init__(self, authcid: str, password: str) -> None:
        self._answers = [password.encode(), authcid.encode()]

    def respond(self, challenge: bytes | None) -> bytes:
        """ClientMechanism.respond."""
        if challenge is None or not self._answers:
            raise SaslError("unexpected challenge")
        return self._answers.pop()
