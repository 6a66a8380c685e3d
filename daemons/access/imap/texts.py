"""Texts of whole mailboxes in memory, joined, so that one search is one pass of memchr and memcmp over them.

Texts belong to contents, which never change: they are kept by content, in blocks that are only added to, and a message
that comes in costs the reading of one row. A view that goes takes its texts along, and others go when room is needed.
Nothing here knows a session or a sequence number.
"""

import asyncio
import weakref
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from daemons.access.imap.view import Rows, View

_BLOCK_OCTETS = 1 << 20  # smaller blocks are joined with the next
_CONTENT_OCTETS = 100  # what a content costs besides its text
_END = b"\0"  # behind each text: no text holds it (words.storable)


class _Block:
    """Some texts, joined, and where each begins."""

    __slots__ = ("contents", "joined", "starts")

    def __init__(self, contents: Sequence[int], texts: Sequence[bytes]) -> None:
        self.contents = array("Q", contents)
        self.joined = _END.join(texts) + _END
        self.starts = array("Q", bytes(8))
        position = 0
        for text in texts:
            position += len(text) + 1
            self.starts.append(position)

    def texts(self) -> list[bytes]:
        return self.joined.split(_END)[:-1]

    def containing(self, needle: bytes) -> set[int]:
        joined, starts, contents = self.joined, self.starts, self.contents
        found: set[int] = set()
        at = joined.find(needle)
        while at >= 0:
            place = bisect_right(starts, at) - 1
            found.add(contents[place])
            at = joined.find(needle, starts[place + 1])
        return found


class Texts:
    """One text of the messages of a mailbox, such as the From fields."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()  # held while texts are read into it
        self.asked = 0
        self.is_too_large = False
        self.octets = 0
        self._blocks: list[_Block] = []
        self._known: set[int] = set()
        self._complete: tuple[weakref.ref[Rows], int] | None = None

    def __repr__(self) -> str:
        return f"<Texts of {len(self._known)} contents, {self.octets} octets>"

    def is_complete(self, rows: Rows) -> bool:
        """Whether all messages of these rows are known to be in it."""
        return self._complete is not None and self._complete[0]() is rows and self._complete[1] == len(rows.contents)

    def complete(self, rows: Rows, count: int) -> None:
        """The first `count` messages of these rows are in it."""
        self._complete = (weakref.ref(rows), count)

    def unknown(self, contents: Iterable[int]) -> list[int]:
        """Those that are not in it."""
        return list(set(contents) - self._known)

    def add(self, contents: Sequence[int], texts: Sequence[bytes | None]) -> None:
        """Take texts in. None: the content has no such text, which is never found, not even by an empty needle."""
        self._known.update(contents)
        self.octets += _CONTENT_OCTETS * len(contents)
        kept = [(content, text) for content, text in zip(contents, texts, strict=True) if text is not None]
        if not kept:
            return
        self.octets += sum(len(text) for _, text in kept)
        ids, octets = [content for content, _ in kept], [text for _, text in kept]
        if self._blocks and len(self._blocks[-1].joined) < _BLOCK_OCTETS:
            last = self._blocks.pop()
            ids, octets = [*last.contents, *ids], [*last.texts(), *octets]
        self._blocks.append(_Block(ids, octets))

    def refuse(self) -> None:
        """It is more than can be kept: forget it, and do not try again."""
        self._blocks, self._known, self._complete = [], set(), None
        self.octets, self.is_too_large = 0, True

    def containing(self, needle: bytes) -> Iterator[set[int]]:
        """The contents whose text contains the needle, block by block: take a breath in between."""
        for block in tuple(self._blocks):
            yield block.containing(needle) if needle else set(block.contents)


class TextCache:
    """The texts of all mailboxes that were searched lately. One per process."""

    def __init__(self, limit_octets: int) -> None:
        self._limit = limit_octets
        self._held: OrderedDict[tuple[int, str], Texts] = (
            OrderedDict()
        )  # by id() of the view and name, least recent first

    def __repr__(self) -> str:
        return f"<TextCache of {len(self._held)} texts, {self.octets} octets>"

    @property
    def octets(self) -> int:
        """What it holds, about."""
        return sum(texts.octets for texts in self._held.values())

    @property
    def largest(self) -> int:
        """The most octets that one text of one mailbox may have."""
        return self._limit // 2

    def of(self, view: View, name: str) -> Texts:
        """The texts of that name of this view, perhaps none yet."""
        key = (id(view), name)
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = Texts()
            weakref.finalize(view, self._held.pop, key, None).atexit = False
        self._held.move_to_end(key)
        return found

    def trim(self) -> None:
        """Let the least recently used go until the rest is within the limit."""
        while len(self._held) > 1 and self.octets > self._limit:
            self._held.popitem(last=False)
