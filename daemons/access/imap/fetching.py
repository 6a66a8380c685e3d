"""FETCH and UID FETCH, RFC 3501 §6.4.5.

Attributes that the view or the precomputed facts answer are columns: a batch of messages is one query at most, and one
template filled row by row. Sections are read from the blob store message by message, large ones in chunks.
"""

import asyncio
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from daemons.access.imap.reading import Facts, facts_of
from daemons.access.imap.sections import CHUNK_OCTETS, MessageSections, Octets, field_finder, section_of
from daemons.access.imap.selected import Range, Selected
from daemons.access.imap.selecting import chosen
from daemons.access.imap.session import Completion, RefusalError, Session, log
from daemons.access.imap.storing import change_flags, message_ranges
from daemons.access.imap.view import Rows
from protocol.imap import command, response
from protocol.imap.dates import render_date_time
from protocol.imap.fetch import FetchAttribute, Item, Section
from protocol.message import body_of, unpack
from protocol.message.header import CACHED_FIELDS
from storage.errors import NotFoundError, StorageError
from storage.messages import Fact
from storage.rows import SEEN

_BATCH = 1000  # messages whose columns are made at once
_SECTION_BATCH = 64  # messages whose sections are sent between two looks at the database
_TRACE_FIELDS = frozenset(
    {b"X-ORIGINAL-TO", b"X-SPAM-FLAG", b"X-SPAM-STATUS"}
)  # kept at intake, but ours may be on top
_UID = FetchAttribute(Item.UID)
_FLAGS = FetchAttribute(Item.FLAGS)


@dataclass(slots=True)
class Batch:
    """Some messages: positions in the session, places in the rows, and the facts read for them (or none)."""

    selected: Selected
    rows: Rows
    positions: Sequence[int]
    places: Sequence[int]
    facts: Sequence[asyncpg.Record]

    def column(self, name: str) -> Iterator[Any]:
        """One array of the view."""
        column = getattr(self.rows, name)
        if isinstance(self.places, range):
            return iter(column[self.places.start : self.places.stop])
        return map(column.__getitem__, self.places)


Column = Callable[[Batch], Iterator[Any]]


def _uids(batch: Batch) -> Iterator[int]:
    return batch.column("uids")


def _sizes(batch: Batch) -> Iterator[int]:
    return batch.column("sizes")


def _dates(batch: Batch) -> Iterator[bytes]:
    return map(_date_time, batch.column("dates"))


def _date_time(seconds: int) -> bytes:
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


_COLUMNS: dict[Item, tuple[bytes, Column, Fact | None]] = {
    Item.UID: (b"UID %d", _uids, None),
    Item.FLAGS: (b"FLAGS (%b)", _flags, None),
    Item.RFC822_SIZE: (b"RFC822.SIZE %d", _sizes, None),
    Item.INTERNALDATE: (b"INTERNALDATE %b", _dates, None),
    Item.ENVELOPE: (b"ENVELOPE %b", _envelopes, "envelope"),
    Item.BODYSTRUCTURE: (b"BODYSTRUCTURE %b", _structures, "bodystructure"),
    Item.BODY: (b"BODY %b", _bodies, "bodystructure"),
}


def _cached_fields(attribute: FetchAttribute, names: frozenset[bytes]) -> Column:
    """BODY[HEADER.FIELDS (…)] from the fields kept at intake."""
    partial = attribute.partial
    has_head = not names.isdisjoint(_TRACE_FIELDS)
    find_all = field_finder(names).findall

    def column(batch: Batch) -> Iterator[bytes]:
        for record in batch.facts:
            octets = b"".join(find_all(record["header_cache"])) + b"\r\n"
            if has_head:
                octets = b"".join(find_all(record["head"])) + octets
            if partial is not None:
                octets = octets[partial[0] : partial[0] + partial[1]]
            yield b"{%d}\r\n%b" % (len(octets), octets)

    return column


