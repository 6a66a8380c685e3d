"""What tenants have chosen in place of the configuration: columns of their rows, where NULL is: as configured."""

from typing import Any, Literal

from storage.errors import NotFoundError
from storage.pool import Connection

Column = Literal["antivirus_action", "greylisting", "language", "trace_days"]


async def chosen(connection: Connection, column: Column, tenant: str) -> Any:
    """What the tenant of this name has chosen. Raises NotFoundError."""
    row = await connection.fetchrow(f"SELECT {column} FROM tenant WHERE name = $1", tenant)
    if row is None:
        raise NotFoundError(f"no tenant {tenant}")
    return row[0]


async def choose(connection: Connection, column: Column, tenant: str, choice: object) -> None:
    """Set it. Raises NotFoundError."""
    statement = f"UPDATE tenant SET {column} = $2 WHERE name = $1 RETURNING true"
    if await connection.fetchval(statement, tenant, choice) is None:
        raise NotFoundError(f"no tenant {tenant}")
