"""The mailboxes of an account: names, hierarchy, subscriptions, usage. "/" separates levels; the inbox is exactly "INBOX"."""

from collections.abc import Sequence

import asyncpg

from storage.errors import MailboxExistsError, MailboxNotFoundError, StorageError, TooManyError
from storage.pool import Connection
from storage.rows import Mailbox

SEPARATOR = "/"
INBOX = "INBOX"
# Roots of names under which others' mailboxes show; nobody has mailboxes of these names (schema/0011_names.sql).
OTHER_USERS = "Other Users"
SHARED = "Shared"
NAMESPACES = (OTHER_USERS, SHARED)
# Created with every account, in this order, and subscribed: RFC 6154 §2.
DEFAULT_MAILBOXES = (
    (INBOX, None),
    ("Drafts", r"\Drafts"),
    ("Sent", r"\Sent"),
    ("Trash", r"\Trash"),
    ("Junk", r"\Junk"),
    ("Archive", r"\Archive"),
)
MAILBOX_COLUMNS = (
    "mailbox_id, account_id, tenant_id, name, uidvalidity, uidnext, highestmodseq, message_count, unseen_count, "
    "size_octets, recent_uid, special_use, is_selectable, is_seen_shared"
)
_SELECT = f"SELECT {MAILBOX_COLUMNS} FROM mailbox"
_INSERT = f"""
INSERT INTO mailbox (account_id, tenant_id, name, special_use)
SELECT account_id, tenant_id, $2, $3 FROM account WHERE account_id = $1
    ON CONFLICT (account_id, name) DO NOTHING RETURNING {MAILBOX_COLUMNS}
"""
# The nearest superior that exists, else a team's INBOX.
_HEIR = """
SELECT mailbox_id FROM mailbox JOIN account USING (account_id)
 WHERE account_id = $1 AND (name = ANY ($2::text[]) OR (name = 'INBOX' AND kind = 'team'))
 ORDER BY name = ANY ($2::text[]) DESC, length(name) DESC LIMIT 1
"""


class HasChildrenError(StorageError):
    """A \\Noselect mailbox with inferior names cannot be deleted (RFC 3501 §6.3.4)."""


class MailboxNameError(StorageError):
    """The name cannot be used: an empty level, a root that its owner knows as something else, or a special use that is taken."""


def mailbox_row(row: asyncpg.Record) -> Mailbox:
    """A row of MAILBOX_COLUMNS as a value."""
    return Mailbox(*row[:14])


async def list_mailboxes(connection: Connection, account_id: int) -> list[Mailbox]:
    """All mailboxes of the account, by name."""
    rows = await connection.fetch(f"{_SELECT} WHERE account_id = $1 ORDER BY name", account_id)
    return [mailbox_row(row) for row in rows]


async def find(connection: Connection, account_id: int, name: str) -> Mailbox | None:
    """The mailbox of that name."""
    row = await connection.fetchrow(f"{_SELECT} WHERE account_id = $1 AND name = $2", account_id, name)
    return mailbox_row(row) if row else None


async def get(connection: Connection, mailbox_id: int) -> Mailbox | None:
    """The mailbox as it is now."""
    row = await connection.fetchrow(f"{_SELECT} WHERE mailbox_id = $1", mailbox_id)
    return mailbox_row(row) if row else None


async def get_many(connection: Connection, mailbox_ids: Sequence[int]) -> list[Mailbox]:
    """These mailboxes as they are now; those that are gone are left out."""
    rows = await connection.fetch(f"{_SELECT} WHERE mailbox_id = ANY ($1::bigint[])", mailbox_ids)
    return [mailbox_row(row) for row in rows]


def _parents(name: str) -> list[str]:
    levels = name.split(SEPARATOR)
    if not all(levels):
        raise MailboxNameError("a level of the name is empty")
    return [SEPARATOR.join(levels[:depth]) for depth in range(1, len(levels))]


def _check_root(name: str) -> None:
    """Whoever makes the name, its owner must be able to say it."""
    root = name.partition(SEPARATOR)[0]
    if root in NAMESPACES or (root != INBOX and root.upper() == INBOX):
        raise MailboxNameError("the owner knows this name as something else")


async def nearest(connection: Connection, account_id: int, name: str) -> Mailbox | None:
    """The nearest superior of the name that exists."""
    row = await connection.fetchrow(
        f"{_SELECT} WHERE account_id = $1 AND name = ANY ($2::text[]) ORDER BY length(name) DESC LIMIT 1",
        account_id,
        _parents(name),
    )
    return mailbox_row(row) if row else None


