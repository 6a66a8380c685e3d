"""Where the rules of an account put its mail: the mailbox that an action names, made when it wants that, or the inbox."""

import unicodedata
from contextlib import suppress

from daemons.context import Context
from daemons.scripting.owners import AccountOwner
from filters.sieve.actions import Fcc, FileInto
from protocol.imap.objectid import mailbox_of
from storage import filing, mailboxes
from storage.errors import MailboxExistsError, TooManyError
from storage.mailboxes import MailboxNameError
from storage.pool import Connection, reported

JUNK = r"\Junk"  # RFC 6154 §2


class Mailboxes:
    """One per process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limit = context.settings.imap.mailbox_limit

    async def of(self, owner: AccountOwner, wanted: FileInto | Fcc) -> int | None:
        """The mailbox that an action names; None when there is none of the kind. Raises UnavailableError."""
        async with reported(), self._context.pool.acquire() as connection:
            found = await self._found(connection, owner, wanted)
            if found is None and wanted.create:
                found = await self._made(connection, owner, wanted.mailbox, wanted.special_use)
        return found

    async def junk(self, owner: AccountOwner) -> int | None:
        r"""The mailbox with the use \Junk, made when it is missing. Raises UnavailableError."""
        async with reported(), self._context.pool.acquire() as connection:
            found = await filing.by_special_use(connection, owner.account_id, JUNK)
            if found is None:
                found = await self._made(connection, owner, "Junk", JUNK)
            return found if found is not None else await filing.by_name(connection, *_place(owner), "Junk")

    async def _found(self, connection: Connection, owner: AccountOwner, wanted: FileInto | Fcc) -> int | None:
        """By the first of id, special use and name that leads somewhere: RFC 9042 §5, RFC 8579 §4."""
        found: int | None = None
        if wanted.mailbox_id is not None:
            number = mailbox_of(wanted.mailbox_id.encode("utf-8", "replace"))
            found = None if number is None else await filing.by_id(connection, *_place(owner), number)
        if found is None and wanted.special_use is not None:
            found = await filing.by_special_use(connection, owner.account_id, wanted.special_use)
        return found if found is not None else await filing.by_name(connection, *_place(owner), wanted.mailbox)

    async def _made(
        self, connection: Connection, owner: AccountOwner, name: str, special_use: str | None
    ) -> int | None:
        """A new mailbox of the account's own, subscribed; None when it cannot have that name, or any more of them."""
        name = unicodedata.normalize("NFC", name)
        try:
            try:
                made = await mailboxes.create(connection, owner.account_id, name, special_use, limit=self._limit)
            except MailboxNameError:
                if special_use is None:
                    raise
                made = await mailboxes.create(connection, owner.account_id, name, limit=self._limit)
        except MailboxExistsError:  # somebody was faster
            return await filing.by_name(connection, *_place(owner), name)
        except (MailboxNameError, TooManyError):
            return None
        with suppress(TooManyError):
            await mailboxes.subscribe(connection, owner.account_id, name, limit=self._limit)
        return made.mailbox_id


def _place(owner: AccountOwner) -> tuple[int, int]:
    return owner.account_id, owner.tenant_id
