"""The key that signs checkpoints, in a file outside the database, and the public keys that a verifier trusts.

The private key is the 32-octet seed of Ed25519 (RFC 8032 §5.1.5), mode 0600, made on first use. Beside it lies a text file of
all public keys that ever signed here, one `ed25519 <base64>` a line: it is what verification trusts, never what the database says.
"""

import base64
import contextlib
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from storage.archive.checkpoint import Signer
from storage.durable import sync_directory
from storage.errors import StorageError

_KEY_OCTETS = 32


class KeyFileError(StorageError):
    """The archive's key file cannot be used. The text names the file and the rule."""


def public_keys_file(key_file: Path) -> Path:
    """Where the public keys lie that belong to a key file."""
    return key_file.with_suffix(".pub")


def open_signer(key_file: Path) -> Signer:
    """The signer of this installation; makes the key on first use. Raises KeyFileError.

    Two processes may come here at once: the one that links its file first wins, and both use that key.
    """
    if not key_file.exists():
        _create(key_file)
    if key_file.stat().st_mode & 0o077:
        raise KeyFileError(f"{key_file}: must not be accessible to group or others (mode 0600)")
    try:
        signer = Signer(Ed25519PrivateKey.from_private_bytes(key_file.read_bytes()))
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{key_file}: not a readable key of {_KEY_OCTETS} octets: {error}") from error
    if signer.public_key not in _listed(public_keys_file(key_file)):
        _append_durably(public_keys_file(key_file), f"ed25519 {base64.b64encode(signer.public_key).decode()}\n")
    return signer


def trusted_keys(key_file: Path) -> tuple[bytes, ...]:
    """The public keys (32 octets each) whose signatures count. Raises KeyFileError if a line is not a key."""
    return _listed(public_keys_file(key_file))


def _create(key_file: Path) -> None:
    fresh = key_file.with_name(f"{key_file.name}.{secrets.token_hex(8)}")
    try:
        key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, os.urandom(_KEY_OCTETS))
            os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):  # another process was first: its key counts
                os.link(fresh, key_file)
        finally:
            os.close(descriptor)
            fresh.unlink()
        sync_directory(key_file.parent)
    except OSError as error:
        raise KeyFileError(f"{key_file}: cannot be created: {error}") from error


def _listed(file: Path) -> tuple[bytes, ...]:
    try:
        lines = file.read_text("ascii").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{file}: cannot be read: {error}") from error
    keys = []
    for number, line in enumerate(lines, start=1):
        kind, _, encoded = line.partition(" ")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            key = b""
        if kind != "ed25519" or len(key) != _KEY_OCTETS:
            raise KeyFileError(f"{file}, line {number}: not of the form: ed25519 <base64 of {_KEY_OCTETS} octets>")
        keys.append(key)
    return tuple(keys)


def _append_durably(file: Path, line: str) -> None:
    with file.open("a", encoding="ascii") as stream:
        stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())
    sync_directory(file.parent)
