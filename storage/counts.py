"""What STATUS tells of many mailboxes beyond their own counters: one statement, whatever the number of mailboxes."""

from collections.abc import Collection
from dataclasses import dataclass

from storage.pool import Connection, reported

_MESSAGES = "FROM message AS x WHERE x.mailbox_id = m.mailbox_id AND"
_RECENT = f"(SELECT count(*) {_MESSAGES} x.uid >= m.recent_uid)"
_DELETED = f"(SELECT count(*) {_MESSAGES} x.flags & 8 <> 0)"
_DELETED_STORAGE = f"(SELECT coalesce(sum(x.size_octets), 0)::bigint {_MESSAGES} x.flags & 8 <> 0)"
_VIEWER_UNSEEN = (
    "(SELECT CASE WHEN m.is_seen_shared OR m.account_id = $2 THEN m.unseen_count ELSE m.message_count - "
    "(SELECT count(*) FROM viewer_seen AS s WHERE s.mailbox_id = m.mailbox_id AND s.account_id = $2 AND s.is_seen) END)"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one mailbox; 0 for what was not asked for."""

    unseen: int = 0
    recent: int = 0
    deleted: int = 0
    deleted_octets: int = 0


NO_COUNTS = Counts()


async def counts(
    connection: Connection,
    viewer: int,
    mailbox_ids: Collection[int],
    *,
    wants_unseen: bool,
    wants_recent: bool,
    wants_deleted: bool,
) -> dict[int, Counts]:
    r"""By mailbox; those that are gone are left out. `viewer` is the account whose \Seen counts where it has one of its own."""
    if not mailbox_ids or not (wants_unseen or wants_recent or wants_deleted):
        return {}
    columns = (
        _VIEWER_UNSEEN if wants_unseen else "$2 * 0",
        _RECENT if wants_recent else "0",
        *((_DELETED, _DELETED_STORAGE) if wants_deleted else ("0", "0")),
    )
    statement = f"SELECT m.mailbox_id, {', '.join(columns)} FROM mailbox AS m WHERE m.mailbox_id = ANY ($1::bigint[])"
    async with reported():
        rows = await connection.fetch(statement.replace("$2", "$2::bigint"), list(mailbox_ids), viewer)
    return {row[0]: Counts(*row[1:]) for row in rows}
