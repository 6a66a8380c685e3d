"""What a URL of CATENATE names, RFC 4469 §3: octets of a message that the session may read, of this server only."""

from collections.abc import AsyncIterator

from daemons.access.imap.mailboxes import find
from daemons.access.imap.sections import MessageSections
from daemons.access.imap.session import RefusalError, Session
from protocol.imap.fetch import FetchAttribute, Item
from protocol.imap.url import MessageUrl, UrlError, badurl, parse
from protocol.message import unpack
from storage import mailboxes, messages
from storage.errors import NotFoundError

_END = 1 << 63


async def octets_of(session: Session, url: bytes) -> AsyncIterator[bytes]:
    """The octets, in pieces. Raises RefusalError (NO [BADURL …]), StorageError."""
    refusal = RefusalError.no(badurl(url), "the URL names nothing that can be read here")
    try:
        found = parse(url, await _selected_name(session))
        if not _is_ours(session, found):
            raise refusal
        mailbox_id = await _mailbox_id(session, found)
        if mailbox_id is None:
            raise refusal
        async with session.database() as connection:
            content_id = await messages.content_of(connection, mailbox_id, found.uid)
            facts = {} if content_id is None else await messages.facts(connection, [content_id], ["structure"])
        if content_id not in facts:
            raise refusal
        sections = MessageSections(session.shared.context.blobs, content_id, unpack(facts[content_id]["structure"]))
        first, count = found.partial or (0, None)
        attribute = FetchAttribute(Item.SECTION, found.section, (first, count or _END))
        octets = await sections.octets(attribute, found.section)
        if octets is None:
            raise refusal
        async for piece in sections.stream(octets):
            yield piece
    except (UrlError, NotFoundError):
        raise refusal from None


async def _selected_name(session: Session) -> str | None:
    """What relative URLs are completed from: the selected mailbox, as the session's own account knows it."""
    if session.selected is None:
        return None
    async with session.database() as connection:
        mailbox = await mailboxes.get(connection, session.selected.view.mailbox_id)
    return mailbox.name if mailbox is not None and mailbox.account_id == session.account.account_id else ""


def _is_ours(session: Session, url: MessageUrl) -> bool:
    """Whether the URL means this server, and this user where it names one (RFC 5092 §3.1)."""
    if url.server is None:
        return True
    settings = session.shared.context.settings
    user = url.server.user
    return url.server.host == settings.hostname.lower() and (
        user is None or user.lower() == session.account.login.lower()
    )


async def _mailbox_id(session: Session, url: MessageUrl) -> int | None:
    """The mailbox, with the UIDVALIDITY that the URL names; None when it has another one."""
    if url.mailbox is None:
        selected = session.selected
        assert selected is not None
        is_same = url.uidvalidity in (None, selected.view.uidvalidity) and "r" in selected.rights
        return selected.view.mailbox_id if is_same else None
    try:
        mailbox = await find(session, url.mailbox, needs="r")
    except RefusalError:
        return None
    return mailbox.mailbox_id if url.uidvalidity in (None, mailbox.uidvalidity) else None