async def create(
    connection: Connection,
    account_id: int,
    name: str,
    special_use: str | None = None,
    *,
    heir_of: int | None = None,
    limit: int | None = None,
) -> Mailbox:
    """Create the mailbox and the superior names it lacks (RFC 3501 §6.3.3).

    Raises MailboxExistsError, MailboxNameError, TooManyError when the account had more than `limit` mailboxes then.

    A \\Noselect name that has inferiors only becomes selectable, with a new UIDVALIDITY. What is new gets the access control
    list of the mailbox `heir_of`; without it that of the nearest superior, and at a team's root that of its INBOX.
    """
    parents = _parents(name)
    _check_root(name)
    async with connection.transaction():
        if special_use and await connection.fetchval(
            "SELECT count(*) FROM mailbox WHERE account_id = $1 AND special_use = $2", account_id, special_use
        ):
            raise MailboxNameError(f"{special_use} is taken")
        heir = await connection.fetchval(_HEIR, account_id, parents)
        made = await _make_parents(connection, account_id, parents)
        row = await connection.fetchrow(_INSERT, account_id, name, special_use)
        if row is None:
            row = await connection.fetchrow(
                "UPDATE mailbox SET is_selectable = true, special_use = $3, uidvalidity = nextval('uidvalidity'), uidnext = 1 "
                f"WHERE account_id = $1 AND name = $2 AND NOT is_selectable RETURNING {MAILBOX_COLUMNS}",
                account_id, name, special_use,
            )  # fmt: skip
        if row is None:
            raise MailboxExistsError("the mailbox exists")
        await _check_count(connection, account_id, limit)
        await _inherit(connection, heir_of or heir, [*made, row["mailbox_id"]])
    return mailbox_row(row)


async def _check_count(connection: Connection, account_id: int, limit: int | None) -> None:
    statement = "SELECT count(*) FROM mailbox WHERE account_id = $1"
    if limit is not None and await connection.fetchval(statement, account_id) > limit:
        raise TooManyError("too many mailboxes")


async def _make_parents(connection: Connection, account_id: int, parents: list[str]) -> list[int]:
    """Create those that are missing; gives their ids."""
    made = [await connection.fetchval(_INSERT, account_id, parent, None) for parent in parents]
    return [mailbox_id for mailbox_id in made if mailbox_id is not None]


async def _inherit(connection: Connection, parent_id: int | None, mailbox_ids: list[int]) -> None:
    r"""Give new mailboxes the parent's list (RFC 4314 §4, CREATE) and its way with \Seen."""
    if parent_id is None or not mailbox_ids:
        return
    await connection.execute(
        "INSERT INTO mailbox_acl (mailbox_id, tenant_id, account_id, is_negative, rights) "
        "SELECT n.mailbox_id, l.tenant_id, l.account_id, l.is_negative, l.rights "
        "FROM unnest($2::bigint[]) AS n (mailbox_id), mailbox_acl AS l WHERE l.mailbox_id = $1 ON CONFLICT DO NOTHING",
        parent_id, mailbox_ids,
    )  # fmt: skip
    await connection.execute(
        "UPDATE mailbox SET is_seen_shared = false WHERE mailbox_id = ANY ($2::bigint[]) "
        "AND NOT (SELECT is_seen_shared FROM mailbox WHERE mailbox_id = $1)",
        parent_id, mailbox_ids,
    )  # fmt: skip


async def delete(connection: Connection, account_id: int, name: str) -> None:
    """Delete the mailbox and its messages. With inferiors it stays as \\Noselect. Raises MailboxNotFoundError, HasChildrenError."""
    async with connection.transaction():
        row = await connection.fetchrow(
            "SELECT mailbox_id, is_selectable FROM mailbox WHERE account_id = $1 AND name = $2 FOR UPDATE",
            account_id,
            name,
        )
        if row is None:
            raise MailboxNotFoundError("no such mailbox")
        has_children = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM mailbox WHERE account_id = $1 AND starts_with(name, $2))",
            account_id,
            name + SEPARATOR,
        )
        if has_children and not row["is_selectable"]:
            raise HasChildrenError("the mailbox has inferior names")
        await connection.execute("DELETE FROM message WHERE mailbox_id = $1", row["mailbox_id"])
        await connection.execute("DELETE FROM mailbox WHERE mailbox_id = $1", row["mailbox_id"])
        if (
            has_children
        ):  # a new row: whoever watches the old one learns that it is gone, even when the name is used anew
            await connection.execute(
                "INSERT INTO mailbox (account_id, tenant_id, name, is_selectable) "
                "SELECT account_id, tenant_id, $2, false FROM account WHERE account_id = $1",
                account_id,
                name,
            )
        await _notify(connection, row["mailbox_id"])


