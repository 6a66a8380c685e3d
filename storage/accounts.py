"""Tenants, domains, accounts and addresses: looking them up (often, cached) and changing them (seldom)."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import asyncpg

from storage import choices
from storage.credentials import LOGIN, login_of
from storage.errors import ExistsError, NotFoundError, UnavailableError
from storage.mailboxes import DEFAULT_MAILBOXES
from storage.notifications import DIRECTORY, ChangeHub
from storage.pool import Connection, Pool, reported
from storage.rows import AccountRow, AddressRow, Destination, DomainRow, Login, Recipient, TenantRow

_K = TypeVar("_K")
_V = TypeVar("_V")
_CACHED_SECONDS = 10.0  # what a quota may be behind; every other change drops the cache at once
_CACHED_NAMES = 20_000

# The first of the candidates that the domain has: the address itself, the address without its +detail, the catch-all.
_RESOLVE = """
SELECT d.tenant_id, f.forward_paths, f.keeps, a.tenant_id AS owner_id, a.account_id, m.mailbox_id,
       NOT a.receives OR a.is_disabled AS is_disabled, a.account_id IS NOT NULL AND
       EXISTS (SELECT FROM room_left(a.account_id) AS room WHERE room.octets <= 0 OR room.messages <= 0) AS is_over_quota
  FROM domain AS d
 CROSS JOIN unnest($2::text[]) WITH ORDINALITY AS candidate (local_part, place)
  LEFT JOIN (address AS r
             JOIN account AS a USING (account_id)
             JOIN mailbox AS m ON m.account_id = a.account_id AND m.name = 'INBOX')
    ON r.domain_id = d.domain_id AND r.local_part = candidate.local_part
  LEFT JOIN address_forward AS f ON f.domain_id = d.domain_id AND f.local_part = candidate.local_part
 WHERE d.name = $1 AND (r.address_id IS NOT NULL OR f.domain_id IS NOT NULL)
 ORDER BY candidate.place LIMIT 1
