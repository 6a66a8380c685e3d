"""Which messages contain a text: substrings of decoded text as i;unicode-casemap compares it (RFC 3501 §6.4.4, RFC 5051).

Three ways to one answer. Texts of a mailbox that is searched again are in memory (texts.py). Else the database looks
through what the search index holds. What it does not hold is read from the blobs and scanned, in bounded batches, in a
thread. No sequence numbers here: a message is a place in the rows.
"""

import asyncio
import functools
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import date
from itertools import compress
from typing import TypeVar

import asyncpg

from daemons.access.imap.fuzzy import Query, words_of
from daemons.access.imap.needles import Candidate, Needle, containing
from daemons.access.imap.reading import facts_of
from daemons.access.imap.session import Session
from daemons.access.imap.texts import Texts
from daemons.access.imap.view import Rows, View
from protocol.imap import search
from protocol.message import unpack
from protocol.message.header import CACHED_FIELDS
from protocol.message.text import TEXT_VERSION, canonical, field_text, fields_named
from protocol.message.words import storable
from storage import search_text
from storage.errors import NotFoundError
from storage.messages import Fact
from storage.pool import Connection, reported

_Found = tuple[Sequence[int], list[asyncpg.Record]]  # places, and the facts of each
_Answer = TypeVar("_Answer")

_FACTS = 1000  # messages whose facts are read at once
_INDEXED = 2000  # messages that the database looks through in one statement
_AT_ONCE = 2  # such statements of one search: two cores halve its time, and leave connections for others
_BODIES = 200  # messages whose octets are read at once, unless search_batch octets are reached before
_MONTHS = {
    name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)
}
_SENT = re.compile(
    rb"^date[ \t]*:[^\n]*?\b(\d{1,2})[ \t-]+([a-z]{3})[a-z]*[ \t-]+(\d{2,4})\b", re.IGNORECASE | re.MULTILINE
)


