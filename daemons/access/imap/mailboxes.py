"""Commands on mailboxes as such: RFC 3501 §6.3.3-§6.3.10, NAMESPACE (RFC 2342), special uses (RFC 6154)."""

from collections.abc import Callable, Iterable

from daemons.access.imap.rights import demand, look_up
from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import command, match, response
from storage import mailboxes
from storage.errors import MailboxExistsError
from storage.mailboxes import INBOX, SEPARATOR, HasChildrenError, MailboxNameError
from storage.rows import Mailbox

# What a client may create (RFC 6154 §2); \All and \Flagged would be views of other mailboxes, which we do not have.
_CREATABLE_USES = {rb"\Archive", rb"\Drafts", rb"\Junk", rb"\Sent", rb"\Trash"}
_NAME_OCTETS = 1000  # ours; the database's index takes no more than 2,700
_STATUS_ITEMS: dict[bytes, Callable[[Mailbox], int]] = {
    b"MESSAGES": lambda mailbox: mailbox.message_count,
    b"UIDNEXT": lambda mailbox: mailbox.uidnext,
    b"UIDVALIDITY": lambda mailbox: mailbox.uidvalidity,
    b"UNSEEN": lambda mailbox: mailbox.unseen_count,
}


async def namespace(session: Session, _: command.Namespace) -> Completion:
    """NAMESPACE, RFC 2342 §5: one personal namespace without a prefix."""
    session.put(response.namespace(""))
    return Completion("done")


# -- LIST and LSUB ----------------------------------------------------------------------------------------------------


async def list_names(session: Session, asked: command.List) -> Completion:
    """LIST, RFC 3501 §6.3.8, with the special uses of RFC 6154 §2."""
    if asked.is_extended:
        raise RefusalError.bad("LIST-EXTENDED is not offered")
    if not asked.patterns[0]:
        session.put(response.DELIMITER_LINE)
        return Completion("done")
    matches = match.matcher(match.full_pattern(asked.reference, asked.patterns[0]))
    async with session.database() as connection:
        found = await mailboxes.list_mailboxes(connection, session.account.account_id)
    parents = _parents(mailbox.name for mailbox in found)
    for mailbox in found:
        if matches(mailbox.name):
            session.put(response.list_line(_attributes(mailbox, parents), session.mailbox_name(mailbox.name)))
    return Completion("done")


def _attributes(mailbox: Mailbox, parents: set[str]) -> list[bytes]:
    attributes = [] if mailbox.is_selectable else [rb"\Noselect"]
    attributes.append(rb"\HasChildren" if mailbox.name in parents else rb"\HasNoChildren")  # RFC 3348 §3
    if mailbox.special_use:
        attributes.append(mailbox.special_use.encode())
    return attributes


def _parents(names: Iterable[str]) -> set[str]:
    """Every name that has an inferior."""
    parents: set[str] = set()
    for name in names:
        levels = name.split(SEPARATOR)
        parents.update(SEPARATOR.join(levels[:depth]) for depth in range(1, len(levels)))
    return parents


async def list_subscribed(session: Session, asked: command.Lsub) -> Completion:
    r"""LSUB, RFC 3501 §6.3.9: a level that "%" stops at is told as \Noselect when only an inferior is subscribed."""
    if not asked.pattern:
        session.put(response.DELIMITER_LINE.replace(b"LIST", b"LSUB"))
        return Completion("done")
    matches = match.matcher(match.full_pattern(asked.reference, asked.pattern))
    async with session.database() as connection:
        names = await mailboxes.subscriptions(connection, session.account.account_id)
    subscribed = set(names)
    parents = _parents(names) - subscribed if asked.pattern.endswith("%") else set[str]()
    for name in sorted(subscribed | parents):
        if matches(name):
            session.put(response.lsub_line([] if name in subscribed else [rb"\Noselect"], session.mailbox_name(name)))
    return Completion("done")


# -- CREATE, DELETE, RENAME, SUBSCRIBE --------------------------------------------------------------------------------


async def create(session: Session, asked: command.Create) -> Completion:
    """CREATE, RFC 3501 §6.3.3, with USE of RFC 6154 §3."""
    name = _creatable(asked.mailbox.removesuffix(SEPARATOR))
    if len(asked.special_use) > 1 or not _CREATABLE_USES.issuperset(asked.special_use):
        raise RefusalError.no(b"USEATTR", "no such special use here")
    special_use = asked.special_use[0].decode() if asked.special_use else None
    try:
        async with session.database() as connection:
            await mailboxes.create(connection, session.account.account_id, name, special_use)
    except MailboxExistsError:
        raise RefusalError.no(b"ALREADYEXISTS", "mailbox exists") from None
    except MailboxNameError:
        if special_use:
            raise RefusalError.no(b"USEATTR", "another mailbox has this use, or the name is not possible") from None
        raise RefusalError.no(b"CANNOT", "not a possible mailbox name") from None
    return Completion("created")


