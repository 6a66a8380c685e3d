"""What is kept of passwords and how one is compared: argon2id for the account's, SHA-256 for app passwords, SCRAM for both.

Everything here computes, and is called off the event loop where it takes more than microseconds.
"""

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from protocol import sasl

# OWASP's second choice for argon2id: 21 ms and 19 MiB a verification; the library's default takes 102 ms and 64 MiB.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16)
# Nobody's password: what an unknown login is verified against, with the same parameters and so the same cost.
NOBODY = _HASHER.hash(secrets.token_hex(16))

# RFC 7677 §4's rule gave 15,000 in 2015. The client pays it at each login, we once per password. It is no setting: were it
# changed, accounts of before could be told from those that do not exist, which get the number of today.
ITERATIONS = 15_000
_SALT_OCTETS = 16
# 160 random bits: no hash has to be slow to keep them from being guessed (2^160 / 10^12 a second is 10^28 years), and
# no salt keeps two equal ones apart, since there are none.
_APP_PASSWORD_OCTETS = 20
_APP_PASSWORD = re.compile("[a-z2-7]{32}")


def hash_password(password: str) -> str:
    """The argon2id hash to store, in PHC string format. Takes 20 ms of CPU. Raises ValueError for an empty password."""
    secret = prepared(password)
    if not secret:
        raise ValueError("the password is empty")
    return _HASHER.hash(secret)


def stored_forms(password: str, login: str, salt_secret: bytes | None) -> tuple[str, str | None]:
    """What is stored of an account's new password: its hash and its SCRAM verifier, which without a salt_secret is none.

    login as it is stored. Takes 25 ms of CPU. Raises ValueError for an empty password.
    """
    scram = None if salt_secret is None else str(verifier_of(password, salt_secret, login))
    return hash_password(password), scram


def matches(password_hash: str, secret: bytes) -> bool:
    """Whether a prepared password is the one of a stored hash. Takes 20 ms of CPU."""
    try:
        return _HASHER.verify(password_hash, secret)
    except (Argon2Error, InvalidHashError):  # a mismatch, or a stored value that is no argon2 hash: never a way in
        return False


def prepared(password: str) -> bytes:
    """RFC 8265 §4.2.2: other spaces become SPACE, then NFC, so that all spellings of one password are equal."""
    if password.isascii():
        return password.encode()
    mapped = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    return unicodedata.normalize("NFC", mapped).encode(errors="surrogatepass")


def salt_of(secret: bytes, login: str) -> bytes:
    """The SCRAM salt of a login, whether it exists or not.

    One salt for all passwords of an account, since the exchange announces it before the client says which it has; and
    derived, so that an account has the same one before and after it gets its verifier as if it did not exist.
    """
    return hmac.digest(secret, b"SCRAM-SHA-256 salt " + login.encode(errors="surrogatepass"), "sha256")[:_SALT_OCTETS]


def nobodys_verifier(secret: bytes, login: str) -> sasl.Verifier:
    """What a login without a verifier gets: keys that no password has."""
    name = login.encode(errors="surrogatepass")
    stored = hmac.digest(secret, b"nobody's stored key " + name, "sha256")
    return sasl.Verifier(salt_of(secret, login), ITERATIONS, sasl.Keys(stored, stored))


def verifier_of(password: str, secret: bytes, login: str) -> sasl.Verifier:
    """The SCRAM verifier to store. Takes 4 ms of CPU."""
    return sasl.derive(password, salt_of(secret, login), ITERATIONS)


def new_app_password() -> str:
    """A random app password: 32 characters, as they are shown once."""
    return base64.b32encode(secrets.token_bytes(_APP_PASSWORD_OCTETS)).decode().lower()


def app_password_digest(password: str) -> bytes:
    """What is stored of an app password and compared; people may type it in groups and in capitals."""
    bare = re.sub(r"[\s-]", "", password).lower()
    shown = bare if _APP_PASSWORD.fullmatch(bare) else password
    return hashlib.sha256(shown.encode(errors="surrogatepass")).digest()
