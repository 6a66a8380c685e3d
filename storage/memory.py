"""What is remembered of an account's mail for a time: whom vacation answered, which ids passed, what was told.

Only digests of the keys are stored.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from storage.effects import Effect
from storage.errors import StorageError
from storage.pool import Connection, Pool, reported

Kind = Literal["vacation", "duplicate", "error", "redirect"]

# A key whose time is over counts as one that is not there. While another transaction has stored the key and not ended, this
# one waits for it.
_REMEMBER = """
INSERT INTO memory (account_id, kind, digest, expires_at) VALUES ($1, $2, $3, now() + $4 * interval '1 second')
    ON CONFLICT (account_id, kind, digest) DO UPDATE SET expires_at = greatest(memory.expires_at, excluded.expires_at)
 WHERE memory.expires_at <= now() OR NOT $5
RETURNING true
"""


class AlreadyRememberedError(StorageError):
    """Somebody else has done what this was to be the memory of."""


@dataclass(frozen=True, slots=True)
class Remember(Effect):
    """Remember a key. When it is exclusive and remembered already, AlreadyRememberedError: nothing of the group is stored."""

    account_id: int
    kind: Kind
    key: str
    seconds: int
    is_exclusive: bool = False

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect."""
        arguments = (self.account_id, self.kind, digest_of(self.key), self.seconds, self.is_exclusive)
        if not await connection.fetchval(_REMEMBER, *arguments):
            raise AlreadyRememberedError(f"{self.kind} of account {self.account_id}")

    def lock(self) -> str:
        """The row."""
        return f"memory {self.account_id} {self.kind} {self.key}"


async def is_remembered(connection: "Connection | Pool", account_id: int, kind: Kind, key: str) -> bool:
    """Whether the key is remembered now."""
    async with reported():
        return bool(
            await connection.fetchval(
                "SELECT true FROM memory WHERE account_id = $1 AND kind = $2 AND digest = $3 AND expires_at > now()",
                account_id, kind, digest_of(key),
            )
        )  # fmt: skip


async def forget(connection: Connection, limit: int) -> int:
    """Remove at most so many keys whose time is over. Returns how many."""
    async with reported():
        rows = await connection.fetch(
            "DELETE FROM memory WHERE ctid = ANY (ARRAY(SELECT ctid FROM memory WHERE expires_at <= now() "
            "ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1",
            limit,
        )
    return len(rows)


def digest_of(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
