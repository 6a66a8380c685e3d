"""The key hierarchy: a master key in a file outside the database wraps one key per tenant, which wraps one key per blob.

Wrapping is AES-256-GCM with a random 96-bit nonce: nonce, ciphertext, tag = 60 octets for a 32-octet key. The tenant's number,
or the blob's digest, is the associated data, so that a wrapped key moved to another row does not open.
"""

import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import CorruptError, NotFoundError, StorageError
from storage.pool import Connection, Pool, reported

KEY_OCTETS = 32
_NONCE_OCTETS = 12


def create_key_file(path: Path) -> None:
    """Write a new random key, readable by its owner alone. An existing file is left as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(KEY_OCTETS))
        file.flush()
        os.fsync(file.fileno())


class Wrapper:
    """Wraps keys under one key."""

    __slots__ = ("_cipher", "_key")

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._key = key

    def derived(self, purpose: bytes) -> bytes:
        """Another key, for one purpose. It is stored nowhere: who has the first one has it, and nobody else."""
        return hmac.digest(self._key, b"derived key: " + purpose, "sha256")

    def wrap(self, key: bytes, bound_to: bytes) -> bytes:
        """`bound_to` must be given again to unwrap."""
        nonce = os.urandom(_NONCE_OCTETS)
        return nonce + self._cipher.encrypt(nonce, key, bound_to)

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        """Raises CorruptError when the octets were changed, moved, or wrapped under another key."""
        try:
            return self._cipher.decrypt(wrapped[:_NONCE_OCTETS], wrapped[_NONCE_OCTETS:], bound_to)
        except (InvalidTag, ValueError) as error:
            raise CorruptError("a wrapped key does not open") from error


class KeyRing:
    """Tenant keys, unwrapped on first use and kept in memory."""

    def __init__(self, master_key_file: Path) -> None:
        try:
            key = master_key_file.read_bytes()
        except OSError as error:
            raise StorageError(f"master key: {error.strerror}: {master_key_file}") from error
        if len(key) != KEY_OCTETS:
            raise StorageError(f"master key: {master_key_file} does not hold {KEY_OCTETS} octets")
        self._master = Wrapper(key)
        self._tenants: dict[int, Wrapper] = {}

    def new_tenant_key(self) -> bytes:
        """A random key, wrapped: the value of tenant.wrapped_key. It is bound to no row: the tenant has no number yet."""
        return self._master.wrap(os.urandom(KEY_OCTETS), b"tenant")

    async def tenant(self, source: "Pool | Connection", tenant_id: int) -> Wrapper:
        """The wrapper of the tenant's blob keys. Raises NotFoundError."""
        wrapper = self._tenants.get(tenant_id)
        if wrapper is None:
            async with reported():
                wrapped = await source.fetchval("SELECT wrapped_key FROM tenant WHERE tenant_id = $1", tenant_id)
            if wrapped is None:
                raise NotFoundError(f"tenant {tenant_id}")
            wrapper = self._tenants[tenant_id] = Wrapper(self._master.unwrap(wrapped, b"tenant"))
        return wrapper
