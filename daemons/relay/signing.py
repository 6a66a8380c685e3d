"""DKIM signatures of outgoing mail: which keys sign a message, and the signature fields for its top (RFC 6376, RFC 8463)."""

from collections.abc import AsyncIterable

from daemons.context import Context


class Signer:
    """One per process. Keys are kept in memory until something changes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def fields(self, tenant_id: int, original: AsyncIterable[bytes]) -> bytes:
        """The DKIM-Signature fields for a message of the tenant, with line ends; b"" when no key of it fits the author.

        original: what will be sent below our own trace fields, header and body, in pieces of any size. Raises StorageError.
        """
        raise NotImplementedError

    async def content_fields(self, tenant_id: int, content_id: int) -> bytes:
        """fields() of a stored content's original octets, remembered: one content goes to many destinations."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop listening for changes."""