class Matcher:
    """Finds texts in the messages of one mailbox during one search."""

    def __init__(self, session: Session, rows: Rows, view: View | None = None) -> None:
        """Without the view the texts of the mailbox are not kept in memory."""
        self._session = session
        self._rows = rows
        self._view = view
        assert session.identity is not None
        self._tenant_id = session.identity.tenant_id
        self._slice_ends = asyncio.get_running_loop().time() + session.shared.settings.search_slice

    async def sent_days(self, places: Sequence[int]) -> dict[int, date]:
        """The day in the Date field as it is written, "disregarding time and timezone"; none where there is no such field."""
        days: dict[int, date] = {}
        async with self._facts(places, ["header_cache"]) as runs:
            async for there, records in runs:
                for place, record in zip(there, records, strict=True):
                    day = _sent_day(record["header_cache"])
                    if day is not None:
                        days[place] = day
        return days

    async def with_header(self, name: bytes, text: str, places: Sequence[int]) -> set[int]:
        """Messages whose named field is there and contains the text. Raises StorageError."""
        needle = Needle(text)
        if needle.is_impossible:
            return set()
        if name not in CACHED_FIELDS:
            return await self._with_other_header(name, needle, places)
        texts = self._texts(name.decode("ascii"), places)
        if texts is not None and await self._read_fields(texts, name):
            return self._places_of(await self._containing(texts, needle), places)
        found: set[int] = set()
        bodies_in = _bodies_finder(name).findall
        async with self._facts(places, ["header_cache"]) as runs:
            async for there, records in runs:
                for place, record in zip(there, records, strict=True):
                    if needle.is_in_bodies(bodies_in(b"\n" + record["header_cache"])):
                        found.add(place)
        return found

    async def with_text(self, text: str, places: Sequence[int], *, in_header: bool) -> set[int]:
        """Messages whose body, or header or body, contains the text. Raises StorageError."""
        needle = Needle(text)
        if needle.is_empty:
            return set(places)
        if needle.is_impossible:
            return set()
        names: list[search_text.Text] = ["header", "body"] if in_header else ["body"]
        held = [self._texts(name, places) for name in names]
        contents = self._rows.contents
        if all(
            [texts is not None and await self._read_texts(texts, name) for texts, name in zip(held, names, strict=True)]
        ):
            hits: set[int] = set()
            missing: set[int] = set()
            for texts in held:
                assert texts is not None
                hits |= await self._containing(texts, needle)
                missing.update(texts.unknown(contents) if not texts.is_complete(self._rows) else ())
        else:

            async def ask(connection: Connection, ids: list[int]) -> search_text.Hits:
                return await search_text.containing(connection, self._tenant_id, TEXT_VERSION, ids, needle.text, names)

            answers = await self._ask(places, ask)
            hits = {content for answer in answers for content in answer.found}
            missing = {content for answer in answers for content in answer.missing}
        found = self._places_of(hits, places)
        return found | await self._scan(sorted(self._places_of(missing, places)), needle, in_header)

    async def fuzzy(self, key: search.Header | search.Body | search.Text, places: Sequence[int]) -> dict[int, int]:
        """Messages that nearly match, with a relevancy of 1 to 100 each (RFC 6203 §4). Raises StorageError.

        What the index does not hold yet is scanned without its attachments: these are read by the indexer alone.
        """
        query = Query.of(key)
        if query is None:  # no words, or a field that is kept as it is
            return dict.fromkeys(await self._exact(key, places), 100)

        async def ask(connection: Connection, ids: list[int]) -> tuple[dict[int, str], list[int]]:
            return await search_text.with_words(connection, self._tenant_id, TEXT_VERSION, ids, query.forms)

        scores: dict[int, int] = {}
        missing: set[int] = set()
        for words, unknown in await self._ask(places, ask):
            missing.update(unknown)
            for content, sections in words.items():
                if score := query.score(sections):
                    scores[content] = score
                await self.breathe()
        contents = self._rows.contents
        found = {place: scores[contents[place]] for place in places if contents[place] in scores}
        async with aclosing(self._candidates(sorted(self._places_of(missing, places)))) as batches:
            async for candidates in batches:
                for place, sections in (await asyncio.to_thread(words_of, candidates)).items():
                    if score := query.score(sections):
                        found[place] = score
        return found

    async def _exact(self, key: search.Header | search.Body | search.Text, places: Sequence[int]) -> set[int]:
        match key:
            case search.Header(name, text):
                return await self.with_header(name, text, places)
            case search.Body(text):
                return await self.with_text(text, places, in_header=False)
            case search.Text(text):
                return await self.with_text(text, places, in_header=True)

    # -- texts in memory -----------------------------------------------------------------------------------------------

    def _texts(self, name: str, places: Sequence[int]) -> Texts | None:
        """The texts of that name, when they are worth having for a search of these messages."""
        if self._view is None or 2 * len(places) < len(self._rows.contents):
            return None
        texts = self._session.shared.texts.of(self._view, name)
        return None if texts.is_too_large else texts

    async def _read_fields(self, texts: Texts, name: bytes) -> bool:
        """Read the fields of that name that are not known; whether all are there now."""
        bodies_in = _bodies_finder(name).findall
        rows, count = self._rows, len(self._rows.contents)
        async with texts.lock:
            if not texts.is_complete(rows):
                contents = texts.unknown(rows.contents)
                places = range(len(contents))
                async with self._facts(places, ["header_cache"], contents) as runs:
                    async for there, records in runs:
                        bodies = [bodies_in(b"\n" + record["header_cache"]) for record in records]
                        texts.add([contents[at] for at in there], [_field_texts(found) for found in bodies])
                        if not self._has_room(texts):
                            return False
                texts.complete(rows, count)
        return not texts.is_too_large

    async def _read_texts(self, texts: Texts, name: search_text.Text) -> bool:
        """Read the texts that the index holds and that are not known; whether they are there now.

        Not for the first search of a mailbox: most are the only one, and reading takes longer than the search itself.
        """
        texts.asked += 1
        rows, count = self._rows, len(self._rows.contents)
        if texts.asked == 1 or texts.is_too_large:
            return False
        async with texts.lock:
            if texts.is_complete(rows):
                return True
            unknown = texts.unknown(rows.contents)
            for start in range(0, len(unknown), _FACTS):
                async with reported(), self._session.shared.context.pool.acquire() as connection:
                    found = await search_text.column(
                        connection, self._tenant_id, TEXT_VERSION, unknown[start : start + _FACTS], name
                    )
                texts.add([content for content, _ in found], [octets for _, octets in found])
                if not self._has_room(texts):
                    return False
                await self.breathe()
            if not texts.unknown(rows.contents[:count]):
                texts.complete(rows, count)
        return not texts.is_too_large

    async def _containing(self, texts: Texts, needle: Needle) -> set[int]:
        found: set[int] = set()
        for some in texts.containing(needle.octets):
            found |= some
            await self.breathe()
        return found

    def _has_room(self, texts: Texts) -> bool:
        cache = self._session.shared.texts
        if texts.octets > cache.largest:
            texts.refuse()
            return False
        cache.trim()
        return True

    def _places_of(self, contents: set[int], places: Sequence[int]) -> set[int]:
        if not contents:
            return set()
        column = self._rows.contents
        return set(compress(places, map(contents.__contains__, map(column.__getitem__, places))))

    # -- the search index ----------------------------------------------------------------------------------------------

    async def _ask(
        self, places: Sequence[int], ask: Callable[[Connection, list[int]], Awaitable[_Answer]]
    ) -> list[_Answer]:
        """Put the question to the database for all these messages, in parts, some of them at once."""
        contents, pool = self._rows.contents, self._session.shared.context.pool
        parts = iter([places[start : start + _INDEXED] for start in range(0, len(places), _INDEXED)])
        answers: list[_Answer] = []

        async def work() -> None:
            for part in parts:
                async with reported(), pool.acquire() as connection:
                    answers.append(await ask(connection, [contents[place] for place in part]))

        workers = [asyncio.ensure_future(work()) for _ in range(min(_AT_ONCE, len(places) // _INDEXED + 1))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
        return answers

    async def _with_other_header(self, name: bytes, needle: Needle, places: Sequence[int]) -> set[int]:
        """As with_header, of a field that is not kept apart."""
        title = canonical(name.decode("ascii", "replace"))

        async def ask(connection: Connection, ids: list[int]) -> tuple[dict[int, str], list[int]]:
            return await search_text.with_field(connection, self._tenant_id, TEXT_VERSION, ids, title, needle.text)

        hits: set[int] = set()
        missing: set[int] = set()
        for headers, unknown in await self._ask(places, ask):
            missing.update(unknown)
            hits.update(id for id, header in headers.items() if needle.text in "\n".join(fields_named(header, title)))
        found = self._places_of(hits, places)
        async with aclosing(self._headers(sorted(self._places_of(missing, places)))) as sections:
            async for place, section in sections:
                if needle.is_in_field(section, name):
                    found.add(place)
        return found

    # -- the scan ------------------------------------------------------------------------------------------------------

    async def _scan(self, places: Sequence[int], needle: Needle, in_header: bool) -> set[int]:
        found: set[int] = set()
        async with aclosing(self._candidates(places)) as batches:
            async for candidates in batches:
                found |= await asyncio.to_thread(containing, candidates, needle, in_header)
        return found

    async def _candidates(self, places: Sequence[int]) -> AsyncGenerator[list[Candidate], None]:
        """The messages whole, some at a time."""
        blobs = self._session.shared.context.blobs
        for some in self._slices(places):
            candidates: list[Candidate] = []
            async with self._facts(some, ["head", "structure"]) as runs:
                async for there, records in runs:
                    await blobs.prefetch([record["content_id"] for record in records])
                    for place, record in zip(there, records, strict=True):
                        try:
                            original = await blobs.read(record["content_id"])
                        except NotFoundError:  # expunged and swept meanwhile
                            continue
                        candidates.append(Candidate(place, record["head"], original, record["structure"]))
            yield candidates

    def _slices(self, places: Sequence[int]) -> Iterator[Sequence[int]]:
        """Cut into runs of at most _BODIES messages and search_batch octets, one message at least."""
        limit = self._session.shared.settings.search_batch
        start = octets = 0
        for at, place in enumerate(places):
            size = self._rows.sizes[place]
            if at > start and (octets + size > limit or at - start >= _BODIES):
                yield places[start:at]
                start, octets = at, 0
            octets += size
        if start < len(places):
            yield places[start:]

    async def _headers(self, places: Sequence[int]) -> AsyncGenerator[tuple[int, bytes], None]:
        """The whole header sections, head included, read from the blobs."""
        blobs = self._session.shared.context.blobs
        async with self._facts(places, ["head", "structure"]) as runs:
            async for there, records in runs:
                await blobs.prefetch([record["content_id"] for record in records])
                for place, record in zip(there, records, strict=True):
                    try:
                        header = await blobs.read(record["content_id"], 0, unpack(record["structure"]).body_start)
                    except NotFoundError:  # expunged and swept meanwhile
                        continue
                    yield place, record["head"] + header
                    await self.breathe()

    def _facts(
        self, places: Sequence[int], columns: list[Fact], contents: Sequence[int] | None = None
    ) -> aclosing[AsyncGenerator[_Found, None]]:
        """The messages that are still there with these facts, some at a time. `contents`: of which places are indices."""
        return aclosing(self._runs(places, columns, self._rows.contents if contents is None else contents))

    async def _runs(
        self, places: Sequence[int], columns: list[Fact], contents: Sequence[int]
    ) -> AsyncGenerator[_Found, None]:
        runs = (places[start : start + _FACTS] for start in range(0, len(places), _FACTS))
        pool = self._session.shared.context.pool
        async with aclosing(facts_of(pool, runs, lambda run: [contents[place] for place in run], columns)) as found:
            async for run, facts in found:
                there = [place for place in run if contents[place] in facts]  # others were expunged and swept meanwhile
                yield there, [facts[contents[place]] for place in there]
                await self.breathe()

    async def breathe(self) -> None:
        """Let the process's other sessions have their turn when the time slice is over."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = loop.time() + self._session.shared.settings.search_slice


@functools.lru_cache(maxsize=256)
def _bodies_finder(name: bytes) -> re.Pattern[bytes]:
    """Finds the raw bodies of the fields of that name in b"\\n" and a header: looking for the LF first is three times as fast."""
    form = rb"\n%b[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)"
    return re.compile(form % re.escape(name), re.IGNORECASE)


def _field_texts(bodies: list[bytes]) -> bytes | None:
    """The canonical texts of a message's fields of one name, a line each; None where there is none."""
    if not bodies:
        return None
    if len(bodies) == 1 and bodies[0].isascii() and b"=?" not in bodies[0] and b"\n" not in bodies[0]:
        return storable(bodies[0].decode("ascii")).strip().upper().encode("ascii")  # as below, three times as fast
    return "\n".join([canonical(field_text(body)) for body in bodies]).encode("utf-8")


def _sent_day(header: bytes) -> date | None:
    found = _SENT.search(header)
    if found is None:
        return None
    year = int(found[3])
    if year < 1000:  # RFC 5322 §4.3: two digits below 50 are of this century, three digits count from 1900
        year += 2000 if year < 50 and len(found[3]) == 2 else 1900
    try:
        return date(year, _MONTHS[found[2].lower()], int(found[1]))
    except (KeyError, ValueError):
        return None
