"""Simple settings of accounts: a document that says what they want, and the Sieve script that was made of it.

Both are opaque here. Who stores them has checked the document and compiled it (daemons/rules.py).
"""

from storage import messages
from storage.errors import NotFoundError
from storage.pool import Connection, Pool, reported

SCRIPT_NAME = "Simple settings"  # under which ManageSieve shows the script, which is not to be written to

_EXPIRED = """
SELECT m.uid FROM message AS m WHERE m.mailbox_id = $1 AND m.savedate < now() - make_interval(days => $2) ORDER BY m.uid LIMIT $3
"""
_EXPIRING = """
SELECT b.mailbox_id, s.junk_days FROM simple_settings AS s JOIN mailbox AS b USING (account_id)
 WHERE s.junk_days IS NOT NULL AND b.special_use = '\\Junk' ORDER BY b.mailbox_id
"""


async def compiled(pool: "Connection | Pool", account_id: int) -> bytes | None:
    """The script that does what the account's settings say; None: they leave all mail where it comes in."""
    async with reported():
        sieve: bytes | None = await pool.fetchval("SELECT sieve FROM simple_settings WHERE account_id = $1", account_id)
    return sieve


async def read(connection: "Connection | Pool", account_id: int) -> str | None:
    """The document, in JSON; None: the account has set nothing."""
    async with reported():
        document: str | None = await connection.fetchval(
            "SELECT document FROM simple_settings WHERE account_id = $1", account_id
        )
    return document


async def read_locked(connection: Connection, account_id: int) -> tuple[int, str | None]:
    """The tenant and, as read(), the document, which nobody else changes before the caller's transaction ends.

    Raises NotFoundError.
    """
    async with reported():
        statement = "SELECT tenant_id FROM account WHERE account_id = $1 FOR NO KEY UPDATE"
        tenant_id: int | None = await connection.fetchval(statement, account_id)
    if tenant_id is None:
        raise NotFoundError("no such account")
    return tenant_id, await read(connection, account_id)


async def write(connection: Connection, account_id: int, document: str, sieve: bytes | None) -> None:
    """Replace the document and its script. Nobody is told of what was the same before."""
    async with reported():
        await connection.execute(
            "INSERT INTO simple_settings AS s (account_id, document, sieve) VALUES ($1, $2, $3) ON CONFLICT (account_id) "
            "DO UPDATE SET document = excluded.document, sieve = excluded.sieve, changed_at = now() "
            "WHERE (s.document, s.sieve) IS DISTINCT FROM (excluded.document, excluded.sieve)",
            account_id, document, sieve,
        )  # fmt: skip


async def list_accounts(connection: Connection) -> list[tuple[int, str]]:
    """Number and login of all accounts that have set something."""
    async with reported():
        rows = await connection.fetch(
            "SELECT account_id, login FROM simple_settings JOIN account USING (account_id) ORDER BY login"
        )
    return [(row[0], row[1]) for row in rows]


async def remove_expired_junk(connection: Connection, limit: int) -> int:
    r"""Remove what lies in \Junk for longer than its account wants, at most `limit` messages of each. Returns how many went."""
    removed = 0
    for mailbox_id, days in await connection.fetch(_EXPIRING):
        rows = await connection.fetch(_EXPIRED, mailbox_id, days, limit)
        if rows:
            removed += len(await messages.remove(connection, mailbox_id, [row["uid"] for row in rows]))
    return removed
