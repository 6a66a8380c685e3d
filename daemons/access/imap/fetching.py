"""FETCH and UID FETCH, RFC 3501 §6.4.5.

Attributes that the view or the precomputed facts answer are columns: a batch of messages is one query at most, and one
template filled row by row. Sections are read from the blob store message by message, large ones in chunks.
"""

import asyncio
import functools
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Any

from daemons.access.imap import resyncing
from daemons.access.imap.columns import COLUMNS, TRACE_FIELDS, Batch, Column, cached_fields, uids_of
from daemons.access.imap.limiting import check_partial, completed, limited, part_of
from daemons.access.imap.lookups import LOOKED_UP, look_up
from daemons.access.imap.progress import Progress
from daemons.access.imap.reading import Facts, facts_of
from daemons.access.imap.sections import CHUNK_OCTETS, OCTET_ITEMS, Encoded, MessageSections, Octets, section_of
from daemons.access.imap.selected import Range, Selected
from daemons.access.imap.selecting import chosen
from daemons.access.imap.session import Completion, RefusalError, Session, log
from daemons.access.imap.storing import change_flags, message_ranges
from protocol.imap import command, response
from protocol.imap.fetch import FetchAttribute, Item, Section
from protocol.message import unpack
from protocol.message.header import CACHED_FIELDS
from protocol.message.transfer import UnknownEncodingError
from storage.errors import NotFoundError, StorageError
from storage.messages import Fact
from storage.rows import SEEN

_BATCH = 1000  # messages whose columns are made at once
_SECTION_BATCH = 64  # messages whose sections are sent between two looks at the database
_NEAR = 32  # messages to either side that are located with one that is read
_USUAL_COLUMNS = 16  # a command with more takes fewer messages at once
_UID = FetchAttribute(Item.UID)
_FLAGS = FetchAttribute(Item.FLAGS)
_MODSEQ = FetchAttribute(Item.MODSEQ)


