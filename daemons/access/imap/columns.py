"""The FETCH attributes that the view or the precomputed facts answer, RFC 3501 §6.4.5: one iterator over a batch for each."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from daemons.access.imap.sections import fields_of
from daemons.access.imap.selected import Selected
from daemons.access.imap.view import Rows
from protocol.imap.dates import render_date_time
from protocol.imap.fetch import FetchAttribute, Item
from protocol.imap.objectid import thread_id
from protocol.message import body_of
from protocol.message.header import select_fields
from storage.messages import Fact

TRACE_FIELDS = frozenset({b"X-ORIGINAL-TO", b"X-SPAM-FLAG", b"X-SPAM-STATUS"})  # kept at intake, but ours may be on top


@dataclass(slots=True)
class Batch:
    """Some messages: positions in the session, places in the rows, and the facts read for them (or none)."""

    selected: Selected
    rows: Rows
    positions: Sequence[int]
    places: Sequence[int]
    facts: Sequence[asyncpg.Record]
    savedates: Mapping[int, bytes] = field(default_factory=dict)  # by UID, read by lookups.py
    previews: Mapping[int, bytes] = field(default_factory=dict)  # by content

    def column(self, name: str) -> Iterator[Any]:
        """One array of the view."""
        column = getattr(self.rows, name)
        if isinstance(self.places, range):
            return iter(column[self.places.start : self.places.stop])
        return map(column.__getitem__, self.places)


Column = Callable[[Batch], Iterator[Any]]


def uids_of(batch: Batch) -> Iterator[int]:
    return batch.column("uids")


def _sizes(batch: Batch) -> Iterator[int]:
    return batch.column("sizes")


def _modseqs(batch: Batch) -> Iterator[int]:
    return batch.column("modseqs")


def _dates(batch: Batch) -> Iterator[bytes]:
    return map(date_time, batch.column("dates"))


def date_time(seconds: int) -> bytes:
    """As render_date_time, in UTC, but three times as fast: most messages of a mailbox share their day with others."""
    day, second = divmod(seconds, 86400)
    minute, second = divmod(second, 60)
    return b'%b%02d:%02d:%02d +0000"' % (_day(day), minute // 60, minute % 60, second)


@functools.lru_cache(maxsize=4096)
def _day(days: int) -> bytes:
    return render_date_time(datetime.fromtimestamp(days * 86400, UTC)).removesuffix(b'00:00:00 +0000"')


def _flags(batch: Batch) -> Iterator[bytes]:
    table, recent = batch.rows.table, batch.selected.recent
    if not recent:
        return map(table.texts.__getitem__, batch.column("kinds"))
    is_recent = batch.selected.is_recent
    both = zip(batch.column("kinds"), batch.column("uids"), strict=True)
    return (table.recent_texts[kind] if is_recent(uid) else table.texts[kind] for kind, uid in both)


def _envelopes(batch: Batch) -> Iterator[bytes]:
    return (record["envelope"] for record in batch.facts)


def _structures(batch: Batch) -> Iterator[bytes]:
    return (record["bodystructure"] for record in batch.facts)


def _bodies(batch: Batch) -> Iterator[bytes]:
    return (body_of(record["bodystructure"]) for record in batch.facts)


def _contents(batch: Batch) -> Iterator[int]:
    return batch.column("contents")


def _thread_ids(batch: Batch) -> Iterator[bytes]:
    return (thread_id(record["header_cache"], record["content_id"]) for record in batch.facts)


def _savedates(batch: Batch) -> Iterator[bytes]:
    return (batch.savedates.get(uid, b"NIL") for uid in batch.column("uids"))


def _previews(batch: Batch) -> Iterator[bytes]:
    return (batch.previews.get(content_id, b"NIL") for content_id in batch.column("contents"))


COLUMNS: dict[Item, tuple[bytes, Column, Fact | None]] = {
    Item.UID: (b"UID %d", uids_of, None),
    Item.FLAGS: (b"FLAGS (%b)", _flags, None),
    Item.MODSEQ: (b"MODSEQ (%d)", _modseqs, None),
    Item.RFC822_SIZE: (b"RFC822.SIZE %d", _sizes, None),
    Item.INTERNALDATE: (b"INTERNALDATE %b", _dates, None),
    Item.ENVELOPE: (b"ENVELOPE %b", _envelopes, "envelope"),
    Item.BODYSTRUCTURE: (b"BODYSTRUCTURE %b", _structures, "bodystructure"),
    Item.BODY: (b"BODY %b", _bodies, "bodystructure"),
    Item.EMAILID: (b"EMAILID (M%x)", _contents, None),  # objectid.email_id, three times as fast
    Item.THREADID: (b"THREADID (%b)", _thread_ids, "header_cache"),
    Item.SAVEDATE: (b"SAVEDATE %b", _savedates, None),
    Item.PREVIEW: (b"PREVIEW %b", _previews, None),
}


def cached_fields(attribute: FetchAttribute, names: frozenset[bytes]) -> Column:
    """BODY[HEADER.FIELDS (…)] from the fields kept at intake."""
    partial = attribute.partial
    has_head = not names.isdisjoint(TRACE_FIELDS)
    select = fields_of(names)

    def column(batch: Batch) -> Iterator[bytes]:
        for record in batch.facts:
            octets = select(record["header_cache"])
            if has_head:
                octets = select_fields(record["head"], names).removesuffix(b"\r\n") + octets
            if partial is not None:
                octets = octets[partial[0] : partial[0] + partial[1]]
            yield b"{%d}\r\n%b" % (len(octets), octets)

    return column
