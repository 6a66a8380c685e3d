"""What servers get: signature fields, our trace fields without Return-Path (RFC 5321 §4.4), and the octets as accepted.

A server without 8BITMIME or BINARYMIME gets a conversion where one is possible (RFC 6152 §3): a message that comes back as
undeliverable for its umlauts helps nobody. It is signed behind the conversion, so the signature holds. What carries a
signature of its author's own is never converted; it fails, as does a message with 8-bit header fields.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

from daemons.delivery import THREAD_OCTETS
from daemons.relay.signing import Signer, once
from filters.subject import HEADER_LIMIT
from protocol.message import scan
from protocol.message.header import fields
from protocol.message.transfer import UnknownEncodingError, without_8bit
from protocol.smtp.capabilities import Capabilities
from protocol.smtp.transmission import Body
from storage.blobs.store import BlobReader
from storage.outbound import Leased

_RETURN_PATH = b"return-path:"


@dataclass(frozen=True, slots=True)
class Content:
    """A message as one server gets it. Small ones are at hand, large ones are read while they are sent."""

    size_octets: int
    body: Body
    is_header_ascii: bool
    octets: bytes | None
    read: Callable[[], AsyncIterator[bytes]] | None = None

    def pieces(self) -> AsyncIterator[bytes]:
        """All of it, in pieces."""
        if self.octets is not None:
            return once(self.octets)
        assert self.read is not None
        return self.read()


class Contents:
    """Reads what is to be sent. One per process."""

    def __init__(self, blobs: BlobReader, signer: Signer, buffer_limit: int) -> None:
        self._blobs = blobs
        self._signer = signer
        self._buffer_limit = buffer_limit
        self._converting = asyncio.Lock()  # a conversion holds a whole message, however large, a few times over

    async def load(self, leased: Leased, capabilities: Capabilities) -> Content:
        """The message, fitted to what the server takes. Raises StorageError.

        Where it cannot be fitted, its body says so: the transaction then meets that obstacle.
        """
        content_id = leased.content_id
        layout = await self._blobs.layout(content_id)
        head, size = without_return_path(layout.head), layout.original_octets
        declared = cast(Body, leased.body)
        is_small = size <= self._buffer_limit
        takes_declared = capabilities.has_binarymime if declared == "BINARYMIME" else capabilities.has_8bitmime
        if not is_small and takes_declared:
            # It is not looked through: a message of 7-bit lines may be called an 8-bit one.
            signature = await self._signer.content_fields(leased.tenant_id, content_id, leased.account_id)
            top = signature + head
            body: Body = "BINARYMIME" if declared == "BINARYMIME" else "8BITMIME"
            return Content(len(top) + size, body, False, None, lambda: self._stream(top, content_id))
        async with nullcontext() if is_small else self._converting:
            original = await self._blobs.read(content_id)
            body = _body_of(original, declared)
            if body == "7BIT" or (capabilities.has_binarymime if body == "BINARYMIME" else capabilities.has_8bitmime):
                signature = await self._signer.content_fields(leased.tenant_id, content_id, leased.account_id, original)
            elif (converted := await _converted(original)) is None:
                signature = b""  # it will not be sent
            else:
                original, body = converted, "7BIT"
                signature = await self._signer.fields(
                    leased.tenant_id, once(original), account_id=leased.account_id, head=head
                )
            octets = b"".join((signature, head, original))
            end = original.find(b"\r\n\r\n")
            return Content(len(octets), body, original[: end if end >= 0 else None].isascii(), octets)

    async def waives_tls(self, content_id: int) -> bool:
        """Whether its header says that delivery matters more than TLS: RFC 8689 §3."""
        start = await self._blobs.read(content_id, 0, HEADER_LIMIT)
        end = start.find(b"\r\n\r\n")
        found = [each.body.strip().lower() for each in fields(start[: end if end >= 0 else None])
                 if each.name.lower() == b"tls-required"]  # fmt: skip
        return found == [b"no"]

    async def _stream(self, top: bytes, content_id: int) -> AsyncIterator[bytes]:
        yield top
        layout = await self._blobs.layout(content_id)
        for start, end in layout.cut(0, layout.original_octets):
            yield await self._blobs.read(content_id, start, end)


def without_return_path(head: bytes) -> bytes:
    """Trace fields as they may leave: a Return-Path at the start was for our own mailboxes."""
    if head[: len(_RETURN_PATH)].lower() != _RETURN_PATH:
        return head
    end = head.find(b"\n") + 1
    while 0 < end < len(head) and head[end] in b" \t":
        end = head.find(b"\n", end) + 1
    return head[end:] if end else b""


def _body_of(octets: bytes, declared: Body) -> Body:
    """What the octets are; what was declared of them may be less or more."""
    if declared == "BINARYMIME":
        return "BINARYMIME"
    return "7BIT" if octets.isascii() and b"\0" not in octets else "8BITMIME"


async def _converted(octets: bytes) -> bytes | None:
    """In 7-bit lines; None when that would be another message."""
    try:
        if len(octets) > THREAD_OCTETS:
            return await asyncio.to_thread(_convert, octets)
        return _convert(octets)
    except UnknownEncodingError:
        return None


def _convert(octets: bytes) -> bytes:
    return b"".join(without_8bit(octets, scan(octets)))
