"""Messages as storage sees them: octets with facts that nobody looks into."""

from datetime import UTC, datetime

import asyncpg

from daemons.context import Context
from storage.rows import ContentFacts, JournalEntry, NewMessage, Placement
from tests.conftest import Person

WHEN = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def facts(extents: tuple[tuple[int, int], ...] = ()) -> ContentFacts:
    """Facts of a message without any."""
    return ContentFacts(b"(env)", b"(body)", b"\x90", b"Subject: x\r\n", WHEN, b"<id@x>", "x", extents)


def journal_entry() -> JournalEntry:
    """An acceptance record."""
    return JournalEntry("in", b'{"reverse_path":""}', WHEN)


def new_message(
    person: Person, mailbox_id: int, original: bytes, *, head: bytes = b"", extents: tuple[tuple[int, int], ...] = ()
) -> NewMessage:
    """One message for one mailbox, journalled."""
    return NewMessage(person.tenant_id, head, original, facts(extents), [Placement(mailbox_id)], journal_entry())


async def mailbox_id(owner: "asyncpg.Connection[asyncpg.Record]", person: Person, name: str = "INBOX") -> int:
    """The number of a mailbox of the person."""
    found = await owner.fetchval(
        "SELECT mailbox_id FROM mailbox WHERE account_id = $1 AND name = $2", person.account_id, name
    )
    assert isinstance(found, int)
    return found


async def fill(context: Context, person: Person, box: int, count: int) -> list[int]:
    """Store `count` small messages; their UIDs."""
    messages = [new_message(person, box, b"Subject: %d\r\n\r\nx\r\n" % number) for number in range(count)]
    return [stored.placed[0].uid for stored in await context.ingest.store(messages)]


async def assert_counters_true(owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Every mailbox's counters equal a recount."""
    wrong = await owner.fetch(
        "SELECT b.name, b.message_count, b.unseen_count, b.size_octets, b.uidnext, count(m.uid), "
        "count(m.uid) FILTER (WHERE m.flags & 1 = 0), coalesce(sum(m.size_octets), 0), coalesce(max(m.uid), 0) "
        "FROM mailbox AS b LEFT JOIN message AS m USING (mailbox_id) GROUP BY b.mailbox_id "
        "HAVING b.message_count <> count(m.uid) OR b.unseen_count <> count(m.uid) FILTER (WHERE m.flags & 1 = 0) "
        "OR b.size_octets <> coalesce(sum(m.size_octets), 0) OR b.uidnext <= coalesce(max(m.uid), 0)"
    )
    assert not wrong, wrong
