"""Lists of addresses of accounts and tenants, which scripts name: values in lower case, "@domain" for all addresses of a domain."""

from collections.abc import Sequence
from dataclasses import dataclass

from storage.errors import ExistsError, NotFoundError
from storage.pool import Connection, Pool, reported
from storage.spam_standing import number_of

ADDRESS_BOOK = "default"  # each account has it, be there anything in it or not
WRITTEN_TO = (
    "written"  # each account has it: whom it has written to, as the spam filter remembers, so nobody can read it
)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose list it is."""

    tenant_id: int
    account_id: int | None = None  # None: the tenant's, for all its accounts


@dataclass(frozen=True, slots=True)
class ListRow:
    """One list, for a listing."""

    name: str
    entries: int


@dataclass(frozen=True, slots=True)
class EntryRow:
    """What is in a list, for a listing."""

    value: str
    label: str


_LIST = "tenant_id = $1 AND account_id IS NOT DISTINCT FROM $2 AND name = $3"


async def holder(connection: Connection, name: str) -> Holder:
    """Of the account with that login or, without "@" in it, of the tenant of that name. Raises NotFoundError."""
    async with reported():
        if "@" in name:
            row = await connection.fetchrow("SELECT tenant_id, account_id FROM account WHERE login = $1", name)
        else:
            row = await connection.fetchrow("SELECT tenant_id, NULL::bigint FROM tenant WHERE name = $1", name)
    if row is None:
        raise NotFoundError(f"{'account' if '@' in name else 'tenant'} {name}")
    return Holder(*row)


async def matching(connection: "Connection | Pool", holder: Holder, name: str, values: Sequence[str]) -> str | None:
    """The first of the values that is in the list."""
    if holder.account_id is not None and name == WRITTEN_TO:
        return await _written_to(connection, holder.account_id, values)
    wanted = {value: _spellings(value) for value in values}
    async with reported():
        rows = await connection.fetch(
            f"SELECT value FROM address_list_entry JOIN address_list USING (list_id) WHERE {_LIST} AND value = ANY ($4::text[])",
            holder.tenant_id, holder.account_id, name, sorted(set().union(*wanted.values())),
        )  # fmt: skip
    found = {row["value"] for row in rows}
    return next((value for value, spellings in wanted.items() if spellings & found), None)


async def exists(connection: "Connection | Pool", holder: Holder, name: str) -> bool:
    """Whether there is such a list."""
    if holder.account_id is not None and name in (ADDRESS_BOOK, WRITTEN_TO):
        return True
    statement = f"SELECT true FROM address_list WHERE {_LIST}"
    async with reported():
        return bool(await connection.fetchval(statement, holder.tenant_id, holder.account_id, name))


async def entries(connection: "Connection | Pool", holder: Holder, name: str) -> list[EntryRow]:
    """What is in the list, in order. Raises NotFoundError."""
    if not await exists(connection, holder, name):
        raise NotFoundError(f"list {name}")
    async with reported():
        rows = await connection.fetch(
            f"SELECT value, label FROM address_list_entry JOIN address_list USING (list_id) WHERE {_LIST} ORDER BY value",
            holder.tenant_id, holder.account_id, name,
        )  # fmt: skip
    return [EntryRow(*row) for row in rows]


async def lists(connection: Connection, holder: Holder) -> list[ListRow]:
    """The lists, by name."""
    async with reported():
        rows = await connection.fetch(
            "SELECT name, (SELECT count(*) FROM address_list_entry AS e WHERE e.list_id = l.list_id) FROM address_list AS l "
            "WHERE tenant_id = $1 AND account_id IS NOT DISTINCT FROM $2 ORDER BY name",
            holder.tenant_id, holder.account_id,
        )  # fmt: skip
    return [ListRow(*row) for row in rows]


async def add(connection: Connection, holder: Holder, name: str, values: Sequence[str], label: str = "") -> int:
    """Put the values into the list, which is made if need be. Returns how many were not there. Raises ExistsError."""
    if holder.account_id is not None and name == WRITTEN_TO:
        raise ExistsError(f"{name} is the list of whom the account has written to: it grows by itself")
    async with reported(), connection.transaction():
        list_id = await connection.fetchval(
            "INSERT INTO address_list (tenant_id, account_id, name) VALUES ($1, $2, $3) "
            "ON CONFLICT (tenant_id, account_id, name) DO UPDATE SET name = excluded.name RETURNING list_id",
            holder.tenant_id, holder.account_id, name,
        )  # fmt: skip
        rows = await connection.fetch(
            "INSERT INTO address_list_entry (list_id, value, label) SELECT $1, value, $3 FROM unnest($2::text[]) AS v (value) "
            "ON CONFLICT (list_id, value) DO UPDATE SET label = excluded.label WHERE excluded.label <> '' RETURNING xmax = 0",
            list_id, sorted({value.lower() for value in values}), label,
        )  # fmt: skip
    return sum(row[0] for row in rows)


async def remove(connection: Connection, holder: Holder, name: str, values: Sequence[str]) -> int:
    """Take the values out of the list. Returns how many were there."""
    async with reported():
        rows = await connection.fetch(
            "DELETE FROM address_list_entry WHERE value = ANY ($4::text[]) "
            f"AND list_id = (SELECT list_id FROM address_list WHERE {_LIST}) RETURNING 1",
            holder.tenant_id, holder.account_id, name, [value.lower() for value in values],
        )  # fmt: skip
    return len(rows)


async def drop(connection: Connection, holder: Holder, name: str) -> None:
    """Remove the list with all that is in it. Raises NotFoundError."""
    statement = f"DELETE FROM address_list WHERE {_LIST} RETURNING true"
    async with reported():
        if not await connection.fetchval(statement, holder.tenant_id, holder.account_id, name):
            raise NotFoundError(f"list {name}")


async def _written_to(connection: "Connection | Pool", account_id: int, values: Sequence[str]) -> str | None:
    numbers = {value: number_of(value) for value in values if "@" in value}
    async with reported():
        rows = await connection.fetch(
            "SELECT sender FROM spam_standing WHERE account_id = $1 AND sender = ANY ($2::bigint[]) AND answered > 0",
            account_id, list(numbers.values()),
        )  # fmt: skip
    found = {row["sender"] for row in rows}
    return next((value for value, number in numbers.items() if number in found), None)


def _spellings(value: str) -> set[str]:
    """How a list may have the value: as it is, and as all of its domain."""
    lower = value.lower()
    local_part, at, domain = lower.rpartition("@")
    return {lower, f"@{domain}"} if at and local_part and domain else {lower}