class Plan:
    """What a FETCH needs, worked out once: columns, facts to read, sections to send."""

    def __init__(self, attributes: Sequence[FetchAttribute], *, is_uid: bool) -> None:
        if is_uid and _UID not in attributes:
            attributes = (_UID, *attributes)
        self.formats: list[bytes] = []
        self.columns: list[Column] = []
        self.sections: list[tuple[FetchAttribute, Section]] = []
        self.looked_up = [attribute for attribute in attributes if attribute.item in LOOKED_UP]
        self.has_flags = _FLAGS in attributes
        self.has_modseq = _MODSEQ in attributes
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
                self.columns.append(cached_fields(attribute, names))
                facts.add("header_cache")
                if not names.isdisjoint(TRACE_FIELDS):
                    facts.add("head")
                continue
            self.sections.append((attribute, section))
            if section.path or section.what:
                facts.add("structure")
        self.facts: list[Fact] = sorted(facts)
        self.template = b" ".join(self.formats)

    @property
    def batch(self) -> int:
        """How many messages at once: fewer where there is more to say of each, so that the memory for them is bounded."""
        most = _SECTION_BATCH if self.sections else _BATCH
        return max(1, min(most, most * _USUAL_COLUMNS // max(1, len(self.columns))))

    def _add_column(self, attribute: FetchAttribute, facts: set[Fact]) -> None:
        form, column, fact = COLUMNS[attribute.item]
        self.formats.append(form)
        self.columns.append(column)
        if fact is not None:
            facts.add(fact)

    def rows(self, session: Session, batch: Batch) -> Iterator[tuple[Any, ...]]:
        """The template's arguments for each message, first what names it."""
        is_by_uid = session.has(b"UIDONLY")
        names = uids_of(batch) if is_by_uid else (position + 1 for position in batch.positions)
        return zip(names, *(column(batch) for column in self.columns), strict=True)


async def fetch(session: Session, asked: command.Fetch) -> Completion:
    """FETCH. Messages that others have expunged are left out (RFC 2180 §4.1.2)."""
    selected = chosen(session)
    attributes = asked.attributes
    if asked.modifiers.changed_since is not None and _MODSEQ not in attributes:  # RFC 7162 §3.1.4.1
        attributes = (*attributes, _MODSEQ)
    if _MODSEQ in attributes:
        session.enable(b"CONDSTORE")
    plan = Plan(attributes, is_uid=asked.is_uid and not session.has(b"UIDONLY"))
    ranges, limit_code = await _narrowed(session, selected, asked)
    wanted = sum(end - start for start, end in ranges)
    progress = Progress(session, asked.tag, wanted)
    done = 0
    pool, contents_of = session.shared.context.pool, functools.partial(_contents, selected)
    slices = _slices(ranges, plan.batch)
    async with aclosing(facts_of(pool, slices, contents_of, plan.facts)) as runs:
        async for run, facts in runs:
            done += await _send(session, selected, plan, run, facts)
            await progress.tick(done)
    if done < wanted and not asked.is_uid:
        return completed(session, Completion("some of the messages are gone", b"EXPUNGEISSUED"), limit_code)
    return completed(session, Completion("fetched"), limit_code)


async def tell(session: Session, ranges: list[Range], attributes: Sequence[FetchAttribute]) -> None:
    r"""FETCH responses that the client did not ask for now: of messages that NOTIFY tells as new. Sets no \Seen."""
    selected = chosen(session)
    plan = Plan(attributes, is_uid=not session.has(b"UIDONLY"))
    plan.sets_seen = False
    pool, contents_of = session.shared.context.pool, functools.partial(_contents, selected)
    slices = _slices(ranges, plan.batch)
    async with aclosing(facts_of(pool, slices, contents_of, plan.facts)) as runs:
        async for run, facts in runs:
            await _send(session, selected, plan, run, facts)


async def _narrowed(session: Session, selected: Selected, asked: command.Fetch) -> tuple[list[Range], bytes | None]:
    """The messages asked for, less those that the modifiers leave out; what has vanished is told on the way."""
    modifiers = asked.modifiers
    ranges = message_ranges(selected, asked.sequence, is_uid=asked.is_uid)
    if modifiers.wants_vanished:
        if modifiers.changed_since is None or not asked.is_uid or not session.has(b"QRESYNC"):
            raise RefusalError.bad("VANISHED needs QRESYNC, UID FETCH and CHANGEDSINCE")  # RFC 7162 §3.2.6
        lines = await resyncing.vanished(session, selected, modifiers.changed_since, asked.sequence)
        session.put(b"".join(lines))
    if modifiers.changed_since is not None:
        ranges = resyncing.changed_after(selected, ranges, modifiers.changed_since)
    if modifiers.partial is not None:
        if not asked.is_uid:  # RFC 9394 §3.3
            raise RefusalError.bad("PARTIAL needs UID FETCH")
        check_partial(session, modifiers.partial)
        return part_of(ranges, modifiers.partial), None
    return limited(session, selected, ranges)


def _slices(ranges: list[Range], step: int) -> Iterator[Sequence[int]]:
    """Positions, `step` at a time, however they are scattered."""
    gathered: list[int] = []
    for start, end in ranges:
        at = start
        while at < end:
            stop = min(end, at + step - len(gathered))
            if not gathered and (stop - at == step or len(ranges) == 1):
                yield range(at, stop)
            else:
                gathered.extend(range(at, stop))
            if len(gathered) == step:
                yield gathered
                gathered = []
            at = stop
    if gathered:
        yield gathered


async def _send(session: Session, selected: Selected, plan: Plan, run: Sequence[int], facts: Facts) -> int:
    """The responses for a run of positions; gives how many of them were still there."""
    seen: set[int] = set()
    if plan.sets_seen and not selected.is_read_only and "s" in selected.rights:  # RFC 4314 §4
        seen = await _set_seen(session, selected, run)
    batch = _batch(selected, plan, run, facts)
    await look_up(session, batch, plan.looked_up)
    if plan.has_flags or seen:
        session.tell_keywords()
    if plan.sections:
        return await _send_sections(session, plan, batch, seen)
    template = session.message_template + plan.template + b")\r\n"
    session.put(b"".join([template % row for row in plan.rows(session, batch)]))
    await session.room()
    await asyncio.sleep(0)  # nothing above need have suspended: let the others have their turn
    return len(batch.positions)


async def _set_seen(session: Session, selected: Selected, run: Sequence[int]) -> set[int]:
    r"""Set \Seen on those that lack it; gives their UIDs, whose flags belong in the answer."""
    rows, seen = selected.view.rows, selected.view.table.kinds_with(SEEN)
    _, places = selected.rows_of(rows, run)
    unseen = [rows.uids[place] for place in places if rows.kinds[place] not in seen]
    stored = await change_flags(session, selected, unseen, "add", SEEN, ())
    for row in stored.changed:
        selected.keep(row.uid, row.modseq)
    return {row.uid for row in stored.changed}


def _contents(selected: Selected, run: Sequence[int]) -> list[int]:
    """The content ids of the messages that are there."""
    contents = selected.view.rows.contents
    _, places = selected.rows_of(selected.view.rows, run)
    return [contents[place] for place in places]


def _batch(selected: Selected, plan: Plan, run: Sequence[int], facts: Facts) -> Batch:
    """The messages that are there now, with their facts."""
    rows = selected.view.rows
    positions, places = selected.rows_of(rows, run)
    if not plan.facts:
        return Batch(selected, rows, positions, places, ())
    contents = rows.contents
    records = [facts[contents[place]] for place in places if contents[place] in facts]
    if len(records) < len(places):  # expunged a moment ago, and swept
        kept = [(at, place) for at, place in zip(positions, places, strict=True) if contents[place] in facts]
        positions, places = [at for at, _ in kept], [place for _, place in kept]
    return Batch(selected, rows, positions, places, records)


async def _send_sections(session: Session, plan: Plan, batch: Batch, seen: set[int]) -> int:
    """One message after the other: its columns, then its sections; gives how many had their octets still."""
    template = session.message_template + plan.template
    table, blobs = batch.rows.table, session.shared.context.blobs
    contents, first = batch.rows.contents, batch.places[0] if batch.places else 0
    near = contents[max(0, first - _NEAR) : first + _NEAR]  # who reads one message often reads another one near it
    await blobs.prefetch([contents[place] for place in batch.places], neighbours=near)
    done = 0
    for index, (row, place) in enumerate(zip(plan.rows(session, batch), batch.places, strict=True)):
        if index:
            await asyncio.sleep(0)  # reading from memory suspends nowhere: let the others have their turn
        tree = unpack(batch.facts[index]["structure"]) if "structure" in plan.facts else None
        sections = MessageSections(blobs, batch.rows.contents[place], tree)
        uid = batch.rows.uids[place]
        answer = Answer(session, template % row, is_empty=not plan.columns)
        if uid in seen and not plan.has_flags:
            texts = table.recent_texts if batch.selected.is_recent(uid) else table.texts
            answer.add(b"FLAGS (%b)" % texts[batch.rows.kinds[place]])
            if session.has(b"CONDSTORE") and not plan.has_modseq:
                answer.add(b"MODSEQ (%d)" % batch.rows.modseqs[place])
        try:
            for attribute, section in plan.sections:
                await answer.add_section(attribute, section, sections)
        except NotFoundError:  # expunged a moment ago, and swept
            continue
        answer.end()
        done += 1
        await session.room()
    return done


class Answer:
    """One FETCH response. Nothing of it goes out before all of it can, except for sections that are streamed, or are many."""

    def __init__(self, session: Session, head: bytes, *, is_empty: bool) -> None:
        self._session = session
        self._pieces = [head]
        self._is_empty = is_empty
        self._is_streaming = False
        self._octets = 0  # of the pieces

    def add(self, item: bytes) -> None:
        """Add an item."""
        self._pieces.append(item if self._is_empty else b" " + item)
        self._octets += len(item)
        self._is_empty = False

    async def add_section(self, attribute: FetchAttribute, section: Section, sections: MessageSections) -> None:
        """Add a section. Raises StorageError; after streaming has begun, ConnectionError."""
        is_binary = attribute.item is Item.BINARY
        try:
            found = await (sections.octets if attribute.item in OCTET_ITEMS else sections.content)(attribute, section)
            if attribute.item is Item.BINARY_SIZE:
                self.add(b"%b %d" % (attribute.label, found.size if found else 0))
            elif found is None:
                self.add(attribute.label + b" NIL")
            elif isinstance(found, Octets) and found.size <= CHUNK_OCTETS:
                render = response.fetch_binary if is_binary else response.fetch_octets
                self.add(render(attribute.label, await sections.read(found)))
            else:
                self.add(response.fetch_octets_head(attribute.label, found.size, is_binary=is_binary))
                await self._stream(found, sections)
            if self._octets > self._session.shared.settings.response_batch:
                self._is_streaming = True
                self._put()
                await self._session.room()
                await asyncio.sleep(0)
        except UnknownEncodingError:
            if self._is_streaming:
                self.end()  # what has been sent must not be left open
            raise RefusalError.no(b"UNKNOWN-CTE", "a part is in an encoding that is not known here") from None
        except StorageError as error:
            if not self._is_streaming:
                raise
            log.error("message cannot be read to its end", reason=str(error))
            self._session.connection.abort()  # the literal's length has been announced: nothing else can follow
            raise ConnectionAbortedError("cut off within a literal") from error

    async def _stream(self, octets: Octets | Encoded, sections: MessageSections) -> None:
        self._is_streaming = True
        async for chunk in sections.stream(octets):
            self._pieces.append(chunk)
            self._put()
            await self._session.flush()

    def _put(self) -> None:
        for piece in self._pieces:
            self._session.put(piece)
        self._pieces.clear()
        self._octets = 0

    def end(self) -> None:
        """Finish the response."""
        self._pieces.append(response.FETCH_TAIL)
        self._put()