def _creatable(name: str) -> str:
    """Refuse names that could not be used afterwards: empty levels, controls, wildcards (RFC 3501 §5.1)."""
    if not name or len(name.encode(errors="replace")) > _NAME_OCTETS:
        raise RefusalError.no(b"CANNOT", "mailbox name is empty or too long")
    if not all(name.split(SEPARATOR)):
        raise RefusalError.no(b"CANNOT", "a level of the mailbox name is empty")
    if any(character < " " or character in "\x7f%*" or "\ud800" <= character <= "\udfff" for character in name):
        raise RefusalError.no(b"CANNOT", "a character of the mailbox name is not possible")
    return name


async def delete(session: Session, asked: command.Delete) -> Completion:
    """DELETE, RFC 3501 §6.3.4. Whoever has it selected is told BYE (RFC 2180 §3.3)."""
    if asked.mailbox == INBOX:
        raise RefusalError.no(b"CANNOT", "INBOX cannot be deleted")
    try:
        async with session.database() as connection:
            mailbox = await mailboxes.find(connection, session.account.account_id, asked.mailbox)
            await mailboxes.delete(connection, session.account.account_id, asked.mailbox)
    except HasChildrenError:
        raise RefusalError.no(b"HASCHILDREN", "mailbox has inferior names") from None
    if mailbox is not None:
        if session.selected is not None and session.selected.view.mailbox_id == mailbox.mailbox_id:
            session.deselect()
        session.shared.views.touch(mailbox.mailbox_id)
    return Completion("deleted")


async def rename(session: Session, asked: command.Rename) -> Completion:
    """RENAME, RFC 3501 §6.3.5: inferiors follow; INBOX gives its messages away and stays."""
    new = _creatable(asked.new.removesuffix(SEPARATOR))
    if new == INBOX:
        raise RefusalError.no(b"ALREADYEXISTS", "mailbox exists")
    account_id = session.account.account_id
    try:
        async with session.database() as connection:
            await mailboxes.rename(connection, account_id, asked.old, new)
            inbox = await mailboxes.find(connection, account_id, INBOX) if asked.old == INBOX else None
    except MailboxExistsError:
        raise RefusalError.no(b"ALREADYEXISTS", "mailbox exists") from None
    except MailboxNameError:
        raise RefusalError.no(b"CANNOT", "not a possible mailbox name") from None
    if inbox is not None:
        session.shared.views.touch(inbox.mailbox_id)
    return Completion("renamed")


async def subscribe(session: Session, asked: command.Subscribe) -> Completion:
    """SUBSCRIBE, RFC 3501 §6.3.6; the mailbox need not exist."""
    name = _creatable(asked.mailbox.removesuffix(SEPARATOR))
    async with session.database() as connection:
        await mailboxes.subscribe(connection, session.account.account_id, name)
    return Completion("subscribed")


async def unsubscribe(session: Session, asked: command.Unsubscribe) -> Completion:
    """UNSUBSCRIBE, RFC 3501 §6.3.7."""
    async with session.database() as connection:
        await mailboxes.unsubscribe(connection, session.account.account_id, asked.mailbox.removesuffix(SEPARATOR))
    return Completion("unsubscribed")


# -- STATUS -----------------------------------------------------------------------------------------------------------


async def status(session: Session, asked: command.Status) -> Completion:
    """STATUS, RFC 3501 §6.3.10."""
    known = {*_STATUS_ITEMS, b"RECENT"}
    if not known.issuperset(asked.items):
        raise RefusalError.bad("unknown STATUS item")
    mailbox = await find(session, asked.mailbox)
    items = []
    for item in asked.items:
        count = await _recent_count(session, mailbox) if item == b"RECENT" else _STATUS_ITEMS[item](mailbox)
        items.append((item, count))
    session.put(response.status_line(session.mailbox_name(asked.mailbox), items))
    return Completion("done")


async def _recent_count(session: Session, mailbox: Mailbox) -> int:
    """Messages that no session was told of; only a view knows which UIDs of the range are still there."""
    if mailbox.recent_uid >= mailbox.uidnext or not mailbox.message_count:
        return 0
    view = await session.shared.views.acquire(mailbox.mailbox_id)
    try:
        view.recent_uid = max(view.recent_uid, mailbox.recent_uid)
        return view.recent_count()
    finally:
        session.shared.views.release(view)


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


async def check_quota(session: Session, size_octets: int) -> None:
    """NO [OVERQUOTA] (RFC 5530 §3) when the account has no room for so much more."""
    async with session.database() as connection:
        used, limit = await mailboxes.usage(connection, session.account.account_id)
    if limit is not None and used + size_octets > limit:
        raise RefusalError.no(b"OVERQUOTA", "no room left")
