"""Who may send as what: an account's own addresses, and those of teams and others that let it send in their name.

An address belongs to whom its mail would go to, "+detail" included: where bob has "alice+x" as an address of his own, alice may
not send as that. The catch-all of a domain makes nobody the sender of every address in it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from storage.accounts import domain_name, login_name
from storage.errors import NotFoundError
from storage.notifications import DIRECTORY, ChangeHub
from storage.pool import Connection, Pool, reported

_CACHED_SECONDS = 60.0  # should the notification of a change be lost
_CACHED_NAMES = 20_000

# Owners of the address, by the rule that finds recipients: the exact local part before the one without its +detail.
_MAY_SEND = """
SELECT o.account_id = $1 OR EXISTS (
           SELECT FROM send_as AS s JOIN account AS a ON a.account_id = $1 AND a.tenant_id = s.tenant_id
            WHERE s.owner_id = o.account_id AND (s.account_id = $1 OR s.account_id IS NULL))
  FROM domain AS d
  JOIN address AS o USING (domain_id)
 WHERE d.name = $2 AND o.local_part = ANY ($3::text[])
 ORDER BY array_position($3::text[], o.local_part) LIMIT 1
"""
_ADDRESSES = """
SELECT r.local_part || '@' || d.name AS address, o.login AS owner
  FROM account AS a
  JOIN account AS o ON o.tenant_id = a.tenant_id AND (o.account_id = a.account_id OR EXISTS (
           SELECT FROM send_as AS s WHERE s.owner_id = o.account_id AND (s.account_id = a.account_id OR s.account_id IS NULL)))
  JOIN address AS r ON r.account_id = o.account_id
  JOIN domain AS d USING (domain_id)
 WHERE a.login = $1 AND r.local_part <> ''
 ORDER BY o.account_id <> a.account_id, d.name, r.local_part
"""
_GRANT = """
INSERT INTO send_as (owner_id, tenant_id, account_id)
SELECT o.account_id, o.tenant_id, a.account_id
  FROM account AS o LEFT JOIN account AS a ON a.tenant_id = o.tenant_id AND a.login = $2 AND a.kind = 'person'
 WHERE o.login = $1 AND ($2 = 'anyone' OR a.account_id IS NOT NULL)
    ON CONFLICT DO NOTHING
"""
_REVOKE = """
DELETE FROM send_as AS s USING account AS o
 WHERE s.owner_id = o.account_id AND o.login = $1
   AND s.account_id IS NOT DISTINCT FROM (SELECT account_id FROM account WHERE login = $2)
   AND ($2 = 'anyone') = (s.account_id IS NULL)
"""
_GRANTS = """
SELECT o.login AS owner, coalesce(a.login, 'anyone') AS sender
  FROM send_as AS s JOIN account AS o ON o.account_id = s.owner_id LEFT JOIN account AS a ON a.account_id = s.account_id
 WHERE $1::text IS NULL OR o.login = $1 OR a.login = $1 ORDER BY o.login, sender
"""
ANYONE = "anyone"  # of the tenant, as in access control lists (RFC 4314 §2)


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address that an account may send as, and whose it is."""

    address: str
    owner: str


@dataclass(frozen=True, slots=True)
class SendAs:
    """One right to send in another's name."""

    owner: str
    sender: str  # a login, or ANYONE of the tenant


class Senders:
    """Answers from memory while nothing changed. One per process."""

    def __init__(self, pool: Pool, hub: ChangeHub) -> None:
        self._pool = pool
        self._hub = hub
        self._known: dict[tuple[int, str, str], tuple[float, bool]] = {}
        self.close: Callable[[], None] = hub.on(DIRECTORY, self._known.clear)

    async def may_send(self, account_id: int, local_part: str, domain: str) -> bool:
        """Whether the account may use the address in MAIL FROM, From and Sender. Raises UnavailableError."""
        name = (account_id, local_part.lower(), domain_name(domain))
        known = self._known.get(name)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        candidates = list(dict.fromkeys(candidate for candidate in (name[1], name[1].partition("+")[0]) if candidate))
        async with reported():
            found = bool(await self._pool.fetchval(_MAY_SEND, account_id, name[2], candidates))
        if self._hub.is_connected:  # otherwise nobody would tell us of changes
            if len(self._known) >= _CACHED_NAMES:
                self._known.clear()
            self._known[name] = (time.monotonic() + _CACHED_SECONDS, found)
        return found


async def addresses_of(connection: Connection, login: str) -> list[OwnAddress]:
    """What the account may send as: its own addresses first."""
    return [OwnAddress(*row) for row in await connection.fetch(_ADDRESSES, login_name(login))]


async def grant(connection: Connection, owner: str, login: str) -> None:
    """Let LOGIN, or ANYONE of the tenant, send in the owner's name. Raises NotFoundError when the tenant has no such two."""
    found = await connection.fetchval(
        "SELECT count(*) FROM account AS o LEFT JOIN account AS a ON a.tenant_id = o.tenant_id AND a.login = $2 "
        "AND a.kind = 'person' WHERE o.login = $1 AND ($2 = 'anyone' OR a.account_id IS NOT NULL)",
        login_name(owner), login_name(login),
    )  # fmt: skip
    if not found:
        raise NotFoundError("no such account in the tenant")
    await connection.execute(_GRANT, login_name(owner), login_name(login))


async def revoke(connection: Connection, owner: str, login: str) -> bool:
    """Take that right back; gives whether there was one."""
    status: str = await connection.execute(_REVOKE, login_name(owner), login_name(login))
    return status != "DELETE 0"


async def grants(connection: Connection, login: str | None = None) -> list[SendAs]:
    """The rights that name the login on either side, or all."""
    return [SendAs(*row) for row in await connection.fetch(_GRANTS, login_name(login) if login else None)]
