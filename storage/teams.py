r"""Teams: accounts that own mailboxes and receive mail like a person's, but that nobody can log in to.

A team's mailboxes show below `Shared/NAME/`, to whom its access control lists let see them, and each of these has a \Seen of
its own.
"""

from collections.abc import Collection

import asyncpg

from storage.accounts import add_address, login_name
from storage.errors import ExistsError, NotFoundError
from storage.mailboxes import INBOX
from storage.pool import Connection, reported
from storage.rows import Login, TeamRow
from storage.sharing import ordered, set_rights

_NOBODYS = "!"  # no PHC string, so no password matches it


async def add_team(
    connection: Connection, tenant: str, address: str, name: str, quota_octets: int | None = None
) -> int:
    """Create the team with its address and its INBOX. Returns the account_id.

    Raises NotFoundError when the tenant has no such domain, ExistsError when address or name is taken, ValueError for a name
    that no level of a mailbox name can be.
    """
    login = login_name(address)
    try:
        async with reported(), connection.transaction():
            account_id: int | None = await connection.fetchval(
                "INSERT INTO account (tenant_id, login, password_hash, quota_octets, kind, shared_name) "
                "SELECT d.tenant_id, $1, $2, $3, 'team', $4 FROM domain AS d JOIN tenant AS t USING (tenant_id) "
                "WHERE d.name = $5 AND t.name = $6 RETURNING account_id",
                login, _NOBODYS, quota_octets, name, login.rpartition("@")[2], tenant,
            )  # fmt: skip
            if account_id is None:
                raise NotFoundError("the tenant has no such domain")
            await add_address(connection, login, login)
            await connection.execute(
                "INSERT INTO mailbox (tenant_id, account_id, name, is_seen_shared) "
                "SELECT tenant_id, account_id, $2, false FROM account WHERE account_id = $1",
                account_id, INBOX,
            )  # fmt: skip
    except asyncpg.UniqueViolationError as error:
        raise ExistsError("address or name is taken") from error
    except asyncpg.CheckViolationError as error:
        raise ValueError("not a possible name of a team") from error
    return account_id


async def list_teams(connection: Connection) -> list[TeamRow]:
    """All teams, by tenant and name."""
    rows = await connection.fetch(
        "SELECT a.account_id, a.shared_name, a.login, t.name, a.quota_octets, "
        "(SELECT coalesce(sum(size_octets), 0)::bigint FROM mailbox AS m WHERE m.account_id = a.account_id), "
        "(SELECT count(DISTINCT l.account_id) FROM mailbox_acl AS l JOIN mailbox AS m USING (mailbox_id) "
        " WHERE m.account_id = a.account_id AND NOT l.is_negative) "
        "FROM account AS a JOIN tenant AS t USING (tenant_id) WHERE a.kind = 'team' ORDER BY t.name, a.shared_name"
    )
    return [TeamRow(*row) for row in rows]


async def find_team(connection: Connection, address: str) -> Login | None:
    """The team as somebody who works on its mailboxes from the command line; there is nothing to log in with."""
    row = await connection.fetchrow(
        "SELECT account_id, tenant_id, login, password_hash, true FROM account WHERE login = $1 AND kind = 'team'",
        login_name(address),
    )
    return Login(*row) if row else None


async def grant(connection: Connection, address: str, identifier: str, rights: Collection[str]) -> None:
    """Give a person, or anyone, exactly these rights on all mailboxes of the team; none takes them away.

    New mailboxes inherit from those above them. Raises NotFoundError for the team or the identifier.
    """
    async with connection.transaction():
        rows = await connection.fetch(
            "SELECT mailbox_id FROM mailbox JOIN account USING (account_id) "
            "WHERE login = $1 AND kind = 'team' ORDER BY mailbox_id",
            login_name(address),
        )
        if not rows:
            raise NotFoundError("no such team")
        for row in rows:
            await set_rights(connection, row[0], identifier, "replace", ordered(rights), is_negative=False)
