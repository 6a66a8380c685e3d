"""Annotations of mailboxes and of the server: entry names in lower case and values as octets (RFC 5464 keeps the words for them).

A private annotation belongs to one account; a shared one of a mailbox to the mailbox, one of the server to the tenant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from storage.errors import MailboxNotFoundError, StorageError
from storage.pool import Connection, reported

SERVER = 0  # in place of a mailbox's id

# An entry is wanted when it is one of $4, or lies under one of $5 with at most $6 levels more (-1: any number).
_READ = """
SELECT place, entry, value FROM annotation
 WHERE tenant_id = $1 AND place = ANY ($2::bigint[]) AND viewer IN (0, $3)
   AND (entry = ANY ($4::text[])
        OR EXISTS (SELECT FROM unnest($5::text[]) AS root WHERE starts_with(entry, root || '/')
                      AND ($6 < 0 OR cardinality(string_to_array(substr(entry, length(root) + 2), '/')) <= $6)))
 ORDER BY place, entry
"""


class TooManyAnnotationsError(StorageError):
    """One more annotation than a mailbox, the server or an account may have."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What set_annotations() keeps to."""

    entries: int  # of one mailbox or the server; private and shared ones are counted apart
    octets: int  # of all values that one account has written


async def read(
    connection: Connection,
    tenant_id: int,
    viewer: int,
    places: Sequence[int],
    entries: Sequence[str],
    *,
    depth: int = 0,
) -> dict[int, dict[str, bytes]]:
    """The annotations with these names, and those up to `depth` levels below (-1: all), by place and name.

    A place is a mailbox of the tenant or SERVER; `viewer` is the account whose private ones are read.
    """
    roots = list(entries) if depth else []
    async with reported():
        rows = await connection.fetch(_READ, tenant_id, places, viewer, entries, roots, depth)
    found: dict[int, dict[str, bytes]] = {}
    for place, entry, value in rows:
        found.setdefault(place, {})[entry] = value
    return found


async def entries(connection: Connection, tenant_id: int, viewer: int, places: Sequence[int]) -> list[tuple[int, str]]:
    """(place, name) of all annotations of these places that the account may have seen."""
    async with reported():
        rows = await connection.fetch(
            "SELECT place, entry FROM annotation WHERE tenant_id = $1 AND place = ANY ($2::bigint[]) AND viewer IN (0, $3) "
            "ORDER BY place, entry",
            tenant_id, places, viewer,
        )  # fmt: skip
    return [(row[0], row[1]) for row in rows]


async def write(
    connection: Connection,
    tenant_id: int,
    author: int,
    place: int,
    values: Mapping[str, bytes | None],
    *,
    bounds: Bounds,
    origin: str,
) -> None:
    """Set annotations, or remove those given None: all of them or none.

    Raises TooManyAnnotationsError, MailboxNotFoundError. `origin` comes back in the notification.
    """
    try:
        async with reported():
            await connection.execute(
                "SELECT set_annotations($1, $2, $3, $4, $5, $6, $7, $8)",
                tenant_id, place or None, author, list(values), list(values.values()), bounds.entries, bounds.octets, origin,
            )  # fmt: skip
    except asyncpg.ForeignKeyViolationError as error:
        raise MailboxNotFoundError(f"mailbox {place}") from error
    except asyncpg.PostgresError as error:
        if error.sqlstate == "PW413":
            raise TooManyAnnotationsError(f"account {author}") from error
        raise


async def set_special_use(connection: Connection, mailbox_id: int, special_use: str | None) -> bool:
    """Give the mailbox a special use, or none. False when another mailbox of its account has it (RFC 6154 §3)."""
    async with reported():
        changed = await connection.fetchval(
            "UPDATE mailbox AS m SET special_use = $2 WHERE mailbox_id = $1 AND ($2::text IS NULL OR NOT EXISTS ("
            "SELECT FROM mailbox WHERE account_id = m.account_id AND special_use = $2 AND mailbox_id <> $1)) RETURNING true",
            mailbox_id, special_use,
        )  # fmt: skip
    return bool(changed)
