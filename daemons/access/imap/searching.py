"""SEARCH, SORT and THREAD with their UID forms, and CANCELUPDATE: RFC 3501 §6.4.4, RFC 9051 §6.4.4, RFC 5256 §3, RFC 5267."""

from collections.abc import Sequence

from daemons.access.imap.contexts import Context, Contexts
from daemons.access.imap.limiting import search_start
from daemons.access.imap.progress import alive
from daemons.access.imap.results import Outcome, saving
from daemons.access.imap.searcher import Searcher, check_cost
from daemons.access.imap.selected import Selected
from daemons.access.imap.selecting import chosen
from daemons.access.imap.session import Completion, RefusalError, Session
from daemons.access.imap.sorter import in_order, in_threads
from protocol.imap import command, ordering, response, search
from protocol.imap.search import SearchKey


async def find(session: Session, asked: command.Search) -> Completion:
    """SEARCH. With IMAP4rev2 its answer is ESEARCH, whatever was asked for (RFC 9051 §6.4.4)."""
    if asked.charset and session.has(b"UTF8=ACCEPT"):
        raise RefusalError.bad("no charset after ENABLE UTF8=ACCEPT")  # RFC 9755 §3
    selected = chosen(session)
    with saving(selected, asked.returns):
        async with alive(session, asked.tag):
            searcher, found = await _found(session, selected, asked.key)
        outcome = Outcome(searcher, found, asked.key, is_uid=asked.is_uid)
        if asked.returns is None and not session.has(b"IMAP4REV2"):
            session.put(response.search_line(outcome.numbers(found), outcome.modseq(found)))
        else:
            _answer(session, asked, outcome, ())
    return outcome.completion("searched")


async def sort(session: Session, asked: ordering.Sort) -> Completion:
    """SORT, RFC 5256 §3; with RETURN it is RFC 5267 §3's."""
    selected = chosen(session)
    with saving(selected, asked.returns):
        async with alive(session, asked.tag):
            searcher, found = await _found(session, selected, asked.key)
            _check_limit(searcher)
            found = await in_order(session, searcher, found, asked.criteria)
        outcome = Outcome(searcher, found, asked.key, is_uid=asked.is_uid)
        if asked.returns is None:
            session.put(response.sort_line(outcome.numbers(found), outcome.modseq(found)))
        else:
            _answer(session, asked, outcome, asked.criteria)
    return outcome.completion("sorted")


async def thread(session: Session, asked: ordering.Thread) -> Completion:
    """THREAD, RFC 5256 §3."""
    async with alive(session, asked.tag):
        searcher, found = await _found(session, chosen(session), asked.key)
        _check_limit(searcher)
        threads = await in_threads(session, searcher, found, asked.algorithm, is_uid=asked.is_uid)
    session.put(response.thread_line(threads))
    return Outcome(searcher, found, asked.key, is_uid=asked.is_uid).completion("threaded")


async def cancel_update(session: Session, asked: ordering.CancelUpdate) -> Completion:
    """CANCELUPDATE, RFC 5267 §4.5."""
    contexts = chosen(session).contexts
    if contexts is None:
        raise RefusalError.bad("no such context")
    contexts.cancel(asked.tags)
    return Completion("not kept up to date any more")


async def _found(session: Session, selected: Selected, key: SearchKey) -> tuple[Searcher, Sequence[int]]:
    """Search the selected mailbox, in as many messages as one command may take (RFC 9738 §3.2).

    MODSEQ among the keys turns CONDSTORE on (RFC 7162 §3.1.5); with UIDONLY there are no sequence numbers (RFC 9586 §3.2).
    """
    if session.has(b"UIDONLY") and search.has_numbers(key):
        raise RefusalError("BAD", b"UIDREQUIRED", "no sequence numbers here")
    if search.mentions(key, search.ModSeq):
        session.enable(b"CONDSTORE")
    check_cost(session, key)
    searcher = Searcher(session, selected, search_start(session, selected, key))
    found = await searcher.match(key, range(len(searcher.places)))
    return searcher, found


def _check_limit(searcher: Searcher) -> None:
    """A sorted or threaded part would be misleading (RFC 9738 §3.4)."""
    if searcher.start:
        raise RefusalError.no(b"MESSAGELIMIT %d" % searcher.limit, "too many messages at once")


def _answer(
    session: Session,
    asked: command.Search | ordering.Sort,
    outcome: Outcome,
    criteria: tuple[ordering.SortCriterion, ...],
) -> None:
    """ESEARCH, the saved result, and the context. SAVE alone asks for no answer (RFC 5182 §2.1)."""
    returns = asked.returns or ()
    if b"SAVE" in returns:
        outcome.save(outcome.meant(returns, asked.partial))
    if returns != (b"SAVE",):
        items = outcome.items(returns, asked.partial)
        session.put(response.esearch_line(asked.tag, asked.is_uid, items))
    if b"UPDATE" in returns:
        selected = outcome.searcher.selected
        contexts = selected.contexts
        if not isinstance(contexts, Contexts):
            contexts = selected.contexts = Contexts(session, selected)
        members = outcome.searcher.column(outcome.searcher.rows.uids, outcome.found)
        contexts.add(Context(asked.tag, asked.key, members, criteria, is_uid=asked.is_uid, attributes=asked.update))
