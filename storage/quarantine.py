"""Messages that are kept from their recipients until somebody decides: released into the inbox, deleted, or forgotten in time.

A row refers to the content as it was made for its recipient: what is released is octet for octet what would have come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.effects import Effect
from storage.errors import NotFoundError, StorageError
from storage.pool import Connection, Pool, reported

_ADD = """
INSERT INTO quarantine (tenant_id, account_id, content_id, reason, reverse_path, forward_path, trace_id, received_at, sender_login,
                        orcpt)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_DELETE = "DELETE FROM quarantine WHERE quarantine_id = $1 RETURNING tenant_id, trace_id, forward_path"
_FORGET = """
DELETE FROM quarantine WHERE quarantine_id IN (
    SELECT q.quarantine_id FROM tenant AS t
     CROSS JOIN LATERAL (SELECT quarantine_id FROM quarantine WHERE tenant_id = t.tenant_id
           AND received_at < now() - make_interval(secs => coalesce(t.quarantine_days * 86400.0, $1))
         ORDER BY received_at LIMIT $2) AS q LIMIT $2)
RETURNING tenant_id, trace_id, forward_path
"""
_KEPT = """
SELECT q.quarantine_id, t.name AS tenant, a.login, q.received_at, q.reason, q.reverse_path, q.forward_path, c.subject,
       c.size_octets, q.trace_id, q.told_at,
       q.received_at + make_interval(secs => coalesce(t.quarantine_days * 86400.0, $1)) AS expires_at,
       q.tenant_id, q.account_id, q.content_id, c.header_cache,
       (SELECT mailbox_id FROM mailbox AS m WHERE m.account_id = q.account_id AND m.name = 'INBOX') AS inbox_id,
       q.sender_login, q.orcpt
  FROM quarantine AS q JOIN tenant AS t USING (tenant_id) JOIN account AS a USING (account_id)
  JOIN content AS c USING (content_id)
"""
# The address is the login where that is one of the account's own; a catch-all is no address to write to.
_UNTOLD = """
SELECT a.account_id, a.tenant_id, t.language, address.name AS address
  FROM (SELECT DISTINCT account_id FROM quarantine WHERE told_at IS NULL) AS q
  JOIN account AS a USING (account_id) JOIN tenant AS t USING (tenant_id)
 CROSS JOIN LATERAL (
    SELECT r.local_part || '@' || d.name AS name FROM address AS r JOIN domain AS d USING (domain_id)
     WHERE r.account_id = a.account_id AND r.local_part <> ''
     ORDER BY r.local_part || '@' || d.name <> a.login, r.address_id LIMIT 1) AS address
 WHERE a.account_id > $3 AND a.receives AND NOT a.is_disabled AND coalesce(t.quarantine_notice_seconds, $1) > 0
   AND (a.quarantine_told_at IS NULL
        OR a.quarantine_told_at <= now() - make_interval(secs => coalesce(t.quarantine_notice_seconds, $1)))
 ORDER BY a.account_id LIMIT $2
"""
_TELL = """
UPDATE quarantine SET told_at = now() WHERE quarantine_id = ANY ($1::bigint[]) AND told_at IS NULL RETURNING quarantine_id
"""
_TOLD = "UPDATE account SET quarantine_told_at = now() WHERE account_id = $1"
_POLICY = "SELECT quarantine_junk, quarantine_days, quarantine_notice_seconds FROM tenant WHERE"


class AlreadyToldError(StorageError):
    """Nothing is left of what a notice was to tell: another process has told it, or it was decided meanwhile."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One message in quarantine."""

    quarantine_id: int
    tenant: str
    login: str
    received_at: datetime
    reason: str
    reverse_path: str
    forward_path: str
    subject: str
    size_octets: int
    trace_id: str
    told_at: datetime | None
    expires_at: datetime
    tenant_id: int
    account_id: int
    content_id: int
    header_cache: bytes
    inbox_id: int | None
    sender_login: str
    orcpt: str | None


@dataclass(frozen=True, slots=True)
class Removed:
    """A message that is in no quarantine any more, as the trace names it."""

    tenant_id: int
    trace_id: str
    forward_path: str


@dataclass(frozen=True, slots=True)
class Untold:
    """An account that has to be told of its quarantine."""

    account_id: int
    tenant_id: int
    language: str
    address: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What a tenant wants; None: as configured."""

    junk: frozenset[str] | None = None  # filters whose quarantine is the Junk mailbox
    days: int | None = None
    notice_seconds: int | None = None  # 0: nobody is told


@dataclass(frozen=True, slots=True)
class Quarantined(Effect):
    """The message goes into the quarantine of an account. It stands on a NewMessage of the account's tenant, placed or not."""

    tenant_id: int
    account_id: int
    reason: str  # for people
    reverse_path: str  # "": the null reverse-path
    forward_path: str
    trace_id: str  # 16 hexadecimal digits
    received_at: datetime  # aware
    sender_login: str = ""  # who sent it after AUTH
    orcpt: str | None = None  # RFC 3461 §4.2

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect."""
        await connection.execute(
            _ADD, self.tenant_id, self.account_id, content_id, self.reason, self.reverse_path, self.forward_path,
            self.trace_id, self.received_at, self.sender_login, self.orcpt,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Released(Effect):
    """The message leaves the quarantine: what it stands on is what is delivered. Released is what is still there, once."""

    quarantine_id: int

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect. Raises NotFoundError."""
        if await connection.fetchrow(_DELETE, self.quarantine_id) is None:
            raise NotFoundError(f"message {self.quarantine_id} in quarantine")

    def lock(self) -> str:
        """The row."""
        return f"quarantine {self.quarantine_id:020}"


