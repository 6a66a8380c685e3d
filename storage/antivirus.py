"""What tenants want to be done with infected mail for their people; NULL is: as configured."""

from storage import choices
from storage.pool import Connection, Pool, reported


async def action_of(pool: Pool, tenant_id: int) -> str | None:
    """The tenant's own choice: "reject", "strip", "quarantine" or "discard". Raises UnavailableError."""
    async with reported():
        action: str | None = await pool.fetchval("SELECT antivirus_action FROM tenant WHERE tenant_id = $1", tenant_id)
    return action


async def chosen(connection: Connection, tenant: str) -> str | None:
    """The same by the tenant's name. Raises NotFoundError."""
    action: str | None = await choices.chosen(connection, "antivirus_action", tenant)
    return action


async def choose(connection: Connection, tenant: str, action: str | None) -> None:
    """Set the tenant's choice. Raises NotFoundError."""
    await choices.choose(connection, "antivirus_action", tenant, action)
