"""What happens in mailboxes and may start scripts, RFC 6785: APPEND, COPY and MOVE into them, and flags that change.

A command waits for the scripts that it starts, so what they change is told in its own answer, or the next one that may tell it:
views are touched after them.
"""

from collections.abc import Mapping, Sequence

from daemons.access.imap.progress import alive
from daemons.access.imap.session import Session, log
from daemons.access.imap.view import View
from daemons.scripting.events import Cause, Happening
from daemons.scripting.owners import AccountOwner
from protocol.imap.flags import render_flags
from storage.errors import StorageError
from storage.rows import Mailbox, MessageRow

Flags = Mapping[int, frozenset[bytes]]  # by UID


async def came_in(session: Session, tag: bytes, cause: Cause, mailbox: Mailbox, uids: Sequence[int]) -> None:
    """New messages are in the mailbox, by the command with that tag, which may take long now. Nothing may be sent meanwhile."""
    name = await _script(session, mailbox.mailbox_id) if uids else ""
    if name:
        async with alive(session, tag):
            await _happened(session, cause, name, mailbox.account_id, mailbox.mailbox_id, dict.fromkeys(uids, ""))


async def flags_before(session: Session, view: View, uids: Sequence[int]) -> Flags | None:
    """The flags that the messages have, when a script wants to know of changes."""
    if not await _script(session, view.mailbox_id):
        return None
    rows = view.rows
    places = ((uid, rows.position(uid)) for uid in uids)
    return {uid: frozenset(rows.table.texts[rows.kinds[at]].split()) for uid, at in places if at >= 0}


async def flags_changed(session: Session, view: View, before: Flags, changed: Sequence[MessageRow]) -> None:
    """These have other flags than before."""
    told: dict[int, str] = {}
    for row in changed:
        after = frozenset(render_flags(row.flags, row.keywords)[1:-1].split())
        if names := sorted(after ^ before.get(row.uid, frozenset())):
            told[row.uid] = b" ".join(names).decode()
    name = await _script(session, view.mailbox_id) if told else ""
    if name:
        await _happened(session, "FLAG", name, view.account_id, view.mailbox_id, told)


async def _happened(
    session: Session, cause: Cause, name: str, account_id: int, mailbox_id: int, messages: Mapping[int, str]
) -> None:
    owner = AccountOwner(session.account.tenant_id, account_id)
    happening = Happening(cause, owner, mailbox_id, session.account.login)
    await session.shared.events.run(happening, name, messages)
    session.shared.views.touch(mailbox_id)


async def _script(session: Session, mailbox_id: int) -> str:
    """Its name; "" too when the database is away: what has happened has happened."""
    try:
        return await session.shared.events.name_of(session.account.tenant_id, mailbox_id)
    except StorageError as error:
        log.error("script of an IMAP event", error=f"{type(error).__name__}: {error}")
        return ""
