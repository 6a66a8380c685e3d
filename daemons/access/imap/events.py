"""What happens in mailboxes and may start scripts, RFC 6785: APPEND, COPY and MOVE into them, and flags that change.

A command asks before what it does whether that starts a script, notes it in its own transaction, and then waits for the script, so
what that changes is told in the command's own answer, or the next one that may tell it: views are touched after them.
"""

from collections.abc import Mapping, Sequence

from daemons.access.imap.progress import alive
from daemons.access.imap.session import Session
from daemons.access.imap.view import View
from daemons.scripting.owners import AccountOwner
from protocol.imap.flags import render_flags
from storage.mailbox_events import Cause, Happening
from storage.rows import Mailbox, MessageRow

Flags = Mapping[int, frozenset[bytes]]  # by UID


async def expected(session: Session, cause: Cause, place: Mailbox | View) -> Happening | None:
    """What is about to happen there, when it starts a script. Costs no query where none is named. Raises StorageError."""
    owner = AccountOwner(session.account.tenant_id, place.account_id)
    return await session.shared.events.expected(cause, owner, place.mailbox_id, session.account.login)


async def came_in(session: Session, tag: bytes, happening: Happening | None, uids: Sequence[int]) -> None:
    """New messages are in the mailbox, by the command with that tag, which may take long now. Nothing may be sent meanwhile."""
    if happening is not None and uids:
        async with alive(session, tag):
            await happened(session, happening, dict.fromkeys(uids, ""))


async def happened(session: Session, happening: Happening, messages: Mapping[int, str]) -> None:
    """It has, and is noted."""
    await session.shared.events.run(happening, messages)
    session.shared.views.touch(happening.mailbox_id)


def flags_of(view: View, uids: Sequence[int]) -> Flags:
    """The flags that the messages have."""
    rows = view.rows
    places = ((uid, rows.position(uid)) for uid in uids)
    return {uid: frozenset(rows.table.texts[rows.kinds[at]].split()) for uid, at in places if at >= 0}


def changed_flags(before: Flags, changed: Sequence[MessageRow]) -> dict[int, str]:
    """The flags that these have now and had not before, or the other way round; messages where there are none are left out."""
    told: dict[int, str] = {}
    for row in changed:
        after = frozenset(render_flags(row.flags, row.keywords)[1:-1].split())
        if names := sorted(after ^ before.get(row.uid, frozenset())):
            told[row.uid] = b" ".join(names).decode()
    return told
