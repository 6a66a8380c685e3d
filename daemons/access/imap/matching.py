"""Which messages contain a text: substrings of decoded text, without case (RFC 3501 §6.4.4).

Facts and octets are read in bounded batches; bodies are decoded in a thread, and every slice of work lets the process's
other sessions have their turn. No sequence numbers here: a message is a place in the rows.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import date

import asyncpg

from daemons.access.imap.session import Session
from daemons.access.imap.view import Rows
from protocol.message import scan, unpack
from protocol.message.header import CACHED_FIELDS, fields
from protocol.message.text import header_text, searchable
from storage import messages
from storage.errors import NotFoundError
from storage.messages import Fact

_FACTS = 1000  # messages whose facts are read at once
_BODIES = 200  # messages whose octets are read at once, unless search_batch octets are reached before
_MONTHS = {
    name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)
}
_SENT = re.compile(
    rb"^date[ \t]*:[^\n]*?\b(\d{1,2})[ \t-]+([a-z]{3})[a-z]*[ \t-]+(\d{2,4})\b", re.IGNORECASE | re.MULTILINE
)


class Matcher:
    """Finds texts in the messages of one mailbox during one search."""

    def __init__(self, session: Session, mailbox_id: int, rows: Rows) -> None:
        self._session = session
        self._mailbox_id = mailbox_id
        self._rows = rows
        self._slice_ends = asyncio.get_running_loop().time() + session.shared.settings.search_slice

    async def sent_days(self, places: Sequence[int]) -> dict[int, date]:
        """The day in the Date field as it is written, "disregarding time and timezone"; none where there is no such field."""
        days: dict[int, date] = {}
        async for place, record in self._facts(places, ["header_cache"]):
            day = _sent_day(record["header_cache"])
            if day is not None:
                days[place] = day
        return days

    async def with_header(self, name: bytes, text: str, places: Sequence[int]) -> set[int]:
        """Messages whose named field is there and contains the text."""
        wanted = text.casefold()
        found = set()
        if name in CACHED_FIELDS:
            word = _longest_word(wanted)
            async for place, record in self._facts(places, ["header_cache"]):
                header = record["header_cache"]
                if word and word not in header.lower() and header.isascii() and b"=?" not in header:
                    continue
                if _header_contains(header, name, wanted):
                    found.add(place)
            return found
        async for place, octets in self._headers(places):
            if _header_contains(octets, name, wanted):
                found.add(place)
        return found

    async def with_text(self, text: str, places: Sequence[int], *, in_header: bool) -> set[int]:
        """Messages whose body, or header or body, contains the text."""
        wanted = text.casefold()
        if not wanted:
            return set(places)
        found: set[int] = set()
        for some in self._slices(places):
            octets = [(place, message) for place in some if (message := await self._message(place)) is not None]
            found |= await asyncio.to_thread(_containing, octets, wanted, in_header)
        return found

    def _slices(self, places: Sequence[int]) -> list[Sequence[int]]:
        """Cut into runs of at most _BODIES messages and search_batch octets, one message at least."""
        limit = self._session.shared.settings.search_batch
        slices: list[Sequence[int]] = []
        start = octets = 0
        for at, place in enumerate(places):
            size = self._rows.sizes[place]
            if at > start and (octets + size > limit or at - start >= _BODIES):
                slices.append(places[start:at])
                start, octets = at, 0
            octets += size
        slices.append(places[start:])
        return slices

    async def _message(self, place: int) -> bytes | None:
        try:
            return await self._session.shared.context.blobs.message(self._rows.contents[place])
        except NotFoundError:  # expunged and swept meanwhile
            return None

    async def _headers(self, places: Sequence[int]) -> AsyncIterator[tuple[int, bytes]]:
        """Whole header sections, our trace fields included."""
        blobs = self._session.shared.context.blobs
        async for place, record in self._facts(places, ["head", "structure"], prefetch=True):
            try:
                header = await blobs.read(record["content_id"], 0, unpack(record["structure"]).body_start)
            except NotFoundError:  # expunged and swept meanwhile
                continue
            yield place, record["head"] + header

    async def _facts(
        self, places: Sequence[int], columns: list[Fact], *, prefetch: bool = False
    ) -> AsyncIterator[tuple[int, asyncpg.Record]]:
        """Each message that is still there, with these facts."""
        rows = self._rows
        for start in range(0, len(places), _FACTS):
            by_uid = {rows.uids[place]: place for place in places[start : start + _FACTS]}
            records: list[asyncpg.Record] = []
            async with self._session.database() as connection:
                async for some in messages.facts(connection, self._mailbox_id, list(by_uid), columns):
                    records += some
            if prefetch:
                await self._session.shared.context.blobs.prefetch([record["content_id"] for record in records])
            for record in records:
                yield by_uid[record["uid"]], record
                await self._breathe()

    async def _breathe(self) -> None:
        """Let the process's other sessions have their turn when the time slice is over."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = loop.time() + self._session.shared.settings.search_slice


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


def _longest_word(wanted: str) -> bytes:
    """A part of the text that must stand in an undecoded ASCII header, however it is folded; b"" if none is sure to."""
    if not wanted.isascii():
        return b""
    return max(wanted.encode().split(), key=len, default=b"")


def _header_contains(header: bytes, name: bytes, wanted: str) -> bool:
    if wanted:
        return wanted in header_text(header, name).casefold()
    return any(field.name.upper() == name for field in fields(header))


def _containing(octets: list[tuple[int, bytes]], wanted: str, in_header: bool) -> set[int]:
    found = set()
    for place, message in octets:
        header, body = searchable(message, scan(message))
        if wanted in body.casefold() or (in_header and wanted in header.casefold()):
            found.add(place)
    return found
