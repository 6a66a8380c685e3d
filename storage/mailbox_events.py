"""What happened over IMAP and starts a script (RFC 6785), waiting for it: written in the transaction of the event, removed in the
one that stores what the script did. So it runs though its process dies, and takes effect once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from storage.effects import Effect
from storage.errors import LeaseLostError
from storage.pool import Connection, Pool, reported

Cause = Literal["APPEND", "COPY", "FLAG"]  # RFC 6785 §4.1

_LONGEST = 10  # doublings of the wait for the next attempt

_NEXT = """
SELECT nextval('mailbox_event_command')
 WHERE (SELECT count(*) FROM (SELECT FROM mailbox_event WHERE account_id = $1 LIMIT $2) AS waiting) < $2
"""
_NOTE = """
INSERT INTO mailbox_event (command_id, uid, account_id, mailbox_id, cause, script, login, changed, due_at)
SELECT $1, uid, $2, $3, $4, $5, $6, changed, now() + $7 * interval '1 second'
  FROM unnest($8::bigint[], $9::text[]) AS noted (uid, changed)
"""
# LIMIT keeps the planner from joining: the message is looked up by its content.
_NOTE_CONTENT = """
INSERT INTO mailbox_event (command_id, uid, account_id, mailbox_id, cause, script, login, changed, due_at)
SELECT $1, uid, $2, $3, $4, $5, $6, '', now() + $7 * interval '1 second'
  FROM message WHERE content_id = $8 AND mailbox_id = $3 LIMIT 1
"""
_TAKE = """
UPDATE mailbox_event AS e
   SET attempts = attempts + 1, due_at = now() + $2 * 2 ^ least(attempts, $3) * interval '1 second'
  FROM mailbox AS b
 WHERE b.mailbox_id = e.mailbox_id AND e.ctid = ANY (ARRAY(
       SELECT ctid FROM mailbox_event WHERE due_at <= now() ORDER BY due_at, command_id, uid LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING e.command_id, b.tenant_id, e.account_id, e.mailbox_id, e.cause, e.script, e.login, e.attempts, e.uid, e.changed
"""
_FORGET = """
DELETE FROM mailbox_event WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM mailbox_event WHERE happened_at <= now() - $2 * interval '1 second'
     ORDER BY happened_at LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class Happening:
    """What one command does to messages of a mailbox that names a script."""

    command_id: int | None  # None: it is not noted, so nobody else runs the script
    tenant_id: int
    account_id: int  # the mailbox's owner
    mailbox_id: int
    cause: Cause
    script: str  # its name
    login: str  # who does it
    attempt: int = 0  # the fence


@dataclass(frozen=True, slots=True)
class Left:
    """What somebody else has left, and is the caller's now."""

    happening: Happening
    changed: Mapping[int, str]  # by UID, the flags that changed


@dataclass(frozen=True, slots=True)
class NoteNew(Effect):
    """The message comes into the mailbox of the happening."""

    happening: Happening
    lease_seconds: float

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect."""
        await connection.execute(_NOTE_CONTENT, *_columns(self.happening, self.lease_seconds), content_id)


@dataclass(frozen=True, slots=True)
class HasRun(Effect):
    """The script has run over a message; LeaseLostError when somebody else has it, or has done it: then nothing is stored."""

    happening: Happening
    uid: int

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect."""
        if self.happening.command_id is None:
            return
        done = await connection.fetchval(
            "DELETE FROM mailbox_event WHERE command_id = $1 AND uid = $2 AND attempts = $3 RETURNING true",
            self.happening.command_id, self.uid, self.happening.attempt,
        )  # fmt: skip
        if not done:
            raise LeaseLostError(f"IMAP event {self.happening.command_id}, UID {self.uid}")

    def lock(self) -> str:
        """The row."""
        return f"mailbox_event {self.happening.command_id} {self.uid}"


async def next_command(pool: "Pool | Connection", account_id: int, limit: int) -> int | None:
    """A number for what a command does in the account; None when so many events of it wait already. Raises UnavailableError."""
    async with reported():
        found: int | None = await pool.fetchval(_NEXT, account_id, limit)
    return found


async def note(
    connection: Connection, happening: Happening, changed: Mapping[int, str], *, lease_seconds: float
) -> None:
    """It happens to these messages, in the transaction of the caller, who runs the script after that, until the lease ends."""
    if happening.command_id is not None and changed:
        await connection.execute(_NOTE, *_columns(happening, lease_seconds), list(changed), list(changed.values()))


async def take(pool: Pool, limit: int, *, lease_seconds: float) -> list[Left]:
    """What is due, by command. It comes again, later each time, unless HasRun or drop() removes it. Raises UnavailableError."""
    async with reported():
        rows = await pool.fetch(_TAKE, limit, lease_seconds, _LONGEST)
    rows.sort(key=lambda row: (row["command_id"], row["attempts"], row["uid"]))
    found = []
    for happening, group in groupby(rows, key=lambda row: Happening(*tuple(row)[:8])):
        found.append(Left(happening, {row["uid"]: row["changed"] for row in group}))
    return found


async def drop(pool: "Pool | Connection", happening: Happening, uids: Sequence[int]) -> None:
    """There is nothing to run. Raises UnavailableError."""
    if happening.command_id is None or not uids:
        return
    async with reported():
        await pool.execute(
            "DELETE FROM mailbox_event WHERE command_id = $1 AND uid = ANY ($2::bigint[]) AND attempts = $3",
            happening.command_id, list(uids), happening.attempt,
        )  # fmt: skip


async def forget(pool: "Pool | Connection", limit: int, *, older_than_seconds: float) -> int:
    """Remove at most so many that nobody could run for so long. Returns how many. Raises UnavailableError."""
    async with reported():
        return len(await pool.fetch(_FORGET, limit, older_than_seconds))


def _columns(happening: Happening, lease_seconds: float) -> tuple[int | None, int, int, str, str, str, float]:
    return (
        happening.command_id, happening.account_id, happening.mailbox_id, happening.cause, happening.script, happening.login,
        lease_seconds,
    )  # fmt: skip
