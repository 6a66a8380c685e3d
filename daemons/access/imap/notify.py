"""NOTIFY, RFC 5465: what a session is told of, in which mailboxes, while it waits and along with every answer.

The database says that something has changed (storage/notifications.py); what it was follows from comparing what the session
was told with what is there now. So nothing is told twice, nothing is lost with a notification, and however much happens at
once costs one look. Only mailboxes that the session may look up are told of, and messages only where it may read. What the
session did itself is not told (RFC 5465 §5).
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from daemons.access.imap.doings import Doings
from daemons.access.imap.fetching import tell as tell_messages
from daemons.access.imap.idling import Teller
from daemons.access.imap.listing import Names, attributes_of, is_selectable
from daemons.access.imap.metadata import may_read as may_read_annotations
from daemons.access.imap.rights import visible
from daemons.access.imap.selected import Selected
from daemons.access.imap.session import Completion, RefusalError, Session, log
from daemons.access.imap.view import View
from protocol.imap import metadata as annotations
from protocol.imap import notify as protocol
from protocol.imap import response
from protocol.imap.command import Command
from protocol.imap.events import AppendStarts
from protocol.imap.fetch import Item
from protocol.imap.metadata import SPECIAL_USE
from protocol.imap.notify import MESSAGE_EVENTS, NO_EVENTS, Event, EventGroup
from protocol.imap.sources import MailboxFilter
from storage import mailboxes, metadata, sharing
from storage.errors import StorageError
from storage.metadata import SERVER
from storage.notifications import AccountEvent
from storage.rows import Mailbox
from storage.sharing import Visible

_METADATA_CHANGES = 1000  # annotations that wait to be told; more are an overflow
_EVERYWHERE = EventGroup(
    MailboxFilter(b"SUBTREE"), frozenset((Event.MAILBOX_METADATA_CHANGE, Event.SERVER_METADATA_CHANGE))
)


def _counted(mailbox: Mailbox, counters: Mailbox) -> Mailbox:
    """The mailbox with the counters of another moment."""
    return replace(
        mailbox,
        uidvalidity=counters.uidvalidity,
        uidnext=counters.uidnext,
        highestmodseq=counters.highestmodseq,
        message_count=counters.message_count,
        unseen_count=counters.unseen_count,
        size_octets=counters.size_octets,
    )


class NotificationOverflowError(Exception):
    """More is asked for than one session may watch."""


@dataclass(slots=True)
class Known:
    """A mailbox as the session was told it last."""

    each: Visible
    end: Callable[[], None] | None = None  # of the subscription to its messages

    def is_unlike(self, now: Visible) -> bool:
        """Whether LIST would tell it otherwise."""
        before, after = self.each.mailbox, now.mailbox
        return before.name != after.name or is_selectable(self.each) != is_selectable(now)


async def notify(session: Session, asked: protocol.Notify) -> Completion:
    """NOTIFY, RFC 5465 §3.1. What had gathered before in the selected mailbox is told first."""
    if asked.has_unknown_events:
        raise RefusalError.no(protocol.BADEVENT, "an event is not known here")
    if len(asked.groups) > session.shared.settings.notify_groups:
        raise RefusalError.no(protocol.OVERFLOW, "too many event groups")
    notifier = Notifier(session, asked.groups)
    try:
        await session.sync(tells_expunges=True)
        await notifier.begin(has_status=asked.has_status)
    except NotificationOverflowError:
        notifier.end()
        raise RefusalError.no(protocol.OVERFLOW, "too many mailboxes") from None
    except BaseException:
        notifier.end()
        raise
    _install(session, notifier)
    if any(attribute.item is Item.MODSEQ for group in asked.groups for attribute in group.attributes):
        session.enable(b"CONDSTORE")  # as FETCH MODSEQ does, RFC 7162 §3.1
    return Completion("as you wish")


async def enable_metadata(session: Session) -> None:
    """ENABLE METADATA, RFC 5464 §4.1: tell changed annotations along with answers and in IDLE. Raises StorageError."""
    if session.notifier is None:
        notifier = Notifier(session, (_EVERYWHERE,), is_pushing=False)
        try:
            await notifier.begin(has_status=False)
        except NotificationOverflowError:
            notifier.end()
            return
        _install(session, notifier)


def _install(session: Session, notifier: "Notifier") -> None:
    if session.notifier is not None:
        session.notifier.end()
    session.notifier = notifier


class Notifier:
    """What one session is told of, and what it has been told."""

    def __init__(self, session: Session, groups: Iterable[EventGroup], *, is_pushing: bool = True) -> None:
        self._session = session
        own = [group for group in groups if group.is_of_selected]
        self._groups = tuple(group for group in groups if not group.is_of_selected)
        self.is_pushing = is_pushing  # at any time, not only in IDLE and along with answers
        self.is_immediate = any(group.filter.kind == protocol.SELECTED for group in own)  # EXPUNGE, too
        self.wants = own[0].events if own else NO_EVENTS if is_pushing else MESSAGE_EVENTS  # of the selected mailbox
        self._attributes = own[0].attributes if own else ()
        self.teller = Teller(session)
        self._doings = Doings()
        self._known: dict[int, Known] = {}
        self._subscribed: frozenset[str] = frozenset()
        self._owners: dict[int, Callable[[], None]] = {}
        self._end_tenant: Callable[[], None] | None = None
        self._view: View | None = None
        self._end_listening: Callable[[], None] | None = None
        self._are_names_due = False
        self._due: set[int] = set()  # mailboxes whose messages may have changed
        self._unwatched: set[int] = set()  # those told by being selected: compare from here
        self._annotated: dict[tuple[int, str], None] = {}

    def __repr__(self) -> str:
        return f"<Notifier of {len(self._known)} mailboxes, {len(self._due)} due>"

    # -- what is wanted ---------------------------------------------------------------------------------------------

    def _group_of(self, name: str, subscribed: frozenset[str]) -> EventGroup | None:
        """The first group that means a mailbox decides (RFC 5465 §3.1)."""
        is_personal, is_subscribed = not sharing.is_others(name), name in subscribed
        for group in self._groups:
            if group is _EVERYWHERE or group.means(name, is_personal=is_personal, is_subscribed=is_subscribed):
                return group
        return None

    def _events_of(self, name: str, subscribed: frozenset[str]) -> frozenset[Event]:
        group = self._group_of(name, subscribed)
        return NO_EVENTS if group is None else group.events

    def _wants(self, event: Event, *names: str, before: frozenset[str] = frozenset()) -> bool:
        """Whether the event is wanted for any of the names, as subscribed now or before."""
        return any(
            event in self._events_of(name, subscribed) for name in names for subscribed in (self._subscribed, before)
        )

    @property
    def _wants_anywhere(self) -> frozenset[Event]:
        return NO_EVENTS.union(*(group.events for group in self._groups))

    # -- beginning and end ------------------------------------------------------------------------------------------

    async def begin(self, *, has_status: bool) -> None:
        """Watch from now on; tells the present state where asked. Raises NotificationOverflowError, StorageError."""
        if not self._wants_anywhere and not (has_status and self._groups):
            return
        hub, account = self._session.shared.context.changes, self._session.account
        self._end_tenant = hub.subscribe_tenant(account.tenant_id, self._on_account)
        self._watch_owners({account.account_id})
        found = await self._read()
        self._known = {mailbox_id: Known(each) for mailbox_id, each in found.items()}
        self._watch()
        self._tell_no_access()
        if has_status:
            self._tell_counters([known.each.mailbox for known in self._known.values() if self._is_counted(known)])
        self._are_names_due = True  # what changed while we subscribed
        self._due.update(self._watched_ids())

    def end(self) -> None:
        """Watch no more."""
        for known in self._known.values():
            if known.end is not None:
                known.end()
        for end in (*self._owners.values(), self._end_tenant, self._end_listening):
            if end is not None:
                end()
        self._known, self._owners, self._groups = {}, {}, ()
        self._end_tenant = self._end_listening = None
        self._are_names_due = False
        self._due.clear()
        self._annotated.clear()

    def _attach(self) -> None:
        """Follow the session to the mailbox it has selected now."""
        selected = self._session.selected
        view = None if selected is None else selected.view
        if view is self._view:
            return
        if self._view is not None:
            self._unwatched.add(self._view.mailbox_id)
            self._due.add(self._view.mailbox_id)
        if self._end_listening is not None:
            self._end_listening()
            self._end_listening = None
        self._view = view
        if view is not None and self.is_pushing and self.wants:
            self._end_listening = self._session.listen(self.teller.wake)

    def _overflow(self) -> None:
        """RFC 5465 §5.8: from now on as after NOTIFY NONE."""
        self._session.put(response.untagged("OK", protocol.OVERFLOW, "too much to be told; ask again for less"))
        self.end()
        self.wants = NO_EVENTS

    # -- what may have changed --------------------------------------------------------------------------------------

    def _on_account(self, event: AccountEvent | None) -> None:
        if event is None:
            self._are_names_due = True
            self._due.update(self._watched_ids())
            if Event.MAILBOX_METADATA_CHANGE in self._wants_anywhere:
                self._annotated[SERVER, ""] = None  # which, nobody can say: all are read again
        elif event.kind != "metadata":
            self._are_names_due = True
        elif event.origin != self._session.origin:
            self._annotated[event.mailbox_id, event.entry] = None
        else:
            return
        self.teller.wake()

    def _on_mailbox(self, mailbox_id: int, _modseq: int) -> None:
        self._due.add(mailbox_id)
        if self._view is None or self._view.mailbox_id != mailbox_id:
            self.teller.wake()

    def _watched_ids(self) -> list[int]:
        return [mailbox_id for mailbox_id, known in self._known.items() if known.end is not None]

    def _watch_owners(self, owners: set[int]) -> None:
        hub = self._session.shared.context.changes
        for owner in owners - self._owners.keys():
            self._owners[owner] = hub.subscribe_account(owner, self._on_account)
        for owner in self._owners.keys() - owners:
            self._owners.pop(owner)()

    def _is_counted(self, known: Known) -> bool:
        """Whether NOTIFY SET STATUS tells its counters: of what is watched, and of NONE as a snapshot (RFC 5465 §3.1, §5)."""
        selected = self._session.selected
        mailbox = known.each.mailbox
        if not is_selectable(known.each) or (selected and selected.view.mailbox_id == mailbox.mailbox_id):
            return False
        group = self._group_of(mailbox.name, self._subscribed)
        return group is not None and (not group.events or not MESSAGE_EVENTS.isdisjoint(group.events))

    def _watch(self) -> None:
        """Subscribe to the messages of the mailboxes that are meant now, and only of those."""
        hub = self._session.shared.context.changes
        for mailbox_id, known in self._known.items():
            is_wanted = is_selectable(known.each) and not MESSAGE_EVENTS.isdisjoint(
                self._events_of(known.each.mailbox.name, self._subscribed)
            )
            if is_wanted and known.end is None:
                known.end = hub.subscribe(mailbox_id, functools.partial(self._on_mailbox, mailbox_id))
                self._due.add(mailbox_id)
            elif not is_wanted and known.end is not None:
                known.end()
                known.end = None
        if len(self._watched_ids()) > self._session.shared.settings.notify_mailboxes:
            raise NotificationOverflowError
        account_id = self._session.account.account_id
        self._watch_owners({account_id, *(known.each.mailbox.account_id for known in self._known.values())})

    async def _read(self) -> dict[int, Visible]:
        """The mailboxes that the session may look up, by id; what is subscribed is taken over."""
        found = {each.mailbox.mailbox_id: each for each in await visible(self._session) if "l" in each.rights}
        async with self._session.database() as connection:
            names = await mailboxes.subscriptions(connection, self._session.account.account_id)
        self._subscribed = frozenset(names)
        return found

    # -- telling ----------------------------------------------------------------------------------------------------

    def note(self, done: AppendStarts | Command, completion: Completion) -> None:
        """The session itself has done this."""
        if self._groups or self._attributes:
            self._are_names_due |= self._doings.note(done, completion) and bool(self._owners)

    async def tell(self) -> None:
        """Put what has changed outside the selected mailbox. When the database is away, another time."""
        self._attach()
        try:
            if self._are_names_due:
                await self._tell_names()
            if self._due:
                await self._tell_messages()
            if self._annotated:
                await self._tell_annotations()
        except NotificationOverflowError:
            self._overflow()
        except StorageError as error:
            log.warning("changes not told", reason=str(error))

    async def tell_new(self, selected: Selected, first: int) -> None:
        """FETCH responses with what MessageNew asks for, of messages from this position on (RFC 5465 §5.2)."""
        if not self._attributes:
            return
        news = [(at, at + 1) for at in range(first, selected.count) if not self._doings.has_placed(selected.uids[at])]
        try:
            await tell_messages(self._session, news, self._attributes)
        except (RefusalError, StorageError) as error:
            log.warning("new messages not told in full", reason=str(error))

    def _tell_no_access(self) -> None:
        r"""RFC 5465 §3.1: mailboxes that were named and may be looked up, but not read."""
        for known in self._known.values():
            if "r" not in known.each.rights and self._wants_messages(known.each.mailbox.name):
                self._session.put(self._no_access(known.each))

    def _wants_messages(self, name: str) -> bool:
        return not MESSAGE_EVENTS.isdisjoint(self._events_of(name, self._subscribed))

    def _no_access(self, each: Visible) -> bytes:
        return response.list_line([rb"\NoAccess"], self._session.mailbox_name(each.mailbox.name))

    async def _tell_names(self) -> None:
        self._are_names_due = False
        subscribed_before = self._subscribed
        try:
            found = await self._read()
        except StorageError:
            self._are_names_due = True
            raise
        names = Names({each.mailbox.name: each for each in found.values()}, self._subscribed)
        told = self._tell_mailboxes(found, names)
        for name in sorted(self._subscribed ^ subscribed_before):
            is_wanted = self._wants(Event.SUBSCRIPTION_CHANGE, name, before=subscribed_before)
            if is_wanted and name not in told and not self._doings.has_subscribed(name):
                self._tell_name(names, name)
        self._doings.clear_names()
        self._watch()

    def _tell_mailboxes(self, found: Mapping[int, Visible], names: Names) -> set[str]:
        """Compare; gives the names that were told."""
        told: set[str] = set()
        for mailbox_id, known in list(self._known.items()):
            if mailbox_id not in found:
                del self._known[mailbox_id]
                if known.end is not None:
                    known.end()
                self._tell_gone(known.each.mailbox.name, names, told)
        for mailbox_id, each in found.items():
            before = self._known.get(mailbox_id)
            if before is None:
                self._known[mailbox_id] = Known(each)
                self._tell_changed(each, None, names, told)
                continue
            old = before.each
            if before.is_unlike(each):
                self._tell_changed(each, old, names, told)
            if old.mailbox.special_use != each.mailbox.special_use and not self._doings.has_named(each.mailbox.name):
                self._annotated[mailbox_id, SPECIAL_USE] = None
            # The counters stay those of the last comparison: only _tell_messages() moves them on.
            before.each = replace(each, mailbox=_counted(each.mailbox, old.mailbox))
        return told

    def _tell_gone(self, name: str, names: Names, told: set[str]) -> None:
        if name in names.mailboxes or self._doings.has_named(name) or not self._wants(Event.MAILBOX_NAME, name):
            return
        self._tell_name(names, name)
        told.add(name)

    def _tell_changed(self, each: Visible, old: Visible | None, names: Names, told: set[str]) -> None:
        """A mailbox that is new to the session, has a new name, or may be read now or no more (RFC 5465 §5.4, §5.9)."""
        name = each.mailbox.name
        old_name = name if old is None else old.mailbox.name
        if self._doings.has_named(name):
            return
        if old is not None and "r" in old.rights and "r" not in each.rights and self._wants_messages(name):
            self._session.put(self._no_access(each))
            told.add(name)
        elif self._wants(Event.MAILBOX_NAME, name, old_name):
            self._tell_name(names, name, old_name if old_name != name else None)
            told.add(name)

    def _tell_name(self, names: Names, name: str, old_name: str | None = None) -> None:
        session = self._session
        extended = b""
        if old_name is not None:
            extended = b'("OLDNAME" (%b))' % session.mailbox_name(old_name)
        attributes = attributes_of(names, name, tells_subscribed=True, knows_nonexistent=True)
        session.put(response.list_line(attributes, session.mailbox_name(name), extended=extended))

    async def _tell_messages(self) -> None:
        due, self._due = self._due, set()  # before the query: a notification during it means another one
        try:
            now = await self._session.shared.counters.get([box for box in due if box in self._known])
        except StorageError:
            self._due |= due
            raise
        selected_id = self._view.mailbox_id if self._view is not None else None
        told: list[Mailbox] = []
        for after in now:
            known = self._known[after.mailbox_id]
            before = known.each.mailbox
            mailbox = _counted(before, after)
            known.each = replace(known.each, mailbox=mailbox)
            is_elsewhere = after.mailbox_id not in (selected_id, *self._unwatched)
            if is_elsewhere and known.end is not None and self._is_news(before, mailbox):
                told.append(mailbox)
        self._unwatched -= due
        self._doings.clear_placed()
        self._tell_counters(told)

    def _is_news(self, before: Mailbox, after: Mailbox) -> bool:
        """Whether something happened that is wanted, and that the session did not do itself (RFC 5465 §5.1 to §5.3)."""
        if self._doings.explains(before, after):
            return False
        wanted = self._events_of(after.name, self._subscribed)
        added = after.uidnext - before.uidnext
        has_expunged = after.message_count != before.message_count + added
        return (
            (Event.MESSAGE_NEW in wanted and added != 0)
            or (Event.MESSAGE_EXPUNGE in wanted and has_expunged)
            or (Event.FLAG_CHANGE in wanted and after.highestmodseq != before.highestmodseq)
            or after.uidvalidity != before.uidvalidity
        )

    def _tell_counters(self, told: list[Mailbox]) -> None:
        """STATUS; with MODSEQ where flags are asked for or CONDSTORE is on (RFC 5465 §3.1, §5.1)."""
        session = self._session
        has_condstore = session.has(b"CONDSTORE")
        for box in told:
            has_flags = Event.FLAG_CHANGE in self._events_of(box.name, self._subscribed)
            items = [(b"MESSAGES", box.message_count), (b"UIDNEXT", box.uidnext), (b"UIDVALIDITY", box.uidvalidity)]
            if has_flags and (box.is_seen_shared or box.account_id == session.account.account_id):
                items.append((b"UNSEEN", box.unseen_count))
            if has_flags or has_condstore:
                items.append((b"HIGHESTMODSEQ", box.highestmodseq))
            session.put(response.status_line(session.mailbox_name(box.name), items))

    async def _tell_annotations(self) -> None:
        changed, self._annotated = self._annotated, {}
        if (SERVER, "") in changed:
            changed |= dict.fromkeys(await self._all_annotations())
        if len(changed) > _METADATA_CHANGES:
            raise NotificationOverflowError
        entries: dict[int, list[str]] = {}
        for mailbox_id, entry in changed:
            if entry:
                entries.setdefault(mailbox_id, []).append(entry)
        for mailbox_id, names in entries.items():
            if (name := self._annotated_name(mailbox_id)) is not None:
                self._session.put(annotations.changed_line(self._session.mailbox_name(name), names))

    async def _all_annotations(self) -> list[tuple[int, str]]:
        account = self._session.account
        async with self._session.database() as connection:
            places = [SERVER, *self._known]
            return await metadata.entries(connection, account.tenant_id, account.account_id, places)

    def _annotated_name(self, mailbox_id: int) -> str | None:
        """The name to tell a changed annotation under; None where it is not wanted or not for this session."""
        if mailbox_id == SERVER:
            return "" if Event.SERVER_METADATA_CHANGE in self._wants_anywhere else None
        known = self._known.get(mailbox_id)
        if known is None or not may_read_annotations(known.each):
            return None
        name = known.each.mailbox.name
        return name if self._wants(Event.MAILBOX_METADATA_CHANGE, name) else None
