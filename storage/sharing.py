"""Who may do what with which mailbox: access control lists (RFC 4314), and the mailboxes that others share with an account.

Names here are those that the viewer knows: its own mailboxes as they are, a person's under `Other Users/LOGIN/`, a team's
under `Shared/NAME/`. Every statement names the viewer's tenant: those of another are never found, whatever a list says.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import asyncpg

from storage.errors import MailboxNotFoundError, NotFoundError
from storage.mailboxes import MAILBOX_COLUMNS, NAMESPACES, OTHER_USERS, SEPARATOR, SHARED, mailbox_row
from storage.pool import Connection, reported
from storage.rows import Mailbox

# RFC 4314 §2.1, in its order; the owner has them all.
RIGHTS = "lrswipkxtea"
ALL_RIGHTS = frozenset(RIGHTS)
ANYONE = "anyone"

_COLUMNS = ", ".join(f"m.{column.strip()}" for column in MAILBOX_COLUMNS.split(","))
_AGGREGATED = """
string_agg(rights, '') FILTER (WHERE NOT is_negative) AS granted, string_agg(rights, '') FILTER (WHERE is_negative) AS denied
"""
_PREFIX = f"CASE o.kind WHEN 'team' THEN '{SHARED}/' || o.shared_name ELSE '{OTHER_USERS}/' || o.login END || '/'"
# Two indexes, one scan each: with an OR the planner may take neither. "+ 0" keeps it from the indexes by tenant: a plan made
# while a tenant is small would read all mailboxes of a large one.
_VISIBLE = f"""
WITH entry AS MATERIALIZED (
    SELECT mailbox_id, is_negative, rights FROM mailbox_acl WHERE account_id = $1
     UNION ALL
    SELECT mailbox_id, is_negative, rights FROM mailbox_acl WHERE tenant_id = $2 AND account_id IS NULL),
granted AS MATERIALIZED (
    SELECT mailbox_id, {_AGGREGATED} FROM entry GROUP BY mailbox_id)
SELECT {_COLUMNS}, NULL AS granted, NULL AS denied, '' AS prefix FROM mailbox AS m WHERE m.account_id = $1
 UNION ALL
SELECT {_COLUMNS}, g.granted, g.denied, {_PREFIX}
  FROM granted AS g JOIN mailbox AS m USING (mailbox_id) JOIN account AS o ON o.account_id = m.account_id
 WHERE m.tenant_id + 0 = $2 AND m.account_id <> $1 AND g.granted IS NOT NULL
"""
# What the list of the mailbox `m` says about the account $1.
_APPLYING = f"""
LEFT JOIN LATERAL (
    SELECT {_AGGREGATED} FROM mailbox_acl AS l WHERE l.mailbox_id = m.mailbox_id AND (l.account_id = $1 OR l.account_id IS NULL)
) AS g ON true
"""
_OWN = f"SELECT {_COLUMNS}, NULL, NULL, '' FROM mailbox AS m WHERE m.account_id = $1 AND m.name = $2"
# $3 and $4 are pairs, of which one at most is there: the owner's name and the name that the owner gave the mailbox.
_OWNERS = {
    OTHER_USERS: "account AS o ON o.login = wanted.owner AND o.tenant_id + 0 = $2 AND o.kind = 'person' AND o.account_id <> $1",
    SHARED: "account AS o ON o.shared_name = wanted.owner AND o.tenant_id = $2 AND o.kind = 'team' AND o.account_id <> $1",
}
_OTHERS = {
    namespace: f"SELECT {_COLUMNS}, g.granted, g.denied, {_PREFIX} FROM unnest($3::text[], $4::text[]) AS wanted (owner, name) "
    f"JOIN {owner} JOIN mailbox AS m ON m.account_id = o.account_id AND m.name = wanted.name {_APPLYING}"
    for namespace, owner in _OWNERS.items()
}
_OWNER = {
    namespace: f"SELECT o.account_id, {_PREFIX}, wanted.name FROM unnest($3::text[], $4::text[]) AS wanted (owner, name) "
    f"JOIN {owner}"
    for namespace, owner in _OWNERS.items()
}
_RIGHTS = f"""
SELECT m.account_id = $1 AS is_owner, g.granted, g.denied
  FROM mailbox AS m {_APPLYING}
 WHERE m.mailbox_id = $3 AND m.tenant_id = $2
"""
_ENTRIES = """
SELECT coalesce(a.login, 'anyone') AS identifier, l.is_negative, l.rights
  FROM mailbox_acl AS l LEFT JOIN account AS a USING (account_id)
 WHERE l.mailbox_id = $1 ORDER BY a.login NULLS FIRST, l.is_negative
