"""Which messages contain a text: substrings of decoded text, without case (RFC 3501 §6.4.4).

Facts and octets are read in bounded batches; bodies are decoded in a thread, and every slice of work lets the process's
other sessions have their turn. No sequence numbers here: a message is a place in the rows.
"""

import asyncio
import functools
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import date
from typing import NamedTuple

import asyncpg

from daemons.access.imap.reading import facts_of
from daemons.access.imap.session import Session
from daemons.access.imap.view import Rows
from protocol.message import Part, unpack, words
from protocol.message.content import parameter
from protocol.message.header import CACHED_FIELDS, fields
from protocol.message.text import header_text, part_text
from storage.errors import NotFoundError
from storage.messages import Fact

_Found = tuple[Sequence[int], list[asyncpg.Record]]  # places, and the facts of each

_FACTS = 1000  # messages whose facts are read at once
_BODIES = 200  # messages whose octets are read at once, unless search_batch octets are reached before
_MONTHS = {
    name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)
}
_SENT = re.compile(
    rb"^date[ \t]*:[^\n]*?\b(\d{1,2})[ \t-]+([a-z]{3})[a-z]*[ \t-]+(\d{2,4})\b", re.IGNORECASE | re.MULTILINE
)

_IDENTITIES = frozenset({b"7bit", b"8bit", b"binary"})
_HIDING = (b"utf-7", b"utf7", b"hz", b"unicode-1-1", b"iso-2022", b"csiso2022", b"utf-16", b"utf16", b"utf-32")


class Matcher:
    """Finds texts in the messages of one mailbox during one search."""

    def __init__(self, session: Session, rows: Rows) -> None:
        self._session = session
        self._rows = rows
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
        """Messages whose named field is there and contains the text."""
        needle = Needle(text)
        found: set[int] = set()
        if name not in CACHED_FIELDS:
            async with aclosing(self._headers(places)) as headers:
                async for place, header in headers:
                    if needle.is_in_field(header, name):
                        found.add(place)
            return found
        bodies_in = _bodies_finder(name).findall
        async with self._facts(places, ["header_cache"]) as runs:
            async for there, records in runs:
                for place, record in zip(there, records, strict=True):
                    if needle.is_in_bodies(bodies_in(b"\n" + record["header_cache"])):
                        found.add(place)
        return found

    async def with_text(self, text: str, places: Sequence[int], *, in_header: bool) -> set[int]:
        """Messages whose body, or header or body, contains the text."""
        needle = Needle(text)
        if needle.is_empty:
            return set(places)
        blobs = self._session.shared.context.blobs
        found: set[int] = set()
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
            found |= await asyncio.to_thread(_containing, candidates, needle, in_header)
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

    async def _headers(self, places: Sequence[int]) -> AsyncGenerator[tuple[int, bytes], None]:
        """Whole header sections, our trace fields included."""
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
                    await self._breathe()

    def _facts(self, places: Sequence[int], columns: list[Fact]) -> aclosing[AsyncGenerator[_Found, None]]:
        """The messages that are still there with these facts, some at a time."""
        return aclosing(self._runs(places, columns))

    async def _runs(self, places: Sequence[int], columns: list[Fact]) -> AsyncGenerator[_Found, None]:
        contents = self._rows.contents
        runs = (places[start : start + _FACTS] for start in range(0, len(places), _FACTS))
        pool = self._session.shared.context.pool
        async with aclosing(facts_of(pool, runs, lambda run: [contents[place] for place in run], columns)) as found:
            async for run, facts in found:
                there = [place for place in run if contents[place] in facts]  # others were expunged and swept meanwhile
                yield there, [facts[contents[place]] for place in there]
                await self._breathe()

    async def _breathe(self) -> None:
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


class Needle:
    """The text looked for, and a part of it that must stand in undecoded ASCII, however that is folded or wrapped."""

    def __init__(self, text: str) -> None:
        self._text = text.casefold()
        self._word = max(self._text.encode().split(), key=len, default=b"") if self._text.isascii() else b""
        is_plain = self._text.isascii() and self._text.isprintable() and self._text == self._text.strip()
        self._plain = self._text.encode() if is_plain else b""  # stands in undecoded ASCII as in what that decodes to
        self.is_empty = not self._text

    def is_in(self, text: str) -> bool:
        """Whether decoded text contains it."""
        return self._text in text.casefold()

    def is_surely_not_in(self, octets: bytes) -> bool:
        """True where pure ASCII without its longest word cannot hold the text; costs a tenth of decoding it."""
        return bool(self._word) and self._word not in octets.lower() and octets.isascii()

    def may_be_in_header(self, header: bytes) -> bool:
        """False where no field can contain it, which is quickly seen (RFC 2047 words apart)."""
        return b"=?" in header or not self.is_surely_not_in(header)

    def is_in_field(self, header: bytes, name: bytes) -> bool:
        """Whether a field of that name contains it; an empty text asks only for the field (RFC 3501 §6.4.4)."""
        if self.is_empty:
            return any(field.name.upper() == name for field in fields(header))
        return self.may_be_in_header(header) and self.is_in(header_text(header, name))

    def is_in_bodies(self, bodies: Sequence[bytes]) -> bool:
        """As is_in_field, of the raw bodies of a message's fields of one name; decodes only what needs it."""
        if self.is_empty or not bodies:
            return bool(bodies)
        octets = b"\n".join(bodies)
        if b"=?" not in octets and octets.isascii():
            lowered = octets.lower()
            if self._word not in lowered:
                return False
            if self._plain and self._plain in lowered:
                return True
        return self.is_in("\n".join([words.decode(body).strip() for body in bodies]))

    def is_in_header(self, header: bytes) -> bool:
        """Whether any field, its name included, contains it."""
        return self.may_be_in_header(header) and self.is_in(header_text(header, None))


class Candidate(NamedTuple):
    """One message whose text is to be looked at."""

    place: int
    head: bytes
    original: bytes
    structure: bytes


def _containing(candidates: list[Candidate], needle: Needle, in_header: bool) -> set[int]:
    """Runs in a thread."""
    found = set()
    for place, head, original, structure in candidates:
        tree = unpack(structure)
        is_found = in_header and needle.is_in_header(head + original[tree.header_start : tree.body_start])
        if is_found or _body_contains(original, tree, needle):
            found.add(place)
    return found


def _body_contains(original: bytes, part: Part, needle: Needle) -> bool:
    """Every text/* and message/* leaf, and the headers of the messages within."""
    if part.children:
        for child in part.children:
            if part.is_message and needle.is_in_header(original[child.header_start : child.body_start]):
                return True
            if _body_contains(original, child, needle):
                return True
        return False
    if not part.is_text and part.type.lower() != b"message":
        return False
    if _is_plain(part):
        body = original[part.body_start : part.end]
        if needle.is_surely_not_in(body) and b"&" not in body and b"\x1b" not in body:
            return False
    return needle.is_in(part_text(original, part))


def _is_plain(part: Part) -> bool:
    """Whether ASCII octets stand for themselves: no transfer encoding, and no charset that hides text in ASCII."""
    charset = (parameter(part.parameters, b"charset") or b"").lower()
    return (part.encoding or b"7bit").lower() in _IDENTITIES and not charset.startswith(_HIDING)
