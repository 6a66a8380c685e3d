"""A message as its signatures see it: the header section, and hashes of the body. Large bodies are hashed in a thread."""

import asyncio
import mmap
from collections.abc import Iterable

from filters.ports import Resolver
from protocol.dkim.body import BodyDigest, BodyForm, BodyHashes
from protocol.dkim.verification import PublicKey, SignatureError, SignatureField, SignedHeader, parse_key
from protocol.message.header import read

OFF_LOOP_OCTETS = 256 * 1024  # a body of this size takes about 3 ms
_PIECE_OCTETS = 64 * 1024


class SignedMessage:
    """Everything that verification needs of one message, computed once for all of its signatures."""

    def __init__(self, header: bytes, original: bytes | mmap.mmap) -> None:
        """header is Subject.header: all of the header section, with the line end of its last field."""
        self.header = SignedHeader(read(header))
        self._original = original
        self._start = min(len(header) + 2, len(original))  # behind the empty line
        self._digests: dict[BodyForm, BodyDigest] = {}

    async def hash(self, forms: Iterable[BodyForm]) -> None:
        """Make sure that digest() knows these forms; one pass over the body for all that are new."""
        wanted = set(forms) - self._digests.keys()
        if not wanted:
            return
        if len(self._original) - self._start > OFF_LOOP_OCTETS:
            self._digests |= await asyncio.to_thread(self._hashed, wanted)
        else:
            self._digests |= self._hashed(wanted)

    def digest(self, form: BodyForm) -> BodyDigest:
        """The body's hash, after hash()."""
        return self._digests[form]

    def _hashed(self, forms: set[BodyForm]) -> dict[BodyForm, BodyDigest]:
        hashes = BodyHashes(forms)
        for start in range(self._start, len(self._original), _PIECE_OCTETS):
            hashes.update(bytes(self._original[start : start + _PIECE_OCTETS]))
        return hashes.digests()


async def key_of(resolver: Resolver, signature: SignatureField) -> PublicKey:
    """The key that a signature names. Raises SignatureError, and TimeoutError when it cannot be known now."""
    texts = [text for text in await resolver.texts(signature.key_name) if b"p=" in text]
    if not texts:
        raise SignatureError("permerror", "no key")
    return parse_key(texts[0], signature.algorithm)  # of several none is right, RFC 6376 §3.6.2.2