"""


@dataclass(frozen=True, slots=True)
class Visible:
    """A mailbox as a viewer sees it: `mailbox.name` is the name that the viewer knows it by."""

    mailbox: Mailbox
    rights: frozenset[str]
    prefix: str = ""  # of the owner's names, as the viewer knows them; empty for the viewer's own

    @property
    def own_name(self) -> str:
        """The name that the owner knows."""
        return self.mailbox.name.removeprefix(self.prefix)


@dataclass(frozen=True, slots=True)
class Entry:
    """One pair of an access control list."""

    identifier: str  # a login or "anyone"
    is_negative: bool
    rights: frozenset[str]

    @property
    def spelling(self) -> str:
        """As RFC 4314 §2 writes it."""
        return f"-{self.identifier}" if self.is_negative else self.identifier


def effective(granted: str | None, denied: str | None) -> frozenset[str]:
    """What is granted less what is denied, whoever it is granted or denied by (RFC 4314 §2)."""
    return frozenset(granted or "") - frozenset(denied or "")


def ordered(rights: Iterable[str]) -> str:
    """Rights as they are written, in the order of RFC 4314 §2.1."""
    held = frozenset(rights)
    return "".join(letter for letter in RIGHTS if letter in held)


def is_others(name: str) -> bool:
    """Whether the name belongs to a namespace of others: the prefix itself or something below it."""
    return name.partition(SEPARATOR)[0] in NAMESPACES


def _visible(row: asyncpg.Record) -> Visible:
    mailbox = mailbox_row(row)
    granted, denied, prefix = row[-3:]
    if not prefix:
        return Visible(mailbox, ALL_RIGHTS)
    return Visible(replace(mailbox, name=prefix + mailbox.name), effective(granted, denied), prefix)


async def list_visible(connection: Connection, account_id: int, tenant_id: int) -> list[Visible]:
    """All mailboxes on which the account has any right, its own included, by name: one statement."""
    found = [_visible(row) for row in await connection.fetch(_VISIBLE, account_id, tenant_id)]
    found.sort(key=lambda visible: visible.mailbox.name)
    return [visible for visible in found if visible.rights]


async def find(connection: Connection, account_id: int, tenant_id: int, name: str) -> Visible | None:
    """The mailbox that the account knows by this name, whatever its rights on it; one statement."""
    if not is_others(name):
        row = await connection.fetchrow(_OWN, account_id, name)
        return _visible(row) if row else None
    namespace, _, rest = name.partition(SEPARATOR)
    row = await connection.fetchrow(_OTHERS[namespace], account_id, tenant_id, *_cuts(rest))
    return _visible(row) if row else None


def _cuts(rest: str) -> tuple[list[str], list[str]]:
    """Where `OWNER/NAME` can be cut: a login may have "/" in its local part (RFC 5321 §4.1.2 atext)."""
    levels = rest.split(SEPARATOR)
    owners = [SEPARATOR.join(levels[:count]) for count in range(1, len(levels))]
    return owners, [SEPARATOR.join(levels[count:]) for count in range(1, len(levels))]


async def find_owner(connection: Connection, account_id: int, tenant_id: int, name: str) -> tuple[int, str, str] | None:
    """(account, prefix, the owner's name) of a name below a namespace of others, whether or not a mailbox has it."""
    namespace, _, rest = name.partition(SEPARATOR)
    row = await connection.fetchrow(_OWNER[namespace], account_id, tenant_id, *_cuts(rest))
    return (row[0], row[1], row[2]) if row else None


async def rights(connection: Connection, account_id: int, tenant_id: int, mailbox_id: int) -> frozenset[str]:
    """The account's rights on a mailbox; none on one that is gone or of another tenant."""
    async with reported():
        row = await connection.fetchrow(_RIGHTS, account_id, tenant_id, mailbox_id)
    if row is None:
        return frozenset()
    return ALL_RIGHTS if row["is_owner"] else effective(row["granted"], row["denied"])


# -- lists ------------------------------------------------------------------------------------------------------------


async def entries(connection: Connection, mailbox_id: int) -> list[Entry]:
    """The mailbox's list without the owner: anyone first, then by login, what is denied behind what is granted."""
    rows = await connection.fetch(_ENTRIES, mailbox_id)
    return [Entry(row[0], row[1], frozenset(row[2])) for row in rows]


async def owner_login(connection: Connection, mailbox_id: int) -> str | None:
    """The login of the person whose mailbox it is; None for a team's."""
    login: str | None = await connection.fetchval(
        "SELECT login FROM mailbox JOIN account USING (account_id) WHERE mailbox_id = $1 AND kind = 'person'",
        mailbox_id,
    )
    return login


Change = Literal["replace", "add", "remove"]


async def set_rights(
    connection: Connection,
    mailbox_id: int,
    identifier: str,
    change: Change,
    given: Collection[str],
    *,
    is_negative: bool,
) -> None:
    """Change one pair of the list; one that is left without rights is removed.

    Raises NotFoundError for an identifier that is no account of the mailbox's tenant, MailboxNotFoundError.
    """
    async with connection.transaction():
        tenant_id = await connection.fetchval(
            "SELECT tenant_id FROM mailbox WHERE mailbox_id = $1 FOR NO KEY UPDATE", mailbox_id
        )
        if tenant_id is None:
            raise MailboxNotFoundError(f"mailbox {mailbox_id}")
        account_id = await _identified(connection, tenant_id, identifier)
        before = await connection.fetchval(
            "SELECT rights FROM mailbox_acl WHERE mailbox_id = $1 AND account_id IS NOT DISTINCT FROM $2 AND is_negative = $3",
            mailbox_id, account_id, is_negative,
        )  # fmt: skip
        held = frozenset(before or "")
        after = {"replace": frozenset(given), "add": held.union(given), "remove": held.difference(given)}[change]
        if after == held:
            return
        if not after:
            await _remove(connection, mailbox_id, account_id, is_negative=is_negative)
            return
        await connection.execute(
            "INSERT INTO mailbox_acl (mailbox_id, tenant_id, account_id, is_negative, rights) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT (mailbox_id, account_id, is_negative) DO UPDATE SET rights = EXCLUDED.rights",
            mailbox_id, tenant_id, account_id, is_negative, ordered(after),
        )  # fmt: skip


async def mailbox_of(connection: Connection, login: str, name: str) -> int:
    """The id of a mailbox by its owner's login, or a team's address, and the name it has there. Raises NotFoundError."""
    mailbox_id: int | None = await connection.fetchval(
        "SELECT mailbox_id FROM mailbox JOIN account USING (account_id) WHERE login = lower($1) AND name = $2",
        login,
        name,
    )
    if mailbox_id is None:
        raise NotFoundError("no such mailbox")
    return mailbox_id


async def share_seen(connection: Connection, mailbox_id: int, *, is_shared: bool) -> None:
    r"""Keep one \Seen for all, or one for each viewer besides the owner's; takes effect with the next SELECT.

    Since flags change with it, all messages get a new MODSEQ.
    """
    async with connection.transaction():
        modseq = await connection.fetchval(
            "UPDATE mailbox SET is_seen_shared = $2, highestmodseq = highestmodseq + 1 "
            "WHERE mailbox_id = $1 AND is_seen_shared <> $2 RETURNING highestmodseq",
            mailbox_id, is_shared,
        )  # fmt: skip
        if modseq is not None:
            await connection.execute("UPDATE message SET modseq = $2 WHERE mailbox_id = $1", mailbox_id, modseq)


async def remove_rights(connection: Connection, mailbox_id: int, identifier: str, *, is_negative: bool) -> None:
    """Remove one pair of the list; that there is none is no error. Raises NotFoundError for an unknown identifier."""
    tenant_id = await connection.fetchval("SELECT tenant_id FROM mailbox WHERE mailbox_id = $1", mailbox_id)
    account_id = await _identified(connection, tenant_id, identifier)
    await _remove(connection, mailbox_id, account_id, is_negative=is_negative)


async def _remove(connection: Connection, mailbox_id: int, account_id: int | None, *, is_negative: bool) -> None:
    await connection.execute(
        "DELETE FROM mailbox_acl WHERE mailbox_id = $1 AND account_id IS NOT DISTINCT FROM $2 AND is_negative = $3",
        mailbox_id, account_id, is_negative,
    )  # fmt: skip


async def _identified(connection: Connection, tenant_id: int, identifier: str) -> int | None:
    """The account of that login in the tenant; None for anyone. A team is nobody that could be given rights."""
    if identifier == ANYONE:
        return None
    account_id: int | None = await connection.fetchval(
        "SELECT account_id FROM account WHERE tenant_id = $1 AND login = lower($2) AND kind = 'person'",
        tenant_id, identifier,
    )  # fmt: skip
    if account_id is None:
        raise NotFoundError("no such identifier")
    return account_id