async def rename(
    connection: Connection, account_id: int, old: str, new: str, *, heir_of: int | None = None, limit: int | None = None
) -> None:
    """Rename the mailbox with its inferiors. Renaming INBOX moves its messages to a new mailbox (RFC 3501 §6.3.5).

    Access control lists stay with their mailboxes; superior names that are made get theirs as in create().
    Raises MailboxNotFoundError, MailboxExistsError, MailboxNameError, TooManyError as create() does.
    """
    parents = _parents(new)
    _check_root(new)
    if (new + SEPARATOR).startswith(old + SEPARATOR) and old != INBOX:
        raise MailboxNameError("a mailbox cannot become its own inferior")
    async with connection.transaction():
        source = await find(connection, account_id, old)
        if source is None:
            raise MailboxNotFoundError("no such mailbox")
        if await find(connection, account_id, new) is not None:
            raise MailboxExistsError("the mailbox exists")
        if old == INBOX:
            target = await create(connection, account_id, new, limit=limit)
            await connection.execute(
                "SELECT count(*) FROM move_messages($1, '{0}', '{9223372036854775807}', $2, 0, 0, 63::smallint)",
                source.mailbox_id, target.mailbox_id,
            )  # fmt: skip
            return
        heir = await connection.fetchval(_HEIR, account_id, parents)
        made = await _make_parents(connection, account_id, parents)
        if made:
            await _check_count(connection, account_id, limit)
        await _inherit(connection, heir_of or heir, made)
        try:
            await connection.execute(
                "UPDATE mailbox SET name = $3 || substr(name, length($2) + 1) "
                "WHERE account_id = $1 AND (name = $2 OR starts_with(name, $2 || '/'))",
                account_id, old, new,
            )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise MailboxExistsError("an inferior name exists") from error


async def subscribe(connection: Connection, account_id: int, name: str, *, limit: int | None = None) -> None:
    """Subscribe to a name, whether or not a mailbox has it (RFC 3501 §6.3.6). Raises TooManyError when there are `limit`."""
    done = await connection.fetchval(
        "INSERT INTO subscription SELECT $1, $2 "
        "WHERE $3::bigint IS NULL OR (SELECT count(*) FROM subscription WHERE account_id = $1) < $3 "
        "ON CONFLICT DO NOTHING RETURNING true",
        account_id, name, limit,
    )  # fmt: skip
    if not done and not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM subscription WHERE account_id = $1 AND name = $2)", account_id, name
    ):
        raise TooManyError("too many subscriptions")


async def unsubscribe(connection: Connection, account_id: int, name: str) -> None:
    """Unsubscribe; a name that was not subscribed is no error."""
    await connection.execute("DELETE FROM subscription WHERE account_id = $1 AND name = $2", account_id, name)


async def subscriptions(connection: Connection, account_id: int) -> list[str]:
    """The subscribed names, sorted."""
    rows = await connection.fetch("SELECT name FROM subscription WHERE account_id = $1 ORDER BY name", account_id)
    return [row["name"] for row in rows]


async def claim_recent(connection: Connection, mailbox_id: int) -> int:
    """The first UID that no session was told of as \\Recent; from now on all present ones count as told (RFC 3501 §2.3.2)."""
    first: int | None = await connection.fetchval(
        "WITH before AS (SELECT recent_uid FROM mailbox WHERE mailbox_id = $1 FOR NO KEY UPDATE) "
        "UPDATE mailbox SET recent_uid = uidnext FROM before WHERE mailbox_id = $1 AND mailbox.recent_uid < uidnext "
        "RETURNING before.recent_uid",
        mailbox_id,
    )
    if first is None:
        first = await connection.fetchval("SELECT uidnext FROM mailbox WHERE mailbox_id = $1", mailbox_id)
    if first is None:
        raise MailboxNotFoundError(f"mailbox {mailbox_id}")
    return first


async def _notify(connection: Connection, mailbox_id: int) -> None:
    await connection.execute("SELECT pg_notify('postwerk_mailbox', $1)", str(mailbox_id))
