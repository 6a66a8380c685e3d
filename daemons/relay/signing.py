"""DKIM signatures of outgoing mail: which keys sign a message, and the signature fields for its top (RFC 6376, RFC 8463).

The domain of the author (From) decides, which is what DMARC compares with: its keys sign if the domain belongs to the sender's
tenant, else those of a domain above it that does, else nothing does. Mail in the name of this host itself is signed by whoever
owns the host's domain here.

Only mail whose author was checked when it was submitted is signed, and our own: a signature says that the author's domain answers
for the message. What is merely passed on (forwarded mail, bounces that come back to a rewritten sender) came from elsewhere, says
what it likes in From, and has a Received field: it leaves as it came.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence

from prometheus_client import Counter

from daemons.context import Context
from daemons.logs import logger
from protocol.dkim.canonicalization import MessageHash
from protocol.dkim.signature import SigningKey, load_private_key, signature_fields
from protocol.domain import a_labels
from protocol.message import address_list
from protocol.message.header import RawField, read, unfold
from storage import signing
from storage.accounts import domain_name
from storage.notifications import DIRECTORY

_log = logger("relay")
_MESSAGES = Counter(
    "postwerk_signed_messages", "Outgoing messages by how many DKIM signatures they got.", ["signatures"]
)
_CACHED_SECONDS = 60.0  # what keys may be behind when a notification was lost
_CACHED_KEYS = 10_000  # domains
_CACHED_FIELDS = 4_096  # messages; about 1.5 KB each
_AUTHORS = 10  # domains of From and Sender that are looked at
_ABOVE = 4  # domains above one of them

_Keys = tuple[SigningKey, ...]
_Name = tuple[int, int, int | None]  # tenant, content, account


class Signer:
    """One per process. Keys are kept in memory until something changes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._own_names = frozenset(_own_names(context))
        self._keys: dict[tuple[int | None, str], tuple[float, _Keys]] = {}
        self._fields: OrderedDict[_Name, tuple[float, bytes]] = OrderedDict()
        self._signing: dict[_Name, asyncio.Task[bytes]] = {}
        self._changes = 0  # what was asked before a change is not remembered behind it
        self._forget = context.changes.on(DIRECTORY, self.clear)

    def clear(self) -> None:
        """Forget all keys and signatures; called when identities or keys changed anywhere."""
        self._changes += 1
        self._keys.clear()
        self._fields.clear()

    def close(self) -> None:
        """Stop listening for changes."""
        self._forget()

    async def fields(
        self, tenant_id: int, original: AsyncIterable[bytes], *, account_id: int | None, head: bytes = b""
    ) -> bytes:
        """The DKIM-Signature fields for a message of the tenant, with line ends; b"" when no key of it fits the author.

        account_id: who submitted it; None: nobody did. head: our trace fields. original: what will be sent below them, header
        and body, in pieces of any size. Raises StorageError.
        """
        if account_id is None and _is_passed_on(read(head)):
            return b""
        hashed, pending, pending_octets = MessageHash(), [], 0
        header: list[RawField] | None = None
        keys: _Keys = ()
        limit = self._context.settings.dkim.inline_limit
        async for piece in original:
            pending.append(piece)
            pending_octets += len(piece)
            if pending_octets > limit:  # so that small pieces are not one thread hop each
                if not await _hash(hashed, pending, in_thread=True):
                    return b""
                pending, pending_octets = [], 0
                if header is None and hashed.is_behind_header:
                    header = read(hashed.header)
                    keys = await self._keys_for(tenant_id, account_id, header)
                    if not keys:
                        return b""  # the rest need not be read
        if not await _hash(hashed, pending, in_thread=False):
            return b""
        if header is None:
            header = read(hashed.header)
            keys = await self._keys_for(tenant_id, account_id, header)
        if not keys:
            return b""
        lifetime = int(self._context.settings.dkim.signature_lifetime)
        return signature_fields(keys, header, hashed.digest(), at=int(time.time()), lifetime=lifetime)

    async def content_fields(
        self, tenant_id: int, content_id: int, account_id: int | None, original: bytes | None = None
    ) -> bytes:
        """fields() of a stored content, remembered: one content goes to many destinations. original: it, if it is at hand."""
        name = (tenant_id, content_id, account_id)
        known = self._fields.get(name)
        if known is not None and known[0] > time.monotonic():
            self._fields.move_to_end(name)
            return known[1]
        task = self._signing.get(name)
        if task is None:
            task = self._signing[name] = asyncio.create_task(self._sign(name, original), name="signing")
            task.add_done_callback(lambda ended: self._end(name, ended))
        return await asyncio.shield(task)  # who gives up waiting takes nothing from the others

    def _end(self, name: _Name, ended: asyncio.Task[bytes]) -> None:
        self._signing.pop(name, None)
        if not ended.cancelled():
            ended.exception()  # whoever still waits gets it; that nobody does is no error

    async def _sign(self, name: _Name, original: bytes | None) -> bytes:
        tenant_id, content_id, account_id = name
        until, changes = time.monotonic() + _CACHED_SECONDS, self._changes
        head = await self._context.blobs.head(content_id)
        pieces = self._original(content_id) if original is None else once(original)
        fields = await self.fields(tenant_id, pieces, account_id=account_id, head=head)
        _MESSAGES.labels(str(fields.count(b"DKIM-Signature:"))).inc()
        if self._context.changes.is_connected and changes == self._changes:
            self._fields[name] = (until, fields)
            while len(self._fields) > _CACHED_FIELDS:
                self._fields.popitem(last=False)
        return fields

    async def _original(self, content_id: int) -> AsyncIterator[bytes]:
        blobs = self._context.blobs
        layout = await blobs.layout(content_id)
        for start, end in layout.cut(0, layout.original_octets):
            yield await blobs.read(content_id, start, end)

    async def _keys_for(self, tenant_id: int, account_id: int | None, header: Sequence[RawField]) -> _Keys:
        """The keys of the first author's domain that has any, or of the next domain above it that has."""
        if account_id is None and _is_passed_on(header):
            return ()
        for author in _author_domains(header):
            owner = None if author in self._own_names else tenant_id
            for domain in _with_parents(author):
                if keys := await self._keys_of(owner, domain):
                    return keys
        return ()

    async def _keys_of(self, tenant_id: int | None, domain: str) -> _Keys:
        name = (tenant_id, domain)
        known = self._keys.get(name)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        changes = self._changes
        rows = await signing.active_keys(self._context.pool, tenant_id, domain)
        keys = tuple([await self._opened(row) for row in rows])
        if self._context.changes.is_connected and changes == self._changes:
            if len(self._keys) >= _CACHED_KEYS:
                self._keys.clear()
            self._keys[name] = (time.monotonic() + _CACHED_SECONDS, keys)
        return keys

    async def _opened(self, row: signing.WrappedKey) -> SigningKey:
        wrapper = await self._context.keys.tenant(self._context.pool, row.tenant_id)
        return SigningKey(
            a_labels(row.domain), row.selector, row.algorithm, load_private_key(row.unwrap(wrapper), is_trusted=True)
        )


