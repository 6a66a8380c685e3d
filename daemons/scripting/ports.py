"""What scripts may ask, answered from the database: the owner's mailboxes, annotations, lists and memory."""

from collections.abc import Sequence

from daemons.context import Context
from daemons.notifying import can_notify
from daemons.scripting.known import KnownScripts
from daemons.scripting.listed import holder_of
from daemons.scripting.owners import AccountOwner
from filters.sieve.script import Script
from protocol.imap import metadata as annotations
from protocol.imap.objectid import mailbox_of
from storage import address_lists, filing, memory, metadata, sharing
from storage.metadata import SERVER

_ANNOTATION_RIGHTS = frozenset("rswip")  # one of them, besides "l": RFC 5464 §3.3


class DatabasePorts:
    """The answers for one owner: filters.sieve.ports.Ports."""

    def __init__(self, context: Context, known: KnownScripts, owner: AccountOwner) -> None:
        self._context = context
        self._known = known
        self._owner = owner

    async def mailbox_exists(self, name: str) -> bool:
        """RFC 5490 §3.1."""
        owner = self._owner
        async with self._context.pool.acquire() as connection:
            return await filing.by_name(connection, owner.account_id, owner.tenant_id, name) is not None

    async def mailbox_id_exists(self, mailbox_id: str) -> bool:
        """RFC 9042 §3."""
        owner, number = self._owner, mailbox_of(mailbox_id.encode("utf-8", "replace"))
        if number is None:
            return False
        async with self._context.pool.acquire() as connection:
            return await filing.by_id(connection, owner.account_id, owner.tenant_id, number) is not None

    async def special_use_exists(self, mailbox: str | None, attribute: str) -> bool:
        """RFC 8579 §3."""
        async with self._context.pool.acquire() as connection:
            found = await filing.by_special_use(connection, self._owner.account_id, attribute, mailbox)
        return found is not None

    async def metadata(self, mailbox: str | None, annotation: str) -> str | None:
        """RFC 5490 §3.3 and §4.1, with what IMAP shows though it is not stored as an annotation."""
        owner, entry = self._owner, annotation.lower()
        async with self._context.pool.acquire() as connection:
            place = SERVER
            if mailbox is not None:
                found = await sharing.find(connection, owner.account_id, owner.tenant_id, mailbox)
                if found is None or "l" not in found.rights or _ANNOTATION_RIGHTS.isdisjoint(found.rights):
                    return None
                if entry == annotations.SPECIAL_USE:
                    return found.mailbox.special_use if not found.prefix else None
                place = found.mailbox.mailbox_id
            elif entry == annotations.ADMIN:
                return self._context.settings.imap.contact or None
            read = await metadata.read(connection, owner.tenant_id, owner.account_id, [place], [entry])
        value = read.get(place, {}).get(entry)
        return None if value is None else value.decode("utf-8", "replace")

    async def is_duplicate(self, handle: str, unique_id: str) -> bool:
        """RFC 7352 §3."""
        return await memory.is_remembered(self._context.pool, self._owner.account_id, "duplicate", unique_id)

    async def first_in_list(self, name: str, values: Sequence[str]) -> str | None:
        """RFC 6134 §2.1."""
        found = holder_of(self._owner, name)
        return None if found is None else await address_lists.matching(self._context.pool, *found, values)

    async def list_exists(self, name: str) -> bool:
        """RFC 6134 §2.7."""
        found = holder_of(self._owner, name)
        return found is not None and await address_lists.exists(self._context.pool, *found)

    async def script(self, name: str, location: str) -> Script | None:
        """RFC 6609 §3.2."""
        return await self._known.named(self._owner, name, location)

    async def can_notify(self, uri: str) -> bool:
        """RFC 5435 §5: what is said of a web address or a number before it is tried."""
        return can_notify(self._context.settings.notifier, uri)
