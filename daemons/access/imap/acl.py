"""SETACL, DELETEACL, GETACL, LISTRIGHTS and MYRIGHTS: RFC 4314 §3.

The owner of a mailbox has all rights, always; a team's mailboxes have no owner who could log in. Everybody else has what is
granted to him or to "anyone", which is everybody of the tenant, less what is denied to him or to "anyone". Other identifiers
than these and the logins of the tenant do not exist.
"""

from daemons.access.imap.rights import demand, look_up
from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import acl
from protocol.imap.acl import Identifier
from storage import sharing
from storage.accounts import login_name
from storage.errors import NotFoundError
from storage.sharing import ALL_RIGHTS, ANYONE, Visible

_ANY_OF = frozenset("lrikxa")  # one of them is enough for MYRIGHTS, RFC 4314 §4


async def _administered(session: Session, name: str) -> Visible:
    """The mailbox, if its list may be read and changed (RFC 4314 §4)."""
    found = await look_up(session, name)
    if found is None:
        raise RefusalError.no(b"NONEXISTENT", "no such mailbox")
    demand(found.rights, "a")
    return found


async def _owner(session: Session, found: Visible) -> str | None:
    """The owner's login; None for a team."""
    async with session.database() as connection:
        return await sharing.owner_login(connection, found.mailbox.mailbox_id)


def _name(identifier: Identifier) -> str:
    """The identifier in the form that is stored."""
    return ANYONE if identifier.name.lower() == ANYONE else login_name(identifier.name)


async def set_acl(session: Session, asked: acl.SetAcl) -> Completion:
    """SETACL. The owner's rights are not in the list: they can be neither taken nor given."""
    found = await _administered(session, asked.mailbox)
    name = _name(asked.identifier)
    if name == await _owner(session, found):
        if asked.identifier.is_negative or asked.change == "remove" or asked.rights != ALL_RIGHTS:
            raise RefusalError.no(b"CANNOT", "the owner has all rights")
        return Completion("the owner has all rights")
    try:
        async with session.database() as connection:
            await sharing.set_rights(
                connection,
                found.mailbox.mailbox_id,
                name,
                asked.change,
                asked.rights,
                is_negative=asked.identifier.is_negative,
            )
    except NotFoundError:
        raise _unknown() from None
    return _changed(session, found)


async def delete_acl(session: Session, asked: acl.DeleteAcl) -> Completion:
    """DELETEACL."""
    found = await _administered(session, asked.mailbox)
    name = _name(asked.identifier)
    if name == await _owner(session, found):
        raise RefusalError.no(b"CANNOT", "the owner has all rights")
    try:
        async with session.database() as connection:
            await sharing.remove_rights(
                connection, found.mailbox.mailbox_id, name, is_negative=asked.identifier.is_negative
            )
    except NotFoundError:
        raise _unknown() from None
    return _changed(session, found)


def _changed(session: Session, found: Visible) -> Completion:
    """Sessions of this process need not wait for the notification."""
    session.shared.grants.clear()
    session.shared.views.touch(found.mailbox.mailbox_id)
    return Completion("list changed")


def _unknown() -> RefusalError:
    return RefusalError.no(b"CANNOT", "no such identifier here")


async def get_acl(session: Session, asked: acl.GetAcl) -> Completion:
    """GETACL: the owner first."""
    found = await _administered(session, asked.mailbox)
    owner = await _owner(session, found)
    async with session.database() as connection:
        listed = await sharing.entries(connection, found.mailbox.mailbox_id)
    pairs = [(Identifier(owner), ALL_RIGHTS)] if owner is not None else []
    pairs += [(Identifier(entry.identifier, entry.is_negative), entry.rights) for entry in listed]
    session.put(acl.acl_line(session.mailbox_name(asked.mailbox), pairs))
    return Completion("done")


async def list_rights(session: Session, asked: acl.ListRights) -> Completion:
    """LISTRIGHTS: none are tied. Whether an identifier exists is for SETACL to say: this answers alike for all."""
    found = await _administered(session, asked.mailbox)
    is_owner = _name(asked.identifier) == await _owner(session, found)
    required = ALL_RIGHTS if is_owner else frozenset[str]()
    optional = [] if is_owner else list(acl.RIGHTS)
    session.put(acl.listrights_line(session.mailbox_name(asked.mailbox), asked.spelling, required, optional))
    return Completion("done")


async def my_rights(session: Session, asked: acl.MyRights) -> Completion:
    """MYRIGHTS: who has no right that would tell of the mailbox is not told of it (RFC 4314 §4, §6)."""
    found = await look_up(session, asked.mailbox)
    if found is None or found.rights.isdisjoint(_ANY_OF):
        raise RefusalError.no(b"NONEXISTENT", "no such mailbox")
    session.put(acl.myrights_line(session.mailbox_name(asked.mailbox), found.rights))
    return Completion("done")
