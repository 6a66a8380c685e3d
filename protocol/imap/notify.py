"""NOTIFY, RFC 5465: the command and its grammar (§8), which mailboxes a filter means, and which events go together."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from protocol.imap import response
from protocol.imap.command import Command
from protocol.imap.cursor import Cursor, expect_atom, expect_list
from protocol.imap.fetch import FetchAttribute, expect_fetch_attributes
from protocol.imap.names import DELIMITER
from protocol.imap.sources import MailboxFilter, expect_mailbox_filter


class Event(Enum):
    """Events that can be told (RFC 5465 §5). AnnotationChange is not among them: there are no annotations of messages here."""

    MESSAGE_NEW = b"MessageNew"
    MESSAGE_EXPUNGE = b"MessageExpunge"
    FLAG_CHANGE = b"FlagChange"
    MAILBOX_NAME = b"MailboxName"
    SUBSCRIPTION_CHANGE = b"SubscriptionChange"
    MAILBOX_METADATA_CHANGE = b"MailboxMetadataChange"
    SERVER_METADATA_CHANGE = b"ServerMetadataChange"


MESSAGE_EVENTS = frozenset((Event.MESSAGE_NEW, Event.MESSAGE_EXPUNGE, Event.FLAG_CHANGE))
NO_EVENTS: frozenset[Event] = frozenset()
OVERFLOW = b"NOTIFICATIONOVERFLOW"
BADEVENT = b"BADEVENT " + response.parenthesized(event.value for event in Event)

_EVENTS = {event.value.upper(): event for event in Event}


SELECTED, SELECTED_DELAYED = b"SELECTED", b"SELECTED-DELAYED"
_OF_SELECTED = (SELECTED, SELECTED_DELAYED)


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Events of some mailboxes."""

    filter: MailboxFilter
    events: frozenset[Event]  # empty: NONE
    attributes: tuple[FetchAttribute, ...] = ()  # of MessageNew, told with new messages of the selected mailbox

    @property
    def is_of_selected(self) -> bool:
        """Whether it is about the selected mailbox, whichever that is."""
        return self.filter.kind in _OF_SELECTED

    def means(self, name: str, *, is_personal: bool, is_subscribed: bool) -> bool:
        """Whether a mailbox that is not selected is meant."""
        match self.filter.kind:
            case b"INBOXES" | b"PERSONAL":  # a script may deliver to any (RFC 5465 §6.3)
                return is_personal
            case b"SUBSCRIBED":
                return is_subscribed
            case b"MAILBOXES":
                return name in self.filter.mailboxes
            case b"SUBTREE":
                return any(name == root or name.startswith(root + DELIMITER) for root in self.filter.mailboxes)
        return False


@dataclass(frozen=True, slots=True)
class Notify(Command):
    """NOTIFY, RFC 5465 §3.1."""

    groups: tuple[EventGroup, ...] = ()  # none: NOTIFY NONE
    has_status: bool = False
    has_unknown_events: bool = False  # to be refused with BADEVENT


# notify     = "NOTIFY" SP (notify-set / notify-none)
# notify-set = "SET" [status-indicator] SP event-groups, status-indicator = SP "STATUS"
def expect_notify(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows NOTIFY."""
    cursor.expect_space()
    if cursor.take_keyword(b"NONE"):
        return Notify(tag)
    if not cursor.take_keyword(b"SET"):
        cursor.fail("SET or NONE")
    cursor.expect_space()
    has_status = cursor.take_keyword(b"STATUS")
    if has_status:
        cursor.expect_space()
    groups: list[EventGroup] = []
    has_unknown = False
    while not groups or not cursor.is_at_end():
        if groups:
            cursor.expect_space()
        cursor.count_item()
        group, is_unknown = _event_group(cursor)
        groups.append(group)
        has_unknown |= is_unknown
    if sum(group.is_of_selected for group in groups) > 1:
        cursor.refuse("SELECTED and SELECTED-DELAYED are given once")  # RFC 5465 §6.1
    return Notify(tag, tuple(groups), has_status, has_unknown)


# event-group = "(" filter-mailboxes SP events ")"
# events      = ("(" event *(SP event) ")") / "NONE"
def _event_group(cursor: Cursor) -> tuple[EventGroup, bool]:
    cursor.expect(b"(")
    found = expect_mailbox_filter(cursor)
    if found.kind == b"SUBTREE-ONE":  # of RFC 7377 only
        cursor.refuse("SUBTREE-ONE is for searching")
    cursor.expect_space()
    events: dict[bytes, tuple[FetchAttribute, ...]] = {}
    if not cursor.take_keyword(b"NONE"):
        events = dict(expect_list(cursor, _event))
    cursor.expect(b")")
    _check_together(cursor, events.keys())
    known = frozenset(_EVENTS[name] for name in events if name in _EVENTS)
    group = EventGroup(found, known)
    if group.is_of_selected:
        if not MESSAGE_EVENTS.issuperset(known):
            cursor.refuse("only events of messages go with the selected mailbox")  # RFC 5465 §6.1
        group = EventGroup(found, known, events.get(b"MESSAGENEW", ()))
    return group, len(known) < len(events)


# event         = message-event / mailbox-event / user-event / event-ext
# message-event = ("MessageNew" [SP "(" fetch-att *(SP fetch-att) ")"]) / "MessageExpunge" / "FlagChange" / "AnnotationChange"
def _event(cursor: Cursor) -> tuple[bytes, tuple[FetchAttribute, ...]]:
    name = expect_atom(cursor, "an event").upper()
    if name == b"MESSAGENEW" and cursor.is_next(b" ("):
        cursor.expect_space()
        return name, expect_fetch_attributes(cursor)
    return name, ()


def _check_together(cursor: Cursor, names: Iterable[bytes]) -> None:
    """RFC 5465 §5: MessageNew and MessageExpunge come together, and FlagChange and AnnotationChange with both of them."""
    given = frozenset(names)
    both = {b"MESSAGENEW", b"MESSAGEEXPUNGE"}
    needs_both = given & {b"FLAGCHANGE", b"ANNOTATIONCHANGE", *both}
    if needs_both and not given >= both:
        cursor.refuse("MessageNew and MessageExpunge must be given together")
