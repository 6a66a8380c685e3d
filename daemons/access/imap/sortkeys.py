"""The sort keys of mailboxes, in memory: read once, dropped with the view or when others need the room.

Keys belong to contents, which never change. So they are kept by content, in columns that only grow, and a message that
comes in costs the reading of one row. Nothing here knows a session or a sequence number.
"""

import weakref
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing

from daemons.access.imap.reading import facts_of
from daemons.access.imap.view import View
from protocol.message import sorting
from storage.pool import Pool

NO_DATE = -(2**63)  # in the column `sent`: INTERNALDATE stands for it (RFC 5256 §2.2)
_RUN = 1000  # contents whose keys are read at once
_HEADERS = 200  # contents whose keys are made of their header fields at once
_SPARE = 1000  # keys of contents that are gone, kept before the columns are made anew
_RESULTS = 8  # remembered results of SORT and THREAD for one mailbox


class SortKeys:
    """The keys of one mailbox. They only grow, so that a thread may read them while others come in."""

    def __init__(self) -> None:
        self.index: dict[int, int] = {}  # content id -> place in the columns
        self.sent = array("q")
        self.replies: list[bool] = []
        self.texts: dict[str, list[bytes]] = {name: [] for name in sorting.TEXTS}
        self.message_ids = array("Q")
        self.references: list[tuple[int, ...]] = []
        self._ranks: dict[str, list[int]] = {}
        self._known: dict[bytes, bytes] = {}  # one object for each text that several messages have
        self._results: OrderedDict[object, tuple[bytes, bytes]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<SortKeys of {len(self.index)} contents>"

    def __len__(self) -> int:
        return len(self.index)

    async def load(self, pool: Pool, contents: Sequence[int]) -> None:
        """Read the keys of those contents that are not known yet; those that are gone stay unknown. Raises StorageError."""
        missing = list({content: None for content in contents if content not in self.index})
        if not missing:
            return
        runs = [missing[start : start + _RUN] for start in range(0, len(missing), _RUN)]
        unpacked: list[int] = []
        async with aclosing(facts_of(pool, runs, lambda run: run, ["sorting"])) as found:
            async for _, facts in found:
                for content, record in facts.items():
                    keys = sorting.unpack(record["sorting"] or b"")
                    if keys is None:
                        unpacked.append(content)
                    else:
                        self._add(content, keys)
        runs = [unpacked[start : start + _HEADERS] for start in range(0, len(unpacked), _HEADERS)]
        async with aclosing(facts_of(pool, runs, lambda run: run, ["header_cache"])) as found:
            async for _, facts in found:
                for content, record in facts.items():
                    self._add(content, sorting.keys_of_header(record["header_cache"]))

    def _add(self, content: int, keys: sorting.Keys) -> None:
        if content in self.index:  # two sessions asked at the same time
            return
        self.index[content] = len(self.sent)
        self.sent.append(NO_DATE if keys.sent is None else keys.sent)
        self.replies.append(keys.is_reply)
        self.message_ids.append(keys.message_id)
        self.references.append(keys.references)
        for name, column in self.texts.items():
            text: bytes = getattr(keys, name)
            column.append(self._known.setdefault(text, text))

    def ranks(self, name: str) -> list[int]:
        """For each place of the column its rank among the texts: numbers sort several times as fast."""
        ranks = self._ranks.get(name)
        if ranks is None or len(ranks) != len(self.texts[name]):
            column = self.texts[name][:]
            rank_of = {text: rank for rank, text in enumerate(sorted(set(column)))}
            ranks = self._ranks[name] = [rank_of[text] for text in column]
        return ranks

    def recall(self, kind: object, messages: bytes) -> bytes | None:
        """The result of that kind which keep() was given for the same messages, if it was one of the last."""
        held = self._results.get(kind)
        if held is None or held[0] != messages:
            return None
        self._results.move_to_end(kind)
        return held[1]

    def keep(self, kind: object, messages: bytes, result: bytes) -> None:
        """Remember a result that depends on nothing else than which messages they are."""
        self._results[kind] = (messages, result)
        self._results.move_to_end(kind)
        if len(self._results) > _RESULTS:
            self._results.popitem(last=False)


class SortKeyCache:
    """The keys of all mailboxes that were sorted lately, bounded by the number of messages. One per process."""

    def __init__(self, cached_messages: int) -> None:
        self._cached_messages = cached_messages
        self._held: OrderedDict[int, SortKeys] = OrderedDict()  # by id() of the view, least recent first

    def of(self, view: View) -> SortKeys:
        """The keys of this view, perhaps none yet."""
        found = self._held.get(id(view))
        if found is not None and len(found) > 2 * len(view.rows.uids) + _SPARE:
            found = self._held[id(view)] = SortKeys()
        elif found is None:
            found = self._held[id(view)] = SortKeys()
            weakref.finalize(view, self._held.pop, id(view), None).atexit = False
        self._held.move_to_end(id(view))
        while len(self._held) > 1 and sum(map(len, self._held.values())) > self._cached_messages:
            self._held.popitem(last=False)
        return found
