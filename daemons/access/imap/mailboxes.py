"""Commands on mailboxes as such: RFC 3501 §6.3.3-§6.3.7, NAMESPACE (RFC 2342), special uses (RFC 6154), and looking names up."""

import unicodedata
from dataclasses import dataclass

from daemons.access.imap.rights import demand, look_up, rights_on
from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import command, objectid, response
from storage import mailboxes, sharing
from storage.errors import MailboxExistsError
from storage.mailboxes import INBOX, OTHER_USERS, SEPARATOR, SHARED, HasChildrenError, MailboxNameError
from storage.rows import Mailbox

# What a client may create (RFC 6154 §2); \All and \Flagged would be views of other mailboxes, which we do not have.
_CREATABLE_USES = {rb"\Archive", rb"\Drafts", rb"\Junk", rb"\Sent", rb"\Trash"}
_NAME_OCTETS = 1000  # ours; the database's index takes no more than 2,700
_IMPOSSIBLE = frozenset(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000)]))


async def namespace(session: Session, _: command.Namespace) -> Completion:
    """NAMESPACE, RFC 2342 §5: one's own without a prefix, and those in which others share mailboxes."""
    session.put(response.namespace("", OTHER_USERS + SEPARATOR, SHARED + SEPARATOR))
    return Completion("done")


# -- CREATE, DELETE, RENAME, SUBSCRIBE --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a new name would be."""

    account_id: int  # of the owner
    name: str  # as the owner knows it
    heir_of: int | None = None  # the mailbox whose access control list it gets


async def _place_of(session: Session, name: str) -> _Place:
    """Where the name belongs, if the session may create it there (RFC 4314 §4: "k" on the nearest existing superior).

    Below the root of another's names the superior is the INBOX, as if all names were inferior to it.
    """
    account = session.account
    if not sharing.is_others(name):
        return _Place(account.account_id, name)
    async with session.database() as connection:
        found = await sharing.find_owner(connection, account.account_id, account.tenant_id, name)
        if found is None:
            raise RefusalError.no(b"NONEXISTENT", "no such mailbox")
        owner_id, _, own_name = found
        parent = await mailboxes.nearest(connection, owner_id, own_name)
        parent = parent or await mailboxes.find(connection, owner_id, INBOX)
    if parent is None:
        raise RefusalError.no(b"NONEXISTENT", "no such mailbox")
    demand(await rights_on(session, parent.mailbox_id), "k")
    return _Place(owner_id, own_name, parent.mailbox_id)


async def create(session: Session, asked: command.Create) -> Completion:
    """CREATE, RFC 3501 §6.3.3, with USE of RFC 6154 §3 and MAILBOXID of RFC 8474 §4.2."""
    name = creatable(_composed(session, asked.mailbox.removesuffix(SEPARATOR)))
    if len(asked.special_use) > 1 or not _CREATABLE_USES.issuperset(asked.special_use):
        raise RefusalError.no(b"USEATTR", "no such special use here")
    special_use = asked.special_use[0].decode() if asked.special_use else None
    if special_use and sharing.is_others(name):
        raise RefusalError.no(b"USEATTR", "special uses are for mailboxes of one's own")
    place = await _place_of(session, name)
    try:
        async with session.database() as connection:
            made = await mailboxes.create(
                connection, place.account_id, place.name, special_use, heir_of=place.heir_of, limit=_limit(session)
            )
    except MailboxExistsError:
        raise RefusalError.no(b"ALREADYEXISTS", "mailbox exists") from None
    except MailboxNameError:
        if special_use:
            raise RefusalError.no(b"USEATTR", "another mailbox has this use, or the name is not possible") from None
        raise RefusalError.no(b"CANNOT", "not a possible mailbox name") from None
    _tell_composed(session, asked.mailbox.removesuffix(SEPARATOR), name)
    return Completion("created", b"MAILBOXID (%b)" % objectid.mailbox_id(made.mailbox_id))


def _composed(session: Session, name: str) -> str:
    """The name as it is given to a mailbox: IMAP4rev2 has Net-Unicode (RFC 9051 §5.1), IMAP4rev1 what the client writes."""
    return unicodedata.normalize("NFC", name) if session.is_utf8 else name


def _tell_composed(session: Session, asked: str, name: str) -> None:
    """Which name the mailbox has got when it is not the one that was asked for (RFC 9051 §6.3.9.7)."""
    if asked != name and session.has(b"IMAP4REV2"):
        old = b'("OLDNAME" (%b))' % session.mailbox_name(asked)
        session.put(response.list_line([], session.mailbox_name(name), extended=old))


def _limit(session: Session) -> int:
    return session.shared.settings.mailbox_limit


def creatable(name: str) -> str:
    """Refuse names that no mailbox can have: impossible ones, and the roots of the namespaces of others."""
    if sharing.is_others(possible(name)) and name.count(SEPARATOR) < 2:
        raise RefusalError.no(b"CANNOT", "the name belongs to a namespace")
    return name


