"""The table of commands: in which states each may come (RFC 3501 §6) and what does it; and the loop that drives a session."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from daemons.access.imap import (
    acl,
    appending,
    authentication,
    batching,
    compressing,
    copying,
    enabling,
    fetching,
    idling,
    listing,
    mailboxes,
    metadata,
    multisearch,
    notify,
    quota,
    searching,
    selecting,
    status,
    storing,
)
from daemons.access.imap.capabilities import tokens
from daemons.access.imap.session import Completion, EndOfInputError, RefusalError, Session, Shared, State, log
from daemons.sockets import Connection
from protocol.imap import acl as acl_commands
from protocol.imap import command, compress, ordering, response, search
from protocol.imap import metadata as metadata_commands
from protocol.imap import notify as notify_commands
from protocol.imap import quota as quota_commands
from protocol.imap.events import AppendStarts, Continue, Rejected
from protocol.imap.reader import Event
from storage.errors import (
    CorruptError,
    MailboxNotFoundError,
    NotFoundError,
    OverQuotaError,
    StorageError,
    TooManyError,
    UnavailableError,
)

Handler = Callable[[Session, Any], Awaitable[Completion | None]]

_ANY = frozenset({State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED})
_BEFORE_LOGIN = frozenset({State.NOT_AUTHENTICATED})
_AFTER_LOGIN = frozenset({State.AUTHENTICATED, State.SELECTED})
_SELECTED = frozenset({State.SELECTED})


@dataclass(frozen=True, slots=True)
class Rule:
    """One command's place."""

    states: frozenset[State]
    handler: Handler


RULES: dict[type, Rule] = {
    command.Capability: Rule(_ANY, authentication.capability),
    command.Noop: Rule(_ANY, authentication.noop),
    command.Logout: Rule(_ANY, authentication.logout),
    command.Id: Rule(_ANY, authentication.identify),
    command.StartTls: Rule(_BEFORE_LOGIN, authentication.start_tls),
    command.Authenticate: Rule(_BEFORE_LOGIN, authentication.authenticate),
    command.Login: Rule(_BEFORE_LOGIN, authentication.login),
    command.Enable: Rule(frozenset({State.AUTHENTICATED}), enabling.enable),
    command.Unauthenticate: Rule(_AFTER_LOGIN, authentication.unauthenticate),
    command.Namespace: Rule(_AFTER_LOGIN, mailboxes.namespace),
    command.Select: Rule(_AFTER_LOGIN, selecting.select),
    command.Examine: Rule(_AFTER_LOGIN, selecting.select),
    command.Create: Rule(_AFTER_LOGIN, mailboxes.create),
    command.Delete: Rule(_AFTER_LOGIN, mailboxes.delete),
    command.Rename: Rule(_AFTER_LOGIN, mailboxes.rename),
    command.Subscribe: Rule(_AFTER_LOGIN, mailboxes.subscribe),
    command.Unsubscribe: Rule(_AFTER_LOGIN, mailboxes.unsubscribe),
    command.List: Rule(_AFTER_LOGIN, listing.list_names),
    command.Lsub: Rule(_AFTER_LOGIN, listing.list_subscribed),
    command.Status: Rule(_AFTER_LOGIN, status.status),
    acl_commands.SetAcl: Rule(_AFTER_LOGIN, acl.set_acl),
    acl_commands.DeleteAcl: Rule(_AFTER_LOGIN, acl.delete_acl),
    acl_commands.GetAcl: Rule(_AFTER_LOGIN, acl.get_acl),
    acl_commands.ListRights: Rule(_AFTER_LOGIN, acl.list_rights),
    acl_commands.MyRights: Rule(_AFTER_LOGIN, acl.my_rights),
    AppendStarts: Rule(_AFTER_LOGIN, appending.append),
    command.Idle: Rule(_AFTER_LOGIN, idling.idle),
    compress.Compress: Rule(_AFTER_LOGIN, compressing.compress),
    metadata_commands.GetMetadata: Rule(_AFTER_LOGIN, metadata.get_metadata),
    metadata_commands.SetMetadata: Rule(_AFTER_LOGIN, metadata.set_metadata),
    notify_commands.Notify: Rule(_AFTER_LOGIN, notify.notify),
    quota_commands.GetQuota: Rule(_AFTER_LOGIN, quota.get_quota),
    quota_commands.GetQuotaRoot: Rule(_AFTER_LOGIN, quota.get_quota_root),
    quota_commands.SetQuota: Rule(_AFTER_LOGIN, quota.set_quota),
    command.Check: Rule(_SELECTED, authentication.noop),
    command.UidBatches: Rule(_SELECTED, batching.batches),
    command.Close: Rule(_SELECTED, selecting.close),
    command.Unselect: Rule(_SELECTED, selecting.unselect),
    command.Expunge: Rule(_SELECTED, selecting.expunge),
    command.Search: Rule(_SELECTED, searching.find),
    ordering.Sort: Rule(_SELECTED, searching.sort),
    ordering.Thread: Rule(_SELECTED, searching.thread),
    ordering.CancelUpdate: Rule(_SELECTED, searching.cancel_update),
    ordering.MultiSearch: Rule(_AFTER_LOGIN, multisearch.search_mailboxes),
    command.Fetch: Rule(_SELECTED, fetching.fetch),
    command.Store: Rule(_SELECTED, storing.store),
    command.Copy: Rule(_SELECTED, copying.copy),
    command.Move: Rule(_SELECTED, copying.move),
}