class Plan:
    """What a FETCH needs, worked out once: columns, facts to read, sections to send."""

    def __init__(self, attributes: Sequence[FetchAttribute], *, is_uid: bool) -> None:
        if is_uid and _UID not in attributes:
            attributes = (_UID, *attributes)
        self.formats: list[bytes] = []
        self.columns: list[Column] = []
        self.sections: list[tuple[FetchAttribute, Section]] = []
        self.has_flags = _FLAGS in attributes
        self.sets_seen = any(attribute.sets_seen for attribute in attributes)
        facts: set[Fact] = set()
        for attribute in attributes:
            section = section_of(attribute)
            if section is None:
                self._add_column(attribute, facts)
                continue
            names = frozenset(name.upper() for name in section.fields)
            if section.what == "HEADER.FIELDS" and not section.path and names <= CACHED_FIELDS and not self.sets_seen:
                self.formats.append(attribute.label.replace(b"%", b"%%") + b" %b")
                self.columns.append(_cached_fields(attribute, names))
                facts.add("header_cache")
                if not names.isdisjoint(_TRACE_FIELDS):
                    facts.add("head")
                continue
            self.sections.append((attribute, section))
            if section.path or section.what:
                facts.add("structure")
        self.facts: list[Fact] = sorted(facts)
        self.template = b" ".join(self.formats)

    def _add_column(self, attribute: FetchAttribute, facts: set[Fact]) -> None:
        if attribute.item not in _COLUMNS:
            raise RefusalError.bad("CONDSTORE is not offered")
        form, column, fact = _COLUMNS[attribute.item]
        self.formats.append(form)
        self.columns.append(column)
        if fact is not None:
            facts.add(fact)

    def rows(self, session: Session, batch: Batch) -> Iterator[tuple[Any, ...]]:
        """The template's arguments for each message, first what names it."""
        is_by_uid = session.has(b"UIDONLY")
        names = _uids(batch) if is_by_uid else (position + 1 for position in batch.positions)
        return zip(names, *(column(batch) for column in self.columns), strict=True)


async def fetch(session: Session, asked: command.Fetch) -> Completion:
    """FETCH. Messages that others have expunged are left out (RFC 2180 §4.1.2)."""
    if asked.changed_since is not None:
        raise RefusalError.bad("CONDSTORE is not offered")
    selected = chosen(session)
    ranges = message_ranges(selected, asked.sequence, is_uid=asked.is_uid)
    plan = Plan(asked.attributes, is_uid=asked.is_uid)
    slices = _slices(ranges, _SECTION_BATCH if plan.sections else _BATCH)
    is_missing = False
    pool, contents_of = session.shared.context.pool, functools.partial(_contents, selected)
    async with aclosing(facts_of(pool, slices, contents_of, plan.facts)) as runs:
        async for (start, end), facts in runs:
            seen: set[int] = set()
            if plan.sets_seen and not selected.is_read_only:
                seen = await _set_seen(session, selected, start, end)
            batch = _batch(selected, plan, start, end, facts)
            is_missing |= len(batch.positions) < end - start
            if plan.sections:
                is_missing |= not await _send_sections(session, plan, batch, seen)
            else:
                template = session.message_template + plan.template + b")\r\n"
                session.put(b"".join([template % row for row in plan.rows(session, batch)]))
                await session.room()
                await asyncio.sleep(0)  # nothing above need have suspended: let the others have their turn
    if is_missing and not asked.is_uid:
        return Completion("some of the messages are gone", b"EXPUNGEISSUED")
    return Completion("fetched")


def _slices(ranges: list[Range], step: int) -> Iterator[Range]:
    for start, end in ranges:
        for at in range(start, end, step):
            yield at, min(end, at + step)


async def _set_seen(session: Session, selected: Selected, start: int, end: int) -> set[int]:
    r"""Set \Seen on messages [start, end) that lack it; gives their UIDs, whose flags belong in the answer."""
    rows, seen = selected.view.rows, selected.view.table.kinds_with(SEEN)
    _, places = selected.rows_at(rows, start, end)
    unseen = [rows.uids[place] for place in places if rows.kinds[place] not in seen]
    stored = await change_flags(session, selected, unseen, "add", SEEN, ())
    for row in stored.changed:
        selected.keep(row.uid, row.modseq)
    return {row.uid for row in stored.changed}


