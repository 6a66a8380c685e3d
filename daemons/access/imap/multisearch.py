"""ESEARCH over mailboxes, RFC 7377: one answer for each mailbox in which something is found, always by UID.

Mailboxes that do not exist, or that the session may not read, are passed over without a word (§2.2). They are searched one
after the other, each through its view; no more than one is held for a search at a time.
"""

from collections.abc import Sequence

from daemons.access.imap.limiting import search_start
from daemons.access.imap.progress import alive
from daemons.access.imap.results import Outcome, saving
from daemons.access.imap.rights import viewer_of, visible
from daemons.access.imap.searcher import Searcher, check_cost
from daemons.access.imap.selected import Selected
from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import ordering, response, search
from protocol.imap.sources import MailboxFilter
from storage import mailboxes
from storage.errors import MailboxNotFoundError
from storage.mailboxes import SEPARATOR
from storage.rows import Mailbox
from storage.sharing import Visible

_SELECTED = (MailboxFilter(b"SELECTED"),)


async def search_mailboxes(session: Session, asked: ordering.MultiSearch) -> Completion:
    """ESEARCH. SAVE, sequence numbers and "$" are of the selected mailbox, so it must be the only one then (§2.2)."""
    sources = asked.sources or _SELECTED
    selected, returns = session.selected, asked.returns or ()
    is_alone = set(sources) == set(_SELECTED)
    if selected is None and (b"UPDATE" in returns or any(source in _SELECTED for source in sources)):
        raise RefusalError.bad("no mailbox is selected")
    if not is_alone and (b"SAVE" in returns or search.has_numbers(asked.key) or search.has_saved(asked.key)):
        raise RefusalError.bad("only possible in the selected mailbox alone")
    check_cost(session, asked.key)
    if session.has(b"UIDONLY") and search.has_numbers(asked.key):
        raise RefusalError("BAD", b"UIDREQUIRED", "no sequence numbers here")
    if search.mentions(asked.key, search.ModSeq):
        session.enable(b"CONDSTORE")
    wanted = await _wanted(session, sources)
    for mailbox in wanted:
        await _search(session, asked, mailbox)
    if b"UPDATE" in returns:
        session.put(response.noupdate(asked.tag, "results of ESEARCH are not kept up to date"))
    return Completion("searched")


async def _wanted(session: Session, sources: Sequence[MailboxFilter]) -> list[Mailbox]:
    """Each mailbox that one of the sources means, once, by name."""
    there = await visible(session)
    subscribed: set[str] = set()
    if any(source.kind == b"SUBSCRIBED" for source in sources):
        async with session.database() as connection:
            subscribed.update(await mailboxes.subscriptions(connection, session.account.account_id))
    selected_id = session.selected.view.mailbox_id if session.selected is not None else 0
    found: list[Mailbox] = []
    for each in there:
        mailbox = each.mailbox
        is_meant = any(
            mailbox.mailbox_id == selected_id
            if source.kind == b"SELECTED"
            else _is_meant(source, each, is_subscribed=mailbox.name in subscribed)
            for source in sources
        )
        if is_meant and mailbox.is_selectable:
            found.append(mailbox)
    return found


def _is_meant(source: MailboxFilter, each: Visible, *, is_subscribed: bool) -> bool:
    """Whether a source means a mailbox that may be read; one that LIST hides must be named (RFC 4314 §4)."""
    name, names = each.mailbox.name, source.mailboxes
    if "r" not in each.rights:
        return False
    if source.kind == b"MAILBOXES":
        return name in names
    if "l" not in each.rights:
        return False
    match source.kind:
        case b"INBOXES" | b"PERSONAL":  # a script may deliver to any (RFC 5465 §6.3)
            return not each.prefix
        case b"SUBSCRIBED":
            return is_subscribed
        case b"SUBTREE":
            return any(name == root or name.startswith(root + SEPARATOR) for root in names)
        case b"SUBTREE-ONE":
            return name in names or name.rpartition(SEPARATOR)[0] in names
    return False


async def _search(session: Session, asked: ordering.MultiSearch, mailbox: Mailbox) -> None:
    """One mailbox: the selected one as the client knows it, another as it is now."""
    selected = session.selected
    if selected is not None and selected.view.mailbox_id == mailbox.mailbox_id:
        await _answer(session, asked, mailbox, selected)
        return
    try:
        view = await session.shared.views.acquire(mailbox.mailbox_id, viewer_of(session, mailbox))
    except MailboxNotFoundError:  # deleted a moment ago
        session.shared.views.forget(mailbox.mailbox_id)
        return
    try:
        await _answer(session, asked, mailbox, Selected(view, is_read_only=True))
    finally:
        session.shared.views.release(view)


async def _answer(session: Session, asked: ordering.MultiSearch, mailbox: Mailbox, selected: Selected) -> None:
    returns = asked.returns or ()
    with saving(selected, returns):
        async with alive(session, asked.tag):
            searcher = Searcher(session, selected, search_start(session, selected, asked.key))
            found = await searcher.match(asked.key, range(len(searcher.places)))
        outcome = Outcome(searcher, found, asked.key, is_uid=True)
        if b"SAVE" in returns:
            outcome.save(outcome.meant(returns, asked.partial))
    if found and returns != (b"SAVE",):
        session.put(
            response.esearch_line(
                asked.tag,
                True,
                outcome.items(returns, asked.partial),
                mailbox=session.mailbox_name(mailbox.name),
                uidvalidity=mailbox.uidvalidity,
            )
        )
        await session.room()
    if searcher.start:  # the tagged response is for all mailboxes together
        session.put(response.untagged("NO", outcome.completion("").code, "only the newest messages were searched"))