@dataclass(frozen=True, slots=True)
class Told(Effect):
    """The account is told of these messages by the one that this stands on. Nobody is told twice."""

    account_id: int
    quarantine_ids: tuple[int, ...]

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect. Raises AlreadyToldError."""
        if not await connection.fetch(_TELL, self.quarantine_ids):
            raise AlreadyToldError(f"account {self.account_id}")
        await connection.execute(_TOLD, self.account_id)

    def lock(self) -> str:
        """The rows, by the account that they are of."""
        return f"quarantine of {self.account_id:020}"


async def list_kept(
    connection: Connection, retention_seconds: float, limit: int, *, tenant: str | None = None, login: str | None = None
) -> list[Kept]:
    """What is in quarantine, of a tenant or an account alone if they are named, the newest first."""
    rows = await connection.fetch(
        f"{_KEPT} WHERE ($3::text IS NULL OR t.name = $3) AND ($4::text IS NULL OR a.login = $4) "
        "ORDER BY q.quarantine_id DESC LIMIT $2",
        retention_seconds, limit, tenant, login,
    )  # fmt: skip
    return [Kept(*row) for row in rows]


async def kept(connection: Connection, retention_seconds: float, quarantine_id: int) -> Kept:
    """One of them. Raises NotFoundError."""
    row = await connection.fetchrow(f"{_KEPT} WHERE q.quarantine_id = $2", retention_seconds, quarantine_id)
    if row is None:
        raise NotFoundError(f"no message {quarantine_id} in quarantine")
    return Kept(*row)


async def delete(connection: Connection, quarantine_id: int) -> Removed:
    """Take a message out for good. The archive keeps it. Raises NotFoundError."""
    row = await connection.fetchrow(_DELETE, quarantine_id)
    if row is None:
        raise NotFoundError(f"no message {quarantine_id} in quarantine")
    return Removed(*row)


async def forget(connection: Connection, limit: int, *, older_than_seconds: float) -> list[Removed]:
    """Take out at most so many whose time is over: the tenant's, or else the one that is given."""
    return [Removed(*row) for row in await connection.fetch(_FORGET, older_than_seconds, limit)]


async def untold(connection: Connection, notice_seconds: float, limit: int, *, after: int = 0) -> list[Untold]:
    """Accounts that have not been told of all they have in quarantine, and whose last notice is long enough ago.

    Those after an account, in ascending order.
    """
    return [Untold(*row) for row in await connection.fetch(_UNTOLD, notice_seconds, limit, after)]


async def untold_of(connection: Connection, account_id: int, retention_seconds: float) -> list[Kept]:
    """What an account has not been told of, the oldest first."""
    rows = await connection.fetch(
        f"{_KEPT} WHERE q.account_id = $2 AND q.told_at IS NULL ORDER BY q.quarantine_id", retention_seconds, account_id
    )
    return [Kept(*row) for row in rows]


async def policy_of(pool: Pool, tenant_id: int) -> Policy:
    """What the tenant wants. Raises UnavailableError."""
    async with reported():
        row = await pool.fetchrow(f"{_POLICY} tenant_id = $1", tenant_id)
    return Policy() if row is None else _policy(*row)


async def chosen(connection: Connection, tenant: str) -> Policy:
    """The same by the tenant's name. Raises NotFoundError."""
    row = await connection.fetchrow(f"{_POLICY} name = $1", tenant)
    if row is None:
        raise NotFoundError(tenant)
    return _policy(*row)


async def choose(connection: Connection, tenant: str, policy: Policy) -> None:
    """Set what the tenant wants. Raises NotFoundError."""
    found = await connection.fetchval(
        "UPDATE tenant SET quarantine_junk = $2, quarantine_days = $3, quarantine_notice_seconds = $4 WHERE name = $1 RETURNING 1",
        tenant, None if policy.junk is None else sorted(policy.junk), policy.days, policy.notice_seconds,
    )  # fmt: skip
    if found is None:
        raise NotFoundError(tenant)


def _policy(junk: Sequence[str] | None, days: int | None, notice_seconds: int | None) -> Policy:
    return Policy(None if junk is None else frozenset(junk), days, notice_seconds)