async def once(octets: bytes) -> AsyncIterator[bytes]:
    """A message that is at hand, as one that comes in pieces."""
    yield octets


def _is_passed_on(header: Sequence[RawField]) -> bool:
    """Whether a message that nobody submitted came from elsewhere: what we make ourselves has no Received field."""
    return any(name == b"RECEIVED" for name, _, _ in header)


async def _hash(hashed: MessageHash, pieces: Sequence[bytes], *, in_thread: bool) -> bool:
    """Whether the message can be signed at all."""
    try:
        if in_thread:
            await asyncio.to_thread(_update, hashed, pieces)
        else:
            _update(hashed, pieces)
    except ValueError as error:
        _log.warning("message is not signed", error=str(error))
        return False
    return True


def _update(hashed: MessageHash, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        hashed.update(piece)


def _author_domains(header: Sequence[RawField]) -> Iterator[str]:
    """Domains of the authors, then of the Sender, each once, as domains are stored."""
    found: dict[str, None] = {}
    for wanted in (b"FROM", b"SENDER"):
        for name, body, _ in header:
            if name == wanted:
                for address in address_list.parse(unfold(body)):
                    if address.host:
                        found[domain_name(address.host.decode("utf-8", "replace"))] = None
    yield from list(found)[:_AUTHORS]


def _with_parents(domain: str) -> Iterator[str]:
    """The domain and those above it, down to two labels."""
    labels = domain.split(".")
    for at in range(min(max(1, len(labels) - 1), _ABOVE + 1)):
        yield ".".join(labels[at:])


def _own_names(context: Context) -> Iterator[str]:
    """Domains in whose name this host speaks: nobody who submits may use them, unless they are his."""
    settings = context.settings
    for domain in (settings.hostname, settings.smtp.postmaster.rpartition("@")[2]):
        if domain:
            yield domain_name(domain)
