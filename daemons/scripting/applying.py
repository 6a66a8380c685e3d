"""Runs a script over the mail that lies in a mailbox already, as if it came in now; nothing of what it says is sent."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from daemons.context import Context
from daemons.scripting.lying import Carrier, Lying, is_dropped
from daemons.scripting.owners import AccountOwner
from daemons.scripting.running import Scripting
from filters.sieve.actions import Discard, FileInto, Keep, Notify, Redirect, Reject, Result, Step, Vacation
from filters.sieve.addresses import mailbox_of
from filters.sieve.ports import Envelope
from filters.subject import HEADER_LIMIT
from protocol.imap.names import canonical
from protocol.message.header import fields, unfold
from storage import messages
from storage.errors import NotFoundError, OverQuotaError
from storage.quota import Rooms
from storage.rows import Mailbox
from storage.scripts import Stored


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one message, or would."""

    uid: int
    actions: tuple[str, ...]  # in words
    is_changed: bool  # it does not just lie there as before
    not_done: tuple[str, ...] = ()  # what is only for mail that comes in, in words
    steps: tuple[Step, ...] = ()
    error: str = ""  # then it lies there as before


async def apply_script(
    context: Context,
    owner: AccountOwner,
    script: Stored,
    mailbox: Mailbox,
    *,
    is_rehearsal: bool,
    is_traced: bool = False,
) -> AsyncIterator[Applied]:
    """Run it over all messages that are there now, one after the other. Raises StorageError."""
    async with context.pool.acquire() as connection:
        _, rows = await messages.snapshot(connection, mailbox.mailbox_id)
    scripting, rooms = Scripting(context), Rooms(context.pool, context.changes)
    carrier = Carrier(context, rooms)
    try:
        base = await scripting.surroundings(owner, Envelope())
        for row in rows:
            lying = Lying(mailbox.mailbox_id, row)
            octets = await context.blobs.message(row.content_id)
            envelope = Envelope(_return_path(octets), next(iter(base.owner.addresses), ""))
            surroundings = replace(base, envelope=envelope, flags=lying.flags)
            now = datetime.now(UTC)
            result = await scripting.run_one(owner, script, octets, surroundings, now=now, is_traced=is_traced)
            applied = _described(mailbox, lying, result)
            if applied.is_changed and not is_rehearsal:
                try:
                    await carrier.carry_out(owner, lying, result, unkept="move")
                except OverQuotaError:
                    applied = replace(applied, actions=(), is_changed=False, error="no room for a copy")
                except NotFoundError:
                    applied = replace(applied, actions=(), is_changed=False, error="gone in the meantime")
            yield applied
    finally:
        rooms.close()
        scripting.close()


def _return_path(octets: bytes) -> str:
    """The envelope sender, as it was noted when the message was delivered."""
    end = octets.find(b"\r\n\r\n", 0, HEADER_LIMIT)
    for field in fields(octets[: end + 2 if end >= 0 else HEADER_LIMIT]):
        if field.name.lower() == b"return-path":
            return mailbox_of(unfold(field.body).decode("utf-8", "replace")) or ""
    return ""


def _described(mailbox: Mailbox, lying: Lying, result: Result) -> Applied:
    uid = lying.row.uid
    if result.error is not None:
        return Applied(uid, (), False, steps=result.steps, error=f"{result.error_script}: {result.error}")
    told: list[str] = []
    not_done: list[str] = []
    is_changed = is_dropped(result)
    for action in result.actions:
        match action:
            case Keep() | FileInto():
                told.append(_placed(action, lying))
                is_changed |= _changes(action, mailbox, lying)
            case Redirect():
                not_done.append(f"redirect to {action.list_name or action.address}")
            case Reject():
                not_done.append("reject")
            case Vacation():
                not_done.append("answer")
            case Notify():
                not_done.append("notify")
            case Discard():
                pass
    if is_dropped(result):
        told.append("move to the trash")
    return Applied(uid, tuple(told), is_changed, tuple(not_done), result.steps)


def _changes(action: Keep | FileInto, mailbox: Mailbox, lying: Lying) -> bool:
    if isinstance(action, FileInto) and canonical(action.mailbox) != mailbox.name:
        return True
    return action.message is not None or set(action.flags) != set(lying.flags)


def _placed(action: Keep | FileInto, lying: Lying) -> str:
    told = "keep" if isinstance(action, Keep) else f'file into "{action.mailbox}"'
    if set(action.flags) != set(lying.flags):
        told += f" with {' '.join(action.flags) or 'no flags'}"
    return told if action.message is None else f"{told}, rewritten"
