"""NOTIFY: its command, and which mailboxes a filter means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.imap.events import Rejected
from protocol.imap.fetch import FetchAttribute, Item
from protocol.imap.notify import MESSAGE_EVENTS, NO_EVENTS, Event, EventGroup, Notify
from protocol.imap.sources import MailboxFilter
from tests.protocol.imap.feeds import read_three_ways

BOTH = frozenset((Event.MESSAGE_NEW, Event.MESSAGE_EXPUNGE))
UID, FLAGS = FetchAttribute(Item.UID), FetchAttribute(Item.FLAGS)


def group(kind: bytes, events: frozenset[Event], *names: str, fetched: tuple[FetchAttribute, ...] = ()) -> EventGroup:
    return EventGroup(MailboxFilter(kind, names), events, fetched)


@pytest.mark.parametrize(
    ("octets", "command"),
    [
        (b"a NOTIFY NONE", Notify(b"a")),
        (b"a notify set (selected none)", Notify(b"a", (group(b"SELECTED", NO_EVENTS),))),
        (
            b"a NOTIFY SET STATUS (SELECTED-DELAYED (MessageNew (UID FLAGS) messageexpunge FlagChange)) (inboxes NONE)",
            Notify(
                b"a",
                (group(b"SELECTED-DELAYED", MESSAGE_EVENTS, fetched=(UID, FLAGS)), group(b"INBOXES", NO_EVENTS)),
                has_status=True,
            ),
        ),
        (
            b"a NOTIFY SET (subtree (inbox A/B) (MessageExpunge MessageNew (UID))) (mailboxes &AOQ- (MailboxName))",
            Notify(
                b"a",
                (
                    group(b"SUBTREE", BOTH, "INBOX", "A/B"),
                    group(b"MAILBOXES", frozenset((Event.MAILBOX_NAME,)), "\xe4"),
                ),
            ),
        ),
        (
            b"a NOTIFY SET (personal (AnnotationChange MessageNew MessageExpunge)) (subscribed (ServerMetadataChange))",
            Notify(
                b"a",
                (group(b"PERSONAL", BOTH), group(b"SUBSCRIBED", frozenset((Event.SERVER_METADATA_CHANGE,)))),
                has_unknown_events=True,
            ),
        ),
    ],
)
def test_commands(octets: bytes, command: Notify) -> None:
    """Each form of RFC 5465 §8 is one command."""
    assert read_three_ways(octets + b"\r\n") == [command]


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", "expected a space at octet 9"),
        (b" ALL", "expected SET or NONE at octet 10"),
        (b" SET", "expected a space at octet 13"),
        (b" SET STATUS", "expected a space at octet 20"),
        (b" SET personal NONE", "expected '(' at octet 14"),
        (b" SET (personal)", "expected a space at octet 23"),
        (b" SET (personal ())", "expected an event at octet 25"),
        (b" SET (everything NONE)", "expected a kind of mailboxes at octet 15"),
        (b" SET (subtree-one A NONE)", "SUBTREE-ONE is for searching"),
        (b" SET (mailboxes () NONE)", "expected a mailbox name at octet 26"),
        (b" SET (selected (MessageNew))", "MessageNew and MessageExpunge must be given together"),
        (b" SET (selected (FlagChange))", "MessageNew and MessageExpunge must be given together"),
        (b" SET (selected (MailboxName))", "only events of messages go with the selected mailbox"),
        (b" SET (selected NONE) (selected NONE)", "SELECTED and SELECTED-DELAYED are given once"),
        (b" SET (selected NONE)(personal NONE)", "expected a space at octet 29"),
    ],
)
def test_refusals(octets: bytes, text: str) -> None:
    """What is no NOTIFY is BAD, with what was expected."""
    assert read_three_ways(b"a NOTIFY" + octets + b"\r\n") == [Rejected(b"a", "BAD", None, text)]


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        (group(b"PERSONAL", BOTH), {"INBOX", "A", "A/B", "AB"}),
        (group(b"INBOXES", BOTH), {"INBOX", "A", "A/B", "AB"}),
        (group(b"SUBSCRIBED", BOTH), {"INBOX", "Shared/x"}),
        (group(b"MAILBOXES", BOTH, "A", "Shared/x"), {"A", "Shared/x"}),
        (group(b"SUBTREE", BOTH, "A"), {"A", "A/B"}),
        (group(b"SUBTREE", BOTH, "Shared"), {"Shared/x"}),
        (group(b"SELECTED", BOTH), set()),
    ],
)
def test_filters(found: EventGroup, meant: set[str]) -> None:
    """Personal mailboxes are one's own, a subtree is whole levels, and the selected mailbox is none of the others."""
    names = {"INBOX", "A", "A/B", "AB", "Shared/x"}
    subscribed = {"INBOX", "Shared/x"}
    assert meant == {
        name
        for name in names
        if found.means(name, is_personal=not name.startswith("Shared"), is_subscribed=name in subscribed)
    }


@given(
    st.lists(st.sampled_from(b"SET|STATUS|(|)| |personal|mailboxes|A|NONE|MessageNew|MessageExpunge|UID|x".split(b"|")))
)
def test_any_words(words: list[bytes]) -> None:
    """Whatever stands behind NOTIFY gives a command or a refusal."""
    (event,) = read_three_ways(b"a NOTIFY " + b"".join(words) + b"\r\n")
    assert isinstance(event, Notify | Rejected)