def _contents(selected: Selected, run: Range) -> list[int]:
    """The content ids of messages [start, end) that are there."""
    contents = selected.view.rows.contents
    _, places = selected.rows_at(selected.view.rows, *run)
    return [contents[place] for place in places]


def _batch(selected: Selected, plan: Plan, start: int, end: int, facts: Facts) -> Batch:
    """Messages [start, end) that are there now, with their facts."""
    rows = selected.view.rows
    positions, places = selected.rows_at(rows, start, end)
    if not plan.facts:
        return Batch(selected, rows, positions, places, ())
    contents = rows.contents
    records = [facts[contents[place]] for place in places if contents[place] in facts]
    if len(records) < len(places):  # expunged a moment ago, and swept
        kept = [(at, place) for at, place in zip(positions, places, strict=True) if contents[place] in facts]
        positions, places = [at for at, _ in kept], [place for _, place in kept]
    return Batch(selected, rows, positions, places, records)


async def _send_sections(session: Session, plan: Plan, batch: Batch, seen: set[int]) -> bool:
    """One message after the other: its columns, then its sections. False when the octets of one are gone."""
    template = session.message_template + plan.template
    table, blobs = batch.rows.table, session.shared.context.blobs
    await blobs.prefetch([batch.rows.contents[place] for place in batch.places])
    is_whole = True
    for index, (row, place) in enumerate(zip(plan.rows(session, batch), batch.places, strict=True)):
        tree = unpack(batch.facts[index]["structure"]) if "structure" in plan.facts else None
        sections = MessageSections(blobs, batch.rows.contents[place], tree)
        uid = batch.rows.uids[place]
        answer = Answer(session, template % row, is_empty=not plan.columns)
        if uid in seen and not plan.has_flags:
            texts = table.recent_texts if batch.selected.is_recent(uid) else table.texts
            answer.add(b"FLAGS (%b)" % texts[batch.rows.kinds[place]])
        try:
            for attribute, section in plan.sections:
                await answer.add_section(attribute, await sections.octets(attribute, section), sections)
        except NotFoundError:  # expunged a moment ago, and swept
            is_whole = False
            continue
        answer.end()
        await session.room()
        await asyncio.sleep(0)  # reading from memory suspends nowhere: let the others have their turn
    return is_whole


class Answer:
    """One FETCH response. Nothing of it goes out before all of it can, except for sections that are streamed."""

    def __init__(self, session: Session, head: bytes, *, is_empty: bool) -> None:
        self._session = session
        self._pieces = [head]
        self._is_empty = is_empty
        self._is_streaming = False

    def add(self, item: bytes) -> None:
        """Add an item."""
        self._pieces.append(item if self._is_empty else b" " + item)
        self._is_empty = False

    async def add_section(self, attribute: FetchAttribute, octets: Octets | None, sections: MessageSections) -> None:
        """Add a section. Raises StorageError; after streaming has begun, ConnectionError."""
        try:
            if octets is None:
                self.add(attribute.label + b" NIL")
            elif octets.size <= CHUNK_OCTETS:
                self.add(response.fetch_octets(attribute.label, await sections.read(octets)))
            else:
                self.add(response.fetch_octets_head(attribute.label, octets.size))
                await self._stream(octets, sections)
        except StorageError as error:
            if not self._is_streaming:
                raise
            log.error("message cannot be read to its end", reason=str(error))
            self._session.connection.abort()  # the literal's length has been announced: nothing else can follow
            raise ConnectionAbortedError("cut off within a literal") from error

    async def _stream(self, octets: Octets, sections: MessageSections) -> None:
        self._is_streaming = True
        async for chunk in sections.stream(octets):
            self._pieces.append(chunk)
            self._put()
            await self._session.flush()

    def _put(self) -> None:
        for piece in self._pieces:
            self._session.put(piece)
        self._pieces.clear()

    def end(self) -> None:
        """Finish the response."""
        self._pieces.append(response.FETCH_TAIL)
        self._put()
