"""What tenants want to be done with infected mail for their people; NULL is: as configured."""

from storage.errors import NotFoundError
from storage.pool import Connection, Pool, reported


async def action_of(pool: Pool, tenant_id: int) -> str | None:
    """The tenant's own choice: "reject", "strip", "quarantine" or "discard". Raises UnavailableError."""
    async with reported():
        action: str | None = await pool.fetchval("SELECT antivirus_action FROM tenant WHERE tenant_id = $1", tenant_id)
    return action


async def chosen(connection: Connection, tenant: str) -> str | None:
    """The same by the tenant's name. Raises NotFoundError."""
    row = await connection.fetchrow("SELECT antivirus_action FROM tenant WHERE name = $1", tenant)
    if row is None:
        raise NotFoundError(tenant)
    action: str | None = row["antivirus_action"]
    return action


async def choose(connection: Connection, tenant: str, action: str | None) -> None:
    """Set the tenant's choice. Raises NotFoundError."""
    statement = "UPDATE tenant SET antivirus_action = $2 WHERE name = $1 RETURNING 1"
    if await connection.fetchval(statement, tenant, action) is None:
        raise NotFoundError(tenant)