def possible(name: str) -> str:
    """Refuse names that could not be used afterwards: too long, with empty levels, with controls (RFC 9051 §5.1)."""
    if not name or len(name.encode(errors="replace")) > _NAME_OCTETS:
        raise RefusalError.no(b"CANNOT", "mailbox name is empty or too long")
    if not all(name.split(SEPARATOR)):
        raise RefusalError.no(b"CANNOT", "a level of the mailbox name is empty")
    if not _IMPOSSIBLE.isdisjoint(name):
        raise RefusalError.no(b"CANNOT", "a character of the mailbox name is not possible")
    return name


async def delete(session: Session, asked: command.Delete) -> Completion:
    """DELETE, RFC 3501 §6.3.4. Whoever has it selected is told BYE (RFC 2180 §3.3)."""
    found = await look_up(session, asked.mailbox)
    if found is None:
        raise RefusalError.no(b"NONEXISTENT", "no such mailbox")
    demand(found.rights, "x")
    if found.own_name == INBOX:
        raise RefusalError.no(b"CANNOT", "INBOX cannot be deleted")
    try:
        async with session.database() as connection:
            await mailboxes.delete(connection, found.mailbox.account_id, found.own_name)
    except HasChildrenError:
        raise RefusalError.no(b"HASCHILDREN", "mailbox has inferior names") from None
    if session.selected is not None and session.selected.view.mailbox_id == found.mailbox.mailbox_id:
        session.deselect()
    session.shared.views.touch(found.mailbox.mailbox_id)
    return Completion("deleted")


async def rename(session: Session, asked: command.Rename) -> Completion:
    """RENAME, RFC 3501 §6.3.5: inferiors follow; INBOX gives its messages away and stays.

    A mailbox stays with its owner: from one to another, messages go by MOVE, which asks for room at the new one's.
    """
    new = creatable(_composed(session, asked.new.removesuffix(SEPARATOR)))
    found = await look_up(session, asked.old)
    if found is None:
        raise RefusalError.no(b"NONEXISTENT", "no such mailbox")
    demand(found.rights, "x")
    place = await _place_of(session, new)
    is_inbox = found.own_name == INBOX
    if place.account_id != found.mailbox.account_id or (is_inbox and found.prefix):
        raise RefusalError.no(b"CANNOT", "a mailbox cannot be renamed to another owner's name")
    if place.name == INBOX:
        raise RefusalError.no(b"ALREADYEXISTS", "mailbox exists")
    try:
        async with session.database() as connection:
            await mailboxes.rename(
                connection, place.account_id, found.own_name, place.name, heir_of=place.heir_of, limit=_limit(session)
            )
    except MailboxExistsError:
        raise RefusalError.no(b"ALREADYEXISTS", "mailbox exists") from None
    except MailboxNameError:
        raise RefusalError.no(b"CANNOT", "not a possible mailbox name") from None
    if is_inbox:
        session.shared.views.touch(found.mailbox.mailbox_id)
    _tell_composed(session, asked.new.removesuffix(SEPARATOR), new)
    return Completion("renamed")


async def subscribe(session: Session, asked: command.Subscribe) -> Completion:
    """SUBSCRIBE, RFC 3501 §6.3.6; the mailbox need not exist, so no right is needed (RFC 4314 §4)."""
    name = possible(asked.mailbox.removesuffix(SEPARATOR))
    async with session.database() as connection:
        await mailboxes.subscribe(connection, session.account.account_id, name, limit=_limit(session))
    return Completion("subscribed")


async def unsubscribe(session: Session, asked: command.Unsubscribe) -> Completion:
    """UNSUBSCRIBE, RFC 3501 §6.3.7."""
    async with session.database() as connection:
        await mailboxes.unsubscribe(connection, session.account.account_id, asked.mailbox.removesuffix(SEPARATOR))
    return Completion("unsubscribed")


# -- looking up -------------------------------------------------------------------------------------------------------


async def find(session: Session, name: str, *, needs: str = "r", missing: bytes = b"NONEXISTENT") -> Mailbox:
    """The selectable mailbox of that name, on which the session has the rights that the command needs.

    NO with `missing` as code when there is none, or none that the session may know of; NOPERM when rights are lacking
    (RFC 4314 §6). The mailbox may belong to another account: use mailbox.account_id for whatever is its owner's, and
    mailbox.name where the client is told of it. Raises StorageError.
    """
    found = await look_up(session, name)
    if found is None:
        raise RefusalError.no(missing, "no such mailbox")
    demand(found.rights, needs, missing=missing)
    if not found.mailbox.is_selectable:
        raise RefusalError.no(b"CANNOT", "mailbox holds only other mailboxes")
    return found.mailbox
