"""Which mailbox an account's rule means: by name, by id, by special use. Only those that the account may put mail into."""

import unicodedata

from storage import sharing
from storage.mailboxes import INBOX
from storage.pool import Connection, reported

INSERT_RIGHT = "i"  # RFC 4314 §4


async def by_name(connection: Connection, account_id: int, tenant_id: int, name: str) -> int | None:
    """The mailbox that the account knows by this name, its own or one that is shared with it."""
    if name.upper() == INBOX:
        name = INBOX
    async with reported():
        found = await sharing.find(connection, account_id, tenant_id, name)
        if found is None and (composed := unicodedata.normalize("NFC", name)) != name:
            found = await sharing.find(connection, account_id, tenant_id, composed)
    if found is None or INSERT_RIGHT not in found.rights or not found.mailbox.is_selectable:
        return None
    return found.mailbox.mailbox_id


async def by_id(connection: Connection, account_id: int, tenant_id: int, mailbox_id: int) -> int | None:
    """The mailbox itself, when it is there, whatever its name is now."""
    if INSERT_RIGHT not in await sharing.rights(connection, account_id, tenant_id, mailbox_id):
        return None
    async with reported():
        found: int | None = await connection.fetchval(
            "SELECT mailbox_id FROM mailbox WHERE mailbox_id = $1 AND is_selectable", mailbox_id
        )
    return found


async def by_special_use(
    connection: Connection, account_id: int, special_use: str, name: str | None = None
) -> int | None:
    r"""The account's own mailbox with that use (`\Junk`), of any case, or that one only if it has the use."""
    async with reported():
        found: int | None = await connection.fetchval(
            "SELECT mailbox_id FROM mailbox WHERE account_id = $1 AND lower(special_use) = lower($2) AND is_selectable "
            "AND ($3::text IS NULL OR name = $3) LIMIT 1",
            account_id, special_use, name,
        )  # fmt: skip
    return found