# RFC 3501 §7.4.1: no EXPUNGE may be sent while these are answered, unless they are the UID forms (§6.4.8).
_HOLD_EXPUNGES = (command.Fetch, command.Store, command.Search, ordering.Sort, ordering.Thread)


async def imap_session(shared: Shared, connection: Connection) -> None:
    """Serve one connection from the greeting to its end."""
    session = Session(shared, connection)
    shared.sessions.add(session)
    try:
        greeting = b"CAPABILITY " + b" ".join(tokens(session))
        session.put(response.untagged("OK", greeting, "Postwerk ready"))
        while not session.is_over:
            await _step(session)
        await session.flush()
    finally:
        session.end()


async def _step(session: Session) -> None:
    notifier = session.notifier
    session.teller = notifier.teller if notifier is not None and notifier.is_pushing else None
    try:
        event = await session.next_event()
        session.teller = None  # while a command runs, only what goes with its answer is told
        await session.pace()
        await _handle(session, event)
    except EndOfInputError:
        session.state = State.LOGOUT
    except TimeoutError:
        session.bye("no command for too long")
    if session.is_stopping:
        session.bye("server is shutting down")


async def _handle(session: Session, event: Event) -> None:
    match event:
        case Continue():
            session.put(response.continuation())
        case Rejected():
            session.reject(event)
        case AppendStarts() | command.Command():
            await _execute(session, event)
        case _:  # a line nobody waits for any more
            session.put(response.untagged("BAD", None, "no command"))
            session.count_bad()


async def _execute(session: Session, event: AppendStarts | command.Command) -> None:
    """Run a command, tell what others changed, and answer."""
    try:
        completion = await _run(session, event)
        if completion is None:
            return
        answer = response.tagged(event.tag, "OK", completion.code, completion.text)
        if session.notifier is not None:
            session.notifier.note(event, completion)
    except RefusalError as refusal:
        answer = response.tagged(event.tag, refusal.status, refusal.code, refusal.text)
        if refusal.status == "BAD":
            session.count_bad()
    except StorageError as error:
        answer = response.tagged(event.tag, "NO", *_refusal_of(error))
    except (ConnectionError, EndOfInputError, TimeoutError):
        raise
    except Exception:
        error_id = secrets.token_hex(6)
        log.exception("command failed", error_id=error_id, command=type(event).__name__)
        answer = response.tagged(event.tag, "NO", b"SERVERBUG", f"internal error {error_id}")
    is_numbered = isinstance(event, _HOLD_EXPUNGES) and not event.is_uid
    await session.sync(tells_expunges=not is_numbered)
    if session.notifier is not None:
        await session.notifier.tell()
    session.put(answer)
    await session.room()
    if session.failed_logins >= session.shared.settings.login_failure_limit and session.identity is None:
        session.bye("too many failed logins")


async def _run(session: Session, event: AppendStarts | command.Command) -> Completion | None:
    rule = RULES.get(type(event))
    is_possible = rule is not None and session.state in rule.states
    has_forbidden_numbers = session.has(b"UIDONLY") and _uses_numbers(event)
    if rule is not None and is_possible and not has_forbidden_numbers:
        await _recheck(session, event)
        return await rule.handler(session, event)
    if isinstance(event, AppendStarts):
        session.reader.refuse()
    if has_forbidden_numbers:
        raise RefusalError("BAD", b"UIDREQUIRED", "no message sequence numbers after UIDONLY")
    if rule is None:
        raise RefusalError.bad("command is not known here")
    raise RefusalError.bad(f"command is not possible in the {session.state.value} state")


async def _recheck(session: Session, event: AppendStarts | command.Command) -> None:
    """Refuse the command when the selected mailbox may not be read any more: APPEND and REPLACE, too, take from it."""
    try:
        await session.recheck()
        if session.is_over:
            raise RefusalError.no(b"NOPERM", "the selected mailbox may not be read any more")
    except BaseException:
        if isinstance(event, AppendStarts):
            session.reader.refuse()
        raise


def _uses_numbers(event: AppendStarts | command.Command) -> bool:
    """Whether the command names messages by sequence numbers (RFC 9586 §3.2, §3.5)."""
    asked = event.replaced if isinstance(event, AppendStarts) else event
    if not getattr(asked, "is_uid", True):
        return True
    key = getattr(asked, "key", None)
    return key is not None and search.mentions(key, search.SequenceNumbers)


def _refusal_of(error: StorageError) -> tuple[bytes | None, str]:
    """Response code (RFC 5530 §3) and text for what storage could not do; the detail goes to the log."""
    match error:
        case OverQuotaError():
            return b"OVERQUOTA", "no room left"
        case TooManyError():
            return b"LIMIT", "there are as many as may be"
        case MailboxNotFoundError():
            return b"NONEXISTENT", "no such mailbox"
        case NotFoundError():
            return b"EXPUNGEISSUED", "the message is gone"
        case UnavailableError():
            log.warning("storage is away", reason=str(error))
            return b"UNAVAILABLE", "try again later"
    error_id = secrets.token_hex(6)
    log.error("storage failed", error_id=error_id, reason=str(error), is_corrupt=isinstance(error, CorruptError))
    return b"SERVERBUG", f"internal error {error_id}"
