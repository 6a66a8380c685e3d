"""Mail that an account has sent on, whose sender must not hear of failures: what cannot be delivered comes back to the account."""

from dataclasses import dataclass

from storage.effects import Effect
from storage.errors import StorageError
from storage.pool import Connection, Pool, reported
from storage.rows import Recipient

_HOLDER = """
SELECT a.tenant_id, a.account_id, m.mailbox_id, a.is_disabled, false
  FROM outbound_return AS r JOIN account AS a USING (account_id)
  JOIN mailbox AS m ON m.account_id = a.account_id AND m.name = 'INBOX'
 WHERE r.outbound_id = $1 AND r.returned_at IS NULL
"""


class AlreadyReturnedError(StorageError):
    """The account has it back already."""


@dataclass(frozen=True, slots=True)
class ReturnsTo(Effect):
    """The message, which is queued, comes back to the account when it cannot be delivered."""

    account_id: int

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect. A message in the queue has the number of its content."""
        await connection.execute(
            "INSERT INTO outbound_return (outbound_id, account_id) VALUES ($1, $2)", content_id, self.account_id
        )


@dataclass(frozen=True, slots=True)
class CameBack(Effect):
    """It has come back. It does so once, however many of its recipients cannot be reached: AlreadyReturnedError."""

    outbound_id: int

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect."""
        done = await connection.fetchval(
            "UPDATE outbound_return SET returned_at = now() WHERE outbound_id = $1 AND returned_at IS NULL RETURNING true",
            self.outbound_id,
        )
        if not done:
            raise AlreadyReturnedError(f"message {self.outbound_id} of the queue")

    def lock(self) -> str:
        """The row."""
        return f"outbound_return {self.outbound_id}"


async def holder(connection: "Connection | Pool", outbound_id: int) -> Recipient | None:
    """To whom a message of the queue comes back now; None: to nobody, or it has already. Raises UnavailableError."""
    async with reported():
        row = await connection.fetchrow(_HOLDER, outbound_id)
    return None if row is None else Recipient(*row)