"""


def domain_name(domain: str) -> str:
    """The form in which domains are stored: lower case, U-labels. What is no A-label is left as it is."""
    name = domain.lower().rstrip(".")
    if "xn--" in name:
        with suppress(UnicodeError):
            name = name.encode("ascii").decode("idna")
    return name


def login_name(name: str) -> str:
    """The form in which logins are stored, of any spelling."""
    local_part, at, domain = name.rpartition("@")
    return local_part.lower() + at + domain_name(domain)


def split_address(address: str) -> tuple[str, str]:
    """Local part and domain in the forms in which addresses are stored; "@domain" is a catch-all."""
    local_part, _, domain = address.rpartition("@")
    return local_part.lower(), domain_name(domain)


class Directory:
    """Who receives, and who may log in. One per process; answers from memory while nothing changed."""

    def __init__(self, pool: Pool, hub: ChangeHub) -> None:
        self._pool = pool
        self._hub = hub
        self._destinations: dict[tuple[str, str], tuple[float, Destination | None]] = {}
        self._domains: dict[str, tuple[float, int | None]] = {}
        self._logins: dict[str, tuple[float, Login | None]] = {}
        self.close: Callable[[], None] = hub.on(DIRECTORY, self.clear)

    def clear(self) -> None:
        """Forget everything; called when identities changed anywhere."""
        self._destinations.clear()
        self._domains.clear()
        self._logins.clear()

    async def resolve(self, local_part: str, domain: str) -> Recipient | None:
        """Whose address it is, whatever it forwards; None when it is no account's. Raises UnavailableError."""
        found = await self.destination(local_part, domain)
        return None if found is None else found.recipient

    async def destination(self, local_part: str, domain: str) -> Destination | None:
        """Where mail for the address goes; None when there is no such address. Raises UnavailableError."""
        name = (local_part.lower(), domain_name(domain))
        known = self._destinations.get(name)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        candidates = list(dict.fromkeys([name[0], name[0].partition("+")[0], ""]))
        row = await self._row(_RESOLVE, name[1], candidates)
        found = None
        if row is not None:
            tenant_id, forward_paths, keeps, *recipient = row
            found = Destination(
                tenant_id,
                Recipient(*recipient) if recipient[0] is not None else None,
                tuple(forward_paths or ()),
                keeps is not False,
            )
        self._remember(self._destinations, name, found)
        return found

    async def domain_is_local(self, domain: str) -> bool:
        """Whether mail for the domain is ours to take. Raises UnavailableError."""
        return await self.tenant_of(domain) is not None

    async def tenant_of(self, domain: str) -> int | None:
        """Whose domain it is; None when it is not ours. Raises UnavailableError."""
        name = domain_name(domain)
        known = self._domains.get(name)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        row = await self._row("SELECT tenant_id FROM domain WHERE name = $1", name)
        found: int | None = None if row is None else row["tenant_id"]
        self._remember(self._domains, name, found)
        return found

    async def login(self, name: str) -> Login | None:
        """What is needed to check a password. Raises UnavailableError."""
        login = login_name(name)
        known = self._logins.get(login)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        row = await self._row(LOGIN, login)
        found = login_of(row) if row else None
        self._remember(self._logins, login, found)
        return found

    async def language(self, tenant_id: int) -> str:
        """The tenant's language, "de" or "en": for what is written to its people. Raises UnavailableError."""
        row = await self._row("SELECT language FROM tenant WHERE tenant_id = $1", tenant_id)
        return "de" if row is None else str(row["language"])

    async def _row(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        """One row; asked twice, since a restarted server leaves connections in the pool that nobody has missed yet."""
        with suppress(UnavailableError):
            async with reported():
                return await self._pool.fetchrow(statement, *arguments)
        await self._pool.expire_connections()
        async with reported():
            return await self._pool.fetchrow(statement, *arguments)

    def _remember(self, known: dict[_K, tuple[float, _V]], name: _K, value: _V) -> None:
        if not self._hub.is_connected:
            return  # nobody would tell us of changes
        if len(known) >= _CACHED_NAMES:
            known.clear()
        known[name] = (time.monotonic() + _CACHED_SECONDS, value)


async def add_tenant(connection: Connection, name: str, wrapped_key: bytes, quota_octets: int | None = None) -> int:
    """Returns the tenant_id. Raises ExistsError."""
    statement = "INSERT INTO tenant (name, wrapped_key, quota_octets) VALUES ($1, $2, $3) RETURNING tenant_id"
    return await _added(connection, statement, name, wrapped_key, quota_octets)


async def set_language(connection: Connection, tenant: str, language: str) -> None:
    """What is written to the tenant's people is in that language from now on. Raises NotFoundError."""
    await choices.choose(connection, "language", tenant, language)


async def list_tenants(connection: Connection) -> list[TenantRow]:
    """All tenants, by name."""
    rows = await connection.fetch(
        "SELECT tenant_id, name, quota_octets, (SELECT count(*) FROM domain AS d WHERE d.tenant_id = t.tenant_id), "
        "(SELECT count(*) FROM account AS a WHERE a.tenant_id = t.tenant_id), "
        "(SELECT coalesce(sum(size_octets), 0)::bigint FROM mailbox AS m WHERE m.tenant_id = t.tenant_id) "
        "FROM tenant AS t ORDER BY name"
    )
    return [TenantRow(*row) for row in rows]


async def remove_tenant(connection: Connection, name: str) -> None:
    """Raises NotFoundError, and ExistsError while it has domains, accounts, contents or an archive."""
    await _removed(connection, "DELETE FROM tenant WHERE name = $1 RETURNING 1", name)


async def add_domain(connection: Connection, tenant: str, name: str) -> int:
    """Returns the domain_id. Raises NotFoundError for the tenant, ExistsError."""
    statement = (
        "INSERT INTO domain (tenant_id, name) SELECT tenant_id, $2 FROM tenant WHERE name = $1 RETURNING domain_id"
    )
    return await _added(connection, statement, tenant, domain_name(name))


async def list_domains(connection: Connection) -> list[DomainRow]:
    """All domains, by name."""
    rows = await connection.fetch(
        "SELECT domain_id, d.name, t.name, (SELECT count(*) FROM address AS a WHERE a.domain_id = d.domain_id) "
        "FROM domain AS d JOIN tenant AS t USING (tenant_id) ORDER BY d.name"
    )
    return [DomainRow(*row) for row in rows]


async def remove_domain(connection: Connection, name: str) -> None:
    """Remove the domain with its addresses; accounts stay. Raises NotFoundError."""
    await _removed(connection, "DELETE FROM domain WHERE name = $1 RETURNING 1", domain_name(name))


async def add_account(
    connection: Connection,
    tenant: str,
    login: str,
    password_hash: str,
    quota_octets: int | None = None,
    *,
    scram: str | None = None,
) -> int:
    """Create the account with its address and its default mailboxes. Returns the account_id.

    Raises NotFoundError when the tenant has no such domain, ExistsError when login or address is taken.
    """
    local_part, domain = split_address(login)
    async with connection.transaction():
        account_id = await _added(
            connection,
            "INSERT INTO account (tenant_id, login, password_hash, quota_octets, scram_sha_256) "
            "SELECT d.tenant_id, $1, $2, $3, $6 FROM domain AS d JOIN tenant AS t USING (tenant_id) "
            "WHERE d.name = $4 AND t.name = $5 RETURNING account_id",
            f"{local_part}@{domain}", password_hash, quota_octets, domain, tenant, scram,
        )  # fmt: skip
        await add_address(connection, login, login)
        names = [name for name, _ in DEFAULT_MAILBOXES]
        await connection.execute(
            "INSERT INTO mailbox (tenant_id, account_id, name, special_use) SELECT tenant_id, account_id, n, u "
            "FROM account, unnest($2::text[], $3::text[]) AS box (n, u) WHERE account_id = $1",
            account_id, names, [use for _, use in DEFAULT_MAILBOXES],
        )  # fmt: skip
        await connection.execute("INSERT INTO subscription SELECT $1, unnest($2::text[])", account_id, names)
    return account_id


async def list_accounts(connection: Connection) -> list[AccountRow]:
    """All accounts of persons, by login."""
    rows = await connection.fetch(
        "SELECT account_id, login, t.name, a.quota_octets, coalesce(sum(m.size_octets), 0)::bigint, "
        "coalesce(sum(m.message_count), 0)::bigint, is_disabled, quota_messages, is_administrator, "
        "copies_sent "
        "FROM account AS a JOIN tenant AS t USING (tenant_id) LEFT JOIN mailbox AS m USING (account_id) "
        "WHERE a.kind = 'person' GROUP BY account_id, t.tenant_id ORDER BY login"
    )
    return [AccountRow(*row) for row in rows]


async def login_of_account(connection: "Connection | Pool", account_id: int) -> str:
    """The account's login, "" when it is gone. Raises UnavailableError."""
    async with reported():
        return await connection.fetchval("SELECT login FROM account WHERE account_id = $1", account_id) or ""


async def remove_account(connection: Connection, login: str) -> None:
    """Remove the account with its mailboxes and addresses; what is archived stays archived. Raises NotFoundError."""
    local_part, domain = split_address(login)
    name = f"{local_part}@{domain}"
    boxes = "(SELECT mailbox_id FROM mailbox JOIN account USING (account_id) WHERE login = $1)"
    async with connection.transaction():
        await connection.execute(
            f"SELECT FROM mailbox WHERE mailbox_id IN {boxes} ORDER BY mailbox_id FOR UPDATE", name
        )
        await connection.execute(f"DELETE FROM message WHERE mailbox_id IN {boxes}", name)
        await connection.execute(f"DELETE FROM mailbox WHERE mailbox_id IN {boxes}", name)
        await _removed(connection, "DELETE FROM account WHERE login = $1 RETURNING 1", name)


async def set_password(connection: Connection, login: str, password_hash: str, *, scram: str | None = None) -> None:
    """Replace the hash and, with it, the SCRAM verifier of the same password. Raises NotFoundError."""
    local_part, domain = split_address(login)
    statement = (
        "UPDATE account SET password_hash = $2, scram_sha_256 = $3 WHERE login = $1 AND kind = 'person' RETURNING 1"
    )
    await _removed(connection, statement, f"{local_part}@{domain}", password_hash, scram)


async def add_address(connection: Connection, address: str, login: str) -> int:
    """Deliver mail for the address to the account; "@domain" is the domain's catch-all. Returns the address_id.

    Raises NotFoundError when the account's tenant has no such domain, ExistsError.
    """
    local_part, domain = split_address(address)
    owner = "@".join(split_address(login))
    return await _added(
        connection,
        "INSERT INTO address (tenant_id, domain_id, local_part, account_id) SELECT d.tenant_id, domain_id, $1, account_id "
        "FROM domain AS d JOIN account AS a USING (tenant_id) WHERE d.name = $2 AND a.login = $3 RETURNING address_id",
        local_part, domain, owner,
    )  # fmt: skip


async def list_addresses(connection: Connection) -> list[AddressRow]:
    """All addresses, by domain and local part."""
    rows = await connection.fetch(
        "SELECT address_id, local_part || '@' || d.name, login FROM address JOIN domain AS d USING (domain_id) "
        "JOIN account USING (account_id) ORDER BY d.name, local_part"
    )
    return [AddressRow(*row) for row in rows]


async def remove_address(connection: Connection, address: str) -> None:
    """Whatever it stands for: an account, what it forwards to, or both. Raises NotFoundError."""
    statement = (
        "WITH d AS (SELECT domain_id FROM domain WHERE name = $2), "
        "f AS (DELETE FROM address_forward USING d WHERE address_forward.domain_id = d.domain_id AND local_part = $1 RETURNING 1), "
        "a AS (DELETE FROM address USING d WHERE address.domain_id = d.domain_id AND local_part = $1 RETURNING 1) "
        "SELECT 1 FROM (TABLE f UNION ALL TABLE a) AS removed LIMIT 1"
    )
    await _removed(connection, statement, *split_address(address))


async def _added(connection: Connection, statement: str, *arguments: object) -> int:
    try:
        async with reported():
            identity: int | None = await connection.fetchval(statement, *arguments)
    except asyncpg.UniqueViolationError as error:
        raise ExistsError("it exists already") from error
    if identity is None:
        raise NotFoundError("what it belongs to does not exist")
    return identity


async def _removed(connection: Connection, statement: str, *arguments: object) -> None:
    try:
        async with reported():
            found = await connection.fetchval(statement, *arguments)
    except asyncpg.ForeignKeyViolationError as error:
        raise ExistsError("it is still in use") from error
    if found is None:
        raise NotFoundError("it does not exist")
