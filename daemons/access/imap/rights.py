"""What the account of a session may do with a mailbox: the rights of RFC 4314 §2.1, one letter each."""

import unicodedata

from daemons.access.imap.session import RefusalError, Session
from storage import sharing
from storage.rows import Mailbox
from storage.sharing import Visible


async def rights_on(session: Session, mailbox_id: int) -> frozenset[str]:
    """The session's rights on a mailbox; none on one that is gone. Raises StorageError."""
    account = session.account
    return await session.shared.grants.rights(account.account_id, account.tenant_id, mailbox_id)


def demand(rights: frozenset[str], needs: str, *, missing: bytes = b"NONEXISTENT") -> None:
    """NO unless all the needed rights are held; without "l" the mailbox does not exist (RFC 4314 §6)."""
    if rights.issuperset(needs):
        return
    if "l" in rights:
        raise RefusalError.no(b"NOPERM", "your rights on this mailbox do not allow that")
    raise RefusalError.no(missing, "no such mailbox")


async def visible(session: Session) -> list[Visible]:
    """All mailboxes on which the session has a right, its own and those of others, by name. Raises StorageError."""
    account, grants = session.account, session.shared.grants
    generation = grants.generation
    async with session.database() as connection:
        found = await sharing.list_visible(connection, account.account_id, account.tenant_id)
    for each in found:
        if each.prefix:
            grants.remember(account.account_id, each.mailbox.mailbox_id, each.rights, generation)
    return found


async def look_up(session: Session, name: str) -> Visible | None:
    """The mailbox that the session knows by this name, whatever its rights on it. Raises StorageError.

    Where none has it as it is spelled, the one is meant that has it composed: CREATE may have composed it (RFC 9051 §5.1).
    """
    account, grants = session.account, session.shared.grants
    generation = grants.generation
    async with session.database() as connection:
        found = await sharing.find(connection, account.account_id, account.tenant_id, name)
        if found is None and (composed := unicodedata.normalize("NFC", name)) != name:
            found = await sharing.find(connection, account.account_id, account.tenant_id, composed)
    if found is not None:
        grants.remember(account.account_id, found.mailbox.mailbox_id, found.rights, generation)
    return found


def viewer_of(session: Session, mailbox: Mailbox) -> int:
    r"""The account whose own \Seen the session sees in this mailbox, or 0 for the mailbox's."""
    is_own = mailbox.account_id == session.account.account_id
    return 0 if mailbox.is_seen_shared or is_own else session.account.account_id
