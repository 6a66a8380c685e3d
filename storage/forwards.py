"""Addresses that forward: setting, showing and removing them. Mail finds them by storage.accounts.Directory."""

from collections.abc import Sequence

from storage.accounts import split_address
from storage.errors import NotFoundError
from storage.pool import Connection, reported
from storage.rows import ForwardRow


async def set_forward(connection: Connection, address: str, forward_paths: Sequence[str], *, keeps: bool) -> None:
    """Pass mail for the address on to these; "@domain" is the domain's catch-all. What it forwarded to before is replaced.

    Raises NotFoundError when there is no such domain.
    """
    async with reported():
        found = await connection.fetchval(
            "INSERT INTO address_forward (tenant_id, domain_id, local_part, forward_paths, keeps) "
            "SELECT tenant_id, domain_id, $1, $3, $4 FROM domain WHERE name = $2 ON CONFLICT (domain_id, local_part) "
            "DO UPDATE SET forward_paths = excluded.forward_paths, keeps = excluded.keeps RETURNING 1",
            *split_address(address), list(forward_paths), keeps,
        )  # fmt: skip
    if found is None:
        raise NotFoundError("the domain does not exist")


async def list_forwards(connection: Connection) -> list[ForwardRow]:
    """All addresses that forward, by domain and local part."""
    rows = await connection.fetch(
        "SELECT f.local_part || '@' || d.name, forward_paths, keeps, login FROM address_forward AS f "
        "JOIN domain AS d USING (domain_id) LEFT JOIN address AS a USING (domain_id, local_part) "
        "LEFT JOIN account USING (account_id) ORDER BY d.name, f.local_part"
    )
    return [ForwardRow(*row) for row in rows]


async def remove_forward(connection: Connection, address: str) -> None:
    """Pass nothing on any more; the account of the address, if there is one, gets all of it. Raises NotFoundError."""
    async with reported():
        found = await connection.fetchval(
            "DELETE FROM address_forward AS f USING domain AS d "
            "WHERE d.domain_id = f.domain_id AND local_part = $1 AND d.name = $2 RETURNING 1",
            *split_address(address),
        )
    if found is None:
        raise NotFoundError("it does not exist")
